"""Aggregates as people write them for themselves, each with a state, an input or a fault of its own kind."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np

import twofold as tw


class Product(tw.Aggregate[tuple[int, int]]):
    """The product of integers, exact of any size: most of them overflow."""

    accepts = ("int",)
    state_type = tuple[int, int]
    result_type = "int"

    def zero(self) -> tuple[int, int]:
        return 0, 1

    def add(self, state: tuple[int, int], item: tw.Item) -> tuple[int, int]:
        return state[0] + 1, state[1] * item.value

    def merge(self, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
        return left[0] + right[0], left[1] * right[1]

    def result(self, state: tuple[int, int], t_us: int, window: tw.Window) -> Any:
        return state[1] if state[0] else None


class Extent(tw.Aggregate[tuple[float, float] | None]):
    """How far apart the largest and the smallest value are; beyond float64 it is infinite, so null."""

    accepts = ("float", "int")
    state_type = tuple[float, float] | None
    result_type = "float"

    def zero(self) -> None:
        return None

    def add(self, state: Any, item: tw.Item) -> Any:
        value = float(item.value)
        return self.merge(state, (value, value))

    def merge(self, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return right if left is None else left
        return min(left[0], right[0]), max(left[1], right[1])

    def result(self, state: Any, t_us: int, window: tw.Window) -> Any:
        return None if state is None else np.float64(state[1]) - state[0] if state[1] - state[0] < math.inf else math.inf


class Common(tw.Aggregate[dict[str, int]]):
    """The k most common texts, the most common first, equal ones in the order of their code points."""

    accepts = ("str", "category")
    state_type = dict[str, int]
    result_type = "list[str]"
    examples = ({"k": 1}, {"k": 3})

    def zero(self) -> dict[str, int]:
        return {}

    def add(self, state: dict[str, int], item: tw.Item) -> dict[str, int]:
        return self.merge(state, {item.value: 1})

    def merge(self, left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
        return {text: left.get(text, 0) + right.get(text, 0) for text in sorted([*left, *(text for text in right if text not in left)])}

    def result(self, state: dict[str, int], t_us: int, window: tw.Window) -> Any:
        return sorted(state, key=lambda text: (-state[text], text))[: self.parameters["k"]] or None


class LongestGap(tw.Aggregate[list[int]]):
    """Seconds of the longest silence between two events, or since the last one."""

    accepts = ("event", "bool")
    state_type = list[int]
    result_type = "float"

    def zero(self) -> list[int]:
        return []

    def add(self, state: list[int], item: tw.Item) -> list[int]:
        return sorted([*state, item.event_time])

    def merge(self, left: list[int], right: list[int]) -> list[int]:
        return sorted(left + right)

    def result(self, state: list[int], t_us: int, window: tw.Window) -> Any:
        return max((after - before for before, after in zip(state, [*state, t_us][1:], strict=True)), default=0) / 1e6


class Latest(tw.Aggregate[datetime | None]):
    """The latest of some instants."""

    accepts = ("datetime",)
    state_type = datetime | None

    def zero(self) -> None:
        return None

    def add(self, state: datetime | None, item: tw.Item) -> datetime | None:
        return self.merge(state, item.value)

    def merge(self, left: datetime | None, right: datetime | None) -> datetime | None:
        return max((instant for instant in (left, right) if instant is not None), default=None)

    def result(self, state: datetime | None, t_us: int, window: tw.Window) -> Any:
        return state


class Roots(tw.Aggregate[tuple[int, int]]):
    """Whole roots added up: `add` fails on a negative value, `result` where three events were counted."""

    accepts = ("int",)
    state_type = tuple[int, int]

    def zero(self) -> tuple[int, int]:
        return 0, 0

    def add(self, state: tuple[int, int], item: tw.Item) -> tuple[int, int]:
        return state[0] + 1, state[1] + math.isqrt(item.value)

    def merge(self, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
        return left[0] + right[0], left[1] + right[1]

    def result(self, state: tuple[int, int], t_us: int, window: tw.Window) -> Any:
        return state[1] * 3 // (3 - state[0])
