"""The plain pyramid of opaque states and the compiled one, each written for itself: the same tiles, raw events and values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twofold as tw
from twofold.algebra import opaque, tiles
from twofold.algebra.base import LOG_ORDER, Item, Window
from twofold.algebra.guarded import Guarded
from twofold.algebra.kinds import STATUSES
from twofold.algebra.ordered import FirstK
from twofold.algebra.programme import Span
from twofold.algebra.windows import SLACK_US
from twofold.instants import DAY_US, HOUR_US, MINUTE_US, to_datetime
from twofold.keys import encode_key
from twofold.plan.compile import CompiledView, compile_view
from twofold.plan.folding import ViewFolder
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, STAMP
from twofold.plan.merge import ViewReader
from twofold.plan.own import meaning_of
from twofold.testing.laws import same_value
from twofold.testing.strategies import floats, texts

W = ["2s", "1m", "1h", "7d"]
FEATURES = {
    "n": tw.count(over=W),
    "x": tw.sum("x", over=W),
    "std": tw.std("x", over="1h"),
    "s": tw.last("s", over=W),
    "least": tw.min("s", over=W),
    "lasts": tw.last_k("x", 2, over=["1m", "7d"]),
    "d": tw.max("d", over="1h"),
    "before": tw.sum("x", over="1h", ago="1m"),
    "odd": tw.max("x", over="6h", hop="5m"),
}
events = tw.Events("events", time="t", schema={"k": str, "x": float, "s": str, "d": datetime})
VIEWS = {
    "windows": compile_view(tw.View("windows", events, by="k", features=FEATURES)),
    "and all time": compile_view(tw.View("all", events, by="k", features={**FEATURES, "all": tw.std("x"), "first": tw.first("s")})),
}
BASE = 3 * DAY_US + 12_345_678
AGES = st.one_of(
    st.integers(-HOUR_US, 20_000_000),
    st.builds(lambda reach, beyond: reach + SLACK_US + beyond, st.sampled_from([0, MINUTE_US, HOUR_US, 7 * DAY_US]), st.integers(-1, 1)),
    st.integers(0, 10 * DAY_US),
)
ROWS = st.lists(st.tuples(AGES, st.none() | floats(), st.none() | texts()), max_size=90)


def programme_of(view: CompiledView) -> opaque.Programme:
    plan = view.plan
    slots = [opaque.Slot(Guarded(meaning_of(plan, feature), feature.name), plan.slots[feature.slot].input) for feature in plan.features]
    windows = [Span(window.width_us, window.hop_us, window.ago_us) for window in plan.windows]
    wanted = [(i, feature.window) for i, feature in enumerate(plan.features)]
    return opaque.Programme(slots, {i: item.type for i, item in enumerate(plan.inputs)}, windows, wanted)


def frame_of(rows: Sequence[tuple[Any, ...]], first: int) -> pl.DataFrame:
    times = pl.Series([BASE - row[0] for row in rows], dtype=pl.Int64).cast(POLARS_TYPES["datetime"])
    columns = {"k": pl.Series(["a"] * len(rows), dtype=pl.String), "x": pl.Series([row[1] for row in rows], dtype=pl.Float64)}
    columns |= {"s": pl.Series([row[2] for row in rows], dtype=pl.String), "d": times, "t": times}
    minors = range(first, first + len(rows))
    system = {MAJOR: [LOG_ORDER + i % 2 for i in minors], MINOR: list(minors), STAMP: [BASE] * len(rows)}
    return pl.DataFrame({**columns, **{name: pl.Series(values, dtype=pl.Int64) for name, values in system.items()}})


def events_of(view: CompiledView, rows: Sequence[tuple[Any, ...]], first: int) -> list[opaque.Event]:
    found = []
    for i, (age, x, s) in enumerate(rows, first):
        named = {"x": x, "s": s, "d": to_datetime(BASE - age)}
        values = {number: named[item.text] for number, item in enumerate(view.plan.inputs) if named[item.text] is not None}
        found.append(opaque.Event(BASE - age, (LOG_ORDER + i % 2, i), values))
    return found


@pytest.mark.parametrize("keeps_raw", [True, False], ids=["delta", "generation"])
@pytest.mark.parametrize("name", VIEWS)
@settings(max_examples=60)
@given(
    rows=ROWS,
    cut=st.integers(0, 90),
    moved=st.integers(0, 9 * DAY_US) | st.sampled_from([0, MINUTE_US, HOUR_US]),
    at=st.lists(AGES.map(lambda age: -age), min_size=1, max_size=5),
)
def test_it_is_what_compiled_code_makes(name: str, keeps_raw: bool, rows: Any, cut: int, moved: int, at: list[int]) -> None:
    view = VIEWS[name]
    programme, folder, reader = programme_of(view), ViewFolder(view), ViewReader(view.plan)
    part, blob = None, None
    for begin, end, now in ((0, min(cut, len(rows)), BASE), (min(cut, len(rows)), len(rows), BASE + moved)):
        if begin == end:
            continue
        part = opaque.fold(programme, part, events_of(view, rows[begin:end], begin), now, keeps_raw)
        before = blob
        blob = dict(folder.fold(frame_of(rows[begin:end], begin), lambda keys, held=before: [held], now, keeps_raw))[encode_key(("a",))]
        assert (part is None) == (not blob)
        if part is not None:
            part = opaque.decode_part(programme, opaque.encode_part(programme, part))
            assert shape_of(blob) == (part.base, part.folded_max, part.greatest, list(part.tiles), [event.time for event in part.raw][:1])
    parts = [] if part is None else [part]
    for t in (BASE + moved + offset for offset in at):
        answer = reader.read([blob], t)
        assert ("ahead" in answer.statuses) == (not opaque.is_exact(programme, parts, t))
        if "ahead" not in answer.statuses:
            for feature, value, (plain, _) in zip(view.plan.features, answer.values, opaque.read(programme, parts, t), strict=True):
                assert same_value(value, plain), feature.name


def shape_of(blob: bytes) -> tuple[Any, ...]:
    """(base, folded_max, greatest, starts of the tiles, time of the first raw event) of a compiled blob."""
    words = np.frombuffer(blob, np.int64).tolist()
    starts, at = [], tiles.HEADER
    for _ in range(words[tiles.TILES]):
        starts.append(words[at])
        at += words[at + 1] >> 8
    return words[tiles.BASE], words[tiles.FOLDED_MAX], words[tiles.GREATEST], starts, words[at : at + 1] if words[tiles.RAW] else []


@given(
    values=st.lists(st.none() | st.integers(-9, 9), max_size=30),
    draws=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=20),
)
def test_sliding_is_merging_each_span(values: list[int | None], draws: list[tuple[int, int]]) -> None:
    aggregate = Guarded(FirstK("int", k=100), "first")
    lifted = [None if value is None else aggregate.lifted(Item(value, i, (1, i))) for i, value in enumerate(values)]
    spans, low, high = [], 0, 0
    for first, last in sorted(draws):
        low, high = max(low, min(first, len(values))), max(high, min(last, len(values)))
        high = max(low, high)
        spans.append((low, high))
    for (low, high), state in zip(spans, opaque.slide(aggregate, lifted, spans), strict=True):
        present = [value for value in values[low:high] if value is not None]
        value, status = aggregate.result(state, 99, Window(None, 99, None))
        assert (value, STATUSES[status]) == ((present, "present") if present else (None, "empty"))
