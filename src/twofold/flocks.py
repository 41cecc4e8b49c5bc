"""The kernel's exclusive lock on an open file (`flock`), with a bounded wait; who holds it and what it guards is not known here.

The kernel frees the lock when the process that holds it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable


def try_lock(file: int) -> bool:
    """Whether the lock on the open file was free and is now held."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(file: int, deadline_s: float, pause_s: Callable[[float], float]) -> bool:
    """Whether the lock was had before `deadline_s` of `time.monotonic()`; tried once at least.

    `flock` knows no timeout, so it is tried again and again: `pause_s` says how long to wait, given how long it took so far.
    """
    begun_s = time.monotonic()
    while not try_lock(file):
        now_s = time.monotonic()
        if now_s >= deadline_s:
            return False
        time.sleep(min(pause_s(now_s - begun_s), deadline_s - now_s))
    return True


def unlock(file: int) -> None:
    """Give the lock to whoever waits; nothing happens where it is not held."""
    fcntl.flock(file, fcntl.LOCK_UN)
