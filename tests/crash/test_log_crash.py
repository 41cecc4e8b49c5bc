"""The SQLite log where things break: many processes at once, SIGKILL, damaged bytes, a full disk, an fsync that fails."""

from __future__ import annotations

import contextlib
import json
import platform
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_disk import mounted

from twofold.errors import Corrupt, LogMismatch, LogUnavailable, VersionError
from twofold.log.base import Append, Position, RecordBatch
from twofold.log.sqlite import SqliteLog

PRELUDE = """
import ctypes, json, os, random, resource, struct, sys
from twofold.errors import LogUnavailable
from twofold.log.base import Append
from twofold.log.sqlite import SqliteLog
path = sys.argv[1]
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str]) -> list[str]:
    """All that a process prints until it ends; it must end well."""
    out, _ = process.communicate()
    assert process.returncode == 0
    return out.splitlines()


def whole(log: SqliteLog, source: str, partition: int) -> list[RecordBatch]:
    """All batches of a partition, whose offsets must be dense up to its end and whose arrivals must not go back."""
    batches = log.read(source, partition, 0, 10**9)
    ends = [batch.end_offset for batch in batches]
    assert [batch.first_offset for batch in batches] == [0, *ends][:-1]
    assert log.end_offsets([source])[source, partition] == (ends[-1] if ends else 0)
    arrivals = [batch.arrival_us for batch in batches]
    assert arrivals == sorted(arrivals)
    return batches


# Many processes at once.

APPEND_AT_ONCE = """
number, turns = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
log = SqliteLog(path, partitions=2)
chance = random.Random(number)
for turn in range(turns):
    places = [(source, partition) for source in "ab" for partition in range(2)]
    batches = [Append(*chance.choice(places), chance.randint(1, 5), b"%d/%d/%d" % (number, turn, i)) for i in range(chance.randint(1, 3))]
    position = log.append(batches, chance.randint(0, 1000))
    print(json.dumps([str(position), [[b.source, b.partition, b.count, b.payload.decode()] for b in batches]]))
print(json.dumps(log.uuid))
log.close()
"""


def test_four_processes_make_one_log_and_append_at_once(tmp_path: Path) -> None:
    processes = [start(APPEND_AT_ONCE, tmp_path / "log", number, 100) for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [[json.loads(line) for line in lines(process)] for process in processes]

    log = SqliteLog(tmp_path / "log")
    assert {output.pop() for output in outputs} == {log.uuid}
    held = {batch.payload.decode(): batch for source in "ab" for part in range(2) for batch in whole(log, source, part)}
    said = [batch for output in outputs for _, batches in output for batch in batches]
    assert sorted(held) == sorted(payload for *_, payload in said)
    for source, partition, count, payload in said:
        assert (held[payload].source, held[payload].partition, held[payload].count) == (source, partition, count)
    for text, batches in (append for output in outputs for append in output):
        ends = {(source, partition): held[payload].end_offset for source, partition, _, payload in batches}
        assert Position.parse(text) == Position(log.uuid, ends)
    log.close()


# SIGKILL.

APPEND_FOR_EVER = """
log, number = SqliteLog(path, partitions=2), int(sys.argv[2])
chance = random.Random(number)
while True:
    payload = json.dumps(number).encode() + bytes(chance.choice([0, 100, 200_000]))
    log.append([Append("s", 0, 3, payload), Append("s", 1, 2, payload)], number)
    print(number, flush=True)
    number += 1
