"""The served log: what replicas answered, one file a process, appended before the answer is given; and how it is read."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from twofold.errors import Corrupt, Unavailable
from twofold.plan.served import Served, decode_served, encode_served

ROTATE_BYTES = 64 << 20
_SUFFIX = ".jsonl"


class ServedLog:
    """Appends records to a file of this process. Threads may share it.

    Each call is one write to the file, done when it returns: a killed process loses nothing that it appended, a power failure
    may lose the last seconds. A file that has grown to `rotate_bytes` is followed by a new one.
    """

    def __init__(self, directory: str | os.PathLike[str], rotate_bytes: int = ROTATE_BYTES) -> None:
        self._directory, self._rotate_bytes = Path(directory), rotate_bytes
        self._lock = threading.Lock()
        self._file: int | None = None
        self._size = 0

    def record(self, records: Sequence[Served]) -> None:
        """Append the records, in order. Raises Unavailable where the disk is full or the directory cannot be written."""
        lines = b"".join([encode_served(record) for record in records])
        with self._lock:
            try:
                self._write(lines)
            except OSError as error:
                raise Unavailable(f"the served log in {self._directory} cannot be written: {error}") from error

    def _write(self, lines: bytes) -> None:
        if self._file is None or self._size >= self._rotate_bytes:
            self._begin()
        assert self._file is not None
        left = memoryview(lines)
        try:
            while left:
                written = os.write(self._file, left)
                self._size += written
                left = left[written:]
        except OSError:
            self._end()  # what was written of a line stays the last of its file
            raise

    def _begin(self) -> None:
        """A new file, named by process and the machine's clock so that names order a process's files."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{os.getpid()}-{time.time_ns() // 1000}{_SUFFIX}"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._end()
        self._file, self._size = file, 0

    def _end(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        """Close the file; the next record begins a new one."""
        with self._lock:
            self._end()


def read_served(directory: str | os.PathLike[str]) -> Iterator[Served]:
    """All records of a directory: file by file, oldest file first, in the order in which each process answered.

    A broken last line, which a killed process leaves, is passed over. Raises Corrupt for a broken line elsewhere.
    """
    for path in sorted(Path(directory).glob(f"*{_SUFFIX}"), key=_order):
        yield from _read_file(path)


def _order(path: Path) -> tuple[int, str]:
    start = path.stem.rpartition("-")[2]
    return int(start) if start.isdecimal() else 0, path.name


def _read_file(path: Path) -> Iterator[Served]:
    broken: tuple[int, Exception] | None = None
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if broken is not None:
                raise Corrupt(f"{path}, line {broken[0]} is no record of what was served: {broken[1]}; restore the file or remove the line")
            try:
                yield decode_served(line)
            except msgspec.DecodeError as error:
                broken = (number, error)
