"""`events.explode`: which events come of which lists and in which order, what a list column may be and hold, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

import twofold as tw
from twofold.algebra.base import LOG_ORDER
from twofold.clocks import ManualClock
from twofold.definitions.check import check
from twofold.errors import DefinitionError, SchemaMismatch
from twofold.http.openapi import openapi
from twofold.log.base import RecordBatch
from twofold.log.records import decode_records, encode_frame, encode_records, record_frames
from twofold.plan.canonical import MOST_ELEMENTS
from twofold.plan.compile import compile_project, compile_source, compile_view
from twofold.plan.ingest import check_rows, partition_rows
from twofold.plan.inputs import MAJOR, MINOR, as_history, with_steps
from twofold.tables.frames import conform

T = 1_700_000_000_000_000
orders = tw.Events(
    "orders", time="t", id="order", schema={"order": str, "user": str, "items": list[str], "prices": list[float], "counts": list[int]}
)
SOURCE = compile_source(orders)


def order(number: int, items: Any = None, prices: Any = None, counts: Any = None, t: int = T) -> dict[str, Any]:
    return {"order": f"{number}", "user": "u", "items": items, "prices": prices, "counts": counts, "t": t}


def computed(events: tw.Events, rows: list[dict[str, Any]], features: dict[str, Any], by: str = "user", key: str = "u") -> dict[str, Any]:
    view = tw.View("v", events, by=by, features=features)
    return tw.compute(view, {"orders": rows}, [{by: key, "at": T + 1}]).drop(by, "at").row(0, named=True)


def problems(*views: tw.View, **models: Any) -> str:
    return "\n".join(str(problem) for problem in check(tw.Project("p", views=views, **models)))


# What comes of a list


def test_one_event_for_each_element_and_none_for_an_empty_or_null_list() -> None:
    rows = [order(1, prices=[1.0, 2.0, 3.0]), order(2, prices=[]), order(3), order(4, prices=[None]), order(5, prices=[10.0])]
    features = {"n": tw.count(), "given": tw.count("prices"), "sum": tw.sum("prices"), "orders": tw.count("order")}
    found = computed(orders.explode("prices"), rows, features)
    assert found == {"n_all": 5, "given_all": 4, "sum_all": 16.0, "orders_all": 5}
    assert computed(orders, rows, {"n": tw.count()}) == {"n_all": 5}


def test_elements_tie_in_time_and_follow_each_other_between_their_event_and_the_next() -> None:
    rows = [order(1, ["a", "b", None]), order(2, ["c", "d"]), order(3, [None]), order(4, [])]
    features = {"first": tw.first("items"), "last": tw.last("items")}
    assert computed(orders.explode("items"), rows, features) == {"first_all": "a", "last_all": "d"}
    assert computed(orders.explode("items"), rows[::-1], features) == {"first_all": "c", "last_all": "b"}


def test_an_element_can_be_a_key() -> None:
    rows = [order(1, ["a", "b", "a"]), order(2, ["b", None])]
    assert computed(orders.explode("items"), rows, {"n": tw.count()}, "items", "a") == {"n_all": 2}
    assert computed(orders.explode("items"), rows, {"n": tw.count()}, "items", "b") == {"n_all": 2}


@pytest.mark.parametrize("is_first", [True, False])
def test_other_steps_stand_before_and_after_it(is_first: bool) -> None:
    rows = [order(1, prices=[1.0, 2.0, 8.0]), order(2, prices=[4.0])]
    several = pl.col("prices").list.len() > 1
    if is_first:
        events = orders.with_columns(size=pl.col("prices").list.len()).explode("prices").filter(pl.col("size") > 1).rename(prices="price")
    else:
        events = orders.filter(several).rename(prices="price").with_columns(size=pl.col("price").list.len()).explode("price")
    events = events.with_columns(part=pl.col("price") / pl.col("size")).filter(pl.col("part") != 2 / 3)
    assert computed(events, rows, {"sum": tw.sum("price"), "last": tw.last("part")}) == {"sum_all": 9.0, "last_all": 8.0 / 3}


def test_the_order_is_that_of_event_and_element() -> None:
    frame = as_history(SOURCE, conform(SOURCE, [order(1, ["a", "b"]), order(2), order(3, ["c"])], False).frame, 3)
    found = with_steps(frame, orders.explode("items").steps)
    assert found.select("items", MAJOR, MINOR).rows() == [("a", 3, 0), ("b", 3, 1), ("c", 3, 2 * MOST_ELEMENTS)]
    assert with_steps(frame.clear(), orders.explode("items").steps).schema["items"] == pl.String


def test_another_list_column_stays_a_list() -> None:
    events = orders.explode("items")
    found = computed(events, [order(1, ["a", "b"], [1.0, None])], {"n": tw.sum(pl.col("prices").list.len())})
    assert found == {"n_all": 4}


def test_lists_are_looked_into_row_by_row() -> None:
    rows = [order(1, ["a", "b"], [1.0, 2.5]), order(2, ["b"], [4.0])]
    features = {
        "size": tw.sum(pl.col("items").list.len()),
        "has_a": tw.share(pl.col("items").list.contains("a")),
        "second": tw.sum(pl.col("prices").list.get(1, null_on_oob=True)),
        "last": tw.last(pl.col("prices").list.last()),
        "some": tw.count(where=pl.col("counts").is_not_null()),
    }
    assert computed(orders, rows, features) == {"size_all": 3, "has_a_all": 0.5, "second_all": 2.5, "last_all": 4.0, "some_all": 0}


def test_an_exploded_view_has_a_version_of_its_own() -> None:
    features = {"n": tw.count()}
    sources = [orders, orders.explode("items"), orders.explode("prices"), orders.explode("items").filter(pl.col("user") == "u")]
    assert len({compile_view(tw.View("v", source, features=features)).plan.version for source in sources}) == 4


# What is refused


REFUSED: list[tuple[Callable[[], tw.View], str]] = [
    (lambda: tw.View("v", orders.explode("item"), features={"n": tw.count()}), r"no column 'item'.*Did you mean 'items'"),
    (lambda: tw.View("v", orders.explode("user"), features={"n": tw.count()}), r"'user' is of type str; only a list has elements"),
    (lambda: tw.View("v", orders.explode("t"), features={"n": tw.count()}), r"'t' is of type datetime; only a list has elements"),
    (lambda: tw.View("v", orders.explode("items").explode("items"), features={"n": tw.count()}), r"'items' is of type str"),
    (
        lambda: tw.View("v", orders.explode("items").explode("prices"), features={"n": tw.count()}),
        r"'prices' would be the second list after 'items' \(test_explode.py:\d+\), which gives every pair",
    ),
    (
        lambda: tw.View("v", orders, by="items", features={"n": tw.count()}),
        r"'items' is a list\[str\], and lists are no keys; make an event",
    ),
    (lambda: tw.View("v", orders, features={"n": tw.sum("counts")}), r"sum of a list\[int\] has no meaning.*explode\(column\)"),
    (lambda: tw.View("v", orders, features={"n": tw.count("items")}), r"count of a list\[str\] has no meaning"),
    (lambda: tw.View("v", orders, features={"n": tw.last("items")}), r"last of a list\[str\] has no meaning"),
    (lambda: tw.View("v", orders, features={"n": tw.sum(pl.col("prices").list.sum())}), r"sum\(\) is not known to be row-level"),
    (lambda: tw.View("v", orders.filter(pl.col("items")), features={"n": tw.count()}), r"its type is list\[str\]; it must be bool"),
]


@pytest.mark.parametrize(("view", "text"), REFUSED)
def test_what_has_no_meaning_is_refused_with_its_place(view: Callable[[], tw.View], text: str) -> None:
    with pytest.raises(DefinitionError, match=r"test_explode.py:\d+: .*" + text):
        tw.compute(view(), {"orders": [order(1)]}, [{"user": "u", "at": T}])


def test_only_events_have_lists() -> None:
    table = tw.Table("tables", key="k", schema={"k": str, "tags": list[str]})
    assert "the column 'tags' is a list[str]; only events have lists" in problems(table)  # type: ignore[arg-type]
    model = tw.Model("m", request={"tags": list[str]})
    assert "the request field 'tags' is a list[str]; only events have lists" in problems(models=[model])
    identified = tw.Events("e", time="t", id="tags", schema={"tags": list[str]})
    assert "'tags' is a list[str], and lists are no keys" in problems(tw.View("v", identified, features={"n": tw.count()}))


@pytest.mark.parametrize("kind", [list, list[datetime], list[list[int]], list[tw.Category], list[bytes]])
def test_lists_of_what_can_be_exploded_only(kind: Any) -> None:
    events = tw.Events("e", time="t", schema={"x": kind})
    assert "lists are list[str], list[int], list[float], list[bool]" in problems(tw.View("v", events, features={"n": tw.count()}))


# On the way in


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("items", [], []),
        ("items", ["a", None, "\u00e9\0"], ["a", None, "\u00e9\0"]),
        ("items", ("a",), ["a"]),
        ("prices", [1, -0.0, None], [1.0, 0.0, None]),
        ("prices", np.array([1.5, 2.0]), [1.5, 2.0]),
        ("counts", np.array([1, 2], np.int32), [1, 2]),
        ("counts", [2**63 - 1], [2**63 - 1]),
    ],
)
def test_lists_become_lists_of_canonical_values(name: str, value: Any, wanted: Any, rows: int) -> None:
    found = check_rows(SOURCE, [{**order(1), name: value}] * rows)[name]
    assert found == [wanted] * rows
    for element, expected in zip(found[0], wanted, strict=True):
        assert type(element) is type(expected)
        assert not isinstance(element, float) or math.copysign(1, element) == math.copysign(1, expected)


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("items", "abc", r"items is 'abc', not a list; send one, as in \['a', 'b'\], or null"),
        ("items", {"a": 1}, r"items is {'a': 1}, not a list"),
        ("items", ["a", 2], "items in element 1 is 2, not a text; send it as text, as in '2'"),
        ("prices", [1.0, math.nan], "prices in element 1 is nan; events take finite numbers, send null where there is none"),
        ("prices", [[1.0]], r"prices in element 0 is \[1.0\], not a float"),
        ("counts", [1, 2.5], "counts in element 1 is 2.5, not an int"),
        ("counts", [True], "counts in element 0 is True, not an int"),
        ("counts", [2**63], "counts in element 0 is 9223372036854775808, which does not fit 64 bits"),
    ],
)
def test_a_bad_element_is_named(name: str, value: Any, text: str, rows: int) -> None:
    with pytest.raises(SchemaMismatch, match=text):
        check_rows(SOURCE, [order(1)] * (rows - 1) + [{**order(2), name: value}])


def test_an_event_has_no_more_elements_than_its_place_in_the_order_has_room_for() -> None:
    full = [1] * MOST_ELEMENTS
    for rows in (1, 9):
        assert len(check_rows(SOURCE, [order(1, counts=full)] + [order(2)] * (rows - 1))["counts"][0]) == MOST_ELEMENTS
        with pytest.raises(SchemaMismatch, match="counts has 1048577 elements, and an event can have 1048576; send several events"):
            check_rows(SOURCE, [order(1, counts=[*full, 1])] + [order(2)] * (rows - 1))
    frame = pl.DataFrame([order(1, counts=[1]), order(2, counts=[*full, 1])], schema_overrides={"t": pl.Int64})
    with pytest.raises(SchemaMismatch, match=r"counts in row 1 is \[1, 1, .*with more than 1048576 elements; give several events"):
        conform(SOURCE, frame, strict=False)


ROWS = [order(1, ["a", None], [1.5, 2.0], [1, 2]), order(2, [], [], []), order(3), order(4, ["b"], [0.5], [3])]


@pytest.mark.parametrize(
    "made", [pl.DataFrame, lambda rows: pl.DataFrame(rows).to_arrow(), pd.DataFrame, list, lambda rows: pl.LazyFrame(rows)]
)
@pytest.mark.parametrize("strict", [True, False])
def test_tables_of_every_kind_bring_lists(made: Callable[[Any], Any], strict: bool) -> None:
    frame = conform(SOURCE, made(ROWS), strict).frame
    assert frame.drop("t").to_dicts() == [{name: value for name, value in row.items() if name != "t"} for row in ROWS]
    assert frame.schema["prices"] == pl.List(pl.Float64)


def test_elements_of_tables_follow_the_rules_of_columns(tmp_path: Path) -> None:
    frame = pl.DataFrame({**{name: [None, None] for name in ("order", "user", "items")}, "t": [T, T]})
    frame = frame.with_columns(prices=pl.Series([[1, 2], [3, None]]), counts=pl.Series([[1.0, math.nan], []]))
    loaded = conform(SOURCE, frame, strict=False)
    assert loaded.frame["prices"].to_list() == [[1.0, 2.0], [3.0, None]]
    assert loaded.frame["counts"].to_list() == [[1, None], []]
    assert loaded.notes == ["counts: 1 x no finite number, null instead"]
    with pytest.raises(SchemaMismatch, match="counts in row 0 has an element that is nan, not an int"):
        conform(SOURCE, frame, strict=True)
    frame.with_columns(pl.lit("[1]").alias("prices")).drop("counts").write_csv(tmp_path / "rows.csv")
    with pytest.raises(SchemaMismatch, match=r"prices in row 0 .*is '\[1\]', not a list"):
        conform(SOURCE, tmp_path / "rows.csv", strict=False)


def test_rows_with_lists_meet_in_one_partition_wherever_they_came_from() -> None:
    whole = tw.Events("e", time="t", schema={"l": list[float], "s": list[str]})
    source = compile_source(whole)
    values = check_rows(source, [{"l": [float(i % 5), None], "s": [str(i)] * (i % 3), "t": i // 7} for i in range(200)])
    parts = partition_rows(source, values, 4)
    assert sorted(row for part in parts for row in part) == list(range(200))
    assert min(map(len, parts)) > 20
    frame = conform(source, [{name: column[i] for name, column in values.items()} for i in range(200)], strict=True).frame
    assert partition_rows(source, frame.to_dict(as_series=False), 4) == parts


# In the log


def test_lists_are_the_same_events_from_rows_and_from_frames() -> None:
    values = check_rows(SOURCE, ROWS)
    payload = encode_records(SOURCE.columns, values)
    frame = decode_records(payload)
    assert frame.drop("t").to_dicts() == [{name: value for name, value in row.items() if name != "t"} for row in ROWS]
    other = encode_frame(conform(SOURCE, pl.DataFrame(ROWS), strict=True).frame)
    assert decode_records(other).equals(frame)
    batches = [RecordBatch("orders", 0, i * 4, 4, T, T, raw) for i, raw in enumerate([payload, other, payload])]
    joined = record_frames(batches, SOURCE.columns)
    assert joined.drop(MAJOR, MINOR, "__stamp").equals(pl.concat([frame] * 3))
    assert joined[MAJOR].unique().to_list() == [LOG_ORDER]


def test_a_list_of_integers_may_become_one_of_floats() -> None:
    payload = encode_records({"x": "list[int]"}, {"x": [[1, None], [], None]})
    batch = RecordBatch("e", 0, 0, 3, T, T, payload)
    assert record_frames([batch], {"x": "list[float]"})["x"].to_list() == [[1.0, None], [], None]


def test_lists_reach_archive_history_and_both_layers_on_disk(tmp_path: Path) -> None:
    view = tw.View("v", orders.explode("prices"), by="user", features={"n": tw.count(), "sum": tw.sum("prices"), "last": tw.last("prices")})
    clock = ManualClock(T)
    with tw.Project("p", views=[view]).open(home=tmp_path, clock=clock) as home:
        home.load("orders", pl.DataFrame([order(1, prices=[1.0, 2.0], t=T - 10)]))
        home.append("orders", [order(2, prices=[3.0, 4.0], t=T - 5), order(3, prices=[], t=T - 4)])
        home.append("orders", pl.DataFrame([order(4, prices=[5.0, 6.0], t=T - 5)]))
        home.build()
        home.append("orders", order(5, prices=[7.0, 8.0, 9.0], t=T - 5))
        home.catch_up()
        wanted = {"user": "u", "n_all": 9, "sum_all": 45.0, "last_all": 9.0}
        assert home.features("v", ["u"], at=T + 1).row(0, named=True) == wanted
        assert home.history("v", [{"user": "u", "at": T + 1}]).drop("at").row(0, named=True) == wanted
        home.build()
        assert home.features("v", ["u"], at=T + 1).row(0, named=True) == wanted


def test_the_surface_is_described_with_lists() -> None:
    plan = compile_project(tw.Project("p", views=[tw.View("v", orders.explode("items"), features={"n": tw.count()})])).serving
    body = openapi(plan)["paths"]["/v1/events/orders"]["post"]["requestBody"]["content"]["application/json"]
    schema = body["schema"]["anyOf"][0]["properties"]
    assert schema["items"] == {"type": ["array", "null"], "items": {"type": ["string", "null"]}}
    assert body["example"]["prices"] == [1.5]
    check_rows(plan.sources["orders"], [msgspec.json.decode(msgspec.json.encode(body["example"]))])
