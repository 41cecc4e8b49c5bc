"""Histogram: how many events each of some declared categories has."""

from __future__ import annotations

from typing import ClassVar

from twofold.algebra.base import Aggregate, Item, Window
from twofold.algebra.quantiles import packed, unpacked
from twofold.errors import DefinitionError

State = tuple[int, ...]
"""How many values each bin has."""
MOST_BINS = 1000


class Histogram(Aggregate[State]):
    """How many values fall into one of the bins 0, 1, ..., `bins` - 1; others are left out; 0 in an empty window."""

    name: ClassVar[str] = "histogram"
    state: ClassVar[str] = "histogram"
    accepts: ClassVar[frozenset[str]] = frozenset({"int"})
    examples = ({"bin": 0, "bins": 1}, {"bin": 2, "bins": 5})

    def __init__(self, input_type: str, bin: int, bins: int) -> None:
        super().__init__(input_type, bin=bin, bins=bins)
        if not 1 <= bins <= MOST_BINS:
            raise DefinitionError(f"it has {bins} categories; give from 1 to {MOST_BINS:,}")
        self.bin, self.bins = bin, bins

    @property
    def size(self) -> int:
        return self.bins

    @property
    def argument(self) -> int:
        return self.bin

    def zero(self) -> State:
        return (0,) * self.bins

    def add(self, state: State, item: Item) -> State:
        if not 0 <= item.value < self.bins:
            return state
        return (*state[: item.value], state[item.value] + 1, *state[item.value + 1 :])

    def merge(self, left: State, right: State) -> State:
        return tuple(a + b for a, b in zip(left, right, strict=True))

    def result(self, state: State, t_us: int, window: Window) -> int:
        return state[self.bin]

    def encode(self, state: State) -> tuple[int, ...]:
        pairs = [packed(place, count) for place, count in enumerate(state) if count]
        return (sum(state), len(pairs), *pairs)

    def decode(self, words: tuple[int, ...]) -> State:
        counts = dict(unpacked(word) for word in words[2:])
        return tuple(counts.get(place, 0) for place in range(self.bins))
