"""Polars as its documentation has it: `rolling` on the time column with `group_by="key"`, over the union of events and spine rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from measured import WINDOWS_S, measured


def compute(events: Path, spine: Path, out: Path) -> None:
    """Lazy as far as it goes; the four windows side by side."""
    none = pl.lit(None, pl.Float64).alias("amount")
    spine_rows = pl.scan_parquet(spine).select("key", "at", none, is_row=True)
    union = pl.concat([pl.scan_parquet(events).select("key", "at", "amount", is_row=False), spine_rows])
    rows = union.sort("key", "at").collect()
    amount = pl.col("amount")
    windows = [
        rows.lazy()
        .rolling("at", period=f"{seconds}s", closed="left", group_by="key")
        .agg(count=amount.count(), sum=amount.sum(), mean=amount.mean(), min=amount.min(), max=amount.max(), std=amount.std())
        .select(pl.exclude("key", "at").name.suffix(f"_{width}"))
        for width, seconds in WINDOWS_S.items()
    ]
    found = pl.concat([rows, *pl.collect_all(windows)], how="horizontal")
    found.filter("is_row").drop("is_row", "amount").write_parquet(out, compression="snappy")


if __name__ == "__main__":
    measured(compute)
