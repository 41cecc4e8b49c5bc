"""Features of many instants from events in order: windows slide over one key after another; the batch layer's point-in-time engine.

Exact sums are a group, so an event that leaves a window is taken away again; min and max keep a monotone queue; first and last are a
matter of places. Where an event inside the window was not visible yet, that one row is computed by a plain pass over its window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twofold.algebra import buckets, powers, sliding_ranks, sliding_sets, states
from twofold.algebra.kinds import (
    COUNT,
    EARLIEST,
    EMPTY,
    FIRST_K,
    LAST,
    LAST_K,
    MAX,
    MIN,
    NEWEST,
    PRESENT,
    SKETCH,
    sortable,
)
from twofold.algebra.powers import is_powers
from twofold.instants import BEGIN_US

Words = NDArray[np.int64]


class Events(NamedTuple):
    """Events by group, in order of (time, order) within each, as one input sees them.

    `seen` is what visibility compares with a row's horizon (empty: everything is visible). `values` are the input's words. `ranks`
    [events + 1] counts the values before each event that are not null, `positions` are the events that have one; both are empty where
    all have.
    """

    times: Words
    seen: Words
    values: Words
    ranks: Words
    positions: Words


class Rows(NamedTuple):
    """Rows by group, in order of t within each: group g's are `starts[g]..starts[g+1]`.

    `low`, `high` are the events of a row's window, `is_hidden` says that one of them was not visible to it.
    """

    starts: Words
    t: Words
    horizon: Words
    low: Words
    high: Words
    is_hidden: NDArray[np.bool_]


class Asked(NamedTuple):
    """What to write of one state over one window: operations with their arguments, and the row of `out` where each one's words begin."""

    kind: int
    value_kind: int
    width: int
    operations: Words
    arguments: Words
    places: Words


class Out(NamedTuple):
    """Where results go: `words` (and the same memory as floats) are [words, rows] laid flat, `codes` are statuses [operations, rows]."""

    words: Words
    floats: NDArray[np.float64]
    codes: NDArray[np.int8]


@njit(cache=True, nogil=True)
def bounds(event_starts, times, seen, row_starts, t, head, horizon, width, hop, ago, low, high, is_hidden):
    """Write each row's `low`, `high` and `is_hidden`: its window is `[floor(t - ago - width, hop), head)`, all before head for width -1.

    With `ago` it ends at `floor(t - ago, hop)`, if that is before head. An event is visible iff seen < horizon.
    """
    most = 1
    for g in range(event_starts.size - 1):
        most = max(most, event_starts[g + 1] - event_starts[g])
    queue = np.empty(most if seen.size else 1, np.int64)
    for g in range(event_starts.size - 1):
        first, last = event_starts[g], event_starts[g + 1]
        begin, end, front, back = first, first, 0, 0
        for row in range(row_starts[g], row_starts[g + 1]):
            oldest = t[row] - ago - width
            tail = oldest - oldest % hop if width >= 0 else np.int64(BEGIN_US)
            until = min(head[row], (t[row] - ago) - (t[row] - ago) % hop) if ago else head[row]
            while end < last and times[end] < until:
                if seen.size:
                    while back > front and seen[queue[back - 1]] <= seen[end]:
                        back -= 1
                    queue[back] = end
                    back += 1
                end += 1
            while begin < end and times[begin] < tail:
                begin += 1
            while front < back and queue[front] < begin:
                front += 1
            low[row], high[row] = begin, end
            is_hidden[row] = front < back and seen[queue[front]] >= horizon[row]


_int = np.int64
"""Of a literal: compiled code would be made again for each of them."""


