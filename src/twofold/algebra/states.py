"""States compiled: areas (open states in an int64 array) and words (closed states in a blob), one dispatch for all kinds.

Area of a kind: count `[n]`; min and max `[n, sortable value]`; newest `[n, event_time]`; last and first `[n, event_time, major, minor,
value]`; the others as their modules have them, the size of those that have one as the second word, which stays. A value is a word; a
*wide* value (text, row) is a reference as `wide.py` has it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra import buckets, decaying, listing, powers, registers, value_sets
from twofold.algebra.hashing import hash_wide, hash_word
from twofold.algebra.kinds import (
    COUNT,
    DECAYED,
    EARLIEST,
    EMPTY,
    HISTOGRAM,
    INT,
    LAST,
    LAST_K,
    MAX,
    MIN,
    NEWEST,
    OP_BIN,
    OP_COUNT,
    OP_DECAYED_MEAN,
    OP_DECAYED_SUM,
    OP_DISTINCT,
    OP_DISTINCT_EXACT,
    OP_LIST,
    OP_QUANTILE,
    OP_RATE,
    OP_SINCE,
    OP_VALUE,
    OVERFLOW,
    PRESENT,
    REGISTERS,
    SKETCH,
    VALUES,
    WIDE,
    sortable,
)
from twofold.algebra.listing import is_list
from twofold.algebra.powers import is_powers
from twofold.algebra.wide import copy_wide, is_less, referenced_words, wide_words
from twofold.instants import US_PER_SECOND

_AREA_SIZES = {**powers.AREA_SIZES, DECAYED: decaying.AREA_SIZE, COUNT: 1, MIN: 2, MAX: 2, LAST: 5, EARLIEST: 5, NEWEST: 2}


def area_size(kind: int, size: int) -> int:
    """Words of an area of a kind, whose own size is `size` where it has one."""
    if kind in _AREA_SIZES:
        return _AREA_SIZES[kind]
    if kind == HISTOGRAM:
        return buckets.BINS + size
    if kind == SKETCH:
        return buckets.sketch_size(size)
    if kind == REGISTERS:
        return registers.area_size(size)
    if kind == VALUES:
        return value_sets.area_size(size)
    return listing.ENTRIES + size * (4 if kind <= LAST_K else 1)


@njit(cache=True)
def prepare(area, kinds, bases, sizes):
    """Make fresh areas the zero of their kinds."""
    for slot in range(kinds.size):
        base = bases[slot]
        area[base] = 0
        if sizes[slot]:
            area[base + 1] = sizes[slot]
        if kinds[slot] == SKETCH:
            buckets.prepare_sketch(area, base)
        elif kinds[slot] == DECAYED:
            decaying.prepare(area, base)
        elif is_powers(kinds[slot]):
            powers.prepare(area, base, kinds[slot])


@njit(cache=True)
def clear(area, base, kind):
    """Make one area zero again."""
    area[base] = 0
    if is_powers(kind):
        powers.clear(area, base, kind)
    elif kind == DECAYED:
        decaying.clear(area, base)
    elif is_list(kind):
        area[base + listing.HELD] = 0
    elif kind == REGISTERS:
        registers.clear(area, base)
    elif kind == VALUES:
        area[base + value_sets.HELD] = 0
    elif kind == HISTOGRAM:
        buckets.clear_histogram(area, base)
    elif kind == SKETCH:
        buckets.clear_sketch(area, base)


@njit(cache=True)
def add(area, base, kind, value_kind, time, major, minor, word, sign):
    """Add an event (sign 1) or take one away (sign -1: what is a group); the words of min and max order as integers or floats."""
    if kind == HISTOGRAM:
        buckets.add_bin(area, base, word, sign)
        return
    area[base] += sign
    if is_powers(kind):
        powers.add(area, base, kind, value_kind, word, sign)
    elif kind == DECAYED:
        decaying.add(area, base, value_kind, time, word, sign)
    elif _is_extreme(kind):
        key = time if kind == NEWEST else sortable(word, value_kind)
        if area[base] == 1 or (key < area[base + 1]) == (kind == MIN):
            area[base + 1] = key
    elif _is_ordered(kind) and (area[base] == 1 or _is_later(time, major, minor, area, base) == (kind == LAST)):
        area[base + 1], area[base + 2], area[base + 3], area[base + 4] = time, major, minor, word
    elif is_list(kind):
        held = sortable(word, value_kind) if kind > LAST_K else word
        listing.insert(area, base, kind, np.int64(INT), time, major, minor, held, area, area)
    elif kind == REGISTERS:
        registers.insert(area, base, word if value_kind == WIDE else hash_word(word, value_kind))
    elif kind == VALUES:
        value_sets.insert(area, base, np.int64(INT), sortable(word, value_kind), area, area)
    elif kind == SKETCH:
        buckets.add_bucket(area, base, buckets.bucket_of(word, value_kind, area[base + 1]), 1)


@njit(cache=True, inline="always")
def add_event(area, base, kind, value_kind, time, major, minor, word, words, heap):
    """Add an event to a state of any kind; `words` and `heap` are what a reference points into."""
    if _is_wide_extreme(kind, value_kind):
        area[base] += 1
        if area[base] == 1 or is_less(word, area[base + 1], words, heap) == (kind == MIN):
            area[base + 1] = word
    elif value_kind == WIDE and is_list(kind):
        area[base] += 1
        listing.insert(area, base, kind, value_kind, time, major, minor, word, words, heap)
    elif value_kind == WIDE and kind == REGISTERS:
        area[base] += 1
        registers.insert(area, base, hash_wide(words, word) if word >= 0 else hash_wide(heap, ~word))
    elif value_kind == WIDE and kind == VALUES:
        area[base] += 1
        value_sets.insert(area, base, value_kind, word, words, heap)
    else:
        add(area, base, kind, value_kind, time, major, minor, word, np.int64(1))


@njit(cache=True, inline="always")
def _is_wide_extreme(kind, value_kind):
    return value_kind == WIDE and (kind == MIN or kind == MAX)


@njit(cache=True, inline="always")
def _is_extreme(kind):
    return kind == MIN or kind == MAX or kind == NEWEST


@njit(cache=True, inline="always")
def _is_ordered(kind):
    return kind == LAST or kind == EARLIEST


@njit(cache=True, inline="always")
def _is_later(time, major, minor, area, base):
    if time != area[base + 1]:
        return time > area[base + 1]
    if major != area[base + 2]:
        return major > area[base + 2]
    return minor > area[base + 3]


@njit(cache=True)
def merge_areas(area, base, other, other_base, kind, value_kind, words, heap):
    """Merge another area into this one; the other stays as it is."""
    n = other[other_base]
    if n == 0:
        return
    if is_powers(kind):
        powers.merge(area, base, other, other_base, kind)
    elif kind == DECAYED:
        decaying.merge(area, base, other, other_base)
    elif _is_wide_extreme(kind, value_kind):
        reference = other[other_base + 1]
        if area[base] == 0 or is_less(reference, area[base + 1], words, heap) == (kind == MIN):
            area[base + 1] = reference
    elif _is_extreme(kind):
        key = other[other_base + 1]
        if area[base] == 0 or (key < area[base + 1]) == (kind == MIN):
            area[base + 1] = key
    elif _is_ordered(kind) and (
        area[base] == 0 or _is_later(other[other_base + 1], other[other_base + 2], other[other_base + 3], area, base) == (kind == LAST)
    ):
        area[base + 1 : base + 5] = other[other_base + 1 : other_base + 5]
    elif is_list(kind):
        listing.merge(area, base, other, other_base, kind, value_kind, words, heap)
    elif kind == REGISTERS:
        registers.merge(area, base, other, other_base)
    elif kind == VALUES:
        value_sets.merge(area, base, other, other_base, value_kind, words, heap)
    elif kind == HISTOGRAM:
        buckets.merge_histogram(area, base, other, other_base)
    elif kind == SKETCH:
        buckets.merge_sketch(area, base, other, other_base)
    area[base] += n


@njit(cache=True)
def merge_words(area, base, kind, value_kind, words, at, heap):
    """Merge the closed state at words[at] into an area; returns where the next state begins."""
    n = words[at]
    at += 1
    if is_powers(kind):
        at = powers.merge_words(area, base, kind, words, at)
    elif kind == DECAYED:
        at = decaying.merge_words(area, base, n, words, at)
    elif _is_wide_extreme(kind, value_kind):
        if n:
            if area[base] == 0 or is_less(at, area[base + 1], words, heap) == (kind == MIN):
                area[base + 1] = at
            at += wide_words(words, at)
    elif _is_extreme(kind):
        key = words[at] if kind == NEWEST else sortable(words[at], value_kind)
        if n and (area[base] == 0 or (key < area[base + 1]) == (kind == MIN)):
            area[base + 1] = key
        at += 1
    elif _is_ordered(kind) and n:
        if area[base] == 0 or _is_later(words[at], words[at + 1], words[at + 2], area, base) == (kind == LAST):
            area[base + 1], area[base + 2], area[base + 3] = words[at], words[at + 1], words[at + 2]
            area[base + 4] = at + 3 if value_kind == WIDE else words[at + 3]
        at += 3 + (wide_words(words, at + 3) if value_kind == WIDE else 1)
    elif is_list(kind):
        at = listing.merge_words(area, base, kind, value_kind, words, at, heap)
    elif kind == REGISTERS:
        at = registers.merge_words(area, base, words, at)
    elif kind == VALUES:
        at = value_sets.merge_words(area, base, value_kind, words, at, heap)
    elif kind == HISTOGRAM:
        at = buckets.merge_histogram_words(area, base, words, at)
    elif kind == SKETCH:
        at = buckets.merge_sketch_words(area, base, words, at)
    area[base] += n
    return at


@njit(cache=True)
def merge_run(area, base, kind, value_kind, words, starts, first, last):
    """Merge the closed states at words[starts[i]], i from first to last, into an area; moves each start to the next state."""
    if is_powers(kind):
        powers.merge_run(area, base, kind, words, starts, first, last)
    elif _is_extreme(kind) and value_kind != WIDE:
        n, best = area[base], area[base + 1]
        for i in range(first, last):
            at = starts[i]
            key = words[at + 1] if kind == NEWEST else sortable(words[at + 1], value_kind)
            if words[at] and (n == 0 or (key < best) == (kind == MIN)):
                best = key
            n += words[at]
            starts[i] = at + 2
        area[base], area[base + 1] = n, best
    else:
        for i in range(first, last):
            starts[i] = merge_words(area, base, kind, value_kind, words, starts[i], words)


@njit(cache=True)
def closed_size(area, base, kind, value_kind, words, heap):
    """An upper bound of the words that `close` will write."""
    if is_powers(kind):
        return 1 + powers.closed_size(area, base, kind)
    if kind == DECAYED:
        return 1 + decaying.closed_size(area, base)
    if area[base] and _is_wide_extreme(kind, value_kind):
        return 1 + referenced_words(area[base + 1], words, heap)
    if area[base] and _is_ordered(kind) and value_kind == WIDE:
        return 4 + referenced_words(area[base + 4], words, heap)
    if is_list(kind):
        return 1 + listing.closed_size(area, base, kind, value_kind, words, heap)
    if kind == REGISTERS:
        return 1 + registers.closed_size(area, base)
    if kind == VALUES:
        return 1 + value_sets.closed_size(area, base, value_kind, words, heap)
    if kind == HISTOGRAM:
        return 2 + area[base + 1]
    if kind == SKETCH:
        return 1 + buckets.sketch_closed_size(area, base)
    return 5


@njit(cache=True)
def close(area, base, kind, value_kind, out, at, words, heap):
    """Write an area as canonical words to out[at]; returns where the next state begins."""
    out[at] = area[base]
    at += 1
    if is_powers(kind):
        at = powers.close(area, base, kind, out, at)
    elif kind == DECAYED:
        at = decaying.close(area, base, out, at)
    elif _is_wide_extreme(kind, value_kind):
        if area[base]:
            at = copy_wide(area[base + 1], words, heap, out, at)
    elif _is_extreme(kind):
        key = area[base + 1] if area[base] else 0
        out[at] = key if kind == NEWEST else sortable(key, value_kind)
        at += 1
    elif _is_ordered(kind) and area[base]:
        out[at], out[at + 1], out[at + 2] = area[base + 1], area[base + 2], area[base + 3]
        at += 3
        if value_kind == WIDE:
            at = copy_wide(area[base + 4], words, heap, out, at)
        else:
            out[at] = area[base + 4]
            at += 1
    elif is_list(kind):
        at = listing.close(area, base, kind, value_kind, out, at, words, heap)
    elif kind == REGISTERS:
        at = registers.close(area, base, out, at)
    elif kind == VALUES:
        at = value_sets.close(area, base, value_kind, out, at, words, heap)
    elif kind == HISTOGRAM:
        at = buckets.close_histogram(area, base, out, at)
    elif kind == SKETCH:
        at = buckets.close_sketch(area, base, out, at)
    return at


@njit(cache=True)
def result(area, base, kind, value_kind, op, argument, t, width, out, out_floats, at, stride):
    """Write a feature's word at t to out[at] (floats to the same memory through out_floats); returns its status.

    `width` is that of the window (-1: all time). A list is a count, then its words, each `stride` after the one before. A null is the
    word 0 with the status EMPTY or OVERFLOW; an aggregate of `ZERO_IF_EMPTY` is 0 and EMPTY too.
    """
    n = area[base]
    out[at] = 0
    if op == OP_COUNT:
        out[at] = n
        return PRESENT if n else EMPTY
    if n == 0:
        return EMPTY
    if op == OP_RATE:
        out_floats[at] = float(n) / (width / US_PER_SECOND)
        return PRESENT
    if op == OP_SINCE:
        out_floats[at] = float(t - area[base + 1]) / US_PER_SECOND
        return PRESENT
    if op == OP_VALUE:
        out[at] = sortable(area[base + 1], value_kind) if kind == MIN or kind == MAX else area[base + 4]
        return PRESENT
    if op == OP_LIST:
        listing.result(area, base, kind, value_kind, out, at, stride)
        return PRESENT
    if op == OP_DISTINCT:
        out[at] = registers.estimate(area, base)
        return PRESENT
    if op == OP_DISTINCT_EXACT:
        out[at] = max(area[base + value_sets.HELD], 0)
        return OVERFLOW if area[base + value_sets.HELD] == value_sets.OVERFLOWN else PRESENT
    if op == OP_BIN:
        out[at] = area[base + buckets.BINS + argument]
        return PRESENT
    if op == OP_QUANTILE:
        return buckets.quantile(area, base, argument, out_floats, at)
    if op == OP_DECAYED_SUM:
        return decaying.total_at(area, base, t, out_floats, at)
    if op == OP_DECAYED_MEAN:
        return decaying.mean(area, base, out_floats, at)
    return powers.result(area, base, value_kind, op, n, out, out_floats, at)
