"""The whole on a store in Redis: the same bits as embedded, through builds, a server that is killed and a tail that is lost."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer, why_no_redis
from shop import project
from whole_data import FRAUDS, LIVE, START_US, load_history

import twofold as tw
from twofold.errors import StoreUnavailable

NUMBERS = itertools.count()
PARTITIONS = 3


@pytest.fixture(params=["redis_server", "redis_cluster"])
def on_redis(request: pytest.FixtureRequest, tmp_path: Path, clock: tw.ManualClock) -> Iterator[Any]:
    """The project on a log of three partitions, so that its store has four shards, with history loaded and built."""
    server = request.getfixturevalue(request.param)
    scheme = "redis+cluster" if request.param == "redis_cluster" else "redis"
    store = f"{scheme}://127.0.0.1:{server.port}?name=whole{next(NUMBERS)}"
    with project.open(home=tmp_path / "home", clock=clock, store=store, partitions=PARTITIONS) as opened:
        load_history(opened)
        opened.build()
        yield opened


def answers(opened: Any) -> list[Any]:
    return [
        opened.features("card", ["a", "b", "c", "nobody"]).rows(),
        opened.features("shop", ["x", "y"]).rows(),
        opened.features("all_payments", [()]).rows(),
        opened.vectors("risk", [{"payment_id": "p", "card": "a", "shop": "x", "amount": 5.0}]).rows(),
    ]


def live(opened: Any, clock: tw.ManualClock, rows: list[dict[str, Any]]) -> None:
    for first in range(0, len(rows), 15):
        part = rows[first : first + 15]
        clock.set(part[-1]["paid_at"] + 1)
        opened.append("payments", part)
        opened.catch_up()


def test_every_answer_is_that_of_the_embedded_store(on_redis: Any, tmp_path: Path) -> None:
    clock = tw.ManualClock(START_US)
    with project.open(home=tmp_path / "embedded", clock=clock, partitions=PARTITIONS) as embedded:
        load_history(embedded)
        embedded.build()
        for opened in (embedded, on_redis):
            live(opened, opened.home.clock, LIVE[:60])
        assert answers(on_redis) == answers(embedded)
        for opened in (embedded, on_redis):
            opened.build()
        assert answers(on_redis) == answers(embedded)
        for opened in (embedded, on_redis):
            live(opened, opened.home.clock, LIVE[60:])
            opened.append("frauds", FRAUDS[:3])
            opened.catch_up()
        assert answers(on_redis) == answers(embedded)
        assert len(on_redis.home.store.generations()) == len(embedded.home.store.generations())


def test_a_server_that_lost_its_tail_gets_it_from_the_log_again(tmp_path: Path, clock: tw.ManualClock) -> None:
    if reason := why_no_redis():
        pytest.skip(reason)
    with (
        RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server,
        project.open(home=tmp_path / "home", clock=clock, store=server.url, partitions=PARTITIONS) as opened,
    ):
        load_history(opened)
        opened.build()
        live(opened, clock, LIVE[:45])
        kept = shutil.copytree(server.folder / "appendonlydir", tmp_path / "kept")
        live(opened, clock, LIVE[45:])
        late = answers(opened)
        server.kill()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            answers(opened)
        shutil.rmtree(server.folder / "appendonlydir")
        shutil.copytree(kept, server.folder / "appendonlydir")
        server.start()
        assert answers(opened) != late
        assert opened.catch_up() == len(LIVE) - 45
        assert answers(opened) == late
