"""When a process takes no events: the speed layer lags, or the disk is nearly full; told before anything is lost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from twofold.errors import LogUnavailable, TwofoldError
from twofold.http.messages import TooMany

LOOK_EVERY_S = 0.25
"""How old what is known of lag and disk may be: looking costs a read of the log and of the store, not one for each request."""

Lag = Callable[[], int]


class Pressure:
    """Refuses events while more than `max_lag_events` are not applied, or less than `min_free_mb` of the folder's disk is free.

    0 turns a bound off. What cannot be looked at refuses nothing: the append itself will say. Threads may share it.
    """

    def __init__(self, lag: Lag, folder: Path, max_lag_events: int, min_free_mb: int) -> None:
        self._lag, self._folder, self._most, self._least_mb = lag, folder, max_lag_events, min_free_mb
        self._looked_s = -LOOK_EVERY_S
        self._refusal: Exception | None = None

    def check(self) -> None:
        """Raises TooMany where the speed layer lags, LogUnavailable where the disk is nearly full."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._refusal = self._look()
        if self._refusal is not None:
            raise type(self._refusal)(str(self._refusal))

    def _look(self) -> Exception | None:
        if self._least_mb and (free_mb := shutil.disk_usage(self._folder).free >> 20) < self._least_mb:
            return LogUnavailable(
                f"{free_mb} MB are free on the disk of {self._folder}, the least is min_free_mb = {self._least_mb}; "
                "nothing was appended: free some space and send again"
            )
        try:
            lag = self._lag() if self._most else 0
        except TwofoldError:
            return None
        if lag > self._most:
            return TooMany(
                f"{lag} events wait to be applied, the most is max_lag_events = {self._most}; nothing was appended: send again later, "
                "and see `twofold status` whether the speed layer runs"
            )
        return None
