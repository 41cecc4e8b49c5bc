"""Tables as Delta Lake tables on disk: `history/<source>` and `archive/<source>` under one folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
import polars as pl
from arro3.core import RecordBatch, RecordBatchReader, Table
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from twofold.durable import sync_folder
from twofold.errors import Busy, Corrupt, Unavailable
from twofold.fail_points import fail_point
from twofold.plan.inputs import MAJOR, MINOR, SYSTEM
from twofold.progress import Progress, silent
from twofold.tables.base import Reading
from twofold.tables.memory import below, within

_CONTENT = "content:"
_VERSION = "history_version"
_FILE_BYTES, _ROW_GROUP = 32 << 20, 250_000
"""Files small enough that a bound on event_time leaves most of them unread."""
_STATISTICS_US = 1_000
"""Delta writes the least and greatest instants of a file cut down to milliseconds."""
_UNSYNCED = "_unsynced"
"""File in a table's folder that says from which commit on a writer may have been killed before it had synced."""
_LOG = "log"
"""Transaction whose version says which log an archive comes from."""
_ATTEMPTS = 5
"""So often is a decision noted anew when another process commits at the same time."""


class DeltaTables:
    """Tables that other tools can read; every commit names what it did, so that repeating it changes nothing.

    What a call has added is durable when it returns: whoever gave the rows may drop them from where they were.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def load(self, source: str, frame: pl.DataFrame, content: str, time: str | None = None, progress: Progress = silent) -> int:
        if (known := self.loaded(source, content)) is not None:
            return known
        self._remove_left_over(self._open("history", source), self._path("history", source))
        version = self.history_version(source) + 1
        done = [Transaction(_CONTENT + content, version), Transaction(_VERSION, version)]
        self._append("history", source, _numbered(frame, version, time), done, progress)
        return version

    def loaded(self, source: str, content: str) -> int | None:
        table = self._kept("history", source)
        known = None if table is None else table.transaction_version(_CONTENT + content)
        return None if known is None else int(known)

    def history_version(self, source: str) -> int:
        table = self._open("history", source)
        return 0 if table is None else int(table.transaction_version(_VERSION) or 0)

    def history(self, source: str, version: int) -> pl.DataFrame | None:
        return self._read("history", source, pl.col(MAJOR) <= version)

    def pinned(self, source: str, table: str, versions: int) -> tuple[int, ...]:
        for _ in range(_ATTEMPTS):
            mine = self._open("history", source)
            pins = [0 if mine is None else int(mine.transaction_version(_pin(table, version)) or 0) for version in range(1, versions + 1)]
            if mine is None or all(pins) or not (latest := self.history_version(table)):
                return tuple(pins)
            done = [Transaction(_pin(table, version), latest) for version, pin in enumerate(pins, 1) if not pin]
            with contextlib.suppress(CommitFailedError):  # another process has decided: look what
                self._note(mine, self._path("history", source), done)
        raise Busy(f"the history of {source!r} changes faster than it can be noted which rows of {table!r} it joins; try again")

    def archive(self, source: str, partition: int, frame: pl.DataFrame, end_offset: int, log: str) -> None:
        if end_offset > self.archived(source, partition):
            self._remove_left_over(self._open("archive", source), self._path("archive", source))
            self._append("archive", source, frame, [Transaction(f"partition:{partition}", end_offset), Transaction(_LOG, _number_of(log))])

    def archived(self, source: str, partition: int) -> int:
        return _archived(self._kept("archive", source), partition)

    def archived_offsets(self, source: str, partitions: int) -> tuple[int, ...]:
        table = self._kept("archive", source)
        return tuple(_archived(table, partition) for partition in range(partitions))

    def is_archive_of(self, source: str, log: str) -> bool:
        table = self._open("archive", source)
        return table is None or table.transaction_version(_LOG) in (None, _number_of(log))

    def archive_up_to(self, source: str, cut: Sequence[int]) -> pl.DataFrame | None:
        return self._read("archive", source, below(cut))

    def batches(self, source: str, reading: Reading, most_rows: int, one_in: int = 1) -> Iterator[pl.DataFrame]:
        for condition, files in self._files(source, reading):
            for path, rows in files:
                lazy = pl.scan_parquet(path)
                with _readable(path):
                    found = lazy.collect_schema().names()
                columns = [name for name in (*reading.columns, *SYSTEM) if name in found]
                # A file of ours is small enough to be read whole, and then a bound leaves its row groups unread too.
                if rows <= most_rows and one_in == 1:
                    yield _collected(path, lazy.filter(condition, *within(reading)).select(columns))
                    continue
                for offset in range(0, rows, most_rows):
                    part = lazy.slice(offset, max(1, min(most_rows, rows - offset) // one_in))
                    yield _collected(path, part.filter(condition, *within(reading)).select(columns))

    def most_rows(self, source: str, reading: Reading) -> int:
        return sum(rows for _, files in self._files(source, reading) for _, rows in files)

    def _files(self, source: str, reading: Reading) -> Iterator[tuple[pl.Expr, list[tuple[str, int]]]]:
        """Of history and archive: the condition that rows of the reading meet, and the files that may have such rows with their rows."""
        for kind, condition in (("history", pl.col(MAJOR) <= reading.history), ("archive", below(reading.cut))):
            table = self._open(kind, source)
            if table is None or (kind == "archive" and not any(reading.cut)):
                continue
            files = pl.DataFrame(table.get_add_actions(flatten=True))
            if files.is_empty():
                continue
            for name, (least, end) in reading.bounds.items():
                files = files.filter(_may_hold(files, name, least, end))
            folder = self._path(kind, source)
            yield condition, [(str(folder / path), rows) for path, rows in files.select("path", "num_records").iter_rows()]

    def _path(self, kind: str, source: str) -> Path:
        return self._folder / kind / quote(source, safe="")

    def _open(self, kind: str, source: str) -> DeltaTable | None:
        path = self._path(kind, source)
        with _readable(path):
            return DeltaTable(path) if (path / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(path)) else None

    def _kept(self, kind: str, source: str) -> DeltaTable | None:
        """The table, and all of it durable: who wrote last may have been killed before it was."""
        table, path = self._open(kind, source), self._path(kind, source)
        if table is not None:
            with contextlib.suppress(FileNotFoundError):  # the usual case
                _sync(path, int((path / _UNSYNCED).read_text() or 0))
        return table

    def _append(self, kind: str, source: str, frame: pl.DataFrame, done: list[Transaction], progress: Progress = silent) -> None:
        path = self._path(kind, source)
        path.mkdir(parents=True, exist_ok=True)
        rows = _Batches(frame, f"writing {source}", progress)
        try:
            since = _begin(path)
            # A later version of the project may have given the source a column more: older rows read null there.
            write_deltalake(
                path,
                RecordBatchReader.from_batches(rows.schema, iter(rows)),
                mode="append",
                schema_mode="merge",
                target_file_size=_FILE_BYTES,
                writer_properties=WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=_ROW_GROUP),
                commit_properties=CommitProperties(app_transactions=done),
            )
        except BaseException as error:
            self._remove_left_over(self._open(kind, source), path)
            if rows.error is not None:
                raise rows.error from None
            if isinstance(error, DeltaError | OSError):
                raise Unavailable(
                    f"the table {path} cannot be written: {str(error).splitlines()[0]}; nothing was added: look at the disk's space and "
                    "health, then try again"
                ) from error
            raise
        _sync(path, since)
        (path / _UNSYNCED).unlink(missing_ok=True)

    def _note(self, table: DeltaTable, path: Path, done: list[Transaction]) -> None:
        """A commit without rows. Raises CommitFailedError where another one has noted the same since the table was opened."""
        table.create_write_transaction([], "append", table.schema(), commit_properties=CommitProperties(app_transactions=done))
        _sync(path, table.version())

    def _remove_left_over(self, table: DeltaTable | None, folder: Path) -> None:
        for path in _left_over(table, folder):
            path.unlink(missing_ok=True)

    def left_over(self) -> list[str]:
        tables = [path.parent for path in self._folder.glob("*/*/_delta_log")]
        return [str(path) for folder in tables for path in _left_over(DeltaTable(folder), folder)]

    def _read(self, kind: str, source: str, condition: pl.Expr) -> pl.DataFrame | None:
        table = self._open(kind, source)
        files = [] if table is None else table.file_uris()
        if not files:
            return None
        return _collected(self._path(kind, source), pl.scan_parquet(files, missing_columns="insert").filter(condition))


@contextlib.contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Raises Corrupt where what is read is not what was written."""
    try:
        yield
    except (DeltaError, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise Corrupt(
            f"the table's file {path} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}; look at the disk, then "
            "restore the table's folder from a copy, or remove an archive that the log still holds whole: the next build writes it again"
        ) from error


def _collected(path: str | Path, lazy: pl.LazyFrame) -> pl.DataFrame:
    with _readable(path):
        return lazy.collect()


def _left_over(table: DeltaTable | None, folder: Path) -> list[Path]:
    """Files of rows that no version of the table names."""
    known: set[str] = set()
    if table is not None:
        # Files that another tool has replaced belong to older versions, and stay.
        replaced = table.vacuum(retention_hours=0, dry_run=True, enforce_retention_duration=False)
        known = {Path(path).name for path in (*table.file_uris(), *replaced)}
    return [path for path in folder.glob("*.parquet") if path.name not in known]


def _begin(folder: Path) -> int:
    """The first commit that is not known to be durable, noted for whoever comes after a writer that is killed."""
    mark = folder / _UNSYNCED
    if not mark.exists():
        mark.write_text(str(max((number for number, _ in _log(folder)), default=-1) + 1))
    return int(mark.read_text() or 0)


def _log(folder: Path) -> list[tuple[int, Path]]:
    """A table's commits, and checkpoints of its log, with their numbers."""
    found = list((folder / "_delta_log").glob("[0-9]*"))
    return [(int(path.name[:20]), path) for path in found if path.suffix in (".json", ".parquet")]


def _sync(folder: Path, since: int) -> None:
    """Make the commits from a number on durable, and the files that they add: whoever gave us the rows may forget them now."""
    log = folder / "_delta_log"
    try:
        commits = [path for number, path in _log(folder) if number >= since - 1]  # a checkpoint may come a commit late
        actions = [msgspec.json.decode(line) for path in commits if path.suffix == ".json" for line in path.read_bytes().splitlines()]
        added = [folder / unquote(action["add"]["path"]) for action in actions if "add" in action]
        for path in [*added, *commits, *log.glob("_last_checkpoint")]:
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:  # another tool may have tidied up since
                os.fsync(file.fileno())
        for each in (folder, log, *folder.parents[:2]):
            sync_folder(each)
    except OSError as error:
        raise Unavailable(f"the disk failed to keep what was written to {folder}: {error}; look at its health, then try again") from error


def _archived(table: DeltaTable | None, partition: int) -> int:
    return 0 if table is None else int(table.transaction_version(f"partition:{partition}") or 0)


def _number_of(log: str) -> int:
    """A log's UUID as the version of a transaction."""
    return int.from_bytes(hashlib.sha256(log.encode()).digest()[:7], "big")


def _pin(table: str, version: int) -> str:
    return f"joins:{table}:{version}"


def _numbered(frame: pl.DataFrame, version: int, time: str | None) -> pl.DataFrame:
    """A frame with MAJOR and MINOR, laid out by time; instants and system columns first, for Delta keeps statistics of 32 columns."""
    rows = pl.int_range(frame.height, dtype=pl.Int64, eager=True).alias(MINOR)
    first = [*SYSTEM] if time is None else [*SYSTEM, time]
    numbered = frame.with_columns(pl.lit(version, pl.Int64).alias(MAJOR), rows).select(*first, pl.all().exclude(first))
    return numbered if time is None else numbered.sort(time, MINOR)


class _Batches:
    """A frame as Arrow batches; `error` is what ended them early, which the writer that takes them would wrap in its own."""

    def __init__(self, frame: pl.DataFrame, stage: str, progress: Progress) -> None:
        self.schema = Table.from_arrow(frame.clear()).schema
        self.error: BaseException | None = None
        self._frame, self._stage, self._progress = frame, stage, progress

    def __iter__(self) -> Iterator[RecordBatch]:
        try:
            for offset in range(0, self._frame.height, _ROW_GROUP):
                self._progress(self._stage, offset, self._frame.height)
                yield from Table.from_arrow(self._frame[offset : offset + _ROW_GROUP]).to_batches()
                fail_point("archive.writing")
        except BaseException as error:
            self.error = error
            raise


def _may_hold(files: pl.DataFrame, name: str, least: int | None, end: int | None) -> pl.Expr:
    """Whether a file may hold a row within bounds, by its statistics; one without them may."""
    conditions = [pl.lit(True)]
    with contextlib.suppress(pl.exceptions.ColumnNotFoundError):
        low, high = (files[f"{side}.{name}"].to_physical().alias(side) for side in ("min", "max"))
        conditions += [] if least is None else [pl.lit(high).fill_null(least) + _STATISTICS_US > least]
        conditions += [] if end is None else [pl.lit(low).fill_null(end - 1) - _STATISTICS_US < end]
    return pl.all_horizontal(conditions)
