"""The store in this process's memory: the plain meaning of the protocol, for tests and computations without a disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from twofold.errors import StoreUnavailable
from twofold.store.records import ascending, file_name_of
from twofold.store.turns import ThreadTurn


class _Moment:
    """Entries between two commits, the number of the first, and how many open snapshots see them."""

    def __init__(self, entries: dict[bytes, bytes], version: int = 0):
        self.entries = entries
        self.version = version
        self.snapshots = 0


class MemoryStore:
    """A `Store` for the threads of one process; nothing of it outlives the process."""

    def __init__(self, timeout_s: float = 10.0):
        self._timeout_s = timeout_s
        self._now = _Moment({})
        self._lock = threading.Lock()
        self._turn = ThreadTurn("store in memory")
        self._generations: dict[str, dict[bytes, bytes]] = {}
        self._is_open = True

    @property
    def has_many_writers(self) -> bool:
        """See `Store.has_many_writers`: no."""
        return False

    def snapshot(self) -> MemorySnapshot:
        """See `Store.snapshot`."""
        self._check()
        return MemorySnapshot(self)

    def transaction(self) -> MemoryTransaction:
        """See `Store.transaction`."""
        self._check()
        return MemoryTransaction(self)

    def write_generation(self, name: str, states: Iterable[tuple[bytes, bytes]]) -> int:
        """See `Store.write_generation`."""
        self._check()
        file_name_of(name)  # the same names are refused as on disk
        generation = dict(ascending(states))
        self._generations[name] = generation
        return len(generation)

    def generation(self, name: str) -> MemoryGeneration | None:
        """See `Store.generation`."""
        self._check()
        states = self._generations.get(name)
        return None if states is None else MemoryGeneration(states)

    def generations(self) -> list[str]:
        """See `Store.generations`; sorted."""
        self._check()
        return sorted(self._generations)

    def drop_generation(self, name: str) -> None:
        """See `Store.drop_generation`."""
        self._check()
        self._generations.pop(name, None)

    def sync(self) -> None:
        """See `Store.sync`; nothing survives its process."""
        self._check()

    def close(self) -> None:
        """See `Store.close`; a second close does nothing."""
        self._is_open = False

    def _check(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("store in memory is closed; make a new one")

    def pin(self) -> _Moment:
        """The present entries, which no commit changes until they are unpinned."""
        with self._lock:
            self._now.snapshots += 1
            return self._now

    def unpin(self, moment: _Moment) -> None:
        """A snapshot has ended."""
        with self._lock:
            moment.snapshots -= 1

    def begin(self) -> Mapping[bytes, bytes]:
        """Wait for the turn to write; the entries to write on. Raises StoreUnavailable after the timeout."""
        if not self._turn.acquire(time.monotonic() + self._timeout_s):
            raise StoreUnavailable(
                f"store in memory: waited {self._timeout_s:g} s for the turn to write, which a thread of process {os.getpid()} holds; "
                "let it end its transaction, then try again"
            )
        return self._now.entries

    def end(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Commit the changes (None deletes) as one, and give the turn away."""
        with self._lock:
            if changes and self._now.snapshots:
                self._now = _Moment(dict(self._now.entries), self._now.version)
            self._now.version += 1
            for key, value in changes.items():
                if value is None:
                    self._now.entries.pop(key, None)
                else:
                    self._now.entries[key] = value
        self._turn.release()


class MemorySnapshot:
    """A moment of the entries, pinned by `with`."""

    _moment: _Moment
    version: int | None = None

    def __init__(self, store: MemoryStore):
        self._store = store
        self._entries: Mapping[bytes, bytes] | None = None

    def __enter__(self) -> Self:
        self._moment = self._store.pin()
        self._entries, self.version = self._moment.entries, self._moment.version
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._entries = None
        self._store.unpin(self._moment)

    def _open_entries(self) -> Mapping[bytes, bytes]:
        if self._entries is None:
            raise StoreUnavailable("this snapshot or transaction has ended; take a new one from the store")
        return self._entries

    def get(self, key: bytes) -> bytes | None:
        """See `Snapshot.get`."""
        return self._open_entries().get(key)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Snapshot.multi_get`."""
        return [self.get(key) for key in keys]

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Snapshot.scan`."""
        entries = self._open_entries()
        return iter([(key, entries[key]) for key in sorted(entries) if key.startswith(prefix)][:limit])


class MemoryTransaction(MemorySnapshot):
    """Changes on top of the present entries, made when this writer's turn has come."""

    def __init__(self, store: MemoryStore):
        super().__init__(store)
        self._changes: dict[bytes, bytes | None] = {}

    def __enter__(self) -> Self:
        self._entries = self._store.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._entries = None
        self._store.end(self._changes if kind is None else {})

    def get(self, key: bytes) -> bytes | None:
        """See `Snapshot.get`."""
        entries = self._open_entries()
        return self._changes[key] if key in self._changes else entries.get(key)

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Snapshot.scan`; what is put or deleted while it is iterated does not show in it."""
        keys = sorted(key for key in {*self._open_entries(), *self._changes} if key.startswith(prefix))
        return iter([(key, value) for key in keys if (value := self.get(key)) is not None][:limit])

    def put(self, key: bytes, value: bytes) -> None:
        """See `Transaction.put`."""
        self._open_entries()
        self._changes[key] = value

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """See `Transaction.put_many`."""
        for key, value in items:
            self.put(key, value)

    def delete(self, key: bytes) -> None:
        """See `Transaction.delete`."""
        self._open_entries()
        self._changes[key] = None


class MemoryGeneration:
    """An open generation; threads may share it."""

    def __init__(self, states: Mapping[bytes, bytes]):
        self._states: Mapping[bytes, bytes] | None = states

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Generation`."""
        if self._states is None:
            raise StoreUnavailable("this generation is closed; open it again")
        return [self._states.get(key) for key in keys]

    def close(self) -> None:
        """See `Generation`; a second close does nothing."""
        self._states = None
