"""A view's events on their way into a generation: gathered in memory, or by key range in files where they do not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl

from twofold.batch.branches import OfSource, by_source
from twofold.batch.events import SourceEvents, Times
from twofold.batch.key_ranges import KeyRanges
from twofold.batch.spill import Spill
from twofold.plan.compile import CompiledView
from twofold.plan.folding import folded
from twofold.plan.inputs import MAJOR, MINOR, TIME
from twofold.plan.merge import oldest_reached
from twofold.plan.needed import keeps_time
from twofold.plan.serving import SourcePlan
from twofold.progress import Progress


class Gathering:
    """The prepared events of one view, added batch by batch; then their states, in order of keys."""

    def __init__(self, view: CompiledView, sources: Sequence[OfSource], base_us: int, ranges: KeyRanges, spill: Spill | None) -> None:
        self.view, self.sources = view, sources
        # Where every window ends at the build, later events would only make it `ahead`.
        self._before_us = base_us if view.plan.as_of == "build" else None
        self._oldest_us = oldest_reached(view.plan, base_us)
        self._ranges, self._spill = ranges, spill
        self._keys = [f"k{i}" for i in range(len(view.plan.by))]
        self._ready = [self._wanted(sources[0].none())]

    def add(self, source: int, batch: pl.DataFrame) -> None:
        """A batch of the events that count of one of the sources, by its number."""
        ready = self._wanted(self.sources[source].prepared(batch))
        if self._spill is None:
            self._ready.append(ready)
        else:
            self._spill.add(ready, self._ranges.of(ready.select(self._keys)))

    def _wanted(self, ready: pl.DataFrame) -> pl.DataFrame:
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
def gathering(view: CompiledView, events: Sequence[SourceEvents], base_us: int, together: int) -> Iterator[Gathering]:
    """Where the events of a view go, with its share of the memory for so many views `together`; gone when the block ends."""
    sources = by_source(view, events, lambda branch, source: times_of(branch, source, base_us))
    scratch = replace(events[0].scratch, memory_bytes=events[0].scratch.memory_bytes // together)
    parts = scratch.parts_for(sum(source.size_bytes for source in sources)) if view.plan.by else 1
    if parts == 1:
        yield Gathering(view, sources, base_us, KeyRanges.whole(), None)
        return
    keys = pl.concat([source.sample() for source in sources]).select([f"k{i}" for i in range(len(view.plan.by))])
    ranges = KeyRanges.of_sample(keys, parts)
    with scratch.spill(ranges.count) as spill:
        yield Gathering(view, sources, base_us, ranges, spill)


def times_of(branch: CompiledView, source: SourcePlan, base_us: int) -> Times:
    """The event_times that a generation with the base `base_us` can hold."""
    if not keeps_time(branch, source):
        return None, None
    return oldest_reached(branch.plan, base_us), base_us if branch.plan.as_of == "build" else None
