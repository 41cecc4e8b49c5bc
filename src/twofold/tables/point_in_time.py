"""Features at points in time: prepared events and a spine in, one row of features for each row of the spine out.

Which events a row may see is one rule for training sets, audits and replays: `event_time < min(at, head)` and, where `seen` is
given, `seen < horizon`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra import grouping, sliding, sliding_ranks
from twofold.algebra.hashing import hash_texts
from twofold.algebra.kinds import EMPTY, INT, KINDS, OPS, PRESENT, STATUSES, ZERO_IF_EMPTY
from twofold.algebra.programme import new_areas, value_kind
from twofold.algebra.words import WIDE_TYPES, element_type
from twofold.definitions.table import DELETED
from twofold.plan.inputs import POLARS_TYPES, TIME, words_of
from twofold.plan.merge import single_slot_programme, wanted_of
from twofold.plan.own import compiled_part, opaque_part
from twofold.plan.serving import FeaturePlan, SlotPlan, ViewPlan, WindowPlan
from twofold.tables.columns import as_lists
from twofold.tables.grouping import Grouped, gathered, grouped_events, grouped_rows, groups_of
from twofold.tables.opaque_columns import opaque_columns

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
    key, an unknown key and an empty window give what an empty window gives. Raises DefinitionError where a person's own aggregate
    fails on a row, unless the status is asked for, which says so.
    """
    visibility = visibility or Visibility()
    keys = [f"k{i}" for i in range(len(plan.by))]
    groups, row_groups = groups_of(spine, keys)
    rows, events = grouped_rows(row_groups, at, groups.height), grouped_events(ready, groups, keys)
    seen = gathered(ready[visibility.seen].to_numpy(), events.order) if visibility.seen else _NOTHING
    times = gathered(ready[TIME].to_numpy(), events.order)
    t = at[rows.order]
    head = t if visibility.head is None else np.minimum(at, visibility.head)[rows.order]
    horizon = t if visibility.horizon is None else visibility.horizon[rows.order]
    compiled = compiled_part(plan)
    inputs = {number: _input(compiled, number, ready, events, times, seen) for number in {slot.input for slot in compiled.slots}}

    def rows_of(window: WindowPlan) -> sliding.Rows:
        low, high, is_hidden = np.empty(t.size, np.int64), np.empty(t.size, np.int64), np.empty(t.size, np.bool_)
        sliding.bounds(
            events.starts, times, seen, rows.starts, t, head, horizon, -1 if window.width_us is None else window.width_us, window.hop_us,
            window.ago_us, low, high, is_hidden,
        )  # fmt: skip
        return sliding.Rows(rows.starts, t, horizon, low, high, is_hidden)

    place = np.empty_like(rows.order)
    place[rows.order] = np.arange(rows.order.size)
    columns: dict[str, pl.Series] = {}
    for features, found, codes in _slide_all(compiled, inputs, rows_of, place):
        if plan.row is not None:
            _empty_where_deleted(ready["in0"], events.order, found[0][0], codes)
        for feature, words, status_codes in zip(features, found, codes, strict=True):
            columns[feature.name] = _column(plan, feature, words, status_codes, ready, events.order, inputs)
            if status:
                columns[f"{feature.name}__status"] = pl.Series(np.array(STATUSES)[status_codes], dtype=pl.String)
    if (opaque := opaque_part(plan)) is not None:
        columns |= opaque_columns(plan, opaque, ready, times, events.order, seen, rows_of, rows.order, status)
    names = [name for feature in plan.features for name in (feature.name, f"{feature.name}__status") if name in columns]
    return pl.DataFrame({name: columns[name] for name in names}) if columns else pl.DataFrame(height=spine.height)


_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True)
class _Input:
    """An input by group, and its type name.

    The word of a text is its place among `texts`, which are in order, distinct, and only there if values are compared. `places` and
    `at_place` are `places_within` the groups, `hashes` those of texts; each is only there if a state asks for it.
    """

    events: sliding.Events
    kind: str
    texts: pl.Series | None = None
    places: Words = field(default_factory=lambda: _NOTHING)
    at_place: Words = field(default_factory=lambda: _NOTHING)
    hashes: Words = field(default_factory=lambda: _NOTHING)


