"""Reading partitions by assignment with one consumer, whatever order its records come in; which source they belong to is not known here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from twofold.errors import LogMismatch
from twofold.log.kafka_client import Clients, Place, Received

_PER_CALL = 5_000
_MOST_BUFFERED = 100_000
_MOST_BYTES = 256 * 1024 * 1024
"""A partition with so many records that nobody has read, or with its share of so many bytes in all, rests until they are."""
LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: some producers stamp records in microseconds or nanoseconds."""
_SLICE_S = 0.05
"""So long a wait holds the consumer before it looks whether someone wants to read, or to close."""


@dataclass
class _Followed:
    """A partition: `buffer` holds the records from `begin` on that have come; the next one has at least the offset `position`."""

    begin: int
    position: int
    floor_ms: int | None = None
    """Greatest timestamp before `begin`; None where it has not been asked."""
    confirmed: int = -1
    """Up to here what has come is known to be of the topic that is meant, and not of one made anew."""
    buffer: deque[Received] = field(default_factory=deque)
    size_bytes: int = 0
    """Of the payloads in the buffer."""
    is_resting: bool = False
    refusal: str = ""
    complaint: str = ""
    """What the consumer said last, where it is no refusal: it goes on trying."""

    def skip_to(self, offset: int) -> None:
        """Drop what lies before an offset that is not beyond `position`."""
        while self.buffer and self.buffer[0].offset() < offset:
            message = self.taken()
            if self.floor_ms is not None:
                self.floor_ms = max(self.floor_ms, timestamp_ms(message))
        self.begin = max(self.begin, offset)

    def add(self, message: Received) -> None:
        """Put a record at the buffer's end."""
        self.buffer.append(message)
        self.size_bytes += len(message.value() or b"")
        self.position = message.offset() + 1

    def taken(self) -> Received:
        """The buffer's first record, which is not in it any more."""
        message = self.buffer.popleft()
        self.size_bytes -= len(message.value() or b"")
        return message


def timestamp_ms(message: Received) -> int:
    """A record's timestamp; 0 where it has none, the calendar's end where it lies beyond."""
    return min(max(0, int(message.timestamp()[1])), LAST_MS)


