"""The clocks a project can run by: the machine's, one moved by hand, one that a replay's processes share; no units are converted here."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

from twofold.errors import Corrupt, DataError, Unavailable
from twofold.instants import Duration, Instant, duration_us, to_iso, to_us


class SystemClock:
    """The machine's wall time; within a process it stands still rather than go back when the machine's clock is set back."""

    _guard: ClassVar[threading.Lock] = threading.Lock()
    _latest_us: ClassVar[int] = 0

    def now_us(self) -> int:
        """The present instant, never below one that any SystemClock of this process gave before."""
        now_us = time.time_ns() // 1000
        with SystemClock._guard:
            SystemClock._latest_us = max(SystemClock._latest_us, now_us)
            return SystemClock._latest_us


class ManualClock:
    """A clock that stands still until it is moved; for tests, within one process."""

    def __init__(self, now: Instant | str) -> None:
        self._now_us = to_us(now)

    def now_us(self) -> int:
        """The instant that the clock was last set to."""
        return self._now_us

    def set(self, instant: Instant | str, *, back: bool = False) -> None:
        """Move the clock to `instant`. Raises DataError where that lies before its present, unless `back` is true."""
        new_us = to_us(instant)
        if new_us < self._now_us and not back:
            raise DataError(
                f"the clock stands at {to_iso(self._now_us)} and would go back to {to_iso(new_us)}; say back=True if that is meant"
            )
        self._now_us = new_us

    def advance(self, duration: Duration) -> None:
        """Move the clock forward by a duration such as `"90s"`; raises DefinitionError where it is none, or not longer than nothing."""
        self._now_us = to_us(self._now_us + duration_us(duration))


class ReplayClock:
    """One instant in a file of eight bytes that all processes of a home have in their memory; a driver sets it, everyone reads it.

    The instant is one aligned machine word, so a reader sees an instant that was set, never a mixture of two.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._reading: memoryview[int] | None = None
        self._writing: memoryview[int] | None = None

    def now_us(self) -> int:
        """The instant last set, by any process. Raises Unavailable where none ever was."""
        cell = self._reading
        if cell is None:
            try:
                cell = self._reading = _mapped(self._path, is_writable=False)
            except FileNotFoundError:
                raise Unavailable(
                    f"the replay's clock {self._path} was never set; start the replay, or set it: ReplayClock(path).set(instant)"
                ) from None
        return cell[0]

    def set(self, instant: Instant | str) -> None:
        """Move the clock for all processes, backwards too: a new replay may begin before the end of the last. Made where it is absent."""
        new_us = to_us(instant)
        if self._writing is None:
            _create(self._path, new_us)
            self._writing = _mapped(self._path, is_writable=True)
        self._writing[0] = new_us


def _mapped(path: Path, is_writable: bool) -> memoryview[int]:
    """The file's eight bytes as one shared integer."""
    file = os.open(path, os.O_RDWR if is_writable else os.O_RDONLY)
    try:
        if os.fstat(file).st_size != 8:
            raise Corrupt(
                f"{path} is no replay clock: it has {os.fstat(file).st_size} bytes instead of 8; remove it and set the clock anew"
            )
        access = mmap.ACCESS_WRITE if is_writable else mmap.ACCESS_READ
        return memoryview(mmap.mmap(file, 8, access=access)).cast("q")
    finally:
        os.close(file)


def _create(path: Path, now_us: int) -> None:
    """Put a file that holds `now_us` at `path` where there is none; it appears whole, so no reader finds an instant that was not set."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        new.write_bytes(now_us.to_bytes(8, sys.byteorder, signed=True))
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)
