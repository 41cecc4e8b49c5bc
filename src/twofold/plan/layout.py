"""Where everything lies in the online store: keys of deltas, pointers, offsets, duplicates; one file, so that writer and reader agree."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from twofold.errors import Corrupt
from twofold.plan.serving import Frozen, ViewPlan

LOG_UUID = b"m/log"
EPOCH = b"m/epoch"
PARTITIONS = b"m/partitions"


class Pointer(Frozen, frozen=True):
    """What to read for a view version, flipped as one value.

    `generation` is a name in the store (None: never built). It holds loaded history up to the versions `history`, one for each of the
    view's sources, and the log up to `cut` (offset after the last event, for each partition of each source in turn), compacted at the
    clock `base_us`. Reads add the delta `open` and, while a build runs, the delta `closed`, which ends at `closed_cut` and will be built
    on the history versions `closed_history`. `began` are the offsets at which the open delta begins.
    """

    generation: str | None
    history: tuple[int, ...]
    cut: tuple[int, ...]
    base_us: int
    open: int
    began: tuple[int, ...]
    closed: int | None = None
    closed_cut: tuple[int, ...] = ()
    closed_history: tuple[int, ...] = ()


def encode_pointer(pointer: Pointer) -> bytes:
    """JSON of a pointer."""
    return msgspec.json.encode(pointer)


_POINTER = msgspec.json.Decoder(Pointer)


def decode_pointer(raw: bytes) -> Pointer:
    """The pointer that `encode_pointer` wrote; raises Corrupt for what another version of Twofold wrote."""
    try:
        return _POINTER.decode(raw)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"the store's pointers are of another version of Twofold ({error}); remove HOME/store and run `twofold build`"
        ) from None


def of_source(offsets: Sequence[int], view: ViewPlan, source: str) -> tuple[int, ...]:
    """The part of a pointer's offsets that belongs to a source, by partition; empty where there are none."""
    partitions = len(offsets) // len(view.sources)
    first = view.sources.index(source) * partitions
    return tuple(offsets[first : first + partitions])


def offset_keys(view: ViewPlan, partitions: int) -> list[bytes]:
    """Entries of the applied offsets of a view's sources, in the order of a pointer's offsets."""
    return [offset_key(source, partition) for source in view.sources for partition in range(partitions)]


def pointer_key(version: str) -> bytes:
    """Entry of a view version's pointer."""
    return b"p/" + version.encode()


def generation_key(name: str) -> bytes:
    """Entry of what a generation holds (a pointer as it was at its flip); kept for the audit after the generation is gone."""
    return b"g/" + name.encode()


def offset_key(source: str, partition: int) -> bytes:
    """Entry of the applied offset (8 bytes big-endian) of a partition: the offset after the last applied event."""
    return b"o/" + source.encode() + b"/" + partition.to_bytes(2, "big")


def delta_prefix(version: str, delta: int) -> bytes:
    """What all entries of one delta of a view version begin with."""
    return b"d/" + version.encode() + delta.to_bytes(4, "big")


def delta_key(version: str, delta: int, partition: int, key: bytes) -> bytes:
    """Entry of a key's delta, written only by the partition's owner; `partition` is its place among a pointer's offsets."""
    return delta_prefix(version, delta) + partition.to_bytes(2, "big") + key


def duplicate_key(source: str, partition: int | None, identity: bytes) -> bytes:
    """Entry of the stamp (int64) of the last counted event of an id; partition None is loaded history."""
    return b"i/" + source.encode() + b"/" + _partition(partition) + identity


def duplicate_by_time_key(source: str, partition: int | None, stamp_us: int, identity: bytes) -> bytes:
    """Entry that orders the ids of a partition by stamp, so that old ones can be found and dropped."""
    return duplicate_by_time_prefix(source, partition) + (stamp_us + 2**63).to_bytes(8, "big") + identity


def duplicate_by_time_prefix(source: str, partition: int | None) -> bytes:
    """What the entries of `duplicate_by_time_key` of one partition begin with."""
    return b"j/" + source.encode() + b"/" + _partition(partition)


def dead_letter_key(source: str, partition: int, offset: int) -> bytes:
    """Entry of an event that could not be applied."""
    return b"x/" + source.encode() + b"/" + _partition(partition) + offset.to_bytes(8, "big")


FRESHNESS = b"f/accepted_to_visible"
"""Counts of events by the logarithm of their time from accepted to visible (see `stream.freshness`)."""


def generation_name(view: str, version: str, number: int) -> str:
    """Name of a generation: the view for people, its version, and the number of the delta that it closes."""
    return f"{view}-{version}-{number:08d}"


def _partition(partition: int | None) -> bytes:
    return b"\xff\xff" if partition is None else partition.to_bytes(2, "big")


def encode_int(value: int) -> bytes:
    """8 bytes of an integer."""
    return value.to_bytes(8, "big", signed=True)


def decode_int(raw: bytes | None, default: int = 0) -> int:
    """The integer of 8 bytes; `default` where there are none."""
    return default if raw is None else int.from_bytes(raw, "big", signed=True)
