"""Writing records with one idempotent producer for all threads, each call waiting for its own reports; sources are not known here."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Producer

from twofold.errors import DataError, LogUnavailable
from twofold.log.kafka_client import Clients, Place, Received

ACCEPTED = "twofold-accepted-us"
"""Header: the wall clock of the machine that produced, int64 big-endian."""
Headers = list[tuple[str, str | bytes | None]]
_POLL_S = 0.05
_GRACE_S = 2.0
"""The client itself gives a record up after the timeout; so much later nobody waits for its report any more."""


@dataclass(frozen=True)
class Record:
    """One record to be written."""

    place: Place
    key: bytes | None
    value: bytes
    timestamp_ms: int


@dataclass(eq=False)
class _Call:
    """One caller's records on their way. Reports are counted in the producer's thread alone, `queued` is set by the caller alone."""

    queued: int = -1
    reported: int = 0
    ends: dict[Place, int] = field(default_factory=dict)
    unplaced: set[Place] = field(default_factory=set)
    error: KafkaError | None = None
    failed: int = 0
    is_done: threading.Event = field(default_factory=threading.Event)

    def report(self, error: KafkaError | None, message: Received) -> None:
        """Called for each record, in the producer's thread."""
        place = message.topic(), message.partition()
        if error is not None:
            self.error, self.failed = error, self.failed + 1
        elif message.offset() < 0:
            self.unplaced.add(place)
        else:
            self.ends[place] = max(self.ends.get(place, 0), message.offset() + 1)
        self.reported += 1
        self.end_if_complete()

    def end_if_complete(self) -> None:
        """Called after each change of one of the two numbers, so one of the callers sees both."""
        if self.reported == self.queued:
            self.is_done.set()


class Appending:
    """Records that are in the log when `append` returns; a retry of the client writes none twice."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._turn = threading.Lock()
        self._producer: Producer | None = None
        self._poller: threading.Thread | None = None

    def append(self, records: Sequence[Record]) -> dict[Place, int]:
        """The offset after the last of the records in each partition; -1 where the broker did not say.

        Raises LogUnavailable where not all are known to be in the log (the text says how many may be), DataError for one that is
        larger than the broker takes.
        """
        producer = self._open()
        call = _Call()
        queued, deadline = 0, self._clients.deadline()
        headers: Headers = [(ACCEPTED, (time.time_ns() // 1000).to_bytes(8, "big"))]
        try:
            for record in records:
                self._queue(producer, call, record, headers, deadline)
                queued += 1
        finally:
            call.queued = queued
            call.end_if_complete()
            is_done = call.is_done.wait(max(0.0, deadline - time.monotonic()) + _GRACE_S)
        if call.error is not None or not is_done:
            raise self._failure(call, len(records))
        return call.ends | dict.fromkeys(call.unplaced, -1)

    def _queue(self, producer: Producer, call: _Call, record: Record, headers: Headers, deadline: float) -> None:
        topic, partition = record.place
        while True:
            try:
                producer.produce(
                    topic,
                    record.value,
                    record.key,
                    partition,
                    on_delivery=call.report,  # type: ignore[arg-type]
                    timestamp=record.timestamp_ms,
                    headers=headers,
                )
                return
            except BufferError:  # the queue is full: the broker is behind, and so shall be whoever appends
                if time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"the queue for Kafka at {self._clients.settings.servers} stays full: "
                        f"the broker takes less than is appended; {_AGAIN}"
                    ) from None
                time.sleep(0.001)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise DataError(
                        f"an event of {len(record.value)} bytes is larger than Kafka takes: {error.args[0].str()}; {_AGAIN}"
                    ) from None
                raise self._clients.unavailable("take events", f"{error.args[0].str()}; {_AGAIN}") from None

    def _failure(self, call: _Call, count: int) -> Exception:
        if call.error is not None and call.error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return DataError(f"{call.failed} of {count} events are larger than topic or broker take: {call.error.str()}; {_AGAIN}")
        why = "no report" if call.error is None else str(call.error.str())
        in_doubt = call.failed + call.queued - call.reported
        if call.error is not None and call.error.fatal():
            self._renew()
        return self._clients.unavailable(f"acknowledge {in_doubt} of {count} events", f"{why}; {_AGAIN}")

    def _open(self) -> Producer:
        self._clients.refuse_misuse()
        with self._turn:
            if self._producer is None:
                self._producer = self._clients.producer()
                with self._clients.translated("take a producer"):  # without it the producer asks for its number only after 0.5 s
                    self._producer.list_topics(self._clients.settings.control_topic, self._clients.timeout_s)
                self._poller = threading.Thread(target=self._poll, args=(self._producer,), name="twofold-kafka-reports", daemon=True)
                self._poller.start()
            return self._producer

    def _renew(self) -> None:
        """After a fatal error the producer takes nothing any more; the next call makes another."""
        with self._turn:
            self._producer = None

    def _poll(self, producer: Producer) -> None:
        while self._producer is producer and not self._clients.is_closed:
            producer.poll(_POLL_S)

    def close(self) -> None:
        """Release the producer; what is on its way is given up."""
        with self._turn:
            producer, self._producer = self._producer, None
        if self._poller is not None:
            self._poller.join(1.0)
        if producer is not None:
            producer.purge()
            producer.poll(0)


_AGAIN = "some of these events may be in the log; where the source has an id, sending all of them again counts none twice"
