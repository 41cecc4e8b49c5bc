"""What only the SQLite log has: identity on disk, shared commits, locks and time limits, files that are none of ours."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twofold.errors import Corrupt, LogUnavailable, VersionError
from twofold.log.base import Append, Position
from twofold.log.file_lock import FileLock
from twofold.log.group_commit import Call
from twofold.log.sqlite import SqliteLog

EVENT = [Append("s", 0, 1, b"x")]
LONG_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "log"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """The log's lock, held as another process would."""
    lock = FileLock(path)
    with lock.held(time.monotonic() + LONG_S):
        yield
    lock.close()


def append_at_once(log: SqliteLog, path: Path, callers: int) -> list[Position | Exception]:
    """What each of several threads got whose calls all queued before one commit."""
    got: list[Position | Exception] = []

    def work() -> None:
        try:
            got.append(log.append(EVENT, 0))
        except Exception as error:
            got.append(error)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    with locked(path):
        for thread in threads:
            thread.start()
        while len(log._commits._queue) < callers:
            assert not got, "nobody commits without the lock"
            os.sched_yield()
    for thread in threads:
        thread.join()
    return got


def test_identity_and_partitions_are_those_of_the_creation(path: Path) -> None:
    first = SqliteLog(path, partitions=3)
    first.append([Append("s", 2, 1, b"x")], 0)
    for asked in (1, 7, None):
        again = SqliteLog(path, partitions=asked)
        assert (again.uuid, again.partitions) == (first.uuid, 3)
        again.close()
    first.close()
    reopened = SqliteLog(str(path), partitions=None)
    assert (reopened.uuid, reopened.partitions) == (first.uuid, 3)
    assert reopened.end_offsets(["s"])["s", 2] == 1
    reopened.close()
    other = SqliteLog(path.with_name("other"), partitions=None)
    assert other.partitions == 1
    assert other.uuid != first.uuid
    other.close()


