"""Features at points in time over a source's events: the view's mode and schedule decide what each row sees.

Events that do not fit into memory are spilled by key range, and each range is worked on by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.sliding import group_order
from twofold.batch.events import SourceEvents, Times
from twofold.batch.key_ranges import KeyRanges
from twofold.batch.spill import Spill
from twofold.plan.compile import CompiledView
from twofold.plan.inputs import prepared
from twofold.plan.needed import columns_needed, keeps_time, times_needed
from twofold.progress import Progress, silent
from twofold.tables.frames import conform_spine
from twofold.tables.point_in_time import Visibility, point_in_time
from twofold.tables.visibility import Kind, events_in_mode, visibility_of, window_ends

Numbers = NDArray[np.int64]


def history(
    view: CompiledView,
    events: SourceEvents,
    spine: Any,
    kind: Kind,
    status: bool,
    began: tuple[int, ...],
    progress: Progress = silent,
) -> pl.DataFrame:
    """The spine (key columns of the view and `at`), in its order, with the view's features as of each `at` added.

    `began` are the offsets at which a stream view began. `status` adds `<feature>__status`. Where the events that the spine can see
    take more than `events.scratch` allows, they are spilled by key range, and each range is computed on its own: the same bits.
    """
    keys, at, original = conform_spine(view.plan.by, spine)
    visible = visibility_of(view.plan, at, kind)
    ends = window_ends(view.plan, at)
    if visible.head is not None:
        visible = Visibility(np.minimum(visible.head, at), visible.seen, visible.horizon)
    reading = _Reading(view, events, began, _times(view, events, ends, at), keys, progress)
    parts = 1 if not view.plan.by or not keys.height else events.scratch.parts_for(events.size_bytes(reading.columns, reading.times))
    if parts == 1:
        features = point_in_time(view.plan, reading.all(), keys, ends, visible, status)
    else:
        ranges = KeyRanges.of_sample(reading.sample(), parts)
        with events.scratch.spill(ranges.count) as spill:
            reading.into(spill, ranges)
            features = _by_range(reading, spill, ranges, keys, ends, visible, status)
    return pl.concat([original, features], how="horizontal")


def _times(view: CompiledView, events: SourceEvents, ends: Numbers, at: Numbers) -> Times:
    """The event_times that some row of the spine may see."""
    if not at.size or not keeps_time(view, events.source):
        return None, None
    return times_needed(view.plan, int(ends.min()), int(max(ends.max(), at.max())))


class _Reading:
    """The prepared events of a view that a spine may see, read batch by batch."""

    def __init__(
        self, view: CompiledView, events: SourceEvents, began: tuple[int, ...], times: Times, keys: pl.DataFrame, progress: Progress
    ) -> None:
        self.columns, self.times = columns_needed(view, events.source), times
        self.view, self.progress, self._events, self._began = view, progress, events, began
        self._known = keys.unique()
        self._most = events.most_rows(times)

    def all(self) -> pl.DataFrame:
        """All of them."""
        return pl.concat([self.none(), *self._batches()])

    def none(self) -> pl.DataFrame:
        """None of them, in their columns."""
        return self._ready(self._events.none(self.columns))

    def sample(self) -> pl.DataFrame:
        """The keys of some of them."""
        return self._ready(self._events.sample(self.columns, self.times)).select(self._known.columns)

    def into(self, spill: Spill, ranges: KeyRanges) -> None:
        """Write those of the spine's keys to their ranges."""
        for ready in self._batches():
            mine = ready.join(self._known, on=self._known.columns, how="semi")
            spill.add(mine, ranges.of(mine.select(self._known.columns)))

    def _batches(self) -> Iterator[pl.DataFrame]:
        done = 0
        for batch in self._events.batches(self.columns, self.times):
            self.progress(f"reading {self._events.source.name}", done, self._most)
            done += batch.height
            yield self._ready(batch)

    def _ready(self, frame: pl.DataFrame) -> pl.DataFrame:
        return prepared(self.view, events_in_mode(self.view.plan, frame, self._began))


def _by_range(
    reading: _Reading, spill: Spill, ranges: KeyRanges, keys: pl.DataFrame, ends: Numbers, visible: Visibility, status: bool
) -> pl.DataFrame:
    """What `point_in_time` says of the spilled events, range by range."""
    order, starts = group_order(ranges.of(keys), ranges.count)
    parts = []
    for number in range(ranges.count):
        reading.progress(f"computing {reading.view.plan.name}", int(starts[number]), keys.height)
        ready = spill.take(number)
        rows = order[int(starts[number]) : int(starts[number + 1])]
        if rows.size:
            found = reading.none() if ready is None else ready
            parts.append(point_in_time(reading.view.plan, found, keys[rows], ends[rows], _of_rows(visible, rows), status))
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    columns = []
    for name in parts[0].columns:
        # One column at a time, each part's given back: the whole answer never lies in memory twice.
        columns.append(pl.concat([part.drop_in_place(name) for part in parts]).gather(place))
    return pl.DataFrame(columns)


def _of_rows(visible: Visibility, rows: Numbers) -> Visibility:
    head, horizon = (None if bound is None else bound[rows] for bound in (visible.head, visible.horizon))
    return Visibility(head, visible.seen, horizon)
