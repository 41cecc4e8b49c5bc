"""Will this flight arrive more than 15 minutes late? Asked 15 minutes before its scheduled departure out of New York."""

from dataclasses import replace

import polars as pl
from lightgbm import LGBMClassifier

import twofold as tw

# What happens. An event counts from its own instant on: a departure when the aircraft has left, an arrival when it has landed.
schedule = tw.Events(
    "schedule",
    time="scheduled_at",
    id="flight_id",
    schema={"flight_id": str, "origin": str, "dest": str, "carrier": str, "tailnum": str, "distance": float},
)
departures = tw.Events(
    "departures",
    time="departed_at",
    id="flight_id",
    schema={"flight_id": str, "airport": str, "carrier": str, "tailnum": str, "delay": float},
)
arrivals = tw.Events(
    "arrivals",
    time="arrived_at",
    id="flight_id",
    schema={"flight_id": str, "airport": str, "carrier": str, "tailnum": str, "delay": float},
)

# What is known. With a time, the latest row before the question; without, the row that was loaded.
weather = tw.Table(
    "weather",
    key="airport",
    time="observed_at",
    schema={"airport": str, "temp": float, "humid": float, "wind_speed": float, "visib": float, "precip": float, "pressure": float},
)
planes = tw.Table("planes", key="tailnum", schema={"tailnum": str, "year": int, "engines": int, "seats": int})

# What it means, for each airport, aircraft and carrier, at any instant.
takeoffs = tw.View(
    "takeoffs",
    departures,
    by="airport",
    features={
        "flights": tw.count(over=["1h", "6h"]),
        "delay": tw.mean("delay", over=["1h", "6h", "1d"]),
        "late_share": tw.mean(pl.col("delay") > 15, over="1h"),
    },
)
landings = tw.View("landings", arrivals, by="airport", features={"delay": tw.mean("delay", over=["2h", "6h", "1d"])})
aircraft_out = tw.View("aircraft_out", departures, by="tailnum", features={"delay": tw.last("delay", over="12h")})
aircraft_in = tw.View("aircraft_in", arrivals, by="tailnum", features={"delay": tw.last("delay", over="12h")})
carrier = tw.View("carrier", arrivals, by="carrier", mode="batch", refresh="0 2 * * *", features={"delay": tw.mean("delay", over="30d")})

late = tw.Model(
    "late",
    # A `str` names things, to look them up; a `tw.Category` also reaches the estimator.
    request={"flight_id": str, "origin": tw.Category, "dest": tw.Category, "carrier": tw.Category, "tailnum": str, "distance": float},
    views=[
        # `.on` says which field of the request holds the key: takeoffs where the flight begins, landings where it ends.
        takeoffs.on(airport="origin", prefix="origin_"),  # columns: origin_flights_1h, origin_delay_1h, ...
        landings.on(airport="dest", prefix="dest_"),
        weather.on(airport="origin"),
        aircraft_out,
        aircraft_in,
        carrier,
        planes,
    ],
    derived={"trend": lambda origin_delay_1h, origin_delay_6h: origin_delay_1h - origin_delay_6h},
    rows=tw.Rows(schedule, at=pl.col("scheduled_at") - pl.duration(minutes=15)),
    label=tw.Label(arrivals, on="flight_id", value=pl.col("delay") > 15, within="1d"),  # cancelled, diverted: no arrival, no row
    estimator=LGBMClassifier(n_estimators=200, learning_rate=0.05, num_threads=2, deterministic=True, force_row_wise=True, verbosity=-1),
    fallback=[tw.Cached(max_age="1h"), tw.Default(0.25)],
    deadline="50ms",
)

# The same question to the same estimator, knowing only the request: what are the features worth?
late_plain = replace(late, name="late_plain", views=[], derived={})

project = tw.Project("flights", models=[late, late_plain])
