"""The surface over HTTP, by a real server on a port of this machine and a client of the standard library."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import uvicorn

import twofold as tw
from twofold.errors import LogUnavailable, StoreUnavailable
from twofold.http import events, messages
from twofold.http.app import App
from twofold.http.pressure import Pressure
from twofold.instants import to_us
from twofold.log.base import Position
from twofold.plan.ingest import check_rows
from twofold.serve.deadline import InThreads
from twofold.serve.predict import ModelServer

FALLBACK = [tw.Cached(max_age="1h"), tw.Default(0.25)]


class ShopReplica:
    """A replica over a shop; `next` is the server that the next refresh takes up."""

    def __init__(self, shop: Any, server: ModelServer) -> None:
        self.shop, self.server = shop, server
        self.next: ModelServer | Exception | None = None
        self.before_append: Callable[[], None] = lambda: None
        self.refreshed = threading.Event()
        self.appenders: set[str] = set()

    def ingest(self, source: str, rows: list[dict[str, Any]]) -> Position:
        self.appenders.add(threading.current_thread().name)
        self.before_append()
        check_rows(self.server.plan.sources[source], rows)
        return self.shop.append(source, *rows)

    def refresh(self) -> bool:
        following, self.next = self.next, None
        self.refreshed.set()
        if isinstance(following, Exception):
            raise following
        if following is not None:
            self.server = following
        return following is not None


class Store:
    """A real store with something before each snapshot."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.before: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def snapshot(self) -> Any:
        self.before()
        return self.store.snapshot()


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    raw: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def error(self) -> str:
        assert list(self.json) == ["error"]
        return str(self.json["error"])


@dataclass
class Served:
    """A running server and the parts below it."""

    shop: Any
    store: Store
    replica: ShopReplica
    port: int

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, raw, headers or {})
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
        return self.ask("POST", path, body, headers)

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)


