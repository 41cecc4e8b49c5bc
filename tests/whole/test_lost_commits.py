"""Servers of a store that lose what was committed: a shard whole, or the last commits; the next build has everything again."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest

import twofold as tw
from twofold.batch import roll
from twofold.clocks import ManualClock
from twofold.errors import LogMismatch, NotBuilt, StoreUnavailable
from twofold.instants import to_us
from twofold.plan.layout import LOG_UUID, Counted, duplicates_prefix, shard
from twofold.runtime import loading, restoring
from twofold.runtime.opened import Opened
from twofold.runtime.running import due_views
from twofold.store import base
from twofold.store.base import Store
from twofold.stream import duplicates
from twofold.testing.faults import broken_promises, left_over

seen = tw.Events("seen", time="at", schema={"place": str})
view = tw.View("places", seen, by="place", features={"n": tw.count()})
project = tw.Project("lost", views=[view])
rides = tw.Events("rides", time="at", id="id", schema={"id": str, "place": str})
loaded = tw.Project("lost", views=[tw.View("places", rides, by="place", features={"n": tw.count()})])


def ride(identity: str) -> dict[str, str]:
    return {"id": identity, "place": "a", "at": "2024-05-01T00:59:00Z"}


ROWS = [ride(f"h{i}") for i in range(5)]


def append(opened: Opened, count: int) -> None:
    for _ in range(count):
        opened.append("seen", {"place": "a", "at": "2024-05-01T00:00:00Z"})


def entries(opened: Opened, mine: bytes = b"") -> dict[bytes, bytes]:
    """The store's entries, or those whose keys begin so."""
    with opened.home.store.snapshot() as snapshot:
        return dict(snapshot.scan(mine))


def go_back(opened: Opened, earlier: dict[bytes, bytes], mine: bytes = b"") -> None:
    """Servers lose what was committed after `entries` was `earlier`."""
    lost = entries(opened, mine).keys() - earlier.keys()
    with opened.home.store.transaction() as txn:
        for key in lost:
            txn.delete(key)
        txn.put_many(sorted(earlier.items()))


@pytest.mark.parametrize("is_built_twice", [False, True])
def test_a_lost_shard_is_never_read_as_if_nothing_had_come(tmp_path: Path, is_built_twice: bool) -> None:
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        append(opened, 10)
        opened.build()
        append(opened, 5)
        if is_built_twice:
            opened.build()
            append(opened, 1)
        opened.catch_up()
        total = 15 + is_built_twice
        assert opened.features("places", ["a"])["n_all"].to_list() == [total]
        go_back(opened, {}, shard(0))
        opened.catch_up()
        with pytest.raises(NotBuilt):
            opened.features("places", ["a"])
        append(opened, 1)
        opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [total + 1]


def test_a_generation_built_again_after_a_failover_is_not_taken_for_the_one_that_is_open(tmp_path: Path) -> None:
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        append(opened, 10)
        opened.build()
        earlier = entries(opened)
        append(opened, 5)
        opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [15]
        go_back(opened, earlier)
        append(opened, 7)
        opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [22]


def test_a_build_whose_beginning_was_lost_drops_nothing_that_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        append(opened, 10)
        opened.build()
        append(opened, 5)
        opened.catch_up()
        earlier, real = entries(opened), roll.flip

        def flip(*arguments: Any) -> Any:
            go_back(opened, earlier)
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(roll, "flip", flip)
            with pytest.raises(StoreUnavailable, match="build again"):
                opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [15]
        opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [15]


@pytest.mark.parametrize("builds", [1, 2])
@pytest.mark.parametrize("more", [0, 5])
def test_a_shard_that_lost_a_roll_over_is_not_read_beside_the_generation_of_its_flip(tmp_path: Path, builds: int, more: int) -> None:
    """The worker folds events into a delta again that the pointer takes for replaced."""
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        append(opened, 10)
        opened.build()
        append(opened, 6)
        opened.catch_up()
        earlier = entries(opened, shard(0))
        for _ in range(builds):
            append(opened, 6)
            opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [16 + 6 * builds]
        assert due_views(opened) == []
        go_back(opened, earlier, shard(0))
        append(opened, more)
        opened.catch_up()
        with pytest.raises(StoreUnavailable, match="as after a failover"):
            opened.features("places", ["a"])
        assert due_views(opened) == ["places"]
        opened.build(views=due_views(opened))
        assert opened.features("places", ["a"])["n_all"].to_list() == [16 + 6 * builds + more]
        append(opened, 3)
        opened.catch_up()
        assert opened.features("places", ["a"])["n_all"].to_list() == [19 + 6 * builds + more]
        assert left_over(opened) == []


