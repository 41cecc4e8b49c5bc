"""Homes for the parity tests, in memory or embedded on disk as users have them, and random stories of what happens to one."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.clocks import ManualClock
from twofold.definitions.check import check_or_raise
from twofold.definitions.project import Project
from twofold.instants import DAY_US, HOPS_US, HOUR_US, MINUTE_US, US_PER_SECOND, floor_to, hop_for, to_datetime
from twofold.log.memory import MemoryLog
from twofold.plan import deltas, layout
from twofold.plan.compile import compile_project
from twofold.registry.memory import MemoryRegistry
from twofold.runtime.home import Home
from twofold.runtime.opened import Opened
from twofold.settings import Settings
from twofold.store.memory import MemoryStore
from twofold.stream.worker import Worker
from twofold.tables.memory import MemoryTables
from twofold.testing.modes import Parity, history_parity, online_parity
from twofold.testing.strategies import HOSTILE_FLOATS, HOSTILE_INTS

sys.path.insert(0, str(Path(__file__).parent))

from own_aggregates import Common, Extent, Latest, LongestGap, Product, Roots

Open = Callable[..., Opened]


class MemoryHome(Home):
    """The engines in memory."""

    @functools.cached_property
    def log(self) -> Any:
        return MemoryLog(self.settings.partitions or 1)

    @functools.cached_property
    def store(self) -> Any:
        return MemoryStore()

    @functools.cached_property
    def tables(self) -> Any:
        return MemoryTables()

    @functools.cached_property
    def registry(self) -> Any:
        return MemoryRegistry()


@pytest.fixture
def open_home(tmp_path: Path) -> Iterator[Open]:
    """Opens a project with a hand-moved clock: `open_home(project, clock, partitions=3, on_disk=True)`; `engines` are settings."""
    opened: list[Opened] = []

    def open_one(
        project: Project, clock: ManualClock, partitions: int = 1, on_disk: bool = False, engines: Mapping[str, str] | None = None
    ) -> Opened:
        check_or_raise(project)
        settings = Settings(home=tmp_path / str(len(opened)), partitions=partitions, **(engines or {}))  # type: ignore[arg-type]
        opened.append(Opened(compile_project(project), (Home if on_disk or engines else MemoryHome)(settings, clock)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


# Stories

W = ["2s", "1m", "1h", "7d"]
WIDTHS = (2 * US_PER_SECOND, MINUTE_US, HOUR_US, 7 * DAY_US)
A, B = ["1", "11", "", "\u00e9\0x"], [2, 12, -1]

events = tw.Events(
    "events",
    time="t",
    id="id",
    schema={
        "id": str, "a": str, "b": int, "x": float, "i": int, "s": str, "f": bool, "d": datetime, "tags": list[str], "parts": list[float]
    },
)  # fmt: skip
returns = tw.Events("returns", time="at", schema={"a": str, "b": int, "x": float, "s": str, "parts": list[float], "why": str})
rows = tw.Table(
    "rows", key=("a", "b"), time="since", deleted="gone", schema={"a": str, "b": int, "x": float, "gone": bool, "s": str, "d": datetime}
)
fixed = tw.Table("fixed", key="a", deleted="gone", schema={"a": str, "x": float, "i": int})

FEATURES = {
    "n": tw.count(over=W),
    "n_all": tw.count(),
    "rate": tw.rate(over=["2s", "1h"]),
    "rate_if": tw.rate("x", over="1m", where=pl.col("f")),
    "since": tw.time_since_last(over=W),
    "since_s": tw.time_since_last("s"),
    "sum_x": tw.sum("x", over=W),
    "mean_x": tw.mean("x", over=W),
    "std_x": tw.std("x", over=W),
    "sum_i": tw.sum("i", over=W),
    "std_i": tw.std("i", over="1h"),
    "min_i": tw.min("i", over=W),
    "max_x": tw.max("x", over=W),
    "min_d": tw.min("d", over="1h"),
    "min_s": tw.min("s", over=W),
    "max_s": tw.max("s"),
    "var_x": tw.var("x", over=W),
    "var_i": tw.var("i", over="1h"),
    "first_s": tw.first("s", over=W),
    "first_x": tw.first("x"),
    "any_f": tw.any("f", over=W),
    "all_f": tw.all(pl.col("x") > 0, over="1h"),
    "share_f": tw.share("f", over="7d"),
    "last_s": tw.last("s", over=W),
    "last_x": tw.last("x"),
    "last_f": tw.last("f", over="1h"),
    "share": tw.mean(pl.col("x") > 0, over="1h"),
    "sum_if": tw.sum("x", over="1h", where=pl.col("f")),
    "inverse": tw.mean(1 / pl.col("i"), over="7d"),
}
SOME = {name: FEATURES[name] for name in ("n", "sum_x", "std_i", "max_x", "last_s", "min_s", "share", "since")}
SHIFTED = {
    "n": tw.count(over=W, ago="1m"),
    "sum_x": tw.sum("x", over=["2s", "1h"], ago="1h"),
    "max_x": tw.max("x", over="1h", ago="2h"),
    "last_s": tw.last("s", over="7d", ago="3s"),
    "since": tw.time_since_last(over=["1m", "7d"], ago="1h"),
    "again": tw.std("i", over="1h"),
}
LISTS = {
    "first_k": tw.first_k("s", 3, over=W),
    "last_k": tw.last_k("x", 2, over=W),
    "last_days": tw.last_k("d", 5),
    "smallest_k": tw.smallest_k("s", 2, over=["1m", "7d"]),
    "largest_k": tw.largest_k("x", 3, over=W),
    "largest_all": tw.largest_k("i", 2),
    "earlier": tw.last_k("i", 3, over="1h", ago="1h"),
    "row": tw.last(["x", "s", "d", "f"], over=W, where=pl.col("f")),
    "row_all": tw.last(["b", "i"]),
}
BUCKETS = {
    "median_x": tw.quantile("x", 0.5, over=W),
    "tails_i": tw.quantiles("i", [0.05, 0.95], over=["1m", "7d"], error=0.05),
    "median_all": tw.quantile("x", 0.5),
    "high": tw.quantile("x", 0.9, over="1h", ago="1h", where=pl.col("f")),
    "s": tw.histogram("s", ["", "longer t"], over=W),
    "f": tw.histogram("f", [True, False]),
}
OF_SETS = {
    "distinct_s": tw.distinct("s", over=W),
    "distinct_x": tw.distinct("x", over=["1m", "7d"], error=0.2),
    "distinct_d": tw.distinct("d", over="1h", where=pl.col("f")),
    "distinct_i": tw.distinct("i"),
    "exact_s": tw.distinct_exact("s", over=W, at_most=3),
    "exact_x": tw.distinct_exact("x", over=W, at_most=5),
    "exact_i": tw.distinct_exact("i"),
    "exact_d": tw.distinct_exact("d", over="7d", at_most=10),
    "exact_f": tw.distinct_exact("f", over="1h", ago="1h", at_most=1),
    "smallest_x": tw.smallest_k("x", 3, over=W),
    "largest_s": tw.largest_k("s", 4, over=["1h", "7d"]),
    "largest_d": tw.largest_k("d", 2, over="7d"),
    "smallest_f": tw.smallest_k("f", 3, over="1m"),
}
SHAPES = {
    "skew_x": tw.skew("x", over=W),
    "kurtosis_x": tw.kurtosis("x", over=["1m", "7d"]),
    "skew_i": tw.skew("i", over=W, where=pl.col("f")),
    "kurtosis_i": tw.kurtosis("i"),
    "std_i": tw.std("i"),
    "kurtosis_f": tw.kurtosis("f", over=["1h", "7d"], ago="1m"),
    "heat": tw.decayed_sum("x", "1m", over=W),
    "heat_all": tw.decayed_sum("x", "3s"),
    "cold": tw.decayed_sum("i", "400d", over="7d"),
    "warm": tw.decayed_mean("x", "1m", over=W),
    "warm_all": tw.decayed_mean("i", "700ms"),
    "lately": tw.decayed_mean("f", "1h", over=["1h", "7d"], ago="1h"),
    "sum_i": tw.sum("i"),
}
OWN = {
    "product": tw.aggregate(Product, "i", over=W),
    "extent": tw.aggregate(Extent, "x", over=W),
    "extent_all": tw.aggregate(Extent, pl.col("i"), where=pl.col("f")),
    "common": tw.aggregate(Common, "s", over=["1m", "7d"], k=2),
    "commonest": tw.aggregate(Common, "s", over=["1m", "7d"], ago="1m", k=1),
    "gap": tw.aggregate(LongestGap, over=["2s", "7d"]),
    "gap_f": tw.aggregate(LongestGap, "f"),
    "n": tw.count(over=W),
    "last_s": tw.last("s", over=W),
    "latest": tw.aggregate(Latest, "d", over=W),
    "roots": tw.aggregate(Roots, "i", over=W),
}
ODD_HOPS = {"q": tw.sum("x", over="1h", hop="15m"), "p": tw.std("x", over="6h", hop="5m"), "r": tw.max("i", over="2d", hop="1d")}
changed = events.filter(pl.col("i").is_null() | (pl.col("i") != 7)).with_columns(x=pl.col("x") / 3).rename(a="key")
exploded = changed.explode("parts").filter(pl.col("parts").is_null() | (pl.col("parts") != 1)).with_columns(share=pl.col("parts") / 7)
OF_PARTS = {
    "n": tw.count(over=W),
    "sum": tw.sum("parts", over=W),
    "first": tw.first("parts", over=W),
    "last": tw.last("share", over=W),
    "last_all": tw.last("parts"),
    "tags": tw.max(pl.col("tags").list.len(), over="1h"),
}
both = tw.concat([changed.rename(key="a"), returns.filter(pl.col("why") != "none").with_columns(x=-pl.col("x"))])
twice = tw.concat([events.explode("parts"), events.filter(pl.col("f")).with_columns(parts=-pl.col("x")), returns.explode("parts")])
OF_BOTH = {name: FEATURES[name] for name in ("n", "sum_x", "mean_x", "max_x", "first_s", "last_s", "last_x", "min_s", "since")}
OF_TWICE = {name: feature for name, feature in OF_PARTS.items() if name not in ("tags", "last")}
VIEWS = {
    "both": tw.View("both", both, by=["a", "b"], features=OF_BOTH),
    "both_stream": tw.View("both_stream", both.filter(pl.col("x") != 0).rename(a="key"), by="key", mode="stream", features=OF_BOTH),
    "both_built": tw.View("both_built", both, by="a", mode="batch", refresh="30 * * * *", as_of="build", features=OF_BOTH),
    "twice": tw.View("twice", twice, by="a", features=OF_TWICE),
    "itself": tw.View("itself", tw.concat([events, events]).with_columns(x=pl.col("x") / 3), by="a", features=OF_BOTH),
    "exploded": tw.View("exploded", exploded, by="key", features=OF_PARTS),
    "tagged": tw.View("tagged", events.explode("tags").rename(tags="tag"), by=["b", "tag"], features=SOME),
    "exploded_stream": tw.View("exploded_stream", exploded, by="key", mode="stream", features=OF_PARTS),
    "exploded_batch": tw.View("exploded_batch", exploded, by="key", mode="batch", refresh="0 * * * *", features=OF_PARTS),
    "hybrid": tw.View("hybrid", events, by=["a", "b"], features=FEATURES),
    "own": tw.View("own", events, by="a", features=OWN),
    "own_stream": tw.View("own_stream", events, mode="stream", features={name: OWN[name] for name in ("product", "common", "roots")}),
    "own_built": tw.View("own_built", events, by="a", mode="batch", refresh="30 * * * *", as_of="build", features=OWN),
    "short": tw.View("short", events, by="a", features={**SOME, **ODD_HOPS}, max_age="1d"),
    "all": tw.View("all", events, features=SOME),
    "changed": tw.View("changed", changed, by=["b", "key"], features=SOME),
    "shifted": tw.View("shifted", events, by="a", features=SHIFTED),
    "buckets": tw.View("buckets", events, by="a", features=BUCKETS),
    "sets": tw.View("sets", events, by="a", features=OF_SETS),
    "sets_stream": tw.View("sets_stream", events, mode="stream", features=OF_SETS),
    "shapes": tw.View("shapes", events, by="a", features=SHAPES),
    "shapes_stream": tw.View("shapes_stream", events, mode="stream", features=SHAPES),
    "lists": tw.View("lists", events, by="a", features=LISTS),
    "typed": tw.View("typed", events, by=["f", "d"], features=SOME),
    "stream": tw.View("stream", events, by="a", mode="stream", features={**SOME, "all": tw.std("x")}),
    "batch": tw.View("batch", events, by="a", mode="batch", refresh="0 2 * * *", features={**SOME, "all": tw.sum("i")}),
    "delayed": tw.View("delayed", events, by="a", delay="2s", features={**SOME, **SHIFTED}),
    "delayed_batch": tw.View("delayed_batch", events, by="a", mode="batch", refresh="* * * * *", delay="1m", features=SOME),
    "as_built": tw.View("as_built", events, by="a", mode="batch", refresh="30 * * * *", as_of="build", features=SOME),
}


class Failure(Exception):
    """A build that dies between roll and flip."""


class Story:
    """One random history of a home; `steps` tell what happened, for the text of a failure."""

    def __init__(
        self,
        rng: random.Random,
        open_home: Open,
        partitions: int,
        on_disk: bool,
        views: list[str],
        engines: Mapping[str, str] | None = None,
    ) -> None:
        self.rng = rng
        start = rng.choice([0, -5_000_000_000_000, 1_700_000_000_000_000]) + rng.randint(0, 10**9)
        if engines:
            start = max(start, 10**6)  # Kafka knows no instant before 1970
        self.clock = ManualClock(start)
        tables = [{"rows": rows, "fixed": fixed}[name] for name in views if name not in VIEWS]
        models = [tw.Model("tables", request={"a": str, "b": int}, views=tables)] if tables else []
        project = tw.Project("parity", views=[VIEWS[name] for name in views if name in VIEWS], models=models)
        self.home = open_home(project, self.clock, partitions, on_disk, engines)
        self.views, self.steps, self.parity = views, [f"start {start}, {partitions} partitions, {views}"], Parity()
        self.focus = [start + rng.choice([0, 1, MINUTE_US, HOUR_US]) for _ in range(2)]
        self.ids = [f"id{i}" for i in range(30)]
        self.recent: list[dict[str, Any]] = []
        self.number = 0
        self.reads = 4

    # Values

    def now(self) -> int:
        return self.clock.now_us()

    def event_time(self) -> int:
        """Mostly just now; late by up to days; at the edges of windows and hops; tied; ahead of the clock."""
        rng, now = self.rng, self.now()
        kind = rng.random()
        if kind < 0.25:
            return now - rng.randint(0, 12 * US_PER_SECOND)
        if kind < 0.5:
            t, width = rng.choice([*self.focus, now]), rng.choice(WIDTHS)
            return floor_to(t - width, hop_for(width)) + rng.choice([-1, 0, 0, 1])
        if kind < 0.6:
            return rng.choice(self.focus) + rng.choice([-1, 0, 1])
        if kind < 0.7:
            return floor_to(now - rng.randint(0, DAY_US), rng.choice(HOPS_US))
        if kind < 0.95:
            return now - rng.randint(0, rng.choice([2 * MINUTE_US, 2 * HOUR_US, 9 * DAY_US]))
        return now + rng.randint(0, rng.choice([20 * US_PER_SECOND, DAY_US, 3 * DAY_US]))

    def x(self) -> float | None:
        rng = self.rng
        if rng.random() < 0.1:
            return None
        return rng.choice([rng.choice(HOSTILE_FLOATS), float(rng.randint(-5, 100)), rng.uniform(-1, 1), 1_700_000_000.123456])

    def event(self, identity: str | None) -> dict[str, Any]:
        rng, t = self.rng, self.event_time()
        return {
            "id": identity,
            "a": None if rng.random() < 0.05 else rng.choice(A),
            "b": None if rng.random() < 0.05 else rng.choice(B),
            "x": self.x(),
            "i": rng.choice([None, 1, 7, -3, rng.choice(HOSTILE_INTS)]),
            "s": rng.choice([None, "", "\u00e9\0x", "longer than eight bytes", "longer than", "longer t", "longer t\0"]),
            "f": rng.choice([None, True, False]),
            "d": None if rng.random() < 0.3 else rng.choice([t + rng.randint(-100, 100), floor_to(t, DAY_US)]),
            "tags": rng.choice([None, [], [rng.choice([*A, None]) for _ in range(rng.randint(1, 3))]]),
            "parts": rng.choice([None, [], [self.x(), 1.0], [self.x() for _ in range(rng.randint(1, 4))]]),
            "t": t,
        }

    def returned(self, t: int) -> dict[str, Any]:
        row = self.event(None)
        return {"at": t, "why": self.rng.choice(["none", "some", None]), **{name: row[name] for name in ("a", "b", "x", "s", "parts")}}

    def has(self, source: str) -> bool:
        return source in self.home.compiled.sources

    def table_row(self, t: int | None) -> dict[str, Any]:
        rng = self.rng
        if t is None:
            return {"a": rng.choice(A), "x": self.x(), "i": rng.choice([None, 1, 2**63 - 1]), "gone": rng.random() < 0.2}
        row = {"a": rng.choice([*A, None]), "b": rng.choice(B), "x": self.x(), "s": rng.choice([None, "text"]), "d": None, "since": t}
        return {**row, "gone": rng.choice([None, False, False, True])}

    # Steps

    def append(self) -> None:
        """One to twenty events in one to three batches; ids come again, within the horizon and beyond it."""
        rng = self.rng
        self.clock.set(
            self.now() + rng.choice([0, 1, 1, 3 * US_PER_SECOND, 25 * US_PER_SECOND, 4 * MINUTE_US, 11 * MINUTE_US, 7 * HOUR_US])
        )
        for _ in range(rng.randint(1, 3)):
            batch = [self.event(None if rng.random() < 0.3 else rng.choice(self.ids)) for _ in range(rng.randint(1, 8))]
            if rng.random() < 0.2:
                batch += batch[: rng.randint(1, len(batch))]
            self.home.append("events", batch)
            self.recent = [*self.recent, *batch][-12:]
            self.steps.append(f"{len(batch)} events at {self.now()}")
        if self.has("returns") and rng.random() < 0.7:
            # Some happen at the very time of an event: the order of sources decides.
            times = [row["t"] for row in self.recent if row["t"] <= self.now() + DAY_US] or [self.now()]
            self.home.append(
                "returns", [self.returned(rng.choice([rng.choice(times), self.event_time()])) for _ in range(rng.randint(1, 6))]
            )
            self.steps.append(f"returns at {self.now()}")
        if "rows" in self.views:
            self.home.append("rows", [self.table_row(self.event_time()) for _ in range(rng.randint(1, 5))])

    def catch_up(self) -> None:
        most = self.rng.choice([1, 3, 10_000])
        home = self.home.home
        with home.lock("worker"):
            worker = Worker(self.home.compiled, home.log, home.store, home.bell, most)
            worker.take_over()
            worker.catch_up()
            worker.close()
        self.steps.append(f"caught up, {most} events at a time")

    def load(self) -> None:
        """History, before and after streaming began. Its ids are new; the log may repeat them from now on."""
        rng = self.rng
        fresh = [f"loaded{self.number + i}" for i in range(rng.randint(1, 8))]
        self.number += len(fresh)
        batch = [self.event(rng.choice(fresh)) for _ in range(rng.randint(1, 15))]
        self.ids += fresh
        which = rng.choice(["events", "returns", "both"]) if self.has("returns") else "events"
        if which != "returns":
            self.home.load("events", batch)
        if which != "events":
            self.home.load("returns", [self.returned(row["t"]) for row in batch])
        if "rows" in self.views:
            self.home.load("rows", [self.table_row(self.event_time()) for _ in range(rng.randint(1, 6))])
        if "fixed" in self.views:
            self.home.load("fixed", [self.table_row(None) for _ in range(rng.randint(1, 6))])
        self.steps.append(f"{len(batch)} rows loaded: {which}")

    def build(self) -> None:
        """A generation; while it is made, events may come and be applied, values may be read, or it may die."""
        rng = self.rng
        at = self.now() + rng.choice([0, 0, 0, -1, -MINUTE_US, -HOUR_US])
        plot = rng.choice(["", "", "events", "dies", "events, dies"])

        def progress(text: str, done: int = 0, total: int | None = None) -> None:
            if "events" in plot and rng.random() < 0.5:
                self.append()
                self.catch_up()
            if rng.random() < 0.3:
                self.compare(0.5)
            if "dies" in plot and rng.random() < 0.5:
                raise Failure

        self.steps.append(f"build at {at} {plot}")
        try:
            self.home.build(at, progress=progress)
        except Failure:
            self.steps.append("the build died")

    # Comparing

    def instants(self) -> list[int]:
        rng, now = self.rng, self.now()
        own = [row["t"] + rng.choice([0, 0, 1]) for row in self.recent if now - 12 * US_PER_SECOND < row["t"] <= now] or [now]
        chosen = [
            rng.choice(own),
            rng.choice(own),
            now,
            now + 1,
            now - 1,
            now - rng.randint(0, 11 * US_PER_SECOND),
            now - 10 * MINUTE_US,
            now + 10 * DAY_US,
        ]
        chosen += [*self.focus, now + rng.randint(0, 8 * DAY_US), now + rng.randint(0, HOUR_US), now + rng.randint(0, MINUTE_US)]
        return rng.sample(chosen, min(self.reads, len(chosen)))

    def keys(self, by: dict[str, str]) -> list[tuple[Any, ...]]:
        """Keys of recent events, any others, one that has none."""
        parts = {"str": [*A, "unknown"], "int": [*B, 5], "bool": [True, False], "datetime": [to_datetime(0)]}
        drawn = [tuple(self.rng.choice(parts[kind]) for kind in by.values()) for _ in range(3)]
        recent = [
            {**row, "key": row["a"], "tag": (row["tags"] or [None])[-1], "d": None if row["d"] is None else to_datetime(row["d"])}
            for row in self.recent
        ]
        return [*drawn, *(tuple(row[name] for name in by) for row in self.rng.sample(recent, min(3, len(recent))))]

    def compare(self, share: float = 1.0) -> None:
        rng = self.rng
        for name in self.views:
            if rng.random() > share:
                continue
            plan = self.home.compiled.view(name).plan
            keys = self.keys(plan.by) if plan.by else [()]
            if plan.by:
                keys.append((None,) * len(plan.by))
            if self.is_built(name):
                self.parity += online_parity(self.home, name, keys, [*self.instants(), None])
            self.parity += history_parity(self.home, name, keys, self.instants(), rng.choice(["ideal", "ideal", "arrival"]))
        assert not self.parity.different, "\n".join([*self.steps, *self.parity.examples])

    def is_built(self, view: str) -> bool:

        plan = self.home.compiled.view(view).plan
        with self.home.home.store.snapshot() as snapshot:
            raw = snapshot.get(layout.pointer_key(plan.version))
        return raw is not None and (plan.mode == "stream" or layout.decode_pointer(raw).generation is not None)

    def run(self, steps: int) -> Parity:
        if self.rng.random() < 0.5:
            self.load()
        for _ in range(steps):
            step = self.rng.choices([self.append, self.catch_up, self.build, self.load], [6, 4, 3, 1])[0]
            step()
            if self.rng.random() < 0.4:
                self.compare(0.7)
        self.append()
        self.catch_up()
        self.home.build()
        self.compare()
        self.clock.advance("10d")
        self.compare()
        return self.parity


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers from the run's seed and the test's own name."""
    return random.Random(f"{request.config.option.hypothesis_seed} {request.node.name}")


@pytest.fixture(autouse=True)
def _heads(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few events of a story make a head full, so that bodies are in it too."""
    monkeypatch.setattr(deltas, "HEAD_EVENTS", rng.choice([0, 2, 8, 96]))


@pytest.fixture
def story(rng: random.Random, open_home: Open) -> Callable[..., Story]:
    """A new story: `story(["hybrid"], partitions=3, on_disk=True)`; random numbers go on from one to the next."""

    def new(views: list[str], partitions: int = 1, on_disk: bool = False, engines: Mapping[str, str] | None = None) -> Story:
        return Story(rng, open_home, partitions, on_disk, views, engines)

    return new
