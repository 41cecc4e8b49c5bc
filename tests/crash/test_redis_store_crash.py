"""The store on Redis while servers and writers are killed, tails are lost and several processes write."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import dialogue
import pytest
from dialogue import go_on, kill, line
from lossy_proxy import LossyProxy
from redis_server import RedisServer, why_no_redis

from twofold.errors import Conflict, StoreUnavailable
from twofold.store.base import Snapshot, Store, Transaction
from twofold.store.redis import RedisStore

process = functools.partial(dialogue.process, Path(__file__).with_name("redis_store_process.py"))
NUMBERS = itertools.count()
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own that writes every commit to its disk before it answers."""
    if reason := why_no_redis():
        pytest.skip(reason)
    with RedisServer(tmp_path / "redis", *ALWAYS) as server:
        yield server


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    """A store on the shared server."""
    return f"{redis_server.url}?name=crash{next(NUMBERS)}"


def pair(snapshot: Snapshot) -> tuple[int, int]:
    first, second = snapshot.multi_get([b"aa-first", b"aa-second"])
    return int(first or b"0"), int(second or b"0")


def set_pair(txn: Transaction, value: int) -> None:
    txn.put(b"aa-first", b"%d" % value)
    txn.put(b"aa%d" % value, bytes(1000))
    txn.put(b"aa-second", b"%d" % value)


def assert_whole(store: Store) -> int:
    """The pair is equal and every entry is listed, up to the pair's value; returns that."""
    with store.snapshot() as snapshot:
        first, second = pair(snapshot)
        assert first == second
        listed = sorted(key for key, _ in snapshot.scan(b"aa"))
    assert listed == sorted([*(b"aa%d" % i for i in range(1, first + 1)), *((b"aa-first", b"aa-second") if first else ())])
    return first


# --- the server dies


@pytest.mark.parametrize("durable", [True, False])
def test_a_killed_server_keeps_whole_commits(tmp_path: Path, durable: bool) -> None:
    if reason := why_no_redis():
        pytest.skip(reason)
    options = ALWAYS if durable else ("--appendonly", "yes", "--appendfsync", "everysec")
    with RedisServer(tmp_path / "redis", *options) as server:
        store, acknowledged, goes_on = RedisStore(server.url), [0], threading.Event()

        def write() -> None:
            with contextlib.suppress(StoreUnavailable):
                for value in itertools.count(acknowledged[-1] + 1):
                    with store.transaction() as txn:
                        set_pair(txn, value)
                    acknowledged.append(value)
                    if len(acknowledged) % 20 == 0:
                        goes_on.set()

        for _ in range(3):
            goes_on.clear()
            writer = threading.Thread(target=write)
            writer.start()
            goes_on.wait()
            server.kill()
            writer.join()
            server.start()
            found = assert_whole(store)
            assert found <= acknowledged[-1] + 1
            if durable:
                assert found >= acknowledged[-1]
            acknowledged.append(found)
        store.close()


def test_a_torn_end_of_the_servers_file_loses_whole_commits(server: RedisServer) -> None:
    store = RedisStore(server.url)
    for value in range(1, 6):
        with store.transaction() as txn:
            set_pair(txn, value)
    server.kill()
    [file] = (server.folder / "appendonlydir").glob("*.incr.aof")
    found = 5
    while found > 3:
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size - 150)
        server.start()
        assert found - 1 <= assert_whole(store) <= found
        found = assert_whole(store)
        server.kill()
    server.start()
    with store.transaction() as txn:
        set_pair(txn, 4)
    assert assert_whole(store) == 4
    store.close()


def lose_tail(server: RedisServer, kept: Path) -> None:
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(kept, server.folder / "appendonlydir")
    server.start()


def test_versions_before_and_after_a_lost_tail_are_told_apart(server: RedisServer, tmp_path: Path) -> None:
    """Counted versions would be equal here: the transaction read after two commits, and after the loss there are two again."""
    store = RedisStore(server.url)
    with store.transaction() as txn:
        set_pair(txn, 1)
    kept = shutil.copytree(server.folder / "appendonlydir", tmp_path / "kept")
    with store.transaction() as txn:
        set_pair(txn, 2)

    def work() -> None:
        with store.transaction() as txn:
            assert pair(txn) == (2, 2)
            lose_tail(server, kept)
            assert assert_whole(store) == 1
            successor = RedisStore(server.url)
            with successor.transaction() as other:
                set_pair(other, 2)
                other.put(b"aa-first", b"from the successor")
            successor.close()
            set_pair(txn, 3)

    with pytest.raises(Conflict):
        work()
    with store.snapshot() as snapshot:
        assert snapshot.get(b"aa-first") == b"from the successor"
    store.close()


def test_a_lost_tail_takes_generations_and_what_names_them_together(server: RedisServer, tmp_path: Path) -> None:
    store = RedisStore(server.url)
    store.write_generation("before", [(b"a", b"1")])
    kept = shutil.copytree(server.folder / "appendonlydir", tmp_path / "kept")
    store.write_generation("after", [(b"a", b"2")])
    store.drop_generation("before")
    late = store.generation("after")
    assert late is not None
    lose_tail(server, kept)
    assert store.generations() == ["before"]
    assert store.generation("after") is None
    found = store.generation("before")
    assert found is not None
    assert found.multi_get([b"a", b"b"]) == [b"1", None]
    with pytest.raises(StoreUnavailable, match="not in store"):
        late.multi_get([b"a"])
    store.close()


