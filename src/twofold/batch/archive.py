"""The archive: the log copied into a table, exactly once, up to a cut."""

from __future__ import annotations

from collections.abc import Sequence

from twofold.log.base import EventLog
from twofold.log.records import readable, record_frames
from twofold.tables.base import Tables

_EVENTS_PER_COMMIT = 500_000


def archive_up_to(log: EventLog, tables: Tables, source: str, cut: Sequence[int]) -> None:
    """Copy a source's events below the cut that the table lacks. Batches that cannot be decoded stay dead letters."""
    for partition, end in enumerate(cut):
        while (offset := tables.archived(source, partition)) < end:
            batches = [
                batch for batch in log.read(source, partition, offset, min(_EVENTS_PER_COMMIT, end - offset)) if batch.first_offset < end
            ]
            frame = record_frames(readable(batches))
            tables.archive(source, partition, frame, batches[-1].end_offset)
