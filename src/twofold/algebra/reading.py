"""Reading features out of a key's blobs: generation and deltas merged, every window of every feature in one pass."""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra import programme, states
from twofold.algebra.kinds import AHEAD, OP_RATE, WIDE
from twofold.algebra.tiles import BASE, EVENT, FOLDED_MAX, HEADER, MAJOR, MINOR, RAW, TILES, TIME, VALID
from twofold.algebra.wide import wide_words
from twofold.algebra.windows import SLACK_US
from twofold.instants import BEGIN_US


@njit(cache=True)
def read(words, end, t, exact_from, p, areas, out, out_status):
    """Write every feature at t; returns how many are not PRESENT, -1 where the answer is not exact (all are AHEAD then).

    `words[:end]` are blobs, none of them empty, each behind a word that says where it ends; below `exact_from` nothing is exact.
    `areas` are windows + 1 rows of `programme.new_areas`. `out` receives words, each feature's where the programme places them; those
    of wide values are references into `words`. `out_status` receives a code a feature.
    """
    tails, heads, order = _bounds(t, p)
    touched = np.zeros(tails.size, np.bool_)
    is_exact, at = t >= exact_from, 0
    while at < end:
        is_exact = _spread(words, at + 1, t, tails, heads, order, p, areas, touched) and is_exact
        at = words[at]
    kinds, value_kinds, _, bases = programme.slots_of(p)
    total, out_floats = areas[tails.size], out.view(np.float64)
    for place in range(order.size):
        window = order[place]
        if touched[window]:
            for slot in range(kinds.size):
                states.merge_areas(total, bases[slot], areas[window], bases[slot], kinds[slot], value_kinds[slot], words, words)
        same_as = order[place - 1] if place and not touched[window] else -1
        _write_results(total, window, same_as, t, p, out, out_floats, out_status)
    for window in range(tails.size):
        if heads[window] < t:
            _write_results(areas[window], window, -1, t, p, out, out_floats, out_status)
    for slot in range(kinds.size):
        states.clear(total, bases[slot], kinds[slot])
        for window in range(tails.size):
            if touched[window]:
                states.clear(areas[window], bases[slot], kinds[slot])
    if not is_exact:
        out_status[:] = AHEAD
        return -1
    return np.count_nonzero(out_status)


@njit(cache=True)
def _write_results(area, window, same_as, t, p, out, out_floats, out_status):
    """Write the features of one window from the states of all its events, which are those of the window `same_as` too (-1: of none)."""
    kinds, value_kinds, _, bases = programme.slots_of(p)
    widths, _, _ = programme.windows_of(p)
    slots, windows, operations, arguments, places = programme.features_of(p)
    for feature in range(slots.size):
        if windows[feature] == window:
            twin = _twin(feature, same_as, slots, windows, operations, arguments)
            if twin >= 0:
                end = places[twin + 1] if twin + 1 < places.size else out.size
                for i in range(end - places[twin]):
                    out[places[feature] + i] = out[places[twin] + i]
                out_status[feature] = out_status[twin]
            else:
                slot = slots[feature]
                out_status[feature] = states.result(
                    area, bases[slot], kinds[slot], value_kinds[slot], operations[feature], arguments[feature], t, widths[window], out,
                    out_floats, places[feature], np.int64(1),
                )  # fmt: skip


@njit(cache=True)
def _twin(feature, window, slots, windows, operations, arguments):
    """The feature of another window that has the same result where the events are the same; -1 where there is none."""
    if window >= 0 and operations[feature] != OP_RATE:  # a rate is of the window's width
        for other in range(slots.size):
            if (
                windows[other] == window
                and slots[other] == slots[feature]
                and operations[other] == operations[feature]
                and arguments[other] == arguments[feature]
            ):
                return other
    return -1


@njit(cache=True)
def _bounds(t, p):
    """(tail of each window, its head, the windows that end at t in order of tail, latest first)."""
    widths, hops, agos = programme.windows_of(p)
    tails, heads, order = np.empty(widths.size, np.int64), np.empty(widths.size, np.int64), np.empty(widths.size, np.int64)
    nested = 0
    for w in range(widths.size):
        heads[w] = t if agos[w] == 0 else (t - agos[w]) - (t - agos[w]) % hops[w]
        oldest = t - agos[w] - widths[w]
        tails[w] = oldest - oldest % hops[w] if widths[w] >= 0 else BEGIN_US
        if agos[w]:
            continue
        at = nested
        while at > 0 and tails[order[at - 1]] < tails[w]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = w
        nested += 1
    return tails, heads, order[:nested]


