"""Sum, mean, standard deviation, skewness and kurtosis from exact power sums: integers on a fixed grid, so grouping can never show.

The plain state holds sum(x^p) as one Python integer in units of 2^(-1088 p). Results are the correctly rounded true values
(`math.fsum`, `statistics.mean`, `statistics.variance`); std is the square root of the true variance rounded to 53 bits, skew and
kurtosis a few operations on true central moments rounded to 53 bits.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

from twofold.algebra.base import OVERFLOW, Aggregate, Item, Window

UNIT_BITS = 1088
"""A whole number of 32-bit bins below the smallest subnormal, 2^-1074."""
BIN_BITS = 32
INT64 = range(-(2**63), 2**63)


class PowerSums(NamedTuple):
    """Number of values and exact sums of their powers; `sums[p-1]` in units of 2^(-1088 p)."""

    n: int
    sums: tuple[int, ...]


def fixed_point(value: float | int) -> int:
    """`value` as an exact integer in units of 2^-1088."""
    numerator, denominator = value.as_integer_ratio()
    return (numerator << UNIT_BITS) // denominator


class Moments(Aggregate[PowerSums]):
    """Shared state of the numeric aggregates: n and the exact sums of the powers up to `order`."""

    order: ClassVar[int]
    accepts: ClassVar[frozenset[str]] = frozenset({"int", "float", "bool"})

    @property
    def result_type(self) -> str:
        return "float"

    def zero(self) -> PowerSums:
        return PowerSums(0, (0,) * self.order)

    def add(self, state: PowerSums, item: Item) -> PowerSums:
        x = fixed_point(item.value)
        return PowerSums(state.n + 1, tuple(total + x ** (p + 1) for p, total in enumerate(state.sums)))

    def merge(self, left: PowerSums, right: PowerSums) -> PowerSums:
        return PowerSums(left.n + right.n, tuple(a + b for a, b in zip(left.sums, right.sums, strict=True)))

    def encode(self, state: PowerSums) -> tuple[int, ...]:
        words = [state.n]
        for total in state.sums:
            words += balanced_digits(total)
        return tuple(words)

    def decode(self, words: tuple[int, ...]) -> PowerSums:
        at, sums = 1, []
        for _ in range(self.order):
            sums.append(from_digits(words, at))
            at += 2 + words[at + 1]
        return PowerSums(words[0], tuple(sums))


def balanced_digits(total: int) -> list[int]:
    """`[lowest bin, number of bins, digits...]` of an integer in base 2^32 with digits in [-2^31, 2^31): unique, few for few bits."""
    half, base = 1 << (BIN_BITS - 1), 1 << BIN_BITS
    low = max((total & -total).bit_length() - 1, 0) // BIN_BITS
    total >>= BIN_BITS * low
    digits = []
    while total:
        digit = ((total + half) % base) - half
        total = (total - digit) >> BIN_BITS
        digits.append(digit)
    return [low, len(digits), *digits]


def from_digits(words: tuple[int, ...], at: int) -> int:
    """The integer whose `balanced_digits` stand at words[at]."""
    low, count = words[at], words[at + 1]
    return sum(digit << (BIN_BITS * (low + i)) for i, digit in enumerate(words[at + 2 : at + 2 + count]))


class Sum(Moments):
    """The true sum; a float is rounded once, an integer is exact; 0 in an empty window."""

    name: ClassVar[str] = "sum"
    state: ClassVar[str] = "moments1"
    order: ClassVar[int] = 1

    @property
    def result_type(self) -> str:
        return "float" if self.input_type == "float" else "int"

    def result(self, state: PowerSums, t_us: int, window: Window) -> Any:
        if self.result_type == "int":
            total = state.sums[0] >> UNIT_BITS
            return total if total in INT64 else OVERFLOW
        return _rounded(state.sums[0], 1 << UNIT_BITS)


class Mean(Moments):
    """The true mean, rounded once; null in an empty window."""

    name: ClassVar[str] = "mean"
    state: ClassVar[str] = "moments1"
    order: ClassVar[int] = 1

    def result(self, state: PowerSums, t_us: int, window: Window) -> Any:
        return None if state.n == 0 else _rounded(state.sums[0], state.n << UNIT_BITS)


class Share(Mean):
    """Share of the events that meet a condition; null in an empty window."""

    name: ClassVar[str] = "share"
    accepts: ClassVar[frozenset[str]] = frozenset({"bool"})


class Var(Moments):
    """Sample variance, rounded once; null below two values, 0 of a constant."""

    name: ClassVar[str] = "var"
    state: ClassVar[str] = "moments2"
    order: ClassVar[int] = 2

    def result(self, state: PowerSums, t_us: int, window: Window) -> Any:
        if state.n < 2:
            return None
        n, (first, second) = state.n, state.sums
        return _rounded(n * second - first * first, n * (n - 1) << (2 * UNIT_BITS))


class Std(Moments):
    """Sample standard deviation; null below two values, 0 of a constant."""

    name: ClassVar[str] = "std"
    state: ClassVar[str] = "moments2"
    order: ClassVar[int] = 2

    def result(self, state: PowerSums, t_us: int, window: Window) -> Any:
        if state.n < 2:
            return None
        n, (first, second) = state.n, state.sums
        numerator, denominator = n * second - first * first, n * (n - 1) << (2 * UNIT_BITS)
        if numerator == 0:
            return 0.0
        # Scale by an even power of two into the middle of float64, where neither rounding nor root meets a limit.
        shift = (numerator.bit_length() - denominator.bit_length()) & ~1
        scaled = numerator / (denominator << shift) if shift >= 0 else (numerator << -shift) / denominator
        try:
            return math.ldexp(math.sqrt(scaled), shift // 2)
        except OverflowError:
            return OVERFLOW


class Skew(Moments):
    """Sample skewness (adjusted Fisher-Pearson); null below three values and of a constant, which has no shape."""

    name: ClassVar[str] = "skew"
    state: ClassVar[str] = "moments3"
    order: ClassVar[int] = 3

    def result(self, state: PowerSums, t_us: int, window: Window) -> Any:
        n, (first, second, third) = state.n, state.sums
        squares = n * second - first * first
        if n < 3 or squares == 0:
            return None
        a, a_exponent = rounded_53(squares)
        b, b_exponent = rounded_53(n * n * third - 3 * n * first * second + 2 * first**3)
        if a_exponent & 1:
            a, a_exponent = a * 2.0, a_exponent - 1
        value = math.sqrt(float(n) * float(n - 1)) / float(n - 2) * (b / (a * math.sqrt(a)))
        # The units cancel: those of a cube in b, those of a square to the power of 3/2 below it.
        return math.ldexp(value, max(b_exponent - 3 * (a_exponent // 2), LEAST_EXPONENT)) + 0.0


class Kurtosis(Moments):
    """Sample excess kurtosis (0 of a normal distribution); null below four values and of a constant, which has no shape."""

    name: ClassVar[str] = "kurtosis"
    state: ClassVar[str] = "moments4"
    order: ClassVar[int] = 4

    def result(self, state: PowerSums, t_us: int, window: Window) -> Any:
        n, (first, second, third, fourth) = state.n, state.sums
        squares = n * second - first * first
        if n < 4 or squares == 0:
            return None
        fourths = n**3 * fourth - 4 * n * n * first * third + 6 * n * first * first * second - 3 * first**4
        a, a_exponent = rounded_53(squares)
        k, k_exponent = rounded_53((n + 1) * fourths - 3 * (n - 1) * squares * squares)
        value = float(n - 1) / (float(n - 2) * float(n - 3)) * (k / (a * a))
        return math.ldexp(value, max(k_exponent - 2 * a_exponent, LEAST_EXPONENT)) + 0.0


LEAST_EXPONENT = -10_000
"""Below every exponent of float64."""


def rounded_53(number: int) -> tuple[float, int]:
    """(m, e): m * 2^e is nearest to an integer of any size (ties to even), m of 53 bits and in [0.5, 1), or 0."""
    shift = max(number.bit_length() - 53, 0)
    mantissa, exponent = math.frexp(number / (1 << shift))
    return mantissa, exponent + shift


def _rounded(numerator: int, denominator: int) -> Any:
    """The float64 nearest to a quotient of integers (ties to even), OVERFLOW beyond the largest, never -0.0."""
    try:
        return numerator / denominator + 0.0
    except OverflowError:
        return OVERFLOW
