"""Exact power sums compiled: areas of n values and the sums of their powers up to the fourth, in bins as `exact.py` has them.

Area: `[n, accumulator of x, of x^2, of x^3, of x^4]`, as many as the kind has. The plain meaning is `moments.py`; what is computed of
three and four powers lies in `shape.py`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twofold.algebra import certified, exact, shape
from twofold.algebra.exact import BINS_1, BINS_2, DIGITS, HI, LO, OFFSET_1, OFFSET_2
from twofold.algebra.kinds import (
    EMPTY,
    FLOAT,
    INT,
    MOMENTS1,
    MOMENTS2,
    MOMENTS3,
    MOMENTS4,
    OP_KURTOSIS,
    OP_MEAN,
    OP_SKEW,
    OP_STD,
    OP_SUM,
    OP_VAR,
    OVERFLOW,
    PRESENT,
)
from twofold.algebra.shape import BINS_3, BINS_4, OFFSET_3, OFFSET_4

FIRST = 1
SECOND = FIRST + DIGITS + BINS_1
THIRD = SECOND + DIGITS + BINS_2
FOURTH = THIRD + DIGITS + BINS_3
AREA_SIZES = {MOMENTS1: SECOND, MOMENTS2: THIRD, MOMENTS3: FOURTH, MOMENTS4: FOURTH + DIGITS + BINS_4}

_PLACES = (FIRST, SECOND, THIRD, FOURTH)
_BINS = (BINS_1, BINS_2, BINS_3, BINS_4)
_M32 = np.uint64(0xFFFFFFFF)
_U32 = np.uint64(32)
_U0 = np.uint64(0)
_MANTISSA = np.int64((1 << 52) - 1)
_HIDDEN = np.int64(1 << 52)


@njit(cache=True, inline="always")
def is_powers(kind):
    """Whether a kind of state is a number of power sums."""
    return kind == MOMENTS1 or kind == MOMENTS2 or kind == MOMENTS3 or kind == MOMENTS4


@njit(cache=True, inline="always")
def _order(kind):
    """The highest power of a kind."""
    return kind if kind <= MOMENTS2 else kind - MOMENTS3 + 3


@njit(cache=True)
def prepare(area, base, kind):
    """Make fresh accumulators zero."""
    for p in range(_order(kind)):
        area[base + _PLACES[p] + LO], area[base + _PLACES[p] + HI] = _BINS[p], -1


@njit(cache=True)
def clear(area, base, kind):
    """Make the accumulators zero again."""
    for p in range(_order(kind)):
        exact.clear(area, base + _PLACES[p], _BINS[p])


@njit(cache=True)
def add(area, base, kind, value_kind, word, sign):
    """Add a value's powers or (sign -1) take them away; n is the caller's, and has changed already."""
    if value_kind == FLOAT:
        exact.add_float(area, base + FIRST, word, sign)
    else:
        exact.add_int(area, base + FIRST, word, sign)
    if kind != MOMENTS1:
        if value_kind == FLOAT:
            exact.add_float_square(area, base + SECOND, word, sign)
        else:
            exact.add_int_square(area, base + SECOND, word, sign)
        if kind != MOMENTS2:
            _add_higher(area, base, kind, value_kind, word, sign)
    if area[base] & (exact.SAFE_ADDITIONS - 1) == 0:
        for p in range(_order(kind)):
            exact.normalise(area, base + _PLACES[p], _BINS[p])


@njit(cache=True)
def _add_higher(area, base, kind, value_kind, word, sign):
    """Add sign * x^3 and, where the kind has it, sign * x^4."""
    exponent = np.int64(0)
    if value_kind == FLOAT:
        magnitude = np.uint64(word & _MANTISSA)
        exponent = (word >> 52) & 0x7FF
        if exponent == 0:
            exponent = np.int64(1)
        else:
            magnitude |= np.uint64(_HIDDEN)
        exponent -= 1075
    else:
        magnitude = np.uint64(word) if word >= 0 else _U0 - np.uint64(word)
    if magnitude == _U0:
        return
    once = (magnitude & _M32, magnitude >> _U32)
    low, cross, high = once[0] * once[0], once[0] * once[1], once[1] * once[1]
    middle = (low >> _U32) + (cross & _M32) + (cross & _M32)
    upper = (middle >> _U32) + (cross >> _U32) + (cross >> _U32) + (high & _M32)
    twice = (low & _M32, middle & _M32, upper & _M32, (high >> _U32) + (upper >> _U32))
    _add_product(area, base + THIRD, once, twice, 3 * exponent + 32 * OFFSET_3, -sign if word < 0 else sign)
    if kind == MOMENTS4:
        _add_product(area, base + FOURTH, twice, twice, 4 * exponent + 32 * OFFSET_4, sign)


@njit(cache=True)
def _add_product(area, base, left, right, place, sign):
    """Add sign * left * right * 2^place (place counted from the lowest bin); the factors are 32-bit limbs, lowest first."""
    at, shift = place >> 5, np.uint64(place & 31)
    carry, shifted_out = _U0, _U0
    count = len(left) + len(right)
    for k in range(count):
        low, high = carry, _U0
        for i in range(max(0, k - len(right) + 1), min(k + 1, len(left))):
            term = left[i] * right[k - i]
            low += term & _M32
            high += term >> _U32
        carry = (low >> _U32) + high
        word = ((low & _M32) << shift) | shifted_out
        shifted_out = word >> _U32
        area[base + DIGITS + at + k] += sign * np.int64(word & _M32)
    area[base + DIGITS + at + count] += sign * np.int64(shifted_out)
    exact.touch(area, base, at, at + count)


@njit(cache=True)
def merge(area, base, other, other_base, kind):
    """Add the sums of another area."""
    for p in range(_order(kind)):
        merge_digits(area, base + _PLACES[p], other, other_base + _PLACES[p])


@njit(cache=True, inline="always")
def merge_digits(area, base, other, other_base):
    """Add the number of another accumulator."""
    low, high = other[other_base + LO], other[other_base + HI]
    if low <= high:
        for i in range(low, high + 1):
            area[base + DIGITS + i] += other[other_base + DIGITS + i]
        exact.touch(area, base, low, high)


@njit(cache=True)
def merge_words(area, base, kind, words, at):
    """Add the closed sums that begin at words[at]; returns where the next state begins."""
    for p in range(_order(kind)):
        at = merge_closed_digits(area, base + _PLACES[p], words, at)
    return at


@njit(cache=True, inline="always")
def merge_closed_digits(area, base, words, at):
    """Add the closed number at words[at]; returns where the next one begins."""
    low, count = words[at], words[at + 1]
    if count:
        for i in range(count):
            area[base + DIGITS + low + i] += words[at + 2 + i]
        exact.touch(area, base, low, low + count - 1)
    return at + 2 + count


@njit(cache=True)
def merge_run(area, base, kind, words, starts, first, last):
    """Add the closed states, n first, at words[starts[i]], i from first to last; moves each start to the next state."""
    n = area[base]
    for i in range(first, last):
        n += words[starts[i]]
        starts[i] += 1
    area[base] = n
    for p in range(_order(kind)):
        place = base + _PLACES[p]
        low, high = area[place + LO], area[place + HI]
        for i in range(first, last):
            at = starts[i]
            lowest, count = words[at], words[at + 1]
            for j in range(count):
                area[place + DIGITS + lowest + j] += words[at + 2 + j]
            if count:
                low, high = min(low, lowest), max(high, lowest + count - 1)
            starts[i] = at + 2 + count
        area[place + LO], area[place + HI] = low, high


@njit(cache=True)
def closed_size(area, base, kind):
    """An upper bound of the words that `close` will write."""
    size = 0
    for p in range(_order(kind)):
        size += closed_digits_size(area, base + _PLACES[p])
    return size


@njit(cache=True, inline="always")
def closed_digits_size(area, base):
    """An upper bound of the words that `close_digits` will write."""
    return 2 + max(area[base + HI] - area[base + LO] + 3, 0)


@njit(cache=True)
def close(area, base, kind, out, at):
    """Write the sums, after n; returns where the next state begins."""
    for p in range(_order(kind)):
        at = close_digits(area, base + _PLACES[p], _BINS[p], out, at)
    return at


@njit(cache=True)
def close_digits(area, base, bins, out, at):
    """Write an accumulator in canonical form: its lowest bin, how many there are, their digits."""
    exact.normalise(area, base, bins)
    low, count = area[base + LO], area[base + HI] - area[base + LO] + 1
    if count <= 0:
        out[at], out[at + 1] = 0, 0
        return at + 2
    out[at], out[at + 1] = low, count
    for i in range(count):
        out[at + 2 + i] = area[base + DIGITS + low + i]
    return at + 2 + count


@njit(cache=True)
def result(area, base, value_kind, op, n, out, out_floats, at):
    """Write what an operation makes of the sums; returns its status."""
    if op == OP_SUM and value_kind == INT:
        value, is_beyond = exact.rounded_int(area, base + FIRST, BINS_1)
        out[at] = value
        return OVERFLOW if is_beyond else PRESENT
    if op == OP_SKEW or op == OP_KURTOSIS:
        if op == OP_SKEW:
            number, is_known = shape.skewness(area, base + FIRST, base + SECOND, base + THIRD, n)
        else:
            number, is_known = shape.kurtosis(area, base + FIRST, base + SECOND, base + THIRD, base + FOURTH, n)
        out_floats[at] = number
        return PRESENT if is_known else EMPTY
    if n < 2 and (op == OP_STD or op == OP_VAR):
        return EMPTY
    high, low, exponent = sum_of(area, base)
    number, is_certain = certain(area, base, op, n, high, low, exponent)
    is_beyond = False
    if not is_certain:
        number, is_beyond = _rounded(area, base, op, n)
    out_floats[at] = number
    return OVERFLOW if is_beyond else PRESENT


@njit(cache=True, inline="always")
def is_rounded(op, value_kind, n):
    """Whether an operation gives what `certain` may know."""
    return op == OP_MEAN or (op == OP_SUM and value_kind == FLOAT) or (n > 1 and (op == OP_STD or op == OP_VAR))


@njit(cache=True, inline="always")
def sum_of(area, base):
    """(high, low, exponent) of the exact sum, for `certified`."""
    exact.normalise(area, base + FIRST, BINS_1)
    high, low = certified.double_double(area, base + FIRST)
    return high, low, 32 * (area[base + FIRST + HI] - OFFSET_1)


@njit(cache=True, inline="always")
def certain(area, base, op, n, high, low, exponent):
    """(sum, mean, variance or deviation, whether it is certain to be the correctly rounded one); quick."""
    if op == OP_SUM or op == OP_MEAN:
        return certified.quotient(high, low, exponent, n if op == OP_MEAN else 1)
    exact.normalise(area, base + SECOND, BINS_2)
    number, is_certain = certified.variance(area, base + FIRST, base + SECOND, n, OFFSET_2, high, low)
    return math.sqrt(number) if op == OP_STD else number, is_certain


@njit(cache=True)
def _rounded(area, base, op, n):
    """(sum, mean, variance or deviation, correctly rounded; whether it lies beyond float64); by long arithmetic."""
    if op == OP_STD:
        return exact.standard_deviation(area, base + FIRST, base + SECOND, n)
    if op == OP_VAR:
        return exact.variance(area, base + FIRST, base + SECOND, n)
    return exact.rounded_quotient(area, base + FIRST, BINS_1, OFFSET_1, n if op == OP_MEAN else 1)
