"""The index of ids that the speed layer has counted; it commits with the offset, and old entries go as new ones come."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import msgspec
import polars as pl

from twofold.errors import StoreUnavailable
from twofold.instants import HOUR_US
from twofold.log.base import EventLog
from twofold.plan import layout
from twofold.plan.counting import counted, is_duplicate, max_of
from twofold.plan.inputs import MINOR, STAMP
from twofold.plan.key_order import encoded_keys
from twofold.plan.layout import (
    Counted,
    decode_int,
    duplicate_key,
    duplicates_key,
    duplicates_prefix,
    duplicates_stamp,
    encode_int,
    history_edition_key,
)
from twofold.plan.serving import SourcePlan
from twofold.store.base import Snapshot, Store, Transaction, commit

_LEAST_PURGED = 100
_IDS_PER_ENTRY = 10_000

_IDS = msgspec.msgpack.Decoder(list[bytes])
_MARK_BYTES = 16
_CLOCKS_APART_US = HOUR_US

T = TypeVar("T")


def drop_duplicates(txn: Transaction, source: SourcePlan, partition: int, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of one partition's frame (in order of offset) that count, and the index moved on past them."""
    if source.dedupe_us is None or source.id is None or frame.is_empty():
        return frame
    identities = _identities(frame[source.id])
    known = _known(txn, source.name, partition, [identity for identity in identities if identity is not None])
    new: dict[bytes, int] = {}
    keep: list[bool] = []
    for identity, stamp in zip(identities, frame[STAMP].to_list(), strict=True):
        counts = identity is None or not is_duplicate(stamp, known.get(identity), source.dedupe_us)
        keep.append(counts)
        if counts and identity is not None:
            known[identity] = new[identity] = stamp
    latest_us = int(frame[STAMP][-1])
    index = Counted(source.name, partition)
    _remember(txn, index, new, latest_us, int(frame[MINOR][0]))
    # More go than come, so the index stays as long as the horizon and no commit grows long.
    _purge(txn, index, latest_us - source.dedupe_us, max(_LEAST_PURGED, 2 * frame.height))
    return frame if all(keep) else frame.filter(pl.Series(keep, dtype=pl.Boolean))


def _identities(ids: pl.Series) -> Sequence[bytes | None]:
    """Bytes of each id; None of a null."""
    if not ids.null_count():
        return encoded_keys(ids.to_frame())
    found = iter(encoded_keys(ids.drop_nulls().to_frame()))
    return [None if is_null else next(found) for is_null in ids.is_null()]


def _known(txn: Transaction, source: str, partition: int, identities: Sequence[bytes]) -> dict[bytes, int]:
    """The greatest stamp of the counted events of each id, in the partition and in loaded history."""
    unique = list(dict.fromkeys(identities))
    found: dict[bytes, int] = {}
    indexes = [Counted(source, partition)]
    if (history := loaded_ids(txn, source)) is not None:
        indexes.append(history)
    for index in indexes:
        stored = txn.multi_get([duplicate_key(index, identity) for identity in unique])
        for identity, raw in zip(unique, stored, strict=True):
            if raw is not None:
                found[identity] = max_of(found.get(identity), decode_int(raw)) or 0
    return found


def loaded_ids(snapshot: Snapshot, source: str) -> Counted | None:
    """The index of the ids of loaded history; None where it knows none."""
    edition = decode_int(snapshot.get(history_edition_key(source)))
    return Counted(source, None, edition) if edition else None


def _remember(txn: Transaction, index: Counted, events: dict[bytes, int], latest_us: int, number: int) -> None:
    """Note ids with their stamps, none above `latest_us`; `number` tells them from others of that stamp."""
    if events:
        txn.put_many((duplicate_key(index, identity), encode_int(events[identity])) for identity in sorted(events))
        txn.put(duplicates_key(index, latest_us, number), msgspec.msgpack.encode(list(events)))


def least_pending(snapshot: Snapshot, log: EventLog, source: str, now_us: int) -> int:
    """The least arrival that an event of a source can have which the speed layer has not applied yet.

    One that is appended just now, or on a machine whose clock goes after, may arrive a little before `now_us`.
    """
    least, starts = now_us - _CLOCKS_APART_US, log.start_offsets([source])
    for (_, partition), end in log.end_offsets([source]).items():
        offset = max(decode_int(snapshot.get(layout.offset_key(source, partition))), starts[source, partition])
        if offset < end:
            least = min([least, *(batch.arrival_us for batch in log.read(source, partition, offset, 1))])
    return least


