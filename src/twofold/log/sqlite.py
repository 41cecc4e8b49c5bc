"""An event log in one SQLite file, one row per record batch, that many processes append to; how callers share a commit lies elsewhere."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from twofold.clocks import SystemClock
from twofold.errors import Corrupt, LogUnavailable
from twofold.fail_points import fail_point
from twofold.log.base import Append, Position, RecordBatch
from twofold.log.file_lock import FileLock
from twofold.log.group_commit import Call, GroupCommit
from twofold.log.limits import check_append, check_offset, check_place, check_source
from twofold.log.sqlite_file import connect, open_or_create, translated
from twofold.log.trimming import start_of, trim

_TAIL = """
    SELECT first_offset, count, arrival_us, accepted_us, head_crc32 FROM batch
    WHERE source = ? AND partition = ? ORDER BY first_offset DESC LIMIT 1"""
_READ = """
    SELECT first_offset, count, arrival_us, accepted_us, head_crc32, payload_crc32, payload FROM batch
    WHERE source = :source AND partition = :partition AND first_offset < :offset + :events
    AND first_offset >= (SELECT max(first_offset) FROM batch WHERE source = :source AND partition = :partition AND first_offset <= :offset)
    AND (first_offset <= :offset OR first_offset + count <= :offset + :events) ORDER BY first_offset"""
_INSERT = """
    INSERT INTO batch (source, partition, first_offset, count, arrival_us, accepted_us, head_crc32, payload_crc32, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_OVERWRITE = "UPDATE log SET failed_commits = failed_commits + 1"

Tail = tuple[int, int]
"""End offset and latest arrival of a partition."""


class SqliteLog:
    """A durable log at `path`, whose identity and number of partitions were stored when it was made.

    `partitions` counts only then; None takes what the log has, or 1 for a new one. Beside the file lie SQLite's `-wal` and `-shm`
    and our `-lock` and `-gate`; all belong on one local disk. Opening raises Corrupt where the file is no log of ours and
    LogUnavailable where it cannot be opened. Threads may share it; a forked child must open its own.
    """

    encoding = "arrow"

    def __init__(self, path: str | Path, partitions: int | None = 1, timeout_s: float = 10.0) -> None:
        self._path = Path(path).absolute()
        self._timeout_s = timeout_s
        self._process = os.getpid()
        self._idle_readers: list[sqlite3.Connection] = []
        self._is_closed = False
        self._lock = FileLock(self._path)
        try:
            reader, self._identity = open_or_create(self._path, partitions, self._lock, timeout_s)
        except BaseException:
            self._lock.close()
            raise
        self._idle_readers.append(reader)
        self._writer: sqlite3.Connection | None = None
        self._commits = GroupCommit(self._lock, self._commit)

    @property
    def uuid(self) -> str:
        """Identity of this log, made at creation."""
        return self._identity.uuid

    @property
    def partitions(self) -> int:
        """Number of partitions of every source, as stored at creation."""
        return self._identity.partitions

    def append(self, batches: Sequence[Append], now_us: int) -> Position:
        """Append all batches in one commit; see `EventLog.append`. Raises DataError for a batch that no log can hold."""
        check_append(batches, now_us, self.partitions)
        self._refuse_misuse()
        if not batches:
            return Position(self.uuid, {})
        return self._commits.append(batches, now_us, self._timeout_s)

    def read(self, source: str, partition: int, offset: int, max_events: int) -> list[RecordBatch]:
        """Whole batches that hold the events from `offset` on; see `EventLog.read`. Never waits for a writer, nor a writer for it."""
        check_place(source, partition, self.partitions)
        with self._reader() as reader:
            end, _ = self._tail(reader, source, partition)
            check_offset(self.uuid, source, partition, offset, end)
            if offset == end:
                return []
            events = max(1, min(max_events, end - offset))
            rows = reader.execute(_READ, {"source": source, "partition": partition, "offset": offset, "events": events}).fetchall()
            if not rows:  # damage, or events that were dropped
                check_offset(self.uuid, source, partition, offset, end, start_of(reader, self._path, source, partition))
        return self._checked(source, partition, offset, rows)

    def end_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset after the last event for every partition of the sources, all of one moment; 0 where nothing was appended."""
        places = [(check_source(source), partition) for source in sources for partition in range(self.partitions)]
        with self._reader() as reader:
            reader.execute("BEGIN")
            ends = {place: self._tail(reader, *place)[0] for place in places}
            reader.execute("COMMIT")
        return ends

    def start_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset of the first event that is still there, for every partition of the sources; 0 where nothing was dropped."""
        places = [(check_source(source), partition) for source in sources for partition in range(self.partitions)]
        with self._reader() as reader:
            return {place: start_of(reader, self._path, *place) for place in places}

    def trim(self, source: str, partition: int, before_offset: int) -> int:
        """Drop whole batches below an offset, but the last; see `TrimmableLog.trim`. The pages of the file are used again."""
        check_place(source, partition, self.partitions)
        end = self.end_offsets([source])[source, partition]
        check_offset(self.uuid, source, partition, before_offset, end)
        return trim(self._path, source, partition, before_offset, self._timeout_s)

    def close(self) -> None:
        """Release files; no call may follow but another `close`."""
        if self._is_closed:
            return
        self._is_closed = True
        # The last one to close writes the WAL back and removes it; under the lock nobody waits for that. Without it, it is only slower.
        with contextlib.suppress(LogUnavailable), self._lock.held(time.monotonic() + self._timeout_s):
            self._close_connections()
        self._close_connections()
        self._lock.close()

    def _close_connections(self) -> None:
        while self._idle_readers:
            self._idle_readers.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _refuse_misuse(self) -> None:
        if self._is_closed:
            raise LogUnavailable(f"log {self._path} was closed; open it again")
        if os.getpid() != self._process:
            raise LogUnavailable(
                f"log {self._path} was opened before this process was forked; open it in the child, or spawn instead of fork"
            )

    # Writing: one thread of one process at a time comes here, under the lock.

    def _commit(self, calls: Sequence[Call]) -> None:
        """Give every call its position, in one durable transaction; raises LogUnavailable or Corrupt with nothing of it in the log.

        Interrupted after the transaction was committed, as by a signal meanwhile, the calls keep their positions.
        """
        with translated(self._path):
            if self._writer is None:
                self._writer = connect(self._path, self._timeout_s)
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                fail_point("sqlite.in_transaction")
                self._insert(self._writer, calls)
                fail_point("sqlite.before_commit")
                self._writer.execute("COMMIT")
                fail_point("sqlite.after_commit")
            except BaseException as error:
                is_refused = isinstance(error, sqlite3.Error) and any(call.position is not None for call in calls)
                if is_refused or self._writer.in_transaction:
                    for call in calls:
                        call.position = None
                    self._undo(self._writer)
                raise

    def _insert(self, writer: sqlite3.Connection, calls: Sequence[Call]) -> None:
        tails: dict[tuple[str, int], Tail] = {}
        rows = []
        accepted_us = SystemClock().now_us()
        for call in calls:
            offsets = {}
            for batch in call.batches:
                place = batch.source, batch.partition
                end, latest_us = tails[place] if place in tails else self._tail(writer, *place)
                arrival_us = max(call.now_us, latest_us)
                rows.append(_row(batch, end, arrival_us, accepted_us))
                offsets[place] = end + batch.count
                tails[place] = end + batch.count, arrival_us
            call.position = Position(self.uuid, offsets)
        writer.executemany(_INSERT, rows)

    def _undo(self, writer: sqlite3.Connection) -> None:
        """Roll back, and overwrite what a failed fsync may have left in the WAL.

        SQLite forgets the frames of a commit that it could not sync, but they stay in the file, and recovery after a crash would find
        them whole. The next commit goes over them; so there is one at once, of our own.
        """
        try:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            writer.execute(_OVERWRITE)
        except sqlite3.Error:  # the disk is still full or ill; the next append begins with a new connection
            self._writer = None
            writer.close()

    # Reading: connections of their own, one for each read that goes on at the same time.

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        self._refuse_misuse()
        with translated(self._path):
            reader = self._idle_readers.pop() if self._idle_readers else connect(self._path, self._timeout_s)
            try:
                yield reader
            except BaseException:
                reader.close()
                raise
            if self._is_closed:
                reader.close()
            else:
                self._idle_readers.append(reader)

    def _tail(self, connection: sqlite3.Connection, source: str, partition: int) -> Tail:
        """End offset and latest arrival; of an empty partition 0 and an instant before all."""
        row = connection.execute(_TAIL, (source, partition)).fetchone()
        if row is None:
            return 0, -(2**63)
        first_offset, count, arrival_us, accepted_us, head_crc32 = row
        if _head_crc32(source, partition, first_offset, count, arrival_us, accepted_us) != head_crc32:
            raise self._corrupt(source, partition, first_offset)
        return first_offset + count, arrival_us

    def _checked(
        self, source: str, partition: int, offset: int, rows: list[tuple[int, int, int, int, int, int, bytes]]
    ) -> list[RecordBatch]:
        """Batches of rows; raises Corrupt where a checksum fails or a batch is missing."""
        batches: list[RecordBatch] = []
        for first_offset, count, arrival_us, accepted_us, head_crc32, payload_crc32, payload in rows:
            batch = RecordBatch(source, partition, first_offset, count, arrival_us, accepted_us, payload)
            is_whole = isinstance(payload, bytes) and zlib.crc32(payload) == payload_crc32
            is_next = batch.first_offset == batches[-1].end_offset if batches else batch.first_offset <= offset < batch.end_offset
            if not is_whole or not is_next or _head_crc32(source, partition, first_offset, count, arrival_us, accepted_us) != head_crc32:
                raise self._corrupt(source, partition, batch.first_offset)
            batches.append(batch)
        if not batches:
            raise self._corrupt(source, partition, offset)
        return batches

    def _corrupt(self, source: str, partition: int, offset: int) -> Corrupt:
        return Corrupt(
            f"log {self._path} is damaged: the batch of {source}/{partition} at offset {offset} does not fit its checksum; "
            "check the disk and restore the log from a copy"
        )


def _row(batch: Append, first_offset: int, arrival_us: int, accepted_us: int) -> tuple[str | int | bytes, ...]:
    head = batch.source, batch.partition, first_offset, batch.count, arrival_us, accepted_us
    return (*head, _head_crc32(*head), zlib.crc32(batch.payload), batch.payload)


def _head_crc32(source: str, partition: int, first_offset: int, count: int, arrival_us: int, accepted_us: int) -> int:
    """Checksum of all that a row says of its payload."""
    return zlib.crc32(f"{source}/{partition}/{first_offset}/{count}/{arrival_us}/{accepted_us}".encode())
