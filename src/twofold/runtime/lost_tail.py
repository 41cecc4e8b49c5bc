"""A log that holds less than the store has applied: noticed before history is read from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from twofold.errors import LogMismatch
from twofold.plan import layout

if TYPE_CHECKING:
    from twofold.runtime.home import Home


def refuse_lost_tail(home: Home, source: str, ends: Sequence[int]) -> None:
    """Raises LogMismatch where the store has applied what the log does not hold: its history would silently lack events.

    `ends` are the log's offsets after the last event of each partition, as they were read just now.
    """
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
