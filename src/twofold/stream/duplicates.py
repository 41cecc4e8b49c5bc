"""The index of ids that the speed layer has counted; it commits with the offset, and old entries go as new ones come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from twofold.keys import KeyPart, encode_key
from twofold.log.base import EventLog
from twofold.plan.counting import counted, is_duplicate, max_of
from twofold.plan.inputs import STAMP
from twofold.plan.layout import decode_int, duplicate_by_time_key, duplicate_by_time_prefix, duplicate_key, encode_int, offset_key
from twofold.plan.serving import SourcePlan
from twofold.store.base import Snapshot, Transaction

_LEAST_PURGED = 100


def drop_duplicates(txn: Transaction, source: SourcePlan, partition: int, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of one partition's frame (in order of offset) that count, and the index moved on past them."""
    if source.dedupe_us is None or source.id is None or frame.is_empty():
        return frame
    identities = [None if value is None else encode_key((value,)) for value in frame[source.id]]
    known = _known(txn, source.name, partition, [identity for identity in identities if identity is not None])
    keep: list[bool] = []
    for identity, stamp in zip(identities, frame[STAMP].to_list(), strict=True):
        counts = identity is None or not is_duplicate(stamp, known.get(identity), source.dedupe_us)
        keep.append(counts)
        if counts and identity is not None:
            known[identity] = stamp
            remember(txn, source.name, partition, [(identity, stamp)])
    # More go than come, so the index stays as long as the horizon and no commit grows long.
    _purge(txn, source.name, partition, int(frame[STAMP][-1]) - source.dedupe_us, max(_LEAST_PURGED, 2 * frame.height))
    return frame if all(keep) else frame.filter(pl.Series(keep, dtype=pl.Boolean))


def _known(txn: Transaction, source: str, partition: int, identities: Sequence[bytes]) -> dict[bytes, int]:
    """The greatest stamp of the counted events of each id, in the partition and in loaded history."""
    unique = list(dict.fromkeys(identities))
    found: dict[bytes, int] = {}
    for place in (partition, None):
        stored = txn.multi_get([duplicate_key(source, place, identity) for identity in unique])
        for identity, raw in zip(unique, stored, strict=True):
            if raw is not None:
                found[identity] = max_of(found.get(identity), decode_int(raw)) or 0
    return found


def remember(txn: Transaction, source: str, partition: int | None, events: Iterable[tuple[bytes, int]]) -> None:
    """Note the stamps of counted events; partition None is loaded history."""
    for identity, stamp in events:
        txn.put(duplicate_key(source, partition, identity), encode_int(stamp))
        txn.put(duplicate_by_time_key(source, partition, stamp, identity), b"")


def least_pending(snapshot: Snapshot, log: EventLog, source: str, now_us: int) -> int:
    """The least arrival that an event of a source can have which the speed layer has not applied yet."""
    least = now_us
    for (_, partition), end in log.end_offsets([source]).items():
        offset = decode_int(snapshot.get(offset_key(source, partition)))
        if offset < end:
            least = min([least, *(batch.arrival_us for batch in log.read(source, partition, offset, 1))])
    return least


def history_matters(snapshot: Snapshot, source: SourcePlan, loaded: pl.DataFrame, since_us: int) -> bool:
    """Whether rows to be loaded change what the index must know of history: a log event may repeat some, or it knows of some."""
    if source.dedupe_us is None or source.id is None:
        return False
    is_young = (loaded[STAMP] > since_us - source.dedupe_us).any()
    return is_young or any(snapshot.scan(duplicate_by_time_prefix(source.name, None), 1))


def remember_history(txn: Transaction, source: SourcePlan, history: pl.DataFrame, since_us: int) -> None:
    """Note the ids of loaded history that a log event of an arrival from `since_us` on could repeat, of rows that count.

    `history` are all rows of all versions, those about to be loaded included; what was noted of history before is replaced.
    """
    if source.dedupe_us is None or source.id is None:
        return
    prefix = duplicate_by_time_prefix(source.name, None)
    for key, _ in list(txn.scan(prefix)):
        txn.delete(key)
        txn.delete(duplicate_key(source.name, None, key[len(prefix) + 8 :]))
    is_young = pl.col(source.id).is_not_null() & (pl.col(STAMP) > since_us - source.dedupe_us)
    young = counted(source, history).filter(is_young).sort(STAMP)
    rows: list[tuple[KeyPart, int]] = list(young.select(source.id, STAMP).iter_rows())
    remember(txn, source.name, None, ((encode_key((identity,)), stamp) for identity, stamp in rows))


def _purge(txn: Transaction, source: str, partition: int, before_us: int, most: int) -> None:
    """Drop entries of a partition too old for any later event of it. Those of loaded history serve all partitions: they stay."""
    prefix = duplicate_by_time_prefix(source, partition)
    for key, stamp in _old_entries(txn, prefix, before_us, most):
        identity = key[len(prefix) + 8 :]
        txn.delete(key)
        if decode_int(txn.get(duplicate_key(source, partition, identity)), stamp) == stamp:
            txn.delete(duplicate_key(source, partition, identity))


def _old_entries(txn: Transaction, prefix: bytes, before_us: int, most: int) -> list[tuple[bytes, int]]:
    """(key, stamp) of the first entries up to an instant, oldest first."""
    if not any(True for key, _ in txn.scan(prefix, 1) if stamp_of(key, prefix) <= before_us):
        return []
    old: list[tuple[bytes, int]] = []
    for key, _ in txn.scan(prefix, most):
        if stamp_of(key, prefix) > before_us:
            break
        old.append((key, stamp_of(key, prefix)))
    return old


def stamp_of(key: bytes, prefix: bytes) -> int:
    """The stamp in a key of `layout.duplicate_by_time_key`."""
    return int.from_bytes(key[len(prefix) : len(prefix) + 8], "big") - 2**63