def slide(events: Events, rows: Rows, asked: Asked, areas: Words, out: Out) -> None:
    """Write the results of one state over one window for every row; the first and last write events instead of their values.

    `areas` are 2 rows of one slot's size, zero before and after. Only the way that the kind needs is ever compiled.
    """
    kind = asked.kind
    if kind in (COUNT, LAST, EARLIEST, NEWEST, FIRST_K, LAST_K):
        _look_up(events, rows, asked, areas[0], out)
    elif sliding_sets.is_set(kind):
        _slide_sets(events, rows, asked, areas, out)
    elif kind == SKETCH:
        _slide_sketches(events, rows, asked, areas, out)
    elif kind in (MIN, MAX):
        _slide_extremes(events, rows, asked, areas, out)
    else:
        _slide_sums(events, rows, asked, areas, out)


@njit(cache=True, nogil=True)
def _look_up(events, rows, asked, area, out):
    """States that the places of the window's events tell."""
    kind = asked.kind
    all_have = events.ranks.size == 0
    for row in range(rows.t.size):
        if rows.is_hidden[row]:
            _recount(row, events, rows, asked, area, out)
            continue
        first = rows.low[row] if all_have else events.ranks[rows.low[row]]
        last = rows.high[row] if all_have else events.ranks[rows.high[row]]
        if kind == COUNT:
            area[0] = last - first
        elif first < last:
            begin = last - 1 if kind == LAST or kind == NEWEST else first
            end = begin + 1
            if kind == FIRST_K or kind == LAST_K:
                k = min(area[1], last - first)
                begin, end = (first, first + k) if kind == FIRST_K else (last - k, last)
            for i in range(end - begin):
                place = end - 1 - i if kind == LAST_K else begin + i
                at = place if all_have else events.positions[place]
                states.add(area, _int(0), kind, asked.value_kind, events.times[at], at, _int(0), at, _int(1))
        _write(row, rows, asked, area, out)
        states.clear(area, _int(0), kind)


@njit(cache=True, nogil=True)
def _slide_sums(events, rows, asked, areas, out):
    """States that are groups, such as exact sums: what leaves the window is taken away."""
    for g in range(rows.starts.size - 1):
        if rows.starts[g] < rows.starts[g + 1]:
            _slide_sum(rows.starts[g], rows.starts[g + 1], events, rows, asked, areas, out)


@njit(cache=True)
def _slide_sum(first_row, last_row, events, rows, asked, areas, out):
    area, kind, value_kind = areas[0], asked.kind, asked.value_kind
    all_have = events.ranks.size == 0
    low, high = rows.low[first_row], rows.low[first_row]
    for row in range(first_row, last_row):
        if rows.low[row] >= high:
            states.clear(area, _int(0), kind)
            low, high = rows.low[row], rows.low[row]
        for i in range(high, rows.high[row]):
            if all_have or events.ranks[i] < events.ranks[i + 1]:
                states.add(area, _int(0), kind, value_kind, events.times[i], _int(0), _int(0), events.values[i], _int(1))
        for i in range(low, rows.low[row]):
            if all_have or events.ranks[i] < events.ranks[i + 1]:
                states.add(area, _int(0), kind, value_kind, events.times[i], _int(0), _int(0), events.values[i], _int(-1))
        low, high = rows.low[row], rows.high[row]
        if rows.is_hidden[row]:
            _recount(row, events, rows, asked, areas[1], out)
        elif is_powers(kind):
            _write_sums(row, rows, asked, area, out)
        else:
            _write(row, rows, asked, area, out)
    states.clear(area, _int(0), kind)


@njit(cache=True)
def _bucket_numbers(events, asked, area):
    """(each value's signed bucket, counted from the least of all; that least). A null has some bucket too."""
    numbers = np.empty(events.values.size, np.int64)
    for i in range(numbers.size):
        numbers[i] = buckets.bucket_of(events.values[i], asked.value_kind, area[1])
    least = numbers.min() if numbers.size else np.int64(0)
    return numbers - least, least


