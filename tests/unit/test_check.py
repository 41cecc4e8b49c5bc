"""The check: each mistake with its file, its line and the nearest right name; all at once, and never an exception."""

# ruff: noqa: E501 - a case is one line

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import twofold as tw
from twofold.definitions.check import check, check_or_raise, load_project
from twofold.definitions.problems import Problem
from twofold.errors import DefinitionError, NotYet

EXAMPLES = Path(__file__).parents[2] / "examples"

GOOD = """
from datetime import datetime
import numpy as np
import polars as pl
import twofold as tw

class Estimator:
    def fit(self, x, y): ...
    def predict(self, x): ...

schedule = tw.Events("schedule", time="scheduled_at", id="flight_id",
    schema={"flight_id": str, "origin": str, "dest": str, "carrier": str, "tailnum": str, "distance": int})
departures = tw.Events("departures", time="departed_at", id="flight_id", dedupe="1h", zone="America/New_York",
    partition_by="flight_id",
    schema={"flight_id": str, "origin": str, "carrier": str, "tailnum": str, "delay": float})
arrivals = tw.Events("arrivals", time="arrived_at", id="flight_id",
    schema={"flight_id": str, "dest": str, "carrier": str, "tailnum": str, "delay": float, "gate": tw.Category})
planes = tw.Table("planes", key="tailnum", max_age="1d",
    schema={"tailnum": str, "year": int, "engines": int})

stepped = (departures
    .filter(pl.col("delay") > -60)
    .with_columns(hours=pl.col("delay") / 60)
    .rename(tailnum="plane"))
airport = tw.View("airport", departures, by="origin", max_age="1h",
    features={
        "departures": tw.count(over=["1h", "6h"]),
        "delay": tw.mean("delay", over=["1h", "7d"], hop="1m"),
        "late": tw.mean(pl.col("delay") > 15, over="1h", where=pl.col("carrier") == "UA"),
    })
aircraft = tw.View("aircraft", stepped, by=["plane"],
    features={"hours": tw.last("hours", over="12h")})
carrier = tw.View("carrier", arrivals, by="carrier", mode="batch", refresh="0 2 * * *",
    features={"delay": tw.std("delay", over="7d")})

late = tw.Model("late",
    request={"flight_id": str, "origin": tw.Category, "dest": tw.Category, "carrier": tw.Category, "tailnum": str, "distance": float},
    views=[airport, carrier, planes,
        airport.on(origin="dest", prefix="dest_"),
        aircraft["hours_12h"].on(plane="tailnum")],
    derived={
        "trend": lambda airport_delay_1h, airport_delay_7d: airport_delay_1h - np.abs(airport_delay_7d),
        "twice": lambda trend: 2 * trend},
    drop=["planes_engines"],
    rows=tw.Rows(schedule, at=pl.col("scheduled_at") - pl.duration(minutes=15), where=pl.col("distance") > 0),
    label=tw.Label(arrivals, on="flight_id", value=pl.col("delay") > 15, within="1d", missing=False),
    estimator=Estimator(),
    fallback=[tw.Cached(max_age="1h"), tw.Default(0.25)],
    deadline="50ms", retrain="0 3 * * 1")
project = tw.Project("flights", models=[late])
"""


@pytest.fixture
def checked(tmp_path: Path) -> Iterator[Any]:
    """A function that writes a project file and checks it."""
    path = tmp_path / "flights.py"

    def run(text: str) -> list[Problem]:
        path.write_text(text, encoding="utf-8")
        return check(load_project(path))

    return run


def test_a_good_project_has_no_problems(checked: Any) -> None:
    assert checked(GOOD) == []


EVENTS = 'schedule = tw.Events("schedule", time="scheduled_at", id="flight_id",'
TABLE = 'planes = tw.Table("planes", key="tailnum", max_age="1d",'
AIRPORT = 'airport = tw.View("airport", departures, by="origin", max_age="1h",'
DELAY = '"delay": tw.mean("delay", over=["1h", "7d"], hop="1m"),'
MODEL = 'late = tw.Model("late",'
TREND = '"trend": lambda airport_delay_1h, airport_delay_7d: airport_delay_1h - np.abs(airport_delay_7d),'
ROWS = 'rows=tw.Rows(schedule, at=pl.col("scheduled_at") - pl.duration(minutes=15), where=pl.col("distance") > 0),'
LABEL = 'label=tw.Label(arrivals, on="flight_id", value=pl.col("delay") > 15, within="1d", missing=False),'
PROJECT = 'project = tw.Project("flights", models=[late])'