class Following:
    """One consumer for all partitions that are read or waited for, shared by all threads.

    Reading on where the last read ended is fast; elsewhere it costs a seek. `floor_ms(place, offset, timestamp_ms)` tells the greatest
    timestamp of a partition's records before an offset, exactly where it is above the given one. `confirm(topic)` asks whether a topic
    is still the one that is meant, and raises LogMismatch where it is another: what came before it was asked is then of the right one, for
    a topic that was deleted never comes back. So nothing is handed out of a topic made anew, and one question serves for all that has come.
    """

    def __init__(self, clients: Clients, floor_ms: Callable[[Place, int, int], int], confirm: Callable[[str], None]) -> None:
        self._clients, self._floor_ms, self._confirm = clients, floor_ms, confirm
        self._turn, self._next = threading.Lock(), threading.Lock()
        self._consumer: Consumer | None = None
        self._followed: dict[Place, _Followed] = {}

    def read(self, place: Place, offset: int, end: int, max_records: int) -> tuple[list[Received], int]:
        """(up to `max_records` records from `offset` on, at least one where one lies below `end`; greatest timestamp before them).

        Raises LogUnavailable where nothing comes in time, LogMismatch where the topic is another one or does not hold the offset.
        """
        deadline, enough = self._clients.deadline(), min(max_records, _MOST_BUFFERED)
        with self._held():
            followed = self._at(place, offset)
            while followed.position < end and len(followed.buffer) < enough and not followed.is_resting:
                self._take(_SLICE_S)
                followed = self._checked(place)
                if time.monotonic() > deadline:
                    if followed.buffer:
                        break
                    raise self._clients.unavailable(
                        f"give the records of {place[0]}/{place[1]} from offset {offset} on", followed.complaint
                    )
            return self._handed_out(place, followed, max_records)

    def _share_bytes(self) -> int:
        return _MOST_BYTES // len(self._followed)

    def _handed_out(self, place: Place, followed: _Followed, max_records: int) -> tuple[list[Received], int]:
        buffer = followed.buffer
        last = buffer[min(max_records, len(buffer)) - 1].offset() + 1 if buffer else followed.position
        if last > followed.confirmed:
            self._confirm(place[0])
            for (topic, _), other in self._followed.items():
                if topic == place[0]:
                    other.confirmed = other.position
        if not buffer:
            return [], followed.floor_ms or 0
        if followed.floor_ms is None:  # asked while the records are still in the buffer: the broker may not answer
            followed.floor_ms = self._floor_ms(place, buffer[0].offset(), timestamp_ms(buffer[0]))
        records = [followed.taken() for _ in range(min(max_records, len(buffer)))]
        floor_ms = followed.floor_ms
        followed.floor_ms = max(floor_ms, max(map(timestamp_ms, records)))
        followed.begin = records[-1].offset() + 1
        self._wake(place, followed)
        return records, floor_ms

    def wait(self, ends: Mapping[Place, int], timeout_s: float) -> bool:
        """True as soon as one of these partitions has a record, or a marker, at its end or beyond; False after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            if self._come_within(ends, max(0.0, min(_SLICE_S, left_s))):
                return True
            if left_s <= 0:
                return False

    def _come_within(self, ends: Mapping[Place, int], timeout_s: float) -> bool:
        with self._held():
            for place, end in ends.items():
                followed = self._followed.get(place)
                if followed is None or followed.refusal or not followed.begin <= end <= followed.position:
                    self._seek(place, end)
            if not self._has_come(ends):
                self._take(timeout_s)
            return self._has_come(ends)

    def position(self, place: Place) -> int:
        """A partition is known up to here; -1 where it is not followed."""
        return self._followed[place].position if place in self._followed else -1

    def _has_come(self, ends: Mapping[Place, int]) -> bool:
        return any(self._followed[place].position > end or self._followed[place].refusal for place, end in ends.items())

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The consumer for one thread. Whoever waits for it stands at `_next`, so that a wait that takes it again and again is no bar."""
        with self._next:
            self._turn.acquire()
        try:
            yield
        except Exception:
            raise
        except BaseException:  # interrupted: there may be records that left the consumer and are in no buffer
            self._begin_anew()
            raise
        finally:
            self._turn.release()

    def _begin_anew(self) -> None:
        """Forget the consumer and all that it has brought."""
        consumer, self._consumer = self._consumer, None
        self._followed.clear()
        if consumer is not None:
            consumer.close()

    def _at(self, place: Place, offset: int) -> _Followed:
        """The partition as one that begins at an offset: it does already, or the consumer goes there."""
        followed = self._followed.get(place)
        if followed is not None and not followed.refusal and followed.begin <= offset <= followed.position:
            followed.skip_to(offset)
            self._wake(place, followed)
            return followed
        return self._seek(place, offset)

    def _wake(self, place: Place, followed: _Followed) -> None:
        """Let a partition that rests go on where its buffer has room again."""
        has_room = len(followed.buffer) < _MOST_BUFFERED // 2 and followed.size_bytes <= self._share_bytes() // 2
        if followed.is_resting and has_room:
            self._open().resume([TopicPartition(*place)])
            followed.is_resting = False

    def _seek(self, place: Place, offset: int) -> _Followed:
        with self._clients.translated(f"let {place[0]}/{place[1]} be read"):
            consumer = self._open()
            if followed := self._followed.get(place):
                if followed.is_resting:
                    consumer.resume([TopicPartition(*place)])  # else it would rest where it is assigned next
                consumer.incremental_unassign([TopicPartition(*place)])
            else:
                consumer.list_topics(place[0], self._clients.timeout_s)  # else it learns of a new topic only with the next round of its own
            consumer.incremental_assign([TopicPartition(*place, offset)])
        self._followed[place] = _Followed(offset, offset, 0 if offset == 0 else None)
        return self._followed[place]

    def _checked(self, place: Place) -> _Followed:
        followed = self._followed[place]
        if followed.refusal:
            del self._followed[place]
            self._open().incremental_unassign([TopicPartition(*place)])
            raise LogMismatch(f"{place[0]}/{place[1]} cannot be read on: {followed.refusal}")
        return followed

    def _open(self) -> Consumer:
        self._clients.refuse_misuse()
        if self._consumer is None:
            self._consumer = self._clients.consumer()
        return self._consumer

    def _take(self, timeout_s: float) -> None:
        """Move what has come to the partitions' buffers."""
        with self._clients.translated("hand over records"):
            consumer = self._open()
            messages: list[Any] = consumer.consume(1, timeout_s)  # more of them would be waited for until the time is over
            if messages:
                messages += consumer.consume(_PER_CALL, 0)
        touched: set[Place] = set()
        last: Place | None = None
        followed: _Followed | None = None
        for message in messages:
            place = message.topic(), message.partition()
            if place != last:
                last, followed = place, self._followed.get(place)
                touched.add(place)
            if followed is None:
                continue
            if message.error() is not None:
                _note(followed, message)
            elif message.offset() >= followed.position:
                followed.add(message)
        for place in touched & self._followed.keys():
            followed = self._followed[place]
            is_full = len(followed.buffer) > _MOST_BUFFERED or followed.size_bytes > self._share_bytes()
            if is_full and not followed.is_resting:
                self._open().pause([TopicPartition(*place)])
                followed.is_resting = True

    def close(self) -> None:
        """Release the consumer's threads; a wait or read that goes on ends with LogUnavailable or False."""
        with self._held():
            self._begin_anew()


def _note(followed: _Followed, message: Received) -> None:
    """What the consumer tells of a partition beside its records."""
    error: Any = message.error()
    if error.code() == KafkaError._PARTITION_EOF:
        followed.position = max(followed.position, message.offset())
    elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        followed.refusal = error.str()
    else:
        followed.complaint = error.str()
