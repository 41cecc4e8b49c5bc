"""Cases that others have published, and cases that others get wrong; the expected numbers were not computed by us."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.clocks import ManualClock
from twofold.instants import DAY_US, HOUR_US, to_datetime
from twofold.runtime.opened import Opened
from twofold.testing.modes import history_parity, online_parity

Open = Callable[..., Opened]
PURCHASES_AT = 1_701_320_475_364_000

purchases = tw.Events("purchases", time="t", schema={"user": int, "price": int})
WINDOWS = ["3d", "14d", "30d"]
user = tw.View("user", purchases, by="user", features={"sum": tw.sum("price", over=WINDOWS), "n": tw.count(over=WINDOWS)})
EXPECTED = {"sum_3d": 331, "sum_14d": 1574, "sum_30d": 1934, "n_3d": 1, "n_14d": 4, "n_30d": 5}
LATEST_FIRST = [(331, "1d"), (474, "4d"), (497, "9d"), (272, "13d"), (360, "25d")]
"""The five purchases; the instants are ours, one day or more away from every window's edge."""


def purchase_rows() -> list[dict[str, Any]]:
    days = [int(text[:-1]) for _, text in LATEST_FIRST]
    rows = [{"user": 24, "price": price, "t": PURCHASES_AT - day * DAY_US} for (price, _), day in zip(LATEST_FIRST, days, strict=True)]
    return [*rows, {"user": 24, "price": 1, "t": PURCHASES_AT}, {"user": 42, "price": 9, "t": PURCHASES_AT - 1}]


@pytest.mark.parametrize("loaded", range(0, 8, 2))
def test_the_quickstart_row_of_chronon_wherever_the_cut_lies(loaded: int, open_home: Open) -> None:
    home = open_home(tw.Project("quickstart", views=[user]), ManualClock(PURCHASES_AT + 1))
    rows = purchase_rows()
    if loaded:
        home.load("purchases", rows[:loaded])
    home.build()
    if rows[loaded:]:
        home.append("purchases", rows[loaded:])
        home.catch_up()
    assert home.history("user", [{"user": 24, "at": to_datetime(PURCHASES_AT)}]).select(*EXPECTED).row(0, named=True) == EXPECTED
    after = home.features("user", [24]).row(0, named=True)
    assert after["n_3d"] == 2
    assert after["sum_30d"] == 1935
    (online_parity(home, "user", [24, 42, 7], [None]) + history_parity(home, "user", [24, 42, 7], [PURCHASES_AT])).check(at_least=36)


def test_latest_first_gives_the_published_last_values(open_home: Open) -> None:
    features = {"price": tw.last("price", over="30d"), "prices": tw.last_k("price", 10, over="30d")}
    last = tw.View("last", purchases, by="user", features=features)
    home = open_home(tw.Project("quickstart", views=[last]), ManualClock(PURCHASES_AT))
    home.load("purchases", purchase_rows()[:5])
    days = [int(text[:-1]) for _, text in LATEST_FIRST]
    spine = [{"user": 24, "at": to_datetime(PURCHASES_AT - day * DAY_US) + timedelta(microseconds=1)} for day in days]
    assert home.history("last", spine)["price_30d"].to_list() == [331, 474, 497, 272, 360]
    assert home.history("last", [{"user": 24, "at": to_datetime(PURCHASES_AT)}])["prices_30d"].to_list() == [[331, 474, 497, 272, 360]]
    home.build()
    assert home.features("last", [24])["prices_30d"].to_list() == [[331, 474, 497, 272, 360]]


# What Chronon's own documents or issues tell of


def test_an_event_at_exactly_the_tail_is_in_both_worlds(open_home: Open) -> None:
    end = PURCHASES_AT - PURCHASES_AT % DAY_US
    home = open_home(tw.Project("tail", views=[user]), ManualClock(end))
    home.load("purchases", [{"user": 24, "price": 5, "t": end - 14 * DAY_US}, {"user": 24, "price": 7, "t": end - 14 * DAY_US - 1}])
    home.build()
    assert home.features("user", [24], at=end)["sum_14d"].to_list() == [5]
    assert home.history("user", [{"user": 24, "at": to_datetime(end)}])["sum_14d"].to_list() == [5]


def test_a_batch_that_is_three_days_late_does_not_count_too_much(open_home: Open) -> None:
    clock = ManualClock(PURCHASES_AT)
    home = open_home(tw.Project("late", views=[user]), clock)
    home.load("purchases", [{"user": 24, "price": 1, "t": PURCHASES_AT - hour * HOUR_US - 1} for hour in range(24 * 40)])
    home.build()
    for _ in range(3):
        clock.advance("1d")
        (online_parity(home, "user", [24], [None, clock.now_us() + 1])).check(at_least=12)
    assert home.features("user", [24])["n_3d"].to_list() == [1]  # the tail is rounded down to the hour


# Feast: the latest row before a label, and what its joins get wrong

rows = tw.Table("rows", key=("part", "other"), time="since", schema={"part": str, "other": str, "x": float, "n": int})
latest = tw.Model("latest", request={"part": str, "other": str}, views=[rows])
T = 1_640_995_200_000_000
KEY = {"part": "1", "other": "12"}


def row(since: int, x: float | None, n: int | None = None, part: str = "1", other: str = "12") -> dict[str, Any]:
    return {"part": part, "other": other, "x": x, "n": n, "since": since}


