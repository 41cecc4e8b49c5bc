"""Where everything lies in the online store: keys of deltas, pointers, offsets, duplicates; one file, so that writer and reader agree.

Each partition of the log has a shard of its own (see `store.base`) with all that its events change, and one more, META, has what the
partitions share. So nothing needs to be atomic beyond a shard.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from twofold.errors import Corrupt
from twofold.plan.serving import Frozen, ViewPlan

T = TypeVar("T")

META = b"\xff\xff"
"""The shard of what the partitions share."""

MEMBERS = b"\xff\xfe"
"""The shard in which workers, and who does a task, say that they live: it changes all the time, so nothing else lies there."""

LOG_UUID = META + b"m/log"
PARTITIONS = META + b"m/partitions"
FORMAT = META + b"m/format"
"""Entry of the number of the format that a store has, which is `THIS_FORMAT`."""
THIS_FORMAT = 2
_SHOWN_OF_VIEW = 50
"""So many letters of a view stand in the names of its generations: in capitals, of three bytes each, they fit into a file's name."""


class Closing(Frozen, frozen=True):
    """A build under way: it closes the deltas up to `number` and takes loaded history up to the versions `history`, one a source."""

    number: int
    history: tuple[int, ...]


class Pointer(Frozen, frozen=True):
    """What a view version serves, flipped as one value.

    `generation` is a name in the store (None: never built). It holds loaded history up to the versions `history`, one for each of the
    view's sources, and the log up to `cut` (offset after the last event, for each partition of each source in turn), compacted at the
    clock `base_us`: that is, all deltas up to `number`. Reads add the deltas above.
    """

    generation: str | None
    number: int
    history: tuple[int, ...]
    cut: tuple[int, ...]
    base_us: int
    closing: Closing | None = None


class Place(Frozen, frozen=True):
    """A view version in one partition: its delta `open`, which began at the offsets `began`, one for each of the view's sources.

    While a build runs there is the delta `closed` too, which ends at the offsets `closed_cut`. Deltas up to `dropped` are gone: a
    reader whose pointer is older reads it again.
    """

    open: int
    began: tuple[int, ...]
    closed: int | None = None
    closed_cut: tuple[int, ...] = ()
    dropped: int = 0


class Newest(Frozen, frozen=True):
    """The offset of the newest applied event of a partition, and the term of the log's leader that appended it (see `RecordBatch`)."""

    offset: int
    term: int


_POINTER = msgspec.json.Decoder(Pointer)
_PLACE = msgspec.json.Decoder(Place)
_NEWEST = msgspec.json.Decoder(Newest)


def encode_pointer(pointer: Pointer | Place | Newest) -> bytes:
    """JSON of a pointer, a place or a newest event."""
    return msgspec.json.encode(pointer)


def decode_pointer(raw: bytes) -> Pointer:
    """The pointer that `encode_pointer` wrote; raises Corrupt for what another version of Twofold wrote."""
    return _decoded(_POINTER, raw)


def decode_place(raw: bytes) -> Place:
    """The place that `encode_pointer` wrote; raises Corrupt for what another version of Twofold wrote."""
    return _decoded(_PLACE, raw)


def decode_newest(raw: bytes) -> Newest:
    """The newest event that `encode_pointer` wrote; raises Corrupt for what another version of Twofold wrote."""
    return _decoded(_NEWEST, raw)


def _decoded(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"the store's pointers are of another version of Twofold ({error}); remove HOME/store and run `twofold build`"
        ) from None


def of_source(offsets: Sequence[int], view: ViewPlan, source: str) -> tuple[int, ...]:
    """The part of a pointer's offsets that belongs to a source, by partition; empty where there are none."""
    partitions = len(offsets) // len(view.sources)
    first = view.sources.index(source) * partitions
    return tuple(offsets[first : first + partitions])


