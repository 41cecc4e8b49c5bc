"""How many distinct values there are: estimated from the registers of a HyperLogLog, or exact up to a bound.

Both states are functions of the set of values (and of how many there are), so neither order nor grouping can show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from twofold.algebra.base import OVERFLOW, Aggregate, Item, Window
from twofold.algebra.hashing import hash_of
from twofold.algebra.words import decode_any, encode_any
from twofold.errors import DefinitionError

_TYPES = frozenset({"int", "float", "bool", "datetime", "str", "category"})
PRECISIONS = range(4, 15)
PAIR_BITS, PAIRS_A_WORD = 21, 3
"""A register beside its rank in a sparse state: the register's number above 6 bits of rank."""
RANK_BITS, RANKS_A_WORD = 6, 10
LIMIT = 0.7213475204444817
"""What corrects the bias of infinitely many registers, 1 / (2 ln 2); written down, for logarithms differ between libraries."""

Registers = tuple[int, tuple[tuple[int, int], ...]]
"""Number of values; (register, rank) of the registers that are not 0, in order."""


class Distinct(Aggregate[Registers]):
    """About how many distinct values there are, the standard error at most `error`; 0 in an empty window.

    HyperLogLog (Flajolet, Fusy, Gandouet, Meunier, 2007) of 2^p registers, p the smallest whose standard error 1.04 / sqrt(2^p) is at
    most `error`, over a pinned 64-bit hash. The estimate is the improved one of Ertl (New cardinality estimation algorithms for
    HyperLogLog sketches, 2017), the nearest integer to it.
    """

    name: ClassVar[str] = "distinct"
    state: ClassVar[str] = "registers"
    accepts: ClassVar[frozenset[str]] = _TYPES
    examples = ({"error": 0.02}, {"error": 0.26})

    def __init__(self, input_type: str, error: float = 0.02) -> None:
        super().__init__(input_type, error=error)
        self.p = _precision(error)

    @property
    def result_type(self) -> str:
        return "int"

    @property
    def size(self) -> int:
        return self.p

    def zero(self) -> Registers:
        return (0, ())

    def add(self, state: Registers, item: Item) -> Registers:
        hashed = hash_of(item.value, self.input_type)
        rest = 64 - self.p
        rank = rest - (hashed & ((1 << rest) - 1)).bit_length() + 1
        return self.merge(state, (1, ((hashed >> rest, rank),)))

    def merge(self, left: Registers, right: Registers) -> Registers:
        ranks = dict(left[1])
        for register, rank in right[1]:
            ranks[register] = max(rank, ranks.get(register, 0))
        return (left[0] + right[0], tuple(sorted(ranks.items())))

    def result(self, state: Registers, t_us: int, window: Window) -> Any:
        return estimate([rank for _, rank in state[1]], self.p) if state[0] else 0

    def encode(self, state: Registers) -> tuple[int, ...]:
        n, held = state
        if not is_dense(len(held), self.p):
            return (n, len(held), *_packed([register << RANK_BITS | rank for register, rank in held], PAIR_BITS, PAIRS_A_WORD))
        ranks = dict(held)
        return (n, len(held), *_packed([ranks.get(register, 0) for register in range(1 << self.p)], RANK_BITS, RANKS_A_WORD))

    def decode(self, words: tuple[int, ...]) -> Registers:
        n, held = words[:2]
        if not is_dense(held, self.p):
            pairs = _unpacked(words[2:], PAIR_BITS, PAIRS_A_WORD)[:held]
            return (n, tuple((pair >> RANK_BITS, pair & ((1 << RANK_BITS) - 1)) for pair in pairs))
        ranks = _unpacked(words[2:], RANK_BITS, RANKS_A_WORD)[: 1 << self.p]
        return (n, tuple((register, rank) for register, rank in enumerate(ranks) if rank))


