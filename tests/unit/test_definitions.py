"""Definitions: what they hold, the names that they give, where they stand; they are frozen and load no engine."""

import dataclasses
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.algebra.base import registered
from twofold.definitions.base import type_name
from twofold.definitions.content import content_of
from twofold.definitions.features import Feature, named_features
from twofold.definitions.use import ViewUse
from twofold.errors import DefinitionError
from twofold.instants import duration_us

departures = tw.Events("departures", time="departed_at", id="flight_id", schema={"flight_id": str, "origin": str, "delay": float})
airport = tw.View("airport", departures, by="origin", features={"delay": tw.mean("delay", over=["1h", "7d"])})
planes = tw.Table("planes", key="tailnum", schema={"tailnum": str, "year": int, "seen_at": datetime}, time="seen_at")


def here() -> int:
    return sys._getframe(1).f_lineno


def test_importing_loads_no_engine() -> None:
    code = (
        "import sys, twofold, twofold.definitions.check;"
        "print(*sorted({'polars', 'numpy', 'numba', 'cronsim', 'lightgbm', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


DEFINITIONS = [
    departures,
    airport,
    planes,
    airport["delay_1h"],
    tw.count(),
    tw.Rows(departures),
    tw.Project("p"),
    tw.Model("m", request={}),
]


@pytest.mark.parametrize("definition", [*DEFINITIONS, tw.Cached("1h"), tw.Default(0)], ids=lambda item: type(item).__name__)
def test_definitions_are_frozen(definition: Any) -> None:
    field = dataclasses.fields(definition)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(definition, field, None)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda item: type(item).__name__)
def test_definitions_are_keys_of_dictionaries(definition: Any) -> None:
    """`tw.compute(view, {departures: table}, spine)`; expressions cannot be compared, so a definition equals itself only."""
    assert {definition: 1}[definition] == 1
    assert definition != dataclasses.replace(tw.count("x"), input=pl.col("x"))


def test_each_definition_knows_its_line() -> None:
    line = here() + 1
    view = tw.View("v", departures, features={
        "a": tw.count(),
        "b": tw.mean(
            "delay",
        ),
    })  # fmt: skip
    use, filtered = view.on(x="y"), departures.filter(pl.col("delay") > 0)
    assert view.place.line == line
    assert [feature.place.line for feature in view.features.values()] == [line + 1, line + 2]
    assert (use.place.line, filtered.steps[0].place.line) == (line + 6, line + 6)
    assert {Path(place.file) for place in (view.place, use.place, view.features["a"].place)} == {Path(__file__)}
    assert str(view.place) == f"test_definitions.py:{line}"


def test_code_that_is_executed_knows_its_line_too() -> None:
    found: dict[str, Any] = {"tw": tw}
    exec(compile("\n\nproject = tw.Project('p')", "<cell 3>", "exec"), found)
    assert (found["project"].place.file, found["project"].place.line) == ("<cell 3>", 3)


# Names of features


def feature_names(name: str, feature: Feature) -> dict[str, str | None]:
    """Full name -> window of each feature that a declaration gives."""
    return {named.name: named.window for named in named_features(name, feature)}


@pytest.mark.parametrize(
    ("over", "names"),
    [
        (None, {"delay_all": None}),
        ("1h", {"delay_1h": "1h"}),
        (["1h", "7d"], {"delay_1h": "1h", "delay_7d": "7d"}),
        ("60m", {"delay_1h": "1h"}),
        ("1h30m", {"delay_90m": "90m"}),
        ("2w", {"delay_14d": "14d"}),
        (timedelta(hours=36), {"delay_36h": "36h"}),
        (["500ms", timedelta(days=1)], {"delay_500ms": "500ms", "delay_1d": "1d"}),
    ],
)
def test_a_feature_carries_its_window(over: Any, names: dict[str, str | None]) -> None:
    feature = tw.mean("delay", over=over)
    assert feature_names("delay", feature) == names
    assert list(feature_names("delay", feature)) == list(names)


def test_a_window_that_is_none_has_no_name() -> None:
    with pytest.raises(DefinitionError, match="'soon' is no duration"):
        feature_names("delay", tw.mean("delay", over="soon"))


@pytest.mark.parametrize("name", sorted(registered()))
def test_every_aggregate_has_a_word_that_gives_it(name: str) -> None:
    own = {"quantile": [0.5], "histogram": [["a", "b"]], "decayed_sum": ["1h"], "decayed_mean": ["1h"]}
    more = [3] if name.endswith("_k") else own.get(name, [])
    assert getattr(tw, name)("delay", *more, over="1h").aggregate == name
    assert name in tw.__all__


def test_a_shift_is_in_the_name() -> None:
    assert feature_names("delay", tw.mean("delay", over=["1h", "7d"], ago="24h")) == {"delay_1h_ago_1d": "1h", "delay_7d_ago_1d": "7d"}


def test_quantiles_and_bins_are_features_each() -> None:
    assert list(feature_names("delay", tw.quantiles("delay", [0.5, 0.999], over="1h"))) == ["delay_p50_1h", "delay_p99_9_1h"]
    assert list(feature_names("state", tw.histogram("state", ["ok", 7, True]))) == ["state_ok_all", "state_7_all", "state_true_all"]


def test_several_columns_of_the_last_event_are_features_each() -> None:
    assert list(feature_names("at", tw.last(["lat", "lon"], over=["1h", "1d"]))) == ["at_lat_1h", "at_lat_1d", "at_lon_1h", "at_lon_1d"]


