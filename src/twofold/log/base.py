"""The protocol of an event log, its positions and record batches; no implementation lives here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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
        log, semicolon, rest = text.partition(";") if isinstance(text, str) else ("", "", "")
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
class Format:
    """How a payload holds its events.

    "arrow" is an Arrow IPC stream of `count` events. All others hold one event: "json" an object, "avro" a record after five bytes
    that name its schema in the `registry` (a URL), "package.module:decoder" what that function turns into a mapping. `fills_absent`:
    a field that the record lacks is null, else the event cannot be decoded.
    """

    name: str = "arrow"
    registry: str | None = None
    fills_absent: bool = False


ARROW = Format()


@dataclass(frozen=True)
class RecordBatch:
    """Events of one source and partition that were appended together: offsets `first_offset .. first_offset + count - 1`.

    All have one `arrival_us` (project clock, never below an earlier batch's of the partition). `accepted_us` is the wall clock of
    the machine that appended, for measuring freshness only. `format` says how the payload holds the events. `term` (None: the log has
    none) is that of the leader which appended them: other events at the same offsets, after a leader lost its tail, have another.
    """

    source: str
    partition: int
    first_offset: int
    count: int
    arrival_us: int
    accepted_us: int
    payload: bytes
    format: Format = ARROW
    term: int | None = None

    @property
    def end_offset(self) -> int:
        """The offset after the last event."""
        return self.first_offset + self.count


@dataclass(frozen=True)
class Append:
    """What to append: `count` events of one source and partition, encoded as the log wants it. Only single events have a `key`."""

    source: str
    partition: int
    count: int
    payload: bytes
    key: bytes | None = None


class EventLog(Protocol):
    """An append-only log, partitioned per source. Offsets ascend; where a log is not ours alone (Kafka), some may be missing.

    Several processes may append at once; a batch is wholly in the log or not at all.
    """

    @property
    def encoding(self) -> str:
        """How it wants events: "arrow", many in a batch, or "json", each by itself (see `Format`)."""
        ...

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
        locked for longer than the timeout); then nothing of it is in the log. A log of single events (`encoding` "json") may have
        some of them then, and says so.
        """
        ...

    def read(self, source: str, partition: int, offset: int, max_events: int) -> list[RecordBatch]:
        """Whole batches that hold the events from `offset` on, in order, at least one if there is any, then up to `max_events`.

        The first batch may begin before `offset`, or after it where offsets are missing. Empty only where no event lies between
        `offset` and the end: whoever has applied up to `offset` may move on to an end that was asked before. Raises LogMismatch where
        `offset` lies beyond the end or before the start, Corrupt where a checksum fails.
        """
        ...

    def end_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset after the last event for every partition of the sources; 0 where nothing was appended."""
        ...

    def start_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset of the first event that is still there, for every partition of the sources; 0 where nothing was dropped."""
        ...

    def close(self) -> None:
        """Release files and threads; no call may follow."""
        ...


@runtime_checkable
class TrimmableLog(EventLog, Protocol):
    """A log that drops events at our word; of the others, whoever runs them says how long events stay."""

    def trim(self, source: str, partition: int, before_offset: int) -> int:
        """Drop whole batches whose events all lie below `before_offset`, oldest first; returns the start offset afterwards.

        The last batch of a partition always stays, and with it the end offset and the latest arrival. Appenders go on meanwhile. Killed
        or failed half-way, the log begins somewhere before. Raises LogUnavailable as `append`, LogMismatch beyond the end.
        """
        ...


@runtime_checkable
class WakingLog(Protocol):
    """A log that itself notices what other machines append; of the others, who appends rings a bell."""

    def wait(self, timeout_s: float, partitions: Collection[int] | None = None) -> bool:
        """True as soon as there may be events beyond the last `end_offsets` in these partitions (None: in any).

        False after `timeout_s`, or where the log is closed.
        """
        ...
