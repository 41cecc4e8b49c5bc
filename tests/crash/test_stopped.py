"""Processes that stop instead of dying: zombie workers, holders of a lock, readers in the middle of a snapshot."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fault_driver import Driver, Homes
from test_fail_points import assert_sound

from twofold.instants import to_us


@contextmanager
def stopped(driver: Driver, what: str, home: Path, fail_at: str | None, **parameters: Any) -> Iterator[int]:
    """A life that stands at a fail point; killed in the end where it is still there."""
    process = driver.begin(what, home, fail_at=fail_at, **parameters)
    driver.until_stopped(process)
    yield process


def killed(driver: Driver, process: int) -> None:
    os.kill(process, signal.SIGKILL)
    assert driver.end(process) is None


def continued(driver: Driver, process: int) -> Any:
    os.kill(process, signal.SIGCONT)
    return driver.end(process)


@pytest.mark.parametrize(
    "point", ["takeover.epoch_taken", "takeover.pointers_made", "takeover.registered", "apply.read", "freshness.before_flush"]
)
def test_a_zombie_worker_is_fenced_and_changes_nothing(point: str, driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("send", home, number=1) == "sent"
    with stopped(driver, "work", home, f"{point}@stop", number=2) as zombie:
        assert driver.ask("send", home, number=3) == "sent"
        assert driver.ask("work", home, number=3) == "applied"
        assert driver.ask("send", home, number=4) == "sent"  # so that the zombie would have something to do
        answer = continued(driver, zombie)
    assert answer.startswith("Fenced: this worker has epoch"), answer
    assert_sound(driver, home, 4, f"a zombie went on at {point}")


def test_a_zombie_stopped_inside_the_stores_transaction_is_named_and_makes_way_when_it_is_killed(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("send", home, number=1) == "sent"
    for point in ("lmdb.in_transaction:4", "apply.before_commit", "lmdb.before_commit:5"):
        with stopped(driver, "work", home, f"{point}@stop", number=2) as zombie:
            answer = driver.ask("work", home, number=3, timeout_s=0.3)
            assert answer.startswith("StoreUnavailable"), answer
            assert f"process {zombie}" in answer
            killed(driver, zombie)
    assert driver.ask("work", home, number=3) == "applied"
    assert_sound(driver, home, 4, "a worker was stopped inside the store's transaction and killed")


def test_a_zombie_stopped_inside_the_stores_transaction_ends_it_when_it_is_continued(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("send", home, number=1) == "sent"
    with stopped(driver, "work", home, "apply.before_commit@stop", number=2) as zombie:
        assert "StoreUnavailable" in driver.ask("work", home, number=3, timeout_s=0.3)
        assert continued(driver, zombie) == "applied"
    assert driver.ask("work", home, number=3) == "applied"
    assert_sound(driver, home, 4, "a worker was stopped inside the store's transaction and continued")


@pytest.mark.parametrize("point", ["sqlite.in_transaction", "sqlite.before_commit", "sqlite.after_commit"])
@pytest.mark.parametrize("is_killed", [True, False])
def test_a_producer_stopped_inside_the_logs_transaction_is_named(point: str, is_killed: bool, driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    with stopped(driver, "send", home, f"{point}@stop", number=1) as holder:
        answer = driver.ask("send", home, number=2, timeout_s=0.3)
        assert answer.startswith("LogUnavailable"), answer
        assert f"process {holder}" in answer
        assert driver.ask("work", home, number=2, timeout_s=0.3) == "applied"  # readers of the log wait for nobody
        if is_killed:
            killed(driver, holder)
        else:
            assert continued(driver, holder) == "sent"
    assert driver.ask("send", home, number=3) == "sent"
    assert_sound(driver, home, 4, f"a producer was stopped at {point}")


def test_a_build_stopped_at_its_flip_keeps_no_worker_and_no_reader_waiting(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("send", home, number=1) == "sent"
    with stopped(driver, "build_for_ever", home, "flip.before@stop", number=2) as builder:
        assert driver.ask("send", home, number=3) == "sent"
        assert driver.ask("work", home, number=3) == "applied"
        assert len(driver.ask("read", home, number=3)) == 3
        killed(driver, builder)
    assert_sound(driver, home, 4, "a build was stopped before its flip")


def entries_size(home: Path) -> int:
    return (home / "store" / "entries" / "data.mdb").stat().st_size


def test_a_reader_that_slept_through_many_flips_answers_for_its_snapshot_or_for_a_newer_one(driver: Driver, homes: Homes) -> None:
    """Its snapshot holds old pages; deltas and generations that it read of are gone. Afterwards the pages are used again."""
    home = homes.fresh()
    driver.ask("live", home, number=1)
    at = to_us("2024-06-01T00:00:00Z")  # above every event, so the answer is decided by positions alone
    before = driver.ask("read", home, number=2, at=at)
    with stopped(driver, "read", home, None, number=2, stops=True, at=at) as reader:
        for number in range(2, 6):
            driver.ask("live", home, number=number)
        now = driver.ask("read", home, number=6, at=at)
        assert now != before
        assert continued(driver, reader) in (before, now)
    grown = entries_size(home)
    for number in range(6, 10):
        driver.ask("live", home, number=number)
    assert entries_size(home) <= grown + (grown >> 1)
    assert_sound(driver, home, 11, "a reader slept")