def _input(plan: ViewPlan, number: int, ready: pl.DataFrame, grouped: Grouped, times: Words, seen: Words) -> _Input:
    order, asking = grouped.order, {other.state for other in plan.slots if other.input == number}
    if number < 0:
        return _Input(sliding.Events(times, seen, np.zeros(order.size, np.int64), _NOTHING, _NOTHING), "event")
    kind, column = plan.inputs[number].type, ready[f"in{number}"]
    ranks, positions = _NOTHING, _NOTHING
    if column.null_count():
        has_value = column.is_not_null().to_numpy()[order]
        ranks, positions = np.concatenate([[0], np.cumsum(has_value)]), np.flatnonzero(has_value)
    texts = None
    if kind not in WIDE_TYPES:
        values = gathered(words_of(column), order)
    elif asking & _COMPARING:
        values = words_of(column.rank("dense").cast(pl.Int64) - 1)[order]
        texts = column.drop_nulls().unique().sort()
    else:
        values = np.zeros(order.size, np.int64)
    places, at_place, hashes = _NOTHING, _NOTHING, _NOTHING
    if asking & _BY_PLACE:
        places, at_place = sliding_ranks.places_within(grouped.starts, values, ranks, value_kind(kind))
    if kind in WIDE_TYPES and "registers" in asking:
        hashes = _hashes(column)[order]
    return _Input(sliding.Events(times, seen, values, ranks, positions), kind, texts, places, at_place, hashes)


def _hashes(texts: pl.Series) -> Words:
    """The hash of each text, of a null that of an empty one."""
    sizes = texts.str.len_bytes().fill_null(0).to_numpy()
    raw = (texts.str.join("").item() or "").encode()
    hashes: Words = hash_texts(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), np.frombuffer(raw, np.uint8))
    return hashes


_BY_PLACE = frozenset({"smallest_k", "largest_k", "values"})
"""States that slide over places within the groups."""
_COMPARING = frozenset({"min", "max", *_BY_PLACE})
"""States that compare values."""
_PLACES = frozenset({"last", "first", "last_k", "first_k"})
"""States of which the engine writes events, not values."""
_Slid = tuple[list[FeaturePlan], list[Words], NDArray[np.int8]]
"""Features of one state and window, the words of each [words, rows], their status codes [features, rows]."""


def _slide_all(
    plan: ViewPlan, inputs: Mapping[int, _Input], rows_of: Callable[[WindowPlan], sliding.Rows], place: Words
) -> Iterator[_Slid]:
    """What every feature is for every row; states and windows side by side on all cores. Row i of the spine is `place[i]` by group."""
    places: dict[tuple[int, int], list[FeaturePlan]] = {}
    for feature in plan.features:
        places.setdefault((feature.window, feature.slot), []).append(feature)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = {window: pool.submit(rows_of, plan.windows[window]) for window in dict.fromkeys(window for window, _ in places)}
        tasks = deque(
            pool.submit(_slide, plan, found, inputs[plan.slots[slot].input], rows[window].result(), place)
            for (window, slot), found in places.items()
        )
        while tasks:
            yield tasks.popleft().result()


def _empty_where_deleted(rows: pl.Series, order: Words, words: Words, codes: NDArray[np.int8]) -> None:
    """Change a table's status codes [columns, rows] where the latest row is a delete."""
    if not order.size or DELETED not in rows.struct.fields:
        return
    deleted = rows.struct.field(DELETED).to_numpy()[order]
    is_row = codes[0] == PRESENT
    codes[:, is_row & deleted[np.where(is_row, words, 0)]] = EMPTY


