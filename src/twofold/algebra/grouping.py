"""Rows brought together by key, compiled: numbers of keys, order by group through counting, values in that order."""

from __future__ import annotations

import numpy as np
from numba import njit

_EMPTY = -1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def numbered(keys):
    """A table that tells the number of each of these distinct integers, which is its place among them; for `numbers_of`."""
    bits = 4
    while 1 << bits < 2 * keys.size:
        bits += 1
    table = np.full((1 << bits, 2), _EMPTY, np.int64)
    for number in range(keys.size):
        at = _place(keys[number], bits)
        while table[at, 1] != _EMPTY:
            at = (at + 1) & ((1 << bits) - 1)
        table[at, 0], table[at, 1] = keys[number], number
    return table


@njit(cache=True, inline="always")
def _place(key, bits):
    return np.int64((np.uint64(key) * _GOLDEN) >> np.uint64(64 - bits))


@njit(cache=True, nogil=True)
def numbers_of(table, keys, out):
    """Write the number of each key, -1 of one that the table has not."""
    bits = 0
    while 1 << bits < table.shape[0]:
        bits += 1
    for i in range(keys.size):
        at = _place(keys[i], bits)
        while table[at, 1] != _EMPTY and table[at, 0] != keys[i]:
            at = (at + 1) & (table.shape[0] - 1)
        out[i] = table[at, 1]


@njit(cache=True, nogil=True)
def gather(values, order, out):
    """Write `values[order]`."""
    for i in range(order.size):
        out[i] = values[order[i]]


@njit(cache=True)
def is_ordered(first, second, third):
    """Whether rows lie in order of three columns."""
    for i in range(1, first.size):
        if first[i] != first[i - 1]:
            if first[i] < first[i - 1]:
                return False
        elif second[i] != second[i - 1]:
            if second[i] < second[i - 1]:
                return False
        elif third[i] < third[i - 1]:
            return False
    return True


@njit(cache=True)
def group_order(groups, count):
    """(numbers of the rows by group, each group in the rows' order; starts of the groups) by counting; rows of group -1 are left out."""
    starts = np.zeros(count + 1, np.int64)
    for group in groups:
        if group >= 0:
            starts[group + 1] += 1
    for group in range(count):
        starts[group + 1] += starts[group]
    order = np.empty(starts[count], np.int64)
    place = starts[:-1].copy()
    for row in range(groups.size):
        group = groups[row]
        if group >= 0:
            order[place[group]] = row
            place[group] += 1
    return order, starts