@contextlib.contextmanager
def running(shop: Any, store: Store, may_take: Callable[[], None] = lambda: None, **options: Any) -> Iterator[Served]:
    """A server over a shop, in a thread of its own."""
    replica = ShopReplica(shop, shop.server(store, **options))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        App(replica, shop.bell, may_take), loop="uvloop", http="httptools", ws="none", lifespan="on", access_log=False, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Served(shop, store, replica, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture
def served(make_shop: Any) -> Iterator[Served]:
    shop = make_shop(fallback=FALLBACK)
    with running(shop, Store(shop.store)) as it:
        yield it


def fail_with(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


# Predictions


def test_predict_an_object_an_array_and_columns(served: Served, helpers: Any) -> None:
    one = served.post("/v1/predict/buy", helpers.request())
    assert (one.status, one.headers["content-type"]) == (200, "application/json")
    assert one.json["prediction"] == 20.2
    assert one.json["served_by"] == "live"
    assert one.json["views"]["shop"] == {"status": "present", "age_s": 300.0}
    several = served.post("/v1/predict/buy", [helpers.request(), helpers.request(price=1.0)])
    assert [answer["prediction"] for answer in several.json] == [20.2, 1.2]
    assert served.post("/v1/predict/buy", []).json == []
    columns = served.post("/v1/predict/buy", helpers.request(price=[1.0, 2, None], item=[1, 2, 3]))
    assert [answer["prediction"] for answer in columns.json] == [1.2, 2.2, 0.2]


def test_a_model_that_is_not_trained_answers_by_its_default(make_shop: Any, helpers: Any) -> None:
    shop = make_shop(fallback=FALLBACK)
    shop.plan = shop.project.serving
    with running(shop, Store(shop.store)) as it:
        one = it.post("/v1/predict/buy", helpers.request())
        assert one.status == 200
        assert {"prediction": 0.25, "served_by": "default", "model": "buy", "degraded": "not trained"}.items() <= one.json.items()
        tensors = [{"name": name, "data": [value]} for name, value in helpers.request().items()]
        assert it.post("/v2/models/buy/infer", {"inputs": tensors}).json["outputs"][0]["data"] == [0.25]
        assert it.get("/v2/models/buy/ready").status == 503, "a client that asks whether it is trained is told"
        assert it.post("/v1/vectors/buy", helpers.request()).json["columns"]["price"] == 20.0


def test_top_sorts_and_says_which_row_it_was(served: Served, helpers: Any) -> None:
    answers = served.post("/v1/predict/buy?top=2", helpers.request(price=[1.0, 3.0, 2.0, 3.0])).json
    assert [(answer["row"], answer["prediction"]) for answer in answers] == [(1, 3.2), (3, 3.2)]
    assert len(served.shop.served) == 4, "all of them were answered"


def test_parameters_of_the_query(served: Served, helpers: Any) -> None:
    at = quote("2024-05-01T12:00:01+00:00", safe="+:")
    for text in (at, "2024-05-01T12:00:01Z", str(to_us("2024-05-01T12:00:01Z"))):
        assert served.post(f"/v1/predict/buy?at={text}", helpers.request()).json["at"] == "2024-05-01T12:00:01Z"
    assert served.post("/v1/predict/buy?output=class", helpers.request()).json["prediction"] is True
    late = served.post("/v1/predict/buy?deadline_ms=0.001", helpers.request(price=7.0)).json
    assert (late["served_by"], late["degraded"]) == ("default", "deadline")


def test_after_waits_for_what_was_written(served: Served, helpers: Any) -> None:
    written = served.post("/v1/events/sales", helpers.sale(at="11:59:00")).json
    also = served.post("/v1/events/visits", {"shop": "north", "day": None, "seen_at": "2024-05-01T11:59:00Z"}).json
    late = served.post(f"/v1/predict/buy?deadline_ms=30&after={quote(written['position'])}", helpers.request()).json
    assert (late["served_by"], late["degraded"]) == ("default", "deadline")

    answers = []

    def ask(path: str, headers: dict[str, str]) -> None:
        answers.append(served.post(path, helpers.request(), headers).json)

    joined = f"{written['position']}|{also['position']}"
    paths = [
        (f"/v1/predict/buy?deadline_ms=30000&after={quote(written['position'])}&after={quote(also['position'])}", {}),
        ("/v1/predict/buy?deadline_ms=30000", {"X-Twofold-After": joined}),
    ]
    threads = [threading.Thread(target=ask, args=path) for path in paths]
    for thread in threads:
        thread.start()
    assert served.get("/healthz").status == 200, "nobody is held up by those who wait"
    served.shop.worker.catch_up()
    for thread in threads:
        thread.join(20)
    assert [answer["served_by"] for answer in answers] == ["live", "live"]
    assert served.shop.served[-1].columns["shop_sales_10m"] == 2
    assert served.shop.served[-1].columns["everybody_visits_1h"] == 2


def test_vectors_have_all_columns(served: Served, helpers: Any) -> None:
    answer = served.post("/v1/vectors/buy", helpers.request()).json
    assert answer["columns"]["shop_amount_1d"] == 20.0
    assert answer["columns"]["asked_at"] == "2024-05-01T12:00:00Z"
    assert "prediction" not in answer
    assert len(served.post("/v1/vectors/buy", [helpers.request()] * 2).json) == 2


def test_features_of_keys(served: Served) -> None:
    one = served.post("/v1/features/shop", {"shop": "north"}).json
    assert (one["key"], one["status"], one["age_s"], one["at"]) == ({"shop": "north"}, "present", 300.0, "2024-05-01T12:00:00Z")
    assert one["features"]["amount_1h"] == 15.0
    assert one["statuses"]["paid_at_all"] == "empty"
    assert [read["features"]["sold_1d"] for read in served.post("/v1/features/item", [{"shop": "north", "item": 1}, ["x", 1]]).json] == [
        2,
        0,
    ]
    several = served.post("/v1/features/shop", {"keys": ["north", None], "at": "2024-05-01T12:00:01Z"}).json
    assert [read["at"] for read in several] == ["2024-05-01T12:00:01Z"] * 2
    assert several[1]["status"] == "empty"
    assert served.post("/v1/features/everybody", {}).json["features"] == {"visits_1h": 1}


# Events


@pytest.mark.parametrize("kind", ["object", "array", "lines", "lines with a type", "one line with a type", "sequence"])
def test_events_of_every_shape(served: Served, helpers: Any, kind: str) -> None:
    rows = [helpers.sale(), helpers.sale("south")]
    lines = b"\n".join(json.dumps(row).encode() for row in rows) + b"\n"
    bodies = {"object": rows[0], "array": rows, "lines": lines, "lines with a type": lines, "one line with a type": lines.split(b"\n")[0]}
    bodies["sequence"] = b"".join(b"\x1e" + json.dumps(row).encode() + b"\n" for row in rows)
    headers = {"Content-Type": "application/x-ndjson"} if "type" in kind else {}
    headers |= {"Content-Type": "application/json-seq"} if kind == "sequence" else {}
    count = 1 if "o" in kind[:2] else 2
    before = sum(served.shop.log.end_offsets(["sales"]).values())
    answer = served.post("/v1/events/sales", bodies[kind], headers)
    assert (answer.status, answer.json["count"]) == (200, count)
    assert sum(served.shop.log.end_offsets(["sales"]).values()) == before + count
    ends = served.shop.log.end_offsets(["sales"])
    assert all(ends[place] == end for place, end in Position.parse(answer.json["position"]).offsets.items())
    assert not any("MainThread" in name for name in served.replica.appenders)
    assert all(name.startswith("http") for name in served.replica.appenders), "an fsync must not hold the event loop up"


def test_a_slow_commit_holds_nobody_up(served: Served, helpers: Any) -> None:
    is_over, answers = threading.Event(), []
    served.replica.before_append = lambda: is_over.wait(20)  # type: ignore[assignment,return-value]
    thread = threading.Thread(target=lambda: answers.append(served.post("/v1/events/sales", helpers.sale()).status))
    thread.start()
    assert served.post("/v1/predict/buy", helpers.request()).status == 200
    assert answers == []
    is_over.set()
    thread.join(20)
    assert answers == [200]


def test_too_many_events_under_way_are_told_to_come_again(served: Served, helpers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_CALLS", 1)
    is_over, is_begun, answers = threading.Event(), threading.Event(), []

    def wait() -> None:
        is_begun.set()
        is_over.wait(20)

    served.replica.before_append = wait
    thread = threading.Thread(target=lambda: answers.append(served.post("/v1/events/sales", helpers.sale()).status))
    thread.start()
    assert is_begun.wait(20)
    refused = served.post("/v1/events/sales", helpers.sale())
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    is_over.set()
    thread.join(20)
    assert answers == [200]
    assert served.post("/v1/events/sales", helpers.sale()).status == 200


def test_a_speed_layer_that_lags_and_a_full_disk_are_told_before_anything_is_appended(make_shop: Any, helpers: Any, tmp_path: Path) -> None:
    shop, now = make_shop(), {"lag": 7}
    pressure = Pressure(lambda: now["lag"], tmp_path, 7, 0)
    with running(shop, Store(shop.store), may_take=pressure.check) as served:
        assert served.post("/v1/events/sales", helpers.sale()).status == 200
        now["lag"] = 8
        wait_until(lambda: served.post("/v1/events/sales", helpers.sale()).status == 429)
        ends = shop.log.end_offsets(["sales"])
        refused = served.post("/v1/events/sales", helpers.sale())
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert shop.log.end_offsets(["sales"]) == ends
        assert "8 events wait to be applied, the most is max_lag_events = 7" in refused.error
        now["lag"] = 0
        wait_until(lambda: served.post("/v1/events/sales", helpers.sale()).status == 200)
        pressure._least_mb = 1 << 50
        wait_until(lambda: served.post("/v1/events/sales", helpers.sale()).status == 503)
        refused = served.post("/v1/events/sales", helpers.sale())
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "min_free_mb" in refused.error


def test_a_bound_of_zero_is_none_and_what_is_known_is_kept_for_a_while(tmp_path: Path) -> None:
    Pressure(lambda: 1 << 60, tmp_path, 0, 0).check()
    looks: list[int] = []
    pressure = Pressure(lambda: looks.append(1) or 0, tmp_path, 1, 0)
    for _ in range(50):
        pressure.check()
    assert len(looks) < 50


def test_a_lag_that_cannot_be_looked_at_refuses_no_event(tmp_path: Path) -> None:
    def lag() -> int:
        raise StoreUnavailable("it does not answer")

    Pressure(lag, tmp_path, 7, 0).check()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Errors


BAD_BODIES = [
    ("/v1/predict/buy", b"", 400, "the body is empty; send JSON"),
    ("/v1/predict/buy", b'{"shop": tru}', 400, "the body is no JSON: JSON is malformed: invalid character (byte 13)"),
    ("/v1/predict/buy", b'{"shop": "a"', 400, "the body is no JSON: Input data was truncated (at its end, byte 12)"),
    ("/v1/predict/buy", b'{"price": NaN}', 400, "price is nan; events take finite numbers, send null"),
    ("/v1/predict/buy", b"\xff\xfe", 400, "the body is no JSON"),
    ("/v1/predict/buy", b'{"shop": "\xff"}', 400, "the body is no JSON: it is no UTF-8"),
    ("/v1/predict/buy", b"[" * 100_000, 400, "the body is no JSON: it is nested too deeply"),
    ("/v1/predict/buy", b"null", 400, "request 0:\n  it is None; give an object with the fields shop"),
    ("/v1/predict/buy", b"3", 400, "request 0:\n  it is 3"),
    ("/v1/predict/buy", b"[3]", 400, "request 0:\n  it is 3"),
    ("/v1/predict/buy", {}, 400, "shop is absent"),
    ("/v1/predict/buy", {"price": "x"}, 400, "price is 'x', not a float"),
    ("/v1/predict/buy", {"price": [1, 2], "item": [1]}, 400, "price has 2, item has 1"),
    ("/v1/predict/by", {}, 404, "there is no model 'by'; there are buy, empty. Did you mean 'buy'?"),
    ("/v1/vectors/by", {}, 404, "Did you mean 'buy'?"),
    ("/v1/features/shp", {"shop": "a"}, 404, "there is no view 'shp'"),
    ("/v1/features/shop", {"shop": 1}, 400, "view 'shop' refuses key 0:\n  shop is 1, not a text"),
    ("/v1/features/shop", {"shp": "a"}, 400, "shop is absent; its key columns are shop. Did you mean 'shp'?"),
    ("/v1/features/shop", b"3", 400, 'send a key {"shop": ...}, an array of keys, or {"keys": [...], "at": "..."}'),
    ("/v1/features/shop", {"keys": ["a"], "att": 1}, 400, "the body has 'att' beside `keys`"),
    ("/v1/features/shop?at=1", {"keys": ["a"], "at": 1}, 400, "`at` stands in the body and in the query"),
    ("/v1/features/shop", {"keys": ["a"], "at": "noon"}, 400, "'noon' is no instant"),
    ("/v1/events/sale", {}, 404, "there is no source 'sale'; there are owners, sales, visits. Did you mean 'sales'?"),
    ("/v1/events/sales", b"[1]", 400, "event 0 is 1; an event is an object"),
    ("/v1/events/sales", {"shop": "a"}, 400, "item is absent"),
    ("/v1/events/sales", b'{"a": 1}\n{"a": }\n', 400, "line 2 is no JSON"),
    ("/v1/events/sales", b'{"a": ', 400, "the body is no JSON"),
    ("/v1/events/sales", gzip.compress(b"{}", mtime=0), 400, "the body is no JSON: it is compressed (gzip); send it plain"),
    ("/v1/events/sales", b'\xef\xbb\xbf{"a": 1}', 400, "the body is no JSON: it begins with a byte order mark; leave that out"),
    ("/v1/events/sales", "{}".encode("utf-16"), 400, "the body is no JSON: it is UTF-16; send UTF-8"),
    ("/v1/events/sales", b'{"a": "\xff"}', 400, "the body is no JSON: it is no UTF-8"),
    ("/v1/events/sales", b'{"a": 1}\n{"a": "\xff"}\n', 400, "line 2 is no JSON: it is no UTF-8"),
    ("/v1/events/owners", {"shop": "a", "owner": "b", "since": 1, "share": 1.0}, 400, "static table"),
    ("/v1/predict/buy?attt=1", {}, 400, "there is no parameter 'attt' here; there are at, after, deadline_ms, top, output"),
    ("/v1/predict/buy?at=2024-05-01T12:00:00", {}, 400, "has no zone"),
    ("/v1/predict/buy?after=x", {}, 400, "'x' is no position"),
    ("/v1/predict/buy?after=a;|b;", {}, 400, "positions of two logs cannot be joined"),
    ("/v1/predict/buy?deadline_ms=0", {}, 400, "deadline_ms='0' is no length of time"),
    ("/v1/predict/buy?deadline_ms=soon", {}, 400, "deadline_ms='soon' is no length of time"),
    ("/v1/predict/buy?deadline_ms=nan", {}, 400, "deadline_ms='nan' is no length of time"),
    ("/v1/predict/buy?top=0", {}, 400, "top='0' is no number of answers"),
    ("/v1/predikt/buy", {}, 404, "there is nothing at /v1/predikt/buy. Did you mean '/v1/predict/{model}'?"),
    ("/", {}, 404, "there is nothing at /"),
]


@pytest.mark.parametrize(("path", "body", "status", "told"), BAD_BODIES)
def test_bad_input_is_told_what_is_wrong(make_bad: Served, path: str, body: Any, status: int, told: str) -> None:
    answer = make_bad.post(path, body)
    assert told in answer.error
    assert answer.status == status


@pytest.fixture(scope="module")
def make_bad(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Served]:
    """One server for all bad bodies: none of them may harm it."""
    shop = request.getfixturevalue("module_shop")
    with running(shop, Store(shop.store)) as it:
        yield it
        assert it.get("/healthz").status == 200


def test_bad_output_and_wrong_log(served: Served, helpers: Any) -> None:
    assert "Did you mean 'class'" in served.post("/v1/predict/buy?output=clas", helpers.request()).error
    answer = served.post("/v1/predict/buy?after=another;sales/0=1", helpers.request())
    assert (answer.status, "belongs to the log another" in answer.error) == (409, True)
    answer = served.post(f"/v1/predict/buy?after={served.shop.log.uuid};sale/0=1", helpers.request())
    assert (answer.status, "Did you mean 'sales'" in answer.error) == (400, True)


def test_a_method_that_a_path_does_not_take(served: Served) -> None:
    answer = served.get("/v1/predict/buy")
    assert (answer.status, answer.headers["allow"], answer.error) == (405, "POST", "/v1/predict/{model} takes POST, not GET")
    assert served.ask("HEAD", "/healthz").status == 200


def test_a_body_beyond_the_limit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "BODY_BYTES", 1000)
    answer = served.post("/v1/predict/buy", b" " * 1001)
    assert (answer.status, answer.error) == (413, "the body has 1001 bytes or more, the limit is 1000; send several requests")
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/predict/buy", iter([b" " * 600, b" " * 600]))  # chunked: its length is not told before
        assert connection.getresponse().status == 413
    assert served.post("/v1/predict/buy", b" " * 1000).status == 400


def test_what_is_unavailable_says_when_to_come_again(served: Served, helpers: Any) -> None:
    served.store.before = fail_with(StoreUnavailable("the store is gone"))
    answer = served.post("/v1/features/shop", {"shop": "north"})
    assert (answer.status, answer.headers["retry-after"], answer.error) == (503, "1", "the store is gone")
    assert served.post("/v1/vectors/buy", helpers.request()).status == 503
    assert served.post("/v1/predict/buy", helpers.request()).json["served_by"] == "default"
    served.replica.before_append = fail_with(LogUnavailable("the log is gone"))
    assert served.post("/v1/events/sales", helpers.sale()).status == 503


def test_what_nobody_foresaw_is_500_and_tells_nothing_of_the_inside(served: Served, helpers: Any, caplog: pytest.LogCaptureFixture) -> None:
    served.replica.before_append = fail_with(RuntimeError("secret path"))
    answer = served.post("/v1/events/sales", helpers.sale())
    assert (answer.status, answer.error) == (500, "internal error: RuntimeError; see the server's output")
    assert "secret path" in caplog.text


def test_a_store_that_hangs_holds_neither_predictions_nor_others_up(make_shop: Any, helpers: Any) -> None:
    shop, is_over = make_shop(fallback=FALLBACK), threading.Event()
    store = Store(shop.store)
    with running(shop, store, isolation=InThreads(4)) as served:
        store.before = lambda: is_over.wait(60)  # type: ignore[assignment,return-value]
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(served.post("/v1/predict/buy?deadline_ms=100", helpers.request()).json))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        assert served.get("/healthz").status == 200
        for thread in threads:
            thread.join(20)
        assert {(answer["served_by"], answer["degraded"]) for answer in answers} == {("default", "deadline")}
        assert served.get("/readyz").json == {"ready": False, "not_ready": ["store: does not answer within 1 s"]}
        is_over.set()
        assert served.post("/v1/predict/buy", helpers.request()).json["served_by"] == "live"


# The state of the process


def test_ready_says_what_is_missing(make_shop: Any, bell: Any) -> None:
    shop = make_shop()
    new = type(shop)(type(shop.store)(), bell)
    with running(new, Store(new.store)) as served:
        answer = served.get("/readyz")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert [text.split("'")[1] for text in answer.json["not_ready"]] == ["frozen", "by_day", "shop", "nightly", "everybody", "owners"]
        assert all("run `twofold build`" in text for text in answer.json["not_ready"])
        assert served.get("/healthz").status == 200
        assert served.get("/v2/health/ready").status == 503
        unbuilt = served.post("/v1/features/shop", {"shop": "north"})
        assert (unbuilt.status, "never been built" in unbuilt.error) == (503, True)
        new.build()
        assert served.get("/readyz").json == {"ready": True, "not_ready": []}
        served.store.before = fail_with(StoreUnavailable("gone"))
        assert served.get("/readyz").json["not_ready"] == ["store: StoreUnavailable: gone"]


def test_metrics_count_routes_rungs_and_events(served: Served, helpers: Any) -> None:
    served.post("/v1/predict/buy", [helpers.request(), helpers.request()])
    served.post("/v1/predict/buy", {})
    served.store.before = fail_with(StoreUnavailable("gone"))
    served.post("/v1/predict/buy", helpers.request(price=9.0))
    served.post("/v1/events/sales", [helpers.sale(), helpers.sale()])
    served.get("/nowhere")
    lines = served.get("/metrics").raw.decode().splitlines()
    assert 'twofold_requests_total{route="/v1/predict/{model}",code="200"} 2' in lines
    assert 'twofold_requests_total{route="/v1/predict/{model}",code="400"} 1' in lines
    assert 'twofold_requests_total{route="unknown",code="404"} 1' in lines
    assert 'twofold_predictions_total{model="buy",served_by="live"} 2' in lines
    assert 'twofold_predictions_total{model="buy",served_by="default"} 1' in lines
    assert 'twofold_events_total{source="sales"} 2' in lines
    assert 'twofold_request_seconds_count{route="/v1/predict/{model}"} 3' in lines
    assert 'twofold_request_seconds_bucket{route="/v1/predict/{model}",le="+Inf"} 3' in lines


def test_the_description_is_of_this_plan(served: Served, helpers: Any) -> None:
    described = served.get("/openapi.json").json
    assert described["openapi"] == "3.1.0"
    body = described["paths"]["/v1/predict/buy"]["post"]["requestBody"]["content"]["application/json"]
    assert served.post("/v1/predict/buy", body["example"]).status == 200, "its example works"
    assert set(body["schema"]["anyOf"][0]["required"]) == set(helpers.request())
    for path in ("/v1/features/item", "/v1/events/sales", "/v1/vectors/buy", "/v2/models/buy/infer", "/v1/features/owners"):
        example = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert served.post(path, example).status == 200, path
    assert "/v1/events/owners" not in described["paths"]
    assert "/v1/predict/empty" not in described["paths"]
    page = served.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert b"/v1/predict/buy" in page.raw
    assert b"http:" not in page.raw, "the page loads nothing from elsewhere"
    assert b"https:" not in page.raw


def test_a_new_plan_is_taken_up_while_requests_run(served: Served, helpers: Any) -> None:
    shop = served.shop
    newer = msgspec.structs.replace(shop.plan.models["buy"], version="fedcba9876543210")
    plan = msgspec.structs.replace(shop.plan, models={"buy": newer})
    models, is_over = [], threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        with contextlib.closing(connection):
            while not is_over.is_set():
                connection.request("POST", "/v1/predict/buy", json.dumps(helpers.request()))
                answer = connection.getresponse()
                models.append((answer.status, json.loads(answer.read())["model"]))

    thread = threading.Thread(target=ask)
    thread.start()
    while not models:
        thread.join(0.01)
    for following in (StoreUnavailable("no plan now"), shop.server(plan=plan)):
        served.replica.refreshed.clear()
        served.replica.next = following
        shop.bell.ring("plan")
        assert served.replica.refreshed.wait(20)
    while served.post("/v1/predict/buy", helpers.request()).json["model"] != "buy@fedcba98":
        pass
    is_over.set()
    thread.join(20)
    assert {status for status, _ in models} == {200}
    assert models[0][1] == "buy@01234567"
    assert b'twofold_plan_refreshes_total{outcome="failed"} 1' in served.get("/metrics").raw
    assert b'twofold_plan_refreshes_total{outcome="ok"} 1' in served.get("/metrics").raw


# The Open Inference Protocol v2


def inputs_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {str: "BYTES", bool: "BOOL", int: "INT64", float: "FP64"}
    return [{"name": name, "datatype": kinds[type(value)], "shape": [1], "data": [value]} for name, value in request.items()]


@pytest.mark.parametrize("path", ["/v2/models/buy", "/v2/models/buy/versions/0123456789abcdef", "/v2/models/buy/versions/01234567"])
def test_infer_answers_as_predict_does(served: Served, helpers: Any, path: str) -> None:
    body = {"id": "mine", "model_name": "buy", "inputs": inputs_of(helpers.request()), "outputs": [{"name": "prediction"}]}
    answer = served.post(f"{path}/infer", body).json
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("buy", "0123456789abcdef", "mine")
    assert answer["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [1], "data": [20.2]}]
    assert served.get(f"{path}/ready").json == {"name": "buy", "ready": True}
    assert served.shop.served[-1].prediction == 20.2


def test_infer_takes_flat_and_nested_data(served: Served, helpers: Any) -> None:
    def body(price: Any, shape: list[int]) -> dict[str, Any]:
        others = [{**item, "data": item["data"] * 2, "shape": [2]} for item in inputs_of(helpers.request()) if item["name"] != "price"]
        return {"inputs": [*others, {"name": "price", "datatype": "FP64", "shape": shape, "data": price}]}

    for price, shape in (([1.0, 2], [2]), ([[1.0], [2.0]], [2, 1]), ([1.0, 2.0], [2, 1])):
        assert served.post("/v2/models/buy/infer", body(price, shape)).json["outputs"][0]["data"] == [1.2, 2.2]
    refused = served.post("/v2/models/buy/infer", body([[1.0, 2.0], [3.0, 4.0]], [2, 2]))
    assert (refused.status, "give one value a row" in refused.error) == (400, True)


def test_metadata_and_health(served: Served) -> None:
    for path in ("/v2", "/v2/"):
        assert served.get(path).json["name"] == "twofold"
    assert served.get("/v2/health/live").json == {"live": True, "ready": True}
    assert served.get("/v2/health/ready").json == {"live": True, "ready": True}
    model = served.get("/v2/models/buy").json
    assert (model["name"], model["versions"]) == ("buy", ["0123456789abcdef"])
    assert {item["name"]: item["datatype"] for item in model["inputs"]}["item"] == "INT64"
    assert served.get("/v2/models/empty/ready").status == 503


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "told"),
    [
        ("/v2/models/by/infer", {"inputs": []}, {}, 404, "Did you mean 'buy'"),
        ("/v2/models/buy/versions/9/infer", {"inputs": []}, {}, 404, "version '9' of model 'buy' does not answer here"),
        ("/v2/models/buy/infer", {"inputs": []}, {}, 400, "shop is absent"),
        ("/v2/models/buy/infer", {}, {}, 400, "missing required field `inputs`"),
        ("/v2/models/buy/infer", b"{", {}, 400, "the body is no JSON"),
        ("/v2/models/buy/infer", b'{"id": "\xff"}', {}, 400, "the body is no JSON: it is no UTF-8"),
        ("/v2/models/buy/infer", {"inputs": [{"name": "price", "shape": [1]}]}, {}, 400, "input 'price' has no `data`"),
        ("/v2/models/buy/infer", {"inputs": [{"name": "a", "data": [1]}] * 2}, {}, 400, "two inputs have one name"),
        ("/v2/models/buy/infer", b"xx", {"Inference-Header-Content-Length": "1"}, 400, "binary_data=False"),
        ("/v2/models/empty/infer", {"inputs": [{"name": "x", "data": [1.0]}]}, {}, 503, "run `twofold train empty`"),
    ],
)
def test_bad_calls_of_the_protocol(make_bad: Served, path: str, body: Any, headers: dict[str, str], status: int, told: str) -> None:
    answer = make_bad.post(path, body, headers)
    assert told in answer.error
    assert answer.status == status


