"""Decayed sums compiled: exact accumulators of the block of the newest event and of the one before it; the plain meaning is `decay.py`.

Area: `[n, half-life, block, sum, weights, earlier sum, earlier weights]`, the last four accumulators as `exact.py` has them. In order of
time an event can be taken away again.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twofold.algebra import decay, exact, powers
from twofold.algebra.exact import DIGITS, HI, LO
from twofold.algebra.kinds import FLOAT, OVERFLOW, PRESENT

HALF_LIFE, NEWEST_BLOCK, SUM = 1, 2, 3
_BLOCK = decay.BLOCK
_BLOCK_BINS = _BLOCK // 32
_SUM_OFFSET, _SUM_BINS = decay.SUM_BITS // 32, 140
_WEIGHT_OFFSET, _WEIGHT_BINS = decay.WEIGHT_BITS // 32, 72
_WEIGHTS = SUM + DIGITS + _SUM_BINS
_EARLIER_SUM = _WEIGHTS + DIGITS + _WEIGHT_BINS
_EARLIER_WEIGHTS = _EARLIER_SUM + DIGITS + _SUM_BINS
AREA_SIZE = _EARLIER_WEIGHTS + DIGITS + _WEIGHT_BINS
_PLACES = (SUM, _WEIGHTS, _EARLIER_SUM, _EARLIER_WEIGHTS)
_BINS = (_SUM_BINS, _WEIGHT_BINS, _SUM_BINS, _WEIGHT_BINS)
_EARLIER = _EARLIER_SUM - SUM
_MOST = decay.MOST_EXPONENT
_FAR = 1 << 20
"""Beyond any exponent of a sum; between the first and the last instant of all there are nearly 2^63 half-lives."""
_LARGEST = decay.LARGEST
_MANTISSA = np.int64((1 << 52) - 1)
_HIDDEN = np.int64(1 << 52)

_power_of_two = njit(cache=True)(decay.power_of_two)
_weighted = njit(cache=True)(decay.weighted)


@njit(cache=True)
def prepare(area, base):
    """Make fresh accumulators zero."""
    for i in range(4):
        area[base + _PLACES[i] + LO], area[base + _PLACES[i] + HI] = _BINS[i], -1


@njit(cache=True)
def clear(area, base):
    """Make the state zero again; the half-life stays."""
    area[base + NEWEST_BLOCK] = 0
    for i in range(4):
        exact.clear(area, base + _PLACES[i], _BINS[i])


@njit(cache=True)
def add(area, base, value_kind, time, word, sign):
    """Add an event or (sign -1, the oldest alone) take it away; n is the caller's, and has changed already."""
    half_life = area[base + HALF_LIFE]
    whole, rest = time // half_life, time % half_life
    block, place = whole // _BLOCK, whole % _BLOCK
    if sign > 0:
        _advance(area, base, block, area[base] == 1)
    back = area[base + NEWEST_BLOCK] - block
    if back > 1:
        return
    shift = base + (_EARLIER if back else 0)
    value = np.int64(word).view(np.float64) if value_kind == FLOAT else np.float64(word)
    weight = _power_of_two(np.float64(rest) / np.float64(half_life))
    product, exponent = _weighted(value, weight)
    _add_float(area, shift + SUM, product, 32 * _SUM_OFFSET + exponent + place, sign)
    _add_float(area, shift + _WEIGHTS, weight, 32 * _WEIGHT_OFFSET + place, sign)
    if area[base] & (exact.SAFE_ADDITIONS - 1) == 0:
        for i in range(4):
            exact.normalise(area, base + _PLACES[i], _BINS[i])


@njit(cache=True, inline="always")
def _add_float(area, base, value, place, sign):
    """Add sign * value * 2^place; the value is no subnormal."""
    bits = np.float64(value).view(np.int64)
    if bits & ~(np.int64(1) << 63):
        mantissa = (bits & _MANTISSA) | _HIDDEN
        exact.add_mantissa(area, base, mantissa, ((bits >> 52) & 0x7FF) - 1075 + place, -sign if bits < 0 else sign)


@njit(cache=True)
def _advance(area, base, block, was_empty):
    """Make room for an event of a block: what lies more than one block further back is left out from now on."""
    gap = block - area[base + NEWEST_BLOCK]
    if was_empty or gap > 0:
        area[base + NEWEST_BLOCK] = block
    if was_empty or gap <= 0:
        return
    for i in range(2):
        now, earlier = base + _PLACES[i], base + _PLACES[i + 2]
        exact.clear(area, earlier, _BINS[i])
        if gap == 1:
            powers.merge_digits(area, earlier, area, now)
        exact.clear(area, now, _BINS[i])


