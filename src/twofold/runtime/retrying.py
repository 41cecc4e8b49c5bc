"""Work that goes on when the servers of log and store do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from twofold.errors import LogUnavailable, StoreUnavailable

_RETRY_S = 1.0
Result = TypeVar("Result")


def answered(work: Callable[[], Result], until: Callable[[], bool]) -> Result | None:
    """What `work()` returns, asked at least once, again each second while log or store do not answer; None where `until()` came first."""
    while True:
        try:
            return work()
        except (LogUnavailable, StoreUnavailable) as error:
            if until():
                return None
            print(f"will be tried again: {error}", file=sys.stderr, flush=True)
            time.sleep(_RETRY_S)


def follow(step: Callable[[], int], rest: Callable[[], object], until: Callable[[], bool]) -> None:
    """Take steps until `until()`, and rest after each that did nothing."""

    def once() -> None:
        if not step():
            rest()

    while not until():
        answered(once, until)
