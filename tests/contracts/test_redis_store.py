"""What only a store on Redis can meet: conflicts, lost answers, flipped bytes, servers that are not fit, wrong URLs, a cluster."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from lossy_proxy import LossyProxy
from ports import free_port
from redis_server import RedisCluster, RedisServer, why_no_redis

from twofold import fail_points
from twofold.errors import Conflict, Corrupt, DefinitionError, StoreUnavailable
from twofold.settings import Settings
from twofold.store import redis as redis_module
from twofold.store import redis_generations
from twofold.store.base import Store, Transaction, commit
from twofold.store.redis import RedisStore
from twofold.store.servers import LIBRARY, Command

NUMBERS = itertools.count()

Start = Callable[..., RedisServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers that are a test's own."""
    if reason := why_no_redis():
        pytest.skip(reason)
    with ExitStack() as servers:

        def started(*options: str) -> RedisServer:
            return servers.enter_context(RedisServer(tmp_path / f"redis{next(NUMBERS)}", *options))

        yield started


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return f"{redis_server.url}?name=t{next(NUMBERS)}"


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    store = RedisStore(url)
    yield store
    store.close()


@pytest.fixture
def other(url: str) -> Iterator[RedisStore]:
    """As another process has it."""
    store = RedisStore(url)
    yield store
    store.close()


def put(store: Store, **entries: bytes) -> None:
    with store.transaction() as txn:
        for key, value in entries.items():
            txn.put(key.encode(), value)


def got(store: Store, *keys: str) -> list[bytes | None]:
    with store.snapshot() as snapshot:
        return snapshot.multi_get([key.encode() for key in keys])


def once(store: Store, work: Callable[[Transaction], None]) -> None:
    with store.transaction() as txn:
        work(txn)


# --- conflicts


def read_first(txn: Transaction) -> None:
    txn.get(b"aa-not-there")


def scan_first(txn: Transaction) -> None:
    assert list(txn.scan(b"aa-not-there")) == []


def put_first(txn: Transaction) -> None:
    txn.put(b"aa3", b"early")


def delete_first(txn: Transaction) -> None:
    txn.delete(b"aa-not-there")


@pytest.mark.parametrize("touch", [read_first, scan_first, put_first, delete_first])
@pytest.mark.parametrize("is_new", [True, False])
def test_a_commit_since_the_first_touch_of_a_shard_is_a_conflict(
    store: RedisStore, other: RedisStore, touch: Callable[[Transaction], None], is_new: bool
) -> None:
    if not is_new:
        put(store, aa0=b"0")

    def work(txn: Transaction) -> None:
        touch(txn)
        put(other, aa1=b"other")
        txn.put(b"aa2", b"mine")

    with pytest.raises(Conflict, match="shard 6161"):
        once(store, work)
    assert got(store, "aa1", "aa2", "aa3") == [b"other", None, None]


def test_other_shards_and_shards_that_are_only_read_make_no_conflict(store: RedisStore, other: RedisStore) -> None:
    with store.transaction() as txn:
        assert txn.multi_get([b"aa1", b"bb1", b"cc1"]) == [None, None, None]
        put(other, bb1=b"other", cc1=b"other")
        txn.put(b"aa1", b"mine")
    assert got(store, "aa1", "bb1", "cc1") == [b"mine", b"other", b"other"]


@pytest.mark.parametrize("read", [lambda txn: txn.get(b"aa1"), lambda txn: list(txn.scan(b"aa"))])
def test_a_transaction_never_sees_two_moments_of_a_shard(
    store: RedisStore, other: RedisStore, read: Callable[[Transaction], object]
) -> None:
    def work(txn: Transaction) -> None:
        txn.get(b"aa1")
        put(other, aa2=b"other")
        read(txn)

    with pytest.raises(Conflict, match="6161"):
        once(store, work)


def test_shards_are_committed_in_the_order_of_their_first_writes_up_to_the_first_conflict(store: RedisStore, other: RedisStore) -> None:
    def work(txn: Transaction) -> None:
        txn.get(b"aa1")
        for key in (b"cc1", b"dd1", b"bb1", b"aa1", b"cc2"):
            txn.put(key, b"mine")
        put(other, bb1=b"other", zz1=b"other")

    with pytest.raises(Conflict, match=r"shard 6262 .*\(2 shards were committed\)"):
        once(store, work)
    assert got(store, "cc1", "cc2", "dd1", "bb1", "aa1") == [b"mine", b"mine", b"mine", b"other", None]


