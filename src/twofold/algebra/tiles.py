"""The blob of one key: a sparse pyramid of tiles and a few raw events; folding events into it.

Words of a blob: `[MAGIC, base, folded_max, greatest, tiles, raw, 0, 0]`, then the tiles in order of start, each
`[start, level | size << 8, states...]`, then the raw events in order, each `[time, major, minor, valid bits, values...]`.
`base` is the clock of its last compaction, `folded_max` the greatest event_time inside tiles, `greatest` that of all events.
A read at t is exact iff t > folded_max and, where there are levels, t >= base - SLACK_US: raw events are filtered by their own time.

    now - 30d - slack                now - 1h - slack          now - 10 s        now
    |   6 h tiles (for the 30 d window)  |  1 min tiles (for the 1 h window)  |  raw events  |
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra import programme, states
from twofold.algebra.kinds import WIDE
from twofold.algebra.wide import copy_wide, wide_words
from twofold.algebra.windows import RAW_EVENTS, RAW_SPAN_US, SLACK_US
from twofold.instants import BEGIN_US

MAGIC = 0x3144_4C4F_464F_5754
HEADER = 8
BASE, FOLDED_MAX, GREATEST, TILES, RAW = 1, 2, 3, 4, 5
TIME, MAJOR, MINOR, VALID, VALUES = range(5)
"""Rows of an array of events `[VALUES + inputs, events]`; bit i of VALID says whether input i is not null."""
EVENT = 4
NEVER = BEGIN_US - 1
DROPPED = BEGIN_US - 1
_BEYOND = 2**62


@njit(cache=True)
def tile_of(time, level, hops, boundaries, keeps_all):
    """(start, level) of the tile that an instant, or an older tile of `level`, belongs to now; DROPPED where no window reaches it."""
    for i in range(level, hops.size):
        start = time - time % hops[i]
        if start >= boundaries[i]:
            return start, i
    return (BEGIN_US if keeps_all else DROPPED), hops.size


@njit(cache=True)
def grown(out, needed):
    """`out`, or a larger array that begins with it."""
    if needed <= out.size:
        return out
    bigger = np.empty(max(needed, out.size * 2), np.int64)
    bigger[: out.size] = out
    return bigger


@njit(cache=True, nogil=True)
def fold(words, word_starts, events, event_starts, heap, now, keeps_raw, p, area):
    """Fold events into the blobs of many keys at once; returns (words, word_starts) of the new blobs.

    `words[word_starts[k]:word_starts[k+1]]` is key k's old blob (empty: none), `events[:, event_starts[k]:event_starts[k+1]]` its
    events in order of (time, order). A wide value is an index into `heap`, where a count of bytes and the bytes stand. `now` is the
    clock; `keeps_raw` False folds everything, and a key of which nothing remains has an empty blob (in a delta its head remains, with
    the clock below which it is not exact). `area` is one row of `programme.new_areas`.
    """
    keys = event_starts.size - 1
    out = np.empty(words.size + 64 * keys + 16 * events.shape[1] + 64, np.int64)
    out_starts = np.empty(keys + 1, np.int64)
    pending, position = room_for(events.shape[0], words, word_starts, event_starts), 0
    for k in range(keys):
        out_starts[k] = position
        old, new = words[word_starts[k] : word_starts[k + 1]], events[:, event_starts[k] : event_starts[k + 1]]
        out, position = fold_key(old, new, heap, now, keeps_raw, p, area, pending, out, position)
    out_starts[keys] = position
    return out[:position], out_starts


@njit(cache=True)
def room_for(rows, words, word_starts, event_starts):
    """An array of events that holds any one key's raw events and new ones together."""
    most = 0
    for k in range(event_starts.size - 1):
        raw = words[word_starts[k] + RAW] if word_starts[k + 1] > word_starts[k] else 0
        most = max(most, raw + event_starts[k + 1] - event_starts[k])
    return np.empty((rows, most), np.int64)


