"""What does not fit into memory has the same bits: stories with next to no memory, and both ways side by side."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import twofold as tw
from twofold.batch.spill import Scratch
from twofold.clocks import ManualClock
from twofold.instants import DAY_US, HOUR_US, MINUTE_US, to_datetime

NOW = 1_700_000_000_000_000
LITTLE = 3_000
"""Bytes: some twenty events."""

events = tw.Events("events", time="t", id="id", schema={"id": str, "a": str, "b": int, "c": bool, "x": float, "s": str})
FEATURES = {
    "n": tw.count(over=["1h", "1d"]),
    "sum": tw.sum("x", over=["1d"]),
    "std": tw.std("x"),
    "first": tw.first("s", over="1d"),
    "last": tw.last("s"),
    "least": tw.min("s", over="1d"),
    "most": tw.max(pl.col("x") * 2, over="1h"),
}
changed = events.filter(pl.col("x").is_null() | (pl.col("x") < 90)).with_columns(x=pl.col("x") / 3).rename(a="key")
VIEWS = [
    tw.View("one", events, by="a", features=FEATURES),
    tw.View("three", events, by=["c", "a", "b"], features=FEATURES),
    tw.View("none", events, features=FEATURES),
    tw.View("changed", changed, by=["b", "key"], features=FEATURES),
    tw.View("stream", events, by="a", mode="stream", features=FEATURES),
    tw.View("daily", events, by="b", mode="batch", refresh="0 2 * * *", features=FEATURES),
    tw.View("as_built", events, by="a", mode="batch", refresh="30 * * * *", as_of="build", features=FEATURES),
    tw.View("hour", events, by="a", features={"n": tw.count(over="1h")}),
]
project = tw.Project("spilled", views=VIEWS)


def little(home: Any, folder: Path, memory_bytes: int = LITTLE) -> None:
    home.home.__dict__["scratch"] = Scratch(folder, memory_bytes)


@pytest.mark.parametrize(
    "views", [["hybrid"], ["short", "all"], ["changed", "typed"], ["stream", "batch"], ["as_built", "rows", "fixed"]], ids="+".join
)
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_stories_with_little_memory_are_the_reference(views: list[str], on_disk: bool, story: Callable[..., Any], tmp_path: Path) -> None:
    told = story(views, partitions=3, on_disk=on_disk)
    little(told.home, tmp_path / "spill")
    told.run(3).check(at_least=100)
    assert {path.name for path in (tmp_path / "spill").glob("*")} <= {"owner.lock"}


def rows(rng: random.Random, count: int, begin: int, span: int) -> pl.DataFrame:
    """Events of a few keys, a third of them of one; ids come again within the horizon of 10 min and beyond it."""
    found = []
    for number in range(count):
        t = begin + rng.randrange(span)
        if found and rng.random() < 0.3:
            again = rng.choice(found)
            found.append(
                {
                    **again,
                    "t": max(begin, again["t"] + rng.choice([-1, 1]) * rng.choice([0, MINUTE_US, 9 * MINUTE_US, 10 * MINUTE_US, HOUR_US])),
                }
            )
            continue
        a = "heavy" if rng.random() < 0.3 else rng.choice([None, "", "a", "ab", "b\0", "é", *"cdefgh"])
        x = rng.choice([None, 0.1, 1e15, -1e15, rng.uniform(0, 100)])
        found.append(
            {
                "id": rng.choice([None, f"i{number}"]),
                "a": a,
                "b": rng.choice([None, -1, 0, 2**62]),
                "c": rng.choice([None, True, False]),
                "x": x,
                "s": rng.choice([None, "", "text", "longer text than that"]),
                "t": t,
            }
        )
    schema = {"id": pl.String, "a": pl.String, "b": pl.Int64, "c": pl.Boolean, "x": pl.Float64, "s": pl.String, "t": pl.Int64}
    return pl.DataFrame(found, schema=schema).with_columns(pl.col("t").cast(pl.Datetime("us", "UTC")))


def spine_of(rng: random.Random, given: pl.DataFrame, count: int) -> pl.DataFrame:
    """Rows in any order, some twice, of known, unknown and null keys, at instants of events and others."""
    drawn = given.sample(count, with_replacement=True, seed=rng.randrange(1000)).select("a", "b", "c", at="t")
    shifts = np.array([rng.choice([0, 1, MINUTE_US, 3 * DAY_US]) for _ in range(count)])
    unknown = pl.DataFrame({"a": ["unknown"], "b": [5], "c": [True], "at": [to_datetime(NOW)]}, schema=drawn.schema)
    return pl.concat([drawn.with_columns(pl.col("at") + pl.Series(shifts).cast(pl.Duration("us"))), drawn[:3], unknown]).with_columns(
        key="a"
    )


@pytest.mark.parametrize("memory_bytes", [LITTLE, 40_000])
def test_history_is_the_same_bits_with_and_without_spilling(memory_bytes: int, open_home: Any, rng: random.Random, tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    home = open_home(project, clock, partitions=2, on_disk=True)
    given = rows(rng, 600, NOW - 5 * DAY_US, 5 * DAY_US)
    home.load("events", given[:250])
    home.load("events", given[250:300])
    home.catch_up()
    for begin in range(300, 600, 50):
        clock.advance("3m")
        home.append("events", given[begin : begin + 50])
        if begin == 400:
            home.build()
    home.catch_up()
    spine = spine_of(rng, given, 150)
    for view in project.views:
        for visibility in ("ideal", "arrival"):
            whole = home.history(view.name, spine, visibility, status=True)
            again = type(home)(home.compiled, home.home)
            kept = home.home.scratch
            little(again, tmp_path / "spill", memory_bytes)
            spilled = again.history(view.name, spine, visibility, status=True)
            home.home.__dict__["scratch"] = kept
            assert spilled.equals(whole, null_equal=True), (view.name, visibility)
    assert whole.height == spine.height


def test_generations_are_the_same_bits_with_and_without_spilling(open_home: Any, rng: random.Random, tmp_path: Path) -> None:
    given = rows(rng, 600, NOW - 5 * DAY_US, 5 * DAY_US)
    seen = []
    for memory_bytes in (1 << 30, 40_000, LITTLE):
        home = open_home(project, ManualClock(NOW), on_disk=True)
        little(home, tmp_path / "spill", memory_bytes)
        home.load("events", given[:400])
        home.append("events", given[400:])
        built = home.build()
        store = home.home.store
        keys = [encoded for view in built for encoded in [view.view]]
        seen.append({item.view: (item.keys, _states(store, home, item)) for item in built})
        assert len(keys) == 7
    assert seen[0] == seen[1] == seen[2]
    assert sum(keys for keys, _ in seen[0].values()) > 40


def _states(store: Any, home: Any, built: Any) -> list[bytes | None]:
    from twofold.keys import encode_key

    view = home.compiled.view(built.view)
    frame = home.events_of("events").rename({"a": "key"} if built.view == "changed" else {})
    keys = sorted({encode_key(key) for key in frame.select(*view.plan.by).drop_nulls().unique().iter_rows()}) if view.plan.by else [b""]
    generation = store.generation(built.generation)
    assert generation is not None
    found = list(generation.multi_get(keys))
    generation.close()
    return found
