"""How long somebody has shown no sign of life, by the watcher's own clock; what is done about it is not known here."""

from __future__ import annotations


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
