"""The events and spine of the batch benchmarks, as Parquet files under build/bench: Zipf-skewed keys, two months of events."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.instants import DAY_US, to_us

BEGIN_US = to_us("2024-01-01T00:00:00Z")
SPAN_US = 60 * DAY_US
FOLDER = Path(__file__).resolve().parent.parent / "build" / "bench"


def files(events: int, rows: int, keys: int = 100_000) -> tuple[Path, Path]:
    """(events, spine): `key`, `at`, `amount` and `key`, `at`; made once."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = FOLDER / f"events-{events}-{keys}.parquet", FOLDER / f"spine-{events}-{rows}-{keys}.parquet"
    if not all(name.exists() for name in names):
        rng, bounds = np.random.default_rng(7), bounds_of(keys)

        def frame(count: int, begin_us: int) -> pl.DataFrame:
            times = np.sort(rng.integers(begin_us, BEGIN_US + SPAN_US, count))
            key = np.searchsorted(bounds, rng.random(count)).astype(np.int64)
            return pl.DataFrame({"key": key, "at": pl.Series(times).cast(pl.Datetime("us", "UTC"))})

        history = frame(events, BEGIN_US)
        history.with_columns(amount=pl.Series(np.round(rng.lognormal(3, 1, events), 2))).write_parquet(names[0])
        frame(rows, BEGIN_US + SPAN_US // 2)[rng.permutation(rows)].write_parquet(names[1])
    return names


def bounds_of(keys: int) -> NDArray[np.float64]:
    """Up to where in [0, 1) each key is drawn: the Zipf weights added up."""
    weights = 1.0 / np.arange(1, keys + 1) ** 0.8
    return np.cumsum(weights) / weights.sum()


def chunks(events: int, keys: int, at_once: int = 5_000_000) -> Iterator[pl.DataFrame]:
    """The same kind of events in frames of at most `at_once` rows, one stretch of time after the other: any number fits into memory."""
    bounds, count = bounds_of(keys), -(-events // at_once)
    for i in range(count):
        rng, rows = np.random.default_rng((7, i)), events // count + (i < events % count)
        times = np.sort(rng.integers(BEGIN_US + SPAN_US * i // count, BEGIN_US + SPAN_US * (i + 1) // count, rows))
        key = np.searchsorted(bounds, rng.random(rows)).astype(np.int64)
        amount = np.round(rng.lognormal(3, 1, rows), 2)
        yield pl.DataFrame({"key": key, "at": pl.Series(times).cast(pl.Datetime("us", "UTC")), "amount": amount})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    print(*files(options.events, options.rows), sep="\n")
