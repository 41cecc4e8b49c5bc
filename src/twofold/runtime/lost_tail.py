"""A log that holds less than the store has applied, or the archive has copied: noticed before history is read from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twofold.batch.archive import refuse_archive_of_another
from twofold.errors import LogMismatch
from twofold.plan import layout

if TYPE_CHECKING:
    from twofold.runtime.home import Home


def refuse_archive_beyond(home: Home, source: str) -> None:
    """Raises LogMismatch where the archive is of another log, or has offsets that the log has not given yet."""
    refuse_archive_of_another(home.log, home.tables, source)
    archived = home.tables.archived_offsets(source, home.log.partitions)
    if not any(archived):
        return
    ends = home.log.end_offsets([source])
    for partition, offset in enumerate(archived):
        if offset > (end := ends[source, partition]):
            raise LogMismatch(
                f"the archive has {source}/{partition} up to offset {offset}, but the log ends at {end}: it lost its tail or is another "
                "log, and new events would get the offsets of archived ones; take the log that belongs to this home, or begin another home"
            )


def refuse_lost_tail(home: Home, source: str, ends: Sequence[int]) -> None:
    """Raises LogMismatch where the store or the archive has what the log does not hold: its history would silently lack events.

    `ends` are the log's offsets after the last event of each partition, as they were read just now.
    """
    refuse_archive_beyond(home, source)
    with home.store.snapshot() as snapshot:
        raws = snapshot.multi_get([layout.offset_key(source, partition) for partition in range(len(ends))])
    applied = list(map(layout.decode_int, raws))
    if all(offset <= end for offset, end in zip(applied, ends, strict=True)):
        return
    now = home.log.end_offsets([source])  # it may have grown, and the store with it, since `ends` was read
    if any(offset > now[source, partition] for partition, offset in enumerate(applied)):
        raise LogMismatch(
            f"the store has applied {source!r} up to the offsets {applied}, but the log ends at {list(now.values())}: it lost its tail or "
            "is another log; take the log that belongs to this home, or remove HOME/store and run `twofold build`"
        )
