"""Rows to train on: the sample, weights, groups, conditions after steps; and the split that keeps groups apart."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

import twofold as tw
from twofold.errors import DataError
from twofold.instants import DAY_US, to_us
from twofold.learn.rows import sampled, training_rows
from twofold.learn.train import split_by_time
from twofold.plan.compile import compile_source
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, as_history, stamped

BEGIN = to_us("2024-05-01T00:00:00Z")
SCHEMA = {"ride": str, "city": str, "fare": float, "seats": int}
rides = tw.Events("rides", time="began_at", id="ride", schema=SCHEMA)
unnamed = tw.Events("rides", time="began_at", schema=SCHEMA)
FIELDS = {"ride": "str", "fare": "float"}


def events_of(count: int, **columns: list[Any]) -> pl.DataFrame:
    plan = compile_source(rides)
    plain = {
        "ride": [f"r{i}" for i in range(count)],
        "city": ["Oslo", "Rome"] * (count // 2),
        "fare": [float(i) for i in range(count)],
        "seats": [i % 4 for i in range(count)],
        "began_at": [BEGIN + (i * 7919) % count for i in range(count)],
    }
    frame = pl.DataFrame({name: pl.Series(values, dtype=POLARS_TYPES[plan.columns[name]]) for name, values in {**plain, **columns}.items()})
    return as_history(plan, stamped(plan, frame), 1)


class TestSample:
    def test_keeps_about_its_share_and_all_of_all(self) -> None:
        events = events_of(4000)
        for share in (0.01, 0.25, 0.5, 0.9):
            kept = int(sampled(events, "ride", share).sum())
            assert abs(kept - 4000 * share) < 5 * np.sqrt(4000 * share * (1 - share))
        assert sampled(events, "ride", 1).all()

    def test_is_pinned(self) -> None:
        """The same rows in every run, on every machine: part of what a dataset's name fixes."""
        events = events_of(20)
        assert np.flatnonzero(sampled(events, "ride", 0.3)).tolist() == PINNED_BY_ID
        assert np.flatnonzero(sampled(events, None, 0.3)).tolist() == PINNED_BY_POSITION

    def test_goes_by_the_id_wherever_the_row_stands(self) -> None:
        events = events_of(500)
        mixed = events.sample(fraction=1.0, shuffle=True, seed=3).with_columns(
            pl.Series(MINOR, range(500), dtype=pl.Int64), pl.lit(9).alias(MAJOR)
        )
        chosen = [set(frame.filter(pl.Series(sampled(frame, "ride", 0.3)))["ride"]) for frame in (events, mixed, mixed[100:200])]
        assert chosen[0] == chosen[1] > chosen[2] == chosen[0] & set(mixed[100:200]["ride"])

    def test_goes_by_the_position_where_there_is_no_id(self) -> None:
        events = events_of(500, ride=[None] * 250 + ["same"] * 250)
        by_id = sampled(events, "ride", 0.3)
        by_place = sampled(events, None, 0.3)
        assert (by_id[:250] == by_place[:250]).all()
        assert len(set(by_id[250:])) == 1
        order = random.Random(1).sample(range(500), 500)
        assert (sampled(events[order], None, 0.3) == by_place[order]).all()

    def test_a_smaller_sample_lies_in_a_larger_one(self) -> None:
        events = events_of(500)
        small, large = sampled(events, "ride", 0.1), sampled(events, "ride", 0.4)
        assert (small <= large).all()
        assert small.sum() < large.sum()

    def test_rows_are_those_of_the_sample(self) -> None:
        events = events_of(300)
        for source, id in ((rides, "ride"), (unnamed, None)):
            rows = training_rows(tw.Rows(source, sample=0.3), FIELDS, events)
            assert set(rows["ride"]) == set(events.filter(pl.Series(sampled(events, id, 0.3)))["ride"])

    def test_steps_change_no_identity(self) -> None:
        """The id is that of the event, whatever a step calls it or makes of it."""
        stepped = rides.rename(ride="trip").with_columns(trip=pl.lit("one"), more=pl.col("fare") * 2)
        rows = training_rows(tw.Rows(stepped, sample=0.3), {"trip": "str", "more": "float"}, events_of(300))
        plain = training_rows(tw.Rows(rides, sample=0.3), FIELDS, events_of(300))
        assert (rows["more"] / 2).equals(plain["fare"].alias("more"))


PINNED_BY_ID = [2, 3, 8, 13, 14, 16]
PINNED_BY_POSITION = [1, 2, 8, 16, 17, 18]


