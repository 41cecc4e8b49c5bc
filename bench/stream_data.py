"""The events of the stream benchmark, one file for each kind of reader: Zipf-skewed keys, event times that increase over two days."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import polars as pl
from history_data import BEGIN_US, FOLDER, bounds_of

from twofold.instants import DAY_US

SPAN_US = 2 * DAY_US
FILE_EVENTS = 50_000
"""Events of one Parquet file: what a reader of many files takes at once."""


def stream(events: int, keys: int) -> pl.DataFrame:
    """`key`, `at`, `amount` in order of time."""
    rng = np.random.default_rng(11)
    times = np.sort(rng.integers(BEGIN_US, BEGIN_US + SPAN_US, events))
    key = np.searchsorted(bounds_of(keys), rng.random(events)).astype(np.int64)
    amount = np.round(rng.lognormal(3, 1, events), 2)
    return pl.DataFrame({"key": key, "at": pl.Series(times).cast(pl.Datetime("us", "UTC")), "amount": amount})


def folder_of(events: int, keys: int, first: int) -> Path:
    """A folder with the first `first` of so many events; made once.

    `events.parquet`, `parts/*.parquet`, `events.csv` without a header and `headed/events.csv` with one.
    """
    folder = FOLDER / f"stream-{events}-{keys}-{first}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("parts", "headed"):
            (folder / name).mkdir(parents=True)
        frame = stream(events, keys).head(first)
        frame.write_parquet(folder / "events.parquet")
        for name, has_header in (("events.csv", False), ("headed/events.csv", True)):
            frame.write_csv(folder / name, datetime_format="%Y-%m-%d %H:%M:%S%.6f", include_header=has_header)
        for number, part in enumerate(frame.iter_slices(FILE_EVENTS)):
            part.write_parquet(folder / "parts" / f"{number:06}.parquet")
        (folder / "done").touch()
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--first", type=int, nargs="+", default=[1_000_000])
    options = parser.parse_args()
    print(*(folder_of(options.events, options.keys, first) for first in options.first), sep="\n")