"""


def numbers(batches: list[RecordBatch]) -> list[int]:
    return [json.loads(batch.payload.rstrip(b"\0")) for batch in batches]


def test_what_a_killed_process_had_acknowledged_is_there_and_nothing_by_halves(tmp_path: Path) -> None:
    chance, acknowledged, witness, next_number = random.Random(7), [], None, 0
    for turn in range(8):
        if turn == 4:
            witness = SqliteLog(tmp_path / "log")  # from here on the log stays open somewhere, so nobody recovers it from the WAL alone
        process = start(APPEND_FOR_EVER, tmp_path / "log", next_number)
        assert process.stdout is not None
        for _ in range(chance.randint(1, 40)):
            acknowledged.append(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout]  # not by communicate(), which passes over what readline() has buffered
        process.communicate()

        log = SqliteLog(tmp_path / "log")
        first, second = numbers(whole(log, "s", 0)), numbers(whole(log, "s", 1))
        assert first == second, "one append is in two partitions or in none"
        assert set(acknowledged) <= set(first)
        assert len(set(first)) == len(first)
        assert {batch.count for batch in log.read("s", 0, 0, 10**9)} == {3}
        assert len(first) <= len(acknowledged) + turn + 1, "each killed process may have left one append that it had not yet told of"
        next_number = max(first) + 1
        log.close()
    assert witness is not None
    assert numbers(whole(witness, "s", 0)) == first
    witness.close()


TRIM_FOR_EVER = """
log = SqliteLog(path)
print("ready", flush=True)
while True:
    end = log.end_offsets(["s"])["s", 0]
    log.trim("s", 0, max(0, end - 30))
"""


def test_a_trim_killed_anywhere_leaves_a_log_that_begins_where_it_says(tmp_path: Path) -> None:
    chance = random.Random(5)
    log = SqliteLog(tmp_path / "log")
    appended = began = 0
    for _ in range(6):
        process = start(TRIM_FOR_EVER, tmp_path / "log")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(chance.randint(5, 120)):
            log.append([Append("s", 0, 3, bytes(chance.choice([10, 100_000])))], appended)
            appended += 3
        process.kill()
        process.communicate()
        begins, end = log.start_offsets(["s"])["s", 0], log.end_offsets(["s"])["s", 0]
        assert end == appended
        assert began <= begins <= max(0, end - 30)
        held = log.read("s", 0, begins, 10**9)
        assert [batch.first_offset for batch in held] == list(range(begins, end, 3))
        assert begins == 0 or not_there(log, begins - 1)
        began = begins
    assert began > 0
    assert log.trim("s", 0, appended) == appended - 3
    log.close()


def not_there(log: SqliteLog, offset: int) -> bool:
    try:
        log.read("s", 0, offset, 1)
    except LogMismatch:
        return True
    return False


def test_pages_of_dropped_batches_are_used_again(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    for number in range(60):
        end = log.append([Append("s", 0, 1, bytes(100_000))], number).offsets["s", 0]
        log.trim("s", 0, max(0, end - 5))
    log.close()
    assert (tmp_path / "log").stat().st_size < 3_000_000


def test_a_log_made_before_logs_were_trimmed_is_taken_on(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    log.append([Append("s", 0, 1, b"x"), Append("s", 0, 1, b"y")], 0)
    log.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log")) as file, file:
        file.execute("DROP TABLE start")
        file.execute("UPDATE log SET format = 1")
    log = SqliteLog(tmp_path / "log")
    assert log.start_offsets(["s"]) == {("s", 0): 0}
    assert log.trim("s", 0, 2) == 1
    log.close()


def test_a_lost_batch_is_damage_and_a_changed_start_too(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log")
    for _ in range(4):
        log.append([Append("s", 0, 1, b"x")], 0)
    log.trim("s", 0, 1)
    log.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log")) as file, file:
        file.execute("DELETE FROM batch WHERE first_offset = 1")
    log = SqliteLog(tmp_path / "log")
    with pytest.raises(Corrupt):
        log.read("s", 0, 1, 1)
    with pytest.raises(Corrupt, match="should begin at 1 and begins at 2"):
        log.trim("s", 0, 3)
    log.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log")) as file, file:
        file.execute("UPDATE start SET start_offset = 2")
    log = SqliteLog(tmp_path / "log")
    with pytest.raises(Corrupt, match="start of s/0"):
        log.start_offsets(["s"])
    log.close()


def test_a_killed_holder_of_the_lock_gives_it_back(tmp_path: Path) -> None:
    process = start(
        """
from twofold.log.file_lock import FileLock
with FileLock(__import__("pathlib").Path(path)).held(float("inf")):
    print("held", flush=True)
    sys.stdin.readline()
