"""What the aggregates have in common whose values are lists of at most k."""

from __future__ import annotations

from typing import TypeVar

from twofold.algebra.base import Aggregate
from twofold.errors import DefinitionError

S = TypeVar("S")
MOST_K = 1000


class BoundedList(Aggregate[S]):
    """A list of at most `k` values of the input's type."""

    examples = ({"k": 1}, {"k": 3})

    def __init__(self, input_type: str, k: int) -> None:
        super().__init__(input_type, k=k)
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST_K:
            raise DefinitionError(f"k is {k!r}; give a whole number from 1 to {MOST_K:,}")
        self.k = k

    @property
    def result_type(self) -> str:
        return f"list[{self.input_type}]"

    @property
    def size(self) -> int:
        return self.k

    @property
    def result_words(self) -> int:
        return 1 + self.k
