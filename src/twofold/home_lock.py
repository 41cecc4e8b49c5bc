"""Who does a task of a home: one process at a time, and the kernel frees the place when that process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from twofold import flocks
from twofold.errors import Busy

_POLL_S = 0.05


class HomeLock:
    """The exclusive right to a task ("worker", "build", "supervisor") of a home, held from entering to leaving the block.

    Raises Busy, naming the process that has it, after `wait_s`.
    """

    def __init__(self, folder: Path, task: str, wait_s: float = 0.0) -> None:
        self._path, self._task, self._wait_s = folder / f"{task}.lock", task, wait_s
        self._file = -1

    def __enter__(self) -> HomeLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + self._wait_s
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if not flocks.lock(file, deadline, lambda waited_s: _POLL_S):
            holder = os.pread(file, 20, 0).decode().strip() or "unknown"
            os.close(file)
            raise Busy(
                f"process {holder} is the {self._task} of {self._path.parent.parent}; there can be only one: "
                "use that one, end it, or take another --home"
            )
        os.pwrite(file, b"%-20d" % os.getpid(), 0)  # in one piece: who looks sees the last holder or this one
        self._file = file
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)
        self._file = -1


def holder_of(folder: Path, task: str) -> int | None:
    """The process that has a task of a home now; None where nobody has."""
    try:
        file = os.open(folder / f"{task}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(file, 20, 0).decode().strip() or 0)
    finally:
        os.close(file)
    return None
