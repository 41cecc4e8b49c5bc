"""Rows of a load on their way: in a file from before it is decided that they count until their table has them. Who decides is not known."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import quote

import polars as pl

from twofold.durable import sync_folder
from twofold.errors import Corrupt, Unavailable


class StagedRows:
    """At most one file of rows a source, named by their content, in `loading/<source>` beside the tables; one process writes at a time."""

    def __init__(self, tables_folder: Path) -> None:
        self._folder = tables_folder / "loading"

    def write(self, source: str, content: str, frame: pl.DataFrame) -> None:
        """Keep rows, durable when it returns, in place of what was kept of the source before. Raises Unavailable where the disk is full."""
        self.drop(source)
        path = self._path(source, content)
        written = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(written, "wb") as out:
                frame.write_ipc(out, compression="lz4")
                out.flush()
                os.fsync(out.fileno())
            os.replace(written, path)
            for folder in (path.parent, self._folder, self._folder.parent):
                sync_folder(folder)
        except OSError as error:
            self.drop(source)
            raise Unavailable(f"{path} cannot be written: {error}; nothing was loaded: look at the disk's space, then try again") from error

    def read(self, source: str, content: str) -> pl.DataFrame | None:
        """The rows of that content; None where they are not kept. Raises Corrupt where the file cannot be read."""
        path = self._path(source, content)
        try:
            return pl.read_ipc(path) if path.exists() else None
        except (pl.exceptions.PolarsError, OSError) as error:
            raise Corrupt(
                f"rows of {source!r} that are being loaded cannot be read from {path}: {error}; remove that file and load them again"
            ) from error

    def has(self, source: str) -> bool:
        """Whether anything is kept of a source, be it half written."""
        return self._path(source, "").parent.exists()

    def drop(self, source: str) -> None:
        """Keep nothing of a source."""
        shutil.rmtree(self._path(source, "").parent, ignore_errors=True)

    def _path(self, source: str, content: str) -> Path:
        return self._folder / quote(source, safe="") / f"{content}.arrow"
