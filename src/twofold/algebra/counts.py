"""Count and rate: how many events, or how many whose input is not null; in the window, or a second."""

from __future__ import annotations

from typing import Any, ClassVar

from twofold.algebra.base import Aggregate, Item, Window
from twofold.instants import US_PER_SECOND

EVERY_TYPE = frozenset({"event", "str", "int", "float", "bool", "datetime", "category"})


class Counted(Aggregate[int]):
    """Shared state: the number of events."""

    state: ClassVar[str] = "count"
    accepts: ClassVar[frozenset[str]] = EVERY_TYPE

    def zero(self) -> int:
        return 0

    def add(self, state: int, item: Item) -> int:
        return state + 1

    def merge(self, left: int, right: int) -> int:
        return left + right

    def encode(self, state: int) -> tuple[int, ...]:
        return (state,)

    def decode(self, words: tuple[int, ...]) -> int:
        return words[0]


class Count(Counted):
    """Number of events; 0 in an empty window."""

    name: ClassVar[str] = "count"

    @property
    def result_type(self) -> str:
        return "int"

    def result(self, state: int, t_us: int, window: Window) -> int:
        return state


class Rate(Counted):
    """Events a second: the count divided by the width that was asked for; 0 in an empty window."""

    name: ClassVar[str] = "rate"
    needs_window: ClassVar[bool] = True

    @property
    def result_type(self) -> str:
        return "float"

    def result(self, state: int, t_us: int, window: Window) -> Any:
        return None if window.width_us is None else float(state) / (window.width_us / US_PER_SECOND)
