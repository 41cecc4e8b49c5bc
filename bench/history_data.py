"""The events and spine of the batch benchmarks, as Parquet files under build/bench: Zipf-skewed keys, two months of events."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from twofold.instants import DAY_US, to_us

BEGIN_US = to_us("2024-01-01T00:00:00Z")
SPAN_US = 60 * DAY_US
FOLDER = Path(__file__).resolve().parent.parent / "build" / "bench"


def files(events: int, rows: int, keys: int = 100_000) -> tuple[Path, Path]:
    """(events, spine): `key`, `at`, `amount` and `key`, `at`; made once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = FOLDER / f"events-{events}-{keys}.parquet", FOLDER / f"spine-{events}-{rows}-{keys}.parquet"
    if not all(name.exists() for name in names):
        rng = np.random.default_rng(7)
        weights = 1.0 / np.arange(1, keys + 1) ** 0.8
        bounds = np.cumsum(weights) / weights.sum()

        def frame(count: int, begin_us: int) -> pl.DataFrame:
            times = np.sort(rng.integers(begin_us, BEGIN_US + SPAN_US, count))
            key = np.searchsorted(bounds, rng.random(count)).astype(np.int64)
            return pl.DataFrame({"key": key, "at": pl.Series(times).cast(pl.Datetime("us", "UTC"))})

        history = frame(events, BEGIN_US)
        history.with_columns(amount=pl.Series(np.round(rng.lognormal(3, 1, events), 2))).write_parquet(names[0])
        frame(rows, BEGIN_US + SPAN_US // 2)[rng.permutation(rows)].write_parquet(names[1])
    return names


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    print(*files(options.events, options.rows), sep="\n")
