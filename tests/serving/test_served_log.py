"""The served log: nothing that was answered is lost, and what a killed process left can be read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import Corrupt, Unavailable
from twofold.plan.served import Served, ViewRead
from twofold.watch.served_log import ServedLog, read_served


def record(number: int, **other: Any) -> Served:
    read = ViewRead("shop", "v1", None, ("é\n", 1, None), "present", 5)
    plain: dict[str, Any] = {
        "id": f"id-{number}",
        "model": "buy",
        "version": "v",
        "at_us": number,
        "answered_us": number,
        "served_by": "live",
        "request": {"shop": "é\n", "price": 0.1, "item": None},
        "reads": (read,),
        "offsets": {"sales/0": 2},
        "columns": {"a": 1, "b": 1.0, "c": None, "d": "x", "e": True},
        "prediction": 0.1 + 0.2,
    }
    return Served(**{**plain, **other})


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def test_records_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    log = ServedLog(tmp_path / "served")
    log.record([record(1), record(2)])
    log.record([])
    log.record([record(3)])
    found = list(read_served(tmp_path / "served"))
    assert found == [record(1), record(2), record(3)]
    assert [type(value) for value in found[0].columns.values()] == [int, float, type(None), str, bool]
    assert [path.name.split("-")[0] for path in files(tmp_path / "served")] == [str(os.getpid())]
    log.close()
    log.record([record(4)])
    assert [item.id for item in read_served(tmp_path / "served")] == ["id-1", "id-2", "id-3", "id-4"]
    assert len(files(tmp_path / "served")) == 2
    log.close()


def test_nothing_was_served_yet(tmp_path: Path) -> None:
    assert list(read_served(tmp_path / "nowhere")) == []


def test_a_call_is_one_write_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(os, "write", lambda file, data: written.append(bytes(data)) or len(data))
    ServedLog(tmp_path).record([record(number) for number in range(500)])
    assert len(written) == 1
    assert written[0].count(b"\n") == 500


def test_a_file_that_has_grown_is_followed_by_a_new_one(tmp_path: Path) -> None:
    log = ServedLog(tmp_path, rotate_bytes=2000)
    for number in range(40):
        log.record([record(number)])
    assert len(files(tmp_path)) > 4
    assert all(path.stat().st_size < 3000 for path in files(tmp_path))
    assert [item.at_us for item in read_served(tmp_path)] == list(range(40))
    log.close()


def test_a_broken_last_line_is_passed_over_and_any_other_is_not(tmp_path: Path) -> None:
    log = ServedLog(tmp_path)
    log.record([record(1), record(2)])
    log.close()
    [path] = files(tmp_path)
    whole = path.read_bytes()
    for end in range(len(whole) // 2 + 1, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert [item.id for item in read_served(tmp_path)] == ["id-1"], end
    other = ServedLog(tmp_path)
    other.record([record(3)])
    other.close()
    assert [item.id for item in read_served(tmp_path)] == ["id-1", "id-3"], "a process's broken end hides no other's"
    path.write_bytes(b'{"id": \n' + whole)
    with pytest.raises(Corrupt, match=f"{path.name}, line 1 is no record"):
        list(read_served(tmp_path))


def test_a_write_that_fails_half_way_harms_no_later_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, write = ServedLog(tmp_path), os.write
    log.record([record(1)])
    calls = []

    def half(file: int, data: Any) -> int:
        calls.append(file)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(file, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(Unavailable, match="No space left"):
            log.record([record(2)])
    log.record([record(3)])
    assert [item.id for item in read_served(tmp_path)] == ["id-1", "id-3"]
    log.close()


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, write = ServedLog(tmp_path), os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:7]))
        log.record([record(1)])
    assert list(read_served(tmp_path)) == [record(1)]
    log.close()


def test_threads_share_a_log(tmp_path: Path) -> None:
    log = ServedLog(tmp_path, rotate_bytes=20_000)
    threads = [threading.Thread(target=lambda n=n: [log.record([record(n * 100 + i)]) for i in range(50)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(item.at_us for item in read_served(tmp_path)) == sorted(n * 100 + i for n in range(4) for i in range(50))
    log.close()


def test_a_killed_process_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u; spec = u.spec_from_file_location('t', sys.argv[1]); t = u.module_from_spec(spec);"
        "spec.loader.exec_module(t); log = t.ServedLog(sys.argv[2])\n"
        "for number in range(10**9):\n    log.record([t.record(number)]); print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, __file__, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    answered += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    recorded = [item.at_us for item in read_served(tmp_path)]
    assert recorded[: len(answered)] == answered
    assert len(recorded) - len(answered) <= 1
