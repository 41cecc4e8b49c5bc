"""Tables in this process's memory: the plain meaning of the protocol, for tests and `compute`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from twofold.algebra.base import LOG_ORDER
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, SYSTEM
from twofold.progress import Progress, silent
from twofold.tables.base import Reading


def within(reading: Reading) -> list[pl.Expr]:
    """Conditions that a row of a reading meets, besides history and cut."""
    conditions = []
    for name, bounds in reading.bounds.items():
        # Literals of the column's own type, which a Parquet reader can hold against its statistics.
        least, end = (pl.lit(us, pl.Int64 if name in SYSTEM else POLARS_TYPES["datetime"]) for us in bounds)
        conditions += [] if bounds[0] is None else [pl.col(name) >= least]
        conditions += [] if bounds[1] is None else [pl.col(name) < end]
    return conditions


def below(cut: Sequence[int]) -> pl.Expr:
    """Whether an archived event lies below a cut."""
    return pl.any_horizontal(
        pl.lit(False), *[(pl.col(MAJOR) == LOG_ORDER + partition) & (pl.col(MINOR) < end) for partition, end in enumerate(cut)]
    )


class MemoryTables:
    """Tables that live as long as the process."""

    def __init__(self) -> None:
        self._loads: dict[str, list[tuple[str, pl.DataFrame]]] = {}
        self._archive: dict[tuple[str, int], list[pl.DataFrame]] = {}
        self._archived: dict[tuple[str, int], int] = {}
        self._logs: dict[str, str] = {}
        self._pins: dict[tuple[str, str], list[int]] = {}

    def load(self, source: str, frame: pl.DataFrame, content: str, time: str | None = None, progress: Progress = silent) -> int:
        if (known := self.loaded(source, content)) is not None:
            return known
        loads = self._loads.setdefault(source, [])
        rows = pl.int_range(frame.height, dtype=pl.Int64, eager=True).alias(MINOR)
        loads.append((content, frame.with_columns(pl.lit(len(loads) + 1, pl.Int64).alias(MAJOR), rows)))
        return len(loads)

    def loaded(self, source: str, content: str) -> int | None:
        return next((version for version, (known, _) in enumerate(self._loads.get(source, []), 1) if known == content), None)

    def history_version(self, source: str) -> int:
        return len(self._loads.get(source, []))

    def history(self, source: str, version: int) -> pl.DataFrame | None:
        frames = [frame for _, frame in self._loads.get(source, [])[:version]]
        return pl.concat(frames, how="diagonal") if frames else None

    def pinned(self, source: str, table: str, versions: int) -> tuple[int, ...]:
        pins, latest = self._pins.setdefault((source, table), []), self.history_version(table)
        pins += [latest] * (versions - len(pins) if latest else 0)
        return (*pins, *[0] * (versions - len(pins)))[:versions]

    def archive(self, source: str, partition: int, frame: pl.DataFrame, end_offset: int, log: str) -> None:
        self._logs.setdefault(source, log)
        if end_offset > self.archived(source, partition):
            self._archive.setdefault((source, partition), []).append(frame)
            self._archived[source, partition] = end_offset

    def archived(self, source: str, partition: int) -> int:
        return self._archived.get((source, partition), 0)

    def archived_offsets(self, source: str, partitions: int) -> tuple[int, ...]:
        return tuple(self.archived(source, partition) for partition in range(partitions))

    def is_archive_of(self, source: str, log: str) -> bool:
        return self._logs.get(source, log) == log

    def archive_up_to(self, source: str, cut: Sequence[int]) -> pl.DataFrame | None:
        frames = [
            frame.filter(pl.col(MINOR) < end) for partition, end in enumerate(cut) for frame in self._archive.get((source, partition), [])
        ]
        return pl.concat(frames) if frames else None

    def batches(self, source: str, reading: Reading, most_rows: int, one_in: int = 1) -> Iterator[pl.DataFrame]:
        for frame in self._frames(source, reading):
            for rows in frame.iter_slices(most_rows):
                part = rows.gather_every(one_in) if one_in > 1 else rows
                yield part.select(*(name for name in reading.columns if name in frame.columns), *SYSTEM)

    def left_over(self) -> list[str]:
        return []

    def most_rows(self, source: str, reading: Reading) -> int:
        return sum(frame.height for frame in self._frames(source, reading))

    def _frames(self, source: str, reading: Reading) -> Iterator[pl.DataFrame]:
        history, archive = self.history(source, reading.history), self.archive_up_to(source, reading.cut)
        conditions = within(reading)
        for frame in (history, archive):
            if frame is not None and frame.height:
                yield frame.filter(conditions) if conditions else frame
