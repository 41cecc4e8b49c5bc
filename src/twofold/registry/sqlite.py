"""The registry in one folder: SQLite for versions and aliases, content-addressed files for artifacts."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twofold.durable import sync_folder
from twofold.errors import Corrupt, Unavailable, VersionError
from twofold.registry.artifacts import FileArtifacts, exclusive
from twofold.registry.base import (
    AliasMove,
    Expect,
    Registration,
    check_expected,
    check_same,
    now_or,
    record_text,
    unknown_version,
)

_TIMEOUT_S = 5.0
_LAYOUT = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE versions (
    number INTEGER PRIMARY KEY, model TEXT NOT NULL, version TEXT NOT NULL,
    created_us INTEGER NOT NULL, record TEXT NOT NULL, UNIQUE (model, version)
);
CREATE TABLE moves (number INTEGER PRIMARY KEY, name TEXT NOT NULL, value TEXT NOT NULL, moved_us INTEGER NOT NULL);
CREATE INDEX moves_of_name ON moves (name, number);
PRAGMA user_version = {_LAYOUT};
COMMIT;
"""
_INSERT = "INSERT INTO versions (model, version, created_us, record) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_VERSION = "SELECT created_us, record FROM versions WHERE model = ? AND version = ?"
_VERSIONS = "SELECT version, created_us, record FROM versions WHERE model = ? ORDER BY number"
_MOVE = "INSERT INTO moves (name, value, moved_us) VALUES (?, ?, ?)"
_PRESENT = "SELECT value FROM moves WHERE name = ? ORDER BY number DESC LIMIT 1"
_HISTORY = "SELECT value, moved_us FROM moves WHERE name = ? ORDER BY number"
_COUNT = "SELECT coalesce(max(number), 0) FROM moves"


class SqliteRegistry(FileArtifacts):
    """A Registry under one folder on a local disk, made when it is not there. Open it after a fork, not before.

    Readers never wait for writers; a writer that waits more than 5 s for others raises Unavailable.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        super().__init__(self._path / "artifacts")
        self._lock = threading.Lock()
        with self._translated(), exclusive(self._path / ".lock"):
            self._db = sqlite3.connect(self._path / "registry.sqlite", timeout=_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise
        sync_folder(self._path)

    def _prepare(self) -> None:
        """Settings of the connection, and the tables where there are none."""
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        (layout,) = self._db.execute("PRAGMA user_version").fetchone()
        if layout == 0:
            self._db.executescript(_SCHEMA)
        elif layout != _LAYOUT:
            raise VersionError(
                f"the registry in {self._path} has layout {layout}, this version reads layout {_LAYOUT}; use the version that wrote it"
            )

    def register(self, model: str, version: str, record: Mapping[str, Any], *, now_us: int | None = None) -> Registration:
        text = record_text(model, version, record)
        with self._transaction():
            self._db.execute(_INSERT, (model, version, now_or(now_us), text))
            created_us, stored = self._db.execute(_VERSION, (model, version)).fetchone()
        check_same(model, version, stored, text)
        return Registration(model, version, created_us, json.loads(stored))

    def get(self, model: str, version: str) -> Registration:
        for created_us, record in self._rows(_VERSION, model, version):
            return Registration(model, version, created_us, json.loads(record))
        raise unknown_version(model, version, (known.version for known in self.versions(model)))

    def versions(self, model: str) -> list[Registration]:
        return [
            Registration(model, version, created_us, json.loads(record)) for version, created_us, record in self._rows(_VERSIONS, model)
        ]

    def alias(self, name: str) -> str | None:
        for (value,) in self._rows(_PRESENT, name):
            return str(value)
        return None

    def move_alias(self, name: str, value: str, expect: str | Expect | None = Expect.ANY, *, now_us: int | None = None) -> None:
        self.move_aliases({name: value}, None if isinstance(expect, Expect) else {name: expect}, now_us=now_us)

    def move_aliases(self, moves: Mapping[str, str], expect: Mapping[str, str | None] | None = None, *, now_us: int | None = None) -> None:
        with self._transaction():
            for name, expected in (expect or {}).items():
                check_expected(name, self._present(name), expected)
            for name, value in moves.items():
                if self._present(name) != value:
                    self._db.execute(_MOVE, (name, value, now_or(now_us)))

    def alias_history(self, name: str) -> list[AliasMove]:
        return [AliasMove(value, moved_us) for value, moved_us in self._rows(_HISTORY, name)]

    def move_count(self) -> int:
        return int(self._rows(_COUNT)[0][0])

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _present(self, name: str) -> str | None:
        row = self._db.execute(_PRESENT, (name,)).fetchone()
        return row[0] if row else None

    def _rows(self, query: str, *arguments: str) -> list[tuple[Any, ...]]:
        with self._lock, self._translated():
            return self._db.execute(query, arguments).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block, durably, or nothing of it; other processes' writers wait."""
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError as error:  # SQLite's own error cites bytes of a damaged file, and Python could not even say it
            raise self._damaged(error) from error
        except sqlite3.OperationalError as error:
            # Our statements are right, so it is the tables; an error without a code is Python's, about text that it cannot decode.
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_ERROR:
                raise self._damaged(error) from error
            raise Unavailable(f"the registry in {self._path} does not answer: {error}; make room on its disk, or see who writes") from error
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, why: Exception) -> Corrupt:
        return Corrupt(f"the registry in {self._path} cannot be read: {why}; restore the folder from a copy")
