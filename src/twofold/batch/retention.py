"""Dropping from the log what the archive holds and nothing reads there any more; how a log drops it is its own affair."""

from __future__ import annotations

from twofold.fail_points import fail_point
from twofold.log.base import TrimmableLog
from twofold.plan import layout
from twofold.plan.compile import CompiledProject
from twofold.store.base import Snapshot, Store
from twofold.tables.base import Tables


def drop_archived(project: CompiledProject, log: TrimmableLog, store: Store, tables: Tables, before_us: int) -> dict[tuple[str, int], int]:
    """Drop events that arrived before an instant and that nobody needs in the log; returns where each partition begins now.

    They are in the archive, applied, and below the cut of every generation that is served. A stream view's delta stays in the store and
    its history is read from the archive, so it needs none of them. Whole batches go; the last one of a partition stays.
    """
    sources = [source.name for source in project.sources.values() if source.time is not None]
    with store.snapshot() as snapshot:
        served = {place: _served(project, snapshot, *place) for place in log.end_offsets(sources)}
    store.sync()  # what a failure of the machine undoes must be in the log
    starts = log.start_offsets(sources)
    for place, reached in served.items():
        end = min(reached, tables.archived(*place))
        before_offset = _arrived_before(log, *place, starts[place], end, before_us)
        if before_offset > starts[place]:
            fail_point("retention.before_trim")
            starts[place] = log.trim(*place, before_offset)
    return starts


def _served(project: CompiledProject, snapshot: Snapshot, source: str, partition: int) -> int:
    """The offset below which a source's events are applied and in every generation that views of it serve."""
    reached = layout.decode_int(snapshot.get(layout.offset_key(source, partition)))
    for view in project.views_of(source):
        if view.plan.mode == "stream":
            continue
        raw = snapshot.get(layout.pointer_key(view.plan.version))
        pointer = None if raw is None else layout.decode_pointer(raw)
        if pointer is None or pointer.generation is None:
            return 0
        reached = min(reached, layout.of_source(pointer.cut, view.plan, source)[partition])
    return reached


def _arrived_before(log: TrimmableLog, source: str, partition: int, start: int, end: int, before_us: int) -> int:
    """The end of the batches that arrived before an instant, at most `end`: arrivals never go back, so halving finds it."""
    while start < end:
        batch = log.read(source, partition, (start + end) // 2, 1)[0]
        if batch.arrival_us < before_us:
            start = batch.end_offset
        else:
            end = batch.first_offset
    return min(start, end)
