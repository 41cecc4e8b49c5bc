"""How far a store has applied the log, for any places at once; who applies it, and who waits for it, is not known here."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twofold.plan import layout
from twofold.store.base import Snapshot

Place = tuple[str, int]
"""A source and a partition of it."""


def applied_offsets(snapshot: Snapshot, places: Collection[Place]) -> dict[Place, int]:
    """The offset after the last applied event of each place, 0 where none is, in their order; one `multi_get`."""
    stored = snapshot.multi_get([layout.offset_key(*place) for place in places])
    return dict(zip(places, map(layout.decode_int, stored), strict=True))


def lies_within(ends: Mapping[Place, int], applied: Mapping[Place, int]) -> bool:
    """Whether all that lies before `ends` is applied; a place that `applied` lacks is not."""
    return all(applied.get(place, -1) >= end for place, end in ends.items())