def _slide(plan: ViewPlan, features: list[FeaturePlan], source: _Input, rows: sliding.Rows, place: Words) -> _Slid:
    """The features of one state over one window, by the spine's rows."""
    slot, window = plan.slots[features[0].slot], plan.windows[features[0].window]
    # The columns of a row are all read from the one row.
    distinct = features[:1] if source.kind == "row" else features
    wanted = [wanted_of(plan, feature) for feature in distinct]
    places = np.cumsum([0, *(item.words for item in wanted)])
    count = rows.t.size
    words, codes = np.zeros(int(places[-1]) * count, np.int64), np.zeros((len(distinct), count), np.int8)
    asked = sliding.Asked(
        KINDS[slot.state],
        value_kind(source.kind),
        -1 if window.width_us is None else window.width_us,
        np.array([OPS[item.aggregate] for item in wanted], np.int64),
        np.array([item.argument for item in wanted], np.int64),
        places[:-1],
    )
    events = source.events
    if slot.state in _BY_PLACE:
        events, asked = events._replace(values=source.places), asked._replace(value_kind=INT)
    elif slot.state == "registers" and source.hashes.size:
        events = events._replace(values=source.hashes)
    areas = new_areas(single_slot_programme(slot.state, source.kind, slot.size), 2)
    sliding.slide(events, rows, asked, areas, sliding.Out(words, words.view(np.float64), codes))
    by_row = np.empty_like(words)
    for begin in range(0, words.size, count or 1):
        grouping.gather(words[begin : begin + count], place, by_row[begin : begin + count])
    codes = codes[:, place]
    found = [by_row[begin * count : end * count].reshape(end - begin, count) for begin, end in pairwise(places)]
    if source.kind == "row":
        return features, found * len(features), np.repeat(codes, len(features), 0)
    return features, found, codes


def _column(
    plan: ViewPlan, feature: FeaturePlan, words: Words, codes: NDArray[np.int8], ready: pl.DataFrame, order: Words,
    inputs: Mapping[int, _Input],
) -> pl.Series:  # fmt: skip
    """Words [words, rows] and status codes of a feature as a column of its type, null where the semantics say null."""
    slot = plan.slots[feature.slot]
    is_value = codes == PRESENT
    if feature.aggregate in ZERO_IF_EMPTY:
        is_value |= codes == EMPTY
    if words.shape[0] == 1:
        return _values(plan, feature, slot, words[0], is_value, ready, order, inputs[slot.input]).alias(feature.name)
    counts = np.where(is_value, words[0], 0)
    is_held = np.arange(words.shape[0] - 1)[None, :] < counts[:, None]
    flat = words[1:].T[is_held]
    values = _values(plan, feature, slot, np.ascontiguousarray(flat), np.ones(flat.size, np.bool_), ready, order, inputs[slot.input])
    return as_lists(values, counts, is_value).alias(feature.name)


def _values(
    plan: ViewPlan, feature: FeaturePlan, slot: SlotPlan, words: Words, is_value: NDArray[np.bool_], ready: pl.DataFrame, order: Words,
    source: _Input,
) -> pl.Series:  # fmt: skip
    """Words as values of a feature's type, or of its elements; null where not `is_value`."""
    dtype = POLARS_TYPES[element_type(feature.type)]
    if slot.state in _PLACES:
        values = ready[f"in{slot.input}"]
        if source.kind == "row":
            values = values.struct.field(feature.parameters["column"])
        index = pl.Series(order[np.where(is_value, words, 0)] if order.size else words).set(pl.Series(~is_value), None)
        return values.gather(index).cast(dtype)
    if slot.state in _BY_PLACE and words.size and feature.type.startswith("list"):
        words = source.at_place[words]
    if dtype == pl.String and source.texts is not None:
        return source.texts.gather(pl.Series(words).set(pl.Series(~is_value), None)).cast(dtype)
    series = pl.Series(words.view(np.float64) if dtype == pl.Float64 else words)
    if not is_value.all():
        series = series.set(pl.Series(~is_value), None)
    return series.cast(pl.Int64).cast(dtype) if isinstance(dtype, pl.Datetime) else series.cast(dtype)
