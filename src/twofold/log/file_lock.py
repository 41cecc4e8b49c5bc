"""A lock between processes that is taken in turns and let go by the kernel when its holder dies; what it guards is not known here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from twofold import flocks
from twofold.errors import LogUnavailable

_FIRST_POLL_S = 50e-6
_LATER_POLL_S = 1e-3
_PATIENCE_S = 0.05


class FileLock:
    """`flock` on the file `path-lock`, one thread of a process at a time; its directory is made where it is absent.

    Whoever waits first passes the file `path-gate`, which the one that holds the lock has left behind. So a process that commits
    again and again finds the next one standing at the lock already, and cannot overtake it: with the lock alone, one process was
    kept waiting for up to 600 ms among four.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gate = self._lock = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._gate = os.open(f"{path}-gate", os.O_RDWR | os.O_CREAT, 0o644)
            self._lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self.close()
            raise LogUnavailable(f"cannot open the lock files of {path}: {error}; its directory must be writable") from None

    @contextlib.contextmanager
    def held(self, deadline_s: float) -> Iterator[None]:
        """Hold the lock during the block. Raises LogUnavailable, with the holder's process, at `deadline_s` of `time.monotonic()`."""
        self._take(self._gate, deadline_s)
        try:
            self._take(self._lock, deadline_s)
        finally:
            flocks.unlock(self._gate)
        try:
            yield
        finally:
            flocks.unlock(self._lock)

    def close(self) -> None:
        """Give the files back, and with them the lock; nothing happens the second time."""
        for file in (self._gate, self._lock):
            if file >= 0:
                os.close(file)
        self._gate = self._lock = -1

    def _take(self, file: int, deadline_s: float) -> None:
        if not flocks.lock(file, deadline_s, _pause_s):
            raise LogUnavailable(
                f"{self._path} was locked for longer than the timeout{_holder(self._lock)}; nothing was appended: "
                "append again, or end that process if it hangs"
            )


def _pause_s(waited_s: float) -> float:
    """Short at first, since a commit takes less than a millisecond."""
    return _FIRST_POLL_S if waited_s < _PATIENCE_S else _LATER_POLL_S


def _holder(file: int) -> str:
    """Words that name the process which holds a lock on the file; empty where the system does not say."""
    status = os.fstat(file)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            _, *words = line.split()
            if place in words and words[0] == "FLOCK":
                return f" by process {words[3]}"
    return ""
