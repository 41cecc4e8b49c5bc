"""A serving process: it has no engine in it but the store's, and answers with what was trained and built elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw

NEVER = ("polars", "lightgbm", "sklearn", "pandas", "pyarrow", "deltalake", "skops")

IMPORTS = f"""
import sys
import twofold.http.server, twofold.serve.predict, twofold.watch.served_log
print([name for name in {NEVER!r} if name in sys.modules])
"""

WHOLE = """
import asyncio, json, sys
from pathlib import Path
from twofold.http.app import App
from twofold.runtime.home import Home
from twofold.runtime.replica import Replica
from twofold.settings import Settings

home = Home(Settings(home=Path(sys.argv[1])))
replica = Replica(home)
app = App(replica, home.bell)

async def post(path, body):
    sent, raw = [], json.dumps(body).encode()
    async def receive():
        return {"type": "http.request", "body": raw, "more_body": False}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])

async def main():
    replica.server.warm()
    row = {"shop": "north", "amount": 3.0, "sold_at": "2024-05-01T12:00:00Z"}
    return [
        await post("/v1/predict/buy", {"shop": "north", "price": 2.0}),
        await post("/v1/predict/buy", {"shop": ["north", "south"], "price": 2.0}),
        await post("/v1/features/shop", {"shop": "north"}),
        await post("/v1/events/sales", row),
        await post("/v1/predict/buy", {"shop": 1, "price": 2.0}),
    ]

answers = asyncio.run(main())
never = json.loads(sys.argv[2])
print(json.dumps({"answers": answers, "loaded": [name for name in never if name in sys.modules]}))
replica.close()
home.close()
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_what_a_replica_needs_loads_no_engine() -> None:
    assert run(IMPORTS).strip() == "[]"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a trained LightGBM model, a generation and a published plan."""
    from lightgbm import LGBMRegressor

    folder = tmp_path_factory.mktemp("home")
    with project(LGBMRegressor(n_estimators=3, min_child_samples=2, verbosity=-1)).open(home=folder) as opened:
        rows = [
            {"shop": ["north", "south"][i % 2], "amount": float(i % 7), "sold_at": f"2024-05-01T{i // 6:02}:{i % 6 * 10:02}:00Z"}
            for i in range(120)
        ]
        opened.load("sales", rows)
        opened.build()
        opened.train("buy", test=None)
    return folder


def project(estimator: Any) -> tw.Project:
    sales = tw.Events("sales", time="sold_at", schema={"shop": str, "amount": float})
    shop = tw.View("shop", sales, by="shop", features={"amount": tw.mean("amount", over="6h"), "sales": tw.count()})
    model = tw.Model(
        "buy",
        request={"shop": str, "price": float},
        views=[shop],
        derived={"ratio": lambda price, shop_sales_all: price / shop_sales_all},
        estimator=estimator,
        rows=tw.Rows(sales.with_columns(price=pl.col("amount"))),
        label=tw.Label(sales, on="shop", value="amount", within="1h"),
    )
    return tw.Project("shops", models=[model])


def test_a_replica_predicts_reads_and_takes_events_without_an_engine(home: Path) -> None:
    found = json.loads(run(WHOLE, str(home), json.dumps(NEVER)))
    assert found["loaded"] == []
    one, two, features, event, bad = found["answers"]
    assert (one[0], one[1]["served_by"], one[1]["degraded"]) == (200, "live", None)
    assert [answer["served_by"] for answer in two[1]] == ["live", "live"]
    assert two[1][0]["prediction"] == one[1]["prediction"], "one row and a matrix give the same bits"
    assert features[1]["features"]["sales_all"] == 60
    assert (event[0], event[1]["count"]) == (200, 1)
    assert bad[0] == 400
