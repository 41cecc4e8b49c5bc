"""Bounded lists compiled: the k first, last, smallest or largest values, best first.

Area: `[n, k, held, entries]`. An entry of the first and last is `[event_time, major, minor, value]`, of the smallest and largest its
sortable value. A wide value is a reference as `wide.py` has it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra.kinds import FIRST_K, INT, LAST_K, SMALLEST_K, WIDE, sortable
from twofold.algebra.wide import copy_wide, is_less, referenced_words, wide_words

HELD, ENTRIES = 2, 3


@njit(cache=True, inline="always")
def is_list(kind):
    """Whether a kind of state is a bounded list."""
    return FIRST_K <= kind <= LAST_K or SMALLEST_K <= kind <= SMALLEST_K + 1


@njit(cache=True, inline="always")
def entry_size(kind):
    """Words of an entry."""
    return 4 if kind <= LAST_K else 1


@njit(cache=True)
def insert(area, base, kind, value_kind, time, major, minor, word, words, heap):
    """Put a value where it belongs, if it is among the k best; `word` is sortable where values are ordered. n is the caller's."""
    size, held = entry_size(kind), area[base + HELD]
    place = held
    while place > 0 and _goes_before(kind, value_kind, time, major, minor, word, area, base + ENTRIES + (place - 1) * size, words, heap):
        place -= 1
    if place == area[base + 1]:
        return
    held = min(held + 1, area[base + 1])
    for at in range(base + ENTRIES + held * size - 1, base + ENTRIES + (place + 1) * size - 1, -1):
        area[at] = area[at - size]
    at = base + ENTRIES + place * size
    if size == 4:
        area[at], area[at + 1], area[at + 2], area[at + 3] = time, major, minor, word
    else:
        area[at] = word
    area[base + HELD] = held


@njit(cache=True)
def _goes_before(kind, value_kind, time, major, minor, word, area, at, words, heap):
    """Whether a value is better than the entry at area[at]."""
    if kind > LAST_K:
        if value_kind == WIDE:
            return is_less(word, area[at], words, heap) if kind == SMALLEST_K else is_less(area[at], word, words, heap)
        return word < area[at] if kind == SMALLEST_K else word > area[at]
    if time != area[at]:
        return (time < area[at]) == (kind == FIRST_K)
    if major != area[at + 1]:
        return (major < area[at + 1]) == (kind == FIRST_K)
    return (minor < area[at + 2]) == (kind == FIRST_K)


@njit(cache=True)
def merge(area, base, other, other_base, kind, value_kind, words, heap):
    """Insert the entries of another area."""
    size = entry_size(kind)
    for i in range(other[other_base + HELD]):
        at = other_base + ENTRIES + i * size
        if size == 4:
            insert(area, base, kind, value_kind, other[at], other[at + 1], other[at + 2], other[at + 3], words, heap)
        else:
            insert(area, base, kind, value_kind, np.int64(0), np.int64(0), np.int64(0), other[at], words, heap)


@njit(cache=True)
def merge_words(area, base, kind, value_kind, words, at, heap):
    """Insert the entries of a closed state whose words after n begin at `at`; returns where the next state begins."""
    held = words[at]
    at += 1
    for _ in range(held):
        time, major, minor = 0, 0, 0
        if kind <= LAST_K:
            time, major, minor = words[at], words[at + 1], words[at + 2]
            at += 3
        if value_kind == WIDE:
            insert(area, base, kind, value_kind, time, major, minor, at, words, heap)
            at += wide_words(words, at)
        else:
            insert(area, base, kind, value_kind, time, major, minor, _as_held(words[at], kind, value_kind), words, heap)
            at += 1
    return at


@njit(cache=True)
def closed_size(area, base, kind, value_kind, words, heap):
    """Words that `close` writes."""
    size, held = entry_size(kind), area[base + HELD]
    total = 1 + held * size
    if value_kind == WIDE:
        for i in range(held):
            total += referenced_words(area[base + ENTRIES + (i + 1) * size - 1], words, heap) - 1
    return total


@njit(cache=True)
def close(area, base, kind, value_kind, out, at, words, heap):
    """Write the entries, after n; returns where the next state begins."""
    size, held = entry_size(kind), area[base + HELD]
    out[at] = held
    at += 1
    for i in range(held):
        entry = base + ENTRIES + i * size
        if size == 4:
            out[at], out[at + 1], out[at + 2] = area[entry], area[entry + 1], area[entry + 2]
            at += 3
        word = area[entry + size - 1]
        if value_kind == WIDE:
            at = copy_wide(word, words, heap, out, at)
        else:
            out[at] = _as_held(word, kind, value_kind)
            at += 1
    return at


@njit(cache=True)
def result(area, base, kind, value_kind, out, at, stride):
    """Write how many values there are, then their words."""
    size, held = entry_size(kind), area[base + HELD]
    out[at] = held
    for i in range(held):
        out[at + (i + 1) * stride] = _as_held(area[base + ENTRIES + (i + 1) * size - 1], kind, value_kind)


@njit(cache=True, inline="always")
def _as_held(word, kind, value_kind):
    """A value's word as an entry has it, or back."""
    return sortable(word, value_kind if kind > LAST_K else INT)
