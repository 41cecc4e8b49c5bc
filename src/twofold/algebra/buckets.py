"""Counts by place compiled: the sketch of quantiles and the histogram. The plain meanings are `quantiles.py` and `histogram.py`.

Area of a histogram: `[n, bins, counts]`. Area of a sketch of `bits`: `[n, bits, zeros, lo, hi, lo, hi, counts]`, the bounds of the
occupied magnitudes first of negative buckets, then of positive ones (lo > hi: none), and the counts of each sign in a ring of
`OCTAVES << bits` magnitudes: no more are ever kept apart.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from twofold.algebra.kinds import EMPTY, FLOAT, PRESENT
from twofold.algebra.quantiles import OCTAVES, PLACE_BITS

BINS = 2
ZEROS, BOUNDS, COUNTS = 2, 3, 7
_NONE = 1 << 40
_PLACE = (1 << PLACE_BITS) - 1


def sketch_size(bits: int) -> int:
    """Words of a sketch's area."""
    return COUNTS + 2 * (OCTAVES << bits)


@njit(cache=True, inline="always")
def _unpacked(word):
    place = word & _PLACE
    return place - ((place >> (PLACE_BITS - 1)) << PLACE_BITS), word >> PLACE_BITS


# Histogram


@njit(cache=True)
def add_bin(area, base, value, sign):
    """Count a value, or take it away; n is kept here, for values beyond the bins do not count."""
    if 0 <= value < area[base + 1]:
        area[base] += sign
        area[base + BINS + value] += sign


@njit(cache=True)
def clear_histogram(area, base):
    """Make it zero."""
    area[base] = 0
    for i in range(area[base + 1]):
        area[base + BINS + i] = 0


@njit(cache=True)
def merge_histogram(area, base, other, other_base):
    """Add another area's counts; n is the caller's."""
    for i in range(area[base + 1]):
        area[base + BINS + i] += other[other_base + BINS + i]


@njit(cache=True)
def merge_histogram_words(area, base, words, at):
    """Add the counts of a closed state whose words after n begin at `at`; returns where the next state begins."""
    pairs = words[at]
    for i in range(at + 1, at + 1 + pairs):
        place, count = _unpacked(words[i])
        area[base + BINS + place] += count
    return at + 1 + pairs


@njit(cache=True)
def close_histogram(area, base, out, at):
    """Write the bins that have counts, after n; returns where the next state begins."""
    start = at
    at += 1
    for i in range(area[base + 1]):
        if area[base + BINS + i]:
            out[at] = (area[base + BINS + i] << PLACE_BITS) | i
            at += 1
    out[start] = at - start - 1
    return at


# Sketch


@njit(cache=True)
def bucket_of(word, value_kind, bits):
    """Signed number of the bucket of a value's word."""
    if value_kind != FLOAT:
        word = np.float64(word).view(np.int64)
    magnitude = (word & np.int64(0x7FFFFFFFFFFFFFFF)) >> (52 - bits)
    if magnitude < 1 << bits:
        return np.int64(0)
    return -magnitude if word < 0 else magnitude


@njit(cache=True)
def value_of_bucket(bucket, bits):
    """The value in the middle of a bucket, as relative errors go."""
    scale = 1 << bits
    low = scale + (abs(bucket) & (scale - 1))
    value = math.ldexp(float(2 * low * (low + 1)) / float(scale * (2 * low + 1)), (abs(bucket) >> bits) - 1023)
    return -value if bucket < 0 else value


@njit(cache=True)
def prepare_sketch(area, base):
    """Make fresh words the zero of a sketch; its bits are there already."""
    area[base + BOUNDS], area[base + BOUNDS + 1] = _NONE, 0
    area[base + BOUNDS + 2], area[base + BOUNDS + 3] = _NONE, 0


@njit(cache=True)
def clear_sketch(area, base):
    """Make it zero; cost follows the occupied magnitudes."""
    ring = OCTAVES << area[base + 1]
    for side in range(2):
        for magnitude in range(area[base + BOUNDS + 2 * side], area[base + BOUNDS + 2 * side + 1] + 1):
            area[base + COUNTS + side * ring + (magnitude & (ring - 1))] = 0
    area[base], area[base + ZEROS] = 0, 0
    prepare_sketch(area, base)