def test_commit_tries_again_from_the_beginning(store: RedisStore, other: RedisStore) -> None:
    tries = []

    def work(txn: Transaction) -> int:
        count = int(txn.get(b"aa1") or b"0") + 1
        tries.append(count)
        if len(tries) < 3:
            put(other, aa1=b"%d" % (10 * len(tries)))
        txn.put(b"aa1", b"%d" % count)
        return count

    assert commit(store, work) == 21
    assert tries == [1, 11, 21]
    assert got(store, "aa1") == [b"21"]


def test_more_changes_than_fit_on_a_stack_are_one_commit(store: RedisStore) -> None:
    keys = [b"aa%06d" % i for i in range(20_001)]
    with store.transaction() as txn:
        for key in keys:
            txn.put(key, key)
    with store.snapshot() as snapshot:
        assert list(snapshot.scan(b"aa")) == [(key, key) for key in keys]
        assert snapshot.multi_get(keys) == keys
    with store.transaction() as txn:
        for key in keys[:-1]:
            txn.delete(key)
        txn.put(b"aa", b"new")
    with store.snapshot() as snapshot:
        assert list(snapshot.scan(b"aa")) == [(b"aa", b"new"), (keys[-1], keys[-1])]


# --- commits that are too large for one call


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[LossyProxy]:
    with LossyProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: LossyProxy, url: str) -> Iterator[RedisStore]:
    """The store, beyond a proxy that loses what it is told to."""
    store = RedisStore(proxy.before(url), timeout_s=2.0)
    yield store
    store.close()


