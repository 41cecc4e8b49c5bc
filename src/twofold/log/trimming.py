"""Dropping the oldest batches of a SQLite log: a few at a time between the appenders' commits, with the start offset that says so.

A dropped batch and the new start commit as one, so a batch that is absent without that record is damage, never retention. The file does
not shrink: later appends use its free pages again, so it grows no larger than what it held at once.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import zlib
from pathlib import Path

from twofold.errors import Corrupt
from twofold.fail_points import fail_point
from twofold.log.file_lock import FileLock
from twofold.log.sqlite_file import connect, translated

_OLDEST = """
    SELECT id, first_offset, count, length(payload) FROM batch
    WHERE source = :source AND partition = :partition AND first_offset + count <= :before
    AND first_offset < (SELECT max(first_offset) FROM batch WHERE source = :source AND partition = :partition)
    ORDER BY first_offset LIMIT 256"""
_MOST_BYTES = 4 << 20
"""So much goes in one commit, at least one batch: no appender waits much longer than for another's commit."""


def start_of(connection: sqlite3.Connection, path: Path, source: str, partition: int) -> int:
    """The offset of the first event that was not dropped; raises Corrupt where its checksum fails."""
    row = connection.execute("SELECT start_offset, crc32 FROM start WHERE source = ? AND partition = ?", (source, partition)).fetchone()
    if row is None:
        return 0
    if _crc32(source, partition, row[0]) != row[1]:
        raise Corrupt(f"log {path} is damaged: the start of {source}/{partition} does not fit its checksum; restore the log from a copy")
    return int(row[0])


def trim(path: Path, source: str, partition: int, before_offset: int, timeout_s: float) -> int:
    """What `TrimmableLog.trim` says, with a lock and a connection of its own: threads of this process append meanwhile as well."""
    lock = FileLock(path)
    try:
        with translated(path), contextlib.closing(connect(path, timeout_s)) as connection:
            while True:
                with lock.held(time.monotonic() + timeout_s):
                    dropped = _drop_some(connection, path, source, partition, before_offset)
                    if dropped:
                        fail_point("trim.after_commit")
                if not dropped:
                    return start_of(connection, path, source, partition)
    finally:
        lock.close()


def _drop_some(connection: sqlite3.Connection, path: Path, source: str, partition: int, before_offset: int) -> int:
    """Drop the next batches in one transaction; returns how many."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = connection.execute(_OLDEST, {"source": source, "partition": partition, "before": before_offset}).fetchall()
        ids: list[tuple[int]] = []
        start, size = start_of(connection, path, source, partition), 0
        for number, first_offset, count, size_bytes in found:
            if first_offset != start:
                raise Corrupt(f"log {path} is damaged: {source}/{partition} should begin at {start} and begins at {first_offset}")
            if ids and size + size_bytes > _MOST_BYTES:
                break
            ids.append((number,))
            start, size = first_offset + count, size + size_bytes
        if ids:
            connection.executemany("DELETE FROM batch WHERE id = ?", ids)
            fail_point("trim.rows_deleted")
            values = source, partition, start, _crc32(source, partition, start)
            connection.execute("INSERT OR REPLACE INTO start VALUES (?, ?, ?, ?)", values)
            fail_point("trim.before_commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(ids)


def _crc32(source: str, partition: int, start_offset: int) -> int:
    return zlib.crc32(f"{source}/{partition}/{start_offset}".encode())
