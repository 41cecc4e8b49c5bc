"""DuckDB: window functions with range frames over the union of events and spine rows."""

from __future__ import annotations

from pathlib import Path

import duckdb
from measured import WINDOWS_S, measured

AGGREGATES = {"count": "count", "sum": "sum", "mean": "avg", "min": "min", "max": "max", "std": "stddev_samp"}
COLUMNS = ", ".join(f"{function}(amount) OVER w{width} AS {name}_{width}" for name, function in AGGREGATES.items() for width in WINDOWS_S)
# On whole microseconds, "1 preceding" is: strictly before.
FRAMES = ", ".join(
    f"w{width} AS (PARTITION BY key ORDER BY t RANGE BETWEEN {seconds * 1_000_000} PRECEDING AND 1 PRECEDING)"
    for width, seconds in WINDOWS_S.items()
)


def compute(events: Path, spine: Path, out: Path) -> None:
    """One statement, from file to file."""
    query = f"""
        SELECT * EXCLUDE (t, is_row) FROM (
            SELECT key, "at", t, is_row, {COLUMNS} FROM (
                SELECT key, "at", epoch_us("at") AS t, amount, false AS is_row FROM '{events}'
                UNION ALL
                SELECT key, "at", epoch_us("at") AS t, NULL AS amount, true AS is_row FROM '{spine}'
            ) WINDOW {FRAMES}
        ) WHERE is_row"""
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"COPY ({query}) TO '{out}' (FORMAT parquet)")


if __name__ == "__main__":
    measured(compute)