def by_source(offsets: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """A pointer's offsets (all partitions of the first source, then of the next) from those of each partition (one a source)."""
    return tuple(offset for of_partitions in zip(*offsets, strict=True) for offset in of_partitions)


def is_seamless(pointer: Pointer, places: Sequence[Place]) -> bool:
    """Whether the deltas of a view's partitions that its readers add begin where the pointer's generation ends.

    They do not where the pointer was read before a flip and the places after it, or the other way round; and for good where servers
    that failed over have lost a flip but not that its closed deltas went, or a roll-over but not its flip: then a build is due.
    """
    return all(_meets(pointer, place, pointer.cut[partition :: len(places)]) for partition, place in enumerate(places))


def _meets(pointer: Pointer, place: Place, cut: tuple[int, ...]) -> bool:
    if place.dropped > pointer.number or place.open <= pointer.number:
        return False
    return place.began == cut or (place.closed is not None and place.closed > pointer.number)


def shard(partition: int) -> bytes:
    """The shard of a partition; what the keys of its entries begin with."""
    return partition.to_bytes(2, "big")


def epoch_key(partition: int) -> bytes:
    """Entry of the epoch of a partition's owner: it grows whenever a worker takes over."""
    return shard(partition) + b"m/epoch"


def member_key(member: str) -> bytes:
    """Entry in which a worker says that it lives (see `stream.shares`)."""
    return MEMBERS + b"w/" + member.encode()


def task_key(task: str) -> bytes:
    """Entry in which who does a task says that it lives (see `stream.leases`)."""
    return MEMBERS + b"t/" + task.encode()


def pointer_key(version: str) -> bytes:
    """Entry of a view version's pointer."""
    return META + b"p/" + version.encode()


def place_key(version: str, partition: int) -> bytes:
    """Entry of a view version's place in a partition."""
    return shard(partition) + b"p/" + version.encode()


def generation_key(name: str) -> bytes:
    """Entry of what a generation holds (a pointer as it was at its flip); kept for the audit after the generation is gone."""
    return META + b"g/" + name.encode()


def offset_key(source: str, partition: int) -> bytes:
    """Entry of the applied offset (8 bytes big-endian) of a partition: the offset after the last applied event."""
    return shard(partition) + b"o/" + source.encode()


def newest_key(source: str, partition: int) -> bytes:
    """Entry of the newest applied event, where the log has terms."""
    return shard(partition) + b"r/" + source.encode()


def offset_keys(view: ViewPlan, partition: int) -> list[bytes]:
    """Entries of the applied offsets of a view's sources in a partition, in the order of its sources."""
    return [offset_key(source, partition) for source in view.sources]


HEAD, BODY = b"h", b"t"
"""A key's delta is two blobs (see `algebra.heads`): raw events, and the tiles of earlier ones."""


def delta_prefix(version: str, delta: int, partition: int, part: bytes) -> bytes:
    """What all HEAD or BODY entries of one delta of a view version in a partition begin with; a key's own bytes follow."""
    return shard(partition) + b"d/" + version.encode() + delta.to_bytes(4, "big") + part


def rubbish_key(version: str, partition: int, delta: int | None = None) -> bytes:
    """Entry that says: this delta of a partition is of no use any more and is to be deleted (None: all of the view version).

    See `store.sweeping`.
    """
    return shard(partition) + b"z/" + version.encode() + (b"" if delta is None else delta.to_bytes(4, "big"))


def rubbish_prefix(partition: int) -> bytes:
    """What the entries of `rubbish_key` of a partition begin with; what follows, follows in the keys of the deltas as well."""
    return shard(partition) + b"z/"


def deltas_of(partition: int) -> bytes:
    """What the entries of all deltas of a partition begin with."""
    return shard(partition) + b"d/"


class Counted(NamedTuple):
    """Of whose counted events an index of ids is: those of a partition, or an edition of loaded history (partition None)."""

    source: str
    partition: int | None
    edition: int = 0

    def place(self, kind: bytes) -> bytes:
        """What its entries of a kind begin with."""
        return _shard(self.partition) + kind + self.edition.to_bytes(4, "big") + self.source.encode() + b"/"


def duplicate_key(index: Counted, identity: bytes) -> bytes:
    """Entry of the stamp (int64) of the last counted event of an id."""
    return index.place(b"i/") + identity


def duplicates_key(index: Counted, stamp_us: int, number: int) -> bytes:
    """Entry of ids that were counted together, the latest of them at `stamp_us`, so that old ones can be found and dropped."""
    return duplicates_prefix(index) + (stamp_us + 2**63).to_bytes(8, "big") + number.to_bytes(8, "big")


def duplicates_prefix(index: Counted) -> bytes:
    """What the entries of `duplicates_key` of one index begin with; they come in order of their stamps."""
    return index.place(b"j/")


def duplicates_stamp(key: bytes) -> int:
    """The stamp in a key of `duplicates_key`."""
    return int.from_bytes(key[-16:-8], "big") - 2**63


def history_edition_key(source: str) -> bytes:
    """Entry of the number of the edition of loaded history's ids that counts."""
    return META + b"e/" + source.encode()


def noting_key(index: Counted) -> bytes:
    """Entry that the last commit left which noted ids in an index, as long as there are more to come."""
    return _shard(index.partition) + b"n/" + index.source.encode()


def loading_key(source: str) -> bytes:
    """Entry of the content of a load that is decided: its ids are known, and its rows are to come into their table."""
    return META + b"l/" + source.encode()


def known_history_key(source: str) -> bytes:
    """Entry of the history version of a source up to which the index of duplicates knows the ids that it must know."""
    return META + b"h/" + source.encode()


def dead_letter_key(source: str, partition: int, offset: int) -> bytes:
    """Entry of an event that could not be applied."""
    return dead_letter_prefix(partition, source) + offset.to_bytes(8, "big")


def dead_letter_prefix(partition: int, source: str | None = None) -> bytes:
    """What the dead letters of a partition begin with, of one source or of all."""
    return shard(partition) + (b"x/" if source is None else b"x/" + source.encode() + b"/")


def freshness_key(partition: int) -> bytes:
    """Entry of counts of events by the logarithm of their time from accepted to visible (see `stream.freshness`)."""
    return shard(partition) + b"f/accepted_to_visible"


def generation_name(view: str, version: str, number: int) -> str:
    """A new name of a generation: the view's beginning for people, its version, the number of the last delta in it, a mark of its own.

    Servers that fail over may bring the number back, for other events: no reader may take the one that it has open for the new one.
    """
    return f"{view[:_SHOWN_OF_VIEW]}-{version}-{number:08d}-{secrets.token_hex(4)}"


def _shard(partition: int | None) -> bytes:
    return META if partition is None else shard(partition)


def encode_int(value: int) -> bytes:
    """8 bytes of an integer."""
    return value.to_bytes(8, "big", signed=True)


def decode_int(raw: bytes | None, default: int = 0) -> int:
    """The integer of 8 bytes; `default` where there are none."""
    return default if raw is None else int.from_bytes(raw, "big", signed=True)
