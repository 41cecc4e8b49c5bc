"""Waiting without a thread until positions are applied: one listener of the bell, or one look, is for all requests of this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from twofold.bell import Bell, Listener
from twofold.errors import DataError, LogMismatch, Unavailable
from twofold.http.messages import TooMany
from twofold.log.base import Position
from twofold.serve.applied import APPLIED, DOING, SHARED_POLL_S
from twofold.serve.deadline import Deadline
from twofold.serve.features import FeatureReader
from twofold.store.applied import lies_within

MOST_WAITING = 10_000
_POLL_S = 0.01
_log = logging.getLogger(__name__)

Waiter = asyncio.Future[None]


class AppliedBell:
    """Wakes coroutines when the store has applied what they wait for. All calls come from the event loop's thread.

    A store that workers of other machines write is looked at by a thread, for all who wait at once.
    """

    def __init__(self, bell: Bell | None) -> None:
        self._bell = bell
        self._listener: Listener | None = None
        self._waiting: dict[Waiter, tuple[FeatureReader, Position]] = {}
        self._poll: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, "applied")
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen from now on. Where that is not possible, the store is looked at every 10 ms while somebody waits."""
        if self._bell is not None:
            try:
                self._listener = self._bell.listen(APPLIED)
                asyncio.get_running_loop().add_reader(self._listener.fileno(), self._rung)
            except Unavailable as error:
                _log.warning("the bell cannot be heard, so `after` polls: %s", error)

    def stop(self) -> None:
        """Listen no more; whoever waits still has its deadline."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        self._thread.shutdown(wait=False)

    async def wait(self, reader: FeatureReader, position: Position | None, deadline: Deadline) -> Exception | None:
        """Return when all of the position is applied; the error that sends the call down the ladder, None where there is none.

        Raises LogMismatch, DataError, TooMany.
        """
        if position is None:
            return None
        try:
            if await self._covers(reader, position):
                return None
            await self._wait(reader, position, deadline)
        except (LogMismatch, DataError, TooMany):
            raise
        except Exception as error:
            return error
        return None

    async def _covers(self, reader: FeatureReader, position: Position) -> bool:
        if not reader.is_shared:
            return reader.covers(position)
        return await asyncio.get_running_loop().run_in_executor(self._thread, reader.covers, position)

    async def _wait(self, reader: FeatureReader, position: Position, deadline: Deadline) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise TooMany(f"{MOST_WAITING} requests wait for `after` already; try again later")
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = (reader, position)
        try:
            self._poll_if_deaf(reader.is_shared)
            await asyncio.wait_for(waiter, deadline.left_s())
        except TimeoutError:
            if reader.is_shared or not reader.covers(position):
                raise deadline.exceeded(DOING) from None
        finally:
            self._waiting.pop(waiter, None)

    def _rung(self) -> None:
        if self._listener is not None:
            self._listener.drain()
        self._look()

    def _look(self) -> None:
        """Wake those whose position is applied."""
        shared: dict[FeatureReader, set[tuple[str, int]]] = {}
        for waiter, (reader, position) in list(self._waiting.items()):
            if reader.is_shared:
                shared.setdefault(reader, set()).update(position.offsets)
            else:
                _settle(waiter, lambda reader=reader, position=position: reader.covers(position))  # type: ignore[misc]
        if shared and self._looking is None:
            self._looking = asyncio.ensure_future(self._look_at_servers(shared))

    async def _look_at_servers(self, places: Mapping[FeatureReader, Collection[tuple[str, int]]]) -> None:
        """One round trip for each reader, whoever waits for it."""
        try:
            for reader, wanted in places.items():
                found = asyncio.get_running_loop().run_in_executor(self._thread, reader.applied, wanted)
                await asyncio.wait([found])
                for waiter, (its, position) in list(self._waiting.items()):
                    if its is reader:
                        _settle(waiter, lambda found=found, position=position: lies_within(position.offsets, found.result()))  # type: ignore[misc]
        finally:
            self._looking = None

    def _poll_if_deaf(self, is_shared: bool) -> None:
        if (is_shared or self._listener is None) and self._poll is None:
            self._poll = asyncio.get_running_loop().call_later(SHARED_POLL_S if is_shared else _POLL_S, self._polled)

    def _polled(self) -> None:
        self._poll = None
        self._look()
        if self._waiting:
            self._poll_if_deaf(any(reader.is_shared for reader, _ in self._waiting.values()))


def _settle(waiter: Waiter, is_applied: Callable[[], bool]) -> None:
    """Wake a waiter where its position is applied, or with what went wrong."""
    with contextlib.suppress(asyncio.InvalidStateError):
        try:
            if is_applied():
                waiter.set_result(None)
        except Exception as error:
            waiter.set_exception(error)
