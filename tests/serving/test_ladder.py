"""The ladder: who answers when parts fail, hang or lie; what is never covered up; and that every answer is recorded before it is given."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

import twofold as tw
from twofold.errors import (
    Corrupt,
    DataError,
    DeadlineExceeded,
    LogMismatch,
    NotBuilt,
    SchemaMismatch,
    StoreUnavailable,
    Unavailable,
    UnknownName,
)
from twofold.instants import to_us
from twofold.log.base import Position
from twofold.plan import layout
from twofold.plan.served import Served, decode_served, encode_served
from twofold.serve.cache import Cached, PredictionCache
from twofold.serve.deadline import Deadline, InThreads
from twofold.store.lmdb import LmdbStore
from twofold.store.records import record_of

NOON = to_us("2024-05-01T12:00:00Z")
DEFAULT = [tw.Cached(max_age="1h"), tw.Default(0.25)]


class Failing:
    """A real store that can be made to fail."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.before: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def snapshot(self) -> Any:
        self.before()
        return self.store.snapshot()


def failure(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.fixture
def shop(make_shop: Any) -> Any:
    return make_shop(fallback=DEFAULT)


@pytest.fixture
def store(shop: Any) -> Failing:
    return Failing(shop.store)


def test_the_live_model_answers(shop: Any, helpers: Any) -> None:
    [answer] = shop.server().predict("buy", [helpers.request()])
    assert answer["prediction"] == 20.2
    assert list(answer) == ["id", "prediction", "served_by", "model", "at", "position", "degraded", "views"]
    assert (answer["served_by"], answer["model"], answer["at"]) == ("live", "buy@01234567", "2024-05-01T12:00:00Z")
    assert answer["degraded"] is None
    assert Position.parse(answer["position"]).offsets == shop.log.end_offsets(["sales", "visits"])
    assert answer["views"]["shop"] == {"status": "present", "age_s": 300.0}
    assert list(answer["views"]) == ["shop", "rival", "item", "nightly", "everybody", "owners"]


def test_one_row_and_many_give_the_same(shop: Any, helpers: Any) -> None:
    requests = [helpers.request(price=price) for price in (1.0, 2.0, None)]
    server = shop.server()
    many = server.predict("buy", requests)
    assert [answer["prediction"] for answer in many] == [server.predict("buy", [one])[0]["prediction"] for one in requests]
    assert len({answer["id"] for answer in many}) == 3
    assert server.predict("buy", []) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (StoreUnavailable("gone"), "store unavailable"),
        (Corrupt("lies"), "store corrupt"),
        (OSError("disk"), "model failed: OSError"),
    ],
)
def test_a_failing_store_falls_to_the_cache_then_to_the_default(
    shop: Any, store: Failing, helpers: Any, error: Exception, why: str
) -> None:
    server = shop.server(store)
    server.predict("buy", [helpers.request()])
    shop.clock.advance("30m")
    store.before = failure(error)
    known, unknown = server.predict("buy", [helpers.request(), helpers.request(price=1.0)])
    assert (known["prediction"], known["served_by"], known["degraded"]) == (20.2, "cached", why)
    assert known["at"] == "2024-05-01T12:00:00Z", "the instant that the prediction was made for"
    assert (unknown["prediction"], unknown["served_by"], unknown["degraded"]) == (0.25, "default", why)
    assert unknown["at"] == "2024-05-01T12:30:00Z"
    assert (known["position"], known["views"]) == (None, {})
    store.before = lambda: None
    assert server.predict("buy", [helpers.request()])[0]["served_by"] == "live"


@pytest.mark.parametrize(
    ("advance", "at", "rung"),
    [
        ("1h", None, "cached"),
        ("3600000001us", None, "default"),
        ("1us", "2024-05-01T13:00:00Z", "cached"),
        ("1us", "2024-05-01T13:00:00.000001Z", "default"),
        ("1us", "2024-05-01T12:00:00Z", "cached"),
        ("1us", "2024-05-01T11:59:59Z", "default"),
    ],
)
def test_a_cached_prediction_is_young_enough_and_never_of_a_later_instant(
    shop: Any, store: Failing, helpers: Any, advance: str, at: str | None, rung: str
) -> None:
    server = shop.server(store)
    server.predict("buy", [helpers.request()])
    shop.clock.advance(advance)
    store.before = failure(StoreUnavailable("gone"))
    assert server.predict("buy", [helpers.request()], None if at is None else to_us(at))[0]["served_by"] == rung


