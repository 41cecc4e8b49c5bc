"""Reading features out of a key's blobs: generation and deltas merged, every window of every feature in one pass."""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra import programme, states
from twofold.algebra.states import WIDE
from twofold.algebra.tiles import BASE, EVENT, FOLDED_MAX, HEADER, MAJOR, MINOR, RAW, TILES, TIME, VALID
from twofold.algebra.wide import wide_words
from twofold.algebra.windows import SLACK_US
from twofold.instants import BEGIN_US


@njit(cache=True)
def read(words, part_starts, t, p, areas, out, out_floats, out_status):
    """Write every feature at t; returns whether the answer is exact (else it is to be called `ahead`).

    `words[part_starts[i]:part_starts[i+1]]` is blob i, perhaps empty. `areas` are windows + 1 rows of `programme.new_areas`. `out`
    receives words (`out_floats` is the same memory); those of wide values are references into `words`.
    """
    tails, order = _tails(t, p)
    touched = np.zeros(tails.size, np.bool_)
    is_exact = True
    for part in range(part_starts.size - 1):
        if part_starts[part] < part_starts[part + 1]:
            is_exact = _spread(words, part_starts[part], t, tails, order, p, areas, touched) and is_exact
    kinds, value_kinds, _, bases = programme.slots_of(p)
    widths, _ = programme.windows_of(p)
    feature_slots, feature_windows, operations = programme.features_of(p)
    total = areas[tails.size]
    for place in range(tails.size):
        if touched[place]:
            for slot in range(kinds.size):
                states.merge_areas(total, bases[slot], areas[place], bases[slot], kinds[slot], value_kinds[slot], words, words)
                states.clear(areas[place], bases[slot], kinds[slot])
        for feature in range(feature_slots.size):
            if feature_windows[feature] == order[place]:
                slot, op, width = feature_slots[feature], operations[feature], widths[order[place]]
                out_status[feature] = states.result(
                    total, bases[slot], kinds[slot], value_kinds[slot], op, t, width, out, out_floats, feature
                )
    for slot in range(kinds.size):
        states.clear(total, bases[slot], kinds[slot])
    return is_exact


@njit(cache=True)
def _tails(t, p):
    """(tail of each window, the windows in order of tail, latest first)."""
    widths, hops = programme.windows_of(p)
    tails, order = np.empty(widths.size, np.int64), np.empty(widths.size, np.int64)
    for w in range(widths.size):
        tails[w] = (t - widths[w]) - (t - widths[w]) % hops[w] if widths[w] >= 0 else BEGIN_US
        at = w
        while at > 0 and tails[order[at - 1]] < tails[w]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = w
    return tails, order


@njit(cache=True)
def _spread(words, at, t, tails, order, p, areas, touched):
    """Add each tile and raw event of the blob at words[at] to the window of latest tail that holds it; returns whether that is exact."""
    kinds, value_kinds, inputs, bases = programme.slots_of(p)
    in_kinds = programme.input_kinds_of(p)
    is_exact = t > words[at + FOLDED_MAX] and (p[programme.LEVELS] == 0 or t >= words[at + BASE] - SLACK_US)
    tiles, raw = words[at + TILES], words[at + RAW]
    at += HEADER
    for _ in range(tiles):
        bucket = _bucket(words[at], tails, order)
        if bucket >= 0:
            state = at + 2
            for slot in range(kinds.size):
                state = states.merge_words(areas[bucket], bases[slot], kinds[slot], value_kinds[slot], words, state, words)
            touched[bucket] = True
        at += words[at + 1] >> 8
    for _ in range(raw):
        bucket = _bucket(words[at], tails, order) if words[at] < t else -1
        if bucket >= 0:
            touched[bucket] = True
            _add_raw(words, at, areas[bucket], kinds, value_kinds, inputs, bases, in_kinds)
        at += EVENT
        for i in range(in_kinds.size):
            at += wide_words(words, at) if in_kinds[i] == WIDE else 1
    return is_exact


@njit(cache=True, inline="always")
def _bucket(start, tails, order):
    """Place (in `order`) of the first window that holds a tile starting there; -1 where none does."""
    for place in range(order.size):
        if tails[order[place]] <= start:
            return place
    return -1


@njit(cache=True)
def _add_raw(words, event, area, kinds, value_kinds, inputs, bases, in_kinds):
    """Add the raw event at words[event] to an area."""
    time, major, minor, bits = words[event + TIME], words[event + MAJOR], words[event + MINOR], words[event + VALID]
    at = event + EVENT
    for slot in range(kinds.size):
        if inputs[slot] < 0:
            states.add(area, bases[slot], kinds[slot], value_kinds[slot], time, major, minor, 0, 1)
    for i in range(in_kinds.size):
        if (bits >> i) & 1:
            word = at if in_kinds[i] == WIDE else words[at]
            for slot in range(kinds.size):
                if inputs[slot] == i:
                    states.add_event(area, bases[slot], kinds[slot], value_kinds[slot], time, major, minor, word, words, words)
        at += wide_words(words, at) if in_kinds[i] == WIDE else 1