@njit(cache=True, nogil=True)
def _slide_sketches(events, rows, asked, areas, out):
    """Quantiles: an ordered multiset of bucket numbers; which magnitudes count as 0 is seen at the end."""
    numbers, least = _bucket_numbers(events, asked, areas[0])
    counts, begins = sliding_ranks.new_multiset(numbers.max() + 1 if numbers.size else 1)
    for g in range(rows.starts.size - 1):
        if rows.starts[g] < rows.starts[g + 1]:
            _slide_sketch(rows.starts[g], rows.starts[g + 1], events, rows, asked, areas, out, numbers, least, counts, begins)


@njit(cache=True)
def _slide_sketch(first_row, last_row, events, rows, asked, areas, out, numbers, least, counts, begins):
    all_have = events.ranks.size == 0
    levels, ring = begins.size - 2, buckets.OCTAVES << areas[0][1]
    low, high = rows.low[first_row], rows.low[first_row]
    for row in range(first_row, last_row + 1):
        # After the last row the window is emptied.
        until, end = (rows.low[row], rows.high[row]) if row < last_row else (high, high)
        for i in range(low, min(until, high)):
            if all_have or events.ranks[i] < events.ranks[i + 1]:
                sliding_ranks.change(counts, begins, levels, numbers[i], -1)
        for i in range(max(until, high), end):
            if all_have or events.ranks[i] < events.ranks[i + 1]:
                sliding_ranks.change(counts, begins, levels, numbers[i], 1)
        low, high = until, end
        if row == last_row:
            return
        if rows.is_hidden[row]:
            _recount(row, events, rows, asked, areas[1], out)
            continue
        n = sliding_ranks.total(counts, begins, levels)
        top = np.int64(0)
        if n:
            first = sliding_ranks.kth(counts, begins, levels, 0) + least
            top = max(abs(first), abs(sliding_ranks.kth(counts, begins, levels, n - 1) + least))
        for i in range(asked.operations.size):
            out.codes[i, row] = PRESENT if n else EMPTY
            if n:
                bucket = sliding_ranks.kth(counts, begins, levels, buckets.rank_of(asked.arguments[i], n)) + least
                value = buckets.value_of_bucket(bucket, areas[0][1]) if abs(bucket) > max(top - ring, 0) else 0.0
                out.floats[asked.places[i] * rows.t.size + row] = value


@njit(cache=True, nogil=True)
def _slide_sets(events, rows, asked, areas, out):
    """States of sets, of all groups: events enter the window and leave it again."""
    held = sliding_sets.new_held(asked.kind, areas[0], events.values, rows)
    for g in range(rows.starts.size - 1):
        first, last = rows.starts[g], rows.starts[g + 1]
        if first < last:
            mine = sliding_sets.of_group(held, asked.kind, events.values, rows.low[first], rows.high[last - 1])
            _slide_set(first, last, events, rows, asked, areas, out, mine)


@njit(cache=True)
def _slide_set(first_row, last_row, events, rows, asked, areas, out, held):
    area, kind, value_kind = areas[0], asked.kind, asked.value_kind
    all_have = events.ranks.size == 0
    low, high = rows.low[first_row], rows.low[first_row]
    for row in range(first_row, last_row + 1):
        # After the last row the window is emptied.
        until, end = (rows.low[row], rows.high[row]) if row < last_row else (high, high)
        for i in range(low, min(until, high)):
            if all_have or events.ranks[i] < events.ranks[i + 1]:
                sliding_sets.change(held, area, kind, value_kind, events.values[i], -1)
        for i in range(max(until, high), end):
            if all_have or events.ranks[i] < events.ranks[i + 1]:
                sliding_sets.change(held, area, kind, value_kind, events.values[i], 1)
        low, high = until, end
        if row < last_row and rows.is_hidden[row]:
            _recount(row, events, rows, asked, areas[1], out)
        elif row < last_row:
            sliding_sets.show(held, area, kind)
            _write(row, rows, asked, area, out)
    states.clear(area, _int(0), kind)


