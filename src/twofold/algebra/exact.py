"""Exact sums compiled: floats cut by shifts into 32-bit bins of int64, and the correctly rounded results of those bins.

An *area* of an accumulator is `[lo, hi, digits...]` in an int64 array: digit i has the weight 2^(32 (i - offset)), lo..hi are the
touched bins (lo > hi: none). Digits may exceed 32 bits between `normalise` calls; 2^29 additions are safe. The plain meaning is
`moments.py`, which holds the same number as one Python integer.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

OFFSET_1, BINS_1 = 34, 70
OFFSET_2, BINS_2 = 68, 140
LO, HI, DIGITS = 0, 1, 2
SAFE_ADDITIONS = 1 << 29

_M32 = np.uint64(0xFFFFFFFF)
_U32 = np.uint64(32)
_U0, _U1 = np.uint64(0), np.uint64(1)
_MANTISSA = np.int64((1 << 52) - 1)
_HIDDEN = np.int64(1 << 52)
_HALF = np.int64(1 << 31)
_MASK = np.int64(0xFFFFFFFF)
_LOWEST_EXPONENT = -1074


@njit(cache=True, inline="always")
def clear(area, base, bins):
    """Make an area zero; cost follows the touched bins."""
    for i in range(area[base + LO], area[base + HI] + 1):
        area[base + DIGITS + i] = 0
    area[base + LO] = bins
    area[base + HI] = -1


@njit(cache=True, inline="always")
def touch(area, base, first, last):
    """Widen lo..hi so that it holds the bins first..last."""
    if first < area[base + LO]:
        area[base + LO] = first
    if last > area[base + HI]:
        area[base + HI] = last


@njit(cache=True, inline="always")
def add_mantissa(area, base, mantissa, place, sign):
    """Add sign * mantissa * 2^place (place counted from the lowest bin); the mantissa has at most 53 bits."""
    at, shift = place >> 5, place & 31
    low = (mantissa & _MASK) << shift
    high = (mantissa >> 32) << shift
    # low < 2^63 keeps its top bits in int64: mantissa & mask < 2^32, shift < 32.
    area[base + DIGITS + at] += sign * (low & _MASK)
    area[base + DIGITS + at + 1] += sign * ((low >> 32) + (high & _MASK))
    area[base + DIGITS + at + 2] += sign * (high >> 32)
    touch(area, base, at, at + 2)


@njit(cache=True)
def add_float(area, base, bits, sign):
    """Add sign * x to a first-power area; `bits` is x's float64 pattern."""
    mantissa = bits & _MANTISSA
    exponent = (bits >> 52) & 0x7FF
    if exponent == 0:
        exponent = 1
    else:
        mantissa |= _HIDDEN
    if mantissa == 0:
        return
    add_mantissa(area, base, mantissa, exponent - 1075 + 32 * OFFSET_1, sign if bits >= 0 else -sign)


@njit(cache=True)
def add_int(area, base, value, sign):
    """Add sign * value to a first-power area."""
    area[base + DIGITS + OFFSET_1] += sign * (value & _MASK)
    area[base + DIGITS + OFFSET_1 + 1] += sign * (value >> 32)
    touch(area, base, OFFSET_1, OFFSET_1 + 1)


@njit(cache=True, inline="always")
def _add_term(area, base, at, term, shift, sign):
    """Add sign * term * 2^shift at bin `at`; term is any uint64, shift below 32."""
    low = (term & _M32) << np.uint64(shift)
    high = (term >> _U32) << np.uint64(shift)
    area[base + DIGITS + at] += sign * np.int64(low & _M32)
    area[base + DIGITS + at + 1] += sign * (np.int64(low >> _U32) + np.int64(high & _M32))
    area[base + DIGITS + at + 2] += sign * np.int64(high >> _U32)


