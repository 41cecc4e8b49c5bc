"""The protocol of an online store; no implementation lives here.

A store holds *entries* (mutable bytes under bytes keys: deltas, pointers, offsets, dedupe index) and *generations* (immutable,
named, each published whole). It speaks bytes and integers, never views.

The first two bytes of an entry's key are its *shard*, the unit that every store keeps atomic. An embedded store keeps all of its
shards atomic together; one on servers may hold each shard on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from twofold.errors import Conflict

SHARD_BYTES = 2
"""So many bytes of a key, from its beginning, are its shard; a shorter key is a shard of its own."""

T = TypeVar("T")


class Snapshot(Protocol):
    """The entries as they are: of each shard whole transactions, or nothing of them.

    An embedded store shows one moment of all shards until the snapshot ends. A store on servers shows, for each call of `multi_get` or
    `scan`, one moment of each shard: whoever needs entries of one moment asks for them in one call.
    """

    @property
    def version(self) -> int | None:
        """A number that two open snapshots of a store share only where they show the same entries.

        None where the store has no such number, and in a transaction.
        """
        ...

    def get(self, key: bytes) -> bytes | None:
        """The entry under `key`; None where there is none. Raises Corrupt where its checksum fails."""
        ...

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The entries under `keys`, in their order; None where there is none."""
        ...

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """The entries whose key begins with `prefix`, in the order of keys; the first `limit` of them where that is given.

        `prefix` has at least the bytes of a shard; stores on servers refuse a shorter one with DataError.
        """
        ...


class Transaction(Snapshot, Protocol):
    """A snapshot that also writes; it reads its own writes. What it writes to a shard is committed as a whole, or nothing of it."""

    def put(self, key: bytes, value: bytes) -> None:
        """Set the entry under `key`."""
        ...

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many entries; the sooner done the more of them come in order of their keys."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove the entry under `key` if there is one."""
        ...


class Generation(Protocol):
    """A published generation, open for reading; it stays readable after it was dropped, for at least a minute, until closed."""

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The states under `keys`, in their order; None where there is none.

        Raises Corrupt where a checksum fails, StoreUnavailable where it is not there any more; it never reads as if it were empty.
        """
        ...

    def close(self) -> None:
        """Give the files back."""
        ...


class Store(Protocol):
    """Entries with atomic transactions, and generations that appear whole or not at all."""

    @property
    def has_many_writers(self) -> bool:
        """Whether transactions on different shards go on side by side; else all writers of the store take turns."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A read transaction, short: at most one request long."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]:
        """The write transaction: committed when the block ends, undone when it raises. A killed process loses nothing that was committed.

        An embedded store commits all shards as one; its writers take turns, also across processes. A store on servers commits the
        shards one after the other, in the order of their first writes, and lets no writer wait: where somebody else has committed to a
        shard since this transaction first read or wrote in it, that shard's commit raises Conflict, with nothing of it and of the later
        shards done; a read that comes upon such a commit raises it at once. A shard that is only read is not looked at at the end. See
        `commit`, which tries again.

        A failure of the machine or a failover may undo the last commits of a shard, as a whole and in order: the log has their events,
        and the offset goes back too; see `sync`. Raises StoreUnavailable where another writer holds an embedded store for more than the
        timeout (its text names the holder's process), the disk is full, or the servers do not answer: then the last commit may have been
        made or not, and a new transaction reads which.
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

    def sync(self) -> None:
        """Return when no failure of this machine undoes what is committed now. Due before what a commit makes needless is removed.

        On servers nothing happens: how durable a commit is there is their setting.
        """
        ...

    def close(self) -> None:
        """Release files, synced; no call may follow."""
        ...


_MOST_TRIES = 100


def commit(store: Store, work: Callable[[Transaction], T]) -> T:
    """What `work` returns of a transaction that was committed; done again from the beginning where another writer came between."""
    for _ in range(_MOST_TRIES - 1):
        try:
            with store.transaction() as txn:
                return work(txn)
        except Conflict:
            continue
    with store.transaction() as txn:
        return work(txn)
