"""Correct rounding of sums, means and variances without long arithmetic, where that is certain: double-double numbers and a proof.

A result is computed to about 96 bits with a bound on its error. If both ends of that interval round to the same float64, that is the
correctly rounded one (Ziv's test); else the caller falls back on the long arithmetic of `exact.py`. Double-double arithmetic after
Dekker (1971); areas are normalised ones of `exact.py`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra.exact import DIGITS, HI, LO

_SPLIT = 134217729.0
_TOP_DIGITS = 4
_UNSURE = 2.0**-92
"""Relative error of `double_double`, with room: the digits below the top four, whose first may be 1."""
_WHOLE = 1 << 53
"""Integers up to here are floats."""
_LEAST, _GREATEST = 2.0**-900, 2.0**900


@njit(cache=True, inline="always")
def _two_sum(a, b):
    total = a + b
    rest = total - a
    return total, (a - (total - rest)) + (b - rest)


@njit(cache=True, inline="always")
def _two_product(a, b):
    product = a * b
    high = _SPLIT * a
    a_high = high - (high - a)
    a_low = a - a_high
    high = _SPLIT * b
    b_high = high - (high - b)
    b_low = b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@njit(cache=True)
def double_double(area, base):
    """(high, low) of a normalised area's number in units of its highest bin, less what lies below its top four digits."""
    top = area[base + HI]
    high, low = 0.0, 0.0
    weight = 1.0
    for i in range(min(_TOP_DIGITS, top - area[base + LO] + 1)):
        high, rest = _two_sum(high, float(area[base + DIGITS + top - i]) * weight)
        low += rest
        weight *= 2.0**-32
    return _two_sum(high, low)


@njit(cache=True, inline="always")
def _power_of_two(exponent):
    """2^exponent, of an exponent from -1022 to 1023."""
    return np.int64((exponent + 1023) << 52).view(np.float64)


@njit(cache=True, inline="always")
def _rounded(high, low, error, exponent):
    """(float64 nearest to (high + low) 2^exponent, whether that is certain) for a number known to an absolute error."""
    up, down = high + (low + error), high + (low - error)
    if up != down or not _LEAST < abs(up) < _GREATEST or abs(exponent) > 100:
        return 0.0, False
    return up * _power_of_two(exponent), True


@njit(cache=True)
def quotient(high, low, exponent, divisor):
    """(float64 nearest to a number over a divisor, whether it is certain); the number is `double_double` in units of 2^exponent."""
    if high == 0.0:
        return 0.0, True
    if divisor >= _WHOLE:
        return 0.0, False
    if divisor > 1:
        d = float(divisor)
        first = high / d
        product, rest = _two_product(first, d)
        second = ((high - product) - rest + low) / d
        high, low = _two_sum(first, second)
    return _rounded(high, low, _UNSURE * abs(high), exponent)


@njit(cache=True)
def variance(area, first, second, n, offset, total, total_low):
    """(sample variance, whether it is certain) of n >= 2 values from normalised areas.

    `offset` is that of the second powers, `total` and `total_low` are the first powers' `double_double`.
    """
    if area[second + LO] > area[second + HI]:
        return 0.0, True
    if n >= _WHOLE:
        return 0.0, False
    squares, squares_low = double_double(area, second)
    d = float(n)
    product, product_low = _two_product(squares, d)
    product_low += squares_low * d
    exponent = 32 * (area[second + HI] - offset)
    of_sum, of_sum_low = 0.0, 0.0
    if area[first + LO] <= area[first + HI]:
        of_sum, of_sum_low = _two_product(total, total)
        of_sum_low += 2.0 * total * total_low
        # Both in units of the second powers' highest bin; the offset of the first powers is half of the second's.
        shift = _power_of_two(max(min(32 * (2 * area[first + HI] - area[second + HI]), 1000), -1000))
        of_sum, of_sum_low = of_sum * shift, of_sum_low * shift
    error = _UNSURE * (abs(product) + 2.0 * abs(of_sum))
    high, low = _two_sum(product, -of_sum)
    high, low = _two_sum(high, low + (product_low - of_sum_low))
    pairs = d * (d - 1.0)
    if not high > 0.0 or pairs >= float(_WHOLE):
        return 0.0, False
    quotient_high = high / pairs
    back, back_low = _two_product(quotient_high, pairs)
    quotient_low = ((high - back) - back_low + low) / pairs
    high, low = _two_sum(quotient_high, quotient_low)
    return _rounded(high, low, error / pairs + _UNSURE * abs(high), exponent)
