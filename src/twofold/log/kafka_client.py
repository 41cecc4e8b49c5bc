"""How every client of the broker is set up, and what its failures become; which topics there are is not known here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from twofold.errors import LogUnavailable
from twofold.log.kafka_settings import KafkaSettings

Place = tuple[str, int]
"""(topic, partition)."""
Found = TypeVar("Found")


class Received(Protocol):
    """A record, or what the client tells in its stead (`error`), as it comes from a partition."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def leader_epoch(self) -> int | None: ...
    def error(self) -> KafkaError | None: ...


_LATEST, _EARLIEST = OffsetSpec.latest(), OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_RECENT_S = 30.0
_POLL_WAIT_MS = 20
"""So long the broker may hold an answer back where there is nothing new; a seek waits for it."""


class Clients:
    """Makes clients of one cluster, and asks it for offsets. Its calls raise LogUnavailable after `timeout_s`, with the servers."""

    def __init__(self, settings: KafkaSettings, timeout_s: float) -> None:
        self.settings, self.timeout_s = settings, timeout_s
        self._process = os.getpid()
        self._is_closed = False
        self._complaint, self._complained_s = "", 0.0
        self._admin = self._made(AdminClient, {})

    @property
    def admin(self) -> AdminClient:
        """The client for topics and offsets; raises LogUnavailable after a fork or `close`."""
        self.refuse_misuse()
        return self._admin

    def consumer(self) -> Consumer:
        """A consumer of assigned partitions that commits nothing and sees committed events only."""
        options = {
            "group.id": "twofold-without-group",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "check.crcs": True,
            "allow.auto.create.topics": False,
            "fetch.wait.max.ms": _POLL_WAIT_MS,
            "fetch.error.backoff.ms": 50,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 32 * 1024,
        }
        return self._made(Consumer, options)

    def producer(self) -> Producer:
        """A producer whose retries write nothing twice and whose events all replicas in sync have."""
        timeout_ms = int(self.timeout_s * 1000)
        options = {
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": timeout_ms,
            "linger.ms": 0,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 128 * 1024,
            "compression.type": "lz4",
        }
        return self._made(Producer, options)

    def _made(self, kind: Callable[[dict[str, Any]], Found], options: Mapping[str, Any]) -> Found:
        base = {
            "bootstrap.servers": self.settings.servers,
            "client.id": "twofold",
            "log_level": 2,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "retry.backoff.ms": 50,
            "topic.metadata.refresh.fast.interval.ms": 50,
            "error_cb": self._note,
        }
        try:
            return kind({**base, **options, **self.settings.options})
        except KafkaException as error:
            raise LogUnavailable(f"[kafka] in twofold.toml is refused by the client: {error.args[0].str()}") from None

    def _note(self, error: KafkaError) -> None:
        """What a client last complained of by itself; the text of a later LogUnavailable has it."""
        self._complaint, self._complained_s = str(error.str()), time.monotonic()

    def refuse_misuse(self) -> None:
        """Raises LogUnavailable where the log was closed, or opened before this process was forked."""
        if self._is_closed:
            raise LogUnavailable(f"the log at {self.settings.servers} was closed; open it again")
        if self.is_of_parent:
            raise LogUnavailable(
                f"the log at {self.settings.servers} was opened before this process was forked; "
                "open it in the child, or spawn instead of fork"
            )

    def close(self) -> None:
        """Refuse all later calls, and release what asks for offsets and topics."""
        self._is_closed = True
        self.__dict__.pop("_admin", None)

    @property
    def is_of_parent(self) -> bool:
        """Whether this process was forked from the one that opened the log: the clients have no threads here, and none ends."""
        return os.getpid() != self._process

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def deadline(self) -> float:
        """When a call that begins now gives up, by `time.monotonic`."""
        return time.monotonic() + self.timeout_s

    def unavailable(self, doing: str, why: str = "") -> LogUnavailable:
        """The error for a broker that did not do something in time."""
        is_recent = time.monotonic() < self._complained_s + _RECENT_S
        reason = why or (self._complaint if is_recent else "") or f"no answer within {self.timeout_s:g} s"
        return LogUnavailable(
            f"Kafka at {self.settings.servers} did not {doing}: {reason}; see whether the broker runs and can be reached, then try again"
        )

    @contextlib.contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Failures of the client as LogUnavailable."""
        try:
            yield
        except KafkaException as error:
            raise self.unavailable(doing, error.args[0].str()) from None

    def answer(self, future: Future[Found], doing: str, deadline: float) -> Found:
        """The result of a call of the admin client; KafkaException where the broker refuses it, LogUnavailable after the deadline."""
        try:
            return future.result(max(0.05, deadline - time.monotonic()))
        except TimeoutError:
            raise self.unavailable(doing) from None
        except KafkaException as error:
            if error.args[0].code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                raise self.unavailable(doing) from None
            raise

    def offsets(self, places: Mapping[Place, Any]) -> dict[Place, tuple[int, int]]:
        """(offset, its timestamp where one was asked for) for each place, in one request; committed events only.

        Asked for an instant: the first offset that is not before it, -1 where there is none. Partitions whose leader has just moved
        are asked again until the deadline, after the client has asked who leads them: what it remembers of a leader it keeps for minutes.
        """
        deadline, found, missing = self.deadline(), dict[Place, tuple[int, int]](), dict(places)
        while missing:
            stale = set[str]()
            asked = {TopicPartition(*place): spec for place, spec in missing.items()}
            seconds = max(0.1, deadline - time.monotonic())
            futures = self.admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=seconds)
            for partition, future in futures.items():
                try:
                    result = self.answer(future, "say where the log ends", deadline)
                except KafkaException as error:
                    is_moving = error.args[0].retriable() or error.args[0].code() in _MOVING
                    if not is_moving or time.monotonic() > deadline:
                        raise self.unavailable(f"say where {partition.topic}/{partition.partition} ends", error.args[0].str()) from None
                    if error.args[0].code() in _LEADERS:
                        stale.add(partition.topic)
                    continue
                found[partition.topic, partition.partition] = result.offset, result.timestamp
                del missing[partition.topic, partition.partition]
            for topic in stale:
                with contextlib.suppress(KafkaException):
                    self.admin.list_topics(topic, max(0.1, deadline - time.monotonic()))
            if missing:
                time.sleep(0.05)
        return found

    def ends(self, places: list[Place]) -> dict[Place, int]:
        """The offset after the last committed record of each place."""
        return {place: offset for place, (offset, _) in self.offsets(dict.fromkeys(places, _LATEST)).items()}

    def first_since(self, place: Place, stamp_ms: int) -> tuple[int, int]:
        """(Offset, timestamp) of the first record whose timestamp is not below this one; -1 where there is none."""
        return self.offsets({place: OffsetSpec.for_timestamp(stamp_ms)})[place]

    def starts(self, places: list[Place]) -> dict[Place, int]:
        """The offset of the first record that is still there, of each place."""
        return {place: offset for place, (offset, _) in self.offsets(dict.fromkeys(places, _EARLIEST)).items()}


_LEADERS = (
    *(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE),
    *(KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH),
)
_MOVING = (KafkaError._NOENT, KafkaError.UNKNOWN_TOPIC_OR_PART, *_LEADERS)
