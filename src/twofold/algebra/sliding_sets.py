"""What a window holds as it slides, for the states of sets: how often each code is there, events entering and leaving one by one.

Codes of registers are a register and a rank; codes of distinct values and of the smallest and largest are places within the group (see
`sliding_ranks.places_within`), counted from one end of what the group's windows hold. `show` brings an area to what results need.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twofold.algebra import listing, registers, sliding_ranks, value_sets
from twofold.algebra.distinct import RANK_BITS
from twofold.algebra.hashing import hash_word
from twofold.algebra.kinds import LARGEST_K, REGISTERS, SMALLEST_K, VALUES, WIDE


class Held(NamedTuple):
    """A multiset of codes as `sliding_ranks` has it, of which this group needs `levels`; its code of a place is |place - anchor|."""

    counts: NDArray[np.int32]
    begins: NDArray[np.int64]
    levels: int
    anchor: int


@njit(cache=True, inline="always")
def is_set(kind):
    """Whether a kind of state slides by what its window holds."""
    return kind == REGISTERS or kind == VALUES or kind == SMALLEST_K or kind == LARGEST_K


@njit(cache=True)
def new_held(kind, area, places, rows):
    """Room for the largest group, empty; after a group it is empty again."""
    codes = 1 << (area[1] + RANK_BITS) if kind == REGISTERS else 1
    if kind != REGISTERS:
        for g in range(rows.starts.size - 1):
            if rows.starts[g] < rows.starts[g + 1]:
                least, most = _ends(places, rows.low[rows.starts[g]], rows.high[rows.starts[g + 1] - 1])
                codes = max(codes, most - least + 1)
    counts, begins = sliding_ranks.new_multiset(codes)
    return Held(counts, begins, 0, 0)


@njit(cache=True)
def of_group(held, kind, places, low, high):
    """The same room for the group whose windows hold the events low..high."""
    if kind == REGISTERS:
        return held
    least, most = _ends(places, low, high)
    return Held(held.counts, held.begins, sliding_ranks.levels_of(most - least + 1), most if kind == LARGEST_K else least)


@njit(cache=True)
def _ends(places, low, high):
    """(least, greatest) place of the events low..high, nulls passed over; (0, 0) of none."""
    least, most = np.int64(-1), np.int64(-1)
    for i in range(low, high):
        if places[i] >= 0:
            least = places[i] if least < 0 else min(least, places[i])
            most = max(most, places[i])
    return (least, most) if most >= 0 else (np.int64(0), np.int64(0))


@njit(cache=True, inline="always")
def change(held, area, kind, value_kind, word, by):
    """Let an event enter (`by` 1) or leave (-1)."""
    if kind == REGISTERS:
        _change_register(held, area, word if value_kind == WIDE else hash_word(word, value_kind), by)
    elif kind == VALUES:
        code = word - held.anchor
        held.counts[code] += by
        # The area's first entry, which results do not read, says how many distinct values there are.
        if held.counts[code] == (1 if by > 0 else 0):
            area[value_sets.ENTRIES] += by
    else:
        sliding_ranks.change(held.counts, held.begins, held.levels, abs(word - held.anchor), by)
    area[0] += by


@njit(cache=True)
def _change_register(held, area, hashed, by):
    register, rank = registers.register_and_rank(hashed, area[1])
    row = register << RANK_BITS
    held.counts[row + rank] += by
    before = area[registers.RANKS + register]
    after = before
    if by > 0:
        after = max(before, rank)
    elif rank == before:
        while after > 0 and held.counts[row + after] == 0:
            after -= 1
    if after == before:
        return
    area[registers.RANKS + register] = after
    area[registers.HELD] += int(before == 0) - int(after == 0)
    area[registers.COUNTS + before] -= before > 0
    area[registers.COUNTS + after] += after > 0


@njit(cache=True)
def show(held, area, kind):
    """Write into the area what results read, beside n and what `change` keeps there."""
    if kind == VALUES:
        distinct = area[value_sets.ENTRIES]
        area[value_sets.HELD] = distinct if distinct <= area[value_sets.AT_MOST] else value_sets.OVERFLOWN
    elif kind != REGISTERS:
        wanted, entry, code = min(area[1], area[0]), 0, 0
        while entry < wanted:
            code = sliding_ranks.next_code(held.counts, held.begins, held.levels, code)
            place = held.anchor - code if kind == LARGEST_K else held.anchor + code
            for _ in range(min(sliding_ranks.count_of(held.counts, held.begins, code), wanted - entry)):
                area[listing.ENTRIES + entry] = place
                entry += 1
            code += 1
        area[listing.HELD] = wanted
