"""Labels: what happened to a row within its horizon, and which rows' horizons are over; not the rows themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
import numpy as np
import polars as pl

from twofold.algebra.kinds import EMPTY, STATUSES
from twofold.definitions.expressions import as_expression
from twofold.definitions.features import Feature
from twofold.definitions.model import LABEL, Label
from twofold.definitions.view import View
from twofold.instants import BEGIN_US, duration_us
from twofold.learn.rows import AT
from twofold.plan.compile import compile_view, time_after_steps
from twofold.plan.inputs import MAJOR, MINOR, evaluated, prepared, with_steps
from twofold.plan.serving import WindowPlan
from twofold.tables.point_in_time import point_in_time

EventsOf = Callable[[str], pl.DataFrame]
"""Name of a source -> its events that count, as a frame of `plan.inputs`."""
_ROW, _TIME, _VALUE = "__row", "__label_time", "__label_value"
_EXACT_HOP_US = 1


def with_labels(rows: pl.DataFrame, labels: Mapping[str, Label], events_of: EventsOf, until: int | None) -> pl.DataFrame:
    """Rows whose every horizon is over and whose labels are all known, in their order, with a column for each label.

    A horizon is over when the label's source has arrived that far and, with `until`, when it ends by then.
    """
    events = {source: events_of(source) for source in dict.fromkeys(label.source.name for label in labels.values())}
    latest = [_reached(label, events[label.source.name], until) - duration_us(label.within) for label in labels.values()]
    over = rows.filter(pl.col(AT).to_physical() <= min(latest, default=BEGIN_US))
    columns = [label_of(over, label, events[label.source.name]).alias(name) for name, label in labels.items()]
    return over.with_columns(columns).drop_nulls(list(labels))


def _reached(label: Label, events: pl.DataFrame, until: int | None) -> int:
    """The instant that the label's source has arrived at, whatever its steps leave out of it."""
    times = events[label.source.time].to_physical().cast(pl.Int64).to_numpy()
    reached = int(times.max(initial=BEGIN_US))
    return reached if until is None else min(reached, until)


def label_of(rows: pl.DataFrame, label: Label, events: pl.DataFrame) -> pl.Series:
    """The label of every row, in their order, its horizon being over; null where it is not known.

    `rows` have `at` and the label's keys, `events` are those of its source that count, before its steps. A null key ties to nothing.
    """
    if isinstance(label.value, Feature):
        return _aggregated(rows, label, label.value, events)
    return _first(rows, label, events)


def _first(rows: pl.DataFrame, label: Label, events: pl.DataFrame) -> pl.Series:
    """The value of the first event in [at, at + within), ties as they lie in history and log."""
    events = with_steps(events, label.source.steps)
    time = pl.col(time_after_steps(label.source)).alias(_TIME)
    values = evaluated(events, {_VALUE: as_expression(label.value)})
    matching = events.select(time, *label.keys, MAJOR, MINOR).with_columns(values).drop_nulls(label.keys)
    value = pl.col(_VALUE)
    if matching[_VALUE].dtype.is_float():
        matching = matching.with_columns(pl.when(value.is_finite()).then(value).alias(_VALUE))
    matching = matching.sort(_TIME, MAJOR, MINOR).drop(MAJOR, MINOR)
    spine = rows.select(AT, *label.keys).with_row_index(_ROW).sort(AT)
    found = spine.join_asof(matching, left_on=AT, right_on=_TIME, by=list(label.keys), strategy="forward", check_sortedness=False)
    within = duration_us(label.within)
    is_there = (pl.col(_TIME).to_physical() - pl.col(AT).to_physical()) < within
    missing = pl.lit(label.missing, matching[_VALUE].dtype)
    return found.sort(_ROW).select(pl.when(is_there).then(value).otherwise(missing)).to_series()


def _aggregated(rows: pl.DataFrame, label: Label, value: Feature, events: pl.DataFrame) -> pl.Series:
    """The aggregate of the events in [at, at + within): the window of that length that ends at the horizon, its tail not rounded."""
    within = duration_us(label.within)
    view = compile_view(View(LABEL, label.source, by=label.keys, features={LABEL: replace(value, over=(label.within,))}))
    (window,) = view.plan.windows
    exact = WindowPlan(within, _EXACT_HOP_US, window.label)
    view = replace(view, plan=msgspec.structs.replace(view.plan, windows=(exact,)))
    spine = rows.select(pl.col(key).alias(f"k{i}") for i, key in enumerate(label.keys))
    ends = rows[AT].to_physical().to_numpy() + np.int64(within)
    found, status = point_in_time(view.plan, prepared(view, events), spine, ends, status=True).get_columns()
    is_missing = found.is_null() & (status == STATUSES[EMPTY])
    missing = pl.lit(label.missing, found.dtype)
    return pl.select(pl.when(is_missing).then(missing).otherwise(found)).to_series()
