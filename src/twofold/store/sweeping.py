"""Deleting many entries in short transactions, so that a kill leaves nothing behind for ever; which entries is the caller's to know."""

from __future__ import annotations

from twofold.fail_points import fail_point
from twofold.store.base import Store, Transaction, commit

_DELETED_PER_COMMIT = 10_000


def sweep(store: Store, markers: bytes, targets: bytes) -> None:
    """Delete every entry whose key is `targets`, then what follows `markers` in the key of a marker, then anything; last the marker.

    Markers are entries that whoever made the targets useless has put, in that same transaction.
    """
    with store.snapshot() as snapshot:
        found = [key for key, _ in snapshot.scan(markers)]
    for key in found:
        delete_prefix(store, targets + key[len(markers) :])
        fail_point("sweep.amid")
        commit(store, lambda txn, key=key: txn.delete(key))  # type: ignore[misc]


def delete_prefix(store: Store, prefix: bytes) -> None:
    """Delete the entries whose key begins with `prefix`."""

    def delete_some(txn: Transaction) -> int:
        keys = [key for key, _ in txn.scan(prefix, _DELETED_PER_COMMIT)]
        for key in keys:
            txn.delete(key)
        return len(keys)

    while commit(store, delete_some) == _DELETED_PER_COMMIT:
        pass
