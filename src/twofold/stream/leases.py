"""Who does a task of a store that homes may share: one at a time, which says in the store again and again that it lives.

Of processes on one home a lock decides (see `home_lock`), which frees a dead one's place at once. No clocks of machines are compared.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import time
from collections.abc import Callable

import msgspec

from twofold.errors import Busy, Corrupt, Unavailable
from twofold.plan import layout
from twofold.plan.serving import Frozen
from twofold.silence import Silence
from twofold.store.base import Store, Transaction, commit

BEAT_S = 0.5
"""How often a holder says that it lives."""
DEAD_S = 10.0
"""A holder that has said nothing for so long is dead. Longer than a worker's: nothing undoes what two of them do to tables."""


class Holder(Frozen, frozen=True):
    """Who has a task: a random id, how often it has said so, where it runs."""

    id: str
    beats: int
    host: str
    process: int


_HOLDER = msgspec.json.Decoder(Holder)


class Lease:
    """The right to a task, wanted or had. One thread may beat while another works.

    `left_here` is the id of a holder that is known to have ended: it ran on this home.
    """

    def __init__(self, store: Store, task: str, left_here: str = "", clock_s: Callable[[], float] = time.monotonic) -> None:
        self.id = secrets.token_hex(8)
        self.has_heard = False
        """Whether the holder has spoken since this one began to want the task, so that it certainly lives."""
        self._store, self._task, self._left_here, self._clock_s = store, task, left_here, clock_s
        self._key, self._beats, self._is_lost = layout.task_key(task), 0, False
        self._said_s = -math.inf
        """When this one last said that it lives, by its own clock; others count from then on at the earliest."""
        self._silence: Silence | None = None

    def try_take(self) -> Holder | None:
        """Who has the task; None where this one has it now. A dead holder loses it. Raises StoreUnavailable."""
        now_s = self._clock_s()  # before the reading: what is read later can only be fresher

        def take(txn: Transaction) -> Holder | None:
            holder = self._holder(txn)
            if holder is not None and not self._is_dead(holder, now_s):
                return holder
            self._put(txn)
            return None

        holder = commit(self._store, take)
        if holder is None:
            self._beats, self._said_s = self._beats + 1, now_s
        return holder

    def _is_dead(self, holder: Holder, now_s: float) -> bool:
        if holder.id in (self.id, self._left_here):
            return True
        sign = (holder.id, holder.beats)
        if self._silence is None:
            self._silence = Silence(sign, now_s, 2 * BEAT_S)
        self.has_heard = self.has_heard or self._silence.sign != sign
        return self._silence.look(sign, now_s) >= DEAD_S

    def beat(self) -> None:
        """Say that this holder lives. Raises StoreUnavailable."""
        now_s = self._clock_s()

        def say(txn: Transaction) -> None:
            holder = self._holder(txn)
            self._is_lost = holder is not None and holder.id != self.id
            if not self._is_lost:
                self._put(txn)

        commit(self._store, say)
        self._beats, self._said_s = self._beats + 1, now_s

    def check(self) -> None:
        """Raises Busy where another has taken the task over: now, if others may think this one dead, else as the last beat has seen it.

        So whoever was stopped knows before it goes on. Where the store does not answer it does not to others either.
        """
        if self._clock_s() - self._said_s >= DEAD_S:
            with contextlib.suppress(Unavailable):
                self.beat()
        if self._is_lost:
            raise Busy(
                f"another process has become the {self._task} of this store, because this one did not say for {DEAD_S:g} s that it lives; "
                "run it again"
            )

    def leave(self) -> None:
        """Give the task to whoever wants it."""

        def go(txn: Transaction) -> None:
            holder = self._holder(txn)
            if holder is not None and holder.id == self.id:
                txn.delete(self._key)

        commit(self._store, go)

    def _put(self, txn: Transaction) -> None:
        txn.put(self._key, msgspec.json.encode(Holder(self.id, self._beats + 1, socket.gethostname(), os.getpid())))

    def _holder(self, txn: Transaction) -> Holder | None:
        raw = txn.get(self._key)
        try:
            return None if raw is None else _HOLDER.decode(raw)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"the {self._task} of this store is of another version of Twofold ({error}); end it") from None