def both(home: Opened, keys: list[tuple[str, str]], at: int) -> list[dict[str, Any]]:
    """The rows of keys from history and online, which must be equal."""
    spine = [{"part": part, "other": other, "at": to_datetime(at)} for part, other in keys]
    found = home.history("rows", spine).select("x", "n").to_dicts()
    assert home.features("rows", keys, at=at).select("x", "n").to_dicts() == found
    return found


def opened(open_home: Open) -> Opened:
    return open_home(tw.Project("feast", models=[latest]), ManualClock(T))


def test_rows_filled_in_later_take_their_place_by_their_own_time(open_home: Open) -> None:
    home = opened(open_home)
    home.load("rows", [row(T - DAY_US, 3.0)])
    home.build()
    home.append("rows", [row(T - 2 * DAY_US, 2.0), row(T - 3 * DAY_US, 1.0)])
    home.catch_up()
    assert both(home, [("1", "12")], T) == [{"x": 3.0, "n": None}]
    spine = [{**KEY, "at": to_datetime(T - days * DAY_US + 1)} for days in (1, 2, 3, 4)]
    assert home.history("rows", spine)["x"].to_list() == [3.0, 2.0, 1.0, None]


def test_of_one_instant_the_row_that_was_written_last_holds(open_home: Open) -> None:
    home = opened(open_home)
    home.load("rows", [row(T - 5, 1.0), row(T - 5, 2.0)])
    home.build()
    assert both(home, [("1", "12")], T) == [{"x": 2.0, "n": None}]
    home.append("rows", [row(T - 5, 3.0)])
    home.append("rows", [row(T - 5, 4.0), row(T - 6, 5.0)])
    home.catch_up()
    assert both(home, [("1", "12")], T) == [{"x": 4.0, "n": None}]


def test_keys_of_several_columns_are_not_run_together(open_home: Open) -> None:
    home = opened(open_home)
    home.load("rows", [row(T - 5, 1.0), row(T - 5, 2.0, part="11", other="2"), row(T - 5, 3.0, part="112", other="")])
    home.build()
    home.append("rows", [row(T - 4, 4.0, part="", other="112")])
    home.catch_up()
    found = both(home, [("1", "12"), ("11", "2"), ("112", ""), ("", "112")], T)
    assert [item["x"] for item in found] == [1.0, 2.0, 3.0, 4.0]


def test_an_unknown_key_is_null_and_keeps_its_place(open_home: Open) -> None:
    home = opened(open_home)
    home.load("rows", [row(T - 5, 1.0, 1)])
    home.build()
    assert both(home, [("no", "no"), ("1", "12"), ("no", "no")], T) == [{"x": None, "n": None}, {"x": 1.0, "n": 1}, {"x": None, "n": None}]


def test_an_integer_beside_a_null_stays_an_integer(open_home: Open) -> None:
    large = 2**53 + 1
    home = opened(open_home)
    home.load("rows", pl.DataFrame([row(T - 5, None, large), row(T - 4, None, None, part="2")]).with_columns(pl.col("x").cast(pl.Float64)))
    home.build()
    assert both(home, [("1", "12"), ("2", "12")], T) == [{"x": None, "n": large}, {"x": None, "n": None}]
    assert home.history("rows", [{**KEY, "at": to_datetime(T)}])["n"].dtype == pl.Int64


def test_a_null_of_the_latest_row_is_not_filled_from_an_older_one(open_home: Open) -> None:
    home = opened(open_home)
    home.load("rows", [row(T - 5, 1.0, 1), row(T - 4, None, 2)])
    home.build()
    assert both(home, [("1", "12")], T) == [{"x": None, "n": 2}]


def test_a_row_of_exactly_the_instant_asked_for_is_not_seen(open_home: Open) -> None:
    home = opened(open_home)
    home.load("rows", [row(T, 1.0)])
    home.build()
    assert home.history("rows", [{**KEY, "at": to_datetime(T)}, {**KEY, "at": to_datetime(T + 1)}])["x"].to_list() == [None, 1.0]


def test_maxima_and_deviations_of_a_window_are_of_that_window_alone(open_home: Open) -> None:
    """The published truth of a tiling that gave running sums: 10, 50, 50, 30, 30."""
    events = tw.Events("events", time="t", schema={"k": str, "v": float})
    view = tw.View(
        "view", events, by="k", features={"v": tw.max("v", over="2m", hop="1m"), "std": tw.std("v", over="2m"), "n": tw.count(over="2m")}
    )
    minute = 60_000_000
    home = open_home(tw.Project("tiles", views=[view]), ManualClock(T))
    values = [10.0, 50.0, 20.0, 30.0, 5.0]
    home.append("events", [{"k": "a", "v": value, "t": T + i * minute} for i, value in enumerate(values)])
    home.catch_up()
    spine = [{"k": "a", "at": to_datetime(T + i * minute + minute)} for i in range(5)]
    found = home.history("view", spine)
    assert found["v_2m"].to_list() == [10.0, 50.0, 50.0, 30.0, 30.0]
    assert found["std_2m"].to_list() == pytest.approx([None, 28.284271247461902, 21.213203435596427, 7.0710678118654755, 17.67766952966369])
    empty = home.history("view", [{"k": "a", "at": to_datetime(T + DAY_US)}]).row(0, named=True)
    assert (empty["v_2m"], empty["std_2m"], empty["n_2m"]) == (None, None, 0)
