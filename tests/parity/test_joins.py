"""Events joined with tables: what an event takes along is the row applied when it was appended, and every engine counts that one."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.clocks import ManualClock
from twofold.errors import NotBuilt
from twofold.instants import DAY_US, HOUR_US, MINUTE_US, to_datetime
from twofold.log.records import decoded
from twofold.runtime.opened import Opened
from twofold.testing.modes import history_parity, online_parity

Open = Callable[..., Opened]
Row = dict[str, Any]

T = 1_700_000_000_000_000
USERS, SHOPS, TIERS = ["u", "v", "", "é\0x"], [1, 2, 11], ["gold", "none", None]

orders = tw.Events(
    "orders", time="placed", id="order", schema={"order": str, "user": str, "shop": int, "amount": float, "items": list[str]}
)
users = tw.Table(
    "users", key="name", time="since", deleted="gone", schema={"name": str, "tier": str, "limit": float, "born": datetime, "gone": bool}
)
shops = tw.Table("shops", key="shop", schema={"shop": int, "city": str, "size": int, "open": bool})
leases = tw.Table("leases", key=("shop", "user"), time="taken", snapshots=True, schema={"shop": int, "user": str, "rent": int})

by_user = orders.join(users, on={"user": "name"})
joined = by_user.join(shops, on="shop").join(leases, on=["shop", "user"])
FEATURES = {
    "n": tw.count(over=["1h", "7d"]),
    "amount": tw.sum("amount", over="1d", where=pl.col("users_tier") == "gold"),
    "limit": tw.mean("users_limit", over="7d"),
    "born": tw.last("users_born", over="7d"),
    "tiers": tw.distinct_exact("users_tier"),
    "size": tw.sum(pl.col("shops_size") * 2, over="1d"),
    "open": tw.share("shops_open"),
    "rent": tw.max("leases_rent", over="7d"),
}
by_city = tw.View("by_city", joined, by="shops_city", features=FEATURES)
by_tier = tw.View(
    "by_tier",
    by_user.filter(pl.col("amount") > 0).explode("items").rename(users_tier="tier"),
    by=("tier", "items"),
    features={"n": tw.count(), "born": tw.first("users_born", over="7d"), "limit": tw.max("users_limit")},
)
nightly = tw.View("nightly", joined, by="user", mode="batch", refresh="0 * * * *", features=FEATURES)
live = tw.View("live", joined.filter(pl.col("shops_open")), by="user", mode="stream", features={"tier": tw.last("users_tier")})
plain = tw.View("plain", orders, by="user", features={"n": tw.count(over="1d")})
KEYS: dict[str, list[Any]] = {
    "by_city": [("rome",), ("oslo",), ("nowhere",)],
    "by_tier": [(tier, item) for tier in ("gold", "none") for item in ("tea", "milk")],
    "nightly": [(user,) for user in USERS],
    "live": [(user,) for user in USERS],
    "plain": [(user,) for user in USERS],
}
project = tw.Project("joins", views=[by_city, by_tier, nightly, live, plain])


class Story:
    """A home in which orders and the tables that they join change by turns; `expected` is what each appended order should hold."""

    def __init__(self, rng: random.Random, home: Opened, clock: ManualClock) -> None:
        self.rng, self.home, self.clock, self.number = rng, home, clock, 0
        self.waiting: list[Row] = []
        self.rows: dict[str, Row] = {}
        self.shops: dict[int, Row] = {}
        self.expected: dict[str, tuple[Any, ...]] = {}

    def order(self, t: int) -> Row:
        rng, self.number = self.rng, self.number + 1
        return {
            "order": f"o{self.number}",
            "user": rng.choice([*USERS, None, "nobody"]),
            "shop": rng.choice([*SHOPS, None, 5]),
            "amount": rng.choice([None, -1.0, rng.uniform(0, 9)]),
            "items": rng.choice([None, [], ["tea"], ["milk", None, "tea"]]),
            "placed": t,
        }

    def user(self, t: int) -> Row:
        rng = self.rng
        return {
            "name": rng.choice(USERS),
            "tier": rng.choice(TIERS),
            "limit": rng.choice([None, 0.1, 1e17]),
            "born": rng.choice([None, to_datetime(T - rng.randint(0, 10**15))]),
            "gone": rng.choice([None, False, False, True]),
            "since": t,
        }

    def shop(self) -> Row:
        rng = self.rng
        city, size = rng.choice(["rome", "oslo", None]), rng.choice([None, 1, 2**53])
        return {"shop": rng.choice(SHOPS), "city": city, "size": size, "open": rng.choice([None, True, False])}

    def load_tables(self) -> None:
        self.home.load("users", [self.user(T - self.rng.randint(0, 72) * HOUR_US) for _ in range(self.rng.randint(0, 9))])
        self.home.load("shops", [self.shop() for _ in range(self.rng.randint(0, 6))])
        leases = [{"shop": s, "user": u, "rent": self.rng.randint(0, 9)} for s in SHOPS for u in USERS if self.rng.random() < 0.6]
        given = leases or pl.DataFrame(schema={"shop": pl.Int64, "user": pl.String, "rent": pl.Int64})
        self.home.load("leases", given, at=T - self.rng.randint(1, 5) * DAY_US)

    def load_orders(self) -> None:
        """Some happen at the very time of a table's row, which they do not see yet."""
        self.home.load("orders", [self.order(T - self.rng.randint(0, 80) * HOUR_US) for _ in range(self.rng.randint(1, 20))])

    def append_users(self) -> None:
        self.clock.advance("1m")
        self.home.append("users", [self.user(self.clock.now_us()) for _ in range(self.rng.randint(1, 3))])

    def append_orders(self) -> None:
        rng = self.rng
        self.clock.set(self.clock.now_us() + rng.choice([1, MINUTE_US, HOUR_US]))
        batch = [self.order(self.clock.now_us() - rng.choice([0, 0, MINUTE_US, DAY_US])) for _ in range(rng.randint(1, 6))]
        given = pl.DataFrame(batch, infer_schema_length=None) if rng.random() < 0.4 else batch
        wanted = {row["order"]: self.shown(row) for row in batch}
        self.home.append("orders", self.typed(given) if isinstance(given, pl.DataFrame) else given)
        self.expected |= wanted

    def typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        kinds: dict[str, Any] = {"shop": pl.Int64, "amount": pl.Float64, "items": pl.List(pl.String), "user": pl.String}
        return frame.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items()).with_columns(
            pl.col("placed").cast(pl.Datetime("us", "UTC"))
        )

    def shown(self, row: Row) -> tuple[Any, ...]:
        """What the tables answer online at this moment, key by key."""
        found: list[Any] = []
        keys = {"users": [row["user"]], "shops": [row["shop"]], "leases": [row["shop"], row["user"]]}
        for table, key in keys.items():
            plan = self.home.compiled.view(table).plan
            answer = self.home.features(table, [dict(zip(plan.by, key, strict=True))]).row(0)[len(key) :]
            found += answer
        return tuple(found)

    def compare(self, names: list[str] | None = None) -> int:
        now = self.clock.now_us()
        compared = 0
        for name in names or KEYS:
            instants = [now, now - self.rng.randint(0, DAY_US), now + HOUR_US, T - DAY_US]
            parity = history_parity(self.home, name, KEYS[name], instants, self.rng.choice(["ideal", "arrival"]))
            parity += online_parity(self.home, name, KEYS[name], [None, now])
            parity.check()
            compared += parity.compared
        return compared

    def run(self, steps: int) -> int:
        if self.rng.random() < 0.7:
            self.load_orders()
        self.load_tables()
        self.home.build()
        compared = 0
        for _ in range(steps):
            step: Any = self.rng.choices(
                [self.append_orders, self.append_users, self.home.catch_up, self.home.build, self.load_orders, self.load_tables],
                [6, 4, 4, 2, 1, 1],
            )[0]
            step()
            if self.rng.random() < 0.25:
                self.home.catch_up()
                compared += self.compare(self.rng.sample(list(KEYS), 1))
        self.append_orders()
        self.append_orders()
        self.home.catch_up()
        compared += self.compare()
        self.home.build()
        assert held(self.home) == self.expected
        return compared + self.compare()