class TestRows:
    def test_are_in_order_of_their_instant(self) -> None:
        rows = training_rows(tw.Rows(rides), FIELDS, events_of(50))
        assert rows.columns == ["at", "ride", "fare"]
        assert rows["at"].is_sorted()
        assert rows.height == 50

    def test_where_sees_what_the_steps_made(self) -> None:
        source = rides.filter(pl.col("city") == "Oslo").with_columns(dear=pl.col("fare") > 20).rename(fare="price", began_at="start")
        rows = training_rows(tw.Rows(source, where=pl.col("dear") & (pl.col("price") < 40)), {"price": "float"}, events_of(50))
        assert sorted(rows["price"]) == [float(fare) for fare in range(22, 40, 2)]

    def test_where_that_fails_or_is_null_leaves_the_row_out(self) -> None:
        events = events_of(4, fare=[1.0, None, 3.0, 5.0], city=["1", "2", "x", "0"])
        assert training_rows(tw.Rows(rides, where=pl.col("fare") > 0), FIELDS, events)["fare"].sort().to_list() == [1.0, 3.0, 5.0]
        where = pl.col("city").str.to_integer() > 0
        assert training_rows(tw.Rows(rides, where=where), FIELDS, events)["ride"].sort().to_list() == ["r0", "r1"]

    def test_at_is_any_instant(self) -> None:
        events = events_of(6, fare=[1.0, None, 3.0, 4.0, 5.0, 6.0])
        rows = training_rows(tw.Rows(rides, at=pl.col("began_at") - pl.duration(seconds=pl.col("fare").cast(pl.Int64))), FIELDS, events)
        expected = [BEGIN + (i * 7919) % 6 - int(fare) * 1_000_000 for i, fare in enumerate(events["fare"]) if fare is not None]
        assert rows["at"].to_physical().to_list() == sorted(expected)


class TestWeight:
    def test_a_column_and_an_expression(self) -> None:
        events = events_of(4)
        rows = training_rows(tw.Rows(rides, weight="seats"), FIELDS, events)
        assert rows.columns == ["at", "ride", "fare", "weight"]
        assert dict(zip(rows["ride"], rows["weight"], strict=True)) == {"r0": 0.0, "r1": 1.0, "r2": 2.0, "r3": 3.0}
        rows = training_rows(tw.Rows(rides, weight=pl.col("seats") / 2), FIELDS, events)
        assert rows["weight"].sort().to_list() == [0.0, 0.5, 1.0, 1.5]

    def test_null_leaves_the_row_out(self) -> None:
        """So do NaN and infinities of an expression, which are null everywhere."""
        events = events_of(4, fare=[1.0, None, 0.0, 4.0])
        for weight in (1 / pl.col("fare"), (pl.col("fare") - 0.0) / pl.col("fare") * 2):
            assert training_rows(tw.Rows(rides, weight=weight), FIELDS, events)["ride"].sort().to_list() == ["r0", "r3"]

    def test_a_negative_one_is_refused(self) -> None:
        with pytest.raises(
            DataError,
            match=r"rows of source 'rides' \(test_rows\.py:\d+\): the weight of 2 rows is negative, the first is -1\.0; a weight says",
        ):
            training_rows(tw.Rows(rides, weight=1 - pl.col("seats")), FIELDS, events_of(4, seats=[0, 2, 3, None]))


class TestGroups:
    BEGIN = datetime(2024, 5, 1, tzinfo=UTC)

    def frame(self, *rows: tuple[int, str | None]) -> pl.DataFrame:
        at = [self.BEGIN + timedelta(days=day) for day, _ in rows]
        return pl.DataFrame({"at": pl.Series(at, dtype=pl.Datetime("us", "UTC")), "city": [city for _, city in rows]})

    def test_never_stand_on_both_sides(self) -> None:
        frame = self.frame((0, "Oslo"), (1, None), (7, "Bonn"), (8, "Oslo"), (8, "Bonn"), (9, "Rome"), (9, None), (10, "Oslo"))
        fitting, judging = split_by_time(frame, "2d", DAY_US, "city")
        assert fitting["city"].to_list() == ["Oslo", None]
        assert judging["city"].to_list() == ["Bonn", "Rome", None], "Bonn was trained on by no row: its first is in the gap"
        assert split_by_time(frame, "2d", DAY_US)[1].height == 5

    def test_no_test(self) -> None:
        frame = self.frame((0, "Oslo"), (1, "Oslo"))
        fitting, judging = split_by_time(frame, None, DAY_US, "city")
        assert (fitting.height, judging.height) == (2, 0)