def _precision(error: object) -> int:
    """The smallest p whose standard error is at most `error`; raises DefinitionError where it is not of `PRECISIONS`."""
    least, most = (1.04 / math.sqrt(1 << p) for p in (PRECISIONS[-1], PRECISIONS[0]))
    if isinstance(error, bool) or not isinstance(error, int | float) or not least <= error <= most:
        raise DefinitionError(
            f"the error of distinct is {error!r}; give a share from {least} to {most}, or use distinct_exact for few distinct values"
        )
    return next(p for p in PRECISIONS if 1.04 / math.sqrt(1 << p) <= error)


def is_dense(held: int, p: int) -> bool:
    """Whether all registers take fewer words than the ones that are not 0, with their numbers."""
    return -(-held // PAIRS_A_WORD) > -(-(1 << p) // RANKS_A_WORD)


def _packed(numbers: Sequence[int], bits: int, a_word: int) -> list[int]:
    """Numbers side by side in words, the first one lowest."""
    return [sum(number << (bits * i) for i, number in enumerate(numbers[at : at + a_word])) for at in range(0, len(numbers), a_word)]


def _unpacked(words: Sequence[int], bits: int, a_word: int) -> list[int]:
    return [word >> (bits * i) & ((1 << bits) - 1) for word in words for i in range(a_word)]


def estimate(ranks: Sequence[int], p: int) -> int:
    """The integer nearest to Ertl's improved estimate from the ranks of the registers that are not 0 (his algorithm 6)."""
    m, q = 1 << p, 64 - p
    z = m * _tau(1.0 - ranks.count(q + 1) / m)
    for rank in range(q, 0, -1):
        z = 0.5 * (z + ranks.count(rank))
    z += m * _sigma(1.0 - len(ranks) / m)
    return math.floor(LIMIT * m * m / z + 0.5)


def _sigma(x: float) -> float:
    """Of x: x + the sum of x^(2^k) 2^(k-1) for k = 1, 2, ...; infinity at 1, which no register of a state with values gives."""
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    """(1 - x - the sum of (1 - x^(2^-k))^2 2^-k for k = 1, 2, ...) / 3."""
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1.0 - x, -1.0
    while z != before:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1.0 - x) * (1.0 - x) * y
    return z / 3.0


MOST_VALUES = 100_000
Values = tuple[int, tuple[Any, ...] | None]
"""Number of values; the distinct ones in order, None where they are more than may be."""


class DistinctExact(Aggregate[Values]):
    """How many distinct values there are; null with the status `overflow` above `at_most`; 0 in an empty window."""

    name: ClassVar[str] = "distinct_exact"
    state: ClassVar[str] = "values"
    accepts: ClassVar[frozenset[str]] = _TYPES
    examples = ({"at_most": 1000}, {"at_most": 2})

    def __init__(self, input_type: str, at_most: int = 1000) -> None:
        super().__init__(input_type, at_most=at_most)
        if isinstance(at_most, bool) or not isinstance(at_most, int) or not 1 <= at_most <= MOST_VALUES:
            raise DefinitionError(
                f"at_most of distinct_exact is {at_most!r}; give a whole number from 1 to {MOST_VALUES:,}, or use distinct for more"
            )
        self.at_most = at_most

    @property
    def result_type(self) -> str:
        return "int"

    @property
    def size(self) -> int:
        return self.at_most

    def zero(self) -> Values:
        return (0, ())

    def add(self, state: Values, item: Item) -> Values:
        return self.merge(state, (1, (item.value,)))

    def merge(self, left: Values, right: Values) -> Values:
        n = left[0] + right[0]
        if left[1] is None or right[1] is None:
            return (n, None)
        both = sorted({*left[1], *right[1]})
        return (n, tuple(both) if len(both) <= self.at_most else None)

    def result(self, state: Values, t_us: int, window: Window) -> Any:
        return OVERFLOW if state[1] is None else len(state[1])

    def encode(self, state: Values) -> tuple[int, ...]:
        n, values = state
        if values is None:
            return (n, -1)
        return (n, len(values), *(word for value in values for word in encode_any(value, self.input_type)))

    def decode(self, words: tuple[int, ...]) -> Values:
        if words[1] < 0:
            return (words[0], None)
        values, at = [], 2
        for _ in range(words[1]):
            value, at = decode_any(words, at, self.input_type)
            values.append(value)
        return (words[0], tuple(values))
