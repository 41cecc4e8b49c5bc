"""An event log on Apache Kafka: one record is one event, its offset the event's; how the broker is spoken to lies in files beside."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from twofold.errors import DataError, LogMismatch, LogUnavailable
from twofold.log.base import Append, Position, RecordBatch
from twofold.log.kafka_appending import ACCEPTED, Appending, Record
from twofold.log.kafka_client import Clients, Place, Received
from twofold.log.kafka_following import LAST_MS, Following, timestamp_ms
from twofold.log.kafka_settings import KafkaSettings
from twofold.log.kafka_topics import Topic, Topics
from twofold.log.limits import check_append, check_offset, check_place, check_source

_FIRST_MS = 1
"""The least timestamp of ours: to Kafka's client 0 is the present, and there is none before 1970."""
_EVERYTHING = 2**31 - 1


class KafkaLog:
    """A log on a cluster: a topic for each source, and one that says which log this is (see `kafka_topics`).

    `partitions` counts only when the log is made; None takes what it has, or 1 for a new one. Arrivals are the records' timestamps, in
    whole milliseconds and not before 1970, made monotone: each is the greatest so far in its partition. Every call raises LogUnavailable
    after `timeout_s`, and works again when the broker does. Threads may share it; a forked child must open its own.
    """

    encoding = "json"

    def __init__(self, settings: KafkaSettings, partitions: int | None = 1, timeout_s: float = 10.0) -> None:
        self._clients = Clients(settings, timeout_s)
        self._appending = Appending(self._clients)
        self._following = Following(self._clients, self._floor_ms, self._confirm)
        self._ends_asked: dict[Place, int] = {}
        self._turn = threading.Lock()
        self._control: Place = settings.control_topic, 0
        try:
            self._topics = Topics(self._clients, partitions, self._read_control, self._write_control)
        except BaseException:
            self.close()
            raise

    @property
    def uuid(self) -> str:
        """Identity of this log: the id that the broker gave its control topic."""
        return self._topics.uuid

    @property
    def partitions(self) -> int:
        """Number of partitions of every source, fixed at creation; a topic of others may have fewer, the rest are empty."""
        return self._topics.partitions

    def append(self, batches: Sequence[Append], now_us: int) -> Position:
        """Append single events; see `EventLog.append`. Not atomic as a whole: the error says what may be in the log.

        Raises DataError for batches of several events, and for topics whose format is not ours to write.
        """
        check_append(batches, now_us, self.partitions)
        self._clients.refuse_misuse()
        topics = {source: self._topic_to_append(source, batches) for source in {batch.source for batch in batches}}
        stamp_ms = max(_FIRST_MS, now_us // 1000)
        records, places = [], dict[Place, tuple[str, int]]()
        for batch in batches:
            topic = topics[batch.source]
            partition = batch.partition % topic.partitions
            places[topic.name, partition] = batch.source, partition
            records.append(Record((topic.name, partition), batch.key, batch.payload, stamp_ms))
        if not records:
            return Position(self.uuid, {})
        ends = self._appending.append(records)
        if unknown := [place for place, end in ends.items() if end < 0]:
            ends |= self._clients.ends(unknown)
        return Position(self.uuid, {places[place]: end for place, end in ends.items()})

    def _topic_to_append(self, source: str, batches: Sequence[Append]) -> Topic:
        if any(batch.count != 1 for batch in batches if batch.source == source):
            raise DataError(f"a batch of {source!r} has several events; to this log every event is appended by itself")
        topic = self._topics.topic_to_append(source)
        if topic.format.name != "json":
            raise DataError(
                f"events of {source!r} are read from topic {topic.name!r} in the format {topic.format.name!r}, "
                "which Twofold does not write; append to the topic as you did before"
            )
        return topic

    def read(self, source: str, partition: int, offset: int, max_events: int) -> list[RecordBatch]:
        """Events from `offset` on, one a batch; see `EventLog.read`.

        Records of aborted transactions are no events, nor, where the topic's settings say so, tombstones.
        """
        check_place(source, partition, self.partitions)
        self._clients.refuse_misuse()
        topic = self._topics.topics([source])[0]
        if topic is None or partition >= topic.partitions:
            check_offset(self.uuid, source, partition, offset, 0)
            return []
        place = topic.name, partition
        end = self._ends_asked.get(place, -1)
        if not 0 <= offset < end:
            end = self._clients.ends([place])[place]
            check_offset(self.uuid, source, partition, offset, end)
            if offset == end:
                return []
        batches: list[RecordBatch] = []
        while not batches and offset < end:
            try:
                messages, floor_ms = self._following.read(place, offset, end, max(1, max_events))
            except LogMismatch:
                self._explain(source, topic, partition, offset)
                raise
            batches = _batches(source, partition, topic, messages, floor_ms)
            offset = messages[-1].offset() + 1 if messages else end
        return batches

    def _confirm(self, topic: str) -> None:
        if topic != self._control[0]:
            self._topics.confirm(topic)

    def _explain(self, source: str, topic: Topic, partition: int, offset: int) -> None:
        """Why the broker refuses an offset: the topic is another one, the events are gone, or it has lost its end."""
        self._topics.forget([source])
        self._topics.topics([source])
        place = topic.name, partition
        start, end = self._clients.starts([place])[place], self._clients.ends([place])[place]
        if offset < start:
            raise LogMismatch(
                f"offset {offset} of {source}/{partition} lies before the start of topic {topic.name!r}, which holds {start} to {end}: "
                "events were deleted before they were applied or archived; remove HOME/store and run `twofold build`, "
                "and keep events longer (retention.ms of the topic)"
            )
        check_offset(self.uuid, source, partition, offset, end)

    def end_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset after the last committed record of every partition of the sources; 0 where nothing was appended."""
        self._clients.refuse_misuse()
        asked = self._places(sources)
        ends = self._clients.ends([place for place in asked.values() if place is not None])
        with self._turn:
            self._ends_asked |= ends
        return {name: 0 if place is None else ends[place] for name, place in asked.items()}

    def start_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset of the first event that is still there, of every partition of the sources; 0 where nothing was appended."""
        self._clients.refuse_misuse()
        asked = self._places(sources)
        starts = self._clients.starts([place for place in asked.values() if place is not None])
        return {name: 0 if place is None else starts[place] for name, place in asked.items()}

    def _places(self, sources: Iterable[str]) -> dict[tuple[str, int], Place | None]:
        found: dict[tuple[str, int], Place | None] = {}
        names = [check_source(source) for source in sources]
        for source, topic in zip(names, self._topics.topics(names), strict=True):
            for partition in range(self.partitions):
                found[source, partition] = None if topic is None or partition >= topic.partitions else (topic.name, partition)
        return found

    def wait(self, timeout_s: float, partitions: Collection[int] | None = None) -> bool:
        """True as soon as there may be events beyond the last `end_offsets`, or a source has its first; see `WakingLog`."""
        with self._turn:
            ends = {place: end for place, end in self._ends_asked.items() if partitions is None or place[1] in partitions}
        control_offset = self._topics.control_offset
        try:
            has_come = self._following.wait(ends | {self._control: control_offset}, timeout_s)
            if has_come and self._following.position(self._control) > control_offset:
                self._topics.read_on()
        except LogUnavailable:
            if not self._clients.is_closed:
                raise
            return False
        return has_come

    def close(self) -> None:
        """Release connections and threads; no call may follow but another `close`. In a forked child there are none."""
        if not self._clients.is_closed and not self._clients.is_of_parent:
            self._clients.close()
            self._following.close()
            self._appending.close()

    def _floor_ms(self, place: Place, offset: int, known_ms: int) -> int:
        """The greatest timestamp of the records before an offset, or `known_ms` where none is above it.

        The broker knows the first record from an instant on: it lies before the offset just where some record before the offset is not
        before that instant. The step doubles until none is found, then is halved.
        """
        floor_ms, step, limit = known_ms, 1, None
        while floor_ms < LAST_MS and (limit is None or floor_ms + 1 < limit):
            asked = floor_ms + step if limit is None else (floor_ms + limit + 1) // 2
            first, stamp_ms = self._clients.first_since(place, asked)
            if 0 <= first < offset:
                floor_ms, step = min(max(asked, stamp_ms), LAST_MS), step * 2
            elif limit is None and asked == floor_ms + 1:
                return floor_ms
            else:
                limit = asked
        return floor_ms

    def _read_control(self, offset: int) -> list[tuple[int, bytes, bytes]]:
        end = self._clients.ends([self._control])[self._control]
        if offset >= end:
            return []
        messages, _ = self._following.read(self._control, offset, end, _EVERYTHING)
        return [(message.offset(), message.key() or b"", message.value() or b"") for message in messages]

    def _write_control(self, key: bytes, value: bytes) -> Mapping[Place, int]:
        return self._appending.append([Record(self._control, key, value, 0)])


def _batches(source: str, partition: int, topic: Topic, messages: Sequence[Received], floor_ms: int) -> list[RecordBatch]:
    batches = []
    for message in messages:
        stamp_ms = timestamp_ms(message)
        floor_ms = max(floor_ms, stamp_ms)
        if topic.skips_tombstones and message.value() is None:
            continue
        accepted_us = stamp_ms * 1000
        for name, value in message.headers() or ():
            if name == ACCEPTED and value is not None and len(value) == 8:
                accepted_us = int.from_bytes(value, "big")
        payload = message.value() or b""
        stamps = floor_ms * 1000, accepted_us
        batches.append(RecordBatch(source, partition, message.offset(), 1, *stamps, payload, topic.format, message.leader_epoch()))
    return batches
