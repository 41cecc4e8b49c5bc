"""The last live prediction for each request, for the rung `cached`: bounded, the least recently used go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple


class Cached(NamedTuple):
    """A live prediction (any JSON value): its model version, and the instant that it was made for."""

    prediction: Any
    version: str
    at_us: int


class PredictionCache:
    """Predictions by request content. Threads may share it, and so may successive versions of a model."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Cached] = OrderedDict()

    def put(self, content: Hashable, found: Cached) -> None:
        """Remember the latest prediction for a request."""
        with self._lock:
            self._entries[content] = found
            self._entries.move_to_end(content)
            if len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def get(self, content: Hashable) -> Cached | None:
        """The latest prediction for a request; None where there is none any more."""
        with self._lock:
            found = self._entries.get(content)
            if found is not None:
                self._entries.move_to_end(content)
            return found

    def __len__(self) -> int:
        return len(self._entries)
