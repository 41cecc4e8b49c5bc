"""Count: how many events, or how many whose input is not null."""

from __future__ import annotations

from typing import ClassVar

from twofold.algebra.base import Aggregate, Item, Window

EVERY_TYPE = frozenset({"event", "str", "int", "float", "bool", "datetime", "category"})


class Count(Aggregate[int]):
    """Number of events; 0 in an empty window."""

    name: ClassVar[str] = "count"
    state: ClassVar[str] = "count"
    accepts: ClassVar[frozenset[str]] = EVERY_TYPE

    @property
    def result_type(self) -> str:
        return "int"

    def zero(self) -> int:
        return 0

    def add(self, state: int, item: Item) -> int:
        return state + 1

    def merge(self, left: int, right: int) -> int:
        return left + right

    def result(self, state: int, t_us: int, window: Window) -> int:
        return state

    def encode(self, state: int) -> tuple[int, ...]:
        return (state,)

    def decode(self, words: tuple[int, ...]) -> int:
        return words[0]
