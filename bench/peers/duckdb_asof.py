"""DuckDB: running totals by key, joined ASOF at t and at t - w; only what is a difference of totals (count, sum, mean)."""

from __future__ import annotations

from pathlib import Path

import duckdb
from measured import WINDOWS_S, measured

TAILS = "\n".join(
    f"ASOF LEFT JOIN totals AS w{width} ON spine.key = w{width}.key AND w{width}.t < spine.t - {seconds * 1_000_000}"
    for width, seconds in WINDOWS_S.items()
)
COLUMNS = ", ".join(
    f"n - coalesce(w{width}.n_until, 0) AS count_{width}, "
    f"s - coalesce(w{width}.s_until, 0) AS sum_{width}, "
    f"sum_{width} / nullif(count_{width}, 0) AS mean_{width}"
    for width in WINDOWS_S
)
# The frame of equal instants is the same, so any of them holds the whole total.
TOTALS = 'OVER (PARTITION BY key ORDER BY epoch_us("at") RANGE UNBOUNDED PRECEDING)'


def compute(events: Path, spine: Path, out: Path) -> None:
    """One statement, from file to file."""
    query = f"""
        WITH totals AS MATERIALIZED (
            SELECT key, epoch_us("at") AS t, count(amount) {TOTALS} AS n_until, sum(amount) {TOTALS} AS s_until FROM '{events}'
        ), spine AS (SELECT key, "at", epoch_us("at") AS t FROM '{spine}')
        SELECT spine.key, spine."at", coalesce(head.n_until, 0) AS n, coalesce(head.s_until, 0) AS s, {COLUMNS}
        FROM spine
        ASOF LEFT JOIN totals AS head ON spine.key = head.key AND head.t < spine.t
        {TAILS}"""
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"COPY (SELECT * EXCLUDE (n, s) FROM ({query})) TO '{out}' (FORMAT parquet)")


if __name__ == "__main__":
    measured(compute)
