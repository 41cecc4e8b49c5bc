"""One suite for every store: what the protocol promises, checked on each implementation, and a random walk against dictionaries."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis_server import RedisServer

from twofold.errors import DataError, StoreUnavailable
from twofold.store import records
from twofold.store.base import SHARD_BYTES, Store, Transaction, commit
from twofold.store.lmdb import LmdbStore
from twofold.store.memory import MemoryStore
from twofold.store.redis import RedisStore

EMBEDDED: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(timeout_s=0.2),
    "lmdb": lambda path: LmdbStore(path, timeout_s=0.2),
}
"""They promise more: one moment of all shards for a snapshot, all shards committed as one, turns of writers, scans of any prefix."""

A, B, LONG = b"a" * 479, b"b" * 2000, b"\x00" * 600
ODD_KEYS = [
    b"",
    b"\x00",
    b"\x00\x00",
    b"\x00a",
    b"a\x00",
    b"\xff",
    b"\xff\xff",
    LONG,
    LONG + b"\x00",
    b"\x00" * 510,
    b"\x00" * 511,
    b"\x00" * 512,
    A[:-1],
    A,
    A + b"\x00",
    A + b"\x00" * 31,
    A + b"\x7f" * 32,
    A + b"\x7f" * 33,
    A + b"\xff",
    A + b"\xff" * 30,
    A + b"\xff" * 31,
    A + b"\xff" * 32,
    A + b"\xff" * 33,
    B,
    B + b"1",
    b"\xff" * 510,
    b"\xff" * 511,
    b"\xff" * 5000,
]


ON_SERVERS = {"redis": ("redis_server", "redis"), "redis cluster": ("redis_cluster", "redis+cluster")}
"""Name -> fixture of the server, scheme of the URL."""


def opened(kind: str, path: Path, server: Callable[[str], RedisServer]) -> Store:
    """The store that belongs to a folder; the same one again for the same folder."""
    if kind in EMBEDDED:
        return EMBEDDED[kind](path)
    fixture, scheme = ON_SERVERS[kind]
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return RedisStore(f"{scheme}://127.0.0.1:{server(fixture).port}?name={name}")


@pytest.fixture(params=[*EMBEDDED, *ON_SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = opened(request.param, tmp_path / "store", request.getfixturevalue)
    yield store
    store.close()


@pytest.fixture(params=EMBEDDED)
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = EMBEDDED[request.param](tmp_path / "store")
    yield store
    store.close()


@pytest.fixture
def head(store: Store) -> bytes:
    """What the keys of a test begin with that scans them: stores on servers scan within a shard."""
    return b"sh" if store.has_many_writers else b""


def put(store: Store, **entries: bytes) -> None:
    with store.transaction() as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)


def content(store: Store) -> dict[bytes, bytes]:
    with store.snapshot() as snapshot:
        if not isinstance(store, RedisStore):
            return dict(snapshot.scan(b""))
        found: dict[bytes, bytes] = {}
        for shard in shards_of(store):
            if len(shard) == SHARD_BYTES:
                found |= dict(snapshot.scan(shard))
            elif (value := snapshot.get(shard)) is not None:
                found[shard] = value
        return found


def shards_of(store: RedisStore) -> list[bytes]:
    """Every shard that has ever been written to."""
    place = f"tw:{store._name}:{{{store._name}/"
    kind = redis.RedisCluster if "+cluster" in store.url else redis.Redis
    with contextlib.closing(kind.from_url(store.url.replace("+cluster", "").partition("?")[0])) as client:
        names = [name.decode() for name in client.scan_iter(f"{place}*:entries")]
    return [bytes.fromhex(name.removeprefix(place).removesuffix("}:entries")) for name in names]


def states_of(store: Store, name: str, keys: list[bytes]) -> list[bytes | None] | None:
    generation = store.generation(name)
    if generation is None:
        return None
    try:
        return generation.multi_get(keys)
    finally:
        generation.close()


# --- entries


def test_what_is_not_there_is_none(store: Store) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.get(b"a") is None
        assert snapshot.multi_get([b"a", b"", LONG]) == [None, None, None]
        assert snapshot.multi_get([]) == []
        assert list(snapshot.scan(b"sh")) == []
    assert content(store) == {}


def test_values_come_in_the_order_of_the_keys_asked_for(store: Store) -> None:
    put(store, a=b"1", b=b"", c=bytes(100_000))
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"c", b"x", b"a", b"b", b"a"]) == [bytes(100_000), None, b"1", b"", b"1"]
        assert snapshot.get(b"b") == b""


def test_values_outlive_their_snapshot(store: Store) -> None:
    put(store, a=b"x" * 5000)
    with store.snapshot() as snapshot:
        [value] = snapshot.multi_get([b"a"])
    put(store, a=b"y" * 5000)
    assert type(value) is bytes
    assert value == b"x" * 5000


def test_a_transaction_that_raises_changes_nothing(store: Store) -> None:
    put(store, a=b"1", b=b"2")

    def fail_midway() -> None:
        with store.transaction() as transaction:
            transaction.put(b"a", b"new")
            transaction.put(b"c", b"new")
            transaction.delete(b"b")
            raise KeyError

    with pytest.raises(KeyError):
        fail_midway()
    assert content(store) == {b"a": b"1", b"b": b"2"}
    put(store, c=b"3")
    assert content(store) == {b"a": b"1", b"b": b"2", b"c": b"3"}


def test_a_transaction_reads_its_own_writes(store: Store, head: bytes) -> None:
    a, aa, ab, ac, b = (head + key for key in (b"a", b"aa", b"ab", b"ac", b"b"))
    with store.transaction() as transaction:
        for key, value in ((a, b"1"), (b, b"2"), (ab, b"3"), (ac, b"4")):
            transaction.put(key, value)
    with store.transaction() as transaction:
        transaction.put(a, b"new")
        transaction.put(aa, b"more")
        transaction.delete(ab)
        transaction.delete(head + b"absent")
        assert transaction.get(a) == b"new"
        assert transaction.multi_get([aa, ab, b]) == [b"more", None, b"2"]
        assert list(transaction.scan(a)) == [(a, b"new"), (aa, b"more"), (ac, b"4")]
        assert list(transaction.scan(a, 3)) == [(a, b"new"), (aa, b"more"), (ac, b"4")]
        assert list(transaction.scan(a, 2)) == [(a, b"new"), (aa, b"more")]
        assert list(transaction.scan(a, 0)) == []
        transaction.delete(a)
        assert list(transaction.scan(a, 2)) == [(aa, b"more"), (ac, b"4")]
        transaction.put(a, b"new")
    assert content(store) == {a: b"new", aa: b"more", ac: b"4", b: b"2"}


def test_a_scan_of_a_transaction_is_not_disturbed_by_its_writes(store: Store, head: bytes) -> None:
    a = head + b"a"
    with store.transaction() as transaction:
        for key in (a + b"1", a + b"2", a + b"3", head + b"b"):
            transaction.put(key, b"")
    seen = []
    with store.transaction() as transaction:
        for key, _ in transaction.scan(a):
            seen.append(key)
            transaction.delete(a + b"2")
            transaction.delete(key)
            transaction.put(a + b"4" + key, b"")
    assert seen == [a + b"1", a + b"2", a + b"3"]
    assert sorted(content(store)) == [a + b"4" + a + b"1", a + b"4" + a + b"2", a + b"4" + a + b"3", head + b"b"]


@pytest.mark.parametrize("shard", [b"sh", b"\x00\x00", b"\xff\xff", b"\x61\xff"])
def test_a_scan_gives_a_prefix_in_the_order_of_keys(store: Store, head: bytes, shard: bytes) -> None:
    head = head and shard
    keys = [head + key for key in (b"a", b"b", b"ba", b"bb\x00", b"bb", b"b\xff", b"c", b"\xff", b"\xff\xff")]
    with store.transaction() as transaction:
        for key in keys:
            transaction.put(key, key)
    with store.snapshot() as snapshot:
        assert [key for key, _ in snapshot.scan(head + b"b")] == [head + key for key in (b"b", b"ba", b"bb", b"bb\x00", b"b\xff")]
        assert [key for key, _ in snapshot.scan(head + b"b", 2)] == [head + b"b", head + b"ba"]
        assert [key for key, _ in snapshot.scan(head + b"\xff")] == [head + b"\xff", head + b"\xff\xff"]
        assert list(snapshot.scan(head + b"d")) == []
        assert list(snapshot.scan(head + b"b", 0)) == []
        assert [key for key, _ in snapshot.scan(head)] == sorted(keys)


def test_odd_keys_are_keys_like_others(store: Store) -> None:
    with store.transaction() as transaction:
        for key in ODD_KEYS:
            transaction.put(key, b"of " + key)
    with store.snapshot() as snapshot:
        assert snapshot.multi_get(ODD_KEYS) == [b"of " + key for key in ODD_KEYS]
        for prefix in [b"", *ODD_KEYS, A + b"\x7f", b"\x00" * 550, b"b" * 1999]:
            if store.has_many_writers and len(prefix) < SHARD_BYTES:
                with pytest.raises(DataError, match="bytes of a shard"):
                    snapshot.scan(prefix)
                continue
            assert list(snapshot.scan(prefix)) == [(k, b"of " + k) for k in sorted(ODD_KEYS) if k.startswith(prefix)]
    with store.transaction() as transaction:
        for key in ODD_KEYS[::2]:
            transaction.delete(key)
    assert content(store) == {key: b"of " + key for key in ODD_KEYS[1::2]}


def test_a_key_is_never_taken_for_another_that_shares_its_slot(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Weak:
        def __init__(self, _: bytes) -> None: ...

        def digest(self) -> bytes:
            return bytes(32)

    monkeypatch.setattr(records, "sha256", Weak)
    one, other = A + b"1" * 100, A + b"2" * 100
    with store.transaction() as transaction:
        transaction.put(one, b"one")
        assert transaction.get(other) is None
        transaction.delete(other)
        assert transaction.get(one) == b"one"
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([other, one]) == [None, b"one"]
    if isinstance(store, LmdbStore):
        with pytest.raises(DataError, match="share the slot"), store.transaction() as transaction:
            transaction.put(other, b"other")
        with pytest.raises(DataError, match="share the slot"):
            store.write_generation("g", [(one, b"one"), (other, b"other")])
        assert content(store) == {one: b"one"}


def test_snapshots_share_a_version_only_where_they_show_the_same_entries(store: Store) -> None:
    seen = set()
    for value in (b"1", b"2", b"1", None):
        with store.transaction() as transaction:
            assert transaction.version is None
            transaction.delete(b"a") if value is None else transaction.put(b"a", value)
        for _ in range(2):
            with store.snapshot() as snapshot:
                seen.add((snapshot.version, snapshot.get(b"a"), value))
    versions = [version for version, _, _ in seen]
    assert all(found == value for _, found, value in seen)
    assert versions == [None] * 3 if store.has_many_writers else len(set(versions)) == len(versions) == 4


def test_a_snapshot_keeps_its_version_while_others_commit(embedded: Store) -> None:
    put(embedded, a=b"1")
    with embedded.snapshot() as before:
        version = before.version
        put(embedded, a=b"2")
        with embedded.snapshot() as after:
            assert before.version == version != after.version
            assert [before.get(b"a"), after.get(b"a")] == [b"1", b"2"]


def test_a_snapshot_does_not_see_later_commits(embedded: Store) -> None:
    store = embedded
    put(store, a=b"1", b=b"2")
    with store.snapshot() as early:
        put(store, a=b"new", c=b"3")
        with store.snapshot() as late, store.transaction() as transaction:
            transaction.delete(b"a")
            transaction.put(b"b", b"uncommitted")
            assert early.multi_get([b"a", b"b", b"c"]) == [b"1", b"2", None]
            assert late.multi_get([b"a", b"b", b"c"]) == [b"new", b"2", b"3"]
        assert list(early.scan(b"")) == [(b"a", b"1"), (b"b", b"2")]
    assert content(store) == {b"b": b"uncommitted", b"c": b"3"}


def test_nothing_is_read_from_or_written_to_what_has_ended(store: Store) -> None:
    put(store, a=b"1")
    with store.snapshot() as snapshot:
        pass
    with store.transaction() as transaction:
        pass
    for ended in (snapshot, transaction):
        with pytest.raises(StoreUnavailable, match="ended"):
            ended.get(b"a")
        with pytest.raises(StoreUnavailable, match="ended"):
            ended.multi_get([b"a"])
        with pytest.raises(StoreUnavailable, match="ended"):
            list(ended.scan(b""))
    with pytest.raises(StoreUnavailable, match="ended"):
        transaction.put(b"a", b"2")
    with pytest.raises(StoreUnavailable, match="ended"):
        transaction.delete(b"a")
    assert content(store) == {b"a": b"1"}


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    for call in (store.snapshot, store.transaction, store.generations, lambda: store.generation("g"), lambda: store.drop_generation("g")):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.write_generation("g", [])


def test_what_many_threads_commit_is_neither_lost_nor_doubled(store: Store) -> None:
    patient = LmdbStore(store._path) if isinstance(store, LmdbStore) else MemoryStore() if isinstance(store, MemoryStore) else None
    shared = patient or store

    def increment(transaction: Transaction) -> None:
        for key in (b"one", b"two"):
            transaction.put(key, b"%d" % (int(transaction.get(key) or b"0") + 1))

    def increments() -> None:
        for _ in range(20):
            commit(shared, increment)

    threads = [threading.Thread(target=increments) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = content(shared)
    one, two = int(found[b"one"]), int(found[b"two"])
    assert one >= 80  # shards of servers are committed one after the other: where the second conflicts, the first is committed again
    assert two == 80
    if not shared.has_many_writers:
        assert one == 80
    if patient is not None:
        patient.close()


# --- turns


def test_threads_take_turns(embedded: Store) -> None:
    store = embedded

    def increment() -> None:
        for _ in range(20):
            with store.transaction() as transaction:
                count = int(transaction.get(b"n") or b"0")
                transaction.put(b"n", b"%d" % (count + 1))

    patient = LmdbStore(store._path) if isinstance(store, LmdbStore) else None  # shares the environment, not the locks
    store = patient or MemoryStore()
    threads = [threading.Thread(target=increment) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(store) == {b"n": b"80"}
    store.close()


def test_a_writer_waits_no_longer_than_the_timeout_and_learns_whom_for(embedded: Store) -> None:
    store = embedded
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with store.transaction() as transaction:
            transaction.put(b"a", b"held")
            entered.set()
            leave.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait()
    try:
        with pytest.raises(StoreUnavailable, match=rf"process {os.getpid()}\b"), store.transaction():
            pass
        assert content(store) == {}
    finally:
        leave.set()
        holder.join()
    put(store, b=b"1")
    assert content(store) == {b"a": b"held", b"b": b"1"}


def test_a_transaction_inside_another_of_the_thread_is_refused(embedded: Store) -> None:
    store = embedded
    with store.transaction() as outer:
        outer.put(b"a", b"1")
        with pytest.raises(StoreUnavailable, match="inside a transaction already"), store.transaction():
            pass
    assert content(store) == {b"a": b"1"}


# --- generations


def test_a_generation_holds_what_was_written(store: Store) -> None:
    states = [(b"%06d" % i, b"state %d " % i * (i % 50)) for i in range(3000)]
    assert store.write_generation("g", iter(states)) == 3000
    assert store.generations() == ["g"]
    keys = [b"002999", b"x", b"000000", b"001234"]
    assert states_of(store, "g", keys) == [dict(states).get(key) for key in keys]
    assert content(store) == {}


def test_a_generation_of_odd_keys(store: Store) -> None:
    keys = sorted(ODD_KEYS)
    assert store.write_generation("g", [(key, b"of " + key) for key in keys]) == len(keys)
    assert states_of(store, "g", [*keys, b"\x01", LONG + b"\x01"]) == [*(b"of " + key for key in keys), None, None]


def test_a_generation_grows_beyond_its_first_map(store: Store) -> None:
    size = 100 if isinstance(store, LmdbStore) else 2
    assert store.write_generation("g", ((b"%04d" % i, bytes([i]) * 1_000_000) for i in range(size))) == size
    assert states_of(store, "g", [b"%04d" % (size - 1)]) == [bytes([size - 1]) * 1_000_000]


def test_an_empty_generation_is_one(store: Store) -> None:
    assert store.write_generation("g", []) == 0
    assert store.generations() == ["g"]
    assert states_of(store, "g", [b"", b"a"]) == [None, None]


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"], [b"a", b""], [A + b"2" * 99, A + b"1" * 99], [b"", b""]])
def test_unsorted_states_are_refused(store: Store, keys: list[bytes]) -> None:
    store.write_generation("g", [(b"a", b"old")])
    with pytest.raises(DataError, match="ascending"):
        store.write_generation("g", [(key, b"new") for key in keys])
    assert states_of(store, "g", [b"a"]) == [b"old"]
    with pytest.raises(DataError, match="ascending"):
        store.write_generation("other", [(key, b"new") for key in keys])
    assert store.generations() == ["g"]


def test_a_generation_is_visible_whole_or_not_at_all(store: Store) -> None:
    def states(fails: bool) -> Iterator[tuple[bytes, bytes]]:
        for i in range(30):
            assert store.generation("g") is None
            assert store.generations() == []
            yield b"%04d" % i, bytes(1_000_000)
        if fails:
            raise KeyError("the source of the states")

    with pytest.raises(KeyError):
        store.write_generation("g", states(fails=True))
    assert store.generations() == []
    assert store.generation("g") is None
    assert store.write_generation("g", states(fails=False)) == 30
    assert store.generations() == ["g"]


def test_a_replaced_generation_keeps_its_open_readers(store: Store) -> None:
    store.write_generation("g", [(b"a", b"old"), (b"b", b"old")])
    early = store.generation("g")
    assert early is not None
    store.write_generation("g", [(b"b", b"new"), (b"c", b"new")])
    assert early.multi_get([b"a", b"b", b"c"]) == [b"old", b"old", None]
    assert states_of(store, "g", [b"a", b"b", b"c"]) == [None, b"new", b"new"]
    assert early.multi_get([b"a", b"b", b"c"]) == [b"old", b"old", None]
    early.close()


def test_a_dropped_generation_keeps_its_open_readers(store: Store) -> None:
    store.write_generation("g", [(b"a", b"1")])
    store.write_generation("h", [(b"a", b"2")])
    one, two = store.generation("g"), store.generation("g")
    assert one is not None
    assert two is not None
    store.drop_generation("g")
    store.drop_generation("never there")
    assert store.generations() == ["h"]
    assert store.generation("g") is None
    one.close()
    one.close()
    assert two.multi_get([b"a"]) == [b"1"]
    with pytest.raises(StoreUnavailable, match="closed"):
        one.multi_get([b"a"])
    two.close()
    store.write_generation("g", [(b"a", b"3")])
    assert states_of(store, "g", [b"a"]) == [b"3"]


def test_names_of_generations_may_hold_any_characters(store: Store) -> None:
    names = [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a b",
        "A",
        "a",
        "%41",
        "a%",
        "späti",
        "航班@3f2a",
        "\x00",
        "a\nb",
        "g.gen",
        "g.tmp",
        "🛫",
        "\udc80",
    ]
    for name in names:
        store.write_generation(name, [(b"name", name.encode("utf-8", "surrogatepass"))])
    assert store.generations() == sorted(names)
    for name in names:
        assert states_of(store, name, [b"name"]) == [name.encode("utf-8", "surrogatepass")]
        store.drop_generation(name)
    assert store.generations() == []
    with pytest.raises(DataError, match="too long"):
        store.write_generation("x" * 201, [])


def test_threads_share_an_open_generation(store: Store) -> None:
    store.write_generation("g", [(b"%04d" % i, b"%d" % i * 500) for i in range(1000)])
    generation = store.generation("g")
    assert generation is not None
    wrong: list[int] = []

    def read(first: int) -> None:
        for i in range(first, 1000, 4):
            if generation.multi_get([b"%04d" % i, b"no"]) != [b"%d" % i * 500, None]:
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    generation.close()
    assert wrong == []


def test_generations_replaced_while_threads_open_and_read_them_are_whole(store: Store) -> None:
    names = [b"%04d" % i for i in range(50)]
    store.write_generation("g", [(name, b"first") for name in names])
    is_over = threading.Event()
    seen: list[set[bytes | None]] = []
    errors: list[Exception] = []

    def read() -> None:
        try:
            while not is_over.is_set():
                states = states_of(store, "g", names)
                if states is not None:
                    seen.append(set(states))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(60):
            store.write_generation("g", [(name, b"%d" % i) for name in names])
            if i % 7 == 0:
                store.drop_generation("g")
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert seen
    assert [states for states in seen if len(states) != 1 or None in states] == []


# --- a random walk against dictionaries

HEADS = [A, A[:-20], A + b"\x80" * 40, LONG, b"\xff" * 479]


def chosen(options: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.integers(0, len(options) - 1).map(lambda index: options[index])  # sampled_from would print the long keys again and again


keys = st.one_of(
    chosen(ODD_KEYS),
    st.binary(max_size=2),
    st.builds(bytes.__add__, chosen(HEADS), st.binary(max_size=2)),
    st.builds(bytes.__add__, chosen(HEADS), st.binary(min_size=30, max_size=34)),
)
values = st.one_of(st.binary(max_size=8), chosen([bytes(4), bytes(5000), b"\xff" * 2000]))
writes = st.lists(st.tuples(keys, st.none() | values), max_size=12)


class Walk(RuleBasedStateMachine):
    kind = ""
    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.store = opened(self.kind, self.path / "store", lambda _: self.server)
        self.model: dict[bytes, bytes] = {}
        self.generations: dict[str, dict[bytes, bytes]] = {}
        self.open_snapshot: tuple | None = None
        self.open_generation: tuple | None = None

    def scannable(self, prefix: bytes) -> bytes:
        return prefix.ljust(SHARD_BYTES, b"\x00") if self.store.has_many_writers else prefix

    def apply(self, transaction, changes, model) -> None:
        for key, value in changes:
            if value is None:
                transaction.delete(key)
                model.pop(key, None)
            else:
                transaction.put(key, value)
                model[key] = value
        if changes:
            prefix = self.scannable(changes[-1][0][:480])
            assert list(transaction.scan(prefix)) == sorted((k, v) for k, v in model.items() if k.startswith(prefix))
            assert transaction.get(changes[0][0]) == model.get(changes[0][0])

    @rule(changes=writes)
    def commit(self, changes) -> None:
        with self.store.transaction() as transaction:
            self.apply(transaction, changes, self.model)

    @rule(changes=writes)
    def undo(self, changes) -> None:
        def fail_at_the_end() -> None:
            with self.store.transaction() as transaction:
                self.apply(transaction, changes, dict(self.model))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_at_the_end()

    @rule(asked=st.lists(keys, max_size=6))
    def read(self, asked) -> None:
        with self.store.snapshot() as snapshot:
            assert snapshot.multi_get(asked) == [self.model.get(key) for key in asked]

    @rule(prefix=keys)
    def scan(self, prefix) -> None:
        prefix = self.scannable(prefix)
        with self.store.snapshot() as snapshot:
            assert list(snapshot.scan(prefix)) == sorted((k, v) for k, v in self.model.items() if k.startswith(prefix))

    @precondition(lambda self: self.open_snapshot is None and not self.store.has_many_writers)
    @rule()
    def open(self) -> None:
        context = self.store.snapshot()
        self.open_snapshot = context, context.__enter__(), dict(self.model)

    @precondition(lambda self: self.open_snapshot is not None)
    @rule()
    def close(self) -> None:
        self.open_snapshot[0].__exit__(None, None, None)
        self.open_snapshot = None

    @invariant()
    def snapshot_stands_still(self) -> None:
        if self.open_snapshot is not None:
            assert list(self.open_snapshot[1].scan(b"")) == sorted(self.open_snapshot[2].items())

    @rule(name=st.sampled_from(["g", "h"]), states=st.dictionaries(keys, values, max_size=12))
    def publish(self, name, states) -> None:
        assert self.store.write_generation(name, sorted(states.items())) == len(states)
        self.generations[name] = states

    @rule(name=st.sampled_from(["g", "h"]))
    def drop(self, name) -> None:
        self.store.drop_generation(name)
        self.generations.pop(name, None)

    @precondition(lambda self: self.open_generation is None)
    @rule(name=st.sampled_from(["g", "h"]))
    def open_one(self, name) -> None:
        generation = self.store.generation(name)
        assert (generation is None) == (name not in self.generations)
        self.open_generation = None if generation is None else (generation, self.generations[name])

    @precondition(lambda self: self.open_generation is not None)
    @rule(asked=st.lists(keys, max_size=6), stays=st.booleans())
    def read_generation(self, asked, stays) -> None:
        generation, states = self.open_generation
        asked = [*asked, *states]
        assert generation.multi_get(asked) == [states.get(key) for key in asked]
        if not stays:
            generation.close()
            self.open_generation = None

    @invariant()
    def names_are_those_published(self) -> None:
        assert self.store.generations() == sorted(self.generations)

    def teardown(self) -> None:
        if self.open_snapshot is not None:
            self.open_snapshot[0].__exit__(None, None, None)
        if self.open_generation is not None:
            self.open_generation[0].close()
        assert content(self.store) == self.model
        self.store.close()
        shutil.rmtree(self.path)


class MemoryWalk(Walk):
    kind = "memory"


class LmdbWalk(Walk):
    kind = "lmdb"


TestMemoryWalk = MemoryWalk.TestCase
TestMemoryWalk.settings = settings(max_examples=40, stateful_step_count=30)
TestLmdbWalk = LmdbWalk.TestCase
TestLmdbWalk.settings = settings(max_examples=20, stateful_step_count=25)


def test_redis_walk(redis_server: RedisServer) -> None:
    class RedisWalk(Walk):
        kind, server = "redis", redis_server

    run_state_machine_as_test(RedisWalk, settings=settings(max_examples=15, stateful_step_count=25))


def test_many_puts_are_as_single_ones(store: Store) -> None:
    keys = [b"aa", b"aa\x00", b"aa" + b"x" * 600, b"bb"]
    with store.transaction() as transaction:
        transaction.put(b"bb", b"old")
        transaction.put_many((key, key[-3:]) for key in keys)
        assert transaction.get(b"bb") == b"bb"
    with store.snapshot() as snapshot:
        assert snapshot.multi_get(keys) == [key[-3:] for key in keys]
