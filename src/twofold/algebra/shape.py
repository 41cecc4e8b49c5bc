"""Skewness and excess kurtosis compiled: integers of exact power sums, each rounded once, then a fixed sequence of float operations.

The plain meaning, with the same formulas over Python's integers, is in `moments.py`. A *number* here is its 32-bit limbs (lowest
first, none of zero), its sign and the bin of its lowest limb; bins of products add up, for their offsets do.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twofold.algebra import exact
from twofold.algebra.exact import BINS_1, BINS_2, DIGITS, HI, LO, OFFSET_1
from twofold.algebra.moments import LEAST_EXPONENT

OFFSET_3, BINS_3 = 3 * OFFSET_1, 210
OFFSET_4, BINS_4 = 4 * OFFSET_1, 280
_ROOM = 16
"""Bins above a sum of powers that its products with n take, and more."""
_ANY_EXPONENT = -1_000_000
_M32 = np.uint64(0xFFFFFFFF)
_U32 = np.uint64(32)


@njit(cache=True)
def skewness(area, first, second, third, n):
    """(sample skewness, whether there is one) of n values from the accumulators of their powers."""
    if n < 3:
        return 0.0, False
    s1, sign1, low1 = _number(area, first, BINS_1)
    s2, _, low2 = _number(area, second, BINS_2)
    s3, sign3, low3 = _number(area, third, BINS_3)
    spread = _rounded(_squares(s1, low1, s2, low2, n), BINS_2 + _ROOM, 2)
    if spread[0] == 0.0:
        return 0.0, False
    n1 = _limbs(n)
    total = _zero(BINS_3 + _ROOM)
    _add(total, _product(_product(n1, n1), s3), low3, sign3)
    _add(total, _product(_product(n1, s1), s2), low1 + low2, -3 * sign1)
    _add(total, _product(_product(s1, s1), s1), 3 * low1, 2 * sign1)
    b, b_exponent = _rounded(total, BINS_3 + _ROOM, 3)
    a, a_exponent = spread
    if a_exponent & 1:
        a, a_exponent = a * 2.0, a_exponent - 1
    value = math.sqrt(float(n) * float(n - 1)) / float(n - 2) * (b / (a * math.sqrt(a)))
    return _scaled(value, b_exponent - 3 * (a_exponent // 2)), True


@njit(cache=True)
def kurtosis(area, first, second, third, fourth, n):
    """(sample excess kurtosis, whether there is one) of n values from the accumulators of their powers."""
    if n < 4:
        return 0.0, False
    s1, sign1, low1 = _number(area, first, BINS_1)
    s2, _, low2 = _number(area, second, BINS_2)
    squares = _squares(s1, low1, s2, low2, n)
    a, a_exponent = _rounded(squares, BINS_2 + _ROOM, 2)
    if a == 0.0:
        return 0.0, False
    s3, sign3, low3 = _number(area, third, BINS_3)
    s4, _, low4 = _number(area, fourth, BINS_4)
    n1, once = _limbs(n), _product(s1, s1)
    n2 = _product(n1, n1)
    d = _zero(BINS_4 + _ROOM)
    _add(d, _product(_product(n1, n2), s4), low4, 1)
    _add(d, _product(_product(n2, s1), s3), low1 + low3, -4 * sign1 * sign3)
    _add(d, _product(_product(n1, once), s2), 2 * low1 + low2, 6)
    _add(d, _product(once, once), 4 * low1, -3)
    fourths, _, fourths_low = _number(d, 0, BINS_4 + _ROOM)
    seconds, _, seconds_low = _number(squares, 0, BINS_2 + _ROOM)
    excess = _zero(BINS_4 + 2 * _ROOM)
    _add(excess, _product(_limbs(n + 1), fourths), fourths_low, 1)
    _add(excess, _product(_limbs(n - 1), _product(seconds, seconds)), 2 * seconds_low, -3)
    k, k_exponent = _rounded(excess, BINS_4 + 2 * _ROOM, 4)
    value = float(n - 1) / (float(n - 2) * float(n - 3)) * (k / (a * a))
    return _scaled(value, k_exponent - 2 * a_exponent), True


@njit(cache=True)
def _squares(s1, low1, s2, low2, n):
    """The accumulator of n * (sum of squares) - (sum)^2."""
    total = _zero(BINS_2 + _ROOM)
    _add(total, _product(_limbs(n), s2), low2, 1)
    _add(total, _product(s1, s1), 2 * low1, -1)
    return total


@njit(cache=True)
def _scaled(value, exponent):
    """Value * 2^exponent, which is no result beyond float64; never -0.0."""
    return math.ldexp(value, max(exponent, LEAST_EXPONENT)) + 0.0


@njit(cache=True)
def _number(area, base, bins):
    """(limbs, sign, lowest bin) of an accumulator."""
    exact.normalise(area, base, bins)
    low, high = area[base + LO], area[base + HI]
    if low > high:
        return np.empty(0, np.uint64), 0, np.int64(0)
    limbs = np.empty(high - low + 1, np.uint64)
    sign, count = exact.magnitude_limbs(area, base, limbs)
    return limbs[:count], sign, low


@njit(cache=True)
def _limbs(n):
    """Limbs of a positive integer."""
    limbs = np.empty(2, np.uint64)
    limbs[0], limbs[1] = np.uint64(n) & _M32, np.uint64(n) >> _U32
    return limbs[:1] if n <= 0xFFFFFFFF else limbs


@njit(cache=True)
def _product(left, right):
    """Limbs of a product."""
    out = np.empty(left.size + right.size, np.uint64)
    if left.size == 0 or right.size == 0:
        return out[:0]
    exact.multiply(left, left.size, right, right.size, out)
    return out if out[out.size - 1] else out[: out.size - 1]


@njit(cache=True)
def _zero(bins):
    """An accumulator of nothing."""
    total = np.zeros(DIGITS + bins, np.int64)
    total[LO], total[HI] = bins, -1
    return total


@njit(cache=True)
def _add(total, limbs, low, factor):
    """Add a small factor times limbs, whose lowest is in bin `low`."""
    if limbs.size:
        for i in range(limbs.size):
            total[DIGITS + low + i] += factor * np.int64(limbs[i])
        exact.touch(total, 0, low, low + limbs.size - 1)


@njit(cache=True)
def _rounded(total, bins, power):
    """(m, e): m * 2^e is nearest to the number, m of 53 bits and in [0.5, 1) or 0, e of any size."""
    limbs, sign, low = _number(total, 0, bins)
    if limbs.size == 0:
        return 0.0, np.int64(0)
    q, e = exact.round_limbs(limbs, limbs.size, 32 * (low - power * OFFSET_1), False, _ANY_EXPONENT)
    m, exponent = math.frexp(float(q))
    return sign * m, e + exponent
