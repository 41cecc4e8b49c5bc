"""The LMDB store among real processes that are killed, stopped and forked, on disks that lie and fill up."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dialogue
import pytest
from dialogue import go_on, kill, line

from twofold.errors import Corrupt, StoreUnavailable
from twofold.store.base import Snapshot
from twofold.store.lmdb import LmdbStore

process = functools.partial(dialogue.process, Path(__file__).with_name("store_process.py"))


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)


def enter(store: LmdbStore) -> None:
    with store.transaction() as transaction:
        transaction.put(b"entered", b"1")


def pair(snapshot: Snapshot) -> tuple[int, int]:
    first, second = snapshot.multi_get([b"a", b"b"])
    return int(first or b"0"), int(second or b"0")


def temporary_files(path: Path) -> list[Path]:
    return list((path / "generations").glob("*.tmp"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(path, timeout_s=0.3)
    yield store
    store.close()


# --- writers


def test_a_killed_writer_leaves_whole_transactions_and_all_it_acknowledged(store: LmdbStore, path: Path) -> None:
    reached = 0
    for acknowledged in range(1, 13):
        with process("pairs", path) as writer:
            for _ in range(acknowledged):
                count = int(line(writer))
            kill(writer)
            assert writer.stdout is not None
            rest = [int(text) for text in writer.stdout.read().split()]
        reached = [count, *rest][-1]
        with store.snapshot() as snapshot:
            first, second = pair(snapshot)
        assert first == second
        assert first in (reached, reached + 1)  # one more may have been committed and not yet acknowledged
    enter(store)
    assert reached >= sum(range(1, 13))


def test_a_writer_killed_inside_a_transaction_leaves_nothing_of_it(store: LmdbStore, path: Path) -> None:
    with process("hold", path) as writer:
        assert line(writer) == "holding"
        kill(writer)
    enter(store)
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"held", b"entered"]) == [None, b"1"]


def test_a_stopped_writer_is_named_and_works_on_when_continued(store: LmdbStore, path: Path) -> None:
    with process("hold", path) as writer:
        assert line(writer) == "holding"
        stop(writer.pid)
        with pytest.raises(StoreUnavailable, match=rf"process {writer.pid}\b"):
            enter(store)
        with store.snapshot() as snapshot:
            assert snapshot.multi_get([b"held", b"entered"]) == [None, None]
        os.kill(writer.pid, signal.SIGCONT)
        go_on(writer)
        assert line(writer) == "done"
    enter(store)
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"held", b"entered"]) == [b"1", b"1"]


def test_a_process_stopped_while_it_waits_for_its_turn_is_named(store: LmdbStore, path: Path) -> None:
    with process("hold", path) as writer, contextlib.ExitStack() as stack:
        assert line(writer) == "holding"
        waiting = stack.enter_context(process("queue", path))
        assert line(waiting) == "waiting"
        while (path / "queue.lock").read_text().split() != [str(waiting.pid)]:
            time.sleep(0.001)
        with pytest.raises(StoreUnavailable, match=rf"process {writer.pid}\b"):
            enter(store)
        stop(waiting.pid)
        go_on(writer)
        assert line(writer) == "done"
        with pytest.raises(StoreUnavailable, match=rf"process {waiting.pid}\b"):
            enter(store)
        os.kill(waiting.pid, signal.SIGCONT)
        assert line(waiting) == "done"
        enter(store)


def test_a_writer_that_never_rests_lets_others_in_at_once(path: Path) -> None:
    passed = 0
    with process("busy", path) as busy:
        assert line(busy) == "busy"
        store = LmdbStore(path)
        for _ in range(20):
            with store.snapshot() as snapshot:
                before = int(snapshot.get(b"commits") or b"0")
            with store.transaction() as transaction:
                passed += int(transaction.get(b"commits") or b"0") - before
                transaction.put(b"entered", b"1")
        store.close()
    assert passed <= 60  # about one each: the commit that was under way


# --- readers


def test_many_readers_beside_a_writer_see_whole_transactions(path: Path) -> None:
    with process("pairs", path) as writer, contextlib.ExitStack() as stack:
        line(writer)
        readers = [stack.enter_context(process("check_pairs", path, "800")) for _ in range(5)]
        answers = [line(reader).split() for reader in readers]
    assert [answer[0] for answer in answers] == ["consistent"] * 5
    assert max(int(answer[1]) for answer in answers) > 1


def test_killed_readers_leave_their_slots_to_others(path: Path) -> None:
    store = LmdbStore(path, max_readers=4)
    enter(store)
    store.sync()  # which lets its own reader go
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(process("look", path)) for _ in range(3)]
        assert [line(reader) for reader in readers] == ["looking"] * 3
        with pytest.raises(StoreUnavailable, match="reader slots"), store.snapshot(), store.snapshot():
            pass
        for reader in readers:
            kill(reader)
        with store.snapshot(), store.snapshot(), store.snapshot() as snapshot:
            assert snapshot.get(b"entered") == b"1"
    store.close()


def test_a_killed_readers_snapshot_does_not_make_the_file_grow_for_ever(store: LmdbStore, path: Path) -> None:
    def write(transactions: int) -> int:
        for _ in range(transactions):
            with store.transaction() as transaction:
                transaction.put(b"a", bytes(50_000))
            store.sync()  # else pages are not used again for a moment
        return (path / "entries" / "data.mdb").stat().st_size

    write(10)
    with process("look", path) as reader:
        assert line(reader) == "looking"
        kill(reader)
    write(300)  # enough for a look at the readers
    size = write(20)
    assert write(200) == size


# --- generations


def test_a_killed_generation_writer_leaves_nothing_visible_and_the_next_cleans_up(store: LmdbStore, path: Path) -> None:
    store.write_generation("g", [(b"a", b"old")])
    with process("generation", path, "g") as dead, process("generation", path, "other") as living:
        assert line(dead) == "writing"
        assert line(living) == "writing"
        assert store.generations() == ["g"]
        kill(dead)
        assert len(temporary_files(path)) == 2
        assert store.generations() == ["g"]
        store.write_generation("h", [])
        [left] = temporary_files(path)
        assert f".{living.pid}-" in left.name
        go_on(living)
        assert line(living) == "done"
    assert temporary_files(path) == []
    assert store.generations() == ["g", "h", "other"]
    generation, other = store.generation("g"), store.generation("other")
    assert generation is not None
    assert other is not None
    assert generation.multi_get([b"a", b"0001"]) == [b"old", None]
    assert [len(state or b"") for state in other.multi_get([b"0000", b"0049"])] == [1_000_000, 1_000_000]
    generation.close()
    other.close()


def test_a_published_generation_takes_no_more_than_it_holds(store: LmdbStore, path: Path) -> None:
    store.write_generation("g", ((b"%06d" % i, bytes(1900)) for i in range(20_000)))
    size = (path / "generations" / "g.gen").stat().st_size
    assert 38_000_000 < size < 44_000_000


# --- disks


def flip(file: Path, content: bytes) -> None:
    """Change one bit in the middle of every place where the file holds the content."""
    raw = bytearray(file.read_bytes())
    at = raw.find(content)
    assert at >= 0
    while at >= 0:
        raw[at + len(content) // 2] ^= 0x10
        at = raw.find(content, at)
    with file.open("r+b") as opened:
        opened.write(raw)


@pytest.mark.parametrize("key", [b"key", b"", b"long" * 200])
@pytest.mark.parametrize("value", [b"a value of an entry", b"a large value" * 1000])
def test_a_flipped_bit_is_found(store: LmdbStore, path: Path, key: bytes, value: bytes) -> None:
    with store.transaction() as transaction:
        transaction.put(key, value)
        transaction.put(b"zzz", b"untouched")
    store.write_generation("g", sorted([(key, value), (b"zzz", b"untouched")]))
    flip(path / "entries" / "data.mdb", value)
    flip(path / "generations" / "g.gen", value)
    generation = store.generation("g")
    assert generation is not None
    named = rf"key {key.hex() or '.empty.'} .hex."
    with store.snapshot() as snapshot:
        with pytest.raises(Corrupt, match=named):
            snapshot.get(key)
        with pytest.raises(Corrupt, match=named):
            snapshot.multi_get([b"zzz", key])
        with pytest.raises(Corrupt, match=key[:100].hex() or "empty"):
            list(snapshot.scan(b""))
        assert snapshot.get(b"zzz") == b"untouched"
    with pytest.raises(Corrupt, match=named):
        generation.multi_get([key])
    assert generation.multi_get([b"zzz"]) == [b"untouched"]
    generation.close()


def test_a_flipped_bit_in_a_key_is_found_by_a_scan(store: LmdbStore, path: Path) -> None:
    with store.transaction() as transaction:
        transaction.put(b"the key itself", b"value")
    flip(path / "entries" / "data.mdb", b"the key itself")
    with store.snapshot() as snapshot, pytest.raises(Corrupt):
        list(snapshot.scan(b""))


def test_a_generation_file_cut_short_is_found(store: LmdbStore, path: Path) -> None:
    store.write_generation("g", ((b"%04d" % i, bytes(1000)) for i in range(1000)))
    os.truncate(path / "generations" / "g.gen", 500_000)
    with pytest.raises(Corrupt, match="cut short"):
        store.generation("g")


def test_a_damaged_page_of_a_generation_spoils_no_other_in_the_thread_that_met_it(store: LmdbStore, path: Path) -> None:
    store.write_generation("g", ((b"%04d" % i, bytes(1000)) for i in range(1000)))
    with (path / "generations" / "g.gen").open("r+b") as file:
        file.seek(file.seek(0, os.SEEK_END) // 2 // 4096 * 4096)
        file.write(bytes(4096))
    generation = store.generation("g")
    assert generation is not None
    damaged = 0
    for i in range(1000):
        try:
            assert generation.multi_get([b"%04d" % i]) == [bytes(1000)]
        except Corrupt:
            damaged += 1
    assert 0 < damaged < 10
    generation.close()


def test_a_file_that_is_no_store_is_refused(path: Path) -> None:
    (path / "entries").mkdir(parents=True)
    (path / "entries" / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(Corrupt):
        LmdbStore(path)


def test_a_full_map_loses_nothing_and_goes_on_when_there_is_space(path: Path) -> None:
    store = LmdbStore(path, map_size=1 << 20)
    enter(store)

    def fill() -> None:
        with store.transaction() as transaction:
            transaction.put(b"entered", b"2")
            for i in range(400):
                transaction.put(b"%d" % i, bytes(3000))

    with pytest.raises(StoreUnavailable, match="map_size"):
        fill()
    with store.snapshot() as snapshot:
        assert list(snapshot.scan(b"")) == [(b"entered", b"1")]
    with store.transaction() as transaction:
        transaction.put(b"more", bytes(3000))
    store.close()
    store = LmdbStore(path, map_size=4 << 20)
    fill()
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"entered", b"399", b"more"]) == [b"2", bytes(3000), bytes(3000)]
    store.close()


def test_a_full_map_is_not_committed_even_where_the_error_is_caught(path: Path) -> None:
    store = LmdbStore(path, map_size=1 << 20)

    def fill() -> None:
        with store.transaction() as transaction, contextlib.suppress(StoreUnavailable):
            for i in range(400):
                transaction.put(b"%d" % i, bytes(3000))

    with pytest.raises(StoreUnavailable):
        fill()
    with store.snapshot() as snapshot:
        assert list(snapshot.scan(b"")) == []
    enter(store)
    store.close()


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_space(path: Path) -> None:
    with process("full_disk", path) as writer:
        assert line(writer) == "StoreUnavailable True"
        assert line(writer) == "StoreUnavailable True ['writers.lock']"
        assert line(writer) == "[b'1', None] []"
        assert line(writer) == "b'3' ['g']"


# --- forks


def test_what_was_open_at_a_fork_is_refused_in_the_child(path: Path) -> None:
    with process("fork", path) as parent:
        for _ in range(6):
            assert line(parent) == "StoreUnavailable True"
        assert line(parent) == "parent [b'1']"


def test_a_forked_child_does_not_keep_its_dead_parents_turn(store: LmdbStore, path: Path) -> None:
    with process("fork_in_transaction", path) as parent:
        _, child = line(parent).split()
        try:
            kill(parent)
            enter(store)
        finally:
            os.kill(int(child), signal.SIGKILL)
    with store.snapshot() as snapshot:
        assert snapshot.multi_get([b"held", b"entered"]) == [None, b"1"]
