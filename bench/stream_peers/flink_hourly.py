"""Flink SQL: one tumbling window by key over a CSV file, parallelism 1, rows thrown away at the end; no checkpoints."""

from __future__ import annotations

import sys

from pyflink.table import EnvironmentSettings, TableEnvironment


def main() -> None:
    """SQL only, so all of it runs in the JVM."""
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    tables.get_config().set("parallelism.default", "1")
    tables.execute_sql(
        f"""CREATE TABLE events (
            `key` BIGINT, moment TIMESTAMP(6), amount DOUBLE, `at` AS CAST(moment AS TIMESTAMP(3)), WATERMARK FOR `at` AS `at`)
        WITH ('connector' = 'filesystem', 'path' = 'file://{sys.argv[1]}/events.csv', 'format' = 'csv')"""
    )
    sink = "'blackhole'" if len(sys.argv) < 4 else f"'filesystem', 'path' = 'file://{sys.argv[3]}', 'format' = 'csv'"
    tables.execute_sql(f"CREATE TABLE hourly (`key` BIGINT, begins TIMESTAMP(3), n BIGINT, amount DOUBLE) WITH ('connector' = {sink})")
    tables.execute_sql(
        """INSERT INTO hourly SELECT `key`, window_start, COUNT(amount), SUM(amount)
        FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(`at`), INTERVAL '1' HOUR)) GROUP BY `key`, window_start, window_end"""
    ).wait()


if __name__ == "__main__":
    main()