@njit(cache=True)
def write_header(out, at, base, folded_max, greatest, tiles, raw):
    """Write the words that a blob begins with."""
    out[at], out[at + BASE], out[at + FOLDED_MAX], out[at + GREATEST] = MAGIC, base, folded_max, greatest
    out[at + TILES], out[at + RAW], out[at + 6], out[at + 7] = tiles, raw, 0, 0


@njit(cache=True)
def fold_key(words, events, heap, now, keeps_raw, p, area, pending, out, position):
    """Write the new blob of one key at out[position]; returns (out, where the next one begins)."""
    hops, reaches = programme.levels_of(p)
    base, folded_max, greatest, tiles, raw = now, np.int64(NEVER), np.int64(NEVER), 0, 0
    if words.size:
        base = max(now, words[BASE])
        folded_max, greatest, tiles, raw = words[FOLDED_MAX], words[GREATEST], words[TILES], words[RAW]
    boundaries = np.empty(hops.size, np.int64)
    for i in range(hops.size):
        oldest = base - reaches[i] - SLACK_US
        boundaries[i] = oldest - oldest % hops[min(i + 1, hops.size - 1)]
    raw_at = HEADER
    for _ in range(tiles):
        raw_at += words[raw_at + 1] >> 8
    total = gather(words, raw_at, raw, events, programme.input_kinds_of(p), pending)
    if total:
        greatest = max(greatest, pending[TIME, total - 1])
    folding = total
    if keeps_raw:
        folding = max(total - RAW_EVENTS, 0)
        while folding < total and pending[TIME, folding] < base - RAW_SPAN_US:
            folding += 1
    if folding:
        folded_max = max(folded_max, pending[TIME, folding - 1])
    header = position
    out = grown(out, position + HEADER)
    out, position, written = _fold_tiles(words, tiles, pending, folding, heap, boundaries, p, area, out, position + HEADER)
    if written == 0 and folding == total and not keeps_raw:
        return out, header
    out, position = write_raw(words, heap, pending, folding, total, programme.input_kinds_of(p), out, position)
    write_header(out, header, base, folded_max, greatest, written, total - folding)
    return out, position


@njit(cache=True)
def gather(words, at, count, events, in_kinds, pending):
    """Merge a blob's raw events (from words[at]) and new events into `pending`, in order; returns how many.

    Wide values become references: `r >= 0` into `words`, `~r` into the heap.
    """
    total, left, first, last = 0, 0, 0, events.shape[1]
    while left < count or first < last:
        if left < count and (first == last or _precedes(words, at, events, first)):
            for field in range(EVENT):
                pending[field, total] = words[at + field]
            at += EVENT
            for i in range(in_kinds.size):
                pending[VALUES + i, total] = at if in_kinds[i] == WIDE else words[at]
                at += wide_words(words, at) if in_kinds[i] == WIDE else 1
            left += 1
        else:
            for field in range(EVENT):
                pending[field, total] = events[field, first]
            for i in range(in_kinds.size):
                value = events[VALUES + i, first]
                pending[VALUES + i, total] = ~value if in_kinds[i] == WIDE else value
            first += 1
        total += 1
    return total


@njit(cache=True, inline="always")
def _precedes(words, at, events, i):
    """Whether the raw event at words[at] comes before event i by (time, order)."""
    for field in range(VALID):
        if words[at + field] != events[field, i]:
            return words[at + field] < events[field, i]
    return True


