"""A view's events on their way into a generation: gathered in memory, or by key range in files where they do not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl

from twofold.batch.events import SourceEvents, Times
from twofold.batch.key_ranges import KeyRanges
from twofold.batch.spill import Spill
from twofold.plan.compile import CompiledView
from twofold.plan.folding import folded
from twofold.plan.inputs import MAJOR, MINOR, TIME, prepared
from twofold.plan.merge import oldest_reached
from twofold.plan.needed import columns_needed, keeps_time
from twofold.progress import Progress


class Gathering:
    """The prepared events of one view, added batch by batch; then their states, in order of keys."""

    def __init__(self, view: CompiledView, events: SourceEvents, base_us: int, ranges: KeyRanges, spill: Spill | None) -> None:
        self.view = view
        self.columns, self.times = columns_needed(view, events.source), times_of(view, events, base_us)
        # Where every window ends at the build, later events would only make it `ahead`.
        self._before_us = base_us if view.plan.as_of == "build" else None
        self._oldest_us = oldest_reached(view.plan, base_us)
        self._ranges, self._spill = ranges, spill
        self._keys = [f"k{i}" for i in range(len(view.plan.by))]
        self._ready = [self._wanted(events.none(self.columns))]

    def add(self, batch: pl.DataFrame) -> None:
        """A batch of the source's events that count."""
        ready = self._wanted(batch)
        if self._spill is None:
            self._ready.append(ready)
        else:
            self._spill.add(ready, self._ranges.of(ready.select(self._keys)))

    def _wanted(self, batch: pl.DataFrame) -> pl.DataFrame:
        ready = prepared(self.view, batch)
        conditions = [] if self._oldest_us is None else [pl.col(TIME) >= self._oldest_us]
        conditions += [] if self._before_us is None else [pl.col(TIME) < self._before_us]
        inputs = [f"in{i}" for i in range(len(self.view.plan.inputs))]
        return (ready.filter(conditions) if conditions else ready).select(*self._keys, TIME, MAJOR, MINOR, *inputs)

    def states(self, base_us: int, progress: Progress) -> Iterator[tuple[bytes, bytes]]:
        """(key, blob), keys ascending; what was gathered is given back on the way."""
        stage, done = f"building {self.view.plan.name}", 0
        for number in range(self._ranges.count):
            progress(stage, done)
            ready = self._take(number)
            for state in folded(self.view.plan, ready, base_us):
                yield state
                done += 1
                if done % _KEYS_PER_REPORT == 0:
                    progress(stage, done)

    def _take(self, number: int) -> pl.DataFrame:
        if self._spill is not None:
            part = self._spill.take(number)
            return self._ready[0] if part is None else part.rechunk()
        ready = pl.concat(self._ready, rechunk=True)
        self._ready = self._ready[:1]
        return ready


_KEYS_PER_REPORT = 10_000


@contextlib.contextmanager
def gathering(view: CompiledView, events: SourceEvents, base_us: int, together: int) -> Iterator[Gathering]:
    """Where the events of a view go, with its share of the memory for so many views `together`; gone when the block ends."""
    columns, times = columns_needed(view, events.source), times_of(view, events, base_us)
    scratch = replace(events.scratch, memory_bytes=events.scratch.memory_bytes // together)
    parts = scratch.parts_for(events.size_bytes(columns, times)) if view.plan.by else 1
    if parts == 1:
        yield Gathering(view, events, base_us, KeyRanges.whole(), None)
        return
    keys = prepared(view, events.sample(columns, times)).select([f"k{i}" for i in range(len(view.plan.by))])
    ranges = KeyRanges.of_sample(keys, parts)
    with scratch.spill(ranges.count) as spill:
        yield Gathering(view, events, base_us, ranges, spill)


def times_of(view: CompiledView, events: SourceEvents, base_us: int) -> Times:
    """The event_times that a generation with the base `base_us` can hold."""
    if not keeps_time(view, events.source):
        return None, None
    return oldest_reached(view.plan, base_us), base_us if view.plan.as_of == "build" else None


def times_of_all(times: Sequence[Times]) -> Times:
    """The stretch that holds all of these."""
    least, end = [mine[0] for mine in times], [mine[1] for mine in times]
    return (
        None if None in least else min(at for at in least if at is not None),
        None if None in end else max(at for at in end if at is not None),
    )
