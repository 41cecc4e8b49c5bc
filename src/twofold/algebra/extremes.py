"""Min and max, and the two of conditions: any and all."""

from __future__ import annotations

from typing import Any, ClassVar

from twofold.algebra.base import Aggregate, Item, Window
from twofold.algebra.bounded import BoundedList
from twofold.algebra.words import WIDE_TYPES, decode_any, encode_any

State = tuple[int, Any]


class _Extreme(Aggregate[State]):
    """Shared state: how many values, and the extreme one (None of none)."""

    accepts: ClassVar[frozenset[str]] = frozenset({"int", "float", "bool", "datetime", "str", "category"})

    def zero(self) -> State:
        return (0, None)

    def add(self, state: State, item: Item) -> State:
        return self.merge(state, (1, item.value))

    def merge(self, left: State, right: State) -> State:
        if left[0] == 0 or right[0] == 0:
            return right if left[0] == 0 else left
        return (left[0] + right[0], self.pick(left[1], right[1]))

    def pick(self, left: Any, right: Any) -> Any:
        """The one of two values that stays."""
        raise NotImplementedError

    def result(self, state: State, t_us: int, window: Window) -> Any:
        return state[1]

    def encode(self, state: State) -> tuple[int, ...]:
        if state[0] == 0:
            return (0,) if self.input_type in WIDE_TYPES else (0, 0)
        return (state[0], *encode_any(state[1], self.input_type))

    def decode(self, words: tuple[int, ...]) -> State:
        return (words[0], decode_any(words, 1, self.input_type)[0]) if words[0] else self.zero()


class Min(_Extreme):
    """The smallest value, of texts by their characters' code points; null in an empty window."""

    name: ClassVar[str] = "min"
    state: ClassVar[str] = "min"

    def pick(self, left: Any, right: Any) -> Any:
        return min(left, right)


class Max(_Extreme):
    """The largest value, of texts by their characters' code points; null in an empty window."""

    name: ClassVar[str] = "max"
    state: ClassVar[str] = "max"

    def pick(self, left: Any, right: Any) -> Any:
        return max(left, right)


class AnyOf(Max):
    """Whether any event meets a condition: the largest of true and false; null in an empty window."""

    name: ClassVar[str] = "any"
    accepts: ClassVar[frozenset[str]] = frozenset({"bool"})


class AllOf(Min):
    """Whether all events meet a condition: the smallest of true and false; null in an empty window."""

    name: ClassVar[str] = "all"
    accepts: ClassVar[frozenset[str]] = frozenset({"bool"})


ListState = tuple[int, tuple[Any, ...]]
"""Number of values; the k that stay, best first."""


class LargestK(BoundedList[ListState]):
    """The k largest values, the largest first, equal ones each; fewer where there are fewer, null in an empty window."""

    name: ClassVar[str] = "largest_k"
    state: ClassVar[str] = "largest_k"
    accepts: ClassVar[frozenset[str]] = frozenset({"int", "float", "bool", "datetime", "str", "category"})
    largest_first: ClassVar[bool] = True

    def zero(self) -> ListState:
        return (0, ())

    def add(self, state: ListState, item: Item) -> ListState:
        return self.merge(state, (1, (item.value,)))

    def merge(self, left: ListState, right: ListState) -> ListState:
        both = sorted([*left[1], *right[1]], reverse=self.largest_first)
        return (left[0] + right[0], tuple(both[: self.k]))

    def result(self, state: ListState, t_us: int, window: Window) -> Any:
        return list(state[1]) if state[0] else None

    def encode(self, state: ListState) -> tuple[int, ...]:
        values = (word for value in state[1] for word in encode_any(value, self.input_type))
        return (state[0], len(state[1]), *values)

    def decode(self, words: tuple[int, ...]) -> ListState:
        values, at = [], 2
        for _ in range(words[1]):
            value, at = decode_any(words, at, self.input_type)
            values.append(value)
        return (words[0], tuple(values))


class SmallestK(LargestK):
    """The k smallest values, the smallest first, equal ones each; fewer where there are fewer, null in an empty window."""

    name: ClassVar[str] = "smallest_k"
    state: ClassVar[str] = "smallest_k"
    largest_first: ClassVar[bool] = False
