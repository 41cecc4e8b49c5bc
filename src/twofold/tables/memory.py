"""Tables in this process's memory: the plain meaning of the protocol, for tests and `compute`."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from twofold.plan.inputs import MAJOR, MINOR


class MemoryTables:
    """Tables that live as long as the process."""

    def __init__(self) -> None:
        self._loads: dict[str, list[tuple[str, pl.DataFrame]]] = {}
        self._archive: dict[tuple[str, int], list[pl.DataFrame]] = {}
        self._archived: dict[tuple[str, int], int] = {}

    def load(self, source: str, frame: pl.DataFrame, content: str) -> int:
        loads = self._loads.setdefault(source, [])
        for version, (known, _) in enumerate(loads, 1):
            if known == content:
                return version
        rows = pl.Series(MINOR, range(frame.height), dtype=pl.Int64)
        loads.append((content, frame.with_columns(pl.lit(len(loads) + 1, pl.Int64).alias(MAJOR), rows)))
        return len(loads)

    def history_version(self, source: str) -> int:
        return len(self._loads.get(source, []))

    def history(self, source: str, version: int) -> pl.DataFrame | None:
        frames = [frame for _, frame in self._loads.get(source, [])[:version]]
        return pl.concat(frames, how="diagonal") if frames else None

    def archive(self, source: str, partition: int, frame: pl.DataFrame, end_offset: int) -> None:
        if end_offset > self.archived(source, partition):
            self._archive.setdefault((source, partition), []).append(frame)
            self._archived[source, partition] = end_offset

    def archived(self, source: str, partition: int) -> int:
        return self._archived.get((source, partition), 0)

    def archive_up_to(self, source: str, cut: Sequence[int]) -> pl.DataFrame | None:
        frames = [
            frame.filter(pl.col(MINOR) < end) for partition, end in enumerate(cut) for frame in self._archive.get((source, partition), [])
        ]
        return pl.concat(frames) if frames else None