@njit(cache=True)
def merge(area, base, other, other_base):
    """Add the sums of another state that is not empty; n is the caller's, and has not changed yet."""
    _advance(area, base, other[other_base + NEWEST_BLOCK], area[base] == 0)
    back = area[base + NEWEST_BLOCK] - other[other_base + NEWEST_BLOCK]
    for i in range(4):
        if back == 0 or (back == 1 and i < 2):
            powers.merge_digits(area, base + _PLACES[i + 2 * back], other, other_base + _PLACES[i])


@njit(cache=True)
def merge_words(area, base, n, words, at):
    """Add the closed state whose words after n begin at `at`; returns where the next state begins."""
    if n:
        _advance(area, base, words[at], area[base] == 0)
    back = area[base + NEWEST_BLOCK] - words[at]
    at += 1
    for i in range(4):
        if n and (back == 0 or (back == 1 and i < 2)):
            at = powers.merge_closed_digits(area, base + _PLACES[i + 2 * back], words, at)
        else:
            at += 2 + words[at + 1]
    return at


@njit(cache=True)
def closed_size(area, base):
    """An upper bound of the words that `close` will write."""
    size = 1
    for i in range(4):
        size += powers.closed_digits_size(area, base + _PLACES[i])
    return size


@njit(cache=True)
def close(area, base, out, at):
    """Write the state, after n; returns where the next state begins."""
    out[at] = area[base + NEWEST_BLOCK] if area[base] else 0
    at += 1
    for i in range(4):
        at = powers.close_digits(area, base + _PLACES[i], _BINS[i], out, at)
    return at


@njit(cache=True)
def total_at(area, base, t, out_floats, at):
    """Write the decayed sum at t; returns its status."""
    half_life = area[base + HALF_LIFE]
    whole, rest = t // half_life, t % half_life
    total, exponent = _total(area, base + SUM, _SUM_BINS, _SUM_OFFSET)
    exponent += max(min(area[base + NEWEST_BLOCK] * _BLOCK - whole, _FAR), -_FAR)
    value = total / _power_of_two(np.float64(rest) / np.float64(half_life))
    value = math.ldexp(value, max(min(exponent, _MOST), -_MOST)) + 0.0
    if math.isinf(value):
        return OVERFLOW
    out_floats[at] = value
    return PRESENT


@njit(cache=True)
def mean(area, base, out_floats, at):
    """Write the decayed mean; returns its status."""
    total, exponent = _total(area, base + SUM, _SUM_BINS, _SUM_OFFSET)
    weights, shift = _total(area, base + _WEIGHTS, _WEIGHT_BINS, _WEIGHT_OFFSET)
    value = math.ldexp(total / weights, exponent - shift) + 0.0
    out_floats[at] = max(-_LARGEST, min(value, _LARGEST))
    return PRESENT


@njit(cache=True)
def _total(area, base, bins, offset):
    """(m, e): m * 2^e is nearest to the number of both blocks, counted from the start of the newer."""
    exact.normalise(area, base, bins)
    exact.normalise(area, base + _EARLIER, bins)
    if area[base + _EARLIER + LO] > area[base + _EARLIER + HI]:
        return _rounded(area, base, -32 * offset)
    both = np.zeros(DIGITS + bins + _BLOCK_BINS, np.int64)
    both[LO], both[HI] = bins + _BLOCK_BINS, -1
    powers.merge_digits(both, 0, area, base + _EARLIER)
    for i in range(area[base + LO], area[base + HI] + 1):
        both[DIGITS + _BLOCK_BINS + i] += area[base + DIGITS + i]
    if area[base + LO] <= area[base + HI]:
        exact.touch(both, 0, _BLOCK_BINS + area[base + LO], _BLOCK_BINS + area[base + HI])
    exact.normalise(both, 0, bins + _BLOCK_BINS)
    return _rounded(both, 0, -32 * (_BLOCK_BINS + offset))


@njit(cache=True)
def _rounded(area, base, exponent):
    """A normalised accumulator rounded once, its lowest bin of 2^exponent."""
    low, high = area[base + LO], area[base + HI]
    if low > high:
        return 0.0, np.int64(0)
    limbs = np.empty(high - low + 1, np.uint64)
    sign, count = exact.magnitude_limbs(area, base, limbs)
    q, e = exact.round_limbs(limbs, count, exponent + 32 * low, False, -1_000_000)
    return sign * float(q), np.int64(e)