def test_large_calls_run_beside_the_event_loop_and_answer_the_same(served: Served, helpers: Any) -> None:
    names: list[str] = []
    assert served.get("/healthz").status == 200  # it has started, and warmed up
    served.shop.predictor.before = lambda: names.append(threading.current_thread().name)
    large = served.post("/v1/predict/buy", helpers.request(price=[float(n) for n in range(2000)])).json
    small = served.post("/v1/predict/buy", helpers.request(price=[1999.0, 0.0])).json
    assert [answer["prediction"] for answer in small] == [large[-1]["prediction"], large[0]["prediction"]]
    assert names[0].startswith("http-read")
    assert not names[1].startswith("http-read")
    refused = served.post("/v1/predict/buy", [helpers.request()] * 1000 + [helpers.request(price="x")])
    assert (refused.status, "refuses request 1000:" in refused.error) == (400, True)


def test_a_store_that_hangs_is_looked_at_once_by_all_who_ask(served: Served) -> None:
    is_over, looks = threading.Event(), []

    def hang() -> None:
        looks.append(1)
        is_over.wait(60)

    served.store.before = hang
    assert [served.get("/readyz").status for _ in range(3)] == [503] * 3
    assert looks == [1]
    is_over.set()
    while served.get("/readyz").status != 200:
        pass
