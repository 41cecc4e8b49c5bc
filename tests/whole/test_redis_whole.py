"""The whole on a store in Redis: the same bits as embedded, through builds, a server that is killed and a tail that is lost."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ports import free_port
from redis_server import RedisServer, why_no_redis
from shop import project
from test_up import REQUEST, call, up, wait_for
from whole_data import FRAUDS, LIVE, START_US, load_history

import twofold as tw
from twofold.errors import LogMismatch, StoreUnavailable
from twofold.runtime.restoring import new_worker
from twofold.runtime.running import due_views
from twofold.runtime.supervisor import processes_of
from twofold.settings import Settings
from twofold.store.redis import RedisStore

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


def test_the_schedule_reads_all_views_at_once(on_redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = RedisStore.read
    monkeypatch.setattr(RedisStore, "read", lambda store, keys: reads.append(len(keys)) or read(store, keys))  # type: ignore[func-returns-value]
    assert due_views(on_redis) == []
    assert reads == [1 + PARTITIONS]


def test_two_homes_of_one_name_are_told_apart(on_redis: Any, tmp_path: Path, clock: tw.ManualClock) -> None:
    store = on_redis.home.settings.store
    with project.open(home=tmp_path / "other", clock=clock, store=store, partitions=PARTITIONS) as other:
        with pytest.raises(LogMismatch, match=r"a name= of its own in the URL of `store`"):
            other.build()
        with pytest.raises(StoreUnavailable, match=r"a name= of its own in the URL of `store`"):
            other.features("card", ["a"])


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


def test_a_living_worker_whose_server_lost_its_tail_reads_its_heads_again(tmp_path: Path, clock: tw.ManualClock) -> None:
    if reason := why_no_redis():
        pytest.skip(reason)
    with (
        RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server,
        project.open(home=tmp_path / "home", clock=clock, store=server.url, partitions=PARTITIONS) as opened,
        project.open(home=tmp_path / "reference", clock=clock, partitions=PARTITIONS) as reference,
    ):
        for each in (opened, reference):
            load_history(each)
            each.build()
        worker = new_worker(opened)
        worker.take_over()

        def apply(rows: list[dict[str, Any]]) -> None:
            clock.set(rows[-1]["paid_at"] + 1)
            for each in (opened, reference):
                each.append("payments", rows)
                each.append("frauds", FRAUDS[:1])
            reference.catch_up()
            worker.catch_up()

        apply(LIVE[:45])
        assert answers(opened) == answers(reference)
        kept = shutil.copytree(server.folder / "appendonlydir", tmp_path / "kept")
        apply(LIVE[45:60])
        server.kill()
        shutil.rmtree(server.folder / "appendonlydir")
        shutil.copytree(kept, server.folder / "appendonlydir")
        server.start()
        apply(LIVE[60:])
        assert answers(opened) == answers(reference)


def test_a_schedule_without_the_store_says_so_once(tmp_path: Path, clock: tw.ManualClock, capsys: pytest.CaptureFixture[str]) -> None:
    looks = itertools.count()
    with project.open(home=tmp_path / "home", clock=clock, store="redis://127.0.0.1:1/0?name=nobody") as opened:
        opened.keep_schedule(until=lambda: next(looks) == 4)
    assert capsys.readouterr().out.count("build failed, will be tried again") == 1


def test_without_the_store_requests_are_answered_and_replicas_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := why_no_redis():
        pytest.skip(reason)
    with RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        monkeypatch.setenv("TWOFOLD_STORE", server.url)
        home, port = tmp_path / "home", free_port()
        home.mkdir()
        clock = tw.ReplayClock(home / "clock")
        clock.set(START_US)
        with project.open(home=home, clock=clock, store=server.url) as opened:
            load_history(opened)
            opened.build()
            opened.train("risk", test="5d")

        def served_by(tries: int = 1) -> str:
            status, answer = call(port, "POST", "/v1/predict/risk?deadline_ms=3000", REQUEST, tries)
            assert status == 200, answer
            return str(answer["served_by"])

        with up(home, port):
            wait_for(lambda: served_by(200) == "live", "an answer from the store")
            server.kill()
            assert served_by() in ("cached", "default")
            before = processes_of(Settings(home=home))
            for name in ("replica-0", "replica-1"):
                os.kill(int(before[name]["pid"] or 0), signal.SIGKILL)
            wait_for(lambda: all(processes_of(Settings(home=home))[n]["restarts"] for n in ("replica-0", "replica-1")), "restarts")
            assert served_by(200) in ("cached", "default")
            assert call(port, "POST", "/v1/events/payments", LIVE[0])[0] == 200  # the log takes it; the worker waits for the store
            server.start()
            wait_for(lambda: served_by() == "live", "an answer from the store")
            for row in LIVE[1:5]:
                clock.set(row["paid_at"] + 1)
                status, appended = call(port, "POST", "/v1/events/payments", row)
                assert status == 200, appended
                path = f"/v1/predict/risk?after={appended['position']}&deadline_ms=30000"
                assert call(port, "POST", path, REQUEST)[1]["served_by"] == "live"
            assert processes_of(Settings(home=home))["worker-0"]["restarts"] == 0
        with project.open(home=home, clock=clock, store=server.url) as opened:
            assert opened.events_of("payments").filter(pl.col("payment_id").str.starts_with("l")).height == 5
            audit = opened.audit()
            assert (audit.different, audit.ahead) == (0, 0)
            assert audit.compared > 0