def test_a_shard_that_lost_a_roll_over_is_not_read_while_the_next_build_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        append(opened, 10)
        opened.build()
        earlier = entries(opened, shard(0))
        append(opened, 6)
        opened.build()
        go_back(opened, earlier, shard(0))
        append(opened, 6)
        real = roll.flip

        def flip(*arguments: Any) -> Any:
            append(opened, 2)
            with pytest.raises(StoreUnavailable, match="as after a failover"):
                opened.features("places", ["a"])
            return real(*arguments)

        monkeypatch.setattr(roll, "flip", flip)
        opened.build()
        opened.catch_up()
        assert opened.features("places", ["a"])["n_all"].to_list() == [24]


def assert_loaded_once(opened: Opened) -> None:
    assert opened.load("rides", ROWS) == 1
    opened.append("rides", [ride("h0"), ride("h1")])
    opened.build()
    opened.append("rides", [ride(f"h{i}") for i in range(5)])
    opened.catch_up()
    assert opened.features("places", ["a"])["n_all"].to_list() == [6]
    assert broken_promises(opened, []) == []
    assert left_over(opened) == []


@pytest.mark.parametrize("point", ["load.ids_written", "load.ids_remembered", "load.rows_written"])
def test_a_load_whose_commits_were_lost_fails_and_comes_whole_when_it_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    with loaded.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        opened.append("rides", [ride("before")])
        opened.build()
        earlier = entries(opened)
        with monkeypatch.context() as patch:
            patch.setattr(loading, "fail_point", lambda name: go_back(opened, earlier) if name == point else None)
            with pytest.raises(StoreUnavailable, match="as after a failover"):
                opened.load("rides", ROWS)
        assert_loaded_once(opened)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_load_notices_that_a_part_of_its_ids_was_lost_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    monkeypatch.setattr(duplicates, "_IDS_PER_ENTRY", 2)
    with loaded.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        opened.append("rides", [ride("before")])
        opened.build()
        earlier, real, noted = entries(opened), base.commit, list[int]()

        def commit(store: Store, work: Any) -> Any:
            done = real(store, work)
            index = duplicates_prefix(Counted("rides", None, 1))
            noted.append(sum(key.startswith(index) for key in entries(opened)))
            if noted[-1] == parts:
                go_back(opened, earlier)
            return done

        with monkeypatch.context() as patch:
            patch.setattr(duplicates, "commit", commit)
            with pytest.raises(StoreUnavailable, match="as after a failover"):
                opened.load("rides", ROWS)
        assert_loaded_once(opened)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_new_store_notices_that_a_part_of_the_archives_ids_was_lost_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    clock, home = ManualClock(to_us("2024-05-01T01:00:00Z")), tmp_path / "home"
    monkeypatch.setattr(duplicates, "_IDS_PER_ENTRY", 2)
    with loaded.open(home=home, clock=clock, partitions=1, retention="1m") as opened:
        opened.append("rides", ROWS)
        clock.advance("5m")
        opened.append("rides", [ride("late")])
        opened.build()
        assert opened.home.log.start_offsets(["rides"]) == {("rides", 0): len(ROWS)}
    shutil.rmtree(home / "store")
    with loaded.open(home=home, clock=clock) as opened:
        real, noted = base.commit, list[int]()
        index = duplicates_prefix(Counted("rides", 0))

        def commit(store: Store, work: Any) -> Any:
            done = real(store, work)
            noted.append(sum(key.startswith(index) for key in entries(opened)))
            if noted[-1] == parts:
                go_back(opened, {})
            return done

        with monkeypatch.context() as patch:
            patch.setattr(duplicates, "commit", commit)
            with pytest.raises(StoreUnavailable, match="as after a failover"):
                opened.catch_up()
        opened.append("rides", ROWS)
        opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [len(ROWS) + 1]
        assert broken_promises(opened, []) == []
        assert left_over(opened) == []


def test_who_was_stopped_while_it_began_a_new_store_sets_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, home = ManualClock(to_us("2024-05-01T01:00:00Z")), tmp_path / "home"
    with project.open(home=home, clock=clock, partitions=1, retention="1m") as opened:
        append(opened, 5)
        clock.advance("5m")
        append(opened, 1)
        opened.build()
    shutil.rmtree(home / "store")
    with project.open(home=home, clock=clock) as opened, monkeypatch.context() as patch:
        append(opened, 3)
        real = restoring._ids

        def ids(*arguments: Any) -> Any:
            patch.setattr(restoring, "_ids", real)
            opened.catch_up()
            return real(*arguments)

        patch.setattr(restoring, "alone", lambda *_: contextlib.nullcontext())  # another has taken the task over
        patch.setattr(restoring, "_ids", ids)
        with pytest.raises(StoreUnavailable, match="another process"):
            restoring.new_worker(opened)
        append(opened, 1)
        opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [10]
        assert [source.applied for source in opened.status().sources] == [10]
        assert broken_promises(opened, []) == []


def test_the_status_of_a_store_of_another_log_says_so(tmp_path: Path) -> None:
    with project.open(home=tmp_path / "home") as opened:
        opened.build()
        with opened.home.store.transaction() as txn:
            txn.put(LOG_UUID, b"another")
        with pytest.raises(LogMismatch, match="belongs to the log another"):
            opened.status()
