"""A sample of an engine's rows against a plain reference with that engine's own windows; raises AssertionError with the first bad row."""

from __future__ import annotations

import argparse
import math
import random
from bisect import bisect_left
from pathlib import Path
from typing import Any

import polars as pl
from measured import WINDOWS_S

AGGREGATES = ("count", "sum", "mean", "min", "max", "std")
HOPS_S = {"1h": 60, "1d": 15 * 60, "7d": 6 * 3600, "30d": 6 * 3600}
"""What Twofold rounds the tail of a window down to (docs/semantics.md)."""

ROWS, OF_THE_LARGEST = 150, 50
"""Rows of the sample: of any keys, and of the ten keys that have most rows."""


def expected(times: list[int], amounts: list[float], begin: int, end: int) -> dict[str, Any]:
    """The six aggregates of the events with begin <= time < end; `times` ascend."""
    held = amounts[bisect_left(times, begin) : bisect_left(times, end)]
    if not held:
        return {"count": 0, "sum": 0.0, "mean": None, "min": None, "max": None, "std": None}
    total, mean = math.fsum(held), math.fsum(held) / len(held)
    squares = math.fsum((amount - mean) ** 2 for amount in held)
    std = math.sqrt(squares / (len(held) - 1)) if len(held) > 1 else None
    return {"count": len(held), "sum": total, "mean": mean, "min": min(held), "max": max(held), "std": std}


def agrees(name: str, got: Any, want: Any) -> bool:
    """Counts and extremes exactly, sums and means within 1e-9 of their size, std within 1e-6. SQL's sum of nothing is null."""
    if got is None or want is None:
        return got is want or (name == "sum" and got is None and want == 0.0)
    if name in ("count", "min", "max"):
        return bool(got == want)
    near = 1e-6 if name == "std" else 1e-9
    return math.isclose(got, want, rel_tol=near, abs_tol=near)


def sample(out: pl.DataFrame) -> pl.DataFrame:
    """The rows that are looked at, the same ones for every engine that was asked for the same spine."""
    rows = out.sort("key", "at")
    chosen = random.Random(7)
    largest = rows.group_by("key").len().sort(["len", "key"], descending=[True, False])["key"][:10]
    of_largest = rows.filter(pl.col("key").is_in(largest.implode()))
    parts = [part[chosen.sample(range(part.height), min(size, part.height))] for part, size in ((rows, ROWS), (of_largest, OF_THE_LARGEST))]
    return pl.concat(parts)


def check(events: Path, spine: Path, out: Path, rounds_tails: bool, aggregates: list[str]) -> int:
    """The number of compared values."""
    found = pl.read_parquet(out / "*.parquet" if out.is_dir() else out).with_columns(pl.col("at").dt.epoch("us"))
    asked = pl.read_parquet(spine).with_columns(pl.col("at").dt.epoch("us"))
    assert found.select("key", "at").sort("key", "at").equals(asked.select("key", "at").sort("key", "at")), "not the rows of the spine"
    rows = sample(found)
    history = pl.scan_parquet(events).filter(pl.col("key").is_in(rows["key"].unique().implode())).sort("at").collect()
    by_key = {
        key: (part["at"].dt.epoch("us").to_list(), part["amount"].to_list())
        for (key,), part in history.group_by("key", maintain_order=True)
    }
    compared = 0
    for row in rows.iter_rows(named=True):
        for width, seconds in WINDOWS_S.items():
            begin = row["at"] - seconds * 1_000_000
            if rounds_tails:
                begin -= begin % (HOPS_S[width] * 1_000_000)
            want = expected(*by_key.get(row["key"], ([], [])), begin, row["at"])
            for name in aggregates:
                got = row[f"{name}_{width}"]
                assert agrees(name, got, want[name]), f"{name}_{width} is {got!r}, not {want[name]!r}, in the row {row}"
                compared += 1
    return compared


def main() -> None:
    """Print how many values agreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("events", "spine", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--rounds-tails", action="store_true", help="windows as Twofold has them, not exact ones")
    parser.add_argument("--aggregates", default=",".join(AGGREGATES))
    options = parser.parse_args()
    print(check(options.events, options.spine, options.out, options.rounds_tails, options.aggregates.split(",")))


if __name__ == "__main__":
    main()
