"""Deadlines of answers, and how work is kept from overrunning them: in the caller's thread, or in threads of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from twofold.errors import DeadlineExceeded
from twofold.instants import US_PER_SECOND, duration_text

T = TypeVar("T")


class Deadline:
    """When an answer is due, by the machine's monotonic clock."""

    def __init__(self, length_us: int) -> None:
        self.length_us = length_us
        self._end_ns = time.monotonic_ns() + length_us * 1000

    def left_s(self) -> float:
        """Seconds until it; 0 once it has passed."""
        return max(0.0, (self._end_ns - time.monotonic_ns()) / 1e9)

    def check(self, doing: str) -> None:
        """Raises DeadlineExceeded once it has passed."""
        if time.monotonic_ns() >= self._end_ns:
            raise self.exceeded(doing)

    def exceeded(self, doing: str) -> DeadlineExceeded:
        """The error that it has passed while something was done."""
        length = duration_text(self.length_us) if self.length_us > 0 else f"{self.length_us / US_PER_SECOND:g}s"
        return DeadlineExceeded(f"the deadline of {length} passed while {doing}")


class Isolation(Protocol):
    """Where the live model's work is done."""

    def run(self, work: Callable[[], T], deadline: Deadline, doing: str) -> T:
        """What `work` returns or raises; DeadlineExceeded where the isolation can leave it behind and the deadline passes."""
        ...


class InCall:
    """In the caller's thread: nothing is handed over, and a part that hangs holds the caller up. For stores on this machine."""

    def run(self, work: Callable[[], T], deadline: Deadline, doing: str) -> T:
        """See `Isolation`; the deadline is not looked at."""
        return work()


class InThreads:
    """In threads that are left behind when the deadline passes. For stores and predictors that may hang.

    At most `threads` calls are under way, those left behind included; further ones wait for a free thread until their deadline.
    """

    def __init__(self, threads: int = 8) -> None:
        self._free = threading.Semaphore(threads)
        self._tasks: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"live-{number}", daemon=True).start()

    def run(self, work: Callable[[], T], deadline: Deadline, doing: str) -> T:
        """See `Isolation`."""
        if not self._free.acquire(timeout=deadline.left_s()):
            raise deadline.exceeded(f"all threads were {doing}")
        future: Future[T] = Future()
        self._tasks.put((work, future))
        try:
            return future.result(deadline.left_s())
        except TimeoutError:
            if future.done():
                raise  # the work's own
            raise deadline.exceeded(doing) from None

    def _work(self) -> None:
        while True:
            work, future = self._tasks.get()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            finally:
                self._free.release()
            del work, future
