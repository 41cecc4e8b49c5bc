"""Last and first: the value whose event_time is greatest or least, ties by the event's order."""

from __future__ import annotations

from typing import Any, ClassVar

from twofold.algebra.base import Aggregate, Item, Window
from twofold.algebra.bounded import BoundedList
from twofold.algebra.counts import EVERY_TYPE
from twofold.algebra.words import decode_any, encode_any

State = tuple[int, tuple[int, int, int], Any]
_NOTHING: State = (0, (0, 0, 0), None)


class Last(Aggregate[State]):
    """The latest value; null in an empty window. State: how many values, (event_time, order) of the latest, its value."""

    name: ClassVar[str] = "last"
    state: ClassVar[str] = "last"
    accepts: ClassVar[frozenset[str]] = EVERY_TYPE - {"event"} | {"row"}

    def zero(self) -> State:
        return _NOTHING

    def add(self, state: State, item: Item) -> State:
        return self.merge(state, (1, (item.event_time, *item.order), item.value))

    def merge(self, left: State, right: State) -> State:
        if left[0] == 0 or right[0] == 0:
            return right if left[0] == 0 else left
        kept = self.pick(left, right)
        return (left[0] + right[0], kept[1], kept[2])

    def pick(self, left: State, right: State) -> State:
        """The one of two states whose event stays."""
        return left if left[1] > right[1] else right

    def result(self, state: State, t_us: int, window: Window) -> Any:
        return state[2]

    def encode(self, state: State) -> tuple[int, ...]:
        if state[0] == 0:
            return (0,)
        return (state[0], *state[1], *encode_any(state[2], self.input_type))

    def decode(self, words: tuple[int, ...]) -> State:
        if words[0] == 0:
            return _NOTHING
        return (words[0], (words[1], words[2], words[3]), decode_any(words, 4, self.input_type)[0])


class First(Last):
    """The earliest value; null in an empty window."""

    name: ClassVar[str] = "first"
    state: ClassVar[str] = "first"
    accepts: ClassVar[frozenset[str]] = EVERY_TYPE - {"event"}

    def pick(self, left: State, right: State) -> State:
        return left if left[1] < right[1] else right


ListState = tuple[int, tuple[tuple[tuple[int, int, int], Any], ...]]
"""Number of values; the k that stay, best first, each as (event_time, order) and value."""


class LastK(BoundedList[ListState]):
    """The k latest values, the latest first; fewer where there are fewer, null in an empty window."""

    name: ClassVar[str] = "last_k"
    state: ClassVar[str] = "last_k"
    accepts: ClassVar[frozenset[str]] = EVERY_TYPE - {"event"}
    latest_first: ClassVar[bool] = True

    def zero(self) -> ListState:
        return (0, ())

    def add(self, state: ListState, item: Item) -> ListState:
        return self.merge(state, (1, (((item.event_time, *item.order), item.value),)))

    def merge(self, left: ListState, right: ListState) -> ListState:
        both = sorted([*left[1], *right[1]], key=lambda entry: entry[0], reverse=self.latest_first)
        return (left[0] + right[0], tuple(both[: self.k]))

    def result(self, state: ListState, t_us: int, window: Window) -> Any:
        return [value for _, value in state[1]] if state[0] else None

    def encode(self, state: ListState) -> tuple[int, ...]:
        words = [state[0], len(state[1])]
        for key, value in state[1]:
            words += [*key, *encode_any(value, self.input_type)]
        return tuple(words)

    def decode(self, words: tuple[int, ...]) -> ListState:
        entries, at = [], 2
        for _ in range(words[1]):
            value, end = decode_any(words, at + 3, self.input_type)
            entries.append(((words[at], words[at + 1], words[at + 2]), value))
            at = end
        return (words[0], tuple(entries))


class FirstK(LastK):
    """The k earliest values, the earliest first; fewer where there are fewer, null in an empty window."""

    name: ClassVar[str] = "first_k"
    state: ClassVar[str] = "first_k"
    latest_first: ClassVar[bool] = False