def test_the_rungs_are_tried_in_their_order(make_shop: Any, helpers: Any) -> None:
    shop = make_shop(fallback=[tw.Default(0.5), tw.Cached(max_age="1h")])
    store = Failing(shop.store)
    server = shop.server(store)
    server.predict("buy", [helpers.request()])
    store.before = failure(StoreUnavailable("gone"))
    assert server.predict("buy", [helpers.request()])[0]["served_by"] == "default"


def test_a_fallback_answer_is_not_cached(shop: Any, store: Failing, helpers: Any) -> None:
    server = shop.server(store)
    store.before = failure(StoreUnavailable("gone"))
    assert [server.predict("buy", [helpers.request()])[0]["served_by"] for _ in range(2)] == ["default", "default"]


def test_without_a_rung_left_the_error_is_told(make_shop: Any, helpers: Any) -> None:
    shop = make_shop(fallback=[tw.Cached(max_age="1h")])
    store = Failing(shop.store)
    server = shop.server(store)
    server.predict("buy", [helpers.request()])
    store.before = failure(StoreUnavailable("gone"))
    assert server.predict("buy", [helpers.request()])[0]["served_by"] == "cached"
    with pytest.raises(StoreUnavailable, match="gone"):
        server.predict("buy", [helpers.request(), helpers.request(price=1.0)])
    store.before = lambda: None
    shop.predictor.error = ZeroDivisionError("why")
    with pytest.raises(Unavailable, match="model 'buy' failed and has no fallback that can answer: ZeroDivisionError: why"):
        server.predict("buy", [helpers.request(price=1.0)])


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), DataError("columns"), MemoryError()])
def test_a_failing_predictor_falls(shop: Any, helpers: Any, error: Exception) -> None:
    shop.predictor.error = error
    [answer] = shop.server().predict("buy", [helpers.request()])
    assert (answer["served_by"], answer["degraded"]) == ("default", f"model failed: {type(error).__name__}")


@pytest.mark.parametrize("price", [1.5e308])
def test_a_prediction_that_is_no_number_falls(shop: Any, helpers: Any, price: float) -> None:
    shop.predictor.predict = lambda matrix: matrix[:, 2] * 10  # type: ignore[method-assign]
    shop.predictor.predict_one = lambda row: float(row[2] * 10)  # type: ignore[method-assign]
    with pytest.warns(RuntimeWarning, match="overflow"):
        [answer] = shop.server().predict("buy", [helpers.request(price=price)])
    assert (answer["served_by"], answer["degraded"]) == ("default", "model failed: ArithmeticError")


def test_a_predictor_that_cannot_be_loaded_leaves_the_rungs_below_it(shop: Any, helpers: Any) -> None:
    error = Corrupt("artifact")

    def load(_: Any) -> Any:
        raise error

    server = shop.server(load=load)
    depths = []
    for _ in range(3):
        [answer] = server.predict("buy", [helpers.request()])
        assert (answer["served_by"], answer["degraded"]) == ("default", "store corrupt")
        depths.append(sum(1 for _ in traceback.walk_tb(error.__traceback__)))
    assert server.not_loaded() == ["model buy@01234567: artifact"]
    assert len(set(depths)) == 1, "the error of the load does not grow with each call"


def test_changed_bytes_are_noticed_and_fall(make_shop: Any, helpers: Any, tmp_path: Any) -> None:
    lmdb = LmdbStore(tmp_path / "store", map_size=64 << 20)
    shop = make_shop(lmdb, fallback=DEFAULT)
    lie = _changed(lmdb, shop)
    [answer] = shop.server().predict("buy", [helpers.request()])
    assert (answer["served_by"], answer["degraded"]) == ("default", "store corrupt"), lie
    assert shop.server().predict("buy", [helpers.request(shop="west", rival=None)])[0]["served_by"] == "live"
    lmdb.close()


