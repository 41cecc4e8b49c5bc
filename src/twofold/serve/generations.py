"""Generations open for reading, shared by all threads; each is closed when no pointer names it and nobody reads in it any more."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping

from twofold.store.base import Generation, Store


class _Open:
    """An open generation, and how many calls are reading in it."""

    def __init__(self, inner: Generation) -> None:
        self.inner = inner
        self.readers = 0
        self.is_retired = False


class OpenGenerations:
    """The generations that the views' pointers name, opened once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._named: dict[str, str] = {}
        self._open: dict[str, _Open] = {}
        weakref.finalize(self, _close_all, self._open).atexit = False

    def take(self, wanted: Mapping[str, str]) -> Lease:
        """The generations of views (view version -> name of its generation), to be given back.

        One that is not in the store is `missing`: it was dropped since the pointer was read. A view's earlier generation is retired.
        """
        with self._lock:
            lease = Lease(self)
            try:
                for version, name in wanted.items():
                    if self._named.get(version) != name:
                        self._name(version, name)
                    found = self._open.get(name) or self._opened(name)
                    if found is None:
                        lease.missing.append(name)
                    elif name not in lease.taken:
                        found.readers += 1
                        lease.taken[name] = found
            except BaseException:
                self._give_back(lease)
                raise
            return lease

    def _name(self, version: str, name: str) -> None:
        """A view's pointer names another generation than before."""
        self._named[version] = name
        for old in [old for old in self._open if old not in self._named.values()]:
            self._retire(old)

    def _opened(self, name: str) -> _Open | None:
        inner = self._store.generation(name)
        if inner is None:
            return None
        self._open[name] = _Open(inner)
        return self._open[name]

    def _retire(self, name: str) -> None:
        found = self._open.pop(name)
        found.is_retired = True
        if not found.readers:
            found.inner.close()

    def give_back(self, lease: Lease) -> None:
        """The call that took these reads no more."""
        with self._lock:
            self._give_back(lease)

    def _give_back(self, lease: Lease) -> None:
        for found in lease.taken.values():
            found.readers -= 1
            if found.is_retired and not found.readers:
                found.inner.close()
        lease.taken.clear()

    def names(self) -> list[str]:
        """Those that are open and not retired, for tests and status."""
        with self._lock:
            return sorted(self._open)

    def close(self) -> None:
        """Close all, each when its last call has given it back."""
        with self._lock:
            for name in list(self._open):
                self._retire(name)


def _close_all(opened: dict[str, _Open]) -> None:
    """What is left to do for a reader that was dropped, with no call in it any more."""
    for found in opened.values():
        found.inner.close()


class Lease:
    """Generations that one call reads in; a context manager that gives them back."""

    def __init__(self, owner: OpenGenerations) -> None:
        self._owner = owner
        self.taken: dict[str, _Open] = {}
        self.missing: list[str] = []
        """Those that are not in the store."""

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self._owner.give_back(self)

    def __getitem__(self, name: str) -> Generation:
        return self.taken[name].inner

    def __contains__(self, name: str) -> bool:
        return name in self.taken
