"""Callers of one process that append at the same time share a commit; how a commit is made is not known here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twofold.errors import LogUnavailable, TwofoldError
from twofold.log.base import Append, Position
from twofold.log.file_lock import FileLock


@dataclass(eq=False)
class Call:
    """One caller's append: what it wants, and in the end its position or why it failed."""

    batches: Sequence[Append]
    now_us: int
    deadline_s: float
    position: Position | None = None
    error: TwofoldError | None = None

    @property
    def is_pending(self) -> bool:
        """Neither committed nor failed."""
        return self.position is None and self.error is None


@dataclass(eq=False)
class GroupCommit:
    """Runs `commit` under `lock` with all calls that queued during the last commit; there is no timer.

    `commit` gives every call its position, or raises and has then appended nothing of any. A failed commit is not tried again. Where it is
    interrupted, the calls that have a position were appended.
    """

    lock: FileLock
    commit: Callable[[Sequence[Call]], None]
    _queue: list[Call] = field(default_factory=list)
    _is_committing: bool = False
    _turn: threading.Condition = field(default_factory=threading.Condition)

    def append(self, batches: Sequence[Append], now_us: int, timeout_s: float) -> Position:
        """The position of the batches, once they are durable; raises the error of the commit that they were part of."""
        call = Call(batches, now_us, time.monotonic() + timeout_s)
        with self._turn:
            self._queue.append(call)
            try:
                while self._is_committing and call.is_pending:
                    self._turn.wait()
            except BaseException:  # an interrupt: nobody waits for this call any more
                self._forget(call)
                raise
            leads = call.is_pending
            self._is_committing |= leads
        if leads:
            self._lead(call)
        if call.error is not None:
            raise type(call.error)(str(call.error)) from call.error  # one of its own for every caller
        assert call.position is not None
        return call.position

    def _lead(self, own: Call) -> None:
        calls = [own]
        try:
            with self.lock.held(own.deadline_s):
                with self._turn:
                    calls, self._queue = self._queue, []
                self.commit(calls)
        except TwofoldError as error:
            _fail(calls, error)
        except BaseException as error:
            pending = [call for call in calls if call.is_pending]
            _fail(pending, LogUnavailable(f"the commit was broken off by {error!r}; nothing was appended"))
            raise
        finally:
            with self._turn:
                self._forget(own)
                self._is_committing = False
                self._turn.notify_all()

    def _forget(self, call: Call) -> None:
        if call in self._queue:
            self._queue.remove(call)


def _fail(calls: Sequence[Call], error: TwofoldError) -> None:
    for call in calls:
        call.position, call.error = None, error