def test_threads_of_one_process_may_create_it_at_once(path: Path) -> None:
    logs: list[SqliteLog] = []
    threads = [threading.Thread(target=lambda: logs.append(SqliteLog(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({log.uuid for log in logs}) == 1
    for log in logs:
        log.close()
    assert len(logs) == 8


def test_calls_that_queue_during_a_commit_share_the_next(path: Path) -> None:
    log = SqliteLog(path)
    got = append_at_once(log, path, 8)
    assert sorted(each.offsets["s", 0] for each in got if isinstance(each, Position)) == list(range(1, 9))
    assert len({batch.accepted_us for batch in log.read("s", 0, 0, 100)}) == 1
    log.close()


def test_the_error_of_a_commit_reaches_all_who_shared_it(path: Path) -> None:
    log = SqliteLog(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE batch RENAME TO gone")
        got = append_at_once(log, path, 8)
        other.execute("ALTER TABLE gone RENAME TO batch")
    assert [type(each) for each in got] == [Corrupt] * 8
    assert len({id(each) for each in got}) == 8
    assert log.append(EVENT, 0).offsets == {("s", 0): 1}
    log.close()


def test_a_commit_that_fails_on_its_second_batch_leaves_nothing_of_the_first(path: Path) -> None:
    log = SqliteLog(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TRIGGER refusal BEFORE INSERT ON batch WHEN NEW.source = 't' BEGIN SELECT RAISE(ABORT, 'refused'); END")
        with pytest.raises(Corrupt, match="refused"):
            log.append([*EVENT, Append("t", 0, 1, b"y")], 0)
        other.execute("DROP TRIGGER refusal")
    assert log.end_offsets(["s", "t"]) == {("s", 0): 0, ("t", 0): 0}
    assert log.append(EVENT, 0).offsets == {("s", 0): 1}
    log.close()


class Interrupted:
    """A connection on which a signal comes while a statement is carried out: Python hears of it right after."""

    def __init__(self, connection: sqlite3.Connection, statement: str) -> None:
        self._connection, self._statement = connection, statement

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        done = self._connection.execute(statement, *values)
        if statement == self._statement:
            self._statement = ""
            raise KeyboardInterrupt
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT"])
def test_callers_are_told_what_the_log_has_where_the_one_that_commits_is_interrupted(path: Path, statement: str) -> None:
    log = SqliteLog(path, timeout_s=0.1)
    log.append(EVENT, 0)
    log._writer = Interrupted(log._writer, statement)  # type: ignore[assignment, arg-type]
    calls = [Call(EVENT, 0, time.monotonic() + LONG_S) for _ in range(2)]
    log._commits._queue += calls
    with pytest.raises(KeyboardInterrupt):
        log._commits._lead(calls[0])
    end = log.end_offsets(["s"])["s", 0]
    assert end == (3 if statement == "COMMIT" else 1)
    assert [call.position is not None for call in calls] == [end > 1] * 2
    other = SqliteLog(path, timeout_s=0.1)
    for one in (log, other):
        end += 1
        assert one.append(EVENT, 0).offsets == {("s", 0): end}
        one.close()


def test_a_lock_held_too_long_is_unavailable_and_names_the_holder(path: Path) -> None:
    log = SqliteLog(path, timeout_s=0.02)
    with locked(path), pytest.raises(LogUnavailable, match=rf"longer than the timeout by process {os.getpid()}; nothing was appended"):
        log.append(EVENT, 0)
    assert log.end_offsets(["s"]) == {("s", 0): 0}
    assert log.append(EVENT, 0).offsets == {("s", 0): 1}
    log.close()


def test_another_program_that_locks_the_file_makes_it_unavailable(path: Path) -> None:
    log = SqliteLog(path, timeout_s=0.02)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match="SQLITE_BUSY"):
            log.append(EVENT, 0)
        assert log.read("s", 0, 0, 1) == []
    assert log.append(EVENT, 0).offsets == {("s", 0): 1}
    log.close()


def test_readers_and_the_lock_do_not_know_each_other(path: Path) -> None:
    log = SqliteLog(path)
    log.append(EVENT, 0)
    with locked(path):
        late = SqliteLog(path, timeout_s=0.02)
        assert late.end_offsets(["s"]) == {("s", 0): 1}
        assert [batch.payload for batch in late.read("s", 0, 0, 1)] == [b"x"]
    late.close()
    log.close()


def test_a_reader_in_the_middle_of_its_transaction_does_not_hold_up_an_append(path: Path) -> None:
    log = SqliteLog(path, timeout_s=0.02)
    log.append(EVENT, 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as slow:
        slow.execute("BEGIN")
        assert slow.execute("SELECT count(*) FROM batch").fetchone() == (1,)
        for _ in range(3):
            log.append([Append("s", 0, 1, bytes(3_000_000))], 0)  # beyond the size at which SQLite writes its WAL back
        assert slow.execute("SELECT count(*) FROM batch").fetchone() == (1,)
    assert log.end_offsets(["s"]) == {("s", 0): 4}
    log.close()


def test_a_closed_log_says_so_and_leaves_one_file_of_data(path: Path) -> None:
    log = SqliteLog(path)
    log.append(EVENT, 0)
    log.close()
    log.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["log", "log-gate", "log-lock"]
    for use in (lambda: log.append(EVENT, 0), lambda: log.read("s", 0, 0, 1), lambda: log.end_offsets(["s"])):
        with pytest.raises(LogUnavailable, match="was closed"):
            use()


def test_a_forked_child_is_refused(path: Path) -> None:
    log = SqliteLog(path)
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (lambda: log.append(EVENT, 0), lambda: log.read("s", 0, 0, 1)):
            with contextlib.suppress(BaseException):
                try:
                    use()
                except LogUnavailable as error:
                    refused += "before this process was forked" in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    log.append(EVENT, 0)
    log.close()


def test_what_is_not_a_log_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("flight_id,origin\n" * 1000)
    foreign = path.with_name("foreign")
    with contextlib.closing(sqlite3.connect(foreign)) as other:
        other.execute("CREATE TABLE log (uuid TEXT)")
    for file, text in ((path, "no event log or is damaged"), (foreign, "another program's database")):
        before = file.read_bytes()
        with pytest.raises(Corrupt, match=text):
            SqliteLog(file)
        assert file.read_bytes() == before


def test_flipped_bytes_that_sqlites_own_error_cites_are_a_damaged_log(path: Path) -> None:
    SqliteLog(path).close()
    path.write_bytes(path.read_bytes().replace(b"partition, first_offset)", b"partition, first_of\xacset)"))
    with pytest.raises(Corrupt, match="is no event log or is damaged"):
        SqliteLog(path)


def test_a_log_without_its_identity_or_of_a_later_version_is_refused(path: Path) -> None:
    SqliteLog(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE log SET format = 3")
        with pytest.raises(VersionError, match="format 3"):
            SqliteLog(path)
        other.execute("DELETE FROM log")
        with pytest.raises(Corrupt, match="does not know its identity"):
            SqliteLog(path)


def test_an_empty_file_becomes_a_log(path: Path) -> None:
    """A process killed while it made the log leaves one."""
    path.parent.mkdir()
    path.touch()
    log = SqliteLog(path, partitions=2)
    assert log.partitions == 2
    log.close()


def test_a_place_where_no_log_can_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for place in (tmp_path / "file" / "log", tmp_path / "directory"):
        with pytest.raises(LogUnavailable, match="cannot"):
            SqliteLog(place)


def test_a_missing_batch_is_found_on_reading(path: Path) -> None:
    log = SqliteLog(path)
    for _ in range(4):
        log.append(EVENT, 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM batch WHERE first_offset = 1")
    assert len(log.read("s", 0, 0, 1)) == 1
    for offset, events in ((0, 3), (1, 1), (1, 100)):
        with pytest.raises(Corrupt, match=r"the batch of s/0 at offset"):
            log.read("s", 0, offset, events)
    log.close()
