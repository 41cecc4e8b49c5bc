"""Time since last: how long before t the latest event happened."""

from __future__ import annotations

from typing import ClassVar

from twofold.algebra.base import Aggregate, Item, Window
from twofold.algebra.counts import EVERY_TYPE
from twofold.instants import US_PER_SECOND

State = tuple[int, int]
"""Number of events; the greatest event_time (0 of none)."""


class TimeSinceLast(Aggregate[State]):
    """Seconds from the latest event, or the latest whose input is not null, to t; null in an empty window."""

    name: ClassVar[str] = "time_since_last"
    state: ClassVar[str] = "newest"
    accepts: ClassVar[frozenset[str]] = EVERY_TYPE

    @property
    def result_type(self) -> str:
        return "float"

    def zero(self) -> State:
        return (0, 0)

    def add(self, state: State, item: Item) -> State:
        return self.merge(state, (1, item.event_time))

    def merge(self, left: State, right: State) -> State:
        if left[0] == 0 or right[0] == 0:
            return right if left[0] == 0 else left
        return (left[0] + right[0], max(left[1], right[1]))

    def result(self, state: State, t_us: int, window: Window) -> float | None:
        return float(t_us - state[1]) / US_PER_SECOND if state[0] else None

    def encode(self, state: State) -> tuple[int, ...]:
        return state

    def decode(self, words: tuple[int, ...]) -> State:
        return (words[0], words[1])
