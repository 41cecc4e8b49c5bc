"""`tw.concat`: what a view over several sources sees, which events come first where they tie, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.algebra.base import LOG_ORDER
from twofold.clocks import ManualClock
from twofold.definitions.check import check
from twofold.definitions.concat import Concat
from twofold.errors import Corrupt, DataError, DefinitionError
from twofold.plan import layout
from twofold.plan.compile import compile_project, compile_source, compile_view
from twofold.plan.inputs import MAJOR, MINOR, all_prepared, as_history
from twofold.tables.frames import conform

T = 1_700_000_000_000_000
orders = tw.Events(
    "orders", time="placed", id="order", schema={"order": str, "user": str, "amount": float, "parts": list[float], "shop": str}
)
refunds = tw.Events("refunds", time="asked", schema={"user": str, "amount": float, "parts": list[float], "why": str})
net = tw.concat([orders, refunds.with_columns(amount=-pl.col("amount"))])
FEATURES = {"n": tw.count(), "sum": tw.sum("amount"), "first": tw.first("amount"), "last": tw.last("amount")}


def order(amount: float | None, t: int = T, parts: Any = None, order: str | None = None) -> dict[str, Any]:
    return {"order": order, "user": "u", "amount": amount, "parts": parts, "shop": "s", "placed": t}


def refund(amount: float | None, t: int = T, parts: Any = None) -> dict[str, Any]:
    return {"user": "u", "amount": amount, "parts": parts, "why": "w", "asked": t}


def computed(source: Any, features: dict[str, Any], placed: Any = (), asked: Any = ()) -> dict[str, Any]:
    view = tw.View("v", source, by="user", features=features)
    tables = {"orders": list(placed), "refunds": list(asked)}
    return tw.compute(view, tables, [{"user": "u", "at": T + 10}]).drop("user", "at").row(0, named=True)


def problems(source: Any, by: Any = (), features: Any = None) -> str:
    return "\n".join(map(str, check(tw.Project("p", views=[tw.View("v", source, by=by, features=features or {"n": tw.count()})]))))


# What a view sees


def test_the_events_of_all_are_one_stream_each_at_its_own_time() -> None:
    placed, asked = [order(10.0, T - 5), order(5.0, T - 1)], [refund(3.0, T - 3), refund(2.0, T)]
    assert computed(net, FEATURES, placed, asked) == {"n_all": 4, "sum_all": 10.0, "first_all": 10.0, "last_all": -2.0}
    assert computed(net, FEATURES, placed, []) == {"n_all": 2, "sum_all": 15.0, "first_all": 10.0, "last_all": 5.0}
    assert computed(net, FEATURES, [], asked) == {"n_all": 2, "sum_all": -5.0, "first_all": -3.0, "last_all": -2.0}


def test_where_events_tie_the_branches_follow_each_other() -> None:
    assert computed(net, FEATURES, [order(1.0), order(2.0)], [refund(3.0), refund(4.0)])["last_all"] == -4.0
    turned = tw.concat(net.branches[::-1])
    assert computed(turned, FEATURES, [order(1.0), order(2.0)], [refund(3.0), refund(4.0)])["last_all"] == 2.0
    assert computed(turned, FEATURES, [order(1.0), order(2.0)], [refund(3.0), refund(4.0)])["first_all"] == -3.0


def test_history_comes_before_the_log_whatever_the_branch() -> None:
    source = compile_source(orders)
    view = compile_view(tw.View("v", net, features=FEATURES))
    loaded = as_history(source, conform(source, [order(1.0), order(2.0)], False).frame, 2)
    logged = loaded.with_columns(pl.lit(LOG_ORDER + 1, pl.Int64).alias(MAJOR))
    other = compile_source(refunds)
    asked = as_history(other, conform(other, [refund(1.0)], False).frame, 3)
    ready = all_prepared(view.branches(), {"orders": pl.concat([loaded, logged]), "refunds": asked})
    assert ready.select(MAJOR, MINOR).rows() == [(4, 0), (4, 1), ((LOG_ORDER + 1) * 2, 0), ((LOG_ORDER + 1) * 2, 1), (7, 0)]
    assert ready.sort(MAJOR, MINOR)[MAJOR].to_list() == [4, 4, 7, (LOG_ORDER + 1) * 2, (LOG_ORDER + 1) * 2]


def test_an_event_of_a_source_that_stands_there_twice_counts_for_each_branch() -> None:
    source = tw.concat([orders, orders.filter(pl.col("amount") > 5).with_columns(amount=pl.col("amount") * 100)])
    found = computed(source, FEATURES, [order(6.0), order(1.0)])
    assert found == {"n_all": 3, "sum_all": 607.0, "first_all": 6.0, "last_all": 600.0}


def test_duplicates_are_of_a_source_and_not_of_a_branch() -> None:
    placed = [order(1.0, T - 2, order="a"), order(1.0, T - 1, order="a"), order(1.0, T, order="b")]
    assert computed(tw.concat([orders, orders]), FEATURES, placed)["n_all"] == 4


def test_steps_after_it_are_taken_by_every_branch() -> None:
    source = net.filter(pl.col("amount") > -4).with_columns(twice=pl.col("amount") * 2).rename(user="who")
    found = tw.compute(
        tw.View("v", source, by="who", features={"sum": tw.sum("twice")}),
        {"orders": [order(1.0)], "refunds": [refund(2.0), refund(5.0)]},
        [{"who": "u", "at": T + 1}],
    )
    assert found["sum_all"].to_list() == [-2.0]


@pytest.mark.parametrize("is_after", [True, False])
def test_lists_are_exploded_before_and_after_it(is_after: bool) -> None:
    source = tw.concat([orders, refunds]).explode("parts") if is_after else tw.concat([orders.explode("parts"), refunds.explode("parts")])
    features = {"n": tw.count(), "sum": tw.sum("parts"), "first": tw.first("parts"), "last": tw.last("parts")}
    found = computed(source, features, [order(None, parts=[1.0, 2.0]), order(None, parts=[])], [refund(None, parts=[4.0, None, 8.0])])
    assert found == {"n_all": 5, "sum_all": 15.0, "first_all": 1.0, "last_all": 8.0}


def test_a_concat_in_a_concat_is_one() -> None:
    inner = tw.concat([refunds, orders]).filter(pl.col("amount") > 0)
    outer = tw.concat([orders, inner])
    assert isinstance(outer, Concat)
    assert [events.name for events in outer.branches] == ["orders", "refunds", "orders"]
    assert computed(outer, {"n": tw.count()}, [order(1.0), order(-1.0)], [refund(2.0)]) == {"n_all": 4}
    plan = compile_view(tw.View("v", outer, features=FEATURES)).plan
    assert plan.sources == ("orders", "refunds")


def test_a_concat_of_one_is_that_one() -> None:
    alone = tw.View("v", tw.concat([orders]), by="user", features=FEATURES)
    assert compile_view(alone).plan == compile_view(tw.View("v", orders, by="user", features=FEATURES)).plan


def test_branches_and_their_order_are_in_the_version() -> None:
    sources = [orders, refunds, net, tw.concat(net.branches[::-1]), tw.concat([orders, refunds]), tw.concat([*net.branches, orders])]
    assert len({compile_view(tw.View("v", source, features=FEATURES)).plan.version for source in sources}) == len(sources)


def test_a_project_reaches_all_its_sources() -> None:
    compiled = compile_project(tw.Project("p", views=[tw.View("v", net, features=FEATURES)]))
    assert list(compiled.sources) == ["orders", "refunds"]
    assert [view.plan.name for view in compiled.views_of("refunds")] == ["v"]
    assert compiled.view("v").branches("refunds")[0].time == "asked"


def test_a_table_that_is_missing_is_named() -> None:
    view = tw.View("v", net, by="user", features=FEATURES)
    with pytest.raises(DataError, match="view 'v' needs the table 'refunds'; got orders"):
        tw.compute(view, {orders: [order(1.0)]}, [{"user": "u", "at": T}])


# What is refused


typed = tw.Events("typed", time="at", schema={"user": str, "amount": int, "parts": str})


@pytest.mark.parametrize(
    ("source", "by", "features", "texts"),
    [
        (
            tw.concat([orders, typed]), "user", FEATURES,
            ["concat 'orders + typed': 'amount' is float in source 'orders' and int in source 'typed'; give it", "'parts'"],
        ),
        (net, "shop", FEATURES, ["concat 'orders + refunds' has no column 'shop'"]),
        (net, "user", {"n": tw.last("why")}, ["concat 'orders + refunds' has no column 'why'; it has user, amount, parts"]),
        (net, "user", {"n": tw.count(where=pl.col("order") == "a")}, ["concat 'orders + refunds' has no column 'order'"]),
        (net, "user", {"n": tw.last("placed")}, ["concat 'orders + refunds' has no column 'placed'"]),
        (net.filter(pl.col("why") == "w"), "user", FEATURES, ["filter of source 'orders'", "no column 'why'"]),
        (net.rename(user="shop"), "shop", FEATURES, ["rename of source 'orders': two columns would be called 'shop'"]),
        (net.explode("parts").explode("parts"), "user", FEATURES, ["explode of source 'orders': 'parts' is of type float"]),
    ],
)  # fmt: skip
def test_what_the_branches_do_not_share_is_refused(source: Any, by: Any, features: Any, texts: list[str]) -> None:
    found = problems(source, by, features)
    assert all(text in found for text in texts), found
    assert "test_concat.py:" in found


def test_the_same_column_names_of_other_types_are_fine_after_a_rename() -> None:
    cast = typed.with_columns(amount=pl.col("amount").cast(pl.Float64)).rename(parts="text")
    assert problems(tw.concat([orders, cast]), "user", FEATURES) == ""


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: tw.concat([]), "tw.concat of nothing has no events"),
    (lambda: tw.concat(orders), "takes a list, as in.*got events 'orders'"),  # type: ignore[arg-type]
    (lambda: tw.concat([orders, "refunds"]), "takes sources of events, as in.*got 'refunds'"),  # type: ignore[list-item]
    (lambda: tw.concat([tw.Table("rows", key="k", schema={"k": str, "x": int})]), "got table 'rows'"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("call", "text"), WRONG)
def test_what_is_no_source_of_events_is_refused_where_it_stands(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(DefinitionError, match=rf"{text}.*\(test_concat.py:\d+\)"):
        call()


def test_rows_and_labels_are_of_one_source() -> None:
    view = tw.View("v", net, by="user", features=FEATURES)
    model = tw.Model(
        "m", request={"user": str}, views=[view], rows=tw.Rows(net), label=tw.Label(net, on="user", value="amount", within="1d")  # type: ignore[arg-type]
    )  # fmt: skip
    found = "\n".join(map(str, check(tw.Project("p", models=[model]))))
    assert "rows of model 'm': its source is concat 'orders + refunds'; give a tw.Events" in found
    assert "label of model 'm': its source is concat 'orders + refunds'; give a tw.Events" in found


# Where it lies


def test_a_pointer_has_the_partitions_of_each_source_in_turn() -> None:
    plan = compile_view(tw.View("v", net, features=FEATURES)).plan
    assert layout.of_source((1, 2, 3, 4), plan, "orders") == (1, 2)
    assert layout.of_source((1, 2, 3, 4), plan, "refunds") == (3, 4)
    assert layout.of_source((), plan, "refunds") == ()
    assert layout.by_source([(1, 3), (2, 4)]) == (1, 2, 3, 4)
    assert layout.offset_keys(plan, 1) == [layout.offset_key(source, 1) for source in ("orders", "refunds")]


OLD = b'{"generation":null,"history":0,"cut":[0],"base_us":0,"open":1,"began":[0],"closed":null,"closed_cut":[],"closed_history":0}'


def test_a_store_of_an_earlier_format_is_refused_and_not_misread(tmp_path: Path) -> None:
    view = tw.View("v", orders, by="user", features=FEATURES)
    with tw.Project("p", views=[view]).open(home=tmp_path, clock=ManualClock(T)) as home:
        home.append("orders", order(1.0))
        home.build()
        version = home.compiled.view("v").plan.version
        with home.home.store.transaction() as txn:
            txn.put(layout.pointer_key(version), OLD)
        for call in (home.catch_up, home.build, lambda: home.features("v", ["u"])):
            with pytest.raises(Corrupt, match=r"pointers are of another version of Twofold.*remove HOME/store and run `twofold build`"):
                call()
