"""A project whose events come over Kafka: an own topic, topics of others in several formats, poison, restarts; batch equals stream."""

from __future__ import annotations

import http.server
import io
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka_broker import KafkaBroker, why_missing

import twofold as tw
from twofold.errors import DataError, LogMismatch, LogUnavailable
from twofold.instants import to_us
from twofold.log import avro as avro_of_log
from twofold.runtime.facts import facts_of
from twofold.runtime.home import Home
from twofold.runtime.replica import Replica
from twofold.settings import Settings
from twofold.stream.dead_letters import DeadLetter, dead_letters
from twofold.testing.faults import broken_promises

NUMBERS = itertools.count()
SECOND_US = 1_000_000
START_US = to_us("2024-05-01T00:00:00Z")

orders = tw.Events("orders", time="at", id="order", schema={"order": str, "shop": str, "price": float, "tags": list[str]})
shop = tw.View("shop", orders, by="shop", features={"n": tw.count(), "price": tw.sum("price")})
project = tw.Project("orders", views=[shop])


def order(number: int, **changes: Any) -> dict[str, Any]:
    row = {"order": f"o{number}", "shop": "ab"[number % 2], "price": 1.5 + number, "tags": ["x"], "at": START_US + number * SECOND_US}
    return row | changes


@pytest.fixture
def clock() -> tw.ManualClock:
    return tw.ManualClock(START_US + 3600 * SECOND_US)


@pytest.fixture
def topic(kafka: KafkaBroker) -> str:
    name = f"orders{next(NUMBERS)}.v1"
    admin = AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    admin.create_topics([NewTopic(name, 3)])[name].result()
    return name


@pytest.fixture
def opened(kafka: KafkaBroker, tmp_path: Path, clock: tw.ManualClock) -> Iterator[Callable[..., Any]]:
    """Opens the project on the broker, always with the same home and prefix."""
    prefix, handles = f"whole{next(NUMBERS)}.", []

    def open_project(**table: Any) -> Any:
        sources = {"orders": table} if table else {}
        log = f"kafka://{kafka.servers}?prefix={prefix}"
        handles.append(project.open(home=tmp_path / "home", clock=clock, log=log, partitions=4, sources=sources))
        handles[-1].build_missing()
        return handles[-1]

    yield open_project
    for handle in handles:
        handle.close()