# What is replaced, by what, and what is then told of the line where that stands.
CASES: dict[str, tuple[str, str, str]] = {
    # Sources
    "source: unknown id": (EVENTS, EVENTS.replace('id="flight_id"', 'id="flihgt_id"'), "id of source 'schedule': source 'schedule' has no column 'flihgt_id'; it has flight_id, origin, dest, carrier, tailnum, distance, scheduled_at. Did you mean 'flight_id'?"),
    "source: no name": (EVENTS, EVENTS.replace('"schedule"', '"sched-ule"'), "the source's name 'sched-ule' is no name; use letters, digits and underscores, as in 'sched_ule'"),
    "source: near miss of time": (EVENTS, EVENTS.replace("schema={", "").replace('id="flight_id",', 'schema={"scheduledat": datetime, **{"flight_id": str}})\nschedule_ = tw.Events("s", time="t",'), "its time 'scheduled_at' is not in the schema, which has scheduledat. Did you mean 'scheduledat'?"),
    "source: time of a wrong type": ('"departures", time="departed_at"', '"departures", time="delay"', "its time 'delay' is declared as float; it must be datetime"),
    "source: bad type": ('"distance": int})', '"distance": "flaot"})', "source 'schedule': the column 'distance' has the type 'flaot'; types are str, int, float, bool, datetime and tw.Category. Did you mean 'float'?"),
    "source: reserved column": ('"distance": int})', '"distance": int, "__major": int})', "'__major' is no name of a column"),
    "source: unknown partition": ('partition_by="flight_id"', 'partition_by=["flight_id", "orign"]', "partition_by of source 'departures': source 'departures' has no column 'orign'"),
    "source: partition by a float": ('partition_by="flight_id"', 'partition_by="delay"', "'delay' is a float, and floats are no keys"),
    "source: id is a float": ('"departures", time="departed_at", id="flight_id"', '"departures", time="departed_at", id="delay"', "id of source 'departures': 'delay' is a float"),
    "source: time is none": ('"departures", time="departed_at"', '"departures", time=""', "source 'departures': time is ''; name the column that holds the instant"),
    "source: dedupe": ('dedupe="1h"', 'dedupe="an hour"', "dedupe of source 'departures': 'an hour' is no duration"),
    "source: dedupe without id": ('"departures", time="departed_at", id="flight_id"', '"departures", time="departed_at"', "dedupe needs id="),
    "source: zone": ('zone="America/New_York"', 'zone="America/NewYork"', "'America/NewYork' is no time zone; write one as in 'America/New_York'. Did you mean 'America/New_York'?"),
    # Steps
    "filter: unknown column": ('.filter(pl.col("delay") > -60)', '.filter(pl.col("dely") > -60)', "filter of source 'departures': source 'departures' has no column 'dely'"),
    "filter: no condition": ('.filter(pl.col("delay") > -60)', '.filter(pl.col("delay") + 1)', "its type is float; it must be bool"),
    "with_columns: neighbours": ('.with_columns(hours=pl.col("delay") / 60)', '.with_columns(hours=pl.col("delay").diff())', "with_columns of source 'departures': hours: diff() looks at other rows"),
    "with_columns: time": ('.with_columns(hours=pl.col("delay") / 60)', '.with_columns(hours=pl.col("delay") / 60, departed_at=pl.col("departed_at"))', "'departed_at' is the event's time, which no step can change"),
    "rename: unknown": ('.rename(tailnum="plane"))', '.rename(tailnumber="x", tailnum="plane"))', "rename of source 'departures': it has no column 'tailnumber'"),
    "rename: no text": ('.rename(tailnum="plane"))', '.rename(origin=5, tailnum="plane"))', "the new name of 'origin' is 5, which is no text"),
    "rename: taken": ('.rename(tailnum="plane"))', '.rename(origin="carrier", tailnum="plane"))', "two columns would be called 'carrier'"),
    # Tables
    "table: unknown key": (TABLE, TABLE.replace('"tailnum"', '("tailnum", "tailno")'), "key of table 'planes': table 'planes' has no column 'tailno'"),
    "table: key is a float": ('schema={"tailnum": str, "year": int, "engines": int})', 'schema={"tailnum": float, "year": int, "engines": int})', "key of table 'planes': 'tailnum' is a float"),
    "table: nothing to give": (PROJECT, 'empty = tw.Table("empty", key="a", schema={"a": str})\n' + PROJECT.replace("models", "views=[empty], models"), "has no columns besides its key and time"),
    "table: no key": (PROJECT, 'odd = tw.Table("odd", key=(), schema={"a": str})\n' + PROJECT.replace("models", "views=[odd], models"), "table 'odd' has no key"),
    "table: no name": (PROJECT, 'odd = tw.Table("o d", key="a", schema={"a": str, "b": int})\n' + PROJECT.replace("models", "views=[odd], models"), "the table's name 'o d' is no name"),
    "table: column without a name": (PROJECT, 'odd = tw.Table("odd", key="a", schema={"a": str, "b c": int})\n' + PROJECT.replace("models", "views=[odd], models"), "table 'odd': the column 'b c' is no name"),
    "table: time": (PROJECT, 'odd = tw.Table("odd", key="a", time="b", zone="Mars", schema={"a": str, "b": int, "c": int})\n' + PROJECT.replace("models", "views=[odd], models"), "table 'odd': its time 'b' is declared as int; it must be datetime"),
    "table: zone": (PROJECT, 'odd = tw.Table("odd", key="a", time="b", zone="Mars", schema={"a": str, "c": int})\n' + PROJECT.replace("models", "views=[odd], models"), "'Mars' is no time zone"),
    "table: bad type": (PROJECT, 'odd = tw.Table("odd", key="a", schema={"a": str, "c": list})\n' + PROJECT.replace("models", "views=[odd], models"), "table 'odd': the column 'c' has the type 'list'"),
    "view: delay that is none": (AIRPORT, AIRPORT.replace('max_age="1h"', 'delay="soon"'), "delay of view 'airport': 'soon' is no duration"),
    "table: deleted of a wrong type": (TABLE, TABLE.replace('max_age="1d"', 'deleted="year"'), "its column of deletes 'year' is declared as int; it must be bool"),
    "table: deleted is its key": (TABLE, TABLE.replace('max_age="1d"', 'deleted="tailnum"'), "table 'planes': deleted is 'tailnum', which is its key or time"),
    "table: deleted is no name": (TABLE, TABLE.replace('max_age="1d"', 'deleted=True'), "table 'planes': deleted is True; name the boolean column that marks deletes"),
    "table: near miss of deleted": (PROJECT, 'odd = tw.Table("odd", key="a", deleted="is_delted", schema={"a": str, "b": int, "is_deleted": bool})\n' + PROJECT.replace("models", "views=[odd], models"), "its column of deletes 'is_delted' is not in the schema. Did you mean 'is_deleted'?"),
    "table: snapshots without time": (TABLE, TABLE.replace('max_age="1d"', 'snapshots=True'), "table 'planes' has snapshots but no time; name the column of a snapshot's instant, as in time='taken_at'"),
    "table: max_age": (TABLE, TABLE.replace('"1d"', '"a day"'), "max_age of table 'planes': 'a day' is no duration"),
    # Views
    "view: unknown key": (AIRPORT, AIRPORT.replace('by="origin"', 'by="orign"'), "by of view 'airport': source 'departures' has no column 'orign'"),
    "view: key is a float": (AIRPORT, AIRPORT.replace('by="origin"', 'by=("origin", "delay")'), "'delay' is a float"),
    "view: key twice": (AIRPORT, AIRPORT.replace('by="origin"', 'by=["origin", "origin"]'), "the column 'origin' is named twice"),
    "view: key called at": (PROJECT, 'odd = tw.View("odd", departures.rename(origin="at"), by="at", features={"n": tw.count(over="1h")})\n' + PROJECT.replace("models", "views=[odd], models"), "by of view 'odd': a key cannot be called 'at'"),
    "view: no name": (AIRPORT, AIRPORT.replace('"airport"', '"air port"'), "the view's name 'air port' is no name"),
    "view: no features": (PROJECT, 'odd = tw.View("odd", departures, by="origin")\n' + PROJECT.replace("models", "views=[odd], models"), "view 'odd' has no features"),
    "view: as_of of nothing": (AIRPORT, AIRPORT.replace('max_age="1h"', 'as_of="bild"'), "as_of is 'bild'; it is 'request' or 'build'"),
    "view: mode": (AIRPORT, AIRPORT.replace('max_age="1h"', 'mode="hybird"'), "view 'airport': there is no mode 'hybird'; there are hybrid, batch, stream. Did you mean 'hybrid'?"),
    "view: batch without refresh": (AIRPORT, AIRPORT.replace('max_age="1h"', 'mode="batch"'), "mode 'batch' needs refresh="),
    "view: stream with refresh": (AIRPORT, AIRPORT.replace('max_age="1h"', 'mode="stream", refresh="0 2 * * *"'), "mode 'stream' has no generation to refresh"),
    "view: bad cron": ('refresh="0 2 * * *"', 'refresh="0 25 * * *"', "refresh of view 'carrier': '0 25 * * *' is no cron expression"),
    "view: cron is no text": ('refresh="0 2 * * *"', "refresh=2", "2 is no cron expression"),
    "view: as_of": (AIRPORT, AIRPORT.replace('max_age="1h"', 'as_of="build"'), "as_of='build' belongs to mode 'batch'"),
    "view: max_age": (AIRPORT, AIRPORT.replace('max_age="1h"', 'max_age="1 h"'), "max_age of view 'airport': '1 h' is no duration"),
    "view: source is a table": (AIRPORT, AIRPORT.replace("departures", "planes"), "view 'airport': its source is table 'planes'; give a tw.Events"),
    # Features
    "feature: unknown column": (DELAY, DELAY.replace('"delay", over', '"dely", over'), "feature 'delay' of view 'airport': source 'departures' has no column 'dely'; it has flight_id, origin, carrier, tailnum, delay, departed_at. Did you mean 'delay'?"),
    "feature: unknown column in an expression": (DELAY, DELAY.replace('"delay", over', 'pl.col("dely") + 1, over'), "has no column 'dely'"),
    "feature: unknown column in where": ('where=pl.col("carrier") == "UA"', 'where=pl.col("carier") == "UA"', "where of feature 'late' of view 'airport': source 'departures' has no column 'carier'"),
    "feature: where is no condition": ('where=pl.col("carrier") == "UA"', 'where=pl.col("delay")', "its type is float; it must be bool"),
    "feature: neighbouring rows": (DELAY, DELAY.replace('"delay", over', 'pl.col("delay").shift(1), over'), "feature 'delay' of view 'airport': shift() looks at other rows"),
    "feature: an aggregate inside": (DELAY, DELAY.replace('"delay", over', 'pl.col("delay").max(), over'), "max() is an aggregate over rows"),
    "feature: no expression": (DELAY, DELAY.replace('"delay", over', "5, over"), "5 is no expression"),
    "feature: no window": (DELAY, DELAY + ' "x": tw.rate(),', "tw.rate needs a window; give over="),
    "feature: no input": (DELAY, DELAY.replace('"delay", over', "None, over"), "tw.mean needs a column or an expression"),
    "feature: no duration": (DELAY, DELAY.replace('["1h", "7d"]', '["1h", "soon", "7d"]'), "window of feature 'delay' of view 'airport': 'soon' is no duration"),
    "feature: window twice": (DELAY, DELAY.replace('["1h", "7d"]', '["1h", "7d", "60m"]'), "the windows '1h' and '60m' are the same"),
    "feature: all time among windows": (DELAY, DELAY.replace('["1h", "7d"]', '["1h", None]'), "window of feature 'delay' of view 'airport': None is no window; all time is a feature of its own, without over="),
    "feature: hop is no duration": (DELAY, DELAY.replace('hop="1m"', 'hop="1x"'), "hop of feature 'delay' of view 'airport': '1x' is no duration"),
    "feature: hop off the ladder": (DELAY, DELAY.replace('hop="1m"', 'hop="50s"'), "'50s' is not on the ladder 100ms, 500ms, 1s, 5s, 15s, 1m, 5m, 15m, 1h, 6h, 1d. Did you mean '1m'?"),
    "feature: hop longer than the window": (DELAY, DELAY.replace('hop="1m"', 'hop="6h"'), "'6h' is longer than the window '1h'"),
    "feature: hop of all time": ('"departures": tw.count(over=["1h", "6h"]),', '"departures": tw.count(hop="1h"),', "all time has no hop"),
    "feature: sum of a text": (DELAY, DELAY + ' "x": tw.sum("carrier", over="1h"),', "tw.sum of a str has no meaning; it takes bool, float, int"),
    "feature: mean of an instant": (DELAY, DELAY + ' "x": tw.mean("departed_at", over="1h"),', "tw.mean of a datetime has no meaning"),
    "feature: std of a text": (DELAY, DELAY + ' "x": tw.std(pl.col("carrier").str.to_lowercase(), over="1h"),', "tw.std of a str has no meaning"),
    "feature: no feature": (DELAY, DELAY + ' "x": "delay",', "feature 'x' is 'delay'; use a word such as tw.count"),
    "feature: no name": (DELAY, DELAY + ' "x y": tw.count(over="1h"),', "the feature's name 'x y' is no name; use letters, digits and underscores, as in 'x_y'"),
    "feature: called like the key": (PROJECT, 'odd = tw.View("odd", stepped.rename(plane="n_1h"), by="n_1h", features={"n": tw.count(over="1h")})\n' + PROJECT.replace("models", "views=[odd], models"), "feature 'n' gives 'n_1h', which is the name of the key already"),
    # Models
    "model: no name": (MODEL, MODEL.replace('"late"', '"late!"'), "the model's name 'late!' is no name"),
    "model: bad type of a field": ('"tailnum": str, "distance": float},', '"tailnum": str, "distance": "float64"},', "model 'late': the request field 'distance' has the type 'float64'"),
    "model: field without a name": ('request={"flight_id": str,', 'request={"a b": str, "flight_id": str,', "model 'late': the request field 'a b' is no name"),
    "model: reserved name": ('request={"flight_id": str,', 'request={"at": str, "flight_id": str,', "model 'late': 'at' is the instant of a row; call the column of the request otherwise"),
    "model: key that the request lacks": ("views=[airport, carrier, planes,", 'views=[airport, carrier.on(carrier="carier"), planes,', "model 'late': view 'carrier' needs the key 'carrier', and the request has no 'carier'; it has flight_id, origin, dest, carrier, tailnum, distance. Did you mean 'carrier'? Add it to request=, or name another field with .on(carrier=...)"),
    "model: key of another type": ("views=[airport, carrier, planes,", 'views=[airport, carrier.on(carrier="distance"), planes,', "the key 'carrier' of view 'carrier' has the type str, the request's 'distance' has float"),
    "model: on() of no key": ('airport.on(origin="dest", prefix="dest_"),', 'airport.on(orign="dest", origin="dest", prefix="dest_"),', "model 'late': on(): view 'airport' has no key 'orign'; it has origin. Did you mean 'origin'?"),
    "model: unknown feature": ('aircraft["hours_12h"].on(plane="tailnum")],', 'aircraft["hours_12h", "hour_12h"].on(plane="tailnum")],', "model 'late': view 'aircraft' has no feature 'hour_12h'; it has hours_12h. Did you mean 'hours_12h'?"),
    "model: feature without its window": ("views=[airport, carrier, planes,", 'views=[airport, carrier["delay"], planes,', "view 'carrier' has no feature 'delay'; it has delay_7d. Did you mean 'delay_7d'?"),
    "model: unknown column of a table": ("views=[airport, carrier, planes,", 'views=[airport, carrier, planes["year", "engines", "yaer"],', "table 'planes' has no feature 'yaer'; it has year, engines. Did you mean 'year'?"),
    "model: prefix": ('airport.on(origin="dest", prefix="dest_"),', 'airport.on(origin="dest", prefix="dest "),', "the prefix 'dest ' is no name"),
    "model: no view": ("views=[airport, carrier, planes,", "views=[airport, carrier, planes, departures,", "views[3] is source 'departures'; give a tw.View"),
    "model: unknown drop": ('drop=["planes_engines"],', 'drop=["planes_engine"],', "drop: model 'late' has no column 'planes_engine'"),
    "model: deadline": ('deadline="50ms"', 'deadline="50"', "deadline of model 'late': '50' is no duration"),
    "model: retrain": ('retrain="0 3 * * 1"', 'retrain="weekly"', "retrain of model 'late': 'weekly' is no cron expression"),
    "model: a class": ("estimator=Estimator(),", "estimator=Estimator,", "its estimator is the class Estimator; write Estimator()"),
    "model: no estimator": ("estimator=Estimator(),", 'estimator="lightgbm",', "has no fit and predict"),
    "model: no rows": (ROWS, "", "model 'late' has an estimator, but no rows to train it with"),
    "model: no label": (LABEL, "", "model 'late' has an estimator, but no label to train it with"),
    "model: fallback": ("tw.Default(0.25)],", "0.25],", "fallback[1] is 0.25; give tw.Cached(max_age=...) or tw.Default(value)"),
    "model: default": ("tw.Default(0.25)],", "tw.Default(object())],", "cannot be answered as JSON; give a number or a text"),
    "model: fallback order": ('fallback=[tw.Cached(max_age="1h"), tw.Default(0.25)],', 'fallback=[tw.Default(0.25), tw.Cached(max_age="1h")],', "what stands behind it in fallback is never reached"),
    "model: max_age of the cache": ('tw.Cached(max_age="1h")', 'tw.Cached(max_age="1x")', "max_age of tw.Cached: '1x' is no duration"),
    "model: a text for the estimator": ('features={"delay": tw.std("delay", over="7d")})', 'features={"delay": tw.std("delay", over="7d"), "tail": tw.last("tailnum", over="1d")})', "'carrier_tail_1d' of view 'carrier' is a str, which no estimator takes"),
    # Derived columns
    "derived: unknown column": (TREND, TREND.replace("lambda airport_delay_1h,", "lambda airport_dely_1h,").replace(": airport_delay_1h -", ": airport_dely_1h -"), "derived column 'trend' of model 'late': model 'late' has no column 'airport_dely_1h'"),
    "derived: a later one": (TREND, TREND.replace("airport_delay_7d", "twice"), "has no column 'twice'"),
    "derived: a text": (TREND, TREND.replace("airport_delay_7d", "carrier"), "'carrier' is a category; derived columns are made of numbers"),
    "derived: a free name": (TREND, TREND.replace("np.abs(airport_delay_7d)", "LIMIT"), "it reads 'LIMIT', which a replica does not have: only its arguments, np and math are; write its value into the function"),
    "derived: a builtin": (TREND, TREND.replace("np.abs(", "abs("), "it reads 'abs', which a replica does not have: only its arguments, np and math are; write np.abs"),
    "derived: random": (TREND, TREND.replace("np.abs(airport_delay_7d)", "np.random.rand()"), "np.random is random"),
    "derived: a way out": (TREND, TREND.replace("np.abs(airport_delay_7d)", "np.abs.__class__"), "begins with an underscore"),
    "derived: a file": (TREND, TREND.replace("np.abs(airport_delay_7d)", "np.load('x')"), "np.load reads a file"),
    "derived: no arguments": (TREND, '"trend": lambda: 1.0,', "takes no column"),
    "derived: a default": (TREND, TREND.replace("airport_delay_7d:", "airport_delay_7d=1:"), "without defaults or stars"),
    "derived: no function": (TREND, '"trend": 5,', "5 has no source"),
    "derived: a ufunc": (TREND, '"trend": np.subtract,', "has no source"),
    "derived: no name": (TREND, '"trend": lambda distance: distance, "a b": lambda distance: distance,', "the derived column 'a b' is no name"),
    "derived: like a field": (TREND, '"trend": lambda distance: distance, "distance": lambda distance: distance,', "two columns would be called 'distance': one of the request, one of derived"),
    # Rows and label
    "rows: source": (ROWS, ROWS.replace("schedule,", "airport,"), "rows of model 'late': its source is view 'airport'"),
    "rows: no rows": (ROWS, "rows=schedule,", "is no tw.Rows"),
    "rows: at is no instant": (ROWS, ROWS.replace('pl.col("scheduled_at") - pl.duration(minutes=15)', 'pl.col("distance")'), "at of rows of model 'late': its type is int; it must be datetime"),
    "rows: at unknown": (ROWS, ROWS.replace('pl.col("scheduled_at")', 'pl.col("schedule_at")'), "has no column 'schedule_at'"),
    "rows: where": (ROWS, ROWS.replace('pl.col("distance") > 0', 'pl.col("distanc") > 0'), "where of rows of model 'late': source 'schedule' has no column 'distanc'"),
    "rows: a field is missing": (ROWS, ROWS.replace("tw.Rows(schedule,", 'tw.Rows(schedule.rename(distance="miles"),').replace('pl.col("distance")', 'pl.col("miles")'), "rows of model 'late': the request field 'distance': source 'schedule' has no column 'distance'"),
    "rows: a field of another type": (ROWS, ROWS.replace("tw.Rows(schedule,", 'tw.Rows(schedule.with_columns(distance=pl.col("origin")),').replace('pl.col("distance") > 0', "pl.lit(True)"), "the request field 'distance' has the type float, the column of source 'schedule' has str"),
    "label: unknown column": (LABEL, LABEL.replace('on="flight_id"', 'on="flight"'), "on of label of model 'late': source 'arrivals' has no column 'flight'"),
    "label: not in the rows": (LABEL, LABEL.replace('on="flight_id"', 'on=("flight_id", "gate")'), "on of label of model 'late': source 'schedule' has no column 'gate'"),
    "label: on a float": (LABEL, LABEL.replace('on="flight_id"', 'on=("flight_id", "delay")'), "'delay' is a float"),
    "label: source": (LABEL, LABEL.replace("arrivals,", "airport,"), "label of model 'late': its source is view 'airport'; give a tw.Events"),
    "label: on nothing": (LABEL, LABEL.replace('on="flight_id"', 'on=()'), "on names no column"),
    "label: on another type": (LABEL.replace(", missing=False),", ""), LABEL.replace(", missing=False),", "").replace("arrivals,", 'arrivals.with_columns(flight_id=pl.col("flight_id").str.len_chars()),'), "'flight_id' has the type int in source 'arrivals' and str in source 'schedule'"),
    "label: without rows": (ROWS, "", "model 'late' has a label and no rows"),
    "label: within": (LABEL, LABEL.replace('"1d"', '"tomorrow"'), "within of label of model 'late': 'tomorrow' is no duration"),
    "label: value": (LABEL, LABEL.replace('pl.col("delay") > 15', 'pl.col("dely") > 15'), "value of label of model 'late': source 'arrivals' has no column 'dely'"),
    "label: value of no type": (LABEL, LABEL.replace('pl.col("delay") > 15', '"arrived_at"'), "its type is datetime; it must be bool or float or int or str"),
    "label: missing": (LABEL, LABEL.replace("missing=False", 'missing="no"'), "missing='no' does not fit its value, whose type is bool"),
    "label: no label": (LABEL, "label=arrivals,", "is no tw.Label"),
    # The project
    "project: empty": (PROJECT, 'project = tw.Project("flights")', "project 'flights' is empty; name its models, as in models=[late]"),
    "project: no name": (PROJECT, PROJECT.replace('"flights"', '"2013"'), "the project's name '2013' is no name; use letters, digits and underscores, as in '_2013'"),
    "project: long name": (PROJECT, PROJECT.replace('"flights"', f'"{"f" * 129}"'), f"the project's name '{'f' * 76}... has 129 letters; take at most 128"),
    "project: no model": (PROJECT, PROJECT.replace("[late]", "[late, airport]"), "project 'flights': models[1] is view 'airport'; give a tw.Model"),
    "project: no list": (PROJECT, 'project = tw.Project("flights", models=[late], views=5)', "is not written as it should be"),
    "duplicate: source": (PROJECT, 'departures = tw.Events("departures", time="t", schema={"x": int})\nproject = tw.Project("flights", models=[late], sources=[departures])', "source 'departures': the name is taken by another source 'departures' (flights.py:13)"),
    "duplicate: view": (PROJECT, 'airport = tw.View("airport", departures, features={"n": tw.count()})\nproject = tw.Project("flights", models=[late], views=[airport])', "view 'airport': the name is taken by another view 'airport'"),
    "duplicate: view and table": (PROJECT, 'other = tw.View("planes", departures, features={"n": tw.count()})\nproject = tw.Project("flights", models=[late], views=[other])', "the name is taken by another"),
    "duplicate: model": (PROJECT, 'other = tw.Model("late", request={"flight_id": str})\nproject = tw.Project("flights", models=[late, other])', "model 'late': the name is taken by another model 'late'"),
}  # fmt: skip

