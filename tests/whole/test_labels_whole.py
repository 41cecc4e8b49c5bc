"""Models of several labels and of numbers, from history to an audited answer, in Python and over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import uvicorn
from lightgbm import LGBMClassifier, LGBMRegressor
from shop import card, frauds, limits, payments, shops
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from test_opened import stream_in
from whole_data import FRAUDS, HISTORY, LIVE, load_history

import twofold as tw
from twofold.errors import DataError, SchemaMismatch, VersionError
from twofold.http.app import App
from twofold.instants import DAY_US, HOUR_US, to_us
from twofold.learn.rows import sampled

REQUEST = {"payment_id": "p", "card": "a", "shop": "x", "amount": 10.0}
FRAUD = tw.Label(frauds, on="payment_id", value=pl.lit(True), within="1d", missing=False)
AGAIN = tw.Label(payments, on="card", value=tw.count(where=pl.col("amount") > 100), within="6h")
SPENT = tw.Label(payments, on="card", value=tw.max("amount"), within="6h", missing=0.0)
LIGHT = {"n_estimators": 5, "min_child_samples": 5, "num_threads": 1, "verbosity": -1}
WEIGHT = pl.when(pl.col("amount") > 100).then(2.0).when(pl.col("amount") < 100).then(1.0)


def model(name: str, **changes: Any) -> tw.Model:
    given: dict[str, Any] = {
        "request": {"payment_id": str, "card": str, "shop": tw.Category, "amount": float},
        "views": [card["n_1d", "amount_1d"], shops["floor_m2"], limits],
        "rows": tw.Rows(payments),
        "deadline": "5s",
    }
    return tw.Model(name, **{**given, **changes})


risk = model(
    "risk",
    label={"fraud": FRAUD, "again": AGAIN},
    estimator={"fraud": LGBMClassifier(**LIGHT), "again": LGBMRegressor(**LIGHT)},
    fallback=[tw.Default({"fraud": 0.5, "again": 1.0})],
)
forest = model(
    "forest",
    label={"fraud": FRAUD, "more": tw.Label(payments, on="card", value=tw.any(pl.col("amount") > 400), within="6h", missing=False)},
    estimator=RandomForestClassifier(10, random_state=0),
)
spent = model(
    "spent",
    rows=tw.Rows(payments, where=pl.col("shop").is_not_null(), sample=0.8, weight=WEIGHT, group="card"),
    views=[card["n_1d", "amount_1d"], shops["floor_m2"]],
    label=SPENT,
    estimator=HistGradientBoostingRegressor(max_iter=5),
)


@pytest.fixture
def opened(tmp_path: Path, clock: tw.ManualClock) -> Iterator[Any]:
    with tw.Project("shop", models=[risk, forest, spent]).open(home=tmp_path / "home", clock=clock) as it:
        load_history(it)
        it.build()
        yield it


@contextlib.contextmanager
def over_http(opened: Any) -> Iterator[Any]:
    """A function that posts to a server of the home."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(App(opened.replica, opened.home.bell), loop="uvloop", http="httptools", ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()

    def post(path: str, body: Any) -> tuple[int, Any]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=30)) as connection:
            connection.request("POST" if body is not None else "GET", path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    try:
        yield post
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


def test_the_labels_of_a_training_set(opened: Any) -> None:
    frame = opened.training_set("risk")
    assert frame.columns[-2:] == ["label_fraud", "label_again"]
    reported = {row["payment_id"] for row in FRAUDS}
    over_us = min(max(row["reported_at"] for row in FRAUDS) - DAY_US, HISTORY[-1]["paid_at"] - 6 * HOUR_US)
    expected = [row for row in HISTORY if row["paid_at"] <= over_us]
    assert frame["payment_id"].to_list() == [row["payment_id"] for row in expected]
    assert frame["label_fraud"].to_list() == [row["payment_id"] in reported for row in expected]
    assert frame["label_again"].to_list() == [
        sum(
            other["card"] == row["card"] and 0 <= other["paid_at"] - row["paid_at"] < 6 * HOUR_US and (other["amount"] or 0) > 100
            for other in HISTORY
            if row["card"] is not None
        )
        for row in expected
    ]


def test_several_labels_from_training_to_an_audited_answer(opened: Any, clock: tw.ManualClock) -> None:
    first = opened.train("risk", test="5d")
    assert {name: set(figures) for name, figures in first.metrics.items()} == {
        "fraud": {"n", "positives", "auc", "log_loss", "brier"},
        "again": {"n", "mae", "rmse"},
    }
    assert first.metrics["fraud"]["n"] == first.metrics["again"]["n"] == first.test_rows > 0
    second = opened.train("risk", test="4d", until=to_us("2024-04-30T00:00:00Z"))
    assert opened.promote("risk") == second.version
    stream_in(opened, clock, LIVE[:40])
    requests = [REQUEST, {**REQUEST, "card": None}, {**REQUEST, "card": "never seen", "amount": None}]
    answers = opened.predict("risk", requests)
    assert [answer["served_by"] for answer in answers] == ["live"] * 3
    assert all(set(answer["prediction"]) == {"fraud", "again"} and 0 < answer["prediction"]["fraud"] < 1 for answer in answers)
    one = opened.predict("risk", REQUEST)
    assert one["prediction"] == answers[0]["prediction"]
    scored = opened.score("risk", opened.vectors("risk", requests, at=clock.now_us()))
    assert scored.name == "risk"
    assert scored.to_list() == [answer["prediction"] for answer in answers]
    audit = opened.audit()
    assert (audit.records, audit.compared, audit.different, audit.ahead) == (4, 16, 0, 0)


def test_several_labels_over_http(opened: Any) -> None:
    opened.train("risk", test="5d")
    expected = opened.predict("risk", REQUEST)["prediction"]
    with over_http(opened) as post:
        assert post("/v1/predict/risk", REQUEST)[1]["prediction"] == expected
        assert [answer["prediction"] for answer in post("/v1/predict/risk", [REQUEST, REQUEST])[1]] == [expected, expected]
        classes = post("/v1/predict/risk?output=class", REQUEST)[1]["prediction"]
        assert classes == {"fraud": expected["fraud"] >= 0.5, "again": expected["again"]}
        late = post("/v1/predict/risk?deadline_ms=0.001", REQUEST)[1]
        assert (late["served_by"], late["prediction"]) == ("default", {"fraud": 0.5, "again": 1.0})
        folder = opened.home.settings.home / "served"
        recorded = sum(len(path.read_bytes()) for path in folder.iterdir())
        status, refused = post("/v1/predict/risk?top=1", [REQUEST])
        assert (status, "top= sorts by one prediction, and model 'risk' answers fraud, again" in refused["error"]) == (400, True)
        assert recorded == sum(len(path.read_bytes()) for path in folder.iterdir()), "it was refused before the work"
        status, refused = post("/v1/predict/risk?output=probability", REQUEST)
        assert (status, "model 'risk' has no output 'probability'; it has class" in refused["error"]) == (400, True)
        inputs = [{"name": name, "shape": [1], "datatype": "BYTES", "data": [value]} for name, value in REQUEST.items()]
        outputs = post("/v2/models/risk/infer", {"inputs": inputs})[1]["outputs"]
        assert {output["name"]: output["data"] for output in outputs} == {name: [value] for name, value in expected.items()}
        assert [output["name"] for output in post("/v2/models/risk", None)[1]["outputs"]] == ["fraud", "again"]
        paths = post("/openapi.json", None)[1]["paths"]["/v1/predict/risk"]["post"]
        example = paths["responses"]["200"]["content"]["application/json"]["example"]
        assert set(example["prediction"]) == {"fraud", "again"}


def test_one_estimator_that_learns_several_labels(opened: Any) -> None:
    trained = opened.train("forest", test="5d")
    assert (trained.predictor.format, trained.predictor.output) == ("sklearn", "several")
    assert trained.predictor.outputs == (("fraud", "probability"), ("more", "probability"))
    frame = opened.training_set("forest")
    scored = opened.score("forest", frame)
    assert scored.struct.fields == ["fraud", "more"]
    assert scored.struct["fraud"].n_unique() > 5
    answer = opened.predict("forest", REQUEST)
    assert set(answer["prediction"]) == {"fraud", "more"}
    probability = opened.replica.server.predict("forest", [REQUEST], output="probability")[0]["prediction"]
    assert probability == answer["prediction"]
    assert opened.audit().different == 0


def test_a_number_from_training_to_an_audited_answer(opened: Any) -> None:
    frame = opened.training_set("spent")
    assert frame.columns[-2:] == ["weight", "label"]
    assert frame["label"].dtype == pl.Float64
    kept = sampled(opened.events_of("payments"), "payment_id", 0.8)
    weights = {row["payment_id"]: 1.0 + (row["amount"] > 100) for row in HISTORY if row["amount"] is not None}
    over_us = HISTORY[-1]["paid_at"] - 6 * HOUR_US
    expected = [
        row for row, is_kept in zip(HISTORY, kept, strict=True) if is_kept and row["payment_id"] in weights and row["paid_at"] <= over_us
    ]
    assert dict(zip(frame["payment_id"], frame["weight"], strict=True)) == {
        row["payment_id"]: weights[row["payment_id"]] for row in expected
    }
    trained = opened.train("spent", test="5d")
    begin = frame["at"].max() - pl.duration(days=5)  # type: ignore[operator]
    test = frame.filter(pl.col("at") >= begin, pl.col("card").is_null())
    assert trained.test_rows == trained.metrics["n"] == test.height > 0, "every card was trained on"
    off = np.abs(test["label"].to_numpy() - opened.score("spent", test).to_numpy())
    assert math.isclose(trained.metrics["mae"], np.average(off, weights=test["weight"].to_numpy()), rel_tol=1e-12)
    answer = opened.predict("spent", REQUEST)
    assert answer["served_by"] == "live"
    assert isinstance(answer["prediction"], float)
    assert opened.audit().different == 0


def test_weights_change_what_is_learnt(opened: Any) -> None:
    frame = opened.training_set("spent")
    heavy = frame.with_columns(weight=pl.when(pl.col("label") > 0).then(100.0).otherwise(0.0))
    scores = []
    for given in (frame, frame.with_columns(pl.col("weight") * 8), heavy):
        opened.promote("spent", opened.train("spent", test="5d", frame=given).version)
        scores.append(opened.score("spent", frame))
    assert scores[0].equals(scores[1]), "only how weights stand to each other counts"
    assert scores[2].mean() > scores[0].mean() * 1.1


def test_a_frame_that_is_no_training_set_is_refused(opened: Any) -> None:
    with pytest.raises(DataError, match=r"the frame to train 'spent' on has no label, weight; give what training_set\('spent'\) gives"):
        opened.train("spent", frame=opened.training_set("spent").rename({"label": "y"}).drop("weight"))
    with pytest.raises(DataError, match="has no label_fraud"):
        opened.train("risk", frame=opened.training_set("risk").drop("label_fraud"))


def test_rows_at_hand_bring_their_weight(opened: Any) -> None:
    rows = [{**REQUEST, "at": row["paid_at"], "weight": weight} for row, weight in zip(HISTORY[:3], [2.0, None, 0.0], strict=True)]
    assert opened.training_set("spent", rows=rows[::-1])["weight"].to_list() == [0.0, 2.0]
    with pytest.raises(DataError, match=r"the table of rows: the weight of 1 rows is negative, the first is -2\.0"):
        opened.training_set("spent", rows=[{**rows[0], "weight": -2.0}])
    with pytest.raises(SchemaMismatch, match="weight is absent"):
        opened.training_set("spent", rows=[{**REQUEST, "at": HISTORY[0]["paid_at"]}])


def test_other_labels_are_another_model(opened: Any, clock: tw.ManualClock) -> None:
    """A version that answers other labels than the project declares would surprise whoever reads its answers."""
    opened.train("risk", test="5d")
    fewer = model("risk", label={"fraud": FRAUD}, estimator=LGBMClassifier(**LIGHT))
    with tw.Project("shop", models=[fewer]).open(home=opened.home.settings.home, clock=clock) as other:
        with pytest.raises(VersionError, match="was trained on the labels fraud, again, which the project defines otherwise now"):
            other.publish_plan()
        trained = other.train("risk", test="5d")
        assert other.promote("risk", trained.version) == trained.version
        assert set(other.predict("risk", REQUEST)["prediction"]) == {"fraud"}
