"""What tables have taken is durable: it is synced before the call returns, or by whoever next asks whether it is there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import polars as pl
import pytest

from twofold.algebra.base import LOG_ORDER
from twofold.errors import Unavailable
from twofold.plan.inputs import MAJOR, MINOR, STAMP
from twofold.tables.deltalake import DeltaTables


class Disk:
    """Notes the files that are synced; may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: set[Path] = set()
        self.is_failing = False
        self._real = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, file: int) -> None:
        if self.is_failing:
            raise OSError(errno.EIO, "planted")
        self._real(file)
        self.synced.add(Path(os.readlink(f"/proc/self/fd/{file}")))

    def lacks(self, folder: Path) -> set[str]:
        """Files under a folder that were not synced."""
        return {path.name for path in folder.rglob("*") if path.is_file()} - {path.name for path in self.synced}


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


ROWS = pl.DataFrame({STAMP: [1, 2], "x": [1.0, 2.0]})
EVENTS = ROWS.with_columns(pl.lit(LOG_ORDER, pl.Int64).alias(MAJOR), pl.Series(MINOR, [0, 1], pl.Int64))


def test_the_log_of_a_table_is_durable_with_its_checkpoints(tmp_path: Path, disk: Disk) -> None:
    tables = DeltaTables(tmp_path)
    for number in range(102):
        tables.load("a", ROWS, f"content {number}")
    assert list(tmp_path.rglob("*.checkpoint.parquet"))
    assert disk.lacks(tmp_path) == set()


def test_which_rows_a_version_joins_is_durable_once_it_is_told(tmp_path: Path, disk: Disk) -> None:
    tables = DeltaTables(tmp_path)
    tables.load("a", ROWS, "content")
    tables.load("table", ROWS, "content")
    assert tables.pinned("a", "table", 1) == (1,)
    assert disk.lacks(tmp_path) == set()


def test_a_writer_that_died_before_it_had_synced_is_made_up_for(tmp_path: Path, disk: Disk) -> None:
    tables = DeltaTables(tmp_path)
    disk.is_failing = True
    for write in (lambda: tables.load("a", ROWS, "content"), lambda: tables.archive("a", 0, EVENTS, 2, "log")):
        with pytest.raises(Unavailable, match="planted"):
            write()
    for look in (lambda: DeltaTables(tmp_path).loaded("a", "content"), lambda: DeltaTables(tmp_path).archived("a", 0)):
        with pytest.raises(Unavailable, match="planted"):
            look()
    disk.is_failing = False
    assert DeltaTables(tmp_path).loaded("a", "content") == 1
    assert DeltaTables(tmp_path).archived("a", 0) == 2
    assert disk.lacks(tmp_path) == {"_unsynced"}
    assert tables.load("a", ROWS, "content") == 1
    assert tables.load("a", ROWS, "more") == 2
    tables.archive("a", 0, EVENTS, 2, "log")
    tables.archive("a", 0, EVENTS.with_columns(pl.col(MINOR) + 2), 4, "log")
    assert disk.lacks(tmp_path) == set()


def test_a_writer_that_died_before_its_first_commit_is_in_nobodys_way(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "archive" / "a").mkdir(parents=True)
    (tmp_path / "archive" / "a" / "_unsynced").write_text("")
    tables = DeltaTables(tmp_path)
    assert tables.archived("a", 0) == 0
    tables.archive("a", 0, EVENTS, 2, "log")
    assert disk.lacks(tmp_path) == set()
