"""A model over joined events: load, build, train, events through the replica, predict, audit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lightgbm import LGBMClassifier

import twofold as tw
from twofold.errors import NotBuilt
from twofold.instants import DAY_US, HOUR_US
from twofold.testing.modes import history_parity, online_parity

START = 1_700_000_000_000_000
TAILS, PLACES = ["N1", "N2", "N3", "N4"], ["JFK", "LGA"]

departures = tw.Events("departures", time="left", id="flight", schema={"flight": str, "origin": str, "tailnum": str, "delay": float})
planes = tw.Table("planes", key="tailnum", time="since", schema={"tailnum": str, "year": int, "maker": str})
known = departures.join(planes, on="tailnum")
airport = tw.View(
    "airport", known, by="origin", features={"old": tw.share(pl.col("planes_year") < 1990, over="1d"), "year": tw.mean("planes_year")}
)
maker = tw.View(
    "maker",
    known.filter(pl.col("delay") > 0),
    by="planes_maker",
    features={"n": tw.count(over=["1h", "7d"]), "last": tw.last("planes_year")},
)
model = tw.Model(
    "late",
    request={"flight": str, "origin": tw.Category, "planes_maker": tw.Category, "planes_year": int},
    views=[airport, maker],
    rows=tw.Rows(known, where=pl.col("planes_year") > 0),
    label=tw.Label(known, on="flight", value=pl.col("planes_year") < 1990, within="1h"),
    estimator=LGBMClassifier(n_estimators=3, min_child_samples=2, num_threads=1, verbosity=-1),
    fallback=[tw.Default(0.5)],
    deadline="5s",
)
project = tw.Project("joined", models=[model])


def departure(rng: random.Random, number: int, t: int) -> dict[str, Any]:
    return {
        "flight": f"f{number}",
        "origin": rng.choice(PLACES),
        "tailnum": rng.choice([*TAILS, None]),
        "delay": rng.uniform(-1, 5),
        "left": t,
    }


def plane(rng: random.Random, tail: str, t: int) -> dict[str, Any]:
    return {"tailnum": tail, "year": rng.choice([1980, 2000, None]), "maker": rng.choice(["A", "B"]), "since": t}


def test_from_loaded_events_to_audited_predictions(tmp_path: Path) -> None:
    rng, clock = random.Random(1), tw.ManualClock(START)
    with project.open(home=tmp_path, clock=clock, partitions=2) as home:
        home.load("departures", [departure(rng, i, START - 10 * DAY_US + i * HOUR_US) for i in range(200)])
        home.load("planes", [plane(rng, tail, START - days * DAY_US) for days in (30, 8, 4) for tail in TAILS[:3]])
        home.build()
        training = home.training_set("late")
        assert training.height > 50
        assert training["planes_maker"].null_count() == 0
        assert training["label"].n_unique() == 2
        home.train("late", test="2d")
        for step in range(12):
            clock.advance("11m")
            home.append("planes", plane(rng, rng.choice(TAILS), clock.now_us()))
            home.catch_up()
            rows = [departure(rng, 1000 + step * 10 + i, clock.now_us()) for i in range(4)]
            position = home.replica.ingest("departures", rows[:3]) | home.append("departures", rows[3])
            home.catch_up()
            for place, by in ((place, by) for place in PLACES for by in "AB"):
                request = {"flight": "x", "origin": place, "planes_maker": by, "planes_year": 1990}
                assert home.predict("late", request, after=position)["served_by"] == "live"
            if step % 4 == 3:
                home.build()
                home.load("planes", [plane(rng, tail, START - rng.randint(1, 20) * DAY_US) for tail in TAILS])
        audit = home.audit()
        assert (audit.different, audit.skipped, audit.ahead) == (0, {}, 0), audit
        assert audit.compared >= 200
        for view, keys in {"airport": PLACES, "maker": ["A", "B"]}.items():
            (online_parity(home, view, keys, [None]) + history_parity(home, view, keys, [clock.now_us(), START])).check(at_least=8)


def test_a_replica_says_that_the_table_is_not_built(tmp_path: Path) -> None:
    """The plan that is served knows of the table; its store has been lost."""
    clock = tw.ManualClock(START)
    with project.open(home=tmp_path, clock=clock) as home:
        home.build()
        home.home.store.close()
        for path in (tmp_path / "store").rglob("*"):
            path.unlink() if path.is_file() else None
    with project.open(home=tmp_path, clock=clock) as home:
        with pytest.raises(NotBuilt, match="source 'departures' joins the table 'planes'"):
            home.replica.ingest("departures", [departure(random.Random(0), 1, START)])
        assert set(home.home.log.end_offsets(["departures"]).values()) == {0}