AT: dict[str, str] = {
    "source: near miss of time": 'tw.Events("schedule"',
    "source: bad type": 'tw.Events("schedule"',
    "source: reserved column": 'tw.Events("schedule"',
    "source: unknown partition": 'tw.Events("departures"',
    "source: partition by a float": 'tw.Events("departures"',
    "table: key is a float": 'tw.Table("planes"',
    "view: bad cron": 'tw.View("carrier"',
    "view: cron is no text": 'tw.View("carrier"',
    "feature: no feature": 'tw.View("airport"',
    "derived: no function": MODEL,
    "derived: a ufunc": MODEL,
    "rows: no rows": MODEL,
    "label: no label": MODEL,
    "label: without rows": MODEL,
    **dict.fromkeys((name for name in CASES if name.startswith("model: ")), MODEL),
    **dict.fromkeys(("model: on() of no key", "model: prefix"), "airport.on("),
    **dict.fromkeys(("model: key that the request lacks", "model: key of another type"), "views=[airport"),
    **dict.fromkeys(("model: feature without its window", "model: unknown column of a table"), "views=[airport"),
    "model: unknown feature": "aircraft[",
    "model: no name": 'tw.Model("late!"',
}
"""Where the line that is told is not the one where the mistake begins: a text that stands in it."""


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_told_with_its_line(checked: Any, name: str) -> None:
    old, new, text = CASES[name]
    assert GOOD.count(old) == 1, "what is replaced stands there once"
    broken = GOOD.replace(old, new)
    problems = checked(broken)
    matching = [problem for problem in problems if text in problem.text]
    assert matching, "\n".join(map(str, problems))
    anchor = AT.get(name, new)
    line = broken[: broken.index(anchor)].count("\n") + 1
    assert str(matching[0]).startswith(f"flights.py:{line}: ")
    assert matching[0].place.file.endswith("flights.py")