@njit(cache=True)
def _spread(words, at, t, tails, heads, order, p, areas, touched):
    """Add each tile and raw event of the blob at words[at] to the windows that it is for; returns whether that is exact.

    Of the windows that end at t, that is the one of latest tail that holds it, for they are nested; of the others, all that hold it.
    """
    kinds, value_kinds, inputs, bases = programme.slots_of(p)
    in_kinds = programme.input_kinds_of(p)
    is_exact = t > words[at + FOLDED_MAX] and (p[programme.LEVELS] == 0 or t >= words[at + BASE] - SLACK_US)
    raw_at = _merge_tiles(words, at, tails, order, areas, touched, kinds, value_kinds, bases)
    if order.size < tails.size:
        _merge_shifted_tiles(words, at, t, tails, heads, areas, touched, kinds, value_kinds, bases)
    raw, at, place = words[at + RAW], raw_at, order.size
    for _ in range(raw):
        while place > 0 and tails[order[place - 1]] <= words[at]:
            place -= 1
        nested = order[place] if place < order.size and words[at] < t else -1
        for window in range(tails.size):
            if window == nested or (heads[window] < t and tails[window] <= words[at] < heads[window]):
                touched[window] = True
                _add_raw(words, at, areas[window], kinds, value_kinds, inputs, bases, in_kinds)
        at += EVENT
        for i in range(in_kinds.size):
            at += wide_words(words, at) if in_kinds[i] == WIDE else 1
    return is_exact


@njit(cache=True)
def _merge_tiles(words, at, tails, order, areas, touched, kinds, value_kinds, bases):
    """Merge each tile of the blob into the nested window of latest tail that holds it; returns where the raw events begin.

    Tiles come in order of start, so those of a window are a run, which is merged slot by slot.
    """
    tiles, place, first = words[at + TILES], order.size, 0
    starts = np.empty(tiles, np.int64)
    at += HEADER
    for tile in range(tiles):
        if place > 0 and tails[order[place - 1]] <= words[at]:
            if place < order.size:
                _merge_run(words, starts, first, tile, areas[order[place]], kinds, value_kinds, bases)
            while place > 0 and tails[order[place - 1]] <= words[at]:
                place -= 1
            touched[order[place]] = True
            first = tile
        starts[tile] = at + 2
        at += words[at + 1] >> 8
    if place < order.size:
        _merge_run(words, starts, first, tiles, areas[order[place]], kinds, value_kinds, bases)
    return at


@njit(cache=True)
def _merge_run(words, starts, first, last, area, kinds, value_kinds, bases):
    """Merge all slots of the tiles first..last into an area; the states of tile i begin at words[starts[i]]."""
    for slot in range(kinds.size):
        states.merge_run(area, bases[slot], kinds[slot], value_kinds[slot], words, starts, first, last)


@njit(cache=True)
def _merge_shifted_tiles(words, at, t, tails, heads, areas, touched, kinds, value_kinds, bases):
    """Merge each tile of the blob into all windows that hold it and end before t."""
    tiles = words[at + TILES]
    at += HEADER
    for _ in range(tiles):
        for window in range(tails.size):
            if heads[window] < t and tails[window] <= words[at] < heads[window]:
                state = at + 2
                for slot in range(kinds.size):
                    state = states.merge_words(areas[window], bases[slot], kinds[slot], value_kinds[slot], words, state, words)
                touched[window] = True
        at += words[at + 1] >> 8


@njit(cache=True)
def _add_raw(words, event, area, kinds, value_kinds, inputs, bases, in_kinds):
    """Add the raw event at words[event] to an area."""
    time, major, minor, bits = words[event + TIME], words[event + MAJOR], words[event + MINOR], words[event + VALID]
    at = event + EVENT
    for slot in range(kinds.size):
        if inputs[slot] < 0:
            states.add(area, bases[slot], kinds[slot], value_kinds[slot], time, major, minor, np.int64(0), np.int64(1))
    for i in range(in_kinds.size):
        if (bits >> i) & 1:
            word = at if in_kinds[i] == WIDE else words[at]
            for slot in range(kinds.size):
                if inputs[slot] == i:
                    states.add_event(area, bases[slot], kinds[slot], value_kinds[slot], time, major, minor, word, words, words)
        at += wide_words(words, at) if in_kinds[i] == WIDE else 1