@pytest.fixture
def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit of more than ten changes is too large for one call."""
    monkeypatch.setattr(redis_module, "_MOST_CHANGES", 10)
    monkeypatch.setattr(redis_module, "_PART", 7)


def entries_of(store: Store, shard: str) -> dict[bytes, bytes]:
    with store.snapshot() as snapshot:
        return dict(snapshot.scan(shard.encode()))


def staged_in(server: RedisServer, store: RedisStore) -> list[int]:
    """Seconds that what is staged lives, to the next minute; -1 for ever."""
    with server.client() as client:
        return [-(-client.ttl(key) // 60) * 60 for key in client.scan_iter(f"tw:{store._name}:*:staged:*")]


TWENTY = {f"aa{i:02}": b"%d" % i for i in range(20)}


@pytest.mark.usefixtures("small_calls")
def test_a_large_commit_is_applied_whole_and_leaves_nothing(store: RedisStore, redis_server: RedisServer) -> None:
    put(store, **TWENTY, bb1=b"small")
    assert entries_of(store, "aa") == {key.encode(): value for key, value in TWENTY.items()}
    with store.transaction() as txn:
        for i in range(1, 20):
            txn.delete(b"aa%02d" % i)
        txn.put(b"aa00", b"other")
        txn.put(b"aa-new", b"new")
    assert entries_of(store, "aa") == {b"aa-new": b"new", b"aa00": b"other"}
    put(store, aa1=b"more")
    put(store, **TWENTY)
    with store.transaction() as txn:
        for key in (*TWENTY, "aa1", "aa-new"):
            txn.delete(key.encode())
    assert entries_of(store, "aa") == {}
    assert staged_in(redis_server, store) == []


def test_a_commit_of_many_bytes_is_large(store: RedisStore, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer) -> None:
    monkeypatch.setattr(redis_module, "_MOST_BYTES", 10_000)
    monkeypatch.setattr(redis_module, "_PART_BYTES", 1000)
    values = {f"aa{i}": bytes([i]) * (3000 if i == 2 else 900) for i in range(12)}
    with redis_server.client() as client:
        client.config_resetstat()
        put(store, **values)
        calls = client.info("commandstats")["cmdstat_fcall"]["calls"]
    assert calls == 1 + 7  # two of 900 bytes fill a call, the one of 3000 alone
    assert entries_of(store, "aa") == {key.encode(): value for key, value in values.items()}


def test_a_commit_that_is_larger_than_the_server_takes_in_one_call(store: RedisStore) -> None:
    count = redis_module._MOST_CHANGES + 1
    with store.transaction() as txn:
        txn.put_many((b"aa%06d" % i, b"") for i in range(count))
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"aa000000", b"aa%06d" % (count - 1), b"aa%06d" % count]) == [b"", b"", None]
        assert [key for key, _ in snapshot.scan(b"aa00000", 3)] == [b"aa000000", b"aa000001", b"aa000002"]


@pytest.mark.usefixtures("small_calls")
def test_a_large_commit_that_comes_too_late_is_a_conflict(store: RedisStore, other: RedisStore, redis_server: RedisServer) -> None:
    def work(txn: Transaction) -> None:
        txn.put_many((key.encode(), value) for key, value in TWENTY.items())
        put(other, aa00=b"other")

    with pytest.raises(Conflict, match="shard 6161"):
        once(store, work)
    assert entries_of(store, "aa") == {b"aa00": b"other"}
    assert staged_in(redis_server, store) == []


def shorter(client: redis.Redis, staged: bytes) -> None:
    client.rpop(staged, 3)


def longer(client: redis.Redis, staged: bytes) -> None:
    client.rpush(staged, b"x")


def gone(client: redis.Redis, staged: bytes) -> None:
    client.delete(staged)


def loses(server: RedisServer, store: RedisStore, lose: Callable[..., None]) -> None:
    with server.client() as client:
        [staged] = client.scan_iter(f"tw:{store._name}:*:staged:*")
        lose(client, staged)


@pytest.mark.usefixtures("small_calls")
@pytest.mark.parametrize("lose", [shorter, longer, gone])
@pytest.mark.parametrize("is_amid", [True, False])
def test_what_a_failover_loses_of_a_large_commit_is_nothing_of_it(
    store: RedisStore,
    far: RedisStore,
    proxy: LossyProxy,
    redis_server: RedisServer,
    lose: Callable[..., None],
    is_amid: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(store, aa00=b"before")
    with monkeypatch.context() as patch:
        if is_amid:
            proxy.at(b"aa05", "lose_answer", lambda: loses(redis_server, store, lose))
        else:
            fault = SimpleNamespace(meet=lambda name: name == "redis.staged" and loses(redis_server, store, lose))
            patch.setattr(fail_points, "_fault", fault)
        with pytest.raises(StoreUnavailable, match="has lost a part of a commit"):
            put(far, **TWENTY)
    assert entries_of(store, "aa") == {b"aa00": b"before"}
    assert staged_in(redis_server, store) == []
    put(far, **TWENTY)
    assert len(entries_of(store, "aa")) == 20


@pytest.mark.usefixtures("small_calls")
@pytest.mark.parametrize("what", ["lose_request", "lose_answer"])
@pytest.mark.parametrize("step", [b"aa05", b"_commit_staged"])
def test_a_large_commit_whose_answer_is_lost_is_applied_once(far: RedisStore, proxy: LossyProxy, step: bytes, what: str) -> None:
    put(far, aa00=b"before")
    proxy.at(step, what)
    put(far, **TWENTY)
    assert proxy.met.is_set()
    assert entries_of(far, "aa") == {key.encode(): value for key, value in TWENTY.items()}


# --- answers and functions that are lost


@pytest.mark.parametrize("what", ["lose_request", "lose_answer"])
def test_a_commit_whose_answer_is_lost_is_applied_once(far: RedisStore, proxy: LossyProxy, other: RedisStore, what: str) -> None:
    put(far, aa1=b"1")
    proxy.at(b"_commit", what)
    put(far, aa1=b"2")
    assert proxy.met.is_set()
    assert got(other, "aa1") == [b"2"]
    put(far, aa1=b"3")
    assert got(other, "aa1") == [b"3"]


def test_a_lost_answer_that_cannot_be_told_any_more_is_no_conflict_and_not_sent_again(
    far: RedisStore, proxy: LossyProxy, other: RedisStore
) -> None:
    put(far, aa1=b"1")
    proxy.at(b"_commit", "lose_answer", lambda: put(other, aa1=b"other"))
    with pytest.raises(StoreUnavailable, match="lost, and another has been made since"):
        put(far, aa1=b"2")
    assert got(other, "aa1") == [b"other"]


def test_a_lost_answer_and_a_server_that_is_gone(start: Start) -> None:
    server = start("--appendonly", "yes", "--appendfsync", "always")
    with LossyProxy(server.port) as proxy:
        far = RedisStore(f"redis://127.0.0.1:{proxy.port}")
        put(far, aa1=b"1")
        proxy.at(b"_commit", "lose_answer", server.kill)
        with pytest.raises(StoreUnavailable, match="whether the last commit was applied is not known"):
            put(far, aa1=b"2")
        server.start()
        assert got(far, "aa1") == [b"2"]
        far.close()


@pytest.mark.parametrize("what", ["lose_request", "lose_answer"])
@pytest.mark.parametrize("step", [b"_announce", b"_publish", b"_condemned"])
def test_a_generation_is_published_where_an_answer_is_lost(
    far: RedisStore, proxy: LossyProxy, other: RedisStore, what: str, step: bytes
) -> None:
    far.write_generation("g", [(b"a", b"old")])
    proxy.at(step, what)
    assert far.write_generation("g", [(b"a", b"new")]) == 1
    assert proxy.met.is_set()
    generation = other.generation("g")
    assert generation is not None
    assert generation.multi_get([b"a"]) == [b"new"]


def test_a_generation_that_may_have_its_name_keeps_its_states(start: Start) -> None:
    server = start("--appendonly", "yes", "--appendfsync", "always")
    with LossyProxy(server.port) as proxy:
        far = RedisStore(proxy.before(server.url))
        proxy.at(b"_publish", "lose_answer", server.kill)
        with pytest.raises(StoreUnavailable, match="see whether it runs"):
            far.write_generation("g", [(b"a", b"state")])
        server.start()
        generation = far.generation("g")
        assert generation is not None
        assert generation.multi_get([b"a", b"b"]) == [b"state", None]
        far.close()


def test_a_read_whose_answer_is_lost_is_read_again(far: RedisStore, proxy: LossyProxy) -> None:
    put(far, aa1=b"1")
    for what, word in itertools.product(["lose_request", "lose_answer"], [b"HMGET", b"_scan"]):
        proxy.at(word, what)
        with far.snapshot() as snapshot:
            assert snapshot.get(b"aa1") == b"1"
            assert list(snapshot.scan(b"aa")) == [(b"aa1", b"1")]
        assert proxy.met.is_set()


def test_functions_that_are_gone_are_loaded_again(store: RedisStore, start: Start) -> None:
    server = start()
    mine = RedisStore(server.url)
    put(mine, aa1=b"1")
    with server.client() as client:
        client.function_flush()
        put(mine, aa1=b"2")
        client.function_flush()
        with mine.snapshot() as snapshot:
            assert list(snapshot.scan(b"aa")) == [(b"aa1", b"2")]
        client.function_flush()
        assert mine.write_generation("g", [(b"a", b"1")]) == 1
        assert [library[1].decode() for library in client.function_list()] == [LIBRARY]
    mine.close()


def test_an_emptied_server_is_an_empty_store(start: Start) -> None:
    server = start()
    store = RedisStore(server.url)
    put(store, aa1=b"1")
    store.write_generation("g", [(b"a", b"1")])
    generation = store.generation("g")
    assert generation is not None

    def work(txn: Transaction) -> None:
        assert txn.get(b"aa1") == b"1"
        with server.client() as client:
            client.flushall()
        txn.put(b"aa1", b"2")

    with pytest.raises(Conflict):
        once(store, work)
    with store.snapshot() as snapshot:
        assert snapshot.get(b"aa1") is None
        assert list(snapshot.scan(b"aa")) == []
    assert store.generations() == []
    assert store.generation("g") is None
    with pytest.raises(StoreUnavailable, match="not in store"):
        generation.multi_get([b"a"])
    put(store, aa1=b"3")
    store.write_generation("g", [(b"a", b"2")])
    assert got(store, "aa1") == [b"3"]
    store.close()


# --- bytes that flip


def test_a_flipped_byte_is_noticed(store: RedisStore, redis_server: RedisServer) -> None:
    put(store, aa1=b"value", aa2=b"other")
    entries = store.shard(b"aa").entries
    with redis_server.client() as client:
        record = client.hget(entries, "aa1")
        for place in range(len(record)):
            client.hset(entries, "aa1", record[:place] + bytes([record[place] ^ 4]) + record[place + 1 :])
            with store.snapshot() as snapshot, pytest.raises(Corrupt, match="616131"):
                snapshot.multi_get([b"aa2", b"aa1"])
        with store.snapshot() as snapshot, pytest.raises(Corrupt):
            list(snapshot.scan(b"aa"))
        with store.transaction() as txn, pytest.raises(Corrupt):
            txn.get(b"aa1")
        client.hset(entries, "aa1", client.hget(entries, "aa2"))
        with store.snapshot() as snapshot, pytest.raises(Corrupt):
            snapshot.get(b"aa1")
        client.hdel(entries, "aa1")
        with store.snapshot() as snapshot, pytest.raises(Corrupt, match="no entry"):
            list(snapshot.scan(b"aa"))


def test_a_flipped_byte_of_a_generation_is_noticed(store: RedisStore, redis_server: RedisServer) -> None:
    store.write_generation("g", [(b"a", b"state")])
    generation = store.generation("g")
    assert generation is not None
    with redis_server.client() as client:
        [bucket] = [key for key in buckets(store, redis_server) if client.hexists(key, b"a")]
        client.hset(bucket, b"a", b"stXte" + client.hget(bucket, b"a")[5:])
        with pytest.raises(Corrupt):
            generation.multi_get([b"a"])
        names = f"tw:{store._name}:{{{store._name}}}:generations"
        record = client.hget(names, "g")
        for place in range(len(record)):
            client.hset(names, "g", record[:place] + bytes([record[place] ^ 1]) + record[place + 1 :])
            with pytest.raises(Corrupt):
                store.generation("g")


# --- generations


def buckets(store: RedisStore, server: RedisServer) -> list[bytes]:
    with server.client() as client:
        return sorted(client.scan_iter(f"tw:{store._name}:*:states"))


def lives(store: RedisStore, server: RedisServer) -> set[int]:
    """Seconds that the buckets of generations live, to the next minute; -1 for ever."""
    with server.client() as client:
        return {-1 if (left := client.ttl(key)) == -1 else -(-left // 60) * 60 for key in buckets(store, server)}


@pytest.mark.parametrize("count", [10, 3000])
def test_buckets_stay_while_published_and_expire_afterwards(store: RedisStore, redis_server: RedisServer, count: int) -> None:
    states = [(b"%06d" % i, b"state %d" % i) for i in range(count)]
    assert store.write_generation("g", states) == count
    assert lives(store, redis_server) == {-1}
    early, before = store.generation("g"), buckets(store, redis_server)
    assert early is not None
    assert len(before) == (8 if count == 10 else 1024)
    store.write_generation("g", states[1:])
    assert len(buckets(store, redis_server)) == 2 * len(before)
    assert lives(store, redis_server) == {-1, 600}
    assert early.multi_get([b"000000", b"000009"]) == [b"state 0", b"state 9"]
    store.drop_generation("g")
    assert lives(store, redis_server) == {600}
    assert early.multi_get([b"000000", b"000009"]) == [b"state 0", b"state 9"]
    with redis_server.client() as client:
        assert client.hlen(f"tw:{store._name}:{{{store._name}}}:loose") == 0


def test_a_part_that_is_gone_is_never_read_as_empty(store: RedisStore, redis_server: RedisServer) -> None:
    store.write_generation("g", [(b"%03d" % i, b"s") for i in range(100)])
    generation = store.generation("g")
    assert generation is not None
    with redis_server.client() as client:
        client.delete(buckets(store, redis_server)[0])
    seen: list[bytes | None] = []
    for i in range(200):
        try:
            seen += generation.multi_get([b"%03d" % i])
        except StoreUnavailable:
            seen.append(b"gone")
    assert seen.count(b"s") + seen[:100].count(b"gone") == 100
    assert seen.count(b"gone") > 10


def test_a_generation_that_loses_states_while_it_is_written_is_not_published(store: RedisStore, redis_server: RedisServer) -> None:
    def states() -> Iterator[tuple[bytes, bytes]]:
        for i in range(30_000):
            if i == 25_000:
                with redis_server.client() as client:
                    client.delete(buckets(store, redis_server)[0])
            yield b"%06d" % i, b"state"

    with pytest.raises(StoreUnavailable, match="has lost states"):
        store.write_generation("g", states())
    assert store.generations() == []
    assert buckets(store, redis_server) == []


def test_a_bucket_that_was_just_made_when_its_writer_was_killed_is_let_go_of(
    store: RedisStore, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, is_dead = store._servers.ask, False

    def ask(commands: Sequence[Command], is_repeatable: bool = False) -> list[Any]:
        nonlocal is_dead
        if is_dead or len(commands) > 1:
            answers = [] if is_dead else real(commands[:1])
            is_dead = True
            raise KeyboardInterrupt(answers)
        return real(commands, is_repeatable)

    with monkeypatch.context() as patch:
        patch.setattr(store._servers, "ask", ask)
        with pytest.raises(KeyboardInterrupt):
            store.write_generation("g", [(b"a", b"1"), (b"b", b"2")])
    assert lives(store, redis_server) == {-1}
    with redis_server.client() as client:
        loose = f"tw:{store._name}:{{{store._name}}}:loose"
        for record in client.hkeys(loose):
            client.hset(loose, record, 0)  # as if its time were over
    store.drop_generation("there is none")
    assert lives(store, redis_server) == {600}


def test_a_writer_that_counts_as_dead_writes_no_more(store: RedisStore, redis_server: RedisServer) -> None:
    def states() -> Iterator[tuple[bytes, bytes]]:
        for i in range(30_000):
            if i == 25_000:
                with redis_server.client() as client:
                    [record] = client.hkeys(loose)
                    client.hset(loose, record, 0)
                store.drop_generation("there is none")
            yield b"%06d" % i, b"state"

    loose = f"tw:{store._name}:{{{store._name}}}:loose"
    with pytest.raises(StoreUnavailable, match="write it again"):
        store.write_generation("g", states())
    assert (store.generations(), buckets(store, redis_server)) == ([], [])
    with redis_server.client() as client:
        assert client.hlen(loose) == 0


def test_a_writer_that_counts_as_dead_does_not_publish(
    store: RedisStore, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = redis_generations._Place(store._name, os.urandom(16), 2)
    record = place.record
    store._servers.call("announce", store._generations._keys, (record, 0))
    with redis_server.client() as client:
        for bucket in place.buckets:
            client.hset(bucket, "a", "1")
        store.write_generation("other", [])
        with pytest.raises(StoreUnavailable, match="write it again"):
            store._generations._publish("g", record)
        assert store.generations() == ["other"]
        assert {client.ttl(bucket) for bucket in place.buckets} <= {599, 600}


# --- servers that are not fit, or not there


def refusal(url: str, timeout_s: float = 5.0) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        RedisStore(url, timeout_s)
    return str(caught.value)


def test_an_evicting_server_is_refused(start: Start) -> None:
    server = start("--maxmemory-policy", "allkeys-lru")
    assert "maxmemory-policy allkeys-lru" in refusal(server.url)


def test_a_full_server_changes_nothing_and_says_so(start: Start) -> None:
    server = start()
    store = RedisStore(server.url)
    put(store, aa1=b"1", aa2=b"2")
    store.write_generation("old", [(b"a", b"1")])
    with server.client() as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailable, match="memory is full"):
            put(store, aa1=b"2")
        with pytest.raises(StoreUnavailable, match="memory is full"):
            store.write_generation("g", [(b"a", b"1")])
        assert got(store, "aa1", "aa2") == [b"1", b"2"]
        with store.transaction() as txn:  # what frees memory works
            assert list(txn.scan(b"aa2")) == [(b"aa2", b"2")]
            txn.delete(b"aa2")
        store.drop_generation("old")
        assert got(store, "aa1", "aa2") == [b"1", None]
        assert store.generations() == []
        client.config_set("maxmemory", "0")
    put(store, aa1=b"3")
    assert got(store, "aa1") == [b"3"]
    store.close()


def test_passwords_and_permissions(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start("--requirepass", "secret")
    host = f"127.0.0.1:{server.port}"
    for wrong in (f"redis://{host}", f"redis://:wrong@{host}"):
        text = refusal(wrong)
        assert "user and password" in text
        assert "wrong@" not in text
    RedisStore(f"redis://:secret@{host}").close()
    store = RedisStore(f"redis://:secret@{host}")
    store._servers._client.execute_command("ACL", "SETUSER", "ann", "on", ">pw", "~tw:*", "+@all", "-info", "-function")
    ann = RedisStore(f"redis://ann:pw@{host}?name=ann")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    put(ann, aa1=b"1")
    assert got(ann, "aa1") == [b"1"]
    store._servers._client.execute_command("ACL", "SETUSER", "ann", "-hmget")
    with pytest.raises(StoreUnavailable, match="give its user the commands"):
        got(ann, "aa1")
    store._servers._client.close()
    ann.close()
    store.close()


def test_a_replica_is_refused(start: Start) -> None:
    primary = start()
    replica = start("--replicaof", "127.0.0.1", str(primary.port))
    assert "name the primary" in refusal(replica.url)
    store = RedisStore(primary.url)
    put(store, aa1=b"1")
    with primary.client() as client:
        client.replicaof("127.0.0.1", replica.port)
    with pytest.raises(StoreUnavailable, match=r"primary|MASTERDOWN"):
        put(store, aa1=b"2")
    store.close()


def test_a_server_that_is_not_there_or_hangs(start: Start) -> None:
    server = start()
    store = RedisStore(server.url, timeout_s=0.2)
    put(store, aa1=b"1")
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        early = RedisStore(server.url, timeout_s=0.2)
        for call in (lambda: got(store, "aa1"), lambda: put(store, aa2=b"1"), store.generations, early.generations):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                call()
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert got(store, "aa1") == got(early, "aa1") == [b"1"]
    server.kill()
    late = RedisStore(server.url)
    for call in (lambda: got(store, "aa1"), lambda: put(store, aa2=b"1"), store.generations, late.generations):
        with pytest.raises(StoreUnavailable, match="see whether it runs"):
            call()
    server.start()
    put(late, aa1=b"2")
    assert got(store, "aa1") == [b"2"]
    for opened in (store, early, late):
        opened.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """A cluster of a test's own: three primaries, a replica each."""
    if reason := why_no_redis():
        pytest.skip(reason)
    with RedisCluster(tmp_path / "cluster", replicas=1) as cluster:
        yield cluster


