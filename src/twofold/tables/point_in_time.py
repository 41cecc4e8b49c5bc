"""Features at points in time: prepared events and a spine in, one row of features for each row of the spine out.

Which events a row may see is one rule for training sets, audits and replays: `event_time < min(at, head)` and, where `seen` is
given, `seen < horizon`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra import sliding, states
from twofold.algebra.programme import new_areas, value_kind
from twofold.algebra.states import EMPTY, PRESENT, STATUSES, ZERO_IF_EMPTY
from twofold.algebra.words import WIDE_TYPES
from twofold.plan.inputs import POLARS_TYPES, TIME, words_of
from twofold.plan.merge import single_slot_programme
from twofold.plan.serving import FeaturePlan, SlotPlan, ViewPlan
from twofold.tables.grouping import grouped_events, grouped_rows, groups_of

Words = NDArray[np.int64]


@dataclass(frozen=True)
class Visibility:
    """What each row of a spine may see, beyond event_time < at.

    `head` [rows]: only events with event_time < head. `seen` names an int64 column of the events, `horizon` [rows] its exclusive
    bound. None: no such bound.
    """

    head: Words | None = None
    seen: str | None = None
    horizon: Words | None = None


def point_in_time(
    plan: ViewPlan, ready: pl.DataFrame, spine: pl.DataFrame, at: Words, visibility: Visibility | None = None, status: bool = False
) -> pl.DataFrame:
    """Every feature for every row of the spine, in its order: columns named like the features (and `<feature>__status` if asked for).

    `ready` are prepared events that count, `spine` has the key columns `k0..` in the view's types, `at` [rows] the instants. A null
    key, an unknown key and an empty window give what an empty window gives.
    """
    visibility = visibility or Visibility()
    keys = [f"k{i}" for i in range(len(plan.by))]
    groups, row_groups = groups_of(spine, keys)
    rows, events = grouped_rows(row_groups, at, groups.height), grouped_events(ready, groups, keys)
    arrays = _Arrays(
        event_starts=events.starts,
        times=ready[TIME].to_numpy()[events.order],
        seen=ready[visibility.seen].to_numpy()[events.order] if visibility.seen else np.empty(0, np.int64),
        row_starts=rows.starts,
        t=at[rows.order],
        head=at[rows.order] if visibility.head is None else np.minimum(at, visibility.head)[rows.order],
        horizon=at[rows.order] if visibility.horizon is None else visibility.horizon[rows.order],
    )
    inputs = {slot.input: _input(plan, slot, ready, events.order) for slot in plan.slots}
    columns: dict[str, pl.Series] = {}
    for features, words, codes in _slide_all(plan, inputs, arrays):
        for i, feature in enumerate(features):
            by_row, status_by_row = np.empty_like(words[i]), np.empty_like(codes[i])
            by_row[rows.order], status_by_row[rows.order] = words[i], codes[i]
            texts = inputs[plan.slots[feature.slot].input].texts
            columns[feature.name] = _column(plan, feature, by_row, status_by_row, ready, events.order, texts)
            if status:
                columns[f"{feature.name}__status"] = pl.Series(np.array(STATUSES)[status_by_row], dtype=pl.String)
    names = [name for feature in plan.features for name in (feature.name, f"{feature.name}__status") if name in columns]
    return pl.DataFrame({name: columns[name] for name in names}) if columns else pl.DataFrame(height=spine.height)


@dataclass(frozen=True)
class _Arrays:
    """What `sliding.slide` reads for every state alike."""

    event_starts: Words
    times: Words
    seen: Words
    row_starts: Words
    t: Words
    head: Words
    horizon: Words


@dataclass(frozen=True)
class _Input:
    """An input's words and whether each is not null, by group; its type name.

    The word of a text is its place among `texts`, which are in order, distinct, and only there if an extreme is asked for.
    """

    values: Words
    valid: NDArray[np.bool_]
    kind: str
    texts: pl.Series | None = None


def _input(plan: ViewPlan, slot: SlotPlan, ready: pl.DataFrame, order: Words) -> _Input:
    if slot.input < 0:
        return _Input(np.zeros(order.size, np.int64), np.ones(order.size, np.bool_), "event")
    kind, column = plan.inputs[slot.input].type, ready[f"in{slot.input}"]
    valid = column.is_not_null().to_numpy()[order] if column.null_count() else np.ones(order.size, np.bool_)
    if kind not in WIDE_TYPES:
        return _Input(words_of(column)[order], valid, kind)
    if not any(other.input == slot.input and other.state in ("min", "max") for other in plan.slots):
        return _Input(np.zeros(order.size, np.int64), valid, kind)
    places = words_of(column.rank("dense").cast(pl.Int64) - 1)
    return _Input(places[order], valid, kind, column.drop_nulls().unique().sort())


def _slide_all(plan: ViewPlan, inputs: Mapping[int, _Input], arrays: _Arrays) -> Iterator[tuple[list[FeaturePlan], Words, Words]]:
    """(features of one state and window, their words, their status codes), [features, rows] by group; states side by side on all cores."""
    places: dict[tuple[int, int], list[FeaturePlan]] = {}
    for feature in plan.features:
        places.setdefault((feature.slot, 0 if plan.row is not None else feature.window), []).append(feature)
    if plan.row is not None:
        # A table's columns are all read from the one row.
        ((_, features),) = places.items()
        words, codes = _slide(plan, features[:1], inputs[0], arrays)
        yield features, np.repeat(words, len(features), 0), np.repeat(codes, len(features), 0)
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = [pool.submit(_slide, plan, found, inputs[plan.slots[slot].input], arrays) for (slot, _), found in places.items()]
        for found, task in zip(places.values(), tasks, strict=True):
            yield (found, *task.result())


def _slide(plan: ViewPlan, features: Sequence[FeaturePlan], source: _Input, arrays: _Arrays) -> tuple[Words, Words]:
    """(words, status codes), [features, rows], of features that share a state and a window."""
    slot, window = plan.slots[features[0].slot], plan.windows[features[0].window]
    shape = (len(features), arrays.t.size)
    out, codes = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    sliding.slide(
        arrays.event_starts, arrays.times, arrays.seen, source.values, source.valid, arrays.row_starts, arrays.t, arrays.head,
        arrays.horizon, states.KINDS[slot.state], value_kind(source.kind),
        np.array([states.OPS[feature.aggregate] for feature in features], np.int64),
        -1 if window.width_us is None else window.width_us, window.hop_us, new_areas(single_slot_programme(slot.state, source.kind), 2),
        out, out.view(np.float64), codes,
    )  # fmt: skip
    return out, codes


def _column(
    plan: ViewPlan, feature: FeaturePlan, words: Words, codes: Words, ready: pl.DataFrame, order: Words, texts: pl.Series | None
) -> pl.Series:
    """Words and status codes as a column of the feature's type, null where the semantics say null."""
    dtype = POLARS_TYPES[feature.type]
    is_value = codes == PRESENT
    if feature.aggregate in ZERO_IF_EMPTY:
        is_value |= codes == EMPTY
    if plan.slots[feature.slot].state in ("last", "first"):
        source = ready[f"in{plan.slots[feature.slot].input}"]
        if plan.row is not None:
            source = source.struct.field(feature.name)
        index = pl.Series(order[np.where(is_value, words, 0)] if order.size else words).set(pl.Series(~is_value), None)
        return source.gather(index).cast(dtype).alias(feature.name)
    if feature.type in WIDE_TYPES and texts is not None:
        places = pl.Series(words).set(pl.Series(~is_value), None)
        return texts.gather(places).cast(dtype).alias(feature.name)
    values = words.view(np.float64) if feature.type == "float" else words
    series = pl.Series(feature.name, values)
    if not is_value.all():
        series = series.set(pl.Series(~is_value), None)
    return series.cast(pl.Int64).cast(dtype) if feature.type == "datetime" else series.cast(dtype)