FUNCTION = """
def trend_of(airport_delay_1h, airport_delay_7d):
    \"\"\"How it changes.\"\"\"
    change = airport_delay_1h - airport_delay_7d
    if np.ndim(change) == 0:
        change = change * math.pi
    return np.where(change > 0, change, 0.0)

"""

FUNCTIONS = {
    "a good one": ("", "", None, 0),
    "a loop": ("if np.ndim(change) == 0:", "for change in change:", "for is no statement of a derived column", 4),
    "an import": ("change = airport_delay_1h - airport_delay_7d", "import os", "import is no statement of a derived column", 3),
    "nothing comes back": ("return np.where", "change = np.where", "it returns nothing", 1),
    "a function inside": ("np.where(change > 0, change, 0.0)", "(lambda: change)()", "a function in the function is not allowed", 6),
    "a star": ("airport_delay_7d):", "*airport_delay_7d):", "without defaults or stars", 1),
    "a text of values": ("np.where(change > 0, change, 0.0)", "f'{change}'", "a text made of values is not allowed", 6),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_derived_column_may_be_a_function(checked: Any, name: str) -> None:
    old, new, text, line = FUNCTIONS[name]
    broken = GOOD.replace(MODEL, FUNCTION.replace(old, new) + MODEL).replace(TREND, '"trend": trend_of,')
    begin = broken[: broken.index("def trend_of")].count("\n")
    found = [str(problem) for problem in checked(broken)]
    assert [problem for problem in found if text is None or f"flights.py:{begin + line}: derived column 'trend'" not in problem] == []
    assert text is None or (len(found) == 1 and text in found[0])


TEN = """
import polars as pl
import twofold as tw

departures = tw.Events("departures", time="departed_at", id="flihgt_id",
    schema={"flight_id": str, "origin": str, "delay": float, "gate": "strr"})
airport = tw.View("airport", departures, by="orign", features={
    "delay": tw.mean("dely", over=["1h", "soon"]),
    "shifted": tw.mean(pl.col("delay").shift(1), over="1h"),
    "origins": tw.sum("origin", over="1h", hop="2m"),
}, mode="hybird")
late = tw.Model("late", request={"orig": str}, views=[airport["shifted_2h"]], deadline="fast")
project = tw.Project("flights", models=[late])
"""

TEN_TEXTS = """
flights.py:5: id of source 'departures': source 'departures' has no column 'flihgt_id'; it has flight_id, origin, delay, gate, departed_at. Did you mean 'flight_id'?
flights.py:5: source 'departures': the column 'gate' has the type 'strr'; types are str, int, float, bool, datetime and tw.Category. Did you mean 'str'?
flights.py:7: by of view 'airport': source 'departures' has no column 'orign'; it has flight_id, origin, delay, gate, departed_at. Did you mean 'origin'?
flights.py:7: view 'airport': there is no mode 'hybird'; there are hybrid, batch, stream. Did you mean 'hybrid'?
flights.py:8: feature 'delay' of view 'airport': source 'departures' has no column 'dely'; it has flight_id, origin, delay, gate, departed_at. Did you mean 'delay'?
flights.py:8: window of feature 'delay' of view 'airport': 'soon' is no duration; write a number and a unit of us, ms, s, m, h, d or w, as in '15m' or '7d'
flights.py:9: feature 'shifted' of view 'airport': shift() looks at other rows
flights.py:10: feature 'origins' of view 'airport': tw.sum of a str has no meaning; it takes bool, float, int
flights.py:10: hop of feature 'origins' of view 'airport': '2m' is not on the ladder 100ms, 500ms, 1s, 5s, 15s, 1m, 5m, 15m, 1h, 6h, 1d. Did you mean '1m'?
flights.py:12: deadline of model 'late': 'fast' is no duration; write a number and a unit of us, ms, s, m, h, d or w, as in '15m' or '7d'
flights.py:12: model 'late': view 'airport' has no feature 'shifted_2h'; it has delay_1h, shifted_1h, origins_1h. Did you mean 'shifted_1h'?
flights.py:12: model 'late': view 'airport' needs the key 'orign', and the request has no 'orign'; it has orig. Did you mean 'orig'? Add it to request=, or name another field with .on(orign=...)
"""


def test_all_problems_come_at_once_in_the_order_of_the_file(checked: Any) -> None:
    problems = [str(problem) for problem in checked(TEN)]
    assert sorted(problems, key=lambda text: (int(text.split(":")[1]), text)) == TEN_TEXTS.strip().split("\n")
    assert [int(text.split(":")[1]) for text in problems] == [5, 5, 7, 7, 8, 8, 9, 10, 10, 12, 12, 12]


def test_all_problems_are_raised_at_once(checked: Any, tmp_path: Path) -> None:
    checked(TEN)
    with pytest.raises(DefinitionError) as caught:
        check_or_raise(load_project(tmp_path / "flights.py"))
    first, *texts = str(caught.value).split("\n")
    assert first == "12 problems in project 'flights':"
    assert sorted(texts) == sorted(TEN_TEXTS.strip().split("\n"))


def test_a_column_without_a_type_causes_no_further_problems(checked: Any) -> None:
    broken = GOOD.replace('"tailnum": str, "delay": float})', '"tailnum": str, "delay": "flaot"})').replace(
        '.filter(pl.col("delay") > -60)', '.filter(pl.col("delay").is_not_null())'
    )
    assert [problem.text.split(";")[0] for problem in checked(broken)] == ["source 'departures': the column 'delay' has the type 'flaot'"]


def test_what_two_models_share_is_told_once(checked: Any) -> None:
    broken = GOOD.replace('"delay", over=["1h", "7d"]', '"dely", over=["1h", "7d"]').replace(
        PROJECT,
        'second = tw.Model("second", request={"origin": str}, views=[airport])\nproject = tw.Project("flights", models=[late, second])',
    )
    assert len([problem for problem in checked(broken) if "dely" in problem.text]) == 1


def test_one_name_with_one_content_is_no_duplicate(checked: Any) -> None:
    again = 'def carriers():\n    return tw.View("same", departures, features={"n": tw.count(where=pl.col("delay") > 1)})\n'
    assert checked(GOOD.replace(PROJECT, again + PROJECT.replace("models", "views=[carriers(), carriers()], models"))) == []


DEFINED_ANYHOW: dict[str, Any] = {
    "nothing": lambda: tw.Project("p"),
    "a name that is no text": lambda: tw.Project(5),  # type: ignore[arg-type]
    "models are none": lambda: tw.Project("p", models=None),  # type: ignore[arg-type]
    "models of nothing": lambda: tw.Project("p", models=[None, 3]),  # type: ignore[list-item]
    "a model of nothing": lambda: tw.Project("p", models=[tw.Model("m", request=None, views=None, derived=None)]),  # type: ignore[arg-type]
    "a view of nothing": lambda: tw.Project("p", views=[tw.View("v", None, by=5, features=None)]),  # type: ignore[arg-type]
    "a schema of nothing": lambda: tw.Project("p", views=[tw.Table("t", key=None, schema=None)]),  # type: ignore[arg-type]
    "a use of nothing": lambda: tw.Project("p", models=[tw.Model("m", request={}, views=[tw.View("v", 3)["x"]])]),  # type: ignore[arg-type]
    "rows of nothing": lambda: tw.Project("p", models=[tw.Model("m", request={}, rows=tw.Rows(None), label=tw.Label(None, 5, 3, 2))]),  # type: ignore[arg-type]
    "windows of nothing": lambda: tw.Project("p", views=[tw.View("v", departures(), features={"x": tw.sum("x", over=[None, 5])})]),  # type: ignore[list-item]
    "steps of nothing": lambda: tw.Project("p", sources=[departures().filter(None).with_columns(a=3).rename(x=5)]),  # type: ignore[arg-type]
}


def departures() -> tw.Events:
    return tw.Events("departures", time="t", schema={"x": float})


@pytest.mark.parametrize("name", DEFINED_ANYHOW)
def test_a_check_never_raises(name: str) -> None:
    problems = check(DEFINED_ANYHOW[name]())
    assert problems
    assert all(str(problem).startswith("test_check.py:") for problem in problems)


# Loading


def test_the_examples_are_right() -> None:
    for name in ("fraud", "recommend"):
        assert list(map(str, check(load_project(EXAMPLES / f"{name}.py")))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "declares no project"),
        (
            "import twofold as tw\na = tw.Project('a')\nb = tw.Project('b')",
            "declares 2 projects; say which, as in .*flights.py:a; it has a, b",
        ),
        ("\n\n1 / 0", r"^flights\.py:3: ZeroDivisionError: division by zero"),
        ("x = (\n", r"^flights\.py:1: '\(' was never closed"),
        ("import nothing_of_the_kind", r"^flights\.py:1: ModuleNotFoundError"),
        ("raise SystemExit(3)", r"^flights\.py:1: SystemExit: 3"),
        ("def f():\n    return {}['x']\nf()", r"^flights\.py:2: KeyError: 'x'"),
        ("import twofold as tw\ntw.Events('e', schema=None, time='t')", r"^flights\.py:2: TypeError"),
    ],
)
def test_a_file_that_fails_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "flights.py").write_text(text)
    with pytest.raises(DefinitionError, match=message):
        load_project(tmp_path / "flights.py")