def _changed(lmdb: LmdbStore, shop: Any) -> bytes:
    """One bit of north's delta, changed below the store."""
    with lmdb.snapshot() as snapshot:
        deltas = [item for partition in range(2) for item in snapshot.scan(layout.deltas_of(partition))]
        [(key, value)] = [item for item in deltas if b"north" in item[0] and shop.plan.views["shop"].version.encode() in item[0]]
    record = bytearray(record_of(key, key, value))
    record[20] ^= 1
    with lmdb._environment.inner.begin(write=True) as txn:
        txn.put(key, bytes(record))
    return bytes(record)


# What does not fall


def test_bad_requests_unknown_names_and_unbuilt_views_are_never_covered_up(shop: Any, store: Failing, helpers: Any, bell: Any) -> None:
    server = shop.server(store)
    store.before = failure(StoreUnavailable("gone"))
    with pytest.raises(SchemaMismatch, match="price is 'x'"):
        server.predict("buy", [helpers.request(price="x")])
    with pytest.raises(UnknownName, match="Did you mean 'buy'"):
        server.predict("buyy", [helpers.request()])
    with pytest.raises(DataError, match=r"has no output 'clas'; it has probability, class. Did you mean 'class'"):
        server.predict("buy", [helpers.request()], output="clas")
    with pytest.raises(LogMismatch):
        server.predict("buy", [helpers.request()], after=Position("other", {}))
    new = type(shop)(type(shop.store)(), bell, fallback=DEFAULT)
    with pytest.raises(NotBuilt, match="never been built"):
        new.server().predict("buy", [helpers.request()])
    with pytest.raises(NotBuilt, match="'empty' has no version that answers: run `twofold train empty`"):
        server.predict("empty", [{"x": 1.0}])


@pytest.mark.parametrize(("output", "given"), [(None, 0.25), ("probability", 0.25), ("class", False)])
def test_a_model_that_is_not_trained_answers_by_its_default(make_shop: Any, helpers: Any, output: str | None, given: Any) -> None:
    """From the first minute, and it says so; no features are read for it."""
    shop = make_shop(fallback=DEFAULT)
    store = Failing(shop.store)
    store.before = failure(StoreUnavailable("gone"))
    server = shop.server(store, plan=shop.project.serving)
    answers = server.predict("buy", [helpers.request(), helpers.request(price=1.0)], output=output)
    assert [(found["prediction"], found["served_by"], found["model"]) for found in answers] == [(given, "default", "buy")] * 2
    assert answers[0]["degraded"] == "not trained"
    assert [(record.version, record.served_by, record.prediction) for record in shop.served] == [(None, "default", given)] * 2
    with pytest.raises(DataError, match=r"has no output 'clas'; it has probability, class, value. Did you mean 'class'"):
        server.predict("buy", [helpers.request()], output="clas")


def test_the_classes_of_several_labels_need_a_trained_model(make_shop: Any, helpers: Any) -> None:
    shop = make_shop(fallback=[tw.Default({"late": 0.5, "tips": 3.0})])
    model = msgspec.structs.replace(shop.project.serving.models["buy"], labels=("late", "tips"))
    server = shop.server(plan=msgspec.structs.replace(shop.project.serving, models={"buy": model}))
    assert server.predict("buy", [helpers.request()])[0]["prediction"] == {"late": 0.5, "tips": 3.0}
    with pytest.raises(NotBuilt, match="run `twofold train buy`"):
        server.predict("buy", [helpers.request()], output="class")


# Output


@pytest.mark.parametrize(
    ("output", "price", "given"), [(None, 0.5, 0.7), ("probability", 0.5, 0.7), ("class", 0.4, True), ("class", 0.1, False)]
)
def test_output(shop: Any, helpers: Any, output: str | None, price: float, given: Any) -> None:
    [answer] = shop.server().predict("buy", [helpers.request(price=price)], output=output)
    assert answer["prediction"] == given
    assert shop.served[-1].prediction == given


def test_the_rungs_below_give_the_same_output(shop: Any, store: Failing, helpers: Any) -> None:
    server = shop.server(store)
    server.predict("buy", [helpers.request()], output="class")
    store.before = failure(StoreUnavailable("gone"))
    assert server.predict("buy", [helpers.request(), helpers.request()])[0]["prediction"] == 20.2
    assert [a["prediction"] for a in server.predict("buy", [helpers.request(), helpers.request(price=0.0)], output="class")] == [
        True,
        False,
    ]


# Deadlines


