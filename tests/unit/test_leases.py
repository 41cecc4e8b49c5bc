"""Leases of tasks on a store: what one who waits hears of the holder."""

from __future__ import annotations

from twofold.store.memory import MemoryStore
from twofold.stream.leases import Lease


def test_the_first_beat_of_a_holder_is_heard() -> None:
    store = MemoryStore()
    holder, waiting = Lease(store, "load"), Lease(store, "load")
    assert holder.try_take() is None
    assert waiting.try_take() is not None
    assert not waiting.has_heard
    holder.beat()
    assert waiting.try_take() is not None
    assert waiting.has_heard
