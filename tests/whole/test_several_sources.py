"""One home with a model over exploded lists and two sources in one stream: load, stream, build, train, predict, audit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lightgbm import LGBMClassifier

import twofold as tw
from twofold.instants import DAY_US, HOUR_US, MINUTE_US
from twofold.testing.modes import history_parity, online_parity

START = 1_700_000_000_000_000
USERS, ITEMS = ["ann", "bob", "cid"], ["tea", "milk", "rice"]

orders = tw.Events("orders", time="placed", id="order", schema={"order": str, "user": str, "items": list[str], "amount": float})
refunds = tw.Events("refunds", time="asked", id="refund", schema={"refund": str, "order": str, "user": str, "amount": float})
net = tw.concat([orders, refunds.with_columns(amount=-pl.col("amount"))])
bought = orders.explode("items").rename(items="item")

FEATURES = {"n": tw.count(over=["1h", "7d"]), "sum": tw.sum("amount", over="1d"), "last": tw.last("amount")}
by_user = tw.View("by_user", net, by="user", features=FEATURES)
by_item = tw.View("by_item", bought, by="item", features={"n": tw.count(over="1d"), "amount": tw.mean("amount"), "user": tw.last("user")})
nightly = tw.View("nightly", net, by="user", mode="batch", refresh="0 * * * *", features=FEATURES)
live = tw.View("live", net.filter(pl.col("amount") > 5), mode="stream", features={"sum": tw.sum("amount", over="7d")})
model = tw.Model(
    "refunded",
    request={"order": str, "user": str, "item": str},
    views=[by_user, by_item, nightly, live],
    drop=["by_item_user_all"],
    rows=tw.Rows(bought),
    label=tw.Label(refunds, on="order", value=pl.col("amount") > 0, within="1d", missing=False),
    estimator=LGBMClassifier(n_estimators=5, min_child_samples=2, num_threads=1, verbosity=-1),
    fallback=[tw.Default(0.5)],
    deadline="5s",
)
project = tw.Project("several", models=[model])


def an_order(rng: random.Random, number: int, t: int) -> dict[str, Any]:
    items = rng.choice([None, [], rng.choices([*ITEMS, None], k=rng.randint(1, 4))])
    return {"order": f"o{number}", "user": rng.choice(USERS), "items": items, "amount": rng.choice([None, rng.uniform(0, 20)]), "placed": t}


def a_refund(rng: random.Random, order: dict[str, Any], t: int) -> dict[str, Any]:
    return {"refund": f"r{order['order']}", "order": order["order"], "user": order["user"], "amount": order["amount"], "asked": t}


@pytest.mark.parametrize("partitions", [1, 3])
def test_from_events_to_audited_predictions(partitions: int, tmp_path: Path) -> None:
    rng, clock = random.Random(partitions), tw.ManualClock(START)
    with project.open(home=tmp_path, clock=clock, partitions=partitions) as home:
        past = [an_order(rng, i, START - 10 * DAY_US + i * HOUR_US) for i in range(220)]
        home.load("orders", pl.DataFrame(past, infer_schema_length=None))
        home.load("refunds", [a_refund(rng, order, order["placed"] + HOUR_US) for order in past[::4]])
        home.build()
        training = home.training_set("refunded")
        elements = [item for order in past for item in order["items"] or []]
        assert 0 < training.height <= len(elements)
        assert training["label"].sum() > 0
        home.train("refunded", test="2d")
        stream_and_predict(home, clock, rng)
        audit = home.audit()
        assert (audit.different, audit.skipped, audit.ahead) == (0, {}, 0), audit
        assert audit.compared == audit.records * 12
        assert audit.records >= 60
        for view, keys in {"by_user": USERS, "by_item": ITEMS, "nightly": USERS, "live": [()]}.items():
            instants = [clock.now_us(), clock.now_us() + HOUR_US]
            (online_parity(home, view, keys, [None, *instants]) + history_parity(home, view, keys, instants)).check(at_least=4)


def stream_and_predict(home: Any, clock: tw.ManualClock, rng: random.Random) -> None:
    for step in range(20):
        clock.advance("7m")
        placed = [an_order(rng, 1000 + step * 10 + i, clock.now_us() - rng.randint(0, MINUTE_US)) for i in range(3)]
        position = home.append("orders", placed + placed[:1]) | home.append("refunds", a_refund(rng, placed[0], placed[0]["placed"]))
        home.catch_up()
        for item in ITEMS:
            answer = home.predict("refunded", {"order": placed[0]["order"], "user": placed[0]["user"], "item": item}, after=position)
            assert answer["served_by"] == "live"
        if step % 5 == 4:
            home.build()
        if step == 12:
            home.load("refunds", [a_refund(rng, {"order": "early", "user": "ann", "amount": 3.0}, START - DAY_US)])


def test_training_sees_what_serving_sees(tmp_path: Path) -> None:
    rng, clock = random.Random(7), tw.ManualClock(START)
    with project.open(home=tmp_path, clock=clock) as home:
        past = [an_order(rng, i, START - i * HOUR_US) for i in range(1, 60)]
        home.load("orders", past[10:])
        home.append("orders", past[:10])
        home.append("refunds", [a_refund(rng, order, order["placed"] + 1) for order in past[:5]])
        home.build()
        home.append("refunds", [a_refund(rng, order, order["placed"] + 2) for order in past[5:9]])
        home.catch_up()
        requests = [{"order": "x", "user": user, "item": item} for user in USERS for item in ITEMS]
        online = home.vectors("refunded", requests, at=START)
        clock.advance("2d")
        home.append("refunds", {"refund": "late", "order": "none", "user": "none", "amount": 1.0, "asked": clock.now_us()})
        rows = pl.DataFrame(requests).with_columns(at=pl.lit(START).cast(pl.Datetime("us", "UTC")))
        offline = home.training_set("refunded", rows=rows)
        kept = [column for column in online.columns if not column.startswith(("nightly_", "live_"))]
        assert online.select(kept).equals(offline.select(kept), null_equal=True)
