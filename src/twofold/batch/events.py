"""All events of a source that count: loaded history, archive and what the archive has not reached yet."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from twofold.batch.archive import archive_up_to
from twofold.log.base import EventLog
from twofold.log.records import decoded
from twofold.plan.counting import counted
from twofold.plan.inputs import MINOR, all_rows
from twofold.plan.serving import SourcePlan
from twofold.tables.base import Tables

_EVENTS_PER_READ = 500_000


def archived_events(source: SourcePlan, log: EventLog, tables: Tables, history: int, cut: Sequence[int]) -> pl.DataFrame:
    """Loaded history up to a version and the log below a cut, archived on the way. The caller holds the build lock."""
    if source.time is not None:
        archive_up_to(log, tables, source, cut)
    return counted(source, all_rows(source.columns, tables.history(source.name, history), tables.archive_up_to(source.name, cut)))


def present_events(source: SourcePlan, log: EventLog, tables: Tables, history: int, cut: Sequence[int]) -> pl.DataFrame:
    """The same, read only: what the archive lacks is read from the log."""
    loaded = tables.history(source.name, history)
    if source.time is None:
        return counted(source, all_rows(source.columns, loaded))
    # What the archive reached is asked once, first: it may grow meanwhile, and the tail begins where this reading ends.
    begins = [min(tables.archived(source.name, partition), end) for partition, end in enumerate(cut)]
    archived = tables.archive_up_to(source.name, begins)
    tails = [_tail(log, source, partition, begin, end) for partition, (begin, end) in enumerate(zip(begins, cut, strict=True))]
    return counted(source, all_rows(source.columns, loaded, archived, *tails))


def _tail(log: EventLog, source: SourcePlan, partition: int, begin: int, end: int) -> pl.DataFrame | None:
    """The events of a partition at the offsets begin..end."""
    frames = []
    offset = begin
    while offset < end:
        batches = log.read(source.name, partition, offset, min(_EVENTS_PER_READ, end - offset))
        frames += [decoded(batches, source.columns)[0]]
        offset = batches[-1].end_offset
    return pl.concat(frames).filter(pl.col(MINOR).is_between(begin, end, closed="left")) if frames else None