def held(home: Opened) -> dict[str, tuple[Any, ...]]:
    """What the records of the log hold, by order."""
    plan, log = home.compiled.source("orders"), home.home.log
    names = [stored for table in ("users", "shops", "leases") for join in plan.joins if join.table == table for stored in join.types]
    found: dict[str, tuple[Any, ...]] = {}
    for partition in range(log.partitions):
        frame, undecodable = decoded(log.read("orders", partition, 0, 10**6), plan)
        assert not undecodable
        found |= {row[0]: row[1:] for row in frame.select("order", *names).iter_rows()}
    return found


@pytest.mark.parametrize(("partitions", "on_disk", "stories"), [(1, False, 6), (3, False, 4), (2, True, 1)])
def test_every_engine_counts_what_the_event_took_along(
    partitions: int, on_disk: bool, stories: int, open_home: Open, rng: random.Random
) -> None:
    compared = taken = 0
    for _ in range(stories):
        clock = ManualClock(T)
        story = Story(rng, open_home(project, clock, partitions, on_disk), clock)
        compared += story.run(25)
        taken += sum(any(value is not None for value in values) for values in story.expected.values())
    assert compared >= 1000
    assert taken >= stories


def test_a_store_that_is_lost_changes_nothing(tmp_path: Path, rng: random.Random) -> None:
    """Built anew from history and log under other tables' rows than those that the events saw."""
    clock = ManualClock(T)
    with project.open(home=tmp_path, clock=clock) as home:
        story = Story(rng, home, clock)
        story.run(12)
        before = {name: home.features(name, KEYS[name], at=clock.now_us() + 1) for name in ("by_city", "by_tier", "nightly")}
    shutil.rmtree(tmp_path / "store")
    with project.open(home=tmp_path, clock=clock) as home:
        home.load("users", [{**story.user(T - 5 * DAY_US), "name": user, "tier": "other", "gone": False} for user in USERS])
        home.load("shops", [{"shop": shop, "city": "rome", "size": 77, "open": True} for shop in SHOPS])
        home.build()
        for name, was in before.items():
            now = home.features(name, KEYS[name], at=clock.now_us() + 1)
            assert now.equals(was, null_equal=True), name
        home.append("orders", {**story.order(clock.now_us()), "user": "u", "shop": 1})
        after = held(home)
        assert {order: values for order, values in after.items() if order in story.expected} == story.expected
        assert [values[4:6] for order, values in after.items() if order not in story.expected] == [(77, True)]


def test_no_event_is_taken_before_its_tables_are_built(open_home: Open) -> None:
    clock = ManualClock(T)
    home = open_home(project, clock)
    order = {"order": "a", "user": "u", "shop": 1, "amount": 1.0, "items": None, "placed": T}
    for given in (order, pl.DataFrame([order], schema_overrides={"items": pl.List(pl.String)})):
        with pytest.raises(
            NotBuilt, match=r"source 'orders' joins the table '\w+', so its events cannot be taken before that table is built"
        ):
            home.append("orders", given)
    assert set(home.home.log.end_offsets(["orders"]).values()) == {0}
    home.build()
    home.append("orders", order)
    assert set(home.home.log.end_offsets(["orders"]).values()) == {1}
