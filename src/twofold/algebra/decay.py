"""Decayed sum and mean: each event weighs 2^(-(t - event_time) / half_life); the plain meaning.

A time is cut into a whole number of half-lives since 1970 and a rest: 2^(time / half_life) = 2^whole * w, w in [1, 2]. Whatever is
summed is the value times w, rounded once, and times a power of two, which is exact. So the sums are exact integers as those of
`moments.py` are, and neither grouping nor order can show; t comes in at the end, once.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

from twofold.algebra.base import OVERFLOW, Aggregate, Item, Window
from twofold.algebra.moments import BIN_BITS, balanced_digits, from_digits, rounded_53
from twofold.errors import DefinitionError
from twofold.instants import Duration, duration_text, duration_us

BLOCK = 2048
"""Half-lives in a block of time. A state keeps the block of its newest event and the one before it: an event further back weighs less
than 2^-2048, which of the largest float64 leaves less than the smallest normal one, and is left out."""
SUM_BITS, WEIGHT_BITS = 36 * BIN_BITS, 2 * BIN_BITS
"""Sums are held in units of 2^-SUM_BITS, weights in units of 2^-WEIGHT_BITS; no product has bits below."""
LARGEST = math.ldexp(2.0 - 2.0**-52, 1023)
MOST_EXPONENT = 5000
"""Beyond the exponents of float64 in both directions."""

_TERMS = 17
_LN2 = 0.6931471805599453


def _series() -> tuple[float, ...]:
    terms = [1.0]
    for i in range(1, _TERMS + 1):
        terms.append(terms[-1] * _LN2 / i)
    return tuple(reversed(terms))


SERIES = _series()
"""Of 2^f for f in [0, 1]: ln(2)^n / n!, the highest n first."""


def power_of_two(f: float) -> float:
    """2^f for f in [0, 1], within a few units in the last place: multiplications and additions alone, so every machine agrees."""
    total = 0.0
    for term in SERIES:
        total = total * f + term
    return total


def weighted(value: float, weight: float) -> tuple[float, int]:
    """(p, e): p * 2^e is value * weight with the product rounded to 53 bits; no subnormal, nothing beyond float64."""
    if abs(value) > 2.0**1000:
        return value * 2.0**-100 * weight, 100
    if abs(value) < 2.0**-900:
        return value * 2.0**200 * weight, -200
    return value * weight, 0


Sums = tuple[int, int]
"""Exact integers: the weighted sum in units of 2^-SUM_BITS, the weights in units of 2^-WEIGHT_BITS, at the start of a block."""


class DecayedSums(NamedTuple):
    """Number of values; the block of the newest event; the sums of that block, and of the one before it."""

    n: int
    block: int
    sums: Sums
    earlier: Sums


class Decayed(Aggregate[DecayedSums]):
    """Shared state of the decayed aggregates of one half-life."""

    state: ClassVar[str] = "decayed"
    accepts: ClassVar[frozenset[str]] = frozenset({"int", "float", "bool"})
    examples = ({"half_life": "1us"}, {"half_life": "26000000d"})

    def __init__(self, input_type: str, half_life: Duration) -> None:
        self.half_life_us = checked_half_life(half_life)
        super().__init__(input_type, half_life=half_life)

    @property
    def result_type(self) -> str:
        return "float"

    @property
    def size(self) -> int:
        return self.half_life_us

    def zero(self) -> DecayedSums:
        return DecayedSums(0, 0, (0, 0), (0, 0))

    def add(self, state: DecayedSums, item: Item) -> DecayedSums:
        whole, rest = divmod(item.event_time, self.half_life_us)
        block, place = divmod(whole, BLOCK)
        weight = power_of_two(float(rest) / float(self.half_life_us))
        product, exponent = weighted(float(item.value), weight)
        sums = (_units(product, SUM_BITS + exponent + place), _units(weight, WEIGHT_BITS + place))
        return self.merge(state, DecayedSums(1, block, sums, (0, 0)))

    def merge(self, left: DecayedSums, right: DecayedSums) -> DecayedSums:
        if left.n == 0 or right.n == 0:
            return right if left.n == 0 else left
        older, newer = sorted((left, right), key=lambda state: state.block)
        sums, earlier = newer.sums, newer.earlier
        if older.block == newer.block:
            sums, earlier = _plus(sums, older.sums), _plus(earlier, older.earlier)
        elif older.block == newer.block - 1:
            earlier = _plus(earlier, older.sums)
        return DecayedSums(left.n + right.n, newer.block, sums, earlier)

    def encode(self, state: DecayedSums) -> tuple[int, ...]:
        return (state.n, state.block, *(word for total in (*state.sums, *state.earlier) for word in balanced_digits(total)))

    def decode(self, words: tuple[int, ...]) -> DecayedSums:
        at, totals = 2, []
        for _ in range(4):
            totals.append(from_digits(words, at))
            at += 2 + words[at + 1]
        return DecayedSums(words[0], words[1], (totals[0], totals[1]), (totals[2], totals[3]))


class DecayedSum(Decayed):
    """The sum of the values, each by its weight at t; 0 in an empty window."""

    name: ClassVar[str] = "decayed_sum"

    def result(self, state: DecayedSums, t_us: int, window: Window) -> Any:
        if state.n == 0:
            return 0.0
        whole, rest = divmod(t_us, self.half_life_us)
        total, exponent = _total(state, 0, SUM_BITS)
        value = total / power_of_two(float(rest) / float(self.half_life_us))
        exponent += state.block * BLOCK - whole
        try:
            return math.ldexp(value, max(min(exponent, MOST_EXPONENT), -MOST_EXPONENT)) + 0.0
        except OverflowError:
            return OVERFLOW


class DecayedMean(Decayed):
    """The mean of the values by their weights, for which t does not matter; null in an empty window."""

    name: ClassVar[str] = "decayed_mean"

    def result(self, state: DecayedSums, t_us: int, window: Window) -> Any:
        if state.n == 0:
            return None
        (total, exponent), (weights, shift) = _total(state, 0, SUM_BITS), _total(state, 1, WEIGHT_BITS)
        value = total / weights
        try:
            return math.ldexp(value, exponent - shift) + 0.0
        except OverflowError:  # by rounding alone: a mean lies between its values
            return math.copysign(LARGEST, value)


def checked_half_life(half_life: object) -> int:
    """Microseconds of a half-life; raises DefinitionError."""
    try:
        return duration_us(half_life)  # type: ignore[arg-type]
    except DefinitionError:
        longest = duration_text(2**61 // 86_400_000_000 * 86_400_000_000)
        raise DefinitionError(
            f"half_life is {half_life!r}; give how long it takes until an event weighs half, from '1us' to {longest!r}, as in '6h'"
        ) from None


def _units(value: float, bits: int) -> int:
    """Value * 2^bits, a whole number."""
    numerator, denominator = value.as_integer_ratio()
    return (numerator << bits) // denominator


def _plus(left: Sums, right: Sums) -> Sums:
    return (left[0] + right[0], left[1] + right[1])


def _total(state: DecayedSums, which: int, bits: int) -> tuple[float, int]:
    """One of the sums over both blocks, rounded once, as `rounded_53` has it, at the start of the newest event's block."""
    if state.earlier[which] == 0:
        total, exponent = rounded_53(state.sums[which])
        return total, exponent - bits
    total, exponent = rounded_53((state.sums[which] << BLOCK) + state.earlier[which])
    return total, exponent - bits - BLOCK
