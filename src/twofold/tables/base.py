"""The protocol of versioned tables: loaded history and the archive of the log, per source. They speak Arrow, here as Polars frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from twofold.progress import Progress, silent


@dataclass(frozen=True)
class Reading:
    """What is read of a source: history up to a version, archived events below a cut, and of these the rows within bounds.

    `bounds` are (least, end) in microseconds of columns that hold instants or int64, `end` exclusive, None where it is open.
    """

    history: int
    cut: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[int | None, int | None]] = field(default_factory=dict)


class Tables(Protocol):
    """History in numbered versions and an archive that follows the log exactly once.

    Frames carry the source's columns and the system columns of `plan.inputs`: MAJOR, MINOR (history version, row; or
    LOG_ORDER + partition, offset) and STAMP (event_time; or arrival_time).
    """

    def load(self, source: str, frame: pl.DataFrame, content: str, time: str | None = None, progress: Progress = silent) -> int:
        """Add rows (source's columns and STAMP) as the next history version; returns its number.

        `content` names the rows' content: the same content again changes nothing and returns the version that has it. One process
        loads into a source at a time. All of the rows appear, or none; what a killed load left is removed by the next. Rows are
        numbered in their order; `time` names the column by which they are then laid out.
        """
        ...

    def loaded(self, source: str, content: str) -> int | None:
        """The history version that a load of this content made; None where there was none."""
        ...

    def history_version(self, source: str) -> int:
        """The latest history version; 0 where nothing was loaded."""
        ...

    def history(self, source: str, version: int) -> pl.DataFrame | None:
        """All rows up to a history version, in no particular order; None where there are none."""
        ...

    def pinned(self, source: str, table: str, versions: int) -> tuple[int, ...]:
        """For each of the history versions 1, 2, ... of a source up to `versions`: the history version of a table that its rows join.

        It is decided at the first call that asks for it, as the latest one that the table has then, and never changes. 0 where the
        table has none yet: that is decided later.
        """
        ...

    def archive(self, source: str, partition: int, frame: pl.DataFrame, end_offset: int, log: str) -> None:
        """Append events of the log with the UUID `log` up to `end_offset`, which lies after their last.

        In one commit with the offset: repeating a call that was carried out changes nothing.
        """
        ...

    def archived(self, source: str, partition: int) -> int:
        """The offset after the last archived event; 0 where there is none."""
        ...

    def archived_offsets(self, source: str, partitions: int) -> tuple[int, ...]:
        """The same for each of so many partitions, of one moment."""
        ...

    def is_archive_of(self, source: str, log: str) -> bool:
        """Whether nothing that is archived of a source comes from a log of another UUID."""
        ...

    def archive_up_to(self, source: str, cut: Sequence[int]) -> pl.DataFrame | None:
        """Archived events below the cut (offset after the last, by partition), in no particular order; None where there are none."""
        ...

    def batches(self, source: str, reading: Reading, most_rows: int, one_in: int = 1) -> Iterator[pl.DataFrame]:
        """The rows of a reading in frames of at most `most_rows` rows, in no particular order, with the system columns beside its own.

        A column that older rows lack may be absent. `one_in` n reads about every n-th row, spread over the whole.
        """
        ...

    def left_over(self) -> list[str]:
        """Files of loads and archivings that were killed, which no version names; the next one into the same table removes them."""
        ...

    def most_rows(self, source: str, reading: Reading) -> int:
        """How many rows `batches` looks at, which are at least as many as it gives."""
        ...
