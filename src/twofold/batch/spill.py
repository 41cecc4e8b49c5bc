"""Rows that do not fit into memory at once: written to temporary files in parts, read back part by part; their meaning is unknown here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.grouping import group_order

_LOCK = "owner.lock"
_OURS = re.compile(r"\d+-[0-9a-f]{8}")
_ROW_BYTES, _VALUE_BYTES, _WIDE_BYTES = 64, 16, 56
"""Measured: what a row costs while it is worked on, its order included, and each of its columns; texts and rows cost more."""
_PARTS_PER_MEMORY, _MOST_PARTS = 4, 256
_BUFFERED_PER_MEMORY, _BATCHES_PER_MEMORY = 8, 16
_LEAST_ROWS, _MOST_ROWS = 16, 2_000_000


@dataclass(frozen=True)
class Scratch:
    """How many bytes of events long work may hold at once, and the folder for the rest, which is nobody else's."""

    folder: Path
    memory_bytes: int

    def parts_for(self, size_bytes: int) -> int:
        """Into how many parts to cut so many bytes; 1 where they fit as they are."""
        if size_bytes <= self.memory_bytes:
            return 1
        return min(1 + _PARTS_PER_MEMORY * size_bytes // self.memory_bytes, _MOST_PARTS)

    def rows_at_once(self, kinds: Sequence[str]) -> int:
        """How many rows of columns of these type names a batch has."""
        fitting = self.memory_bytes // _BATCHES_PER_MEMORY // estimated_bytes(1, kinds)
        return max(_LEAST_ROWS, min(fitting, _MOST_ROWS))

    @contextlib.contextmanager
    def spill(self, parts: int) -> Iterator[Spill]:
        """Files for so many parts, gone when the block ends; those of processes that were killed go first."""
        folder = self.folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with self._cleaned():
            folder.mkdir()
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield Spill(folder, parts, self.memory_bytes // _BUFFERED_PER_MEMORY)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def clean(self) -> None:
        """Remove what killed processes left."""
        if self.folder.exists():
            with self._cleaned():
                pass

    @contextlib.contextmanager
    def _cleaned(self) -> Iterator[None]:
        """Alone in the folder, nothing in it but what living processes hold the lock of."""
        self.folder.mkdir(parents=True, exist_ok=True)
        alone = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(alone, fcntl.LOCK_EX)
            for folder in self.folder.iterdir():
                if _OURS.fullmatch(folder.name) and not _is_held(folder / _LOCK):
                    shutil.rmtree(folder, ignore_errors=True)
            yield
        finally:
            os.close(alone)


def _is_held(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


class Spill:
    """Parts of rows in files; not to be shared between threads."""

    def __init__(self, folder: Path, parts: int, buffer_bytes: int) -> None:
        self.parts = parts
        self._folder, self._buffer_bytes = folder, buffer_bytes
        self._waiting: list[list[pl.DataFrame]] = [[] for _ in range(parts)]
        self._files: list[list[Path]] = [[] for _ in range(parts)]
        self._waiting_bytes = 0

    def add(self, frame: pl.DataFrame, part: NDArray[np.int64]) -> None:
        """Give each row of a frame to its part."""
        order, starts = group_order(part, self.parts)
        ordered = frame[order]
        for i in np.flatnonzero(np.diff(starts)):
            self._waiting[i].append(ordered[int(starts[i]) : int(starts[i + 1])])
        self._waiting_bytes += ordered.estimated_size()
        if self._waiting_bytes > self._buffer_bytes:
            self._write()

    def _write(self) -> None:
        for part, frames in enumerate(self._waiting):
            if frames:
                path = self._folder / f"{part}-{len(self._files[part])}.arrow"
                pl.concat(frames).write_ipc(path)
                self._files[part].append(path)
        self._waiting = [[] for _ in range(self.parts)]
        self._waiting_bytes = 0

    def take(self, part: int) -> pl.DataFrame | None:
        """The rows of a part, in the order in which they were added; None where there are none. Its files are removed."""
        frames = [pl.read_ipc(path) for path in self._files[part]] + self._waiting[part]
        for path in self._files[part]:
            path.unlink()
        self._files[part], self._waiting[part] = [], []
        return pl.concat(frames) if frames else None


def estimated_bytes(rows: int, kinds: Sequence[str]) -> int:
    """What rows of columns of these type names take while they are worked on."""
    wide = sum(kind not in ("int", "float", "bool", "datetime") for kind in kinds)
    return rows * (_ROW_BYTES + _VALUE_BYTES * (len(kinds) - wide) + _WIDE_BYTES * wide)
