"""Labels against plain loops over the same events, and which rows' horizons are over."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from fractions import Fraction
from statistics import stdev
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.instants import to_us
from twofold.learn.labels import label_of, with_labels
from twofold.plan.compile import compile_source
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, as_history, stamped

ends = tw.Events("ends", time="ended_at", schema={"ride": str, "car": int, "minutes": float, "stars": int, "kind": str})
PLAN = compile_source(ends)
WITHIN_US = 7
WITHIN = timedelta(microseconds=WITHIN_US)
Event = dict[str, Any]


def events_of(rows: Sequence[Event]) -> pl.DataFrame:
    """Loaded events, in their order."""
    frame = pl.DataFrame({name: pl.Series([row[name] for row in rows], dtype=POLARS_TYPES[kind]) for name, kind in PLAN.columns.items()})
    return as_history(PLAN, stamped(PLAN, frame), 1)


def spine_of(rows: Sequence[Event]) -> pl.DataFrame:
    types = {"at": "datetime", "ride": "str", "car": "int"}
    return pl.DataFrame({name: pl.Series([row[name] for row in rows], dtype=POLARS_TYPES[kind]) for name, kind in types.items()})


def random_events(count: int, seed: int, base_us: int) -> list[Event]:
    """Few keys and few instants, so that ties are everywhere; nulls too. In no order of time."""
    rng = random.Random(seed)
    return [
        {
            "ride": rng.choice(["a", "b", "c", None]),
            "car": rng.choice([1, 2, None]),
            "minutes": rng.choice([None, 0.1, 0.2, 1e15, -1e15, 3.0]),
            "stars": rng.choice([None, 1, 2, 3]),
            "kind": rng.choice(["x", "y"]),
            "ended_at": base_us + rng.randrange(40),
        }
        for _ in range(count)
    ]


def random_rows(count: int, seed: int, base_us: int) -> list[Event]:
    """Rows in no order, with instants of events, equal rows, keys that no event has, and null keys."""
    rng = random.Random(seed)
    rows = [
        {"at": base_us + rng.randrange(-10, 50), "ride": rng.choice(["a", "b", "c", "never", None]), "car": rng.choice([1, 2, 3, None])}
        for _ in range(count)
    ]
    return [*rows, *rows[: count // 4]]


def within(row: Event, events: Sequence[Event], on: Sequence[str]) -> list[Event]:
    """The events of [at, at + within) that a row is tied to, in order of time, ties as they were loaded."""
    mine = [
        event
        for event in events
        if row["at"] <= event["ended_at"] < row["at"] + WITHIN_US and all(row[key] is not None and event[key] == row[key] for key in on)
    ]
    return sorted(mine, key=lambda event: event["ended_at"])


def known(events: Sequence[Event], column: str) -> list[Any]:
    return [event[column] for event in events if event[column] is not None]


def exact_mean(values: Sequence[float]) -> float | None:
    return float(sum(map(Fraction, values)) / len(values)) if values else None


MISSING = -1
Plain = Callable[[list[Event]], Any]
# A label's value, and the same over the events of a row's horizon; MISSING stands for `missing=`, None for a row that is left out.
LABELS: dict[str, tuple[Any, Plain]] = {
    "count": (tw.count(), len),
    "count of a column": (tw.count("stars"), lambda found: len(known(found, "stars"))),
    "count where": (tw.count(where=pl.col("kind") == "x"), lambda found: sum(event["kind"] == "x" for event in found)),
    "sum": (tw.sum("minutes"), lambda found: math.fsum(known(found, "minutes"))),
    "sum of integers": (tw.sum("stars"), lambda found: sum(known(found, "stars"))),
    "sum where": (tw.sum("stars", where=pl.col("kind") == "x"), lambda found: sum(known([e for e in found if e["kind"] == "x"], "stars"))),
    "mean": (tw.mean("minutes"), lambda found: MISSING if not known(found, "minutes") else exact_mean(known(found, "minutes"))),
    "max": (tw.max("stars"), lambda found: max(known(found, "stars"), default=MISSING)),
    "min of an expression": (tw.min(pl.col("stars") * 2), lambda found: min((2 * n for n in known(found, "stars")), default=MISSING)),
    "first": (tw.first("stars"), lambda found: next(iter(known(found, "stars")), MISSING)),
    "last": (tw.last("stars"), lambda found: next(reversed(known(found, "stars")), MISSING)),
    "rate": (tw.rate(), lambda found: len(found) / (WITHIN_US / 1e6)),
    "a column of the first event": ("stars", lambda found: found[0]["stars"] if found else MISSING),
    "an expression of the first event": (
        pl.col("minutes") / 2,
        lambda found: MISSING if not found else None if found[0]["minutes"] is None else found[0]["minutes"] / 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("on", [("ride",), ("ride", "car")], ids=["one key", "two keys"])
@pytest.mark.parametrize("name", LABELS)
def test_labels_are_those_of_plain_loops(name: str, on: tuple[str, ...]) -> None:
    value, plain = LABELS[name]
    labels = [tw.Label(ends, on=on, value=value, within=WITHIN, missing=missing) for missing in (MISSING, None)]
    seen: set[Any] = set()
    for seed, base_us in enumerate([to_us("2024-05-01T00:00:00.5Z"), -20, -(10**15) - 3]):
        events, rows = random_events(150, seed, base_us), random_rows(60, seed + 100, base_us)
        random.Random(seed).shuffle(rows)
        expected = [plain(within(row, events, on)) for row in rows]
        filled, left = (label_of(spine_of(rows), label, events_of(events)).to_list() for label in labels)
        assert filled == expected
        assert left == [None if label == MISSING else label for label in expected]
        seen |= set(expected)
    assert len(seen) > 3, "the labels differ from each other"


def test_std_is_missing_where_it_has_no_value() -> None:
    event = {**random_events(1, 5, 0)[0], "ended_at": 3}
    events = [{**event, "ride": ride, "minutes": minutes} for ride, minutes in (("a", 1.0), ("b", 2.0), ("a", 4.0))]
    rows = spine_of([{"at": 0, "ride": ride, "car": 1} for ride in "abc"])
    label = tw.Label(ends, on="ride", value=tw.std("minutes"), within=WITHIN, missing=-1)
    assert label_of(rows, label, events_of(events)).to_list() == [stdev([1.0, 4.0]), -1.0, -1.0]


def test_an_overflow_is_no_missing_label() -> None:
    event = {**random_events(1, 5, 0)[0], "ride": "a", "minutes": 1.7e308, "ended_at": 3}
    label = tw.Label(ends, on="ride", value=tw.sum("minutes"), within=WITHIN, missing=0.0)
    assert label_of(spine_of([{"at": 0, "ride": "a", "car": 1}]), label, events_of([event, event])).to_list() == [None]


def test_no_rows_and_no_events() -> None:
    rows = spine_of([{"at": 0, "ride": "a", "car": 1}])
    for value, nothing in ((tw.count(), 0), ("stars", -1), (tw.max("stars"), -1)):
        label = tw.Label(ends, on="ride", value=value, within=WITHIN, missing=-1)
        assert label_of(rows, label, events_of([])).to_list() == [nothing]
        assert label_of(rows.clear(), label, events_of(random_events(5, 1, 0))).to_list() == []


def test_steps_and_expressions_that_fail_on_a_row() -> None:
    """A step leaves events out; an expression that fails, or gives no finite number, is null for that event alone."""
    source = ends.filter(pl.col("kind") == "x").rename(ride="trip", ended_at="over_at")
    event = {**random_events(1, 5, 0)[0], "ride": "a", "ended_at": 3, "stars": 1}
    events = events_of(
        [
            {**event, "kind": "y", "minutes": 9.0},
            {**event, "kind": "x", "minutes": 4.0},
            {**event, "kind": "x", "ride": "b", "minutes": 0.0},
        ]
    )
    rows = spine_of([{"at": 0, "ride": ride, "car": 1} for ride in "abc"]).rename({"ride": "trip"})
    label = tw.Label(source, on="trip", value=1 / pl.col("minutes"), within=WITHIN, missing=7.0)
    assert label_of(rows, label, events).to_list() == [0.25, None, 7.0]
    label = tw.Label(source, on="trip", value=tw.count(), within=WITHIN)
    assert label_of(rows, label, events).to_list() == [1, 1, 0]


def test_ties_are_the_earlier_of_history_and_log() -> None:
    event = {**random_events(1, 5, 0)[0], "ride": "a", "ended_at": 3}
    events = events_of([{**event, "stars": 1}, {**event, "stars": 2}, {**event, "stars": 3}])
    events = events.with_columns(pl.Series(MAJOR, [9, 2, 2]), pl.Series(MINOR, [0, 8, 7]))
    rows = spine_of([{"at": 0, "ride": "a", "car": 1}])
    for value in ("stars", tw.first("stars")):
        assert label_of(rows, tw.Label(ends, on="ride", value=value, within=WITHIN), events).to_list() == [3]


class TestHorizons:
    """Rows whose horizon is not over are left out, never counted as negatives."""

    ROWS = spine_of([{"at": at, "ride": "a", "car": 1} for at in (5, 0, 3, 4, 1)])
    LATE = tw.Label(ends, on="ride", value=pl.lit(True), within=WITHIN, missing=False)

    def kept(self, last_us: int, until: int | None = None, **others: tw.Label) -> list[int]:
        other = {**random_events(1, 5, 0)[0], "ride": "other", "kind": "y", "ended_at": last_us}
        labels = {"label": self.LATE, **others}
        frames = {"ends": events_of([other]), "slow": events_of([{**other, "ended_at": last_us - 2}])}
        found = with_labels(self.ROWS, labels, frames.__getitem__, until)
        assert all(found[name].to_list() == [False] * found.height for name in labels)
        return [int(at) for at in found["at"].to_physical()]

    def test_a_source_that_has_arrived_to_the_horizon(self) -> None:
        assert self.kept(100) == [5, 0, 3, 4, 1]
        assert self.kept(3 + WITHIN_US) == [0, 3, 1]
        assert self.kept(3 + WITHIN_US - 1) == [0, 1]
        assert self.kept(-1) == []

    def test_until(self) -> None:
        assert self.kept(100, until=4 + WITHIN_US) == [0, 3, 4, 1]
        assert self.kept(100, until=4 + WITHIN_US - 1) == [0, 3, 1]
        assert self.kept(3 + WITHIN_US, until=100) == [0, 3, 1]

    def test_of_several_labels_every_horizon(self) -> None:
        """One source lags by 2 us; another horizon is 3 us longer."""
        slow = tw.Events("slow", time="ended_at", schema={"ride": str})
        assert self.kept(4 + WITHIN_US, slow=tw.Label(slow, on="ride", value=pl.lit(True), within=WITHIN, missing=False)) == [0, 1]
        longer = tw.Label(ends, on="ride", value=pl.lit(True), within=timedelta(microseconds=WITHIN_US + 3), missing=False)
        assert self.kept(4 + WITHIN_US, longer=longer) == [0, 1]

    def test_what_the_source_leaves_out_has_arrived_all_the_same(self) -> None:
        filtered = tw.Label(ends.filter(pl.col("kind") == "x"), on="ride", value=pl.lit(True), within=WITHIN, missing=False)
        assert self.kept(3 + WITHIN_US, label=filtered) == [0, 3, 1]

    def test_a_source_without_events_has_not_arrived_anywhere(self) -> None:
        assert with_labels(self.ROWS, {"label": self.LATE}, lambda _: events_of([]), None).is_empty()

    def test_a_row_of_which_one_label_is_not_known_is_left_out(self) -> None:
        event = {**random_events(1, 5, 0)[0], "ride": "a", "ended_at": 3, "stars": 2}
        labels = {"label_a": self.LATE, "label_b": tw.Label(ends, on="ride", value="stars", within=WITHIN)}
        found = with_labels(self.ROWS, labels, lambda _: events_of([event, {**event, "ride": "b", "ended_at": 99}]), None)
        assert found["at"].to_physical().to_list() == [0, 3, 1]
        assert found["label_b"].to_list() == [2, 2, 2]