@njit(cache=True)
def add_bucket(area, base, bucket, count):
    """Count values of a signed bucket; n is the caller's."""
    ring = OCTAVES << area[base + 1]
    magnitude = abs(bucket)
    top = max(area[base + BOUNDS + 1], area[base + BOUNDS + 3])
    if magnitude > top:
        _drop_below(area, base, magnitude - ring)
        top = magnitude
    if magnitude == 0 or magnitude <= top - ring:
        area[base + ZEROS] += count
        return
    side = 1 if bucket > 0 else 0
    bounds = base + BOUNDS + 2 * side
    area[base + COUNTS + side * ring + (magnitude & (ring - 1))] += count
    area[bounds] = min(area[bounds], magnitude)
    area[bounds + 1] = max(area[bounds + 1], magnitude)


@njit(cache=True)
def _drop_below(area, base, least):
    """Let magnitudes up to `least` count as 0."""
    ring = OCTAVES << area[base + 1]
    for side in range(2):
        bounds = base + BOUNDS + 2 * side
        low, high = area[bounds], area[bounds + 1]
        if low > least:
            continue
        for magnitude in range(low, min(high, least) + 1):
            at = base + COUNTS + side * ring + (magnitude & (ring - 1))
            area[base + ZEROS] += area[at]
            area[at] = 0
        if high <= least:
            area[bounds], area[bounds + 1] = _NONE, 0
        else:
            area[bounds] = least + 1


@njit(cache=True)
def merge_sketch(area, base, other, other_base):
    """Add another area's counts; n is the caller's."""
    ring = OCTAVES << area[base + 1]
    area[base + ZEROS] += other[other_base + ZEROS]
    for side in range(2):
        bounds = other_base + BOUNDS + 2 * side
        for magnitude in range(other[bounds], other[bounds + 1] + 1):
            count = other[other_base + COUNTS + side * ring + (magnitude & (ring - 1))]
            if count:
                add_bucket(area, base, magnitude if side else -magnitude, count)


@njit(cache=True)
def merge_sketch_words(area, base, words, at):
    """Add the counts of a closed state whose words after n begin at `at`; returns where the next state begins."""
    area[base + ZEROS] += words[at]
    pairs = words[at + 1]
    for i in range(at + 2, at + 2 + pairs):
        bucket, count = _unpacked(words[i])
        add_bucket(area, base, bucket, count)
    return at + 2 + pairs


@njit(cache=True)
def sketch_closed_size(area, base):
    """An upper bound of the words that `close_sketch` writes."""
    return 2 + max(area[base + BOUNDS + 1] - area[base + BOUNDS] + 1, 0) + max(area[base + BOUNDS + 3] - area[base + BOUNDS + 2] + 1, 0)


@njit(cache=True)
def close_sketch(area, base, out, at):
    """Write the occupied buckets in order, after n; returns where the next state begins."""
    ring = OCTAVES << area[base + 1]
    out[at] = area[base + ZEROS]
    start = at + 1
    at += 2
    for magnitude in range(area[base + BOUNDS + 1], area[base + BOUNDS] - 1, -1):
        count = area[base + COUNTS + (magnitude & (ring - 1))]
        if count:
            out[at] = (count << PLACE_BITS) | (-magnitude & _PLACE)
            at += 1
    for magnitude in range(area[base + BOUNDS + 2], area[base + BOUNDS + 3] + 1):
        count = area[base + COUNTS + ring + (magnitude & (ring - 1))]
        if count:
            out[at] = (count << PLACE_BITS) | magnitude
            at += 1
    out[start] = at - start - 1
    return at


@njit(cache=True, inline="always")
def rank_of(argument, n):
    """Rank, from 0, of the value that the share behind `argument` asks for among n."""
    return min(np.int64(np.int64(argument).view(np.float64) * float(n - 1)), n - 1)


@njit(cache=True)
def quantile(area, base, argument, out_floats, at):
    """Write the quantile whose share is the float behind `argument`; returns its status."""
    n = area[base]
    if n == 0:
        return EMPTY
    ring = OCTAVES << area[base + 1]
    rank = rank_of(argument, n)
    out_floats[at] = 0.0
    for magnitude in range(area[base + BOUNDS + 1], area[base + BOUNDS] - 1, -1):
        rank -= area[base + COUNTS + (magnitude & (ring - 1))]
        if rank < 0:
            out_floats[at] = value_of_bucket(-magnitude, area[base + 1])
            return PRESENT
    rank -= area[base + ZEROS]
    if rank < 0:
        return PRESENT
    for magnitude in range(area[base + BOUNDS + 2], area[base + BOUNDS + 3] + 1):
        rank -= area[base + COUNTS + ring + (magnitude & (ring - 1))]
        if rank < 0:
            out_floats[at] = value_of_bucket(magnitude, area[base + 1])
            return PRESENT
    return PRESENT