@njit(cache=True, inline="always")
def _add_square(area, base, magnitude, place, sign):
    """Add sign * magnitude^2 * 2^place (place counted from the lowest bin)."""
    a, b = magnitude >> _U32, magnitude & _M32
    at, shift = place >> 5, place & 31
    _add_term(area, base, at, b * b, shift, sign)
    if a != _U0:
        _add_term(area, base, at + 1, (a * b), shift, sign)
        _add_term(area, base, at + 1, (a * b), shift, sign)
        _add_term(area, base, at + 2, a * a, shift, sign)
        touch(area, base, at, at + 4)
    else:
        touch(area, base, at, at + 2)


@njit(cache=True)
def add_float_square(area, base, bits, sign):
    """Add sign * x^2 to a second-power area, exactly."""
    mantissa = bits & _MANTISSA
    exponent = (bits >> 52) & 0x7FF
    if exponent == 0:
        exponent = 1
    else:
        mantissa |= _HIDDEN
    if mantissa != 0:
        _add_square(area, base, np.uint64(mantissa), 2 * (exponent - 1075) + 32 * OFFSET_2, sign)


@njit(cache=True)
def add_int_square(area, base, value, sign):
    """Add sign * value^2 to a second-power area, exactly."""
    magnitude = np.uint64(value) if value >= 0 else _U0 - np.uint64(value)
    if magnitude != _U0:
        _add_square(area, base, magnitude, 32 * OFFSET_2, sign)


@njit(cache=True)
def normalise(area, base, bins):
    """Bring the digits into [-2^31, 2^31) and lo..hi to the occupied bins: the one canonical form."""
    lo, hi = area[base + LO], area[base + HI]
    carry = np.int64(0)
    i = lo
    while i <= hi or carry != 0:
        value = area[base + DIGITS + i] + carry
        digit = ((value + _HALF) & _MASK) - _HALF
        carry = (value - digit) >> 32
        area[base + DIGITS + i] = digit
        if i > hi:
            hi = i
        i += 1
    while hi >= lo and area[base + DIGITS + hi] == 0:
        hi -= 1
    while lo <= hi and area[base + DIGITS + lo] == 0:
        lo += 1
    if lo > hi:
        lo, hi = bins, -1
    area[base + LO], area[base + HI] = lo, hi


@njit(cache=True)
def magnitude_limbs(area, base, limbs):
    """Write |number| of a normalised, non-empty area as 32-bit limbs, lowest first; returns (sign, count of limbs)."""
    lo, hi = area[base + LO], area[base + HI]
    sign = 1 if area[base + DIGITS + hi] > 0 else -1
    borrow = np.int64(0)
    count = 0
    for i in range(lo, hi + 1):
        digit = sign * area[base + DIGITS + i] + borrow
        borrow = 0
        if digit < 0:
            digit += _MASK + 1
            borrow = -1
        limbs[count] = np.uint64(digit)
        count += 1
    while limbs[count - 1] == _U0:
        count -= 1
    return sign, count


@njit(cache=True)
def bit_length(value):
    """Number of bits of a uint64."""
    length = 0
    if value >> _U32:
        length += 32
        value >>= _U32
    while value:
        value >>= _U1
        length += 1
    return length


@njit(cache=True)
def round_limbs(limbs, count, exponent, is_sticky, lowest):
    """Nearest q * 2^e (ties to even) to limbs * 2^exponent (+ a rest below if sticky), q below 2^53 + 1, e >= lowest; returns (q, e)."""
    length = 32 * (count - 1) + bit_length(limbs[count - 1])
    e = max(exponent + length - 53, lowest)
    shift = e - exponent
    if shift <= 0:
        # Fewer than 54 bits: nothing to round away (a sticky rest never comes with so few, divisions add limbs first).
        value = _U0
        for i in range(count - 1, -1, -1):
            value = (value << _U32) | limbs[i]
        return np.int64(value), exponent
    if shift > length:
        return np.int64(0), e
    q = _bits(limbs, count, shift)
    half = (limbs[(shift - 1) >> 5] >> np.uint64((shift - 1) & 31)) & _U1
    if half:
        rest = is_sticky
        if not rest:
            whole, part = (shift - 1) >> 5, (shift - 1) & 31
            rest = (limbs[whole] & ((_U1 << np.uint64(part)) - _U1)) != _U0
            for i in range(whole):
                rest = rest or limbs[i] != _U0
        if rest or (q & 1):
            q += 1
    return q, e