def produce(kafka: KafkaBroker, topic: str, *payloads: bytes | None) -> None:
    """As somebody else does it: keys and partitions of his own, the broker's clock far from ours."""
    producer = Producer({"bootstrap.servers": kafka.servers, "log_level": 0})
    for number, payload in enumerate(payloads):
        producer.produce(topic, payload, key=b"%d" % number, partition=number % 3, timestamp=START_US // 1000 + 3600_000)
    assert producer.flush(20) == 0


def letters(handle: Any) -> list[DeadLetter]:
    with handle.home.store.snapshot() as snapshot:
        return sorted(dead_letters(snapshot, 4), key=lambda letter: (letter.partition, letter.offset))


def totals(handle: Any) -> list[tuple[Any, ...]]:
    return handle.features("shop", ["a", "b"]).rows()


def by_history(handle: Any, clock: tw.ManualClock) -> list[tuple[Any, ...]]:
    """The same by the batch layer alone."""
    spine = [{"shop": key, "at": clock.now_us()} for key in "ab"]
    return handle.history("shop", spine).select("shop", "n_all", "price_all").rows()


def expected(*rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    of_shops = {key: [row["price"] for row in rows if row["shop"] == key] for key in "ab"}
    return [(key, len(prices), sum(prices)) for key, prices in of_shops.items()]


def test_a_topic_of_ours_from_append_to_features_and_through_a_build(opened: Callable[..., Any], clock: tw.ManualClock) -> None:
    handle = opened()
    first = [order(number) for number in range(20)]
    position = handle.append("orders", first)
    assert sum(position.offsets.values()) == 20
    assert handle.catch_up() == 20
    assert totals(handle) == expected(*first) == by_history(handle, clock)
    handle.append("orders", first)  # the same ids again count once
    handle.build()
    import polars as pl

    more = [order(number) for number in range(20, 30)]
    handle.append("orders", pl.DataFrame(more, schema_overrides={"at": pl.Datetime("us", "UTC")}))
    handle.catch_up()
    assert totals(handle) == expected(*first, *more) == by_history(handle, clock)
    again = opened()
    assert totals(again) == expected(*first, *more)
    assert again.status().dead_letters == 0


def test_records_of_ours_can_be_read_by_others(kafka: KafkaBroker, opened: Callable[..., Any]) -> None:
    handle = opened()
    position = handle.append("orders", order(1, at="2024-05-01T00:00:01Z"))
    ((_, partition),) = position.offsets
    (batch,) = handle.home.log.read("orders", partition, 0, 1)
    assert json.loads(batch.payload) == order(1)


def test_a_json_topic_of_others_with_poison_in_it(
    kafka: KafkaBroker, opened: Callable[..., Any], topic: str, clock: tw.ManualClock
) -> None:
    handle = opened(topic=topic)
    good = [order(number, at="2024-05-01T00:00:01Z", more={"not": "ours"}) for number in range(6)]
    poison = {
        b"": "",
        b"\xff\xfe": "",
        b"[1, 2]": "",
        json.dumps({key: value for key, value in order(1).items() if key != "price"}).encode(): "price is absent",
        json.dumps(order(1, price="dear")).encode(): "price is 'dear', not a float",
        json.dumps(order(1, at=None)).encode(): "at is null",
        json.dumps(order(1, at="2024-05-01T00:00:01")).encode(): "at is 2024-05-01T00:00:01, which has no zone",
        json.dumps(order(1, tags=[1])).encode(): "tags in element 0 is 1, not a text",
        b'{"order": "o", ' + b'"shop": "a", "price": 1e999, "tags": null, "at": 5}': "Number out of range",
    }
    payloads = [json.dumps(row).encode() for row in good]
    mixed = [payload for pair in itertools.zip_longest(poison, payloads) for payload in pair if payload is not None]
    produce(kafka, topic, *mixed)
    assert handle.catch_up() == len(mixed)
    assert totals(handle) == expected(*good) == by_history(handle, clock)
    found = letters(handle)
    assert [letter.count for letter in found] == [1] * len(poison)
    for payload, reason in poison.items():
        (letter,) = [letter for letter in found if letter.payload == _base64(payload)]
        assert reason in letter.reason
        assert letter.reason.startswith("cannot be decoded: ")
        assert len(letter.reason) > len("cannot be decoded: ")
    handle.build()
    assert totals(handle) == expected(*good)
    handle.append("orders", order(7))
    handle.catch_up()
    assert totals(handle) == expected(*good, order(7))


def _base64(payload: bytes) -> str:
    import base64

    return base64.b64encode(payload).decode()


@pytest.mark.parametrize("tombstones", ["error", "skip"])
def test_tombstones_are_dead_letters_or_no_events_and_the_balance_holds(
    kafka: KafkaBroker, opened: Callable[..., Any], topic: str, tombstones: str, clock: tw.ManualClock
) -> None:
    handle = opened(topic=topic, tombstones=tombstones)
    rows = [order(number) for number in range(10)]
    payloads = [json.dumps(row).encode() for row in rows]
    produce(kafka, topic, None, *payloads[:5], None, None, *payloads[5:], *[None] * 6)
    handle.catch_up()
    buried = 9 if tombstones == "error" else 0
    assert totals(handle) == expected(*rows) == by_history(handle, clock)
    assert len(letters(handle)) == buried
    assert all("see `tombstones` of [sources.<name>]" in letter.reason for letter in letters(handle))
    facts, _ = facts_of(handle.home, ["orders"])
    assert sum(part.counts.events for part in facts) == len(rows) + buried
    assert sum(part.counts.applied for part in facts) == len(rows)
    assert sum(part.counts.undecodable for part in facts) == buried
    assert sum(part.lag for part in facts) == 0
    handle.build()
    assert totals(handle) == expected(*rows) == by_history(handle, clock)
    assert broken_promises(handle, []) == []


def test_absent_fields_may_be_null(kafka: KafkaBroker, opened: Callable[..., Any], topic: str) -> None:
    handle = opened(topic=topic, absent="null")
    produce(kafka, topic, b'{"order": "1", "shop": "a", "at": 5}', b'{"order": "2", "shop": "a"}')
    handle.catch_up()
    assert [letter.reason for letter in letters(handle)] == ["cannot be decoded: at is null; every event has an instant"]
    assert totals(handle)[0] == ("a", 1, 0.0)


def decode_bars(payload: bytes) -> dict[str, Any]:
    """A format of one's own: fields between bars."""
    name, shop, price, seconds = payload.decode().split("|")
    return {"order": name, "shop": shop, "price": float(price), "tags": None, "at": START_US + int(seconds) * SECOND_US}


def test_a_format_of_ones_own(
    kafka: KafkaBroker, opened: Callable[..., Any], topic: str, monkeypatch: pytest.MonkeyPatch, clock: tw.ManualClock
) -> None:
    monkeypatch.setitem(sys.modules, "bars", sys.modules[__name__])
    handle = opened(topic=topic, format="bars:decode_bars")
    produce(kafka, topic, b"o1|a|2.5|1", b"o2|b|x|1", b"o3|a|1|2", b"\xff")
    handle.catch_up()
    assert totals(handle) == expected({"shop": "a", "price": 2.5}, {"shop": "a", "price": 1.0}) == by_history(handle, clock)
    reasons = [letter.reason for letter in letters(handle)]
    assert len(reasons) == 2
    assert any("ValueError: could not convert string to float: 'x'" in reason for reason in reasons)
    with pytest.raises(DataError, match="which Twofold does not write"):
        handle.append("orders", order(1))


SCHEMAS: dict[int, Any] = {
    7: {
        "type": "record",
        "name": "Order",
        "fields": [
            {"name": "order", "type": "string"},
            {"name": "shop", "type": "string"},
            {"name": "price", "type": ["null", "double"]},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        ],
    },
    8: {"type": "record", "name": "Order", "fields": [{"name": "order", "type": "string"}]},
}


class Registry(http.server.BaseHTTPRequestHandler):
    """Speaks as much as is asked of a schema registry."""

    asked: list[str]
    is_ill = False
    rubbish: tuple[int, bytes] | None = None

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.rubbish:
            self.send_response(self.rubbish[0])
            self.end_headers()
            self.wfile.write(self.rubbish[1])
            return
        number = int(self.path.rsplit("/", 1)[1])
        known = number in SCHEMAS and self.path.startswith("/schemas/ids/")
        self.send_response(503 if type(self).is_ill else 200 if known else 404)
        self.end_headers()
        unknown = {"error_code": 40403, "message": f"Schema {number} not found"}
        self.wfile.write(json.dumps({"schema": json.dumps(SCHEMAS[number])} if known else unknown).encode())

    def log_message(self, *words: Any) -> None: ...


@pytest.fixture
def registry() -> Iterator[tuple[str, type[Registry]]]:
    handler = type("Handler", (Registry,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def avro(number: int, row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMAS[number]), row)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def test_an_avro_topic_with_a_schema_registry(
    kafka: KafkaBroker, opened: Callable[..., Any], topic: str, registry: tuple[str, type[Registry]], clock: tw.ManualClock
) -> None:
    url, handler = registry
    handle = opened(topic=topic, format="avro", schema_registry=url)
    good = [order(number) for number in range(9)]
    payloads = [avro(7, row) for row in good]
    poison = {b"": "zero byte", b"\1" + payloads[0][1:]: "zero byte", payloads[1][:-3]: "", payloads[2] + b"x": "1 bytes follow"}
    poison |= {avro(8, {"order": "o"}): "shop is absent", b"\0\0\0\0\x63" + b"x": "schema 99 is not in the registry"}
    produce(kafka, topic, *payloads[:5], *poison, *payloads[5:])
    handler.is_ill = True
    with pytest.raises(LogUnavailable, match="did not give schema 7: HTTP 503"):
        handle.catch_up()
    assert letters(handle) == []
    handler.is_ill = False
    handler.asked.clear()
    handle.catch_up()
    assert totals(handle) == expected(*good) == by_history(handle, clock)
    found = {letter.payload: letter.reason for letter in letters(handle)}
    assert len(found) == len(poison)
    for payload, reason in poison.items():
        assert reason in found[_base64(payload)]
    assert [handler.asked.count(f"/schemas/ids/{number}") for number in (7, 8)] == [1, 1]


def test_a_schema_that_is_not_there_is_asked_for_once_in_a_while_and_found_when_it_comes(
    kafka: KafkaBroker, opened: Callable[..., Any], topic: str, registry: tuple[str, type[Registry]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = registry
    handle = opened(topic=topic, format="avro", schema_registry=url)
    rows = [order(number) for number in range(40)]
    records = [payload[:1] + (9).to_bytes(4, "big") + payload[5:] for payload in (avro(7, row) for row in rows)]
    produce(kafka, topic, *records[:30])
    handle.catch_up()
    assert handler.asked == ["/schemas/ids/9"]
    assert {letter.reason for letter in letters(handle)} == {f"cannot be decoded: schema 9 is not in the registry {url}"}
    assert len(letters(handle)) == 30
    monkeypatch.setitem(SCHEMAS, 9, SCHEMAS[7])
    monkeypatch.setattr(avro_of_log, "_REFUSED_S", 0.0)
    produce(kafka, topic, *records[30:])
    handle.catch_up()
    assert handler.asked == ["/schemas/ids/9"] * 2
    assert totals(handle) == expected(*rows[30:])
    assert len(letters(handle)) == 30


@pytest.mark.parametrize(
    "rubbish",
    [(404, b"default backend - 404"), (404, b"{}"), (200, b"<html>Sign in</html>"), (200, b"null"), (200, b'{"schema": null}'), (200, b"")],
)
def test_what_a_proxy_says_in_place_of_the_registry_makes_no_dead_letters(
    kafka: KafkaBroker, opened: Callable[..., Any], topic: str, registry: tuple[str, type[Registry]], rubbish: tuple[int, bytes]
) -> None:
    url, handler = registry
    handle = opened(topic=topic, format="avro", schema_registry=url)
    produce(kafka, topic, avro(7, order(1)))
    handler.rubbish = rubbish
    with pytest.raises(LogUnavailable, match="did not give schema 7: "):
        handle.catch_up()
    handler.rubbish = None
    handle.catch_up()
    assert (totals(handle), letters(handle)) == (expected(order(1)), [])


def test_markers_of_transactions_leave_no_lag_and_no_hole(
    kafka: KafkaBroker, opened: Callable[..., Any], topic: str, clock: tw.ManualClock
) -> None:
    handle = opened(topic=topic)
    producer = Producer({"bootstrap.servers": kafka.servers, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    for number, is_committed in enumerate([True, False, True, False]):
        producer.begin_transaction()
        producer.produce(topic, json.dumps(order(number)).encode(), partition=1, timestamp=clock.now_us() // 1000)
        producer.flush(20)
        (producer.commit_transaction if is_committed else producer.abort_transaction)(20)
    until(lambda: handle.home.log.end_offsets(["orders"])["orders", 1] == 8)  # the last marker may come later
    assert handle.catch_up() == 2
    assert handle.catch_up() == 0
    (source,) = handle.status().sources
    assert (source.end, source.applied) == (8, 8)
    assert totals(handle) == expected(order(0), order(2)) == by_history(handle, clock)
    handle.build()
    assert handle.home.tables.archived("orders", 1) == 8
    assert totals(handle) == expected(order(0), order(2)) == by_history(handle, clock)


def test_a_worker_outlives_a_broker_that_is_killed(tmp_path: Path, clock: tw.ManualClock, capsys: pytest.CaptureFixture[str]) -> None:
    if reason := why_missing():
        pytest.skip(reason)
    (tmp_path / "broker").mkdir()
    broker, ended = KafkaBroker(tmp_path / "broker"), threading.Event()
    handle = project.open(home=tmp_path / "home", clock=clock, log=f"kafka://{broker.servers}", kafka={"socket.timeout.ms": 2000})
    worker = threading.Thread(target=handle.stream, args=(ended.is_set,))
    try:
        handle.build_missing()
        rows = [order(number) for number in range(4)]
        handle.append("orders", rows[:2])
        worker.start()
        until(lambda: totals(handle) == expected(*rows[:2]))
        broker.kill()
        told: list[str] = []
        until(lambda: bool(told.append(capsys.readouterr().err) or "will be tried again: " in "".join(told)))
        broker.start()
        handle.append("orders", rows)
        until(lambda: totals(handle) == expected(*rows))
        assert handle.status().dead_letters == 0
    finally:
        ended.set()
        worker.join(30)
        handle.close()
        broker.kill()


def cut(segment: Path, offset: int) -> None:
    """Take a segment's record batches from an offset on away, and what the broker would know them by."""
    raw, at = segment.read_bytes(), 0
    while int.from_bytes(raw[at : at + 8], "big") < offset:
        at += 12 + int.from_bytes(raw[at + 8 : at + 12], "big")
    segment.write_bytes(raw[:at])
    for path in (segment.with_suffix(".index"), segment.with_suffix(".timeindex"), *segment.parent.parent.glob("recovery-point-*")):
        path.unlink()
    (segment.parent.parent / ".kafka_cleanshutdown").unlink()


def test_a_replica_that_starts_while_no_broker_answers_serves_what_was_applied(tmp_path: Path, clock: tw.ManualClock) -> None:
    if reason := why_missing():
        pytest.skip(reason)
    (tmp_path / "broker").mkdir()
    broker = KafkaBroker(tmp_path / "broker")
    log = f"kafka://{broker.servers}?prefix=replica."
    try:
        with project.open(home=tmp_path / "home", clock=clock, log=log, partitions=2) as handle:
            handle.build()
            handle.append("orders", [order(number) for number in range(6)])
            handle.catch_up()
        broker.kill()
        home = Home(Settings(home=tmp_path / "home", log=log), clock)
        replica = Replica(home)
        assert [answer.values[0] for answer in replica.reader.features("shop", [("a",), ("b",)])] == [3, 3]
        with pytest.raises(LogUnavailable):
            replica.ingest("orders", [order(6)])
        broker.start()
        position = replica.ingest("orders", [order(6)])
        assert (position.log, replica.lag()) == (replica.reader.log_uuid, 1)
        replica.close()
        home.close()
    finally:
        broker.kill()


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_tail_that_was_lost_and_is_overgrown_is_noticed_by_the_next_worker(tmp_path: Path, clock: tw.ManualClock, is_lost: bool) -> None:
    """As after the election of a leader that lacks it: the offsets that were applied are there again, with other events."""
    if reason := why_missing():
        pytest.skip(reason)
    (tmp_path / "broker").mkdir()
    broker = KafkaBroker(tmp_path / "broker")

    def opened() -> Any:
        return project.open(home=tmp_path / "home", clock=clock, log=f"kafka://{broker.servers}?prefix=tail.")

    try:
        with opened() as handle:
            handle.build_missing()
            for number in range(6):
                handle.append("orders", order(number))
            assert handle.catch_up() == 6
        assert broker.process is not None
        broker.process.terminate()
        broker.process.wait()
        if is_lost:
            cut(tmp_path / "broker" / "data" / "tail.orders-0" / f"{0:020}.log", 3)
        broker.start()
        with opened() as handle:
            for number in range(10, 16):
                handle.append("orders", order(number))
            if is_lost:
                with pytest.raises(LogMismatch, match="the event at offset 5 of orders/0 is not the one that the store has applied"):
                    handle.catch_up()
            else:
                assert handle.catch_up() == 6
                assert totals(handle) == expected(*(order(number) for number in (*range(6), *range(10, 16))))
    finally:
        broker.kill()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_follows_without_a_bell(kafka: KafkaBroker, opened: Callable[..., Any], topic: str) -> None:
    handle = opened(topic=topic)
    handle.catch_up()
    ended = threading.Event()
    worker = threading.Thread(target=handle.stream, args=(ended.is_set,))
    worker.start()
    try:
        for number in range(3):
            produce(kafka, topic, json.dumps(order(number)).encode())
            rows = [order(each) for each in range(number + 1)]
            until(lambda rows=rows: totals(handle) == expected(*rows))  # type: ignore[misc]
    finally:
        ended.set()
        worker.join(20)
