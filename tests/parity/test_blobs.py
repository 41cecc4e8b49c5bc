"""The blob of a key: folded in any parts, at any earlier clocks, it is the same to the byte, and it never forgets what a window reaches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import twofold as tw
from twofold.algebra import tiles
from twofold.algebra.base import LOG_ORDER
from twofold.algebra.windows import SLACK_US, Levels
from twofold.instants import DAY_US, HOUR_US, MINUTE_US
from twofold.keys import encode_key
from twofold.plan import reference
from twofold.plan.compile import compile_view
from twofold.plan.folding import ViewFolder, nothing_stored
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, STAMP
from twofold.plan.merge import ViewReader
from twofold.testing.laws import same_value
from twofold.testing.strategies import floats, ints, texts

SCHEMA = {"k": str, "x": float, "i": int, "s": str, "d": datetime}
W = ["1m", "1h", "7d"]
FEATURES = {
    "n": tw.count(over=W),
    "rate": tw.rate(over=W),
    "three": tw.last_k("s", 3, over=W),
    "five": tw.smallest_k("i", 5, over=W),
    "since": tw.time_since_last("x", over="1h"),
    "x": tw.sum("x", over=W),
    "std": tw.std("x", over="1h"),
    "var": tw.var("x", over="1h"),
    "first": tw.first("s", over=W),
    "i": tw.min("i", over=W),
    "s": tw.last("s", over=W),
    "least": tw.min("s", over=W),
    "d": tw.max("d", over="1h"),
    "odd": tw.max("x", over="6h", hop="5m"),
}
events = tw.Events("events", time="t", schema=SCHEMA)
VIEWS = {
    "windows": compile_view(tw.View("windows", events, by="k", features=FEATURES)),
    "and all time": compile_view(tw.View("all", events, by="k", features={**FEATURES, "all": tw.std("i"), "last": tw.last("s")})),
}
BASE = -3 * DAY_US + 12_345_678
BESIDE = st.one_of(st.integers(-HOUR_US, HOUR_US), st.integers(-MINUTE_US, MINUTE_US))
AGES = st.one_of(
    st.integers(-HOUR_US, 20 * 1_000_000),
    st.sampled_from([0, 1, MINUTE_US, HOUR_US, 7 * DAY_US, SLACK_US, HOUR_US + SLACK_US, 7 * DAY_US + SLACK_US, 30 * DAY_US]),
    st.builds(lambda reach, beyond: reach + SLACK_US + beyond, st.sampled_from([MINUTE_US, HOUR_US, 6 * HOUR_US, 7 * DAY_US]), BESIDE),
    st.integers(0, 10 * DAY_US),
)
EVENTS = st.lists(st.tuples(st.sampled_from("ab"), AGES, *(st.none() | values for values in (floats(), ints(), texts()))), max_size=25)
Rows = Sequence[tuple[Any, ...]]


def frame_of(drawn: Rows) -> pl.DataFrame:
    times = [BASE - row[1] for row in drawn]
    plain = {"k": [row[0] for row in drawn], "x": [row[2] for row in drawn], "i": [row[3] for row in drawn], "s": [row[4] for row in drawn]}
    types = {"k": pl.String(), "x": pl.Float64(), "i": pl.Int64(), "s": pl.String()}
    columns = {name: pl.Series(values, dtype=types[name]) for name, values in plain.items()}
    for name in ("d", "t"):
        columns[name] = pl.Series(times, dtype=pl.Int64).cast(POLARS_TYPES["datetime"])
    orders = {MAJOR: [LOG_ORDER + i % 2 for i in range(len(drawn))], MINOR: list(range(len(drawn))), STAMP: [BASE] * len(drawn)}
    return pl.DataFrame({**columns, **{name: pl.Series(values, dtype=pl.Int64) for name, values in orders.items()}})


def folded(name: str, parts: Sequence[tuple[pl.DataFrame, int]], keeps_raw: bool) -> dict[bytes, bytes]:
    """The blobs after folding each part at its clock."""
    folder, blobs = ViewFolder(VIEWS[name]), dict[bytes, bytes]()
    for frame, now in parts:
        blobs.update(folder.fold(frame, lambda keys: [blobs.get(key) for key in keys], now, keeps_raw))
    return {key: blob for key, blob in blobs.items() if blob}


@pytest.mark.parametrize("keeps_raw", [True, False], ids=["delta", "generation"])
@pytest.mark.parametrize("name", VIEWS)
@example(drawn=[("a", 432_000_000, None, None, None)], order=random.Random(0), cuts=[], ages=[MINUTE_US, 0, 0, 0])
@given(
    drawn=EVENTS,
    order=st.randoms(use_true_random=False),
    cuts=st.lists(st.integers(0, 25), max_size=3),
    ages=st.lists(AGES, min_size=4, max_size=4),
)
def test_parts_give_the_blob_of_the_whole(name: str, keeps_raw: bool, drawn: Rows, order: Any, cuts: list[int], ages: list[int]) -> None:
    whole = frame_of(drawn)
    shuffled = whole[order.sample(range(whole.height), whole.height)] if drawn else whole
    bounds = [0, *sorted(min(cut, whole.height) for cut in cuts), whole.height]
    parts = [(shuffled[first:last], BASE - abs(age)) for first, last, age in zip(bounds, bounds[1:], ages, strict=False)]
    # Every key once more at the last clock, which decides how old a tile is.
    touch = frame_of([("a", 0, None, None, None), ("b", 0, None, None, None)]).with_columns(pl.col(MINOR) + 1000)
    apart = folded(name, [*parts, (touch, BASE)], keeps_raw)
    assert apart == folded(name, [(pl.concat([whole, touch]), BASE)], keeps_raw)


@pytest.mark.parametrize("name", VIEWS)
@settings(max_examples=100)
@given(drawn=EVENTS, at=st.lists(st.one_of(AGES.map(lambda age: -age), st.integers(-SLACK_US, 20 * DAY_US)), min_size=1, max_size=8))
def test_a_generation_answers_as_the_reference_from_its_base_on(name: str, drawn: Rows, at: list[int]) -> None:
    view, frame = VIEWS[name], frame_of(drawn)
    blobs = dict(ViewFolder(view).fold(frame, nothing_stored, BASE, keeps_raw=False))
    counted = [
        reference.Event((row["k"],), BASE - age, (row[MAJOR], row[MINOR]), BASE, tuple(row[item.text] for item in view.plan.inputs))
        for row, (_, age, *_) in zip(frame.iter_rows(named=True), drawn, strict=True)
    ]
    reader = ViewReader(view.plan)
    for key in ("a", "b"):
        latest = max((event.event_time for event in counted if event.key == (key,)), default=BASE - SLACK_US - 1)
        for t in (BASE + offset for offset in at):
            answer = reader.read([blobs.get(encode_key((key,)))], t)
            if answer.status == "ahead":
                assert t <= latest or t < BASE - SLACK_US
                continue
            expected = reference.features_at(view.plan, counted, (key,), t)
            is_exact = t >= BASE - SLACK_US
            for feature, value in zip(view.plan.features, answer.values, strict=True):
                assert not is_exact or same_value(value, None if expected[feature.name] is reference.OVERFLOW else expected[feature.name])


@pytest.mark.parametrize("name", VIEWS)
@settings(max_examples=200)
@given(drawn=EVENTS, base=st.integers(0, MINUTE_US))
def test_the_tiles_of_a_blob_are_those_of_the_plain_levels(name: str, drawn: Rows, base: int) -> None:
    view = VIEWS[name]
    levels = Levels.of([(window.width_us, window.hop_us) for window in view.plan.windows])
    blobs = dict(ViewFolder(view).fold(frame_of(drawn), nothing_stored, BASE + base, keeps_raw=False))
    for key in "ab":
        plain = {levels.tile_of(BASE - row[1], BASE + base) for row in drawn if row[0] == key} - {None}
        words = np.frombuffer(blobs.get(encode_key((key,)), b""), np.int64)
        starts, at = [], tiles.HEADER
        while at < words.size:
            starts.append(int(words[at]))
            at += int(words[at + 1]) >> 8
        assert starts == sorted(plain)  # type: ignore[type-var]
