"""Where the worker's time goes when it applies events to deltas a day old: the share of each step, in percent of its wall time.

Steps are functions of the product, timed around each call, the innermost that runs counting; one that has another name now shows under
`rest`. The timers themselves cost what the second rate shows.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import pstats
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from stream_data import folder_of
from stream_homes import aged, append, apply

import twofold as tw

STEPS = {
    "ends of the log": ["twofold.log.sqlite:SqliteLog.end_offsets"],
    "log read": ["twofold.log.sqlite:SqliteLog.read"],
    "decode": ["twofold.stream.worker:_decoded"],
    "far-check": ["twofold.stream.worker:far_rows"],
    "dedupe": ["twofold.stream.worker:drop_duplicates"],
    "counts": ["twofold.stream.worker:count"],
    "prepare": ["twofold.plan.deltas:all_prepared"],
    "keyed": ["twofold.plan.deltas:keyed"],
    "recent heads": ["twofold.stream.recent:RecentBlobs.read", "twofold.stream.recent:RecentBlobs.note"],
    "multi_get": ["twofold.store.lmdb:LmdbSnapshot.multi_get"],
    "get": ["twofold.store.lmdb:LmdbSnapshot.get"],
    "fold kernels": ["twofold.algebra.heads:append", "twofold.algebra.heads:seal"],
    "blobs to words": ["twofold.plan.deltas:joined"],
    "words to blobs": ["twofold.plan.deltas:blobs_of"],
    "fold, around all that": ["twofold.plan.deltas:DeltaFolder._sealed"],
    "keys of entries, rest of a fold": ["twofold.stream.worker:Worker._fold"],
    "checksums": ["twofold.store.lmdb:sealed_many"],
    "put": [f"twofold.store.lmdb:LmdbTransaction.{name}" for name in ("put", "put_many", "delete")],
    "begin": ["twofold.store.lmdb:LmdbTransaction.__enter__", "twofold.store.lmdb:LmdbSnapshot.__enter__"],
    "commit": ["twofold.store.lmdb:LmdbTransaction._commit"],
    "end of a transaction": ["twofold.store.lmdb:LmdbTransaction.__exit__", "twofold.store.lmdb:LmdbSnapshot.__exit__"],
    "freshness": ["twofold.stream.worker:Worker._flush_freshness", "twofold.stream.worker:Worker._note_freshness"],
    "bell": ["twofold.bell:Bell.ring"],
    "pending": ["twofold.stream.worker:Worker._behind", "twofold.stream.worker:Worker._read"],
    "rest of a part": ["twofold.stream.worker:Worker._apply_part"],
    "rest of a transaction": ["twofold.stream.worker:Worker._apply"],
}


class Timers:
    """Time of each step without the steps inside it, and how often it ran."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inside: list[float] = []

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted as the step's."""

        def around(*arguments: Any, **named: Any) -> Any:
            self._inside.append(0.0)
            begun = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                whole = time.perf_counter() - begun
                self.spent[step] += whole - self._inside.pop()
                self.calls[step] += 1
                if self._inside:
                    self._inside[-1] += whole

        return around


@contextmanager
def watched(timers: Timers) -> Iterator[None]:
    """The steps' functions replaced by timed ones."""
    replaced = []
    for step, place in ((step, place) for step, places in STEPS.items() for place in places):
        module, names = place.split(":")
        owner: Any = importlib.import_module(module)
        *classes, name = names.split(".")
        for part in classes:
            owner = getattr(owner, part)
        function = vars(owner)[name]
        replaced.append((owner, name, function))
        setattr(owner, name, timers.timed(step, function))
    try:
        yield
    finally:
        for owner, name, function in reversed(replaced):
            setattr(owner, name, function)


def main() -> None:
    """Half of the measured events without timers, then the other half with them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="of two days; those of the first are applied before")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--view", default="card", choices=("card", "hourly"))
    parser.add_argument("--ids", action="store_true", help="events have an id, duplicates are dropped")
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument(
        "--measured", type=int, default=0, help="events without and again with timers; 0: what 20 commits take, or 2,000 events"
    )
    parser.add_argument("--functions", type=int, default=0, help="and so many lines of cProfile, by a function's own time")
    options = parser.parse_args()
    folder = folder_of(options.events, options.keys, options.events)
    events, half = pl.read_parquet(folder / "events.parquet"), options.events // 2
    count = min(options.measured or max(20 * options.batch, 2_000), half // 3)
    with tempfile.TemporaryDirectory(dir=folder) as home:
        clock = tw.ManualClock(events["at"][0])
        running = aged(options.view, Path(home), events[:half], clock, options.ids)
        parts = [events[half + i * count : half + (i + 1) * count] for i in range(3)]
        append(running, parts[0], options.batch, clock)
        plain, timers = apply(running, options.batch), Timers()
        append(running, parts[1], options.batch, clock)
        with watched(timers):
            timed = apply(running, options.batch)
        show(options.batch, plain, timed, timers)
        if options.functions:
            append(running, parts[2], options.batch, clock)
            profile = cProfile.Profile()
            profile.runcall(apply, running, options.batch)
            pstats.Stats(profile).sort_stats("tottime").print_stats(options.functions)
        running.close()


def show(batch: int, plain: Any, timed: Any, timers: Timers) -> None:
    """Steps by share."""
    print(f"batches of {batch:,}: {plain.rate:,.0f} events/s, {plain.commit_ms:.2f} ms a commit; with timers {timed.rate:,.0f} events/s")
    steps = dict(timers.spent) | {"rest": timed.seconds - sum(timers.spent.values())}
    for step, seconds in sorted(steps.items(), key=lambda item: -item[1]):
        each_us = seconds / timed.events * 1e6
        print(f"{step:32}{100 * seconds / timed.seconds:6.1f} %  {each_us:9.3f} us an event, {timers.calls[step]:9,} calls")


if __name__ == "__main__":
    main()
