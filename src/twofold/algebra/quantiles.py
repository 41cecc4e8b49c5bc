"""Quantiles by a sketch of declared relative error, after DDSketch (Masson, Rim and Lee, 2019).

A bucket is what float64 has above the last `52 - bits` bits of its mantissa: 2^bits buckets for every power of two, found by a shift.
(That is DDSketch with its linearly interpolated logarithm.) Magnitudes below 2^-1022, and those that the greatest one exceeds by 2^64,
count as 0: a rule on the values alone, so neither grouping nor order can show.
"""

from __future__ import annotations

import math
import struct
from typing import ClassVar, NamedTuple

from twofold.algebra.base import Aggregate, Item, Window
from twofold.errors import DefinitionError

OCTAVES = 64
"""Magnitudes that are kept apart: those within 2^64 of the greatest."""
PLACE_BITS = 20
"""Bits of a packed word that name its place (a signed bucket, a bin); its count lies above them."""
_ERRORS = {bits: 1 / (2 ** (bits + 1) + 1) for bits in range(2, 9)}


class Sketch(NamedTuple):
    """Number of values, how many count as 0, and (signed bucket, count) in order."""

    n: int
    zeros: int
    buckets: tuple[tuple[int, int], ...]


def bits_of(error: object) -> int:
    """The fewest bits whose buckets keep a relative error; raises DefinitionError."""
    if isinstance(error, bool) or not isinstance(error, int | float) or not min(_ERRORS.values()) <= error <= max(_ERRORS.values()):
        least, most = min(_ERRORS.values()), max(_ERRORS.values())
        raise DefinitionError(f"error is {error!r}; give the largest relative error of a quantile, from {least:.4f} to {most:.2f}")
    return next(bits for bits, found in _ERRORS.items() if found <= error)


def bucket_of(value: float, bits: int) -> int:
    """Number of a value's bucket, negative for a negative value; 0 for a magnitude below 2^-1022."""
    magnitude = struct.unpack("<q", struct.pack("<d", abs(float(value))))[0] >> (52 - bits)
    if magnitude < 1 << bits:
        return 0
    return -int(magnitude) if value < 0 else int(magnitude)


def value_of_bucket(bucket: int, bits: int) -> float:
    """The value whose relative distance from both ends of a bucket is the same: 2 low high / (low + high)."""
    scale = 1 << bits
    low = scale + (abs(bucket) & (scale - 1))
    value = math.ldexp(2 * low * (low + 1) / (scale * (2 * low + 1)), (abs(bucket) >> bits) - 1023)
    return -value if bucket < 0 else value


class Quantile(Aggregate[Sketch]):
    """The value at the rank `floor(q (n - 1))` of the sorted values, within a relative error; null in an empty window."""

    name: ClassVar[str] = "quantile"
    state: ClassVar[str] = "sketch"
    accepts: ClassVar[frozenset[str]] = frozenset({"int", "float", "bool"})
    examples = ({"q": 0.5, "error": 0.01}, {"q": 1.0, "error": 0.1}, {"q": 0.1, "error": 0.002})

    def __init__(self, input_type: str, q: float, error: float = 0.01) -> None:
        super().__init__(input_type, q=q, error=error)
        if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
            raise DefinitionError(f"q is {q!r}; give the share of values below the quantile, from 0 to 1, as in 0.95")
        self.q, self.bits = float(q), bits_of(error)

    @property
    def result_type(self) -> str:
        return "float"

    @property
    def size(self) -> int:
        return self.bits

    @property
    def argument(self) -> int:
        return int(struct.unpack("<q", struct.pack("<d", self.q))[0])

    def zero(self) -> Sketch:
        return Sketch(0, 0, ())

    def add(self, state: Sketch, item: Item) -> Sketch:
        bucket = bucket_of(item.value, self.bits)
        return self.merge(state, Sketch(1, 1, ()) if bucket == 0 else Sketch(1, 0, ((bucket, 1),)))

    def merge(self, left: Sketch, right: Sketch) -> Sketch:
        counts = dict(left.buckets)
        for bucket, count in right.buckets:
            counts[bucket] = counts.get(bucket, 0) + count
        least = max((abs(bucket) for bucket in counts), default=0) - (OCTAVES << self.bits)
        kept = tuple(sorted((bucket, count) for bucket, count in counts.items() if abs(bucket) > least))
        n = left.n + right.n
        return Sketch(n, n - sum(count for _, count in kept), kept)

    def result(self, state: Sketch, t_us: int, window: Window) -> float | None:
        if state.n == 0:
            return None
        rank = min(int(self.q * (state.n - 1)), state.n - 1)
        for bucket, count in sorted([*state.buckets, (0, state.zeros)]):
            rank -= count
            if rank < 0:
                return value_of_bucket(bucket, self.bits) if bucket else 0.0
        raise AssertionError(state)

    def encode(self, state: Sketch) -> tuple[int, ...]:
        return (state.n, state.zeros, len(state.buckets), *(packed(bucket, count) for bucket, count in state.buckets))

    def decode(self, words: tuple[int, ...]) -> Sketch:
        return Sketch(words[0], words[1], tuple(unpacked(word) for word in words[3:]))


def packed(place: int, count: int) -> int:
    """A place in [-2^19, 2^19) and a count below 2^43 as one word."""
    return count << PLACE_BITS | (place & ((1 << PLACE_BITS) - 1))


def unpacked(word: int) -> tuple[int, int]:
    """(place, count) of a word."""
    place = word & ((1 << PLACE_BITS) - 1)
    return place - ((place >> (PLACE_BITS - 1)) << PLACE_BITS), word >> PLACE_BITS
