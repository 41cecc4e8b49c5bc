"""The bell: rings that wake, rings that nobody hears, listeners that are stopped, dead or many."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from twofold.bell import Bell
from twofold.errors import Unavailable

LISTEN = """
import sys
from twofold.bell import Bell
listener = Bell(sys.argv[1]).listen("log")
print("ready", flush=True)
while True:
    print("rung" if listener.wait(60) else "silent", flush=True)
"""
LONG_S = 30.0
"""Longer than any ring takes; a test waits so long only when it fails."""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bell-") as made:
        yield Path(made).resolve()


def start_listener(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", LISTEN, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def sockets(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_ring_wakes_and_is_heard_once(directory: Path) -> None:
    bell = Bell(directory)
    with bell.listen("log") as listener:
        assert not listener.wait(0)
        assert bell.ring("log") == 1
        assert listener.wait(LONG_S)
        assert not listener.wait(0)


def test_rings_before_the_wait_count_and_many_are_one(directory: Path) -> None:
    bell = Bell(directory)
    with bell.listen("log") as listener:
        for _ in range(5):
            bell.ring("log")
        assert listener.wait(0)
        assert not listener.wait(0)
        assert not listener.drain()


def test_a_ring_is_for_its_channel_and_its_directory_only(directory: Path) -> None:
    bell = Bell(directory)
    with bell.listen("log") as log, bell.listen("log/") as other, Bell(directory / "below").listen("log") as elsewhere:
        assert bell.ring("log") == 1
        assert log.wait(LONG_S)
        assert not other.wait(0)
        assert not elsewhere.wait(0)


def test_every_listener_of_a_channel_is_woken(directory: Path) -> None:
    bell = Bell(directory)
    listeners = [bell.listen("log") for _ in range(400)]
    assert bell.ring("log") == 400
    heard = [listener.wait(0) for listener in listeners]
    for listener in listeners:
        listener.close()
    assert all(heard)


@pytest.mark.parametrize("channel", ["", "a/b", "..", "\0", "ü" * 300, "\ud800"])
def test_a_channel_may_have_any_name(directory: Path, channel: str) -> None:
    bell = Bell(directory)
    with bell.listen(channel) as listener:
        bell.ring(channel)
        assert listener.wait(LONG_S)


def test_a_bell_without_listeners_or_directory_rings_for_nobody(directory: Path) -> None:
    assert Bell(directory / "absent").ring("log") == 0
    assert Bell(directory).ring("log") == 0


def test_a_closed_listener_leaves_nothing_behind(directory: Path) -> None:
    bell = Bell(directory)
    listener = bell.listen("log")
    assert len(sockets(directory)) == 1
    listener.close()
    listener.close()
    assert sockets(directory) == []
    assert bell.ring("log") == 0


def test_a_ring_comes_from_another_process_and_wakes_one(directory: Path) -> None:
    process = start_listener(directory)
    try:
        with Bell(directory).listen("log") as here:
            code = f"from twofold.bell import Bell; Bell({str(directory)!r}).ring('log')"
            subprocess.run([sys.executable, "-c", code], check=True)
            assert here.wait(LONG_S)
        assert process.stdout is not None
        assert process.stdout.readline() == "rung\n"
    finally:
        end(process)


def test_a_stopped_listener_neither_blocks_nor_silences_and_wakes_later(directory: Path) -> None:
    bell = Bell(directory)
    process = start_listener(directory)
    try:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with bell.listen("log") as healthy:
            for _ in range(2000):  # far beyond every queue and buffer
                assert bell.ring("log") == 2
                assert healthy.wait(LONG_S)
        process.send_signal(signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.readline() == "rung\n"
    finally:
        end(process)


def test_the_socket_of_a_killed_listener_is_removed_by_the_next_ring(directory: Path) -> None:
    bell = Bell(directory)
    process = start_listener(directory)
    end(process)
    assert len(sockets(directory)) == 1
    with bell.listen("log") as listener:
        assert bell.ring("log") == 1
        assert listener.wait(LONG_S)
        assert len(sockets(directory)) == 1
    assert sockets(directory) == []


def test_a_listener_in_the_making_is_not_taken_for_dead(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making the file and answering on it lies a moment; every name that a ring can see must already answer."""
    bell = Bell(directory)
    rename, seen = os.rename, []

    def ring_first(old: str, new: str) -> None:
        seen.append(bell.ring("log"))
        rename(old, new)

    monkeypatch.setattr(os, "rename", ring_first)
    with bell.listen("log") as listener:
        assert seen == [0]
        assert bell.ring("log") == 1
        assert listener.wait(LONG_S)


def test_a_directory_too_long_for_sockets_has_a_short_one_instead(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    long = directory / ("d" * 100)
    long.mkdir()
    (directory / "link").symlink_to(long)
    with Bell(long).listen("log") as listener:
        assert sockets(long) == []
        assert Bell(directory / "link").ring("log") == 1
        assert Bell(directory / ("e" * 100)).ring("log") == 0
        assert listener.wait(LONG_S)
    shutil.rmtree(long)


def test_a_directory_just_short_enough_is_used_itself(directory: Path) -> None:
    for length in range(40, 110):
        path = directory / ("d" * (length - len(os.fsencode(directory)) - 1)) if length > len(os.fsencode(directory)) + 1 else directory
        with Bell(path).listen("log") as listener:
            Bell(path).ring("log")
            assert listener.wait(LONG_S), path


def test_no_short_directory_is_shared_with_a_stranger(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    Bell(directory / ("d" * 100))
    (made,) = directory.iterdir()
    made.rename(directory / "elsewhere")
    made.symlink_to(directory / "elsewhere")
    with pytest.raises(Unavailable, match="made by another user"):
        Bell(directory / ("d" * 100))
    monkeypatch.setattr(tempfile, "tempdir", str(directory / ("t" * 100)))
    with pytest.raises(Unavailable, match="set TMPDIR"):
        Bell(directory / ("d" * 100))


def test_a_directory_that_holds_no_sockets_is_named(directory: Path) -> None:
    (directory / "file").write_text("")
    with pytest.raises(Unavailable, match=r"cannot listen in .*file"):
        Bell(directory / "file").listen("log")


def test_a_listener_serves_an_event_loop(directory: Path) -> None:
    bell = Bell(directory)

    async def hear() -> bool:
        loop, rung = asyncio.get_running_loop(), asyncio.Event()
        with bell.listen("log") as listener:
            loop.add_reader(listener.fileno(), lambda: listener.drain() and rung.set())
            bell.ring("log")
            await asyncio.wait_for(rung.wait(), LONG_S)
            loop.remove_reader(listener.fileno())
            return listener.drain()

    assert asyncio.run(hear()) is False
