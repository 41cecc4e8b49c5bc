"""Generations open for reading, shared by all threads; each is closed when no pointer names it and nobody reads in it any more."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping

from twofold.store.base import Generation, Store


class Opened:
    """An open generation, and how many calls are reading in it."""

    def __init__(self, inner: Generation) -> None:
        self.inner = inner
        self.multi_get = inner.multi_get
        self.readers = 0
        self.is_retired = False


class OpenGenerations:
    """The generations that the views' pointers name, opened once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._named: dict[str, str] = {}
        self._open: dict[str, Opened] = {}
        weakref.finalize(self, _close_all, self._open).atexit = False

    def take(self, wanted: Mapping[str, str]) -> dict[str, Opened]:
        """The generations of views (view version -> name of its generation) by name, all to be given back.

        One that is not in the store is left out: it was dropped since the pointer was read. A view's earlier generation is retired.
        """
        taken: dict[str, Opened] = {}
        with self._lock:
            try:
                for version, name in wanted.items():
                    if self._named.get(version) != name:
                        self._name(version, name)
                    found = self._open.get(name) or self._opened(name)
                    if found is not None and name not in taken:
                        found.readers += 1
                        taken[name] = found
            except BaseException:
                self._give_back(taken)
                raise
        return taken

    def _name(self, version: str, name: str) -> None:
        """A view's pointer names another generation than before."""
        self._named[version] = name
        for old in [old for old in self._open if old not in self._named.values()]:
            self._retire(old)

    def _opened(self, name: str) -> Opened | None:
        inner = self._store.generation(name)
        if inner is None:
            return None
        self._open[name] = Opened(inner)
        return self._open[name]

    def _retire(self, name: str) -> None:
        found = self._open.pop(name)
        found.is_retired = True
        if not found.readers:
            found.inner.close()

    def give_back(self, taken: Mapping[str, Opened]) -> None:
        """The call that took these reads no more."""
        with self._lock:
            self._give_back(taken)

    def _give_back(self, taken: Mapping[str, Opened]) -> None:
        for found in taken.values():
            found.readers -= 1
            if found.is_retired and not found.readers:
                found.inner.close()

    def names(self) -> list[str]:
        """Those that are open and not retired, for tests and status."""
        with self._lock:
            return sorted(self._open)

    def close(self) -> None:
        """Close all, each when its last call has given it back."""
        with self._lock:
            for name in list(self._open):
                self._retire(name)


def _close_all(opened: dict[str, Opened]) -> None:
    """What is left to do for a reader that was dropped, with no call in it any more."""
    for found in opened.values():
        found.inner.close()
