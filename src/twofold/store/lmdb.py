"""The embedded store on LMDB: many reading processes, one writer at a time; how records and generation files look lies beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, takewhile
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import lmdb

from twofold.errors import DataError, StoreUnavailable
from twofold.fail_points import fail_point
from twofold.store.checkpoints import Checkpoints, boot_id, restore
from twofold.store.environments import Environment, fill_up, lmdb_errors, open_environment, translated
from twofold.store.generations import GenerationFiles, LmdbGeneration
from twofold.store.records import HEAD_BYTES, SLOT_BYTES, entry_of, in_key_order, read_many, record_of, sealed_many, slot_of
from twofold.store.turns import WriteTurn


class LmdbStore:
    """A `Store` in the directory `path`, shared by the processes of one machine.

    SIGKILL undoes no commit. A failure of the machine may undo the commits of the last moment (see `checkpoints`: a tenth of a second,
    and as long as the disk takes), as a whole, but none before a `sync`; generations are durable before they are visible, and stay until
    no commit that may come back needs them. Open it after a fork or spawn, never before. Processes
    should give one `map_size` (the largest size of the entries; the file is sparse); the first to open sets `max_readers`, the
    number of snapshots open at once in all processes.
    Scans come in the exact order of keys; keys that share their first 479 bytes are sorted in memory.
    """

    def __init__(self, path: str | os.PathLike[str], timeout_s: float = 10.0, map_size: int = 64 << 30, max_readers: int = 4096):
        self._path = Path(path)
        self._what = f"store {self._path}"
        entries, boot = self._path / "entries", boot_id()
        files = entries / "data.mdb", entries / "checkpoint"

        def opened() -> lmdb.Environment:
            restore(*files, boot)
            is_synced = boot is None
            inner = lmdb.open(str(entries), map_size=map_size, sync=is_synced, metasync=False, max_readers=max_readers, max_spare_txns=1)
            fill_up(inner, files[0])
            return inner

        def keeper(environment: Environment) -> Checkpoints:
            return Checkpoints(environment.inner, environment.read, files, boot or "")

        with lmdb_errors(self._what):
            self._files = GenerationFiles(self._path / "generations", timeout_s)
        self._environment = open_environment(self._what, files[0], opened, None if boot is None else keeper)
        with lmdb_errors(self._what):
            self._turn = WriteTurn(self._path, timeout_s)
        self._environment.inner.reader_check()
        self._is_open = True

    @property
    def has_many_writers(self) -> bool:
        """See `Store.has_many_writers`: no."""
        return False

    def snapshot(self) -> LmdbSnapshot:
        """See `Store.snapshot`."""
        return LmdbSnapshot(self._entries())

    def transaction(self) -> LmdbTransaction:
        """See `Store.transaction`."""
        return LmdbTransaction(self._entries(), self._turn)

    def write_generation(self, name: str, states: Iterable[tuple[bytes, bytes]]) -> int:
        """See `Store.write_generation`."""
        self._entries()
        return self._files.write(name, states)

    def generation(self, name: str) -> LmdbGeneration | None:
        """See `Store.generation`."""
        self._entries()
        return self._files.open(name)

    def generations(self) -> list[str]:
        """See `Store.generations`; sorted."""
        self._entries()
        return self._files.names()

    def drop_generation(self, name: str) -> None:
        """See `Store.drop_generation`. All commits before it are durable, so no pointer of theirs comes back to a dropped name."""
        self._entries().sync()
        self._files.drop(name)

    def sync(self) -> None:
        """See `Store.sync`."""
        self._entries().sync()

    def close(self) -> None:
        """See `Store.close`; a second close does nothing."""
        if self._is_open:
            self._is_open = False
            try:
                if not self._environment.is_inherited:
                    self._environment.sync()
            finally:
                self._environment.release()
                self._turn.close()

    def _entries(self) -> Environment:
        if not self._is_open:
            raise StoreUnavailable(f"{self._what} is closed; open it again")
        self._environment.check()
        return self._environment


def _ended(*_: object) -> NoReturn:
    raise StoreUnavailable("this snapshot or transaction has ended; take a new one from the store")


class LmdbSnapshot:
    """A read transaction of LMDB, begun by `with`."""

    _transaction: lmdb.Transaction[bytes]
    version: int | None = None

    def __init__(self, environment: Environment):
        self._environment = environment
        self._get: Callable[[bytes], bytes | None] = _ended

    def __enter__(self) -> Self:
        self._transaction = self._environment.read()
        self._get = self._transaction.get
        self.version = self._transaction.id()  # of the last commit
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._get = _ended
        self._transaction.abort()

    def get(self, key: bytes) -> bytes | None:
        """See `Snapshot.get`."""
        return self.multi_get((key,))[0]

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Snapshot.multi_get`."""
        try:
            return read_many(self._get, keys)
        except lmdb.Error as error:
            raise translated(error, self._environment.what) from error

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Snapshot.scan`; reads as it is iterated."""
        return islice(self._scan(prefix), limit)

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        head = prefix[:HEAD_BYTES]
        if not prefix and (value := self.get(b"")) is not None:
            yield b"", value
        try:
            with self._open_transaction().cursor() as cursor:
                if cursor.set_range(head):
                    items = takewhile(lambda item: item[0].startswith(head), cursor.iternext())
                    for key, value in in_key_order(items):
                        if key and key.startswith(prefix):
                            yield key, value
        except lmdb.Error as error:
            raise translated(error, self._environment.what) from error

    def _open_transaction(self) -> lmdb.Transaction[bytes]:
        if self._get is _ended:
            _ended()
        return self._transaction


class LmdbTransaction(LmdbSnapshot):
    """The write transaction of LMDB, begun by `with` when this writer's turn has come."""

    def __init__(self, environment: Environment, turn: WriteTurn):
        super().__init__(environment)
        self._turn = turn

    def __enter__(self) -> Self:
        self._turn.acquire()
        try:
            self._transaction = self._environment.write()
        except BaseException:
            self._turn.release()
            raise
        fail_point("lmdb.in_transaction")
        self._get = self._transaction.get
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._get = _ended
        is_committed = False
        try:
            if kind is None:
                fail_point("lmdb.before_commit")
                self._commit()
                is_committed = True
                fail_point("lmdb.after_commit")
            else:
                self._transaction.abort()
        finally:
            self._environment.ended(is_committed)
            self._turn.release()

    def _commit(self) -> None:
        with lmdb_errors(self._environment.what):
            try:
                self._transaction.commit()
            except lmdb.Error:
                self._environment.inner.reader_check()  # it may be a dead reader that keeps pages from being used again
                raise

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Snapshot.scan`; what is put or deleted while it is iterated does not show in it."""
        return iter(list(super().scan(prefix, limit)))

    def put(self, key: bytes, value: bytes) -> None:
        """See `Transaction.put`."""
        slot = slot_of(key)
        transaction = self._open_transaction()
        if len(slot) == SLOT_BYTES and not self._is_free_for(slot, key):
            raise DataError(f"two keys share the slot {slot.hex()} (hex); change one of them")
        try:
            transaction.put(slot, record_of(slot, key, value))
        except lmdb.Error as error:
            raise translated(error, self._environment.what) from error

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """See `Transaction.put_many`; half the time of a `put` each."""
        pairs = list(items)
        lengths = set(map(len, map(itemgetter(0), pairs)))
        if not all(0 < length < SLOT_BYTES for length in lengths):
            for key, value in pairs:
                self.put(key, value)
            return
        records = sealed_many(pairs)
        try:
            with self._open_transaction().cursor() as cursor:
                cursor.putmulti(records)
        except lmdb.Error as error:
            raise translated(error, self._environment.what) from error

    def delete(self, key: bytes) -> None:
        """See `Transaction.delete`."""
        slot = slot_of(key)
        transaction = self._open_transaction()
        if len(slot) == SLOT_BYTES and not self._is_free_for(slot, key):
            return
        try:
            transaction.delete(slot)
        except lmdb.Error as error:
            raise translated(error, self._environment.what) from error

    def _is_free_for(self, slot: bytes, key: bytes) -> bool:
        with lmdb_errors(self._environment.what):
            record = self._get(slot)
        return record is None or entry_of(slot, record)[0] == key