@njit(cache=True, inline="always")
def _bits(limbs, count, shift):
    """The bits of the number from bit `shift` on, at most 63 of them."""
    at, part = shift >> 5, np.uint64(shift & 31)
    value = _U0
    if at < count:
        value = limbs[at] >> part
    if at + 1 < count:
        value |= limbs[at + 1] << (_U32 - part)
    if at + 2 < count and part > _U0:
        value |= limbs[at + 2] << (np.uint64(64) - part)
    return np.int64(value)


@njit(cache=True)
def to_float(sign, q, e):
    """(float64 of sign * q * 2^e, whether it lies beyond float64)."""
    if q == 0:
        return 0.0, False
    if e + bit_length(np.uint64(q)) > 1024:
        return 0.0, True
    return sign * math.ldexp(float(q), e), False


@njit(cache=True)
def divide(limbs, count, divisor):
    """Divide limbs in place by an integer from 1 to 2^63 - 1; returns (count of limbs, whether a rest remained)."""
    d = np.uint64(divisor)
    rest = _U0
    if d <= _M32:
        for i in range(count - 1, -1, -1):
            value = (rest << _U32) | limbs[i]
            limbs[i] = value // d
            rest = value % d
    else:
        for i in range(count - 1, -1, -1):
            quotient = _U0
            for bit in range(31, -1, -1):
                rest = (rest << _U1) | ((limbs[i] >> np.uint64(bit)) & _U1)
                quotient <<= _U1
                if rest >= d:
                    rest -= d
                    quotient |= _U1
            limbs[i] = quotient
    while count > 1 and limbs[count - 1] == _U0:
        count -= 1
    return count, rest != _U0


@njit(cache=True)
def multiply(left, left_count, right, right_count, out):
    """Out = left * right in 32-bit limbs; `out` has room for both counts and is cleared here."""
    for i in range(left_count + right_count):
        out[i] = _U0
    for i in range(left_count):
        carry = _U0
        for j in range(right_count):
            value = left[i] * right[j] + out[i + j] + carry
            out[i + j] = value & _M32
            carry = value >> _U32
        out[i + right_count] = carry


PAD = 4
"""Zero limbs put below a dividend, so that a quotient has more than 64 bits and a rest only ever rounds."""


@njit(cache=True)
def rounded_quotient(area, base, bins, offset, divisor):
    """(float64 nearest to number / divisor, whether it lies beyond float64); divisor 1 is the rounded sum itself."""
    normalise(area, base, bins)
    if area[base + LO] > area[base + HI]:
        return 0.0, False
    limbs = np.empty(area[base + HI] - area[base + LO] + 1 + PAD, np.uint64)
    exponent = 32 * (area[base + LO] - offset)
    if divisor == 1:
        sign, count = magnitude_limbs(area, base, limbs)
        q, e = round_limbs(limbs, count, exponent, False, _LOWEST_EXPONENT)
        return to_float(sign, q, e)
    for i in range(PAD):
        limbs[i] = _U0
    sign, count = magnitude_limbs(area, base, limbs[PAD:])
    count, is_sticky = divide(limbs, count + PAD, divisor)
    q, e = round_limbs(limbs, count, exponent - 32 * PAD, is_sticky, _LOWEST_EXPONENT)
    return to_float(sign, q, e)