@njit(cache=True, nogil=True)
def _slide_extremes(events, rows, asked, areas, out):
    """Min or max: a queue of (event, key) of those that can still be the extreme, best first; the least key is the best."""
    most = 1
    for g in range(rows.starts.size - 1):
        if rows.starts[g] < rows.starts[g + 1]:
            most = max(most, rows.high[rows.starts[g + 1] - 1] - rows.low[rows.starts[g]])
    queue = np.empty((most, 2), np.int64)
    for g in range(rows.starts.size - 1):
        if rows.starts[g] < rows.starts[g + 1]:
            _slide_extreme(rows.starts[g], rows.starts[g + 1], events, rows, asked, areas, out, queue)


@njit(cache=True)
def _slide_extreme(first_row, last_row, events, rows, asked, areas, out, queue):
    kind, value_kind = asked.kind, asked.value_kind
    all_have = events.ranks.size == 0
    high, front, back = rows.low[first_row], 0, 0
    for row in range(first_row, last_row):
        if rows.low[row] >= high:
            high, front, back = rows.low[row], 0, 0
        for i in range(high, rows.high[row]):
            if all_have or events.ranks[i] < events.ranks[i + 1]:
                key = sortable(events.values[i], value_kind)
                if kind == MAX:
                    key = ~key
                while back > front and queue[back - 1, 1] >= key:
                    back -= 1
                queue[back, 0], queue[back, 1] = i, key
                back += 1
        high = rows.high[row]
        while front < back and queue[front, 0] < rows.low[row]:
            front += 1
        if rows.is_hidden[row]:
            _recount(row, events, rows, asked, areas[1], out)
            continue
        for i in range(asked.operations.size):
            at = asked.places[i] * rows.t.size + row
            out.words[at], out.codes[i, row] = (events.values[queue[front, 0]], PRESENT) if front < back else (0, EMPTY)


@njit(cache=True)
def _recount(row, events, rows, asked, area, out):
    """A row by a plain pass over the events of its window that it sees."""
    kind = asked.kind
    writes_places = kind == LAST or kind == EARLIEST or kind == FIRST_K or kind == LAST_K
    for i in range(rows.low[row], rows.high[row]):
        if events.seen.size and events.seen[i] >= rows.horizon[row]:
            continue
        if events.ranks.size == 0 or events.ranks[i] < events.ranks[i + 1]:
            states.add(
                area, _int(0), kind, asked.value_kind, events.times[i], i, _int(0), i if writes_places else events.values[i], _int(1)
            )
    _write(row, rows, asked, area, out)
    states.clear(area, _int(0), kind)


@njit(cache=True)
def _write_sums(row, rows, asked, area, out):
    """Write a row's results from its exact sums; what they share is computed once."""
    n, count = area[0], rows.t.size
    high, low, exponent = powers.sum_of(area, _int(0))
    for i in range(asked.operations.size):
        op, at = asked.operations[i], asked.places[i] * count + row
        is_certain = False
        if n and powers.is_rounded(op, asked.value_kind, n):
            number, is_certain = powers.certain(area, _int(0), op, n, high, low, exponent)
        if is_certain:
            out.floats[at], out.codes[i, row] = number, PRESENT
        else:
            out.codes[i, row] = _result(i, row, rows, asked, area, out)


@njit(cache=True)
def _write(row, rows, asked, area, out):
    """Write a row's results from its state."""
    for i in range(asked.operations.size):
        out.codes[i, row] = _result(i, row, rows, asked, area, out)


@njit(cache=True)
def _result(i, row, rows, asked, area, out):
    """Write one of a row's results; returns its status."""
    count = rows.t.size
    return states.result(
        area, _int(0), asked.kind, asked.value_kind, asked.operations[i], asked.arguments[i], rows.t[row], asked.width, out.words,
        out.floats, asked.places[i] * count + row, count,
    )  # fmt: skip
