"""No feature of a training row knows anything that happened at or after its instant: shown on the real flights."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.instants import to_us

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

BEGIN, END = to_us("2013-03-01T00:00:00Z"), to_us("2013-03-15T00:00:00Z")
TIMES = {"schedule": "scheduled_at", "departures": "departed_at", "arrivals": "arrived_at", "weather": "observed_at"}


@pytest.fixture(scope="module")
def data() -> Any:
    from flights_data import flights

    found = flights()
    between = {name: getattr(found, name).filter(pl.col(at).to_physical().is_between(BEGIN, END)) for name, at in TIMES.items()}
    return dataclasses.replace(found, **between)


def training_set(home: Path, data: Any, rows: pl.DataFrame | None) -> pl.DataFrame:
    from flights import project

    with project.open(home=home, clock=tw.ManualClock(END)) as opened:
        for source in (*TIMES, "planes"):
            opened.load(source, getattr(data, source))
        return opened.training_set("late", rows=rows)


def test_features_stay_the_same_when_the_future_is_cut_off(tmp_path: Path, data: Any) -> None:
    """All events at or after a day's first request are removed: that request's features must not notice. Its label must."""
    everything = training_set(tmp_path / "all", data, None)
    features = [name for name in everything.columns if name != "label"]
    for day in (3, 7, 11):
        cut = BEGIN + day * 86_400_000_000 + 72_000_000_000
        row = everything.filter(pl.col("at").to_physical() >= cut).head(1)
        at = int(row["at"].to_physical()[0])
        past = {name: getattr(data, name).filter(pl.col(time).to_physical() < at) for name, time in TIMES.items() if name != "schedule"}
        # One arrival far later keeps the label's horizon over, as in the whole: no feature may see it either.
        last = data.arrivals.tail(1).with_columns(airport=pl.lit("nowhere"), carrier=pl.lit("none"), tailnum=pl.lit("none"))
        past["arrivals"] = pl.concat(
            [past["arrivals"], data.arrivals.filter(pl.col("flight_id") == row["flight_id"].item()), last]
        ).unique()
        alone = training_set(tmp_path / f"day{day}", dataclasses.replace(data, **past), row.select("at", *REQUEST))
        assert alone.select(features).equals(row.select(features), null_equal=True)
        assert row.select(pl.sum_horizontal(pl.col("^.*_delay_.*$").is_not_null())).item() >= 5


REQUEST = ("flight_id", "origin", "dest", "carrier", "tailnum", "distance")


def test_the_flight_itself_is_in_none_of_its_features(tmp_path: Path, data: Any) -> None:
    """With one flight's own departure and arrival changed beyond recognition, only flights that ask later may notice."""
    everything = training_set(tmp_path / "all", data, None)
    late = everything.filter(pl.col("label")).row(1000, named=True)

    def spoilt(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.when(pl.col("flight_id") == late["flight_id"]).then(99_999.0).otherwise("delay").alias("delay"))

    changed = dataclasses.replace(data, departures=spoilt(data.departures), arrivals=spoilt(data.arrivals))
    again = training_set(tmp_path / "changed", changed, None)
    before = pl.col("at") <= late["at"]
    features = [name for name in everything.columns if name != "label"]
    assert again.filter(before).select(features).equals(everything.filter(before).select(features), null_equal=True)
    assert not again.filter(~before).select(features).equals(everything.filter(~before).select(features), null_equal=True)
