"""Features at points in time of a person's own aggregates: plain Python over the windows that `point_in_time` has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra import opaque, sliding
from twofold.algebra.base import Item
from twofold.algebra.guarded import Held
from twofold.algebra.kinds import FAILED, STATUSES
from twofold.errors import DefinitionError
from twofold.instants import to_datetime
from twofold.plan.inputs import FEATURE_TYPES, MAJOR, MINOR
from twofold.plan.own import OpaquePart
from twofold.plan.serving import ViewPlan, WindowPlan

Words = NDArray[np.int64]
RowsOf = Callable[[WindowPlan], sliding.Rows]


def opaque_columns(
    plan: ViewPlan, part: OpaquePart, ready: pl.DataFrame, times: Words, order: Words, seen: Words, rows_of: RowsOf, row_order: Words,
    status: bool,
) -> dict[str, pl.Series]:  # fmt: skip
    """The columns of the opaque features, rows as they were asked for; `order` are the prepared events by group, `row_order` the rows.

    Raises DefinitionError where one fails, unless the status is asked for.
    """
    programme, columns = part.programme, dict[str, pl.Series]()
    found = {window: rows_of(plan.windows[window]) for _, window in programme.wanted}
    lifted = [_lifted(slot, programme.input_types, ready, times, order) for slot in programme.slots]
    for feature, (number, window) in zip(part.features, programme.wanted, strict=True):
        rows, aggregate = found[window], programme.slots[number].aggregate
        values, codes = [None] * rows.t.size, np.zeros(rows.t.size, np.int8)
        states = _states(programme.slots[number], lifted[number], rows, seen)
        for place, t, state in zip(row_order.tolist(), rows.t.tolist(), states, strict=True):
            values[place], codes[place] = aggregate.result(state, t, programme.window_at(window, t))
        if not status and (codes == FAILED).any():
            text = next(text for call, text in aggregate.failure_texts.items() if call != "add")
            raise DefinitionError(f"{text}; {(codes == FAILED).sum()} of {rows.t.size} values fail")
        columns[feature.name] = pl.Series(feature.name, values, dtype=FEATURE_TYPES[feature.type])
        if status:
            columns[f"{feature.name}__status"] = pl.Series(np.array(STATUSES)[codes], dtype=pl.String)
    return columns


def _lifted(slot: opaque.Slot, types: Mapping[int, str], ready: pl.DataFrame, times: Words, order: Words) -> list[Held | None]:
    """The state of each event by itself, None where it has none; by group."""
    values: list[Any]
    majors, minors = ready[MAJOR].to_numpy()[order].tolist(), ready[MINOR].to_numpy()[order].tolist()
    if slot.input < 0:
        values = [True] * order.size
    elif types[slot.input] == "datetime":
        instants = ready[f"in{slot.input}"].to_physical().gather(order).to_list()
        values = [None if us is None else to_datetime(us) for us in instants]
    else:
        values = ready[f"in{slot.input}"].gather(order).to_list()
    return [
        None if value is None else slot.aggregate.lifted(Item(value, time, (major, minor)))
        for value, time, major, minor in zip(values, times.tolist(), majors, minors, strict=True)
    ]


def _states(slot: opaque.Slot, lifted: list[Held | None], rows: sliding.Rows, seen: Words) -> Iterator[Held]:
    """The state of each row's window, rows by group; where some of it is hidden, by a plain pass over what is not."""
    low, high, aggregate = rows.low.tolist(), rows.high.tolist(), slot.aggregate
    for first, last in pairwise(rows.starts.tolist()):
        spans = zip(low[first:last], high[first:last], strict=True)
        for row, state in zip(range(first, last), opaque.slide(aggregate, lifted, spans), strict=True):
            if not rows.is_hidden[row]:
                yield state
                continue
            visible = aggregate.zero
            for i in range(low[row], high[row]):
                mine = lifted[i]
                if mine is not None and seen[i] < rows.horizon[row]:
                    visible = aggregate.merged(visible, mine)
            yield visible
