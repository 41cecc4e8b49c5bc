"""Workers beside each other on a store with many writers: a member's thread, this machine's dead, and who must not be disturbed."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.errors import Busy, Unavailable
from twofold.home_lock import holder_of
from twofold.plan.layout import LOG_UUID
from twofold.runtime.beating import beating
from twofold.runtime.home import APPLIED, Home
from twofold.runtime.life import new_stall
from twofold.runtime.retrying import answered, follow
from twofold.silence import Stall
from twofold.store.applied import applied_offsets, lies_within
from twofold.stream.shares import BEAT_S, Member, Membership, Watch, members, new_id

if TYPE_CHECKING:
    from twofold.stream.worker import Worker

_WAIT_S = 0.1
"""So long a worker waits for events at most: then it looks at its share again."""
_POLL_S = 0.05
_TASK = "member-"


def has_ended_here(home: Home, member: str) -> bool:
    """Whether a member's process ran on this home and has ended: nobody holds its lock."""
    return _lock(home, member).exists() and holder_of(home.settings.run, _TASK + member) is None


def _lock(home: Home, member: str) -> Path:
    return home.settings.run / f"{_TASK}{member}.lock"


def _watch(home: Home) -> Watch:
    return Watch(has_ended=functools.partial(has_ended_here, home))


@contextlib.contextmanager
def membership(home: Home, stall: Stall | None = None) -> Iterator[Membership]:
    """A member that beats in a thread of its own, so that long work is no silence; it leaves at the end of the block."""
    member = new_id()
    with home.lock(_TASK + member, wait_s=1.0):
        ended_here = functools.partial(has_ended_here, home)
        found = Membership(home.store, home.log.partitions, member, has_ended=ended_here, stall=stall or new_stall(home))

        def beat() -> None:
            try:
                found.beat()
            except Unavailable:  # the store does not answer: neither does it to the others
                pass
            except Exception as error:
                found.failure = error

        try:
            found.beat()  # which takes the dead off the list: their locks have told what they knew
            for path in home.settings.run.glob(f"{_TASK}*.lock"):
                if holder_of(home.settings.run, path.stem) is None:
                    path.unlink(missing_ok=True)
            with beating(beat, BEAT_S):
                yield found
        finally:
            with contextlib.suppress(Unavailable):
                found.leave()
        _lock(home, member).unlink(missing_ok=True)


class Sharing:
    """A worker that applies its member's share, whatever becomes of it."""

    def __init__(self, home: Home, new_worker: Callable[[], Worker], member: Membership) -> None:
        self._home, self._new_worker, self._member = home, new_worker, member
        self._worker, self._beats, self._passes = new_worker(), 0, 0

    def apply_some(self) -> int:
        """Take over and leave partitions if the share is another, then apply what is next; returns the number of events.

        A partition that another worker has taken meanwhile is taken back after the next beat at the earliest. Raises what keeps the
        member from beating: for the others it is dead.
        """
        member = self._member
        if member.failure is not None:
            raise member.failure
        self._passes += 1
        member.stall.sign = self._sign
        if self._beats != member.beats:
            self._beats = member.beats
            self._adopt(member.share)
        member.partitions = tuple(self._worker.partitions)
        return self._worker.apply_some()

    def _sign(self) -> object:
        return self._passes, self._worker.steps

    def _adopt(self, share: frozenset[int]) -> None:
        self._worker.leave(set(self._worker.partitions) - share)
        if new := share - set(self._worker.partitions):
            with self._home.store.snapshot() as snapshot:
                is_lost = snapshot.get(LOG_UUID) is None
            if is_lost:  # servers that were emptied, or replaced: what a new store must know is not in it
                self._member.stall.sign = None  # that may take long
                self._worker, new = self._new_worker(), share
                self._member.stall.sign = self._sign
            self._worker.take_over(new)

    def rest(self) -> None:
        """Commit what is only in memory."""
        self._worker.close()


def stream(
    home: Home,
    new_worker: Callable[[], Worker],
    wait: Callable[[float, Collection[int]], object],
    until: Callable[[], bool],
    stall: Stall,
) -> None:
    """Apply a share of the log as it grows, until `until()`. Where log or store do not answer it goes on when they do."""
    with contextlib.ExitStack() as stack:
        member = answered(lambda: stack.enter_context(membership(home, stall)), until)
        sharing = None if member is None else answered(lambda: Sharing(home, new_worker, member), until)
        if member is None or sharing is None:
            return

        def rest() -> None:
            sharing.rest()
            wait(_WAIT_S, member.partitions)

        follow(sharing.apply_some, rest, until)


def has_worker(home: Home) -> bool:
    """Whether a worker lives, here or elsewhere; takes up to two seconds where one may have died elsewhere."""
    watch = _watch(home)
    while living := watch.living(lambda: _entered(home)):
        if watch.has_heard or any(holder_of(home.settings.run, _TASK + member) is not None for member in living):
            return True
        time.sleep(_POLL_S)
    return False


def catch_up(home: Home, new_worker: Callable[[], Worker], ends: Mapping[tuple[str, int], int], deadline_s: float) -> int:
    """Apply the log up to `ends` in this process if no worker lives, else wait until the others have; the events applied here.

    Raises Busy where that has not happened by `deadline_s` of the monotonic clock.
    """
    watch = _watch(home)
    with home.bell.listen(APPLIED) as listener:
        while watch.living(lambda: _entered(home)):
            if is_applied(home, ends):
                return 0
            _check_time(deadline_s)
            listener.wait(_POLL_S)
    applied = 0
    with membership(home) as member:
        sharing = Sharing(home, new_worker, member)
        while (events := sharing.apply_some()) or not is_applied(home, ends):
            applied += events
            if not events:  # another has come meanwhile, and has a share that is waited for
                _check_time(deadline_s)
                time.sleep(_POLL_S)
        sharing.rest()
    return applied


def _check_time(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise Busy("the workers of this store did not reach the log's end in time; look at `twofold status`")


def is_applied(home: Home, ends: Mapping[tuple[str, int], int]) -> bool:
    """Whether the store has applied the log up to these offsets."""
    with home.store.snapshot() as snapshot:
        return lies_within(ends, applied_offsets(snapshot, ends))


def _entered(home: Home) -> Mapping[str, Member]:
    with home.store.snapshot() as snapshot:
        return members(snapshot)
