"""The clocks: of the machine, moved by hand, shared by processes."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from twofold.clocks import ManualClock, ReplayClock, SystemClock
from twofold.errors import Corrupt, DataError, DefinitionError, SchemaMismatch, Unavailable
from twofold.instants import Clock

FAR_US = 2**61


def test_every_clock_is_a_clock(tmp_path: Path) -> None:
    replay = ReplayClock(tmp_path / "clock")
    replay.set(1)
    clocks: list[Clock] = [SystemClock(), ManualClock(1), replay]
    assert all(isinstance(clock.now_us(), int) for clock in clocks)


def test_the_system_clock_gives_wall_time_in_microseconds() -> None:
    before, now_us, after = time.time_ns(), SystemClock().now_us(), time.time_ns()
    assert before // 1000 <= now_us <= after // 1000


def test_the_system_clock_stands_still_when_the_machine_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "_latest_us", 0)
    wall = iter([5_000_999, 3_000_000, 6_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(wall))
    assert [SystemClock().now_us() for _ in range(3)] == [5_000, 5_000, 6_000]


def test_a_manual_clock_moves_only_when_moved() -> None:
    clock = ManualClock("2013-10-01T00:00:00Z")
    start_us = clock.now_us()
    assert start_us == 1_380_585_600_000_000
    clock.advance("90s")
    clock.advance(timedelta(microseconds=1))
    assert clock.now_us() == start_us + 90_000_001
    clock.set(datetime(2013, 10, 2, tzinfo=UTC))
    assert clock.now_us() == start_us + 86_400_000_000


def test_a_manual_clock_goes_back_only_when_told() -> None:
    clock = ManualClock(1_000_000)
    clock.set(1_000_000)
    with pytest.raises(DataError, match=r"1970-01-01T00:00:01Z and would go back to 1970-01-01T00:00:00\.999999Z"):
        clock.set(999_999)
    assert clock.now_us() == 1_000_000
    clock.set(999_999, back=True)
    assert clock.now_us() == 999_999
    with pytest.raises(DefinitionError):
        clock.advance(timedelta(seconds=-1))
    assert clock.now_us() == 999_999


def test_a_clock_takes_no_datetime_without_a_zone(tmp_path: Path) -> None:
    for move in (ManualClock, ManualClock(0).set, ReplayClock(tmp_path / "clock").set):
        with pytest.raises(SchemaMismatch):
            move(datetime(2013, 10, 1))
    assert not (tmp_path / "clock").exists()


def test_a_replay_clock_that_was_never_set_says_what_to_do(tmp_path: Path) -> None:
    clock = ReplayClock(tmp_path / "home" / "clock")
    with pytest.raises(Unavailable, match="never set; start the replay, or set it"):
        clock.now_us()
    ReplayClock(tmp_path / "home" / "clock").set(7)
    assert clock.now_us() == 7


@pytest.mark.parametrize("instant", [0, -1, 1, FAR_US, -FAR_US])
def test_a_replay_clock_shows_to_all_what_was_set_by_any(tmp_path: Path, instant: int) -> None:
    driver, reader = ReplayClock(tmp_path / "clock"), ReplayClock(tmp_path / "clock")
    driver.set(42)
    assert (driver.now_us(), reader.now_us()) == (42, 42)
    driver.set(instant)
    assert (driver.now_us(), reader.now_us()) == (instant, instant)
    ReplayClock(tmp_path / "clock").set(instant - 1)
    assert reader.now_us() == instant - 1
    assert [path.name for path in tmp_path.iterdir()] == ["clock"]


def test_a_replay_clock_outlives_its_driver(tmp_path: Path) -> None:
    path = str(tmp_path / "clock")
    subprocess.run([sys.executable, "-c", f"from twofold.clocks import ReplayClock; ReplayClock({path!r}).set(99)"], check=True)
    assert ReplayClock(path).now_us() == 99


def test_a_reader_in_another_process_never_sees_half_an_instant(tmp_path: Path) -> None:
    path = str(tmp_path / "clock")
    ReplayClock(path).set(FAR_US)
    driver = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from twofold.clocks import ReplayClock; clock = ReplayClock({path!r})\nwhile True: clock.set(-1); clock.set({FAR_US})",
        ]
    )
    reader = ReplayClock(path)
    try:
        while reader.now_us() != -1:
            assert driver.poll() is None
        seen = {reader.now_us() for _ in range(200_000)}
    finally:
        driver.kill()
        driver.wait()
    assert seen <= {-1, FAR_US}


def test_a_file_of_another_size_is_no_replay_clock(tmp_path: Path) -> None:
    (tmp_path / "clock").write_bytes(b"123")
    for use in (lambda: ReplayClock(tmp_path / "clock").now_us(), lambda: ReplayClock(tmp_path / "clock").set(1)):
        with pytest.raises(Corrupt, match="3 bytes instead of 8"):
            use()
    assert (tmp_path / "clock").read_bytes() == b"123"