# Sources, tables, uses


def test_the_columns_of_a_source_include_its_time() -> None:
    assert departures.columns == {"flight_id": "str", "origin": "str", "delay": "float", "departed_at": "datetime"}
    assert planes.columns == {"tailnum": "str", "year": "int", "seen_at": "datetime"}
    assert (planes.by, planes.value_columns) == (("tailnum",), ("year",))


@pytest.mark.parametrize(
    ("named", "horizon"),
    [
        ({}, None),
        ({"id": "flight_id"}, "10m"),
        ({"id": "flight_id", "dedupe": "1h"}, "1h"),
        ({"id": "flight_id", "dedupe": None}, None),
        ({"id": "flight_id", "dedupe": timedelta(hours=2)}, "2h"),
    ],
)
def test_an_id_implies_that_duplicates_go(named: dict[str, Any], horizon: str | None) -> None:
    events = tw.Events("e", schema={"flight_id": str}, time="t", **named)
    assert events.dedupe_us == (horizon and duration_us(horizon))


def test_steps_leave_the_source_as_it_was() -> None:
    stepped = departures.filter(pl.col("delay") > 0).with_columns(late=pl.col("delay") > 15).rename(origin="airport")
    assert [step.kind for step in stepped.steps] == ["filter", "with_columns", "rename"]
    assert departures.steps == ()
    assert (stepped.name, stepped.columns) == (departures.name, departures.columns)


@pytest.mark.parametrize(
    ("use", "keys", "prefix", "features"),
    [
        (airport["delay_1h"], {}, "airport_", ("delay_1h",)),
        (airport["delay_1h", "delay_7d"], {}, "airport_", ("delay_1h", "delay_7d")),
        (airport.on(origin="dest"), {"origin": "dest"}, "airport_", None),
        (airport.on(origin="dest", prefix="dest_"), {"origin": "dest"}, "dest_", None),
        (airport["delay_1h"].on(origin="dest", prefix="dest_"), {"origin": "dest"}, "dest_", ("delay_1h",)),
        (airport.on(prefix=""), {}, "", None),
        (planes.on(tailnum="plane"), {"tailnum": "plane"}, "planes_", None),
        (planes["year"], {}, "planes_", ("year",)),
    ],
)
def test_how_a_model_reads_a_view(use: ViewUse, keys: Any, prefix: str, features: Any) -> None:
    assert (use.keys, use.column_prefix, use.features) == (keys, prefix, features)


def test_a_model_reads_plain_views_as_they_are() -> None:
    model = tw.Model("m", request={"origin": str, "carrier": tw.Category}, views=[airport, planes["year"]])
    assert [(use.view, use.column_prefix) for use in model.uses] == [(airport, "airport_"), (planes, "planes_")]
    assert model.request_types == {"origin": "str", "carrier": "category"}


def test_a_project_reaches_what_its_models_need_once() -> None:
    late = departures.filter(pl.col("delay") > 15)
    other = tw.View("other", late, features={"n": tw.count()})
    arrivals = tw.Events("arrivals", schema={"flight_id": str}, time="t")
    model = tw.Model(
        "m",
        request={"origin": str},
        views=[airport, airport.on(origin="dest", prefix="dest_"), other, planes],
        rows=tw.Rows(departures),
        label=tw.Label(arrivals, on="flight_id", value="flight_id", within="1d"),
    )
    project = tw.Project("p", models=[model], views=[planes])
    assert [view.name for view in project.reached_views()] == ["planes", "airport", "other"]
    assert [source.name for source in project.reached_sources()] == ["planes", "departures", "arrivals"]
    stepped_first = tw.Project("p", views=[other, airport])
    assert [source.steps for source in stepped_first.reached_sources()] == [()]  # type: ignore[union-attr]


# Types and content


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("float", "Did you mean 'float'"),
        ("strr", "Did you mean 'str'"),
        (pl.Float64, "Did you mean 'float'"),
        (list, "has the type 'list'; lists are"),
        (None, "None"),
        (5, "5"),
    ],
)
def test_what_is_no_type_names_the_nearest(kind: Any, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        type_name(kind, "departures.delay")


def view_over(**changes: Any) -> tw.View:
    named = {"source": departures, "by": "origin", "features": {"delay": tw.mean("delay", over="1h", where=pl.col("delay") > 0)}}
    return tw.View("airport", **{**named, **changes})


def test_content_is_meaning_without_a_place() -> None:
    here_and_there = [
        tw.View("airport", departures, features={"n": tw.count()}),
        tw.View("airport", departures, features={"n": tw.count()}),
    ]
    assert here_and_there[0].place != here_and_there[1].place
    assert content_of(here_and_there[0]) == content_of(here_and_there[1])


@pytest.mark.parametrize(
    "changes",
    [
        {"by": ("origin", "flight_id")},
        {"mode": "stream"},
        {"source": departures.filter(pl.col("delay") > 1)},
        {"features": {"delay": tw.mean("delay", over="2h", where=pl.col("delay") > 0)}},
        {"features": {"delay": tw.mean("delay", over="1h", where=pl.col("delay") > 1)}},
        {"features": {"delay": tw.sum("delay", over="1h", where=pl.col("delay") > 0)}},
    ],
)
def test_another_meaning_is_another_content(changes: dict[str, Any]) -> None:
    assert content_of(view_over(**changes)) != content_of(view_over())
