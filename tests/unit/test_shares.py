"""Shares of partitions: balanced, few moves; members that come, go, die, stop and come back, by clocks that the tests move."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.silence import Silence, Stall
from twofold.store.memory import MemoryStore
from twofold.stream.shares import BEAT_S, DEAD_S, Membership, Watch, members, shares


class Seconds:
    """A monotonic clock of one machine, begun anywhere."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@given(st.sets(st.text("abcdef", min_size=1, max_size=6), min_size=1, max_size=9), st.integers(1, 64))
def test_every_partition_has_one_member_and_nobody_is_idle_while_another_has_two_more(ids: set[str], partitions: int) -> None:
    found = shares(ids, partitions)
    assert set(found) == ids
    assert sorted(partition for mine in found.values() for partition in mine) == list(range(partitions))
    sizes = [len(mine) for mine in found.values()]
    assert max(sizes) - min(sizes) <= 1


def test_shares_are_pinned() -> None:
    """Workers of two versions must agree: whoever changes this lets them fight."""
    assert shares(["one", "two", "three"], 8) == {"one": frozenset({0, 2, 6}), "two": frozenset({1, 4, 5}), "three": frozenset({3, 7})}
    assert shares([], 8) == {}


@pytest.mark.parametrize("partitions", [4, 16, 64])
def test_few_partitions_move_when_a_member_comes_or_goes(partitions: int) -> None:
    moved = needed = 0
    for _ in range(100):
        ids = [secrets.token_hex(6) for _ in range(5)]
        for count in range(1, 5):
            before, after = shares(ids[:count], partitions), shares(ids[: count + 1], partitions)
            moved += sum(len(after[member] - before[member]) for member in ids[:count]) + len(after[ids[count]])
            needed += len(after[ids[count]])
    assert moved < 1.6 * needed, moved / needed


class Group:
    """Members on one store, each with a clock of its own that was begun at another instant."""

    def __init__(self, partitions: int = 8) -> None:
        self.store, self.partitions = MemoryStore(), partitions
        self.clocks: dict[str, Seconds] = {}
        self.members: dict[str, Membership] = {}
        self.ended: set[str] = set()

    def join(self, name: str, max_stall_s: float = 0.0) -> Membership:
        clock = self.clocks[name] = Seconds(1000.0 * len(self.clocks))
        self.members[name] = Membership(
            self.store, self.partitions, name, clock, self.ended.__contains__, Stall(max_stall_s, clock_s=clock)
        )
        return self.members[name]

    def run(self, seconds: float, *names: str) -> None:
        """Time goes on for all; only these beat."""
        for _ in range(round(seconds / BEAT_S)):
            for clock in self.clocks.values():
                clock.now_s += BEAT_S
            for name in names:
                self.members[name].beat()

    def entered(self) -> set[str]:
        with self.store.snapshot() as snapshot:
            return set(members(snapshot))

    def assert_shared_by(self, *names: str) -> None:
        assert {name: self.members[name].share for name in names} == shares(names, self.partitions)


@pytest.fixture
def group() -> Group:
    made = Group()
    for name in ("one", "two", "three"):
        made.join(name)
    return made


def test_from_one_to_three_to_two(group: Group) -> None:
    group.run(1, "one")
    assert group.members["one"].share == frozenset(range(8))
    group.run(1, "one", "two", "three")
    group.assert_shared_by("one", "two", "three")
    group.members["two"].leave()
    group.run(BEAT_S, "one", "three")
    group.assert_shared_by("one", "three")


def test_a_member_that_says_nothing_is_dead_after_two_seconds_and_off_the_list(group: Group) -> None:
    group.run(1, "one", "two", "three")
    group.run(DEAD_S - BEAT_S, "one", "three")
    assert group.members["one"].share == shares(["one", "two", "three"], 8)["one"]
    group.run(2 * BEAT_S, "one", "three")
    group.assert_shared_by("one", "three")
    assert group.entered() == {"one", "three"}


