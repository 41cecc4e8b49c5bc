"""Two homes that share a log, a store on Redis and a folder of tables, as on two machines: long work of one keeps the other from it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis_server import RedisServer
from shop import project
from whole_data import LIVE, load_history

import twofold as tw
from twofold import fail_points
from twofold.errors import Busy
from twofold.instants import DAY_US
from twofold.runtime import tasks
from twofold.runtime.tasks import alone
from twofold.stream import leases
from twofold.stream.leases import Lease
from twofold.testing.faults import broken_promises

NUMBERS = itertools.count()
PARTITIONS = 2


@pytest.fixture
def homes(tmp_path: Path, clock: tw.ManualClock, redis_server: RedisServer) -> Iterator[tuple[Any, Any]]:
    """Two homes with history loaded and built."""
    engines: dict[str, Any] = {"store": f"{redis_server.url}?name=two{next(NUMBERS)}", "tables": str(tmp_path / "tables")}
    with (
        project.open(home=tmp_path / "one", clock=clock, partitions=PARTITIONS, **engines) as one,
        project.open(home=tmp_path / "other", clock=clock, **engines) as other,
    ):
        other.home.log = one.home.log  # as if it were on servers
        load_history(one)
        one.build()
        yield one, other


class Meeting:
    """Two pieces of work in a thread each: the first waits at a fail point until the second has come to one of its own, or is kept from it.

    The second then waits until the first has ended.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first_at: str, second_at: str) -> None:
        self._waits = {"first": first_at, "second": second_at}
        self._first_is_there, self._second_is_there, self._first_has_ended = (threading.Event() for _ in range(3))
        self.results: dict[str, Any] = {}
        monkeypatch.setattr(fail_points, "_fault", SimpleNamespace(meet=self._meet))

    def _meet(self, name: str) -> None:
        who = threading.current_thread().name
        if self._waits.get(who) != name:
            return
        del self._waits[who]
        if who == "first":
            self._first_is_there.set()
            self._second_is_there.wait(3)
        else:
            self._second_is_there.set()
            self._first_has_ended.wait(30)

    def hold(self, first: Callable[[], Any], second: Callable[[], Any]) -> None:
        def work(name: str, what: Callable[[], Any]) -> None:
            try:
                self.results[name] = what()
            except BaseException as error:
                self.results[name] = error
            if name == "first":
                self._first_has_ended.set()

        threads = [threading.Thread(target=work, args=args, name=args[0]) for args in (("first", first), ("second", second))]
        threads[0].start()
        assert self._first_is_there.wait(30)
        threads[1].start()
        for thread in threads:
            thread.join()
        for found in self.results.values():
            if isinstance(found, BaseException):
                raise found


def test_two_builds_of_a_view_at_once(homes: tuple[Any, Any], clock: tw.ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = homes
    clock.set(LIVE[-1]["paid_at"] + 1)
    one.append("payments", LIVE)
    one.catch_up()
    before = one.features("card", ["a", "b", "c"]).rows()
    Meeting(monkeypatch, "flip.before", "build.cleaned_up").hold(one.build, other.build)
    for opened in homes:
        assert opened.features("card", ["a", "b", "c"]).rows() == before
        assert broken_promises(opened, []) == []


def test_a_build_that_was_stopped_before_it_ended_serves_nothing_that_the_next_has_dropped(
    homes: tuple[Any, Any], clock: tw.ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = homes
    clock.set(LIVE[-1]["paid_at"] + 1)
    one.append("payments", LIVE)
    one.catch_up()
    before = one.features("card", ["a", "b", "c"]).rows()
    monkeypatch.setattr(leases, "DEAD_S", 0.3)
    monkeypatch.setattr(tasks, "BEAT_S", 1000.0)  # as if it were stopped, and went on before its next beat
    with pytest.raises(Busy, match="did not say for"):
        Meeting(monkeypatch, "flip.before", "build.cleaned_up").hold(one.build, other.build)
    for opened in homes:
        assert opened.features("card", ["a", "b", "c"]).rows() == before
        assert broken_promises(opened, []) == []


@pytest.mark.parametrize(
    ("first_at", "second_at"),
    [("load.staged", "load.ids_remembered"), ("load.ids_written", "load.staged"), ("load.rows_written", "load.staged")],
)
def test_two_loads_of_overlapping_ids_at_once(
    homes: tuple[Any, Any], clock: tw.ManualClock, first_at: str, second_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = homes
    clock.set(LIVE[-1]["paid_at"] + 1)
    Meeting(monkeypatch, first_at, second_at).hold(lambda: one.load("payments", LIVE[:40]), lambda: other.load("payments", LIVE[20:60]))
    assert one.home.tables.history_version("payments") == 3
    one.append("payments", LIVE)
    one.build()
    for opened in homes:
        assert broken_promises(opened, []) == []


def test_dead_letters_are_not_replayed_twice(homes: tuple[Any, Any], clock: tw.ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = homes
    row = {**LIVE[0], "payment_id": None, "paid_at": clock.now_us() + 3 * DAY_US}
    one.append("payments", row)
    one.catch_up()
    clock.advance("3d")
    meeting = Meeting(monkeypatch, "replay.appended", "replay.appended")
    meeting.hold(lambda: one.replay("payments"), lambda: other.replay("payments"))
    assert [meeting.results[who].appended for who in ("first", "second")] == [1, 0]


def test_the_lease_of_a_home_that_died_elsewhere_is_taken_over(homes: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = homes
    dead = Lease(one.home.store, "load")
    assert dead.try_take() is None
    monkeypatch.setattr(leases, "DEAD_S", 1.5)
    with alone(other.home, "load"):
        dead.beat()
        with pytest.raises(Busy, match="did not say for"):
            dead.check()
        with pytest.raises(Busy, match="is the load of this store"), alone(one.home, "load"):
            pass
    dead.leave()
    assert dead.try_take() is None


def test_a_lease_that_a_killed_process_of_this_home_left_is_taken_at_once(homes: tuple[Any, Any]) -> None:
    one, _ = homes
    dead = Lease(one.home.store, "load")
    assert dead.try_take() is None
    (one.home.settings.run / "load.lease").write_text(dead.id)
    begun_s = time.monotonic()
    with alone(one.home, "load"):
        assert time.monotonic() - begun_s < leases.DEAD_S / 2


def test_long_work_whose_lease_is_lost_ends(homes: tuple[Any, Any], clock: tw.ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = homes
    monkeypatch.setattr(leases, "DEAD_S", 0.2)
    monkeypatch.setattr(tasks, "BEAT_S", 0.4)  # as if it were stopped between two beats
    with alone(one.home, "build") as progress:
        progress("reading")
        thief = Lease(other.home.store, "build")
        while thief.try_take() is not None:
            time.sleep(0.05)
        time.sleep(0.6)
        with pytest.raises(Busy, match="did not say for"):
            progress("reading")
    assert thief.try_take() is None, "it has taken the thief's lease away"