SHARDS = ("aa", "bb", "cc", "dd", "ee", "ff")


def of_all_shards(store: Store) -> list[bytes | None]:
    return got(store, *(shard + "1" for shard in SHARDS))


def until_it_is_done(what: Callable[[], object]) -> None:
    """A cluster takes its time to agree."""
    deadline = time.monotonic() + 60
    while True:
        try:
            what()
            return
        except StoreUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_cluster_that_comes_later(cluster: RedisCluster) -> None:
    cluster.kill()
    store = RedisStore(f"redis+cluster://127.0.0.1:{cluster.port}")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="see whether it runs"):
            put(store, aa1=b"1")
    cluster.start()
    until_it_is_done(lambda: put(store, aa1=b"1"))
    assert got(store, "aa1") == [b"1"]
    cluster.kill()
    with pytest.raises(StoreUnavailable, match="see whether it runs"):
        got(store, "aa1")
    store.close()


def test_a_replica_takes_over_from_a_primary_that_was_killed(cluster: RedisCluster) -> None:
    with contextlib.closing(RedisStore(f"redis+cluster://127.0.0.1:{cluster.port}")) as store:
        for shard in SHARDS:
            put(store, **{shard + "1": b"before"})
        assert {node.ask("DBSIZE") > 0 for node in cluster.primaries} == {True}, "the shards do not lie on all primaries"
        cluster.wait_until(lambda node: node.ask("INFO")["role"] == "slave" or node.ask("WAIT", 1, 10_000) == 1)
        cluster.primaries[0].kill()
        until_it_is_done(lambda: [put(store, **{shard + "2": b"after"}) for shard in SHARDS])
        assert of_all_shards(store) == [b"before"] * len(SHARDS)
        assert got(store, *(shard + "2" for shard in SHARDS)) == [b"after"] * len(SHARDS)


