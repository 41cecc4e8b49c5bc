"""All events of a source that count: loaded history, archive and what the archive has not reached yet; as one frame or in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from twofold.algebra.base import LOG_ORDER
from twofold.batch.archive import archive_up_to
from twofold.batch.duplicates import Places, duplicates_of
from twofold.batch.joining import LoadedJoins
from twofold.batch.spill import Scratch, estimated_bytes
from twofold.errors import LogMismatch
from twofold.log.base import EventLog
from twofold.log.records import decoded
from twofold.plan.counting import too_far_in_the_future
from twofold.plan.inputs import MAJOR, MINOR, STAMP, all_rows
from twofold.plan.serving import SourcePlan
from twofold.tables.base import Reading, Tables

_EVENTS_PER_READ = 500_000
_SAMPLED, _ROWS_PER_SLICE = 200_000, 1_000_000
Times = tuple[int | None, int | None]
"""(least, end) of event_times, `end` exclusive; None where it is open."""
ALL_TIMES: Times = (None, None)


@dataclass(frozen=True)
class SourceEvents:
    """The events of a source that count: history up to a version, the archive up to offsets, the log from there to a cut.

    Which rows are duplicates is decided once for all readings of the same least event_time.
    """

    source: SourcePlan
    tables: Tables
    scratch: Scratch
    history: int
    archived: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    log: EventLog | None = None
    joined: LoadedJoins | None = None
    _duplicates: dict[int | None, Places] = field(default_factory=dict)

    def size_bytes(self, columns: Sequence[str], times: Times = ALL_TIMES) -> int:
        """What these columns of the events take while they are worked on, by the tables' own statistics."""
        return estimated_bytes(self._most_rows(self._reading(columns, times)), [self.source.stored[name] for name in columns])

    def most_rows(self, times: Times = ALL_TIMES) -> int:
        """At most so many rows are read."""
        return self._most_rows(self._reading((), times))

    def batches(self, columns: Sequence[str], times: Times = ALL_TIMES, in_parts: bool = True) -> Iterator[pl.DataFrame]:
        """The events in frames of the system columns and these (the time column always), in no particular order.

        Not `in_parts`: in as few as may be, where all of them are to lie in memory.
        """
        reading = self._reading(self._with_time(columns), times)
        places = self._places(times[0])
        for frame in self._rows(reading, in_parts):
            found = places.has(frame)
            yield frame.filter(~pl.Series(found, dtype=pl.Boolean)) if found.any() else frame

    def frame(self, columns: Sequence[str] | None = None, times: Times = ALL_TIMES) -> pl.DataFrame:
        """The events as one frame (all columns where None)."""
        columns = self._with_time(tuple(self.source.stored) if columns is None else columns)
        return all_rows({name: self.source.stored[name] for name in columns}, *self.batches(columns, times))

    def none(self, columns: Sequence[str]) -> pl.DataFrame:
        """A frame of `batches` without rows."""
        return all_rows({name: self.source.stored[name] for name in self._with_time(columns)})

    def sample(self, columns: Sequence[str], times: Times = ALL_TIMES) -> pl.DataFrame:
        """Some of the rows, spread over all; duplicates among them."""
        reading = self._reading(self._with_time(columns), times)
        one_in = max(1, self._most_rows(reading) // _SAMPLED)
        frames = self._table_rows(reading, _ROWS_PER_SLICE, one_in)
        tails = (tail.gather_every(one_in) for tail in self._tails(reading))
        return all_rows({name: self.source.stored[name] for name in reading.columns}, *frames, *tails)

    def _with_time(self, columns: Sequence[str]) -> tuple[str, ...]:
        time = self.source.time
        return tuple(columns) if time is None or time in columns else (*columns, time)

    def _reading(self, columns: Sequence[str], times: Times) -> Reading:
        bounds = {} if self.source.time is None or times == ALL_TIMES else {self.source.time: times}
        return Reading(self.history, self.archived, tuple(columns), bounds)

    def _most_rows(self, reading: Reading) -> int:
        tails = sum(end - begin for begin, end in zip(self.archived, self.cut, strict=True))
        return self.tables.most_rows(self.source.name, reading) + tails

    def _rows(self, reading: Reading, in_parts: bool = True) -> Iterator[pl.DataFrame]:
        """Rows that are not too far in the future, duplicates among them."""
        shape = {name: self.source.stored[name] for name in reading.columns}
        most = self.scratch.rows_at_once(list(shape.values())) if in_parts else self._most_rows(reading)
        for frame in self._table_rows(reading, max(most, 1)):
            yield self._in_time(all_rows(shape, frame))
        for frame in self._tails(reading):
            yield self._in_time(all_rows(shape, frame))

    def _table_rows(self, reading: Reading, most_rows: int, one_in: int = 1) -> Iterator[pl.DataFrame]:
        """Rows of history and archive, with the joined columns."""
        if self.joined is None:
            yield from self.tables.batches(self.source.name, reading, most_rows, one_in)
            return
        more = replace(reading, columns=(*reading.columns, *self.joined.needed(reading.columns)))
        for frame in self.tables.batches(self.source.name, more, most_rows, one_in):
            yield self.joined.added(frame, reading.columns)

    def _in_time(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows that are not too far in the future; of loaded history all, which is seen at a glance."""
        if frame.is_empty() or int(frame[MAJOR].max()) < LOG_ORDER:  # type: ignore[arg-type]
            return frame
        return frame.filter(~too_far_in_the_future(self.source))

    def _tails(self, reading: Reading) -> Iterator[pl.DataFrame]:
        """Events of the log that the archive has not reached."""
        conditions = [
            condition
            for name, (least, end) in reading.bounds.items()
            for condition in (
                *([] if least is None else [pl.col(name).to_physical() >= least]),
                *([] if end is None else [pl.col(name).to_physical() < end]),
            )
        ]
        for partition, (begin, end) in enumerate(zip(self.archived, self.cut, strict=True)):
            offset = begin
            while offset < end and self.log is not None:
                try:
                    batches = self.log.read(self.source.name, partition, offset, min(_EVENTS_PER_READ, end - offset))
                except LogMismatch:
                    start = min(self.log.start_offsets([self.source.name])[self.source.name, partition], end)
                    if start <= offset:
                        raise
                    yield from self._dropped(reading, partition, offset, start)
                    offset = start
                    continue
                frame = decoded(batches, self.source)[0]
                yield frame.filter(pl.col(MINOR).is_between(offset, end, closed="left"), *conditions)
                offset = batches[-1].end_offset if batches else end

    def _dropped(self, reading: Reading, partition: int, begin: int, end: int) -> Iterator[pl.DataFrame]:
        """Events that a build has archived, and dropped from the log, since it was asked how far the archive reaches."""
        cut = tuple(end if number == partition else 0 for number in range(len(self.cut)))
        for frame in self.tables.batches(self.source.name, replace(reading, history=0, cut=cut), _EVENTS_PER_READ):
            yield frame.filter(pl.col(MINOR) >= begin)

    def _places(self, since_us: int | None) -> Places:
        if self.source.dedupe_us is None or self.source.id is None:
            return Places()
        if since_us not in self._duplicates:
            self._duplicates[since_us] = duplicates_of(self.source, self._ids_since, since_us, self.scratch)
        return self._duplicates[since_us]

    def _ids_since(self, stamp_us: int | None) -> tuple[int, Iterable[pl.DataFrame]]:
        bounds = {} if stamp_us is None else {STAMP: (stamp_us, None)}
        reading = Reading(self.history, self.archived, self._with_time((str(self.source.id),)), bounds)
        return self._most_rows(reading), self._rows(reading)


def archived_events(
    source: SourcePlan, log: EventLog, tables: Tables, history: int, cut: Sequence[int], scratch: Scratch, joined: LoadedJoins | None = None
) -> SourceEvents:
    """Loaded history up to a version and the log below a cut, archived on the way. The caller holds the build lock."""
    if source.time is None:
        return SourceEvents(source, tables, scratch, history)
    archive_up_to(log, tables, source, cut)
    return SourceEvents(source, tables, scratch, history, tuple(cut), tuple(cut), joined=joined)


def present_events(
    source: SourcePlan, log: EventLog, tables: Tables, history: int, cut: Sequence[int], scratch: Scratch, joined: LoadedJoins | None = None
) -> SourceEvents:
    """The same, read only: what the archive lacks is read from the log."""
    if source.time is None:
        return SourceEvents(source, tables, scratch, history)
    # What the archive reached is asked once, first: it may grow meanwhile, and the tail begins where this reading ends.
    begins = tuple(map(min, tables.archived_offsets(source.name, len(cut)), cut))
    return SourceEvents(source, tables, scratch, history, begins, tuple(cut), log, joined)
