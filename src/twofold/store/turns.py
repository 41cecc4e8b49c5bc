"""Taking turns at writing, between threads and between processes, with bounded waits; what is written is not known here.

A turn is a pair of locks: who waits for the turn holds the *queue*, so one who has just written and wants to write again stands
behind it, and nobody starves.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from pathlib import Path

from twofold import flocks
from twofold.errors import StoreUnavailable

_FIRST_POLL_S = 50e-6
_LONGEST_POLL_S = 2e-3


def _pause_s(waited_s: float) -> float:
    """Twice as long after each try, up to a bound."""
    return min(max(_FIRST_POLL_S, waited_s), _LONGEST_POLL_S)


def left_s(deadline_s: float) -> float:
    """Seconds until `deadline_s` of the monotonic clock, never negative."""
    return max(0.0, deadline_s - time.monotonic())


class ThreadTurn:
    """A turn among the threads of this process."""

    def __init__(self, what: str):
        self._what = what
        self._queue = threading.Lock()
        self._turn = threading.Lock()
        self._owner: int | None = None

    def acquire(self, deadline_s: float) -> bool:
        """Whether this thread got the turn before the deadline. Raises StoreUnavailable where it has it already."""
        if self._owner == threading.get_ident():
            raise StoreUnavailable(
                f"{self._what}: this thread is inside a transaction already and would wait for itself for ever; "
                "write into the open one, or end it first"
            )
        if not self._queue.acquire(timeout=left_s(deadline_s)):
            return False
        try:
            if not self._turn.acquire(timeout=left_s(deadline_s)):
                return False
        finally:
            self._queue.release()
        self._owner = threading.get_ident()
        return True

    def release(self) -> None:
        """Give the turn to whoever waits; only its holder may."""
        self._owner = None
        self._turn.release()


class FileLock:
    """An exclusive lock on a file, which names its holder's process; the kernel frees it when that process ends, however it ends."""

    def __init__(self, path: Path):
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._mark = b"%-20d\n" % os.getpid()
        if not os.fstat(self._fd).st_size:
            os.pwrite(self._fd, b"%-20d\n" % 0, 0)  # takes its block now: a full disk must not hinder the lock later
        _held_here.add(self)

    def try_acquire(self) -> bool:
        """Whether the lock was free and is now held."""
        return flocks.try_lock(self._fd) and self._marked()

    def acquire(self, deadline_s: float) -> bool:
        """Whether the lock was had before the deadline of the monotonic clock."""
        return flocks.lock(self._fd, deadline_s, _pause_s) and self._marked()

    def _marked(self) -> bool:
        try:
            if os.pread(self._fd, len(self._mark), 0) != self._mark:  # a needless write would burden the next fsync
                os.pwrite(self._fd, self._mark, 0)
        except OSError:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Give the lock to whoever waits."""
        flocks.unlock(self._fd)

    def holder(self) -> int:
        """Process that took the lock last; 0 where none ever did."""
        return int(os.pread(self._fd, len(self._mark), 0).strip() or b"0")

    def close(self) -> None:
        """Give the file back, and the lock with it."""
        _held_here.discard(self)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_held_here: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked child shares its parent's locks; without its copies they end with the parent."""
    for lock in list(_held_here):
        lock.close()


os.register_at_fork(after_in_child=_let_go_in_child)


class WriteTurn:
    """A turn among all threads of all processes that write under `directory`."""

    def __init__(self, directory: Path, timeout_s: float):
        self._what = f"store {directory}"
        self._timeout_s = timeout_s
        self._threads = ThreadTurn(self._what)
        self._queue = FileLock(directory / "queue.lock")
        self._turn = FileLock(directory / "writer.lock")

    def acquire(self) -> None:
        """Wait for the turn. Raises StoreUnavailable, naming the holder's process, after `timeout_s`."""
        deadline_s = time.monotonic() + self._timeout_s
        if not self._threads.acquire(deadline_s):
            raise self._unavailable(self._turn.holder())
        try:
            self._acquire_files(deadline_s)
        except OSError as error:
            self._threads.release()
            raise StoreUnavailable(f"{self._what}: its lock files cannot be used: {error}; look at the disk under it") from error
        except BaseException:
            self._threads.release()
            raise

    def _acquire_files(self, deadline_s: float) -> None:
        if not self._queue.acquire(deadline_s):
            raise self._unavailable(self._in_the_way())
        try:
            if not self._turn.acquire(deadline_s):
                raise self._unavailable(self._turn.holder())
        finally:
            self._queue.release()

    def _in_the_way(self) -> int:
        """Who keeps the queue from moving: the writer, or, where nobody writes, the one who should begin."""
        if not self._turn.try_acquire():
            return self._turn.holder()
        self._turn.release()
        return self._queue.holder()

    def _unavailable(self, pid: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._what}: waited {self._timeout_s:g} s for the turn to write, which process {pid} holds; "
            "if that process is stopped or hangs, end it (its lock goes with it), then try again"
        )

    def release(self) -> None:
        """Give the turn to whoever waits; only its holder may."""
        self._turn.release()
        self._threads.release()

    def close(self) -> None:
        """Give the files back."""
        self._queue.close()
        self._turn.close()
