"""What only a log on Kafka can suffer: topics of others, gaps, deleted records, a broker that dies; on a real broker."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, NewTopic, ResourceType
from kafka_broker import KafkaBroker, why_missing

from twofold.errors import DataError, DefinitionError, LogMismatch, LogUnavailable
from twofold.instants import to_us
from twofold.log import kafka_following
from twofold.log.base import Append
from twofold.log.kafka import KafkaLog
from twofold.log.kafka_settings import JSON, ForeignTopic, KafkaSettings, kafka_settings

NUMBERS = itertools.count()


@pytest.fixture
def prefix() -> str:
    return f"own{next(NUMBERS)}."


@pytest.fixture
def opened(kafka: KafkaBroker, prefix: str) -> Iterator[Callable[..., KafkaLog]]:
    """Opens logs of one prefix, and closes them."""
    logs: list[KafkaLog] = []

    def open_log(partitions: int | None = 1, foreign: str | None = None, **options: Any) -> KafkaLog:
        topics = {} if foreign is None else {"s": ForeignTopic(foreign, JSON)}
        logs.append(KafkaLog(KafkaSettings(kafka.servers, prefix, foreign=topics), partitions, **options))
        return logs[-1]

    yield open_log
    for log in logs:
        log.close()


@pytest.fixture
def topic(kafka: KafkaBroker) -> str:
    """A topic of somebody else, with one partition."""
    name = f"foreign{next(NUMBERS)}"
    admin(kafka).create_topics([NewTopic(name, 1)])[name].result()
    return name


@functools.cache
def admin(kafka: KafkaBroker) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})


def events(*payloads: bytes, source: str = "s", partition: int = 0) -> list[Append]:
    return [Append(source, partition, 1, payload) for payload in payloads]


def produce(kafka: KafkaBroker, topic: str, *payloads: bytes | None, stamps: tuple[int, ...] = ()) -> None:
    """As somebody else does it."""
    producer = Producer({"bootstrap.servers": kafka.servers, "log_level": 0})
    for number, payload in enumerate(payloads):
        producer.produce(topic, payload, partition=0, timestamp=stamps[number] if stamps else 0)
    assert producer.flush(20) == 0


def produce_in_transactions(kafka: KafkaBroker, topic: str, *transactions: tuple[list[bytes], bool]) -> None:
    """Each transaction: its payloads, and whether it is committed; every one ends with a marker that takes an offset."""
    producer = Producer({"bootstrap.servers": kafka.servers, "transactional.id": f"tx-{topic}", "log_level": 0})
    producer.init_transactions(30)
    for payloads, is_committed in transactions:
        producer.begin_transaction()
        for payload in payloads:
            producer.produce(topic, payload, partition=0)
        producer.flush(20)
        if is_committed:
            producer.commit_transaction(20)
        else:
            producer.abort_transaction(20)


def held(log: KafkaLog, offset: int = 0, partition: int = 0) -> list[tuple[int, bytes]]:
    """Everything from an offset on, read as a worker reads."""
    end = log.end_offsets(["s"])["s", partition]
    found: list[tuple[int, bytes]] = []
    while offset < end:
        batches = log.read("s", partition, offset, 3)
        found += [(batch.first_offset, batch.payload) for batch in batches]
        offset = batches[-1].end_offset if batches else end
    return found


def test_events_of_a_topic_of_others_are_read_as_they_are(kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str) -> None:
    produce(kafka, topic, b"one", b"", None, b"four")
    log = opened(partitions=4, foreign=topic)
    assert held(log) == [(0, b"one"), (1, b""), (2, b""), (3, b"four")]
    assert log.end_offsets(["s"]) == {("s", 0): 4, ("s", 1): 0, ("s", 2): 0, ("s", 3): 0}
    assert log.read("s", 3, 0, 10) == []
    assert log.read("s", 0, 0, 1)[0].format == JSON


def test_tombstones_are_no_events_where_the_settings_say_so(kafka: KafkaBroker, prefix: str, topic: str) -> None:
    produce(kafka, topic, None, b"one", b"", *[None] * 20, b"two", None, None)
    table = {"topic": topic, "tombstones": "skip"}
    log = KafkaLog(kafka_settings(f"kafka://{kafka.servers}?prefix={prefix}", {}, {"s": table}))
    assert held(log) == [(1, b"one"), (2, b""), (23, b"two")]
    assert log.end_offsets(["s"])["s", 0] == 26
    for offset in (0, 1):
        assert [batch.first_offset for batch in log.read("s", 0, offset, 1)] == [1]
    assert [batch.first_offset for batch in log.read("s", 0, 3, 2)] == [23]
    assert log.read("s", 0, 24, 10) == []
    log.close()


def test_appending_to_a_topic_with_fewer_partitions_says_where_the_events_are(opened: Callable[..., KafkaLog], topic: str) -> None:
    log = opened(partitions=4, foreign=topic)
    assert log.append(events(b"a", partition=3), 10**15).offsets == {("s", 0): 1}


def test_a_topic_with_more_partitions_than_the_log_is_refused_and_forgotten(
    kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str
) -> None:
    name = f"wide{next(NUMBERS)}"
    admin(kafka).create_topics([NewTopic(name, 3)])[name].result()
    with pytest.raises(DefinitionError, match="has 3 partitions, this log 2; set `partitions` to at least 3"):
        opened(partitions=2, foreign=name).end_offsets(["s"])
    assert opened(partitions=2, foreign=topic).end_offsets(["s"]) == {("s", 0): 0, ("s", 1): 0}


def test_a_topic_that_is_not_there_is_named(opened: Callable[..., KafkaLog]) -> None:
    with pytest.raises(DefinitionError, match=r"\[sources.s\] topic = 'nowhere': .* no such topic"):
        opened(foreign="nowhere").end_offsets(["s"])


def test_a_format_that_is_not_ours_is_read_only(kafka: KafkaBroker, prefix: str, topic: str) -> None:
    settings = kafka_settings(f"kafka://{kafka.servers}?prefix={prefix}", {}, {"s": {"topic": topic, "format": "json:loads"}})
    log = KafkaLog(settings)
    with pytest.raises(DataError, match="in the format 'json:loads', which Twofold does not write"):
        log.append(events(b"a"), 0)
    log.close()


def test_markers_and_aborted_records_are_no_events(kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str) -> None:
    produce_in_transactions(kafka, topic, ([b"a", b"b"], True), ([b"lost"], False), ([b"c"], True), ([b"lost too"], False))
    log = opened(foreign=topic)
    assert held(log) == [(0, b"a"), (1, b"b"), (5, b"c")]
    end = log.end_offsets(["s"])["s", 0]
    assert end == 9
    for offset in (2, 3, 4, 5):
        assert [batch.first_offset for batch in log.read("s", 0, offset, 10)] == [5]
    for offset in (6, 7, 8, 9):
        assert log.read("s", 0, offset, 10) == []


def test_events_of_an_open_transaction_are_not_there_yet(kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.servers, "transactional.id": f"open-{topic}", "log_level": 0})
    producer.init_transactions(30)
    log = opened(foreign=topic)
    produce(kafka, topic, b"before")
    producer.begin_transaction()
    producer.produce(topic, b"a", partition=0)
    producer.flush(20)
    produce(kafka, topic, b"after")
    assert held(log) == [(0, b"before")]
    assert log.end_offsets(["s"])["s", 0] == 1
    producer.commit_transaction(20)  # its marker may come later
    until(lambda: log.end_offsets(["s"])["s", 0] == 4)
    assert held(log, 1) == [(1, b"a"), (2, b"after")]


def test_arrivals_are_the_running_maximum_wherever_a_read_begins(kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str) -> None:
    base = 1_700_000_000_000
    stamps = (5, 3, 9, 9, 1, 2_000_000, 4, 77, 1_999_999, 2_000_001, 0, 2_000_000)
    produce(kafka, topic, *[b"x"] * len(stamps), stamps=tuple(base + stamp for stamp in stamps))
    expected = [(base + stamp) * 1000 for stamp in itertools.accumulate(stamps, max)]
    log = opened(foreign=topic)
    log.end_offsets(["s"])
    for begin in (7, 3, 11, 0, 1, 6, 10, 5, 4, 2, 8, 9):
        assert [batch.arrival_us for batch in log.read("s", 0, begin, 100)] == expected[begin:]


def test_a_timestamp_beyond_the_calendar_is_its_end(kafka: KafkaBroker, opened: Callable[..., KafkaLog]) -> None:
    name, base = f"far{next(NUMBERS)}", 1_700_000_000_000
    any_instant = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    admin(kafka).create_topics([NewTopic(name, 1, config=any_instant)])[name].result()
    produce(kafka, name, *[b"x"] * 4, stamps=(base, base * 1_000_000, 2**63 - 1, base + 1))
    log, end_us = opened(foreign=name), to_us("9999-12-31T23:59:59.999Z")
    log.end_offsets(["s"])
    expected = [base * 1000, end_us, end_us, end_us]
    for begin in (3, 0, 2, 1):
        assert [batch.arrival_us for batch in log.read("s", 0, begin, 100)] == expected[begin:]


def test_records_that_were_deleted_are_told_and_not_passed_over(kafka: KafkaBroker, opened: Callable[..., KafkaLog]) -> None:
    log = opened()
    log.append(events(*[b"%d" % number for number in range(10)]), 10**15)
    assert log.start_offsets(["s", "t"]) == {("s", 0): 0, ("t", 0): 0}
    name = log._topics.topics(["s"])[0].name  # type: ignore[union-attr]
    admin(kafka).delete_records([TopicPartition(name, 0, 6)])[TopicPartition(name, 0, 6)].result()
    assert log.start_offsets(["s"]) == {("s", 0): 6}
    for other in (log, opened()):
        with pytest.raises(LogMismatch, match=r"offset 2 of s/0 lies before the start .* holds 6 to 10.*twofold build"):
            other.read("s", 0, 2, 10)
        assert [batch.first_offset for batch in other.read("s", 0, 6, 10)] == [6, 7, 8, 9]


def test_a_topic_of_ours_keeps_events_of_any_age(kafka: KafkaBroker, opened: Callable[..., KafkaLog]) -> None:
    """Whatever the broker's defaults are: else a replay's events, stamped years ago, would be gone in minutes."""
    log = opened()
    log.append(events(b"1"), 10**15)
    resource = ConfigResource(ResourceType.TOPIC, log._topics.topics(["s"])[0].name)  # type: ignore[union-attr]
    told = admin(kafka).describe_configs([resource])[resource].result()
    expected = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}
    for name, value in expected.items():
        assert (told[name].value, ConfigSource(told[name].source)) == (value, ConfigSource.DYNAMIC_TOPIC_CONFIG)


def test_a_read_may_begin_anywhere_in_what_has_come_already(opened: Callable[..., KafkaLog]) -> None:
    log = opened()
    log.append(events(*[b"%d" % number for number in range(100)]), 10**15)
    end = log.end_offsets(["s"])["s", 0]
    for begin in (0, 5, 5, 40, 39, 99, 0, 98):
        assert [batch.first_offset for batch in log.read("s", 0, begin, 3)] == list(range(begin, min(begin + 3, end)))


def test_a_read_that_failed_has_taken_nothing(opened: Callable[..., KafkaLog], monkeypatch: pytest.MonkeyPatch) -> None:
    opened().append(events(*[b"%d" % number for number in range(100)]), 10**15)
    log = opened()
    log.end_offsets(["s"])

    def refuse(*place: Any) -> Any:
        raise log._clients.unavailable("say what came before")

    with monkeypatch.context() as patched:
        patched.setattr(log._clients, "first_since", refuse)
        with pytest.raises(LogUnavailable):
            log.read("s", 0, 40, 10)
    assert [batch.first_offset for batch in log.read("s", 0, 40, 10)] == list(range(40, 50))


def test_a_partition_that_rests_goes_on_where_what_has_come_is_passed_over(
    opened: Callable[..., KafkaLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_following, "_MOST_BUFFERED", 100)
    monkeypatch.setattr(kafka_following, "_PER_CALL", 50)
    opened().append(events(*[b"x" * 1000] * 1000), 10**15)
    log = opened(timeout_s=3.0)
    log.end_offsets(["s"])
    log.read("s", 0, 0, 1)
    (followed,) = (found for (name, _), found in log._following._followed.items() if name.endswith(".s"))
    while not followed.is_resting:
        log._following._take(0.05)
    assert log.read("s", 0, followed.position, 10)[0].first_offset == followed.begin - 10
    while not followed.is_resting:
        log._following._take(0.05)
    assert log.read("s", 0, 0, 10)[0].first_offset == 0  # and where it goes back


def test_what_nobody_has_read_takes_so_much_memory_at_most(opened: Callable[..., KafkaLog], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_following, "_MOST_BYTES", 1_000_000, raising=False)
    monkeypatch.setattr(kafka_following, "_PER_CALL", 20)
    log = opened(partitions=4)
    for partition in range(4):
        log.append(events(*[b"x" * 10_000] * 200, partition=partition), 10**15)
    assert {len(log.read("s", partition, 0, 1)) for partition in range(4) if log.end_offsets(["s"])} == {1}
    offset = 1
    while offset < 200:
        offset = log.read("s", 0, offset, 10)[-1].end_offset
        held_bytes = sum(len(found.buffer) for found in log._following._followed.values()) * 10_000
        assert held_bytes < 2_000_000
    for partition in range(4):
        assert held(log, partition=partition) == [(number, b"x" * 10_000) for number in range(200)]


def test_a_read_that_was_interrupted_has_taken_nothing(opened: Callable[..., KafkaLog], monkeypatch: pytest.MonkeyPatch) -> None:
    opened().append(events(*[b"%d" % number for number in range(100)]), 10**15)
    log = opened()
    log.end_offsets(["s"])
    log.read("s", 0, 0, 1)

    def interrupt(message: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(kafka_following, "timestamp_ms", interrupt)
        with pytest.raises(KeyboardInterrupt):
            log.read("s", 0, 1, 10)
    assert [batch.first_offset for batch in log.read("s", 0, 1, 10)] == list(range(1, 11))


def test_a_partition_that_was_refused_once_does_not_end_every_wait(opened: Callable[..., KafkaLog]) -> None:
    log = opened()
    log.append(events(b"a"), 10**15)
    log.end_offsets(["s"])
    until(lambda: log.wait(0.1))  # the control topic says that the source has come
    until(lambda: not log.wait(0.1))
    for followed in log._following._followed.values():
        followed.refusal = "the leader was behind"
    assert not log.wait(0.1)


def made_anew(kafka: KafkaBroker, topic: str, *payloads: bytes) -> None:
    """The topic is deleted, and another of its name has other events."""
    admin(kafka).delete_topics([topic])[topic].result()
    until(lambda: topic not in admin(kafka).list_topics(timeout=10).topics)
    admin(kafka).create_topics([NewTopic(topic, 1)])[topic].result()
    until(lambda: topic in admin(kafka).list_topics(timeout=10).topics)
    produce(kafka, topic, *payloads)


@pytest.mark.parametrize("is_waiting", [True, False])
def test_nothing_is_read_of_a_topic_that_is_made_anew_meanwhile(
    kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str, is_waiting: bool
) -> None:
    produce(kafka, topic, b"a", b"b")
    log = opened(foreign=topic)
    assert len(held(log)) == 2
    if is_waiting:
        log.wait(0.1)
    made_anew(kafka, topic, b"u", b"v", b"x", b"y", b"z")
    if is_waiting:
        until(lambda: log.wait(0.1))
    assert log.end_offsets(["s"])["s", 0] == 5
    for _ in range(2):
        with pytest.raises(LogMismatch, match=f"topic '{topic}' of source 's' was deleted and made anew"):
            log.read("s", 0, 2, 10)


def test_a_topic_is_asked_for_once_for_all_that_has_come(
    kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(kafka, topic, *[b"x"] * 1000)
    log, asked = opened(foreign=topic), list[str]()
    log.end_offsets(["s"])
    described = log._topics._described
    monkeypatch.setattr(log._topics, "_described", lambda name: asked.append(name) or described(name))
    for offset in range(1000):
        assert len(log.read("s", 0, offset, 1)) == 1
    assert 1 <= len(asked) <= 10


def test_a_topic_that_a_broker_does_not_know_for_a_moment_is_read_afterwards(
    kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(kafka, topic, b"a", b"b")
    log = opened(foreign=topic)
    assert log.end_offsets(["s"])["s", 0] == 2
    with monkeypatch.context() as patched:
        patched.setattr(log._topics, "_described", lambda name: None)
        with pytest.raises(LogUnavailable, match="it is not there"):
            log.read("s", 0, 0, 10)
    assert len(held(log)) == 2


def test_a_topic_that_was_made_anew_is_not_the_same_log(kafka: KafkaBroker, opened: Callable[..., KafkaLog], topic: str) -> None:
    produce(kafka, topic, b"a", b"b")
    log = opened(foreign=topic)
    assert len(held(log)) == 2
    made_anew(kafka, topic, b"x", b"y", b"z")
    with pytest.raises(LogMismatch, match=f"topic '{topic}' of source 's' was deleted and made anew"):
        opened(foreign=topic).end_offsets(["s"])


def test_a_source_that_moves_to_another_topic_is_told(opened: Callable[..., KafkaLog], topic: str) -> None:
    opened().append(events(b"a"), 0)
    with pytest.raises(LogMismatch, match=r"events of 's' come from topic 'own.*' so far, and the settings now say 'foreign"):
        opened(foreign=topic).end_offsets(["s"])


def test_the_log_is_the_same_for_all_who_make_it_at_once(opened: Callable[..., KafkaLog]) -> None:
    made: list[KafkaLog] = []
    threads = [threading.Thread(target=lambda: made.append(opened(3))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(log.uuid, log.partitions) for log in made} == {(made[0].uuid, 3)}
    assert opened(None).partitions == opened(7).partitions == 3
    positions = [log.append(events(b"x"), 10**15).offsets["s", 0] for log in made]
    assert positions == [1, 2, 3, 4]


def test_two_producers_at_once_lose_and_double_nothing(opened: Callable[..., KafkaLog]) -> None:
    logs = opened(), opened()

    def work(log: KafkaLog, name: bytes) -> None:
        for number in range(20):
            log.append(events(*[b"%s%d/%d" % (name, number, part) for part in range(50)]), 10**15)

    threads = [threading.Thread(target=work, args=(log, name)) for log, name in zip(logs, (b"a", b"b"), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = held(logs[0])
    assert [offset for offset, _ in read] == list(range(2000))
    for name in (b"a", b"b"):
        own = [payload for _, payload in read if payload.startswith(name)]
        assert own == [b"%s%d/%d" % (name, number, part) for number in range(20) for part in range(50)]


def test_a_wait_ends_with_the_first_event_of_a_source_and_with_every_later_one(opened: Callable[..., KafkaLog]) -> None:
    log, other = opened(), opened()
    assert log.end_offsets(["s"]) == {("s", 0): 0}
    assert not log.wait(0.01)
    for number in range(3):
        other.append(events(b"x"), 10**15)
        assert log.wait(30)
        assert log.end_offsets(["s"])["s", 0] == number + 1
        assert not log.wait(0.01)
        assert len(log.read("s", 0, number, 10)) == 1
        assert not log.wait(0.01)


def test_a_wait_for_some_partitions_is_not_ended_by_others(opened: Callable[..., KafkaLog]) -> None:
    log = opened(partitions=2)
    log.append([*events(b"1"), *events(b"1", partition=1)], 10**15)
    log.end_offsets(["s"])
    while log.wait(1.0):  # that the source is there is news, too
        log.end_offsets(["s"])
    log.append(events(b"2"), 10**15)
    assert not log.wait(0.1, [1])
    assert log.wait(30.0, [0])
    log.append(events(b"2", partition=1), 10**15)
    assert log.wait(30.0, [1])


def test_a_wait_does_not_keep_a_reader_out_and_ends_with_close(opened: Callable[..., KafkaLog]) -> None:
    log = opened()
    log.append(events(b"a", b"b"), 10**15)
    log.end_offsets(["s"])
    ended: list[bool] = []

    def wait_on() -> None:
        while log.wait(60):
            log.end_offsets(["s"])
        ended.append(True)

    waiting = threading.Thread(target=wait_on)
    waiting.start()
    assert [offset for offset, _ in held(log)] == [0, 1]
    log.close()
    waiting.join(10)
    assert ended == [True]
    with pytest.raises(LogUnavailable, match="was closed; open it again"):
        log.read("s", 0, 0, 1)


def test_a_forked_child_is_told_to_open_its_own(opened: Callable[..., KafkaLog]) -> None:
    log = opened()
    log.append(events(b"a"), 0)
    assert len(held(log)) == 1
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        log.close()
        try:
            log.read("s", 0, 0, 1)
        except LogUnavailable as error:
            os._exit(7 if "before this process was forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_an_event_larger_than_the_broker_takes_is_told(opened: Callable[..., KafkaLog]) -> None:
    log = opened()
    with pytest.raises(DataError, match="larger than"):
        log.append(events(b"a", os.urandom(3_000_000), b"b"), 0)
    assert [payload for _, payload in held(log)] in ([b"a", b"b"], [b"a"])
    log.append(events(b"c"), 0)
    assert held(log)[-1][1] == b"c"


def test_several_events_in_a_batch_are_refused(opened: Callable[..., KafkaLog]) -> None:
    with pytest.raises(DataError, match="every event is appended by itself"):
        opened().append([Append("s", 0, 2, b"x")], 0)


def test_a_source_whose_name_can_be_no_topic(opened: Callable[..., KafkaLog]) -> None:
    with pytest.raises(DataError, match=r"'own.*a b' can be no topic of Kafka"):
        opened().append(events(b"x", source="a b"), 0)


def test_nobody_there_is_unavailable_with_the_servers(prefix: str) -> None:
    begin = time.monotonic()
    with pytest.raises(LogUnavailable, match=r"Kafka at 127.0.0.1:9 did not .*see whether the broker runs"):
        KafkaLog(KafkaSettings("127.0.0.1:9", prefix), timeout_s=1.0)
    assert time.monotonic() - begin < 10


def test_a_broker_that_is_killed_and_comes_back_is_used_again(tmp_path: Path) -> None:
    if reason := why_missing():
        pytest.skip(reason)
    broker = KafkaBroker(tmp_path)
    try:
        log = KafkaLog(KafkaSettings(broker.servers, "mortal."), timeout_s=2.0)
        log.append(events(b"a", b"b"), 10**15)
        assert len(held(log)) == 2
        broker.kill()
        for fail in (lambda: log.append(events(b"?"), 10**15), lambda: log.end_offsets(["s"]), lambda: log.read("s", 0, 2, 1)):
            with pytest.raises(LogUnavailable, match=f"Kafka at {broker.servers} did not"):
                fail()
        broker.start()
        assert held(log)[:2] == [(0, b"a"), (1, b"b")]
        position = log.append(events(b"c"), 10**15)
        assert held(log)[-1] == (position.offsets["s", 0] - 1, b"c")
        assert [payload for _, payload in held(log)] == [b"a", b"b", b"c"]
        log.close()
    finally:
        broker.kill()


def test_a_record_that_a_disk_has_changed_is_told_and_no_event(tmp_path: Path) -> None:
    if reason := why_missing():
        pytest.skip(reason)
    broker = KafkaBroker(tmp_path)
    try:
        log = KafkaLog(KafkaSettings(broker.servers, "rotten."))
        for payload in (b"first", b"second", b"third"):
            log.append(events(payload), 10**15)
        log.close()
        assert broker.process is not None
        broker.process.terminate()  # after a kill the broker itself would look at what it has
        broker.process.wait()
        (segment,) = tmp_path.glob("data/rotten.s-0/*.log")
        segment.write_bytes(segment.read_bytes().replace(b"second", b"sEcond"))
        broker.start()
        log = KafkaLog(KafkaSettings(broker.servers, "rotten."), timeout_s=3.0)
        log.end_offsets(["s"])
        assert [batch.payload for batch in log.read("s", 0, 0, 1)] == [b"first"]
        for _ in range(2):
            with pytest.raises(LogUnavailable, match=r"offset 1 .* failed CRC32C check"):
                log.read("s", 0, 1, 1)
        log.close()
    finally:
        broker.kill()


class Forgetful:
    """A client that was told of leaders while the broker started: it remembers them until it asks again."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin, self.stale = admin, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._admin, name)

    def list_topics(self, *arguments: Any) -> Any:
        self.stale = False
        return self._admin.list_topics(*arguments)

    def list_offsets(self, asked: Any, **options: Any) -> Any:
        if not self.stale:
            return self._admin.list_offsets(asked, **options)
        refused = Future[Any]()
        refused.set_exception(KafkaException(KafkaError(KafkaError.FENCED_LEADER_EPOCH)))
        return dict.fromkeys(asked, refused)