@dataclass
class NotedIds:
    """Ids on their way into an index, many commits: none of them may be missing when the index is taken.

    Servers that fail over lose the last commits of a shard, in order. So each leaves a mark, which the next one must find. And the entry
    `decisive` of the index's shard stays `found` until the index is taken: a writer that was stopped meanwhile, and whose place another
    took, changes nothing any more.
    """

    index: Counted
    decisive: bytes
    found: bytes | None
    _mark: bytes | None = None

    def commit(self, store: Store, work: Callable[[Transaction], T]) -> T:
        """What `work` returns, committed after all that was committed so; raises StoreUnavailable where that is not so any more."""
        mark = secrets.token_bytes(_MARK_BYTES)

        def marked(txn: Transaction) -> T:
            self._check(txn)
            txn.put(layout.noting_key(self.index), mark)
            return work(txn)

        done = commit(store, marked)
        self._mark = mark
        return done

    def note(self, store: Store, ids: pl.Series, stamps: Sequence[int]) -> None:
        """Note ids, none of them null, with the stamps of their counted events, in ascending order; raises as `commit`.

        That is done in parts, for a long commit holds up others; what was noted already changes nothing.
        """
        for first in range(0, len(stamps), _IDS_PER_ENTRY):
            part = slice(first, first + _IDS_PER_ENTRY)
            events = dict(zip(encoded_keys(ids[part].to_frame()), stamps[part], strict=True))
            self.commit(store, partial(_remember, index=self.index, events=events, latest_us=stamps[part][-1], number=first))

    def end(self, txn: Transaction) -> None:
        """The commit in which the index is taken; raises StoreUnavailable where some of its ids are lost, or another was taken."""
        self._check(txn)
        txn.delete(layout.noting_key(self.index))

    def _check(self, txn: Transaction) -> None:
        mark, found = txn.multi_get([layout.noting_key(self.index), self.decisive])
        if found != self.found:
            raise StoreUnavailable(f"another process has noted the ids of {self.index.source!r} meanwhile; try again")
        if self._mark is not None and mark != self._mark:
            raise StoreUnavailable(f"the store has lost ids of {self.index.source!r} that were noted, as after a failover; try again")


def write_first_ids(store: Store, index: Counted, ids: pl.Series, stamps: Sequence[int]) -> NotedIds:
    """Note ids, none of them null, with the stamps of their counted events, in ascending order, in a partition that nobody applies yet.

    Only one may write at a time. Raises StoreUnavailable where the partition's offset is there, or servers have lost some ids.
    """
    assert index.partition is not None
    written = NotedIds(index, layout.offset_key(index.source, index.partition), None)
    written.note(store, ids, stamps)
    return written


def write_loaded_ids(store: Store, source: SourcePlan, history: pl.DataFrame, since_us: int) -> NotedIds:
    """Note the ids of loaded history that a log event of an arrival from `since_us` on could repeat, of rows that count.

    `history` are all rows of all versions, those about to be loaded included. The index is a new one, which nobody looks at before
    `take_loaded_ids`: many ids are many commits. Only one may write at a time. Raises StoreUnavailable where servers have lost some.
    """
    assert source.id is not None
    assert source.dedupe_us is not None
    with store.snapshot() as snapshot:
        found = snapshot.get(history_edition_key(source.name))
    current = decode_int(found)
    written = NotedIds(Counted(source.name, None, current + 1), history_edition_key(source.name), found)
    for left_over in (current - 1, current + 1):
        while written.commit(store, partial(_drop_some, source=source.name, edition=left_over)):
            pass
    is_young = pl.col(source.id).is_not_null() & (pl.col(STAMP) > since_us - source.dedupe_us)
    young = counted(source, history).filter(is_young).sort(STAMP)
    written.note(store, young[source.id], young[STAMP].to_list())
    return written


def take_loaded_ids(txn: Transaction, written: NotedIds) -> None:
    """From this commit on the ids of loaded history are those; `drop_loaded_ids` is due for the edition before.

    Raises StoreUnavailable where servers have lost some of them.
    """
    written.end(txn)
    txn.put(history_edition_key(written.index.source), encode_int(written.index.edition))


def drop_loaded_ids(store: Store, source: str, edition: int) -> None:
    """Remove an edition of loaded history's ids that does not count."""
    while commit(store, partial(_drop_some, source=source, edition=edition)):
        pass


def _drop_some(txn: Transaction, source: str, edition: int) -> bool:
    """Remove the next ids of an edition; False where there are none."""
    index = Counted(source, None, edition)
    found = list(txn.scan(duplicates_prefix(index), 1)) if edition > 0 else []
    for key, raw in found:
        txn.delete(key)
        for identity in _IDS.decode(raw):
            txn.delete(duplicate_key(index, identity))
    return bool(found)


def _purge(txn: Transaction, index: Counted, before_us: int, most: int) -> None:
    """Drop ids of a partition too old for any later event of it. Those of loaded history serve all partitions: they stay."""
    purged = 0
    while purged < most:
        [*oldest] = islice(txn.scan(duplicates_prefix(index), 1), 1)
        if not oldest or duplicates_stamp(oldest[0][0]) > before_us:
            return
        key, raw = oldest[0]
        txn.delete(key)
        identities = _IDS.decode(raw)
        entries = [duplicate_key(index, identity) for identity in identities]
        for entry, stamp in zip(entries, txn.multi_get(entries), strict=True):
            if stamp is not None and decode_int(stamp) <= before_us:
                txn.delete(entry)
        purged += len(identities)
