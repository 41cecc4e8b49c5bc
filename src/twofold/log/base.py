"""The protocol of an event log, its positions and record batches; no implementation lives here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from twofold.errors import DataError


@dataclass(frozen=True)
class Position:
    """Where appended events lie: the log's UUID and, per touched (source, partition), the offset after the last event.

    Text form (opaque to users): `uuid;source/partition=offset,...`. `|` joins two positions of one log into one that covers both.
    """

    log: str
    offsets: Mapping[tuple[str, int], int]

    def __str__(self) -> str:
        return f"{self.log};" + ",".join(f"{source}/{part}={offset}" for (source, part), offset in sorted(self.offsets.items()))

    def __or__(self, other: Position) -> Position:
        if self.log != other.log:
            raise DataError(f"positions of two logs cannot be joined: {self.log} and {other.log}")
        both = dict(self.offsets)
        for place, offset in other.offsets.items():
            both[place] = max(both.get(place, 0), offset)
        return Position(self.log, both)

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position of a text; raises DataError where it is none."""
        log, semicolon, rest = text.partition(";")
        offsets = {}
        try:
            if not (log and semicolon):
                raise ValueError
            for item in filter(None, rest.split(",")):
                place, offset = item.rsplit("=", 1)
                source, part = place.rsplit("/", 1)
                if int(part) < 0 or int(offset) < 0:
                    raise ValueError
                offsets[source, int(part)] = int(offset)
        except ValueError:
            raise DataError(f"{text!r} is no position; give one back as it came from an append") from None
        return cls(log, offsets)


@dataclass(frozen=True)
class RecordBatch:
    """Events of one source and partition that were appended together: offsets `first_offset .. first_offset + count - 1`.

    All have one `arrival_us` (project clock, never below an earlier batch's of the partition). `accepted_us` is the wall clock of
    this machine at the commit, for measuring freshness only. `payload` is an Arrow IPC stream.
    """

    source: str
    partition: int
    first_offset: int
    count: int
    arrival_us: int
    accepted_us: int
    payload: bytes

    @property
    def end_offset(self) -> int:
        """The offset after the last event."""
        return self.first_offset + self.count


@dataclass(frozen=True)
class Append:
    """What to append: `count` events of one source and partition as an Arrow IPC stream."""

    source: str
    partition: int
    count: int
    payload: bytes


class EventLog(Protocol):
    """An append-only log, partitioned per source. Offsets start at 0 and have no gaps.

    Several processes may append at once; a batch is wholly in the log or not at all.
    """

    @property
    def uuid(self) -> str:
        """Identity of this log, made at creation."""
        ...

    @property
    def partitions(self) -> int:
        """Number of partitions of every source, fixed at creation."""
        ...

    def append(self, batches: Sequence[Append], now_us: int) -> Position:
        """Append all batches in one commit, stamped with `max(now_us, latest arrival of the partition)`.

        Durable (fsync) when it returns. Concurrent callers in one process share a commit. Raises LogUnavailable (disk full,
        locked for longer than the timeout); then nothing of it is in the log.
        """
        ...

    def read(self, source: str, partition: int, offset: int, max_events: int) -> list[RecordBatch]:
        """Whole batches that hold the events from `offset` on, in order, at least one if there is any, then up to `max_events`.

        The first batch may begin before `offset`. Raises LogMismatch where `offset` lies beyond the end or before the start,
        Corrupt where a checksum fails.
        """
        ...

    def end_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset after the last event for every partition of the sources; 0 where nothing was appended."""
        ...

    def close(self) -> None:
        """Release files and threads; no call may follow."""
        ...
