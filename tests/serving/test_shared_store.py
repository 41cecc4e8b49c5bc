"""Serving from a store that workers of other machines write, so that no bell tells of it: looks by a thread, for all at once."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from twofold.bell import Bell
from twofold.errors import DeadlineExceeded, StoreUnavailable
from twofold.http.waiting import AppliedBell
from twofold.log.base import Position
from twofold.serve.deadline import Deadline
from twofold.serve.features import FeatureReader
from twofold.serve.predict import ModelServer
from twofold.store.memory import MemoryStore
from twofold.stream.worker import Worker


def sale(amount: float = 1.0) -> dict[str, Any]:
    return {"shop": "north", "item": 1, "amount": amount, "kind": "a", "paid_at": None, "sold_at": "2024-05-01T11:30:00Z"}


class SharedStore(MemoryStore):
    """As one on servers: somebody else may write it, and it may not answer."""

    is_ill = False

    @property
    def has_many_writers(self) -> bool:
        return True

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        if self.is_ill:
            raise StoreUnavailable("no answer")
        with super().snapshot() as snapshot:
            yield snapshot


class CountingReader(FeatureReader):
    looks: Counter[str]

    def applied(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        self.looks["looks"] += 1
        return super().applied(places)


@pytest.fixture
def store() -> SharedStore:
    return SharedStore()


@pytest.fixture
def shop(make_shop: Callable[..., Any], store: SharedStore) -> Any:
    return make_shop(store)


def waiting_for(shop: Any, positions: list[Position], deadline_us: int, then: Callable[[], object]) -> tuple[list[Any], int]:
    """(What each wait gave, how often the store was looked at); `then` is done when all wait."""
    reader = CountingReader(shop.plan, shop.store, shop.log.uuid, shop.log.partitions, shop.clock)
    reader.looks = Counter()

    async def run() -> list[Any]:
        applied = AppliedBell(None)
        applied.start()
        waits = [asyncio.ensure_future(applied.wait(reader, position, Deadline(deadline_us))) for position in positions]
        while len(applied._waiting) < len(positions):
            await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, then)
        found = await asyncio.gather(*waits)
        applied.stop()
        return found

    return asyncio.run(run()), reader.looks["looks"]


def test_all_who_wait_are_woken_by_looks_that_are_for_all(shop: Any) -> None:
    positions = [shop.append("sales", sale(amount=float(i))) for i in range(300)]
    found, looks = waiting_for(shop, positions, 60_000_000, shop.worker.catch_up)
    assert found == [None] * 300
    assert looks < 2 * 300  # each looks once when it begins


def test_who_waits_in_vain_is_told_at_its_deadline(shop: Any) -> None:
    [error], _ = waiting_for(shop, [shop.append("sales", sale())], 100_000, lambda: None)
    assert isinstance(error, DeadlineExceeded)


def test_a_store_that_does_not_answer_sends_the_call_down_the_ladder(shop: Any, store: SharedStore) -> None:
    def fall_ill() -> None:
        store.is_ill = True

    [error], _ = waiting_for(shop, [shop.append("sales", sale())], 60_000_000, fall_ill)
    assert isinstance(error, StoreUnavailable)


def test_a_worker_that_lost_a_partition_leaves_it_and_goes_on_with_the_others(shop: Any) -> None:
    zombie, successor = shop.worker, Worker(shop.project, shop.log, shop.store, shop.bell)
    successor.take_over([1])
    position = shop.append("sales", *(sale(amount=float(i)) for i in range(50)))
    assert {partition for _, partition in position.offsets} == {0, 1}
    before, reader = shop.reader().applied(position.offsets), shop.reader()
    of_each = {place: end - before[place] for place, end in position.offsets.items()}
    assert zombie.catch_up() == of_each["sales", 0]
    assert set(zombie.partitions) == {0}
    assert reader.applied(position.offsets) == before | {("sales", 0): position.offsets["sales", 0]}
    assert successor.catch_up() == of_each["sales", 1]
    assert reader.covers(position)
    zombie.close()
    zombie.take_over([1])
    successor.close()
    assert (set(zombie.partitions), set(successor.partitions)) == ({0, 1}, set())


def test_a_thread_that_waits_looks_by_itself(shop: Any, tmp_path: Path) -> None:
    """The worker rings elsewhere."""
    position = shop.append("sales", sale())
    server = ModelServer(shop.plan, shop.reader(), lambda _: shop.predictor, shop.served.extend, Bell(tmp_path / "here"))
    worker = Thread(target=shop.worker.catch_up)
    server.reader.covers = then(worker.start, server.reader.covers)  # type: ignore[method-assign]
    assert server.wait(position, Deadline(60_000_000)) is None
    worker.join()


def then(do: Callable[[], None], call: Callable[[Position], bool]) -> Callable[[Position], bool]:
    """`call`, and after its first answer `do`."""
    calls = itertools.count()

    def wrapped(position: Position) -> bool:
        found = call(position)
        if next(calls) == 1:
            do()
        return found

    return wrapped
