"""How long somebody has shown no sign of life, by the watcher's own clock; what is done about it is not known here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LONGEST_LOOK_S = 1.0


class Silence:
    """Grows while a sign stays the same. Any other sign ends it; clocks of two machines are never compared.

    Time counts only where the watcher itself was awake: of a gap between two looks at most `longest_look_s`. So a watcher that was
    stopped, or could not look, holds nobody for dead when it goes on.
    """

    def __init__(self, sign: object, now_s: float, longest_look_s: float) -> None:
        self.sign, self._looked_s, self._longest_look_s = sign, now_s, longest_look_s
        self.silent_s = 0.0

    def look(self, sign: object, now_s: float) -> float:
        """Seconds of silence up to this look, whose `now_s` was taken before the sign was read."""
        if sign != self.sign:
            self.sign, self.silent_s = sign, 0.0
        else:
            self.silent_s += min(max(now_s - self._looked_s, 0.0), self._longest_look_s)
        self._looked_s = now_s
        return self.silent_s


def _tell_nobody() -> None:
    pass


class Stall:
    """Whether the work of this process hangs: its sign has been the same for `max_s` seconds (0: no time is long enough).

    `sign`, set by who works, gives what changes with all that is done; None: work that may take long is no stall. Looked at at least
    each second, by any threads; `tell` is called by one of them when it begins to hang.
    """

    def __init__(self, max_s: float, tell: Callable[[], object] = _tell_nobody, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.sign: Callable[[], object] | None = None
        self._max_s, self._tell, self._clock_s = max_s, tell, clock_s
        self._turn, self._hangs = threading.Lock(), False
        self._silence: Silence | None = None

    def hangs(self) -> bool:
        """Whether it hangs now."""
        with self._turn:
            before, self._hangs = self._hangs, self._silent_s() >= self._max_s > 0
            if self._hangs and not before:
                self._tell()
            return self._hangs

    def _silent_s(self) -> float:
        now_s, sign = self._clock_s(), self.sign
        if sign is None:
            self._silence = None
            return 0.0
        if self._silence is None:
            self._silence = Silence(sign(), now_s, _LONGEST_LOOK_S)
        return self._silence.look(sign(), now_s)
