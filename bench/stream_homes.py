"""Homes of the stream benchmark: projects, how events get into the log, how the worker applies them; nothing is printed here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from bench_history import AGGREGATES, WINDOWS

import twofold as tw
from twofold.stream.worker import Worker

if TYPE_CHECKING:
    from twofold.instants import Clock
    from twofold.runtime.opened import Opened

SOURCE, PLAIN_BATCH = "payments", 10_000


def project_of(view: str, has_ids: bool = False) -> tw.Project:
    """`hourly`: count and sum of one hour, what the peers compute; `card`: the 24 features of the batch benchmark."""
    schema = {"key": int, "amount": float, **({"id": int} if has_ids else {})}
    source = tw.Events(SOURCE, time="at", schema=schema, id="id" if has_ids else None)
    features = (
        {"count": tw.count("amount", over="1h"), "sum": tw.sum("amount", over="1h")}
        if view == "hourly"
        else {name: getattr(tw, name)("amount", over=WINDOWS) for name in AGGREGATES}
    )
    return tw.Project("bench", views=[tw.View(view, source, by="key", features=features)])


@dataclass(frozen=True)
class Done:
    """Events, the seconds that they took and the commits that they took."""

    events: int
    seconds: float
    commits: int

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def commit_ms(self) -> float:
        """Milliseconds from one commit to the next."""
        return self.seconds / self.commits * 1e3


def append(running: Opened, frame: pl.DataFrame, batch: int, clock: tw.ManualClock) -> Done:
    """Append events in record batches of `batch`, durable one by one, the clock standing just behind each."""
    has_ids = "id" in running.compiled.source(SOURCE).columns
    ready = frame.with_columns(id=pl.int_range(frame.height) + frame["at"].to_physical()[0]) if has_ids else frame
    times = frame["at"].to_physical()
    parts = [ready[i : i + batch] for i in range(0, ready.height, batch)]
    rows = [part.row(0, named=True) if batch == 1 else part for part in parts]
    begun = time.perf_counter()
    for number, part in enumerate(rows):
        clock.set(times[min((number + 1) * batch, frame.height) - 1] + 1)
        running.append(SOURCE, part)
    return Done(frame.height, time.perf_counter() - begun, len(rows))


def apply(running: Opened, max_events: int) -> Done:
    """Let a worker apply what the log holds, at most so many events a commit."""
    with running.home.lock("worker"):
        worker = Worker(running.compiled, running.home.log, running.home.store, running.home.bell, max_events)
        worker.take_over()
        begun = time.perf_counter()
        events = worker.catch_up()
        seconds = time.perf_counter() - begun
        worker.close()
    return Done(events, seconds, max(1, -(-events // max_events)))


def aged(view: str, home: Path, frame: pl.DataFrame, clock: tw.ManualClock, has_ids: bool = False) -> Opened:
    """A built project whose deltas hold the events of a frame, applied as they came."""
    running = project_of(view, has_ids).open(home=home, clock=clock)
    running.build()
    append(running, frame, PLAIN_BATCH, clock)
    apply(running, PLAIN_BATCH)
    return running


def store_mib(home: Path) -> float:
    """What the store's entries take on the disk."""
    return (home / "store" / "entries" / "data.mdb").stat().st_blocks * 512 / 2**20


def reopened(view: str, home: Path, clock: Clock | None = None) -> Opened:
    """The project of a home that is there already."""
    return project_of(view).open(home=home, clock=clock)