# --- writers die


def states_in(server: RedisServer, url: str) -> set[int]:
    """Seconds that buckets live, to the next ten minutes; -1 for ever."""
    name = url.partition("name=")[2]
    with server.client() as client:
        left = [client.ttl(key) for key in client.scan_iter(f"tw:{name}:*:states")]
    return {-1 if seconds == -1 else -(-seconds // 600) * 600 for seconds in left}


def test_a_writer_killed_in_the_middle_of_a_generation_leaves_what_expires(url: str, redis_server: RedisServer) -> None:
    store = RedisStore(url)
    store.write_generation("g", [(b"a", b"old")])
    with process("generation", url, "g") as writer:
        assert line(writer) == "writing"
        kill(writer)
    assert states_in(redis_server, url) == {-1, 3600}
    generation = store.generation("g")
    assert generation is not None
    assert generation.multi_get([b"a", b"00000001"]) == [b"old", None]
    with process("generation", url, "g") as writer:
        assert line(writer) == "writing"
        go_on(writer)
        assert line(writer) == "done"
    generation = store.generation("g")
    assert generation is not None
    assert generation.multi_get([b"a", b"00000001"]) == [None, b"state"]
    store.close()


@pytest.mark.parametrize(
    ("step", "is_new", "left"), [(b"_announce", False, {-1, 600}), (b"_publish", False, {-1, 600}), (b"_condemned", True, {-1, 600})]
)
def test_a_writer_killed_while_it_publishes(url: str, redis_server: RedisServer, step: bytes, is_new: bool, left: set[int]) -> None:
    store = RedisStore(url)
    store.write_generation("g", [(b"a", b"old")])
    with LossyProxy(redis_server.port) as proxy, process("generation", proxy.before(url), "g") as writer:
        assert line(writer) == "writing"
        proxy.at(step, "hold")
        go_on(writer)
        assert proxy.met.wait(20)
        kill(writer)
    generation = store.generation("g")
    assert generation is not None
    assert generation.multi_get([b"a", b"00000001"]) == ([None, b"state"] if is_new else [b"old", None])
    with redis_server.client() as client:
        loose = f"tw:{store._name}:{{{store._name}}}:loose"
        for record in client.hkeys(loose):
            client.hset(loose, record, 0)  # as if its time were over
    store.drop_generation("there is none")
    assert states_in(redis_server, url) == left
    store.close()


def test_a_writer_killed_between_shards_has_committed_the_first(url: str, redis_server: RedisServer) -> None:
    store = RedisStore(url)
    with LossyProxy(redis_server.port) as proxy:
        proxy.at(b"bb1", "hold")
        with process("shards", proxy.before(url)) as writer:
            assert line(writer) == "ready"
            assert proxy.met.wait(20)
            kill(writer)
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"aa1", b"bb1", b"cc1"]) == [b"new", None, None]
    store.close()


@pytest.mark.parametrize("step", [b"aa05", b"_commit_staged"])
def test_a_writer_killed_before_a_large_commit_is_applied_leaves_what_expires(url: str, redis_server: RedisServer, step: bytes) -> None:
    store = RedisStore(url)
    with LossyProxy(redis_server.port) as proxy, process("large", proxy.before(url)) as writer:
        assert line(writer) == "ready"
        proxy.at(step, "hold")
        go_on(writer)
        assert proxy.met.wait(20)
        kill(writer)
    with redis_server.client() as client:
        [staged] = client.scan_iter(f"tw:{store._name}:*:staged:*")
        assert 500 < client.ttl(staged) <= 600
    with store.snapshot() as snapshot:
        assert list(snapshot.scan(b"aa")) == []
    store.close()


# --- several writers


def counted(url: str, *shards: str) -> list[int]:
    """Tries of processes that each count 150 times in their shard, side by side."""
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(process("count", url, shard, "150")) for shard in shards]
        for writer in writers:
            assert line(writer) == "ready"
        for writer in writers:
            go_on(writer)
        ends = [line(writer).split() for writer in writers]
    assert [end[0] for end in ends] == ["done"] * len(shards)
    return [int(end[1]) for end in ends]


def test_processes_that_write_different_shards_never_meet(url: str) -> None:
    assert counted(url, "aa", "bb") == [150, 150]
    store = RedisStore(url)
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"aa-first", b"aa-second", b"bb-first", b"bb-second"]) == [b"150"] * 4
    store.close()


def test_processes_that_write_the_same_shard_lose_and_double_nothing(url: str) -> None:
    tries = counted(url, "aa", "aa", "aa")
    assert sum(tries) > 450, "they never met: the test shows nothing"
    store = RedisStore(url)
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"aa-first", b"aa-second"]) == [b"450"] * 2
    store.close()