def test_one_whose_process_is_known_to_have_ended_is_not_waited_for(group: Group) -> None:
    group.run(1, "one", "two")
    group.ended.add("two")
    group.run(BEAT_S, "one")
    assert group.members["one"].share == frozenset(range(8))
    assert group.entered() == {"one"}


def test_a_zombie_holds_nobody_for_dead_when_it_comes_back_and_has_a_share_again(group: Group) -> None:
    group.run(1, "one", "two")
    group.run(60, "one")
    assert group.entered() == {"one"}
    group.members["two"].beat()
    assert group.members["two"].share == shares(["one", "two"], 8)["two"]
    group.run(BEAT_S, "one")
    group.assert_shared_by("one", "two")


def test_a_member_whose_worker_hangs_says_nothing_until_it_goes_on(group: Group) -> None:
    one, sign = group.join("one", max_stall_s=5.0), 0
    group.run(60, "one", "two")  # it has not begun: making a worker may take long
    one.stall.sign = lambda: sign
    group.run(5, "one", "two")
    sign += 1
    group.run(5, "one", "two")
    assert (one.stall.hangs(), group.entered()) == (False, {"one", "two"})
    group.run(DEAD_S + 2 * BEAT_S, "one", "two")
    assert (one.stall.hangs(), group.entered()) == (True, {"two"})
    assert group.members["two"].share == frozenset(range(8))
    sign += 1
    group.run(BEAT_S, "one", "two")
    group.assert_shared_by("one", "two")


def test_a_member_whose_process_was_stopped_has_not_hung(group: Group) -> None:
    one = group.join("one", max_stall_s=5.0)
    one.stall.sign = lambda: 0
    group.run(2, "one", "two")
    group.run(60, "two")
    group.run(2, "one", "two")
    assert (one.stall.hangs(), group.entered()) == (False, {"one", "two"})


def test_after_a_store_that_did_not_answer_nobody_is_dead(group: Group) -> None:
    group.run(1, "one", "two", "three")
    group.run(60)
    group.members["one"].beat()
    assert group.members["one"].share == shares(["one", "two", "three"], 8)["one"]
    assert group.entered() == {"one", "two", "three"}


def test_one_that_spoke_while_it_was_being_taken_off_stays(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    group.run(1, "one", "two")
    group.run(DEAD_S, "one")
    one, living = group.members["one"], Watch.living

    def then_two_speaks(watch: Watch, read: Callable[[], Any]) -> set[str]:
        found = living(watch, read)
        monkeypatch.undo()
        group.members["two"].beat()
        return found

    monkeypatch.setattr(Watch, "living", then_two_speaks)
    group.run(BEAT_S, "one")
    assert group.entered() == {"one", "two"}
    group.run(BEAT_S, "one")
    assert one.share == shares(["one", "two"], 8)["one"]


def test_who_only_watches_knows_a_living_member_when_it_has_spoken(group: Group) -> None:
    group.run(1, "one")
    clock = Seconds()
    watch = Watch(clock)

    def living() -> set[str]:
        with group.store.snapshot() as snapshot:
            return watch.living(lambda: members(snapshot))

    assert (living(), watch.has_heard) == ({"one"}, False)
    assert (living(), watch.has_heard) == ({"one"}, False)
    group.run(BEAT_S, "one")
    assert (living(), watch.has_heard) == ({"one"}, True)
    for _ in range(4):
        clock.now_s += 0.6
        living()
    assert living() == set()


def test_silence_counts_only_while_the_watcher_looks() -> None:
    silence = Silence("a", 0.0, 1.0)
    assert [silence.look("a", now_s) for now_s in (0.5, 1.0, 100.0, 100.5)] == [0.5, 1.0, 2.0, 2.5]
    assert silence.look("b", 101.0) == 0.0
    assert silence.look("b", 100.0) == 0.0