""",
        tmp_path / "log",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    log = SqliteLog(tmp_path / "log", timeout_s=0.5)
    assert log.append([Append("s", 0, 1, b"x")], 0).offsets == {("s", 0): 1}
    log.close()


# Damaged bytes.

MARK = b"<the middle of the payload>"


def damaged(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x40
    path.write_bytes(raw)


def test_a_flipped_byte_of_a_payload_is_corrupt_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = SqliteLog(path, partitions=2)
    for payload in (b"a" * 9000, b"b" * 5000 + MARK + b"b" * 5000, b"c" * 9000):
        log.append([Append("flights", 1, 10, payload)], 0)
    log.close()
    damaged(path, path.read_bytes().index(MARK))
    log = SqliteLog(path)
    for offset, events in ((10, 1), (15, 1), (0, 100)):
        with pytest.raises(Corrupt, match=r"log is damaged: the batch of flights/1 at offset 10"):
            log.read("flights", 1, offset, events)
    assert [batch.payload[:1] for batch in log.read("flights", 1, 0, 10)] == [b"a"]
    assert [batch.payload[:1] for batch in log.read("flights", 1, 20, 10)] == [b"c"]
    assert log.append([Append("flights", 1, 1, b"d")], 0).offsets == {("flights", 1): 31}
    log.close()


def answers_are_right(log: SqliteLog, right: list[RecordBatch]) -> list[bool | None]:
    """Of the end, of an append and of a read; None where the log rather says that it is damaged."""
    end = right[-1].end_offset
    answers: list[bool | None] = []
    for is_right in (
        lambda: log.end_offsets(["s"])["s", 0] == end,
        lambda: log.append([Append("s", 0, 1, b"x")], 0).offsets["s", 0] == end + 1,
        lambda: log.read("s", 0, 0, end) == right,
    ):
        try:
            answers.append(is_right())
        except (Corrupt, LogUnavailable):
            answers.append(None)
    return answers


def test_wherever_a_byte_flips_no_wrong_event_is_read_and_no_offset_is_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = SqliteLog(path)
    for number in range(12):
        log.append([Append("s", 0, 1 + number, b"%d" % number * 150)], number)
    right, uuid = whole(log, "s", 0), log.uuid
    log.close()
    raw, chance, found = path.read_bytes(), random.Random(3), 0
    head_of_last = raw.rindex(b"11" * 150)  # the columns of the last batch stand right before its payload
    places = [*chance.choices(range(len(raw)), k=50), *range(head_of_last - 40, head_of_last + 10)]
    for at in places:
        path.write_bytes(raw)
        damaged(path, at)
        try:
            log = SqliteLog(path, timeout_s=0)
        except (Corrupt, VersionError, LogUnavailable):
            found += 1
            continue
        if log.uuid != uuid:
            found += 1  # whoever reads this log will say so
        else:
            answers = answers_are_right(log, right)
            assert False not in answers
            found += None in answers
        log.close()
    assert found > 40


# A full disk.

EVENTS = [Append("s", 0, 10, b"p" * 50_000)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of its own."""
    with mounted(tmp_path / "disk", 2) as place:
        yield place


def append_until_refused(log: SqliteLog) -> tuple[int, str]:
    """The end offset when the log no longer took events, and what it said."""
    end = log.end_offsets(["s"])["s", 0]
    try:
        while True:
            end = log.append(EVENTS, 0).offsets["s", 0]
    except LogUnavailable as error:
        return end, str(error)


def test_a_full_disk_is_unavailable_and_the_log_goes_on_when_there_is_space(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(1_000_000))
    log, held = SqliteLog(small_disk / "log"), 0
    for is_full_again in (False, True):
        held, reason = append_until_refused(log)
        assert held > 0
        assert "disk is full" in reason
        for _ in range(3):
            with pytest.raises(LogUnavailable):
                log.append(EVENTS, 0)
        assert len(whole(log, "s", 0)) * 10 == held
        if not is_full_again:
            (small_disk / "other").unlink()
            held = log.append(EVENTS, 0).offsets["s", 0]
            assert len(whole(log, "s", 0)) * 10 == held
    log.close()
    log = SqliteLog(small_disk / "log")
    assert len(whole(log, "s", 0)) * 10 == held
    log.close()


