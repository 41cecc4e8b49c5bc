"""Features at points in time over a source's events: the view's mode and schedule decide what each row sees.

Events that do not fit into memory are spilled by key range, and each range is worked on by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.grouping import group_order
from twofold.batch.branches import OfSource, by_source
from twofold.batch.events import SourceEvents, Times
from twofold.batch.key_ranges import KeyRanges
from twofold.batch.spill import Spill
from twofold.errors import DataError, SchemaMismatch, did_you_mean
from twofold.plan.compile import CompiledView
from twofold.plan.inputs import STAMP
from twofold.plan.layout import of_source
from twofold.plan.needed import keeps_time, times_needed
from twofold.plan.serving import SourcePlan
from twofold.progress import Progress, silent
from twofold.tables.frames import conform_spine
from twofold.tables.grouping import groups_among, groups_of
from twofold.tables.point_in_time import Visibility, point_in_time
from twofold.tables.visibility import Kind, events_in_mode, visibility_of, window_ends

Numbers = NDArray[np.int64]


def history(
    view: CompiledView,
    events: Sequence[SourceEvents],
    spine: Any,
    kind: Kind,
    status: bool,
    began: tuple[int, ...],
    progress: Progress = silent,
) -> pl.DataFrame:
    """The spine (key columns of the view and `at`), in its order, with the view's features as of each `at` added.

    `events` are those of the view's sources, in their order. `began` are the offsets at which a stream view began. `status` adds
    `<feature>__status`. Where the events that the spine can see take more than their scratch allows, they are spilled by key range, and
    each range is computed on its own: the same bits.
    """
    if kind not in get_args(Kind):
        raise DataError(f"visibility = {kind!r}; it is 'ideal' or 'arrival'.{did_you_mean(str(kind), get_args(Kind))}")
    keys, at, original = conform_spine(view.plan.by, spine)
    taken = [feature.name for feature in view.plan.features if feature.name in original.columns]
    if taken:
        raise SchemaMismatch(f"the spine has {', '.join(taken)} already, which view {view.plan.name!r} adds; drop or rename its own")
    visible = visibility_of(view.plan, at, kind)
    ends = window_ends(view.plan, at)
    if visible.head is not None:
        visible = Visibility(np.minimum(visible.head, at), visible.seen, visible.horizon)
    sources = by_source(view, events, lambda branch, source: _times(branch, source, ends, at))
    reading, scratch = _Reading(view, sources, began, visible.seen is not None, progress), events[0].scratch
    parts = 1 if not view.plan.by or not keys.height else scratch.parts_for(sum(source.size_bytes for source in sources))
    if parts == 1:
        features = point_in_time(view.plan, reading.all(), keys, ends, visible, status)
    else:
        ranges = KeyRanges.of_sample(reading.sample(), parts)
        with scratch.spill(ranges.count) as spill:
            reading.into(spill, ranges, keys)
            features = _by_range(reading, spill, ranges, keys, ends, visible, status)
    return pl.concat([original, features], how="horizontal")


def _times(branch: CompiledView, source: SourcePlan, ends: Numbers, at: Numbers) -> Times:
    """The event_times that some row of the spine may see."""
    if not at.size or not keeps_time(branch, source):
        return None, None
    return times_needed(branch.plan, int(ends.min()), int(max(ends.max(), at.max())))


class _Reading:
    """The prepared events of a view that a spine may see, read batch by batch."""

    def __init__(
        self, view: CompiledView, sources: Sequence[OfSource], began: tuple[int, ...], keeps_stamp: bool, progress: Progress
    ) -> None:
        self.view, self.progress, self._sources, self._began, self._keeps_stamp = view, progress, sources, began, keeps_stamp
        self._keys = [f"k{i}" for i in range(len(view.plan.by))]

    def all(self) -> pl.DataFrame:
        """All of them."""
        batches = [batch for batch in self._batches(in_parts=False) if batch.height]
        return pl.concat(batches) if batches else self.none()

    def none(self) -> pl.DataFrame:
        """None of them, in their columns."""
        return pl.concat([self._kept(source.none()) for source in self._sources])

    def sample(self) -> pl.DataFrame:
        """The keys of some of them."""
        return pl.concat([source.sample() for source in self._sources]).select(self._keys)

    def into(self, spill: Spill, ranges: KeyRanges, spine: pl.DataFrame) -> None:
        """Write those of the spine's keys to their ranges."""
        known, _ = groups_of(spine, self._keys)
        range_of = np.append(ranges.of(known.select(self._keys)), -1)
        for ready in self._batches():
            spill.add(ready, range_of[groups_among(ready, known, self._keys)])

    def _batches(self, in_parts: bool = True) -> Iterator[pl.DataFrame]:
        for source in self._sources:
            name, plan = source.source.name, self.view.plan
            began, most, done = of_source(self._began, plan, name), source.events.most_rows(source.times), 0
            for batch in source.events.batches(source.columns, source.times, in_parts):
                self.progress(f"reading {name}", done, most)
                done += batch.height
                yield self._kept(source.prepared(events_in_mode(plan, batch, began)))

    def _kept(self, ready: pl.DataFrame) -> pl.DataFrame:
        """Prepared events in the columns that are looked at."""
        return ready if self._keeps_stamp else ready.drop(STAMP)


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
