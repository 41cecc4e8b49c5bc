"""Features at points in time: prepared events and a spine in, one row of features for each row of the spine out.

Which events a row may see is one rule for training sets, audits and replays: `event_time < min(at, head)` and, where `seen` is
given, `seen < horizon`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra import sliding, states
from twofold.algebra.programme import new_areas, value_kind
from twofold.algebra.states import EMPTY, PRESENT, STATUSES
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, TIME, words_of
from twofold.plan.merge import single_slot_programme
from twofold.plan.serving import FeaturePlan, ViewPlan

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
    order, row_group, groups = _groups(spine, at, keys)
    events = _grouped_events(ready, groups, keys)
    starts = np.arange(groups.height + 1)
    arrays = _Arrays(
        event_starts=np.searchsorted(events["__group"].to_numpy(), starts),
        times=events[TIME].to_numpy(),
        seen=events[visibility.seen].to_numpy() if visibility.seen else np.empty(0, np.int64),
        row_starts=np.searchsorted(row_group, starts),
        t=at[order],
        head=at[order] if visibility.head is None else np.minimum(at, visibility.head)[order],
        horizon=at[order] if visibility.horizon is None else visibility.horizon[order],
    )
    columns: dict[str, pl.Series] = {}
    computed: dict[tuple[str, int, int], tuple[Words, Words]] = {}
    back = np.argsort(order, kind="stable")
    for feature in plan.features:
        key = (feature.aggregate, feature.slot, feature.window)
        if key not in computed:
            words, codes = _slide(plan, feature, events, arrays)
            computed[key] = words[back], codes[back]
        columns[feature.name] = _column(plan, feature, *computed[key], events)
        if status:
            columns[f"{feature.name}__status"] = pl.Series([STATUSES[code] for code in computed[key][1]], dtype=pl.String)
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=spine.height)


@dataclass(frozen=True)
class _Arrays:
    """What `sliding.slide` reads for every feature alike."""

    event_starts: Words
    times: Words
    seen: Words
    row_starts: Words
    t: Words
    head: Words
    horizon: Words


def _groups(spine: pl.DataFrame, at: Words, keys: list[str]) -> tuple[Words, Words, pl.DataFrame]:
    """(rows in order of (group, at), group of each of these, the groups' keys with their number). Rows of null keys share a group."""
    if not keys:
        order = np.argsort(at, kind="stable")
        return order, np.zeros(at.size, np.int64), pl.DataFrame({"__group": pl.Series([0], dtype=pl.Int64)})
    groups = spine.select(keys).unique().with_row_index("__group").with_columns(pl.col("__group").cast(pl.Int64))
    numbered = spine.select(keys).join(groups, on=keys, how="left", nulls_equal=True, maintain_order="left")["__group"].to_numpy()
    order = np.lexsort((at, numbered))
    return order, numbered[order], groups


def _grouped_events(ready: pl.DataFrame, groups: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The events of the spine's keys, with their group, in order of (group, time, order)."""
    grouped = ready.join(groups, on=keys, how="inner") if keys else ready.with_columns(__group=pl.lit(0, pl.Int64))
    return grouped.sort("__group", TIME, MAJOR, MINOR)


def _slide(plan: ViewPlan, feature: FeaturePlan, events: pl.DataFrame, arrays: _Arrays) -> tuple[Words, Words]:
    """(words, status codes) of one feature, rows in the order of `arrays`."""
    slot, window = plan.slots[feature.slot], plan.windows[feature.window]
    rows = arrays.t.size
    out, codes = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    if slot.input < 0:
        values, valid, kind = np.zeros(events.height, np.int64), np.ones(events.height, np.bool_), "event"
    else:
        kind = plan.inputs[slot.input].type
        column = events[f"in{slot.input}"]
        valid = column.is_not_null().to_numpy()
        values = np.zeros(events.height, np.int64) if slot.state in ("last", "count") else words_of(column)
    sliding.slide(
        arrays.event_starts, arrays.times, arrays.seen, values, valid, arrays.row_starts, arrays.t, arrays.head, arrays.horizon,
        states.KINDS[slot.state], value_kind(kind), states.OPS[feature.aggregate], -1 if window.width_us is None else window.width_us,
        window.hop_us, new_areas(single_slot_programme(slot.state, kind), 2), out, out.view(np.float64), codes,
    )  # fmt: skip
    return out, codes


def _column(plan: ViewPlan, feature: FeaturePlan, words: Words, codes: Words, events: pl.DataFrame) -> pl.Series:
    """Words and status codes as a column of the feature's type, null where the semantics say null."""
    dtype = POLARS_TYPES[feature.type]
    is_value = codes == PRESENT
    if feature.aggregate in ("count", "sum"):
        is_value |= codes == EMPTY
    if plan.slots[feature.slot].state == "last":
        source = events[f"in{plan.slots[feature.slot].input}"]
        if plan.row is not None:
            source = source.struct.field(feature.name)
        index = pl.Series(np.where(is_value, words, 0)).set(pl.Series(~is_value), None)
        return source.gather(index).cast(dtype).alias(feature.name)
    values = words.view(np.float64) if feature.type == "float" else words
    series = pl.Series(feature.name, values).set(pl.Series(~is_value), None)
    return series.cast(pl.Int64).cast(dtype) if feature.type == "datetime" else series.cast(dtype)