def test_what_is_to_come_keeps_its_kind(tmp_path: Path) -> None:
    (tmp_path / "flights.py").write_text("from twofold.settings import Settings\nSettings(compute='ray:')")
    with pytest.raises(NotYet, match=r"^flights\.py:2: .*not carried out"):
        load_project(tmp_path / "flights.py")


def test_a_file_that_does_not_exist_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "flights.py").write_text("")
    with pytest.raises(DefinitionError, match=r"there is no file .*Did you mean 'flights\.py'"):
        load_project(str(tmp_path / "flihgts.py"))


def test_one_of_several_projects_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "flights.py"
    path.write_text("import twofold as tw\nfirst = tw.Project('a')\nsecond = again = tw.Project('b')")
    assert load_project(f"{path}:second").name == "b"
    with pytest.raises(DefinitionError, match=r"has no project 'secnd'; it has first, second, again\. Did you mean 'second'"):
        load_project(f"{path}:secnd")


def test_the_folder_can_be_imported_from_while_the_file_loads(tmp_path: Path) -> None:
    (tmp_path / "parts_of_flights.py").write_text("NAME = 'from a part'")
    (tmp_path / "flights.py").write_text("import twofold as tw\nfrom parts_of_flights import NAME\nproject = again = tw.Project(NAME)")
    before = list(sys.path)
    try:
        assert load_project(tmp_path / "flights.py").name == "from a part"
    finally:
        sys.modules.pop("parts_of_flights", None)
    assert sys.path == before


def test_a_file_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "flights.py"
    for name in ("a", "b"):
        path.write_text(f"import twofold as tw\nproject = tw.Project('{name}')")
        assert load_project(path).name == name


def test_a_file_may_be_called_like_a_module_that_exists(tmp_path: Path) -> None:
    assert "tabnanny" not in sys.modules
    for name in ("json", "tabnanny"):
        (tmp_path / f"{name}.py").write_text("import twofold as tw\nproject = tw.Project('p')")
        assert load_project(tmp_path / f"{name}.py").name == "p"
    assert sys.modules["json"] is json
    assert "tabnanny" not in sys.modules


def test_a_project_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fraud_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "app.py").write_text("import twofold as tw\nproject = tw.Project('p')")
    (package / "broken.py").write_text("import twofold\nimport nothing_of_the_kind")
    monkeypatch.chdir(tmp_path)
    assert load_project("fraud_of_test.app:project").name == load_project("fraud_of_test.app").name == "p"
    with pytest.raises(DefinitionError, match=r"there is no module 'fraud_of_test\.ap'"):
        load_project("fraud_of_test.ap:project")
    with pytest.raises(DefinitionError, match=r"broken\.py:2: ModuleNotFoundError"):
        load_project("fraud_of_test.broken:project")
