"""Tasks that one process does at a time: of a home, and on a store that homes may share of all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from twofold.errors import Busy, Unavailable
from twofold.progress import Progress, silent
from twofold.runtime.beating import beating
from twofold.runtime.home import Home
from twofold.stream.leases import BEAT_S, Lease

TASK_WAIT_S = 600.0
"""So long whoever was asked for a task waits for its turn."""
_POLL_S = 0.05


@contextlib.contextmanager
def alone(home: Home, task: str, wait_s: float = 0.0, progress: Progress = silent) -> Iterator[Progress]:
    """The exclusive right to a task ("build", "load", "replay"), from entering to leaving the block.

    Yields `progress`, which raises Busy once another has taken the task over, because this process was stopped or cut off. Raises Busy,
    naming who has it, after `wait_s`; not before the holder has shown that it lives, or is dead, where it is on another home.
    """
    deadline_s = time.monotonic() + wait_s
    with home.lock(task, wait_s):
        if not home.store.has_many_writers:
            yield progress
            return
        with _leased(home, task, deadline_s) as lease:

            def checked(stage: str, done: int = 0, total: int | None = None) -> None:
                lease.check()
                progress(stage, done, total)

            yield checked


@contextlib.contextmanager
def _leased(home: Home, task: str, deadline_s: float) -> Iterator[Lease]:
    """The lease; the caller has the home's lock, so a holder of this home that is entered in the store has ended."""
    note = home.settings.run / f"{task}.lease"
    lease = Lease(home.store, task, note.read_text() if note.exists() else "")
    while (holder := lease.try_take()) is not None:
        if lease.has_heard and time.monotonic() >= deadline_s:
            raise Busy(
                f"process {holder.process} on {holder.host} is the {task} of this store; there can be only one: wait for it, or end it"
            )
        time.sleep(_POLL_S)
    try:
        note.write_text(lease.id)

        def beat() -> None:
            with contextlib.suppress(Unavailable):
                lease.beat()

        with beating(beat, BEAT_S):
            yield lease
    finally:
        with contextlib.suppress(Unavailable):
            lease.leave()
