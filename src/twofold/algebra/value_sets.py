"""Bounded sets of distinct values compiled: what `distinct.DistinctExact` says, on areas and words.

Area: `[n, at_most, held, entries, room]`: how many distinct values there are (-1: more than may be), their sortable words in order, and
room to merge two sets in. A wide value is a reference as `wide.py` has it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra.kinds import WIDE, sortable
from twofold.algebra.wide import copy_wide, is_less, referenced_words, wide_words

AT_MOST, HELD, ENTRIES = 1, 2, 3
OVERFLOWN = -1
_FEW = 8
"""A set so many times smaller than another is inserted value by value sooner than both are merged."""


def area_size(at_most: int) -> int:
    """Words of an area of at most so many values."""
    return ENTRIES + 2 * at_most


@njit(cache=True, inline="always")
def _precedes(left, right, value_kind, words, heap):
    return is_less(left, right, words, heap) if value_kind == WIDE else left < right


@njit(cache=True)
def insert(area, base, value_kind, word, words, heap):
    """Put a value where it belongs, unless it is there; `word` is sortable. n is the caller's."""
    held, entries = area[base + HELD], base + ENTRIES
    if held == OVERFLOWN:
        return
    low, high = 0, held
    while low < high:
        middle = (low + high) // 2
        if _precedes(area[entries + middle], word, value_kind, words, heap):
            low = middle + 1
        else:
            high = middle
    if low < held and not _precedes(word, area[entries + low], value_kind, words, heap):
        return
    if held == area[base + AT_MOST]:
        area[base + HELD] = OVERFLOWN
        return
    for at in range(entries + held, entries + low, -1):
        area[at] = area[at - 1]
    area[entries + low] = word
    area[base + HELD] = held + 1


@njit(cache=True)
def merge(area, base, other, other_base, value_kind, words, heap):
    """Insert the values of another area."""
    held, entries = other[other_base + HELD], other_base + ENTRIES
    if held == OVERFLOWN:
        area[base + HELD] = OVERFLOWN
    else:
        _unite(area, base, other[entries : entries + held], value_kind, words, heap)


@njit(cache=True)
def merge_words(area, base, value_kind, words, at, heap):
    """Insert the values of a closed state whose words after n begin at `at`; returns where the next state begins."""
    held = words[at]
    at += 1
    if held == OVERFLOWN:
        area[base + HELD] = OVERFLOWN
        return at
    incoming = np.empty(held, np.int64)
    for i in range(held):
        incoming[i] = at if value_kind == WIDE else sortable(words[at], value_kind)
        at += wide_words(words, at) if value_kind == WIDE else 1
    _unite(area, base, incoming, value_kind, words, heap)
    return at


@njit(cache=True)
def _unite(area, base, incoming, value_kind, words, heap):
    """Insert values that are in order and distinct."""
    held, entries = area[base + HELD], base + ENTRIES
    if held == OVERFLOWN:
        return
    if incoming.size * _FEW < held:
        for word in incoming:
            insert(area, base, value_kind, word, words, heap)
        return
    # What is there moves to the end of the room: writing from the front never reaches what is still to be read.
    end = entries + 2 * area[base + AT_MOST]
    mine, other, out = end - held, 0, entries
    for i in range(held - 1, -1, -1):
        area[mine + i] = area[entries + i]
    while mine < end or other < incoming.size:
        if out == entries + area[base + AT_MOST]:
            area[base + HELD] = OVERFLOWN
            return
        if other == incoming.size:
            is_mine, is_other = True, False
        elif mine == end:
            is_mine, is_other = False, True
        else:
            is_mine = not _precedes(incoming[other], area[mine], value_kind, words, heap)
            is_other = not _precedes(area[mine], incoming[other], value_kind, words, heap)
        area[out] = area[mine] if is_mine else incoming[other]
        out, mine, other = out + 1, mine + is_mine, other + is_other
    area[base + HELD] = out - entries


@njit(cache=True)
def closed_size(area, base, value_kind, words, heap):
    """Words that `close` writes."""
    total = 1 + max(area[base + HELD], 0)
    if value_kind == WIDE:
        for i in range(area[base + HELD]):
            total += referenced_words(area[base + ENTRIES + i], words, heap) - 1
    return total


@njit(cache=True)
def close(area, base, value_kind, out, at, words, heap):
    """Write the values, after n; returns where the next state begins."""
    out[at] = area[base + HELD]
    at += 1
    for i in range(area[base + HELD]):
        word = area[base + ENTRIES + i]
        if value_kind == WIDE:
            at = copy_wide(word, words, heap, out, at)
        else:
            out[at] = sortable(word, value_kind)
            at += 1
    return at