def test_a_client_that_remembers_an_old_leader_asks_again(opened: Callable[..., KafkaLog]) -> None:
    log = opened(timeout_s=3.0)
    position = log.append(events(b"a"), 10**15)
    log._clients._admin = Forgetful(log._clients.admin)  # type: ignore[assignment]
    assert log.end_offsets(["s"]) == position.offsets


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("url", "options", "sources", "text"),
    [
        ("kafka://", {}, {}, "write kafka://host:port"),
        ("kafka://a:1/path", {}, {}, "write kafka://host:port"),
        ("kafka://a:1?prefi=x", {}, {}, "write kafka://host:port"),
        ("kafka://a:1", {"acks": 1}, {}, r"\[kafka\] acks cannot be set: it is all"),
        ("kafka://a:1", {}, {"s": {"topic": "t", "fromat": "json"}}, "no setting 'fromat'. Did you mean 'format'?"),
        ("kafka://a:1", {}, {"s": {"topic": "t", "format": "xml"}}, "format = 'xml'"),
        ("kafka://a:1", {}, {"s": {"topic": "t", "format": "avro"}}, "schema_registry"),
        ("kafka://a:1", {}, {"s": {"topic": "t", "absent": "zero"}}, "absent = 'zero'"),
        ("kafka://a:1", {}, {"s": {"topic": "t", "tombstones": "delete"}}, "tombstones = 'delete'"),
        ("kafka://a:1", {}, {"s": {"topci": "t"}}, "no setting 'topci'. Did you mean 'topic'?"),
        ("kafka://a:1", {}, {"s": {"absent": "null"}}, r"\[sources.s\] has no topic"),
        ("kafka://a:1", {}, {"s": "topic.v1"}, r"sources: s = 'topic.v1'; write a section \[sources.s\]"),
    ],
)
def test_settings_that_cannot_be_meant_are_told(url: str, options: dict[str, Any], sources: dict[str, Any], text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        kafka_settings(url, options, sources)
