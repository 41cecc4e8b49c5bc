"""Events that change more than a server takes in one call: the answers are those of an embedded store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis_server import RedisServer

import twofold as tw
from twofold.instants import to_us
from twofold.store import redis
from twofold.stream import duplicates
from twofold.testing.faults import broken_promises

NUMBERS = itertools.count()
START_US = to_us("2024-05-01T00:00:00Z")
baskets = tw.Events("baskets", time="at", id="basket", schema={"basket": str, "items": list[str], "price": float})
views = [
    tw.View("item", baskets.explode("items"), by="items", features={"n": tw.count(over="1d"), "price": tw.sum("price")}),
    tw.View("all", baskets, features={"n": tw.count(), "last": tw.last("price")}),
]
project = tw.Project("large", views=views)
ROWS = [
    {"basket": f"b{i % 150}", "items": [f"i{j}" for j in range(i, i + 10)], "price": i / 8, "at": START_US + i * 1_000_000}
    for i in range(200)
]


@pytest.fixture
def on_redis(tmp_path: Path, redis_server: RedisServer) -> Iterator[Any]:
    clock = tw.ManualClock(START_US + 3600_000_000)
    with project.open(home=tmp_path / "home", clock=clock, store=f"{redis_server.url}?name=large{next(NUMBERS)}", partitions=1) as opened:
        yield opened


def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a call takes 60 changes."""
    monkeypatch.setattr(redis, "_MOST_CHANGES", 60)
    monkeypatch.setattr(redis, "_PART", 35)


def answers(opened: Any) -> list[Any]:
    status = msgspec.to_builtins(opened.status())
    keys = [f"i{j}" for j in range(215)]
    return [opened.features("item", keys).rows(), opened.features("all", [()]).rows(), status["sources"]]


def test_a_batch_that_is_too_large_for_a_call_is_one_commit(on_redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = tw.ManualClock(START_US + 3600_000_000)
    with project.open(home=tmp_path / "embedded", clock=clock, partitions=1) as embedded:
        for opened in (embedded, on_redis):
            opened.build()
            opened.append("baskets", ROWS[:120])
            opened.append("baskets", ROWS[120:])
        small_calls(monkeypatch)
        assert [opened.catch_up() for opened in (embedded, on_redis)] == [200, 200]
        assert answers(on_redis) == answers(embedded)


def test_ids_of_a_load_that_are_too_many_for_a_call(on_redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_IDS_PER_ENTRY", 20)
    clock = tw.ManualClock(START_US + 3600_000_000)
    with project.open(home=tmp_path / "embedded", clock=clock, partitions=1) as embedded:
        for opened in (embedded, on_redis):
            for loaded, live in ((ROWS[:100], ROWS[80:]), (ROWS[90:110], ROWS[:110])):
                with monkeypatch.context() as patch:
                    small_calls(patch)
                    opened.load("baskets", loaded)
                opened.build()
                opened.append("baskets", live)
                opened.catch_up()
            assert broken_promises(opened, []) == []
        assert answers(on_redis) == answers(embedded)


def test_an_event_that_alone_is_too_much_for_a_call(on_redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**ROWS[0], "items": [f"i{j}" for j in range(1000)]}
    clock = tw.ManualClock(START_US + 3600_000_000)
    with project.open(home=tmp_path / "embedded", clock=clock, partitions=1) as embedded:
        small_calls(monkeypatch)
        for opened in (embedded, on_redis):
            opened.build()
            opened.append("baskets", [row, *ROWS[1:3]])
            assert opened.catch_up() == 3
            assert opened.features("item", ["i999"])["n_1d"].to_list() == [1]
        assert answers(on_redis) == answers(embedded)
