"""The fault tests see the bugs that they are there for: each is planted once, and what is checked after a fault complains."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import lmdb
import pytest
from fault_driver import Driver, Homes


def complaints(driver: Driver, home: Path, number: int, plants: list[str] | None = None) -> str:
    """What is wrong with a home, in words; empty where nothing is. Where it cannot even be read, the error."""
    try:
        found = driver.ask("check", home, number=number, plants=plants or [])
    except AssertionError as error:
        return str(error)
    return "\n".join([*found["complaints"], *found["left_over"]])


def test_the_offset_is_committed_before_the_state(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("live", home, fail_at="apply.before_commit", number=1, plants=["offset_first"]) is None
    assert "by the log they are" in complaints(driver, home, 2)


@pytest.mark.parametrize(("plants", "words"), [([], ""), (["epoch_unchecked", "offset_unchecked"], "by the log they are")])
def test_the_epoch_is_not_checked(plants: list[str], words: str, driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("send", home, number=1, count=100) == "sent"  # some without an id, which is what counts twice
    zombie = driver.begin("work", home, fail_at="apply.read@stop", number=2, plants=plants)
    driver.until_stopped(zombie)
    assert driver.ask("work", home, number=3) == "applied"
    os.kill(zombie, signal.SIGCONT)
    assert driver.end(zombie).startswith("applied" if plants else "Fenced")
    found = complaints(driver, home, 4)
    assert words in found
    assert bool(found) == bool(plants)


def test_the_epoch_alone_is_not_checked(driver: Driver, homes: Homes) -> None:
    """The comparison of offsets still keeps all values right; that the zombie goes on is what is seen."""
    home = homes.fresh()
    assert driver.ask("send", home, number=1) == "sent"
    zombie = driver.begin("work", home, fail_at="apply.read@stop", number=2, plants=["epoch_unchecked"])
    driver.until_stopped(zombie)
    assert driver.ask("work", home, number=3) == "applied"
    os.kill(zombie, signal.SIGCONT)
    assert driver.end(zombie) == "applied"
    assert complaints(driver, home, 4) == ""


@pytest.mark.parametrize("is_planted", [False, True])
def test_the_logs_checksum_is_ignored(is_planted: bool, driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("send", home, number=1, count=40) == "sent"
    with sqlite3.connect(home / "log.sqlite") as log:  # as if a byte of the file had changed: the row's own checksum is the old one
        (identity, payload) = log.execute(
            "SELECT id, payload FROM batch WHERE source = 'payments' ORDER BY length(payload) DESC"
        ).fetchone()
        at = payload.index(b"1-1")  # the id of an event
        log.execute("UPDATE batch SET payload = ? WHERE id = ?", (payload[:at] + b"9" + payload[at + 1 :], identity))
    log.close()
    found = complaints(driver, home, 2, ["log_checksum_ignored"] if is_planted else [])
    assert ("nobody has sent it" if is_planted else "twofold.errors.Corrupt") in found


@pytest.mark.parametrize("is_planted", [False, True])
def test_the_stores_checksum_is_ignored(is_planted: bool, driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    generation = max((home / "store" / "generations").glob("card-*.gen"))
    with lmdb.open(str(generation), subdir=False, lock=False) as file, file.begin(write=True) as transaction:
        for key, record in list(transaction.cursor()):
            damaged = bytearray(record)
            for eighth in range(1, 8):
                damaged[len(record) * eighth // 8] ^= 0x10
            transaction.put(key, bytes(damaged))
    found = complaints(driver, home, 1, ["store_checksum_ignored"] if is_planted else [])
    assert found
    assert ("twofold.errors.Corrupt" in found) == (not is_planted)


def test_an_append_is_acknowledged_too_early(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    driver.ask("live", home, number=1, plants=["acknowledged_too_early"])
    assert "acknowledged" in complaints(driver, home, 2)


def test_a_generation_is_dropped_before_the_flip(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("live", home, fail_at="flip.before", number=1, plants=["generation_dropped_before_the_flip"]) is None
    assert "generation" in complaints(driver, home, 2)


def test_what_a_killed_writer_left_stays(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    assert driver.ask("live", home, fail_at="generation.before_publish", number=1) is None
    assert "temporary generation" in complaints(driver, home, 2, ["left_over_stays"])


def test_commits_are_lost(driver: Driver, homes: Homes) -> None:
    home = homes.fresh()
    try:
        driver.ask("live", home, number=1, plants=["commits_are_lost"])
    except AssertionError:
        return  # it was seen at once
    assert complaints(driver, home, 2) != ""