def test_on_a_full_disk_no_log_is_made_and_later_one_is(small_disk: Path) -> None:
    with contextlib.suppress(OSError), (small_disk / "other").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    with pytest.raises(LogUnavailable):
        SqliteLog(small_disk / "log")
    (small_disk / "other").unlink()
    log = SqliteLog(small_disk / "log")
    log.append(EVENTS, 0)
    log.close()


REACH_THE_LIMIT = """
log = SqliteLog(path)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, most))
batch, held = [Append("s", 0, 10, b"p" * 50_000)], 0
for _ in range(3):
    try:
        while True:
            held = log.append(batch, 0).offsets["s", 0]
    except LogUnavailable:
        assert len(log.read("s", 0, 0, 10**9)) * 10 == held
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
before, after = held, log.append(batch, 0).offsets["s", 0]
print(json.dumps([before, after]))
os.kill(os.getpid(), 9)
"""


def test_a_file_that_may_not_grow_is_unavailable_and_the_log_goes_on_later(tmp_path: Path) -> None:
    process = start(REACH_THE_LIMIT, tmp_path / "log")
    before, after = json.loads(process.communicate()[0])
    assert (before > 0, after) == (True, before + 10)
    log = SqliteLog(tmp_path / "log")
    assert len(whole(log, "s", 0)) * 10 == after
    log.close()


# An fsync that fails.

FAIL_EVERY_FSYNC = """
log = SqliteLog(path)
log.append([Append("s", 0, 1, b"before")], 0)

# A filter of the kernel: fsync and fdatasync answer EIO, everything else goes on.
EIO, ALLOW, ERRNO, LOAD, EQUAL, RETURN = 5, 0x7FFF0000, 0x00050000, 0x20, 0x15, 0x06
numbers = json.loads(sys.argv[2])
programme = [(LOAD, 0, 0, 0), (EQUAL, 1, 0, numbers[0]), (EQUAL, 0, 1, numbers[1]), (RETURN, 0, 0, ERRNO | EIO), (RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in programme))
class Programme(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Programme(len(programme), ctypes.addressof(code))), 0, 0):
    print(json.dumps(os.strerror(ctypes.get_errno())))
    sys.exit()

failed = []
for _ in range(int(sys.argv[3])):
    try:
        log.append([Append("s", 0, 1, b"must not come back" * 3000)], 0)
    except LogUnavailable as error:
        failed.append(str(error))
ends = log.end_offsets("s")["s", 0]
print(json.dumps([failed, ends]), flush=True)
os.kill(os.getpid(), 9)
"""
FSYNC_AND_FDATASYNC = {"x86_64": [74, 75], "aarch64": [82, 83]}


@pytest.mark.parametrize("times", [1, 3])
def test_a_failed_fsync_is_not_tried_again_and_its_events_do_not_come_back_with_a_recovery(tmp_path: Path, times: int) -> None:
    if sys.platform != "linux" or platform.machine() not in FSYNC_AND_FDATASYNC:
        pytest.skip(f"no fsync can be made to fail on {sys.platform} {platform.machine()}")
    process = start(FAIL_EVERY_FSYNC, tmp_path / "log", FSYNC_AND_FDATASYNC[platform.machine()], times)
    answer = json.loads(process.communicate()[0])
    if isinstance(answer, str):
        pytest.skip(f"no fsync can be made to fail here: {answer}")
    failed, end = answer
    assert (len(failed), end) == (times, 1)
    assert all("the disk does not take it" in text for text in failed)
    log = SqliteLog(tmp_path / "log")  # nobody else has it open: SQLite reads the WAL anew
    assert [batch.payload for batch in whole(log, "s", 0)] == [b"before"]
    assert log.append([Append("s", 0, 1, b"after")], 0).offsets == {("s", 0): 2}
    log.close()
