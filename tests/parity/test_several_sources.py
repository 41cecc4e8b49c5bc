"""Views over several sources, seam by seam: each source has its own history, cuts, deltas and duplicates, and the view has them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.clocks import ManualClock
from twofold.instants import HOUR_US, MINUTE_US
from twofold.runtime.opened import Opened
from twofold.testing.modes import history_parity, online_parity

NOW = 1_700_000_000_000_000
Open = Callable[..., Opened]

orders = tw.Events("orders", time="t", id="id", schema={"id": str, "city": str, "fare": float, "legs": list[float]})
refunds = tw.Events("refunds", time="asked", id="id", schema={"id": str, "city": str, "fare": float})
FEATURES = {"n": tw.count(over=["1m", "1h"]), "fare": tw.sum("fare", over="1h"), "all": tw.sum("fare"), "last": tw.last("fare")}
net = tw.concat([orders, refunds.with_columns(fare=-pl.col("fare"))])
hybrid = tw.View("hybrid", net, by="city", features=FEATURES)
stream = tw.View("stream", net, by="city", mode="stream", features=FEATURES)
daily = tw.View("daily", net, by="city", mode="batch", refresh="0 * * * *", features=FEATURES)
single = tw.View("single", orders, by="city", features=FEATURES)
ALL = (hybrid, stream, daily, single)


def order(fare: float, t: int = NOW - 1, identity: str | None = None, legs: Any = None) -> dict[str, Any]:
    return {"id": identity, "city": "Oslo", "fare": fare, "legs": legs, "t": t}


def refund(fare: float, t: int = NOW - 1, identity: str | None = None) -> dict[str, Any]:
    return {"id": identity, "city": "Oslo", "fare": fare, "asked": t}


def opened(open_home: Open, *views: tw.View, partitions: int = 1, on_disk: bool = False) -> Opened:
    return open_home(tw.Project("several", views=list(views)), ManualClock(NOW), partitions, on_disk)


def total(home: Opened, view: str, at: int = NOW + 1) -> Any:
    return home.features(view, ["Oslo"], at=at)["all_all"].item()


def check(home: Opened, *views: str, at_least: int = 10) -> None:
    for view in views:
        online = online_parity(home, view, ["Oslo", "nowhere"], [NOW + 1, NOW + HOUR_US, None])
        (online + history_parity(home, view, ["Oslo"], [NOW, NOW + 1, NOW + MINUTE_US])).check(at_least)


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("on_disk", [False, True])
def test_both_layers_hold_both_sources_once(partitions: int, on_disk: bool, open_home: Open) -> None:
    home = opened(open_home, *ALL, partitions=partitions, on_disk=on_disk)
    home.load("orders", [order(100.0)])
    home.append("orders", [order(10.0), order(20.0)])
    home.append("refunds", [refund(1.0)])
    home.build()
    assert [total(home, view) for view in ("hybrid", "stream", "daily", "single")] == [129.0, 29.0, 129.0, 130.0]
    home.append("refunds", [refund(2.0), refund(3.0)])
    home.append("orders", [order(30.0)])
    home.catch_up()
    assert [total(home, view) for view in ("hybrid", "stream", "daily", "single")] == [154.0, 54.0, 129.0, 160.0]
    check(home, "hybrid", "stream", "daily", "single")
    home.build()
    assert [total(home, view) for view in ("hybrid", "stream", "daily", "single")] == [154.0, 54.0, 154.0, 160.0]
    check(home, "hybrid", "stream", "daily", "single")


@pytest.mark.parametrize("where", ["reading orders", "reading refunds", "building"])
def test_a_build_that_dies_goes_on_at_the_cut_of_both(where: str, open_home: Open) -> None:
    home = opened(open_home, hybrid, partitions=2)

    def dies(text: str, *_: Any) -> None:
        if text.startswith(where):
            raise RuntimeError(text)

    home.append("orders", [order(float(i)) for i in range(8)])
    home.append("refunds", [refund(1.0)])
    with pytest.raises(RuntimeError):
        home.build(progress=dies)
    home.append("orders", [order(100.0)])
    home.append("refunds", [refund(2.0)])
    home.load("refunds", [refund(50.0)])
    home.catch_up()
    built = home.build()[0]
    assert sum(built.cut[:2]) == 8
    assert sum(built.cut[2:]) == 1
    assert built.history == (0, 0)
    assert total(home, "hybrid") == 125.0
    check(home, "hybrid")
    built = home.build()[0]
    assert built.history == (0, 1)
    assert total(home, "hybrid") == 75.0
    check(home, "hybrid")


@pytest.mark.parametrize("source", ["orders", "refunds"])
def test_a_load_of_one_source_after_streaming_began_takes_effect_at_the_flip(source: str, open_home: Open) -> None:
    home = opened(open_home, hybrid, single, stream)
    home.append("orders", order(10.0))
    home.append("refunds", refund(1.0))
    home.build()
    home.load(source, [order(5.0) if source == "orders" else refund(5.0)])
    assert total(home, "hybrid") == total(home, "stream") == 9.0
    assert {built.view for built in home.build()} == ({"hybrid", "single"} if source == "orders" else {"hybrid"})
    assert total(home, "hybrid") == (14.0 if source == "orders" else 4.0)
    assert total(home, "stream") == 9.0
    assert home.build() == []
    check(home, "hybrid", "single", "stream")


@pytest.mark.parametrize("source", ["orders", "refunds"])
def test_an_event_of_either_source_makes_a_build_due(source: str, open_home: Open) -> None:
    home = opened(open_home, hybrid, single)
    home.build()
    home.append(source, order(1.0) if source == "orders" else refund(1.0))
    assert {built.view for built in home.build()} == ({"hybrid", "single"} if source == "orders" else {"hybrid"})
    assert home.build() == []


def test_a_view_that_comes_later_begins_at_the_offsets_of_both(open_home: Open) -> None:
    home = opened(open_home, single)
    home.append("orders", [order(1.0), order(2.0)])
    home.build()
    first = Opened(
        open_home(tw.Project("several", views=[single, tw.View("r", refunds, features={"n": tw.count()})]), home.home.clock).compiled,
        home.home,
    )
    first.append("refunds", refund(4.0))
    first.catch_up()
    more = Opened(open_home(tw.Project("several", views=[single, stream, hybrid]), home.home.clock).compiled, home.home)
    more.catch_up()
    assert more.began("stream") == (2, 1)
    more.append("orders", order(8.0))
    more.append("refunds", refund(16.0))
    more.build()
    assert [total(more, view) for view in ("single", "stream", "hybrid")] == [11.0, -8.0, -9.0]
    check(more, "single", "stream", "hybrid")


def test_duplicates_are_found_in_their_own_source(open_home: Open) -> None:
    home = opened(open_home, hybrid, stream, daily)
    home.load("orders", [order(100.0, NOW - 3, "loaded")])
    home.append("orders", [order(1.0, identity="a"), order(1.0, identity="a"), order(1.0, identity="loaded")])
    home.append("refunds", [refund(5.0, identity="a"), refund(5.0, identity="a"), refund(7.0, identity="loaded")])
    home.build()
    assert total(home, "hybrid") == total(home, "daily") == 100.0 + 1.0 - 5.0 - 7.0
    assert total(home, "stream") == 1.0 - 5.0 - 7.0
    check(home, "hybrid", "stream", "daily")


def test_a_source_that_stands_there_twice_has_one_delta_and_counts_twice(open_home: Open) -> None:
    legs = tw.concat([orders.explode("legs").with_columns(fare=pl.col("legs")), orders, refunds])
    view = tw.View("legs", legs, by="city", features=FEATURES)
    home = opened(open_home, view, partitions=2)
    home.append("orders", [order(10.0, legs=[1.0, 2.0]), order(20.0, legs=[])])
    home.append("refunds", refund(100.0))
    home.build()
    assert total(home, "legs") == 133.0
    home.append("orders", [order(30.0, NOW, legs=[4.0, 8.0])])
    home.catch_up()
    assert total(home, "legs") == 175.0
    assert len(home.began("legs")) == 0
    assert home.features("legs", ["Oslo"], at=NOW + 1)["last_all"].item() == 30.0  # the second branch comes after the elements of the first
    check(home, "legs")
    home.build()
    assert home.features("legs", ["Oslo"], at=NOW + 1)["last_all"].item() == 30.0
    check(home, "legs")


def test_a_read_waits_for_each_source_by_its_own_position(open_home: Open) -> None:
    model = tw.Model("m", request={"city": str}, views=[hybrid])
    home = open_home(tw.Project("several", models=[model]), ManualClock(NOW), 2)
    home.build()
    reader = home._reader
    first, second = home.append("orders", order(1.0)), home.append("refunds", refund(1.0))
    assert not reader.covers(first | second)
    home.catch_up()
    assert reader.covers(first | second)
    vector = reader.vectors("m", [{"city": "Oslo"}], NOW + 1)[0]
    assert set(vector.offsets) == {f"{source}/{partition}" for source in ("orders", "refunds") for partition in range(2)}
    assert sum(vector.offsets.values()) == 2
