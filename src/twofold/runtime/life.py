"""Signs of life: a process that must not stop unseen touches a file all the time, and its supervisor looks at it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from twofold.runtime.beating import beating
from twofold.runtime.home import Home
from twofold.silence import Stall

_TOUCH_S = 0.25


@contextlib.contextmanager
def signs_of_life(run: Path, stall: Stall) -> Iterator[None]:
    """For the length of the block a thread touches this process's file. Long work is no silence; to be stopped is, and to hang."""
    path = _path(run, os.getpid())
    run.mkdir(parents=True, exist_ok=True)

    def touch() -> None:
        with contextlib.suppress(OSError):  # a full disk is no death
            if not stall.hangs():
                path.touch()

    path.touch()
    try:
        with beating(touch, _TOUCH_S):
            yield
    finally:
        path.unlink(missing_ok=True)


def new_stall(home: Home) -> Stall:
    """Whether the home's worker in this process hangs, by the setting for it; a line on stderr tells it."""
    stall_s = home.settings.max_stall_s

    def tell() -> None:
        print(f"this worker has done nothing for {stall_s} s (max_stall_s): until it does, it counts as dead", file=sys.stderr, flush=True)

    return Stall(stall_s, tell)


def sign_of(run: Path, process: int) -> int | None:
    """What changes as long as a process lives; None where it gives no signs (yet)."""
    try:
        return _path(run, process).stat().st_mtime_ns
    except OSError:
        return None


def living(run: Path) -> list[int]:
    """The processes of this machine that give signs of life in this folder, and are there."""
    found = (int(path.suffix[1:]) for path in run.glob("alive.*") if path.suffix[1:].isdecimal())
    return sorted(process for process in found if _is_there(process))


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def forget(run: Path, process: int) -> None:
    """Remove the file of a process that has died."""
    _path(run, process).unlink(missing_ok=True)


def _path(run: Path, process: int) -> Path:
    return run / f"alive.{process}"