@njit(cache=True)
def rounded_int(area, base, bins):
    """(number, whether it lies beyond int64) of a first-power area that holds integers."""
    normalise(area, base, bins)
    value = np.int64(0)
    for i in range(area[base + HI], OFFSET_1 - 1, -1):
        digit = area[base + DIGITS + i]
        if value >= (1 << 31) or value < -(1 << 31):
            # 2^31 * 2^32 - something still fits; only that one case does.
            if not (value == (1 << 31) and digit < 0):
                return np.int64(0), True
            return np.int64((2**63 - 1) + (digit + 1)), False
        value = value * (1 << 32) + digit
        if i == OFFSET_1 + 1 and value == -(1 << 31) and area[base + DIGITS + OFFSET_1] < 0:
            return np.int64(0), True
    return value, False


@njit(cache=True)
def variance(area, first, second, n):
    """(sample variance, whether it lies beyond float64) of n >= 2 values from their first- and second-power areas."""
    q, e = _variance(area, first, second, n, _LOWEST_EXPONENT)
    return to_float(1, q, e)


@njit(cache=True)
def standard_deviation(area, first, second, n):
    """(sample standard deviation, whether it lies beyond float64): the root of the variance rounded to 53 bits of any exponent."""
    q, e = _variance(area, first, second, n, -100_000)
    if e & 1:
        q, e = q * 2, e - 1
    root = math.sqrt(float(q))
    _, exponent = math.frexp(root)
    if q and exponent + e // 2 > 1024:
        return 0.0, True
    return math.ldexp(root, e // 2), False


@njit(cache=True)
def _variance(area, first, second, n, lowest):
    """(q, e): q * 2^e is nearest to (n * sum of squares - square of sum) / (n (n - 1)), e >= lowest; q is 0 of a constant."""
    normalise(area, first, BINS_1)
    normalise(area, second, BINS_2)
    if area[second + LO] > area[second + HI]:
        return np.int64(0), np.int64(0)
    size = BINS_2 + 2 * PAD + 4
    scratch, squares, product = np.empty(size, np.uint64), np.empty(size, np.uint64), np.empty(size, np.uint64)
    factor = np.empty(2, np.uint64)
    factor[0], factor[1] = np.uint64(n) & _M32, np.uint64(n) >> _U32
    _, count = magnitude_limbs(area, second, scratch)
    multiply(scratch, count, factor, 2, squares)
    squares_count, squares_low = count + 2, area[second + LO]
    low, product_count = squares_low, 0
    if area[first + LO] <= area[first + HI]:
        _, count = magnitude_limbs(area, first, scratch)
        multiply(scratch, count, scratch, count, product)
        product_low, product_count = 2 * area[first + LO], 2 * count
        low = min(squares_low, product_low)
    high = squares_low + squares_count
    limbs = np.zeros(high - low + PAD, np.uint64)
    limbs[PAD + squares_low - low : PAD + squares_low - low + squares_count] = squares[:squares_count]
    if product_count:
        _subtract(limbs, PAD + product_low - low, product, product_count)
    count = limbs.size
    while count > 0 and limbs[count - 1] == _U0:
        count -= 1
    if count == 0:
        return np.int64(0), np.int64(0)
    count, is_sticky = divide(limbs, count, n)
    count, is_sticky_too = divide(limbs, count, n - 1)
    return round_limbs(limbs, count, 32 * (low - OFFSET_2 - PAD), is_sticky or is_sticky_too, lowest)


@njit(cache=True)
def _subtract(limbs, at, other, count):
    """limbs[at:] -= other, which is not larger."""
    borrow = np.int64(0)
    i = 0
    while i < count or borrow != 0:
        if at + i >= limbs.size:
            break
        value = np.int64(limbs[at + i]) + borrow
        if i < count:
            value -= np.int64(other[i])
        borrow = 0
        if value < 0:
            value += _MASK + 1
            borrow = -1
        limbs[at + i] = np.uint64(value)
        i += 1
