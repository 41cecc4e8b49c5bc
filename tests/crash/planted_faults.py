"""Bugs of the kind that the fault tests are there for, each planted in one process of a home; by name, for `fault_driver`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twofold.log.base import Append, Position
from twofold.log.sqlite import SqliteLog
from twofold.plan import layout
from twofold.store import generations, lmdb, records
from twofold.stream import registration, worker


def offset_first() -> None:
    """The offset is committed in a transaction of its own, before the state."""
    apply = worker.Worker._apply

    def planted(self: Any, pending: Sequence[Any]) -> int:
        with self._store.transaction() as txn:
            for part in pending:
                txn.put(layout.offset_key(part.source.name, part.partition), layout.encode_int(part.end))
        return apply(self, pending)

    worker.Worker._apply = planted  # type: ignore[method-assign]
    offset_unchecked()


def offset_unchecked() -> None:
    """What is stored as applied is not compared with what was read."""
    apply_part = worker.Worker._apply_part

    def planted(self: Any, txn: Any, part: Any, offsets: dict[str, int]) -> Any:
        offsets[part.source.name] = part.offset
        return apply_part(self, txn, part, offsets)

    worker.Worker._apply_part = planted  # type: ignore[method-assign]


def epoch_unchecked() -> None:
    """A worker writes though another has taken its partitions over."""
    worker.same_epoch = registration.same_epoch = lambda *_: None


def log_checksum_ignored() -> None:
    """The payload of a record batch is taken as it is."""
    from twofold.log.base import RecordBatch

    def planted(self: Any, source: str, partition: int, offset: int, rows: Iterable[Any]) -> list[RecordBatch]:
        return [RecordBatch(source, partition, first, count, arrival, accepted, raw) for first, count, arrival, accepted, _, _, raw in rows]

    SqliteLog._checked = planted  # type: ignore[method-assign]


def store_checksum_ignored() -> None:
    """Entries and states are taken as they are."""

    def planted(get: Callable[[bytes], bytes | None], keys: Sequence[bytes]) -> list[bytes | None]:
        return [None if (record := get(records.slot_of(key))) is None else record[:-8] for key in keys]

    lmdb.read_many = generations.read_many = planted


def acknowledged_too_early() -> None:
    """What has more than three events is answered, and then forgotten."""
    append = SqliteLog.append

    def planted(self: Any, batches: Sequence[Append], now_us: int) -> Position:
        if sum(batch.count for batch in batches) <= 3:
            return append(self, batches, now_us)
        ends = self.end_offsets({batch.source for batch in batches})
        return Position(self.uuid, {(b.source, b.partition): ends[b.source, b.partition] + b.count for b in batches})

    SqliteLog.append = planted  # type: ignore[method-assign]


def generation_dropped_before_the_flip() -> None:
    """The old generation goes as soon as the new one is written."""
    write = lmdb.LmdbStore.write_generation

    def planted(self: Any, name: str, states: Any) -> int:
        count = write(self, name, states)
        for other in set(self.generations()) - {name}:
            self.drop_generation(other)
        return count

    lmdb.LmdbStore.write_generation = planted  # type: ignore[method-assign]


def left_over_stays() -> None:
    """What killed writers of generations have left is not removed."""
    generations.GenerationFiles._remove_left_over = lambda self: None  # type: ignore[method-assign]


def commits_are_lost() -> None:
    """Every fifth transaction is undone although nothing failed."""
    commit, calls = lmdb.LmdbTransaction._commit, itertools.count(1)

    def planted(self: Any) -> None:
        if next(calls) % 5:
            commit(self)
        else:
            self._transaction.abort()

    lmdb.LmdbTransaction._commit = planted  # type: ignore[method-assign]


PLANTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (
        offset_first,
        offset_unchecked,
        epoch_unchecked,
        log_checksum_ignored,
        store_checksum_ignored,
        acknowledged_too_early,
        generation_dropped_before_the_flip,
        left_over_stays,
        commits_are_lost,
    )
}
