"""Waiting until the store has applied a position, so that a caller reads what it wrote; woken by the bell where it can be heard."""

from __future__ import annotations

import contextlib
import time

from twofold.bell import Bell
from twofold.errors import Unavailable
from twofold.log.base import Position
from twofold.serve.deadline import Deadline
from twofold.serve.features import FeatureReader

APPLIED = "applied"
"""Bell channel: the store has applied more of the log."""

DOING = "waiting for `after` to be applied"
_POLL_S = 0.01
SHARED_POLL_S = 0.005
"""A store that workers of other machines write is looked at so often while somebody waits: their bells are not heard here."""


def wait_until_applied(reader: FeatureReader, position: Position, deadline: Deadline, bell: Bell | None) -> None:
    """Return when all of the position is applied. Raises DeadlineExceeded, LogMismatch, DataError as `FeatureReader.covers`.

    Without a bell, or where it cannot be heard, the store is looked at every 10 ms; every 5 ms where it is shared with other machines.
    """
    if reader.covers(position):
        return
    with contextlib.ExitStack() as stack:
        listener = None
        if bell is not None:
            with contextlib.suppress(Unavailable):
                listener = stack.enter_context(bell.listen(APPLIED))
        while not reader.covers(position):
            left_s = deadline.left_s()
            if left_s <= 0:
                raise deadline.exceeded(DOING)
            if listener is not None:
                listener.wait(min(left_s, SHARED_POLL_S) if reader.is_shared else left_s)
            else:
                time.sleep(min(left_s, _POLL_S))
