"""Features of many instants from events in order: windows slide over one key after another; the batch layer's point-in-time engine.

Exact sums are a group, so an event that leaves a window is taken away again; min and max keep a monotone queue. Where an event
inside the window was not visible yet, that one row is computed by a plain pass over its window.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra import states
from twofold.algebra.states import COUNT, EARLIEST, LAST, MIN, MOMENTS1, MOMENTS2, NEWEST
from twofold.instants import BEGIN_US


@njit(cache=True, nogil=True)
def slide(
    event_starts, times, seen, values, valid, row_starts, row_t, row_head, row_horizon, kind, value_kind, ops, width, hop, area, out,
    out_floats, out_status,
):  # fmt: skip
    """Write the results `ops` of one state over one window for every row; `out`, `out_floats` and `out_status` are [ops, rows].

    Events of group g are `times[event_starts[g]:event_starts[g+1]]` in order of (time, order), its rows likewise in order of t. The
    window of a row is `[floor(row_t - width, hop), row_head)` (width -1: all before row_head). An event is visible iff
    seen < row_horizon (`seen` empty: always). `values` and `valid` are the input's words; `last` and `first` write the index of the
    event instead of its value. `area` has 2 rows of one slot's size, zero before and after.
    """
    most = 1
    for g in range(event_starts.size - 1):
        most = max(most, event_starts[g + 1] - event_starts[g])
    queue, seen_queue = np.empty(most, np.int64), np.empty(most, np.int64)
    for g in range(event_starts.size - 1):
        if row_starts[g] < row_starts[g + 1]:
            _slide_group(
                event_starts[g], event_starts[g + 1], times, seen, values, valid, row_starts[g], row_starts[g + 1], row_t, row_head,
                row_horizon, kind, value_kind, ops, width, hop, area, out, out_floats, out_status, queue, seen_queue,
            )  # fmt: skip


@njit(cache=True)
def _slide_group(
    first, last, times, seen, values, valid, first_row, last_row, row_t, row_head, row_horizon, kind, value_kind, ops, width, hop, area,
    out, out_floats, out_status, queue, seen_queue,
):  # fmt: skip
    """Slide one group's window over its rows."""
    is_group_like = kind == COUNT or kind == MOMENTS1 or kind == MOMENTS2
    low, high = first, first
    queue_from, queue_to, seen_from, seen_to, latest = 0, 0, 0, 0, np.int64(-1)
    for row in range(first_row, last_row):
        tail = (row_t[row] - width) - (row_t[row] - width) % hop if width >= 0 else np.int64(BEGIN_US)
        while high < last and times[high] < row_head[row]:
            if seen.size:
                while seen_to > seen_from and seen[seen_queue[seen_to - 1]] <= seen[high]:
                    seen_to -= 1
                seen_queue[seen_to] = high
                seen_to += 1
            if valid[high]:
                latest = high
                if is_group_like:
                    states.add(area[0], 0, kind, value_kind, times[high], high, 0, values[high], 1)
                elif kind == EARLIEST:
                    queue[queue_to] = high
                    queue_to += 1
                elif kind != LAST and kind != NEWEST:
                    key = states.sortable(values[high], value_kind)
                    while queue_to > queue_from and _is_beaten(states.sortable(values[queue[queue_to - 1]], value_kind), key, kind):
                        queue_to -= 1
                    queue[queue_to] = high
                    queue_to += 1
            high += 1
        while low < high and times[low] < tail:
            if valid[low] and is_group_like:
                states.add(area[0], 0, kind, value_kind, times[low], low, 0, values[low], -1)
            low += 1
        while seen_from < seen_to and seen_queue[seen_from] < low:
            seen_from += 1
        while queue_from < queue_to and queue[queue_from] < low:
            queue_from += 1
        current = area[0]
        if seen_from < seen_to and seen[seen_queue[seen_from]] >= row_horizon[row]:
            current = area[1]
            for i in range(low, high):
                if valid[i] and seen[i] < row_horizon[row]:
                    states.add(current, 0, kind, value_kind, times[i], i, 0, i if kind == LAST or kind == EARLIEST else values[i], 1)
        elif kind == LAST or kind == NEWEST:
            current = area[1]
            if latest >= low:
                states.add(current, 0, kind, value_kind, times[latest], latest, 0, latest, 1)
        elif not is_group_like:
            current = area[1]
            if queue_from < queue_to:
                at = queue[queue_from]
                states.add(current, 0, kind, value_kind, times[at], at, 0, at if kind == EARLIEST else values[at], 1)
        for i in range(ops.size):
            out_status[i, row] = states.result(current, 0, kind, value_kind, ops[i], row_t[row], width, out[i], out_floats[i], row)
        states.clear(area[1], 0, kind)
    states.clear(area[0], 0, kind)


@njit(cache=True, inline="always")
def _is_beaten(old, new, kind):
    """Whether an older value can never be the extreme again once `new` has come."""
    return new <= old if kind == MIN else new >= old


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
