"""Places of values within their groups, and an ordered multiset of places: what sliding windows over order statistics stand on.

The multiset is one int32 array: the count of each code, above them the sums of 16 neighbours each, up to a single total. So insert and
remove change one number a level, and the k-th is found by walking down:

    total          [ 5 ]
    sums of 16     [ 3, 0, 2 ]
    counts         [ 0, 1, 2, ... | 0, ... | 2, 0, ... ]
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra.kinds import sortable

_BITS = 4


@njit(cache=True, nogil=True)
def places_within(starts, words, ranks, value_kind):
    """(place of each event's value, word at each place) for events by group: group g's are `starts[g]..starts[g+1]`.

    A place is `starts[g]` + how many smaller distinct values the group has; the place of a null is -1. `ranks` are those of `Events`.
    The words of floats (`value_kind` FLOAT) are ordered as floats, others as integers.
    """
    places, at_place = np.full(words.size, -1, np.int64), np.zeros(words.size, np.int64)
    for g in range(starts.size - 1):
        held = np.empty(starts[g + 1] - starts[g], np.int64)
        keys = np.empty(held.size, np.int64)
        count = 0
        for i in range(starts[g], starts[g + 1]):
            if ranks.size == 0 or ranks[i] < ranks[i + 1]:
                held[count], keys[count] = i, sortable(words[i], value_kind)
                count += 1
        order = np.argsort(keys[:count])
        place = starts[g] - 1
        for n in range(count):
            key = keys[order[n]]
            if n == 0 or key != keys[order[n - 1]]:
                place += 1
                at_place[place] = sortable(key, value_kind)
            places[held[order[n]]] = place
    return places, at_place


@njit(cache=True)
def new_multiset(codes):
    """(counts of an empty multiset of codes below `codes`, where each level begins in them); every call below takes both first."""
    begins = np.zeros(levels_of(codes) + 2, np.int64)
    size = codes
    for level in range(begins.size - 1):
        begins[level + 1] = begins[level] + (size + 15) // 16 * 16
        size = (size + 15) // 16
    return np.zeros(begins[-1], np.int32), begins


@njit(cache=True)
def levels_of(codes):
    """How many levels there are above the counts of codes below `codes`; for a group of few codes fewer than the multiset has."""
    levels = 0
    while codes > 1 << (_BITS * levels):
        levels += 1
    return levels


@njit(cache=True, inline="always")
def change(counts, begins, levels, code, by):
    """Insert a code `by` times, or remove it -`by` times."""
    for level in range(levels + 1):
        counts[begins[level] + (code >> (_BITS * level))] += by


@njit(cache=True, inline="always")
def total(counts, begins, levels):
    """How many codes there are, equal ones each."""
    return counts[begins[levels]]


@njit(cache=True, inline="always")
def count_of(counts, begins, code):
    """How often a code is there."""
    return counts[begins[0] + code]


@njit(cache=True)
def kth(counts, begins, levels, k):
    """The code that k others precede in order, equal ones each; 0 <= k < total."""
    node = 0
    for level in range(levels - 1, -1, -1):
        node <<= _BITS
        while counts[begins[level] + node] <= k:
            k -= counts[begins[level] + node]
            node += 1
    return node


@njit(cache=True)
def next_code(counts, begins, levels, code):
    """The smallest code from `code` on that is there; -1 where none is."""
    node, level = code, 0
    while True:
        if node >> (_BITS * (levels - level)):
            return -1
        until = (node | 15) + 1 if level < levels else 1
        while node < until and counts[begins[level] + node] == 0:
            node += 1
        if node < until:
            break
        if level == levels:
            return -1
        node, level = node >> _BITS, level + 1
    while level:
        node, level = node << _BITS, level - 1
        while counts[begins[level] + node] == 0:
            node += 1
    return node
