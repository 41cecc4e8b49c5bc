"""The archive: the log copied into a table, exactly once, up to a cut."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from twofold.errors import LogMismatch
from twofold.fail_points import fail_point
from twofold.log.base import EventLog
from twofold.log.records import decoded
from twofold.plan.inputs import MINOR
from twofold.plan.serving import SourcePlan
from twofold.tables.base import Tables

_EVENTS_PER_COMMIT = 500_000


def archive_up_to(log: EventLog, tables: Tables, source: SourcePlan, cut: Sequence[int]) -> None:
    """Copy a source's events below the cut that the table lacks. Batches that cannot be decoded stay dead letters.

    A topic of others may have lost its beginning before anything was archived: then it begins where the log does. Raises LogMismatch.
    """
    refuse_archive_of_another(log, tables, source.name)
    starts = log.start_offsets([source.name])
    for partition, end in enumerate(cut):
        while (archived := tables.archived(source.name, partition)) < end:
            offset = archived or min(starts[source.name, partition], end)
            batches = [
                batch
                for batch in log.read(source.name, partition, offset, min(_EVENTS_PER_COMMIT, end - offset))
                if batch.first_offset < end
            ]
            frame, _ = decoded(batches, source)
            reached = batches[-1].end_offset if batches else end  # no event lies between
            fail_point("archive.before_commit")
            tables.archive(source.name, partition, frame.filter(pl.col(MINOR) >= offset), reached, log.uuid)
            fail_point("archive.after_commit")


def refuse_archive_of_another(log: EventLog, tables: Tables, source: str) -> None:
    """Raises LogMismatch where a source's archive comes from another log: new events would take the place of others."""
    if not tables.is_archive_of(source, log.uuid):
        raise LogMismatch(
            f"the archive of {source!r} comes from another log than {log.uuid}, and new events would get the offsets of archived ones; "
            "take the log that belongs to this home, or begin another home"
        )