def test_a_store_that_hangs_is_left_behind_at_the_deadline(shop: Any, store: Failing, helpers: Any) -> None:
    is_over = threading.Event()
    server = shop.server(store, isolation=InThreads(2))
    assert server.predict("buy", [helpers.request(price=1.0)])[0]["served_by"] == "live"
    store.before = is_over.wait  # type: ignore[assignment]
    for _ in range(3):  # the third finds both threads taken
        [answer] = server.predict("buy", [helpers.request()], deadline_us=20_000)
        assert (answer["served_by"], answer["degraded"]) == ("default", "deadline")
    with pytest.raises(DeadlineExceeded, match="the deadline of 20ms passed while"):
        server.features("shop", ["north"], None, Deadline(20_000))
    is_over.set()
    assert server.predict("buy", [helpers.request()], deadline_us=5_000_000)[0]["served_by"] == "live"


def test_errors_come_out_of_the_threads_as_they_are(shop: Any, store: Failing, helpers: Any) -> None:
    server = shop.server(store, isolation=InThreads(1))
    store.before = failure(TimeoutError("the store's own"))
    [answer] = server.predict("buy", [helpers.request()])
    assert answer["degraded"] == "model failed: TimeoutError"


def test_a_predictor_that_hangs_is_left_behind(shop: Any, helpers: Any) -> None:
    is_over = threading.Event()
    shop.predictor.before = is_over.wait
    [answer] = shop.server(isolation=InThreads(1)).predict("buy", [helpers.request()], deadline_us=20_000)
    assert (answer["served_by"], answer["degraded"]) == ("default", "deadline")
    is_over.set()


def test_the_model_s_own_deadline_holds(make_shop: Any, helpers: Any) -> None:
    shop = make_shop(fallback=DEFAULT, deadline="1us")
    assert shop.server().predict("buy", [helpers.request()])[0]["degraded"] == "deadline"
    assert shop.server().predict("buy", [helpers.request()], deadline_us=5_000_000)[0]["served_by"] == "live"


# after=


def test_after_waits_until_the_bell_tells_that_it_is_applied(shop: Any, helpers: Any) -> None:
    position = shop.append("sales", helpers.sale(at="11:59:00"))
    listening, answers = threading.Event(), []
    listen = shop.bell.listen

    def listen_and_tell(channel: str) -> Any:
        listener = listen(channel)
        listening.set()
        return listener

    shop.bell.listen = listen_and_tell
    server = shop.server()
    thread = threading.Thread(target=lambda: answers.extend(server.predict("buy", [helpers.request()], after=position, deadline_us=10**8)))
    thread.start()
    assert listening.wait(10)
    shop.worker.catch_up()
    thread.join(10)
    assert not thread.is_alive()
    assert answers[0]["served_by"] == "live"
    assert shop.served[0].columns["shop_sales_10m"] == 2, "it reads what was written"


def test_after_without_a_bell_looks_for_itself(shop: Any, helpers: Any) -> None:
    position = shop.append("sales", helpers.sale(at="11:59:00"))
    shop.bell.listen = lambda channel: failure(Unavailable("no sockets here"))()
    server, answers = shop.server(), []
    thread = threading.Thread(target=lambda: answers.extend(server.predict("buy", [helpers.request()], after=position, deadline_us=10**8)))
    thread.start()
    shop.worker.catch_up()
    thread.join(10)
    assert answers[0]["served_by"] == "live"


def test_after_that_is_not_applied_in_time_falls(shop: Any, helpers: Any) -> None:
    position = shop.append("sales", helpers.sale())
    [answer] = shop.server().predict("buy", [helpers.request()], after=position, deadline_us=20_000)
    assert (answer["served_by"], answer["degraded"]) == ("default", "deadline")
    shop.worker.catch_up()
    assert shop.server().predict("buy", [helpers.request()], after=position, deadline_us=5_000_000)[0]["served_by"] == "live"


def test_after_over_a_store_that_fails_falls(shop: Any, store: Failing, helpers: Any) -> None:
    store.before = failure(StoreUnavailable("gone"))
    [answer] = shop.server(store).predict("buy", [helpers.request()], after=shop.append("sales", helpers.sale()))
    assert answer["degraded"] == "store unavailable"


# The record


