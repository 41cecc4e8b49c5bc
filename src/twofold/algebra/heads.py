"""A delta of one key in two blobs, so that a commit rewrites little: a head of raw events alone, and a body of tiles alone.

Events go to the head as they come; when it is full, those that need not stay raw (see `windows.RAW_SPAN_US`) are folded into the body.
Both are blobs as `tiles` describes them, with distinct events, so they are read as any two blobs of a key are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra import programme
from twofold.algebra.tiles import (
    EVENT,
    GREATEST,
    HEADER,
    NEVER,
    RAW,
    TILES,
    TIME,
    fold_key,
    gather,
    grown,
    room_for,
    write_header,
    write_raw,
)
from twofold.instants import BEGIN_US

HEAD_EVENTS = 96
"""A head with more events is full: more than `windows.RAW_EVENTS`, so that one that stays full for 10 s is not folded at each commit."""


@njit(cache=True, nogil=True)
def append(words, word_starts, events, event_starts, heap, p):
    """Add events to the heads of many keys at once; returns (words, word_starts) of the new heads.

    Old heads, events and heap are as `tiles.fold` takes blobs, events and heap.
    """
    keys = event_starts.size - 1
    in_kinds = programme.input_kinds_of(p)
    out = np.empty(words.size + HEADER * keys + (EVENT + in_kinds.size) * events.shape[1] + 64, np.int64)
    out_starts = np.empty(keys + 1, np.int64)
    pending, position = room_for(events.shape[0], words, word_starts, event_starts), 0
    for k in range(keys):
        out_starts[k] = position
        old, new = words[word_starts[k] : word_starts[k + 1]], events[:, event_starts[k] : event_starts[k + 1]]
        total = gather(old, HEADER, old[RAW] if old.size else 0, new, in_kinds, pending)
        out = grown(out, position + HEADER)
        write_header(out, position, BEGIN_US, NEVER, pending[TIME, total - 1], 0, total)
        out, position = write_raw(old, heap, pending, 0, total, in_kinds, out, position + HEADER)
    out_starts[keys] = position
    return out[:position], out_starts


@njit(cache=True, nogil=True)
def seal(bodies, body_starts, heads, head_starts, now, p, area):
    """Fold heads into the bodies of their keys; returns (bodies, their starts, heads, their starts), what stays raw in the heads.

    `now` is the clock; an empty body is none. `area` is one row of `programme.new_areas`.
    """
    keys = head_starts.size - 1
    out, folded = np.empty(bodies.size + 4 * heads.size + 64, np.int64), np.empty(heads.size + HEADER, np.int64)
    out_starts, new_heads, new_starts = np.empty(keys + 1, np.int64), np.empty(heads.size + HEADER, np.int64), np.empty(keys + 1, np.int64)
    rows = EVENT + programme.input_kinds_of(p).size
    pending = room_for(rows, heads, head_starts, np.zeros_like(head_starts))
    none, heap = np.empty((rows, 0), np.int64), np.zeros(1, np.int64)
    position, head_position = 0, 0
    for k in range(keys):
        out_starts[k], new_starts[k] = position, head_position
        body, head = bodies[body_starts[k] : body_starts[k + 1]], heads[head_starts[k] : head_starts[k + 1]]
        joined = np.empty(max(body.size, HEADER) + head.size - HEADER, np.int64)
        write_header(joined, 0, now, NEVER, NEVER, 0, 0)
        joined[: body.size] = body
        joined[max(body.size, HEADER) :] = head[HEADER:]
        joined[RAW], joined[GREATEST] = head[RAW], max(joined[GREATEST], head[GREATEST])
        folded, end = fold_key(joined, none, heap, now, True, p, area, pending, folded, 0)
        tiles_end = HEADER
        for _ in range(folded[TILES]):
            tiles_end += folded[tiles_end + 1] >> 8
        out = grown(out, position + tiles_end)
        out[position : position + tiles_end] = folded[:tiles_end]
        out[position + RAW] = 0
        position += tiles_end
        if folded[RAW]:
            new_heads = grown(new_heads, head_position + HEADER + end - tiles_end)
            write_header(new_heads, head_position, BEGIN_US, NEVER, folded[GREATEST], 0, folded[RAW])
            new_heads[head_position + HEADER : head_position + HEADER + end - tiles_end] = folded[tiles_end:end]
            head_position += HEADER + end - tiles_end
    out_starts[keys], new_starts[keys] = position, head_position
    return out[:position], out_starts, new_heads[:head_position], new_starts
