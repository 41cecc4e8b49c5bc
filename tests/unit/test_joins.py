"""`events.join`: what may be joined, what a view sees, what a producer is told, which history of a table loaded events join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.batch.joining import loaded_joins
from twofold.definitions.check import check
from twofold.errors import DataError, NotBuilt, NotYet, SchemaMismatch
from twofold.instants import HOUR_US
from twofold.log.kafka_settings import JSON_OF_OURS
from twofold.log.records import appends
from twofold.log.single_records import columns_of
from twofold.plan.compile import compile_project
from twofold.plan.ingest import check_rows
from twofold.plan.inputs import stamped
from twofold.plan.serving import decode_plan, encode_plan
from twofold.tables.deltalake import DeltaTables
from twofold.tables.frames import conform
from twofold.tables.memory import MemoryTables

T = 1_700_000_000_000_000
flights = tw.Events("flights", time="t", schema={"tail": str, "gate": int, "delay": float, "codes": list[str]})
planes = tw.Table("planes", key="tail", time="since", deleted="gone", schema={"tail": str, "year": int, "gone": bool})
gates = tw.Table("gates", key=("hall", "gate"), schema={"hall": str, "gate": int, "walk": float})
joined = flights.join(planes, on="tail")
ago = {"hour": tw.count(over="1h")}


def problems(source: Any, **features: Any) -> str:
    return "\n".join(map(str, check(tw.Project("p", views=[tw.View("v", source, features=features or ago)]))))


def flight(tail: str | None, t: int, delay: float = 1.0) -> dict[str, Any]:
    return {"tail": tail, "gate": 1, "delay": delay, "codes": None, "t": t}


def wrong(value: Any) -> Any:
    """A value of a type that the signature does not take."""
    return value


def plane(tail: str, year: int | None, since: int, gone: bool | None = None) -> dict[str, Any]:
    return {"tail": tail, "year": year, "gone": gone, "since": since}


# The check


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (lambda: flights.join(planes, on="tial"), "has no column 'tial'; it has tail, gate, delay, codes, t. Did you mean 'tail'?"),
        (lambda: flights.join(planes, on={"tail": "tial"}), "table 'planes' has no key column 'tial'; it has tail. Did you mean 'tail'?"),
        (lambda: flights.join(planes, on={"gate": "tail"}), "'gate' is int, and the key 'tail' is str; declare both as one type"),
        (lambda: flights.join(gates, on="gate"), "its key is hall, gate, and nothing is given for hall"),
        (lambda: flights.join(gates, on={"tail": "hall", "codes": "hall"}), "the key column 'hall' is given twice"),
        (lambda: flights.join(gates, on={"tail": "hall", "delay": "gate"}), "'delay' is a float, and floats are no keys"),
        (lambda: flights.join(wrong(flights), on="tail"), "it joins source 'flights'; events can be joined with the rows of a tw.Table"),
        (lambda: flights.join(wrong(tw.View("w", flights, features=ago)), on="tail"), "it joins view 'w'; events can be joined with"),
        (lambda: flights.join(wrong(tw.concat([flights])), on="tail"), "it joins concat 'flights'; events can be joined with"),
        (lambda: joined.join(planes, on="tail"), "that table is joined already (test_joins.py:"),
        (lambda: flights.rename(gate="planes_year").join(planes, on="tail"), "'year' would be called 'planes_year', which source"),
        (lambda: flights.with_columns(tail=pl.col("tail") + "x").join(planes, on="tail"), "'tail' is computed by a step"),
        (lambda: flights.explode("codes").join(planes, on={"codes": "tail"}), "'codes' is computed by a step"),
        (lambda: joined.filter(pl.col("planes_yaer") < 1990), "gate, delay, codes, t, planes_year. Did you mean 'planes_year'?"),
        (lambda: flights.join(planes, on=[]), "its key is tail, and nothing is given for tail"),
        (lambda: flights.join(wrong(None), on=wrong(None)), "it joins None"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_told(source: Any, text: str) -> None:
    found = problems(source())
    assert text in found
    assert "test_joins.py:" in found


def test_a_mistake_in_the_table_is_told_with_the_join() -> None:
    mistaken = tw.Table("wrong", key="tail", schema={"tail": str, "year": complex})
    assert "'complex'" in problems(flights.join(mistaken, on="tail"), n=tw.mean("wrong_year"))


@pytest.mark.parametrize(
    "source",
    [
        joined,
        flights.rename(tail="plane").filter(pl.col("delay") > 0).join(planes, on={"plane": "tail"}).with_columns(plane=pl.lit("x")),
        flights.explode("codes").join(planes, on="tail"),
        joined.join(gates, on={"tail": "hall", "gate": "gate"}),
        tw.concat([flights, flights.filter(pl.col("delay") > 9)]).join(planes, on="tail"),
        tw.concat([joined, flights.with_columns(planes_year=pl.col("gate"))]),
    ],
)
def test_what_can_be_joined(source: Any) -> None:
    assert problems(source, n=tw.count(over="1h", where=pl.col("planes_year") < 1990)) == ""


# The plan


def test_one_join_is_stored_once_and_another_beside_it() -> None:
    renamed = flights.rename(tail="plane").join(planes, on={"plane": "tail"})
    other = flights.rename(codes="unused").join(planes, on={"tail": "tail"})
    by = [tw.View(name, events, features=ago) for name, events in (("a", joined), ("b", renamed), ("c", other))]
    source = compile_project(tw.Project("p", views=by)).source("flights")
    assert [(join.table, join.keys, list(join.stored)) for join in source.joins] == [("planes", ("tail",), ["year"])]
    assert list(source.stored)[:-1] == list(source.columns)
    retyped = tw.Table("planes", key="tail", schema={"tail": str, "year": str})
    again = compile_project(tw.Project("p", views=[tw.View("a", flights.join(retyped, on="tail"), features=ago)])).source("flights")
    assert set(again.stored) & set(source.stored) == set(source.columns)


def test_a_joined_table_is_reached_and_the_plan_is_data() -> None:
    compiled = compile_project(tw.Project("p", views=[tw.View("v", joined, features=ago)]))
    assert list(compiled.sources) == ["flights", "planes"]
    assert list(compiled.views) == ["v", "planes"]
    assert decode_plan(encode_plan(compiled.serving)) == compiled.serving


def test_a_join_is_part_of_a_features_version() -> None:
    views = [tw.View("v", source, features=ago) for source in (flights, joined, flights.join(gates, on={"tail": "hall", "gate": "gate"}))]
    versions = {compile_project(tw.Project("p", views=[view])).view("v").plan.features[0].version for view in views}
    assert len(versions) == 3


def test_a_producer_is_told_that_joined_columns_are_not_sent() -> None:
    source = compile_project(tw.Project("p", views=[tw.View("v", joined, features=ago)])).source("flights")
    (stored,) = source.joins[0].types
    for name in ("planes_year", stored):
        with pytest.raises(SchemaMismatch, match=f"{name} is not sent: it is joined from table 'planes' when the event is appended"):
            check_rows(source, [{**flight("N1", T), name: 1999}])
    with pytest.raises(SchemaMismatch, match="planes_yaer is no field of this source"):
        check_rows(source, [{**flight("N1", T), "planes_yaer": 1999}])


# Loaded events


def test_loaded_events_join_the_row_just_before_their_time() -> None:
    rows = [plane("N1", 1980, T), plane("N1", 1990, T + 10), plane("N1", None, T + 20), plane("N1", None, T + 30, True)]
    view = tw.View("v", joined, by="tail", features={"years": tw.last_k("planes_year", 9), "n": tw.count("planes_year")})
    found = {}
    for t in (T, T + 1, T + 10, T + 11, T + 21, T + 31):
        (row,) = tw.compute(
            view, {flights: [flight("N1", t), flight("N2", t), flight(None, t)], planes: rows}, [{"tail": "N1", "at": T + 99}]
        ).to_dicts()
        found[t - T] = row["years_all"]
    assert found == {0: None, 1: [1980], 10: [1980], 11: [1990], 21: None, 31: None}


def test_static_tables_and_several_keys() -> None:
    source = flights.rename(tail="h").join(gates, on={"h": "hall", "gate": "gate"})
    view = tw.View("v", source, features={"walk": tw.sum("gates_walk"), "n": tw.count("gates_walk")})
    rows = [{"hall": hall, "gate": gate, "walk": walk} for hall, gate, walk in (("A", 1, 9.0), ("A", 1, 5.0), ("A", 2, 7.0), ("B", 1, 0.5))]
    given = [flight(tail, T) for tail in ("A", "B", "C", None)]
    assert tw.compute(view, {"flights": given, "gates": rows}, [{"at": T + 1}]).row(0)[1:] == (5.5, 2)
    with pytest.raises(DataError, match="view 'v' needs the table 'gates'"):
        tw.compute(view, {"flights": given}, [{"at": T + 1}])


def test_a_view_by_a_joined_column() -> None:
    view = tw.View("v", joined, by="planes_year", features={"n": tw.count(over="1h")})
    given = [flight(tail, T) for tail in ("N1", "N1", "N2", "N3")]
    found = tw.compute(
        view,
        {flights: given, planes: [plane("N1", 1980, T - 1), plane("N2", 1990, T - 1)]},
        pl.DataFrame({"planes_year": [1980, 1990, 2000], "at": [T + 1] * 3}),
    )
    assert found["n_1h"].to_list() == [2, 1, 0]


@pytest.mark.parametrize("kind", ["memory", "delta"])
def test_which_history_of_a_table_is_joined_is_decided_once(kind: str, tmp_path: Path) -> None:
    tables: Any = MemoryTables() if kind == "memory" else DeltaTables(tmp_path)
    others: Any = [tables, tables] if kind == "memory" else [DeltaTables(tmp_path), DeltaTables(tmp_path)]
    compiled = compile_project(tw.Project("p", views=[tw.View("v", joined, features=ago)]))

    def load(source: str, content: str) -> None:
        plan = compiled.source(source)
        row = flight("N1", T) if source == "flights" else plane("N1", 1980, T)
        frame = pl.DataFrame(
            [row],
            schema={name: pl.Int64 if name in ("gate", "year") else None for name in row},
            schema_overrides={"codes": pl.List(pl.String), "gone": pl.Boolean},
        )
        tables.load(source, stamped(plan, frame.with_columns(pl.col(str(plan.time)).cast(pl.Datetime("us", "UTC")))), content, plan.time)

    assert tables.pinned("flights", "planes", 0) == ()
    load("flights", "a")
    assert tables.pinned("flights", "planes", 1) == (0,)
    load("planes", "a")
    assert tables.pinned("flights", "planes", 1) == (1,)
    load("planes", "b")
    load("flights", "b")
    assert [other.pinned("flights", "planes", 1) for other in others] == [(1,), (1,)]
    assert [other.pinned("flights", "planes", 2) for other in others] == [(1, 2), (1, 2)]
    load("planes", "c")
    assert tables.pinned("flights", "planes", 2) == (1, 2)
    assert tables.history_version("flights") == 2


def test_two_who_decide_at_once_agree(tmp_path: Path) -> None:
    """Both have seen that nothing is decided, and know other histories of the table."""
    from deltalake import Transaction
    from deltalake.exceptions import CommitFailedError

    tables = DeltaTables(tmp_path)
    tables.load("flights", pl.DataFrame({"__stamp": [T]}), "a")
    late = tables._open("history", "flights")
    assert late is not None
    tables.load("planes", pl.DataFrame({"__stamp": [T]}), "a")
    assert tables.pinned("flights", "planes", 1) == (1,)
    with pytest.raises(CommitFailedError):
        tables._note(late, tmp_path / "history" / "flights", [Transaction("joins:planes:1", 2)])
    assert tables.pinned("flights", "planes", 1) == (1,)


def test_later_rows_of_the_table_change_no_loaded_event(tmp_path: Path) -> None:
    view = tw.View("v", joined, features={"years": tw.last_k("planes_year", 9)})
    clock = tw.ManualClock(T + HOUR_US)
    with tw.Project("p", views=[view]).open(home=tmp_path, clock=clock) as home:
        home.load("flights", [flight("N1", T)])
        for what in (home.build, lambda: home.history("v", [{"at": T + 9}])):
            with pytest.raises(NotBuilt, match="'flights' has loaded history, which joins the table 'planes', and that has none: load"):
                what()
        home.load("planes", [])
        home.build()
        home.load("planes", [plane("N1", 1980, T - 9)])
        home.load("flights", [flight("N1", T + 1)])
        home.build()
        home.load("planes", [plane("N1", 1970, T - 8)])
        home.build()
        assert home.features("v", [()])["years_all"].to_list() == [[1980]]
        assert home.history("v", [{"at": T + 9}])["years_all"].to_list() == [[1980]]


# Whose topics cannot be joined


def test_events_that_others_write_are_not_joined(tmp_path: Path) -> None:
    project = tw.Project("p", views=[tw.View("v", joined, features=ago)])
    given: dict[str, Any] = {"log": "kafka://127.0.0.1:1", "sources": {"flights": {"topic": "flights"}}}
    with pytest.raises(NotYet, match=r"source 'flights' joins 'planes', and others write its topic \(\[sources\.flights\]\)"):
        project.open(home=tmp_path, **given)
    tw.Project("p", views=[tw.View("v", flights, features=ago)]).open(home=tmp_path, **given).close()


def test_rows_of_several_history_versions_lie_in_any_order() -> None:
    """As in a file that another tool has made of several."""
    tables = MemoryTables()
    compiled = compile_project(tw.Project("p", views=[tw.View("v", joined, features=ago)]))
    source, table = compiled.source("flights"), compiled.source("planes")
    for version, year in enumerate((1980, 1990), 1):
        tables.load("planes", stamped(table, conform(table, [plane("N1", year, T - 9 + version)], strict=False).frame), str(version))
        tables.load("flights", stamped(source, conform(source, [flight("N1", T)] * 2, strict=False).frame), str(version))
        assert tables.pinned("flights", "planes", version)[-1] == version
    joins = loaded_joins(compiled, "flights", tables, 2)
    history = tables.history("flights", 2)
    assert joins is not None
    assert history is not None
    (stored,) = source.joins[0].types
    assert joins.added(history[[2, 0, 3, 1]], [stored])[stored].to_list() == [1990, 1980, 1990, 1980]


@pytest.mark.parametrize("partitions", [1, 3])
def test_single_records_hold_the_joined_columns(partitions: int) -> None:
    """As topics of ours on Kafka have them."""
    source = compile_project(tw.Project("p", views=[tw.View("v", joined, features=ago)])).source("flights")
    (stored,) = source.joins[0].types
    columns = check_rows(source, [flight(tail, T) for tail in ("N1", "N2", "N3")]) | {stored: [1980, None, 2000]}
    payloads = [append.payload for append in appends(source, columns, partitions, "json")]
    found, refused = columns_of([*payloads, b'{"tail": "old", "gate": 1, "delay": 0.5, "codes": null, "t": 1}'], JSON_OF_OURS, source)
    assert not refused
    assert dict(zip(found["tail"], found[stored], strict=True)) == {"N1": 1980, "N2": None, "N3": 2000, "old": None}