def test_every_answer_is_recorded_before_it_is_given(shop: Any, store: Failing, helpers: Any) -> None:
    batches: list[Sequence[Served]] = []
    server = shop.server(store, record=batches.append)
    answers = server.predict("buy", [helpers.request(), helpers.request(price=1.0)])
    store.before = failure(StoreUnavailable("gone"))
    answers += server.predict("buy", [helpers.request(), helpers.request(price=7.0)])
    assert [len(batch) for batch in batches] == [2, 2], "one batch a call"
    records = [record for batch in batches for record in batch]
    for answer, record in zip(answers, records, strict=True):
        assert (record.id, record.served_by, record.degraded) == (answer["id"], answer["served_by"], answer["degraded"])
        assert (record.prediction, record.model) == (answer["prediction"], "buy")
    live, cached, default = records[0], records[2], records[3]
    assert live.columns == shop.reader().vectors("buy", [helpers.request()])[0].columns
    assert (live.version, live.at_us, live.answered_us) == ("0123456789abcdef", NOON, NOON)
    assert live.request["asked_at"] == NOON
    assert [cached.served_by, default.served_by] == ["cached", "default"]
    assert (cached.reads, cached.offsets, cached.columns) == ((), {}, {})
    again = decode_served(encode_served(live))
    assert again.columns == live.columns
    assert again.offsets == live.offsets


def test_an_answer_that_cannot_be_recorded_is_given_and_says_so(shop: Any, store: Failing, helpers: Any) -> None:
    def full(_: Sequence[Served]) -> None:
        raise OSError(28, "No space left on device")

    server = shop.server(store, record=full)
    [answer] = server.predict("buy", [helpers.request()])
    assert (answer["prediction"], answer["served_by"], answer["degraded"]) == (20.2, "live", "not recorded")
    store.before = failure(StoreUnavailable("gone"))
    assert server.predict("buy", [helpers.request()])[0]["degraded"] == "store unavailable; not recorded"


def test_views_that_are_ahead_degrade_the_answer(shop: Any, helpers: Any) -> None:
    shop.clock.advance("1h")
    shop.build(at="2024-05-01T13:00:00Z")
    [answer] = shop.server().predict("buy", [helpers.request()], to_us("2024-05-01T12:30:00Z"))
    assert answer["degraded"] == "shop ahead, rival ahead"
    assert answer["views"]["shop"]["status"] == "ahead"


def test_vectors_are_recorded_too(shop: Any, helpers: Any) -> None:
    server = shop.server()
    rows = server.check("buy").rows([helpers.request()])
    [answer] = server.vectors("buy", rows, None, Deadline(10**7))
    assert answer["columns"]["shop_sales_1d"] == 3
    assert answer["columns"]["twice"] == 2.0
    assert list(answer["columns"]) == list(shop.plan.models["buy"].columns)
    assert (shop.served[-1].id, shop.served[-1].prediction) == (answer["id"], None)
    assert server.vectors("empty", [{"x": 1.0}], None, Deadline(10**7))[0]["columns"] == {"x": 1.0}


# A new plan, and the cache


def test_the_cache_outlives_a_promotion_and_says_which_version_it_was(shop: Any, store: Failing, helpers: Any) -> None:
    cache = PredictionCache()
    shop.server(store, cache=cache).predict("buy", [helpers.request()])
    newer = msgspec.structs.replace(shop.plan.models["buy"], version="fedcba9876543210")
    server = shop.server(store, plan=msgspec.structs.replace(shop.plan, models={"buy": newer}), cache=cache)
    store.before = failure(StoreUnavailable("gone"))
    known, unknown = server.predict("buy", [helpers.request(), helpers.request(price=1.0)])
    assert (known["served_by"], known["model"]) == ("cached", "buy@01234567")
    assert (unknown["served_by"], unknown["model"]) == ("default", "buy@fedcba98")


def test_the_cache_is_bounded_and_forgets_the_least_recently_used() -> None:
    cache = PredictionCache(capacity=2)
    for name in ("a", "b"):
        cache.put(name, Cached(1.0, "v", 0))
    assert cache.get("a") is not None
    cache.put("c", Cached(2.0, "v", 0))
    assert (len(cache), cache.get("b")) == (2, None)
    assert cache.get("a") == Cached(1.0, "v", 0)
    cache.put("a", Cached(3.0, "v", 1))
    assert (len(cache), cache.get("a")) == (2, Cached(3.0, "v", 1))
