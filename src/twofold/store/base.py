"""The protocol of an online store; no implementation lives here.

A store holds *entries* (mutable bytes under bytes keys: deltas, pointers, offsets, dedupe index) and *generations* (immutable,
named, each published whole). It speaks bytes and integers, never views.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol


class Snapshot(Protocol):
    """One consistent moment of the entries: sees whole transactions or nothing of them."""

    def get(self, key: bytes) -> bytes | None:
        """The entry under `key`; None where there is none. Raises Corrupt where its checksum fails."""
        ...

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The entries under `keys`, in their order; None where there is none."""
        ...

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The entries whose key begins with `prefix`, in the order of keys; the first `limit` of them where that is given."""
        ...


class Transaction(Snapshot, Protocol):
    """A snapshot that also writes; it reads its own writes. All of it is committed, or nothing."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set the entry under `key`."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove the entry under `key` if there is one."""
        ...


class Generation(Protocol):
    """A published generation, open for reading; it stays readable after it was dropped, until closed."""

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The states under `keys`, in their order; None where there is none. Raises Corrupt where a checksum fails."""
        ...

    def close(self) -> None:
        """Give the files back."""
        ...


class Store(Protocol):
    """Entries with atomic transactions, and generations that appear whole or not at all."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A read transaction, short: at most one request long."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """The write transaction: committed when the block ends, undone when it raises. A killed process loses nothing that was committed.

        A power failure may undo the last commits, each as a whole and in order: the log has their events, and the offset goes back too.

        Writers take turns, also across processes. Raises StoreUnavailable where another writer holds it for more than the timeout
        (its text names the holder's process), or the disk is full.
        """
        ...

    def write_generation(self, name: str, states: Iterable[tuple[bytes, bytes]]) -> int:
        """Publish an immutable generation of states, given in ascending order of keys; returns how many.

        Nothing is visible until all is written; a failed or killed write leaves only a temporary file, which the next write cleans.
        A generation of that name that is already there is replaced as a whole.
        """
        ...

    def generation(self, name: str) -> Generation | None:
        """The generation of that name, open for reading; None where it is not there (dropped just now: read the pointer again)."""
        ...

    def generations(self) -> list[str]:
        """Names of the published generations."""
        ...

    def drop_generation(self, name: str) -> None:
        """Remove a generation; open readers keep theirs. Nothing happens where there is none."""
        ...

    def close(self) -> None:
        """Release files; no call may follow."""
        ...
