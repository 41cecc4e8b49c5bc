"""The SQLite file of a log: made once, recognised, opened, its errors put into our words; what its rows mean is not known here."""

from __future__ import annotations

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twofold.errors import Corrupt, LogUnavailable, VersionError
from twofold.log.file_lock import FileLock
from twofold.log.limits import check_partitions

_APPLICATION_ID = 0x32464C47
_FORMAT = 2
_TABLES = (
    "CREATE TABLE log (format INTEGER NOT NULL, uuid TEXT NOT NULL, partitions INTEGER NOT NULL, failed_commits INTEGER NOT NULL)",
    """CREATE TABLE batch (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, partition INTEGER NOT NULL, first_offset INTEGER NOT NULL, count INTEGER NOT NULL,
        arrival_us INTEGER NOT NULL, accepted_us INTEGER NOT NULL, head_crc32 INTEGER NOT NULL, payload_crc32 INTEGER NOT NULL,
        payload BLOB NOT NULL)""",
    "CREATE UNIQUE INDEX batch_place ON batch (source, partition, first_offset)",
    """CREATE TABLE start (
        source TEXT NOT NULL, partition INTEGER NOT NULL, start_offset INTEGER NOT NULL, crc32 INTEGER NOT NULL,
        PRIMARY KEY (source, partition))""",
)
_DAMAGED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_CONSTRAINT}
_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space and append again",
    sqlite3.SQLITE_IOERR: "the disk does not take it: look at its space, limits and health, then append again",
    sqlite3.SQLITE_BUSY: "another program has locked the file: end it and try again",
    sqlite3.SQLITE_READONLY: "the file or its directory is read-only: change that and try again",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: look at its directory's permissions and the number of open files",
}


@dataclass(frozen=True)
class Identity:
    """What a log was made with."""

    uuid: str
    partitions: int
    format: int = _FORMAT


def open_or_create(path: Path, partitions: int | None, lock: FileLock, timeout_s: float) -> tuple[sqlite3.Connection, Identity]:
    """A connection to the log at `path` and its identity; it is made with `partitions` (None: 1) where there is none.

    The file appears whole: a process that is killed meanwhile leaves an empty one, which the next takes for none.
    """
    check_partitions(1 if partitions is None else partitions)
    with translated(path):
        connection = connect(path, timeout_s)
        try:
            identity = _identity(path, connection)
            is_ready = connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            if identity is None or not is_ready:
                with lock.held(time.monotonic() + timeout_s):
                    identity = _identity(path, connection) or _create(connection, partitions or 1)
                    connection.execute("PRAGMA journal_mode = WAL")
            if identity.format < _FORMAT:
                with lock.held(time.monotonic() + timeout_s):
                    _move_on(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection, identity


def connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode whose commits are durable; any thread may use it, one at a time."""
    connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    except BaseException:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection, partitions: int) -> Identity:
    identity = Identity(str(uuid.uuid4()), partitions)
    connection.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        connection.execute(table)
    connection.execute("INSERT INTO log VALUES (?, ?, ?, 0)", (_FORMAT, identity.uuid, partitions))
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute("COMMIT")
    return identity


def _move_on(path: Path, connection: sqlite3.Connection) -> None:
    """Give a log of format 1 the table of starts, which is all that it lacks."""
    if (identity := _identity(path, connection)) is not None and identity.format < _FORMAT:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLES[-1])
        connection.execute("UPDATE log SET format = ?", (_FORMAT,))
        connection.execute("COMMIT")


def _identity(path: Path, connection: sqlite3.Connection) -> Identity | None:
    """None where the file is empty; raises Corrupt where it is anything but a log of ours, VersionError for one of a later version."""
    connection.execute("BEGIN")
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application == 0 and tables == 0:
            return None
        if application != _APPLICATION_ID:
            raise Corrupt(f"{path} is no event log but another program's database; give the log a path of its own")
        row = connection.execute("SELECT format, uuid, partitions FROM log").fetchone()
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if row is None:
        raise Corrupt(f"log {path} is damaged: it does not know its identity; restore it from a copy")
    if row[0] > _FORMAT:
        raise VersionError(f"log {path} has format {row[0]}; this version of Twofold reads format {_FORMAT}: take a newer version")
    return Identity(row[1], row[2], row[0])


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into Corrupt (the file is damaged or no log) or LogUnavailable (nothing was changed, a retry may succeed)."""
    try:
        yield
    except UnicodeDecodeError as error:  # the text of SQLite's own error cites bytes of the file, and Python could not even say it
        raise _damaged(path, "its text is not UTF-8") from error
    except sqlite3.Error as error:
        # Python's own errors have no code: a misuse (closed meanwhile), or a value that cannot be what we wrote.
        without = sqlite3.SQLITE_MISUSE if isinstance(error, sqlite3.ProgrammingError) else sqlite3.SQLITE_CORRUPT
        code = getattr(error, "sqlite_errorcode", without) & 0xFF
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if code in _DAMAGED:
            raise _damaged(path, f"{name}: {error}") from error
        advice = _ADVICE.get(code, "nothing was changed; try again")
        raise LogUnavailable(f"log {path} does not answer ({name}: {error}); {advice}") from error


def _damaged(path: Path, what: str) -> Corrupt:
    return Corrupt(f"{path} is no event log or is damaged ({what}); give another path, or restore the log from a copy")