def test_a_slot_that_moves_to_another_server(cluster: RedisCluster) -> None:
    """As resharding does it: key by key. What lies on both servers for a moment is told to be tried again, and nothing is lost."""
    with contextlib.closing(RedisStore(f"redis+cluster://127.0.0.1:{cluster.port}")) as store:
        put(store, aa1=b"1", aa2=b"2")
        keys = store.shard(b"aa").keys
        slot = cluster.nodes[0].ask("CLUSTER KEYSLOT", keys[0])
        [old] = [node for node in cluster.primaries if node.ask("CLUSTER COUNTKEYSINSLOT", slot)]
        new = next(node for node in cluster.primaries if node is not old)
        old_id, new_id = old.ask("CLUSTER MYID"), new.ask("CLUSTER MYID")
        new.ask("CLUSTER SETSLOT", slot, "IMPORTING", old_id)
        old.ask("CLUSTER SETSLOT", slot, "MIGRATING", new_id)
        assert got(store, "aa1", "aa2") == [b"1", b"2"]
        put(store, aa1=b"1b")
        old.ask("MIGRATE", "127.0.0.1", new.port, keys[0], 0, 5000)
        assert got(store, "aa1", "aa2") == [b"1b", b"2"]
        with pytest.raises(StoreUnavailable, match="try again"):
            put(store, aa1=b"1c")
        old.ask("MIGRATE", "127.0.0.1", new.port, keys[1], 0, 5000)
        put(store, aa1=b"1d")
        for node in (new, old):
            node.ask("CLUSTER SETSLOT", slot, "NODE", new_id)
        put(store, aa2=b"2b")
        assert got(store, "aa1", "aa2") == [b"1d", b"2b"]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://localhost", "begins with 'http'|begins with http"),
        ("redis://localhost?name=a b", "1 to 100 letters"),
        ("redis://localhost?name={x}", "1 to 100 letters"),
        ("redis://localhost?name=", "1 to 100 letters"),
        ("redis://localhost?nmae=x", "nmae"),
        ("redis://localhost:port", "options|port"),
    ],
)
def test_a_url_that_means_nothing(url: str, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        RedisStore(url)


def test_settings_know_the_stores_there_are(tmp_path: Path) -> None:
    for store in ("lmdb:", "redis://h", "rediss://h", "unix:///tmp/s", "redis+cluster://h"):
        assert Settings(tmp_path, store=store).store == store
    for store in ("redis:", "postgres://h", "lmdb", ""):
        with pytest.raises(DefinitionError, match=r"it is 'lmdb:', or 'redis://host:port/db\?name="):
            Settings(tmp_path, store=store)


def test_a_socket_in_the_file_system(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    start("--unixsocket", str(path))
    store = RedisStore(f"unix://{path}?db=3&name=x")
    put(store, aa1=b"1")
    assert got(store, "aa1") == [b"1"]
    store.close()


def test_an_encrypted_connection_to_a_server_that_is_who_it_says(start: Start, tmp_path: Path) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("there is no openssl to make a certificate (on Debian: apt install openssl)")
    names, key, certificate = "/CN=localhost", tmp_path / "key", tmp_path / "certificate"
    command = [openssl, "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", names, "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    port = free_port()
    files = ("--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate)
    start("--tls-port", str(port), *map(str, files), "--tls-auth-clients", "no")
    with contextlib.closing(RedisStore(f"rediss://localhost:{port}?name=x&ssl_ca_certs={certificate}")) as store:
        put(store, aa1=b"1")
        assert got(store, "aa1") == [b"1"]
    for url in (f"rediss://localhost:{port}", f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}&ssl_check_hostname=true"):
        with contextlib.closing(RedisStore(url)) as store, pytest.raises(StoreUnavailable, match="certificate verify failed"):
            got(store, "aa1")


def test_stores_of_other_names_are_apart(redis_server: RedisServer, store: RedisStore) -> None:
    stranger = RedisStore(f"{redis_server.url}?name={store._name}x")
    put(store, aa1=b"1")
    store.write_generation("g", [])
    assert got(stranger, "aa1") == [None]
    assert stranger.generations() == []
    stranger.close()


def test_a_forked_child_is_refused_and_its_parent_goes_on(store: RedisStore) -> None:
    put(store, aa1=b"1")
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        try:
            got(store, "aa1")
            os.write(theirs, b"no error")
        except StoreUnavailable as error:
            os.write(theirs, str(error).encode())
        finally:
            store.close()
            os._exit(0)
    os.waitpid(child, 0)
    assert b"before this process was forked" in os.read(ours, 1000)
    os.close(ours)
    os.close(theirs)
    assert got(store, "aa1") == [b"1"]