@njit(cache=True)
def _fold_tiles(words, tiles, pending, folding, heap, boundaries, p, area, out, position):
    """Write the tiles of the old blob and of the first `folding` pending events; returns (out, position, number of tiles)."""
    hops, _ = programme.levels_of(p)
    keeps_all = p[programme.KEEPS_ALL] != 0
    kinds, value_kinds, inputs, bases = programme.slots_of(p)
    at, tile, event, written = HEADER, 0, 0, 0
    while tile < tiles or event < folding:
        tile_start, tile_level, event_start, event_level = _BEYOND, 0, _BEYOND, 0
        if tile < tiles:
            tile_start, tile_level = tile_of(words[at], words[at + 1] & 255, hops, boundaries, keeps_all)
        if event < folding:
            event_start, event_level = tile_of(pending[TIME, event], 0, hops, boundaries, keeps_all)
        target, level = (tile_start, tile_level) if tile_start <= event_start else (event_start, event_level)
        is_changed, merged_from = target != words[at] if tile_start == target else True, at
        while tile_start == target:
            at += words[at + 1] >> 8
            tile += 1
            tile_start = _BEYOND
            if tile < tiles:
                tile_start, _ = tile_of(words[at], words[at + 1] & 255, hops, boundaries, keeps_all)
                is_changed = is_changed or tile_start == target
        first_event = event
        while event_start == target:
            event += 1
            event_start = _BEYOND
            if event < folding:
                event_start, _ = tile_of(pending[TIME, event], 0, hops, boundaries, keeps_all)
        if target == DROPPED:
            continue
        written += 1
        if not is_changed and event == first_event:
            out = grown(out, position + at - merged_from)
            out[position : position + at - merged_from] = words[merged_from:at]
            out[position + 1] = level | ((at - merged_from) << 8)  # a start that coarser tiles share: the tile has aged all the same
            position += at - merged_from
            continue
        while merged_from < at:
            merged_from += 2
            for slot in range(kinds.size):
                merged_from = states.merge_words(area, bases[slot], kinds[slot], value_kinds[slot], words, merged_from, heap)
        for i in range(first_event, event):
            _add_pending(area, kinds, value_kinds, inputs, bases, pending, i, words, heap)
        out, position = _close_tile(words, heap, target, level, p, area, out, position)
    return out, position, written


@njit(cache=True)
def _add_pending(area, kinds, value_kinds, inputs, bases, pending, i, words, heap):
    """Add pending event i to every slot whose input it has."""
    for slot in range(kinds.size):
        source = inputs[slot]
        if source < 0 or (pending[VALID, i] >> source) & 1:
            word = pending[VALUES + source, i] if source >= 0 else 0
            time, major, minor = pending[TIME, i], pending[MAJOR, i], pending[MINOR, i]
            states.add_event(area, bases[slot], kinds[slot], value_kinds[slot], time, major, minor, word, words, heap)


@njit(cache=True)
def _close_tile(words, heap, start, level, p, area, out, position):
    """Write the area as a tile and clear it; returns (out, where the next tile begins)."""
    kinds, value_kinds, _, bases = programme.slots_of(p)
    size = 2
    for slot in range(kinds.size):
        size += states.closed_size(area, bases[slot], kinds[slot], value_kinds[slot], words, heap)
    out = grown(out, position + size)
    at = position + 2
    for slot in range(kinds.size):
        at = states.close(area, bases[slot], kinds[slot], value_kinds[slot], out, at, words, heap)
        states.clear(area, bases[slot], kinds[slot])
    out[position], out[position + 1] = start, level | ((at - position) << 8)
    return out, at


@njit(cache=True)
def write_raw(words, heap, pending, first, last, in_kinds, out, position):
    """Write pending events first..last as the raw events of a blob; returns (out, where the next blob begins)."""
    for event in range(first, last):
        size = EVENT + in_kinds.size
        for i in range(in_kinds.size):
            if in_kinds[i] == WIDE:
                reference = pending[VALUES + i, event]
                size += wide_words(words, reference) if reference >= 0 else wide_words(heap, ~reference)
        out = grown(out, position + size)
        for field in range(EVENT):
            out[position + field] = pending[field, event]
        position += EVENT
        for i in range(in_kinds.size):
            if in_kinds[i] == WIDE:
                position = copy_wide(pending[VALUES + i, event], words, heap, out, position)
            else:
                out[position] = pending[VALUES + i, event]
                position += 1
    return out, position
