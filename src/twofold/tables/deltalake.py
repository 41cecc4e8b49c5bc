"""Tables as Delta Lake tables on disk: `history/<source>` and `archive/<source>` under one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from twofold.algebra.base import LOG_ORDER
from twofold.plan.inputs import MAJOR, MINOR

_CONTENT = "content:"
_VERSION = "history_version"


class DeltaTables:
    """Tables that other tools can read; every commit names what it did, so that repeating it changes nothing."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def load(self, source: str, frame: pl.DataFrame, content: str) -> int:
        table = self._open("history", source)
        known = None if table is None else table.transaction_version(_CONTENT + content)
        if known is not None:
            return int(known)
        version = self.history_version(source) + 1
        rows = pl.Series(MINOR, range(frame.height), dtype=pl.Int64)
        numbered = frame.with_columns(pl.lit(version, pl.Int64).alias(MAJOR), rows)
        self._append("history", source, numbered, [Transaction(_CONTENT + content, version), Transaction(_VERSION, version)])
        return version

    def history_version(self, source: str) -> int:
        table = self._open("history", source)
        return 0 if table is None else int(table.transaction_version(_VERSION) or 0)

    def history(self, source: str, version: int) -> pl.DataFrame | None:
        return self._read("history", source, pl.col(MAJOR) <= version)

    def archive(self, source: str, partition: int, frame: pl.DataFrame, end_offset: int) -> None:
        if end_offset > self.archived(source, partition):
            self._append("archive", source, frame, [Transaction(f"partition:{partition}", end_offset)])

    def archived(self, source: str, partition: int) -> int:
        table = self._open("archive", source)
        return 0 if table is None else int(table.transaction_version(f"partition:{partition}") or 0)

    def archive_up_to(self, source: str, cut: Sequence[int]) -> pl.DataFrame | None:
        below = [(pl.col(MAJOR) == LOG_ORDER + partition) & (pl.col(MINOR) < end) for partition, end in enumerate(cut)]
        return self._read("archive", source, pl.any_horizontal(below))

    def _path(self, kind: str, source: str) -> Path:
        return self._folder / kind / quote(source, safe="")

    def _open(self, kind: str, source: str) -> DeltaTable | None:
        path = self._path(kind, source)
        return DeltaTable(path) if (path / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(path)) else None

    def _append(self, kind: str, source: str, frame: pl.DataFrame, done: list[Transaction]) -> None:
        path = self._path(kind, source)
        path.mkdir(parents=True, exist_ok=True)
        # A later version of the project may have given the source a column more: older rows read null there.
        write_deltalake(path, frame, mode="append", schema_mode="merge", commit_properties=CommitProperties(app_transactions=done))

    def _read(self, kind: str, source: str, condition: pl.Expr) -> pl.DataFrame | None:
        table = self._open(kind, source)
        files = [] if table is None else table.file_uris()
        if not files:
            return None
        return pl.scan_parquet(files, missing_columns="insert").filter(condition).collect()
