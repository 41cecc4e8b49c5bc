"""Which topic each source has, and that it is still the same one: a small compacted topic of the log's own says it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from twofold.errors import DataError, DefinitionError, LogMismatch
from twofold.log.base import Format
from twofold.log.kafka_client import Clients
from twofold.log.kafka_settings import JSON_OF_OURS
from twofold.log.limits import check_partitions

_RECHECK_S = 15.0
"""So often a topic in use is looked at again: a topic that was deleted and made anew has other events under the same offsets. Before any
of them is read it is looked at anyway (see `Topics.confirm`)."""

_OURS = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete", "message.timestamp.type": "CreateTime"}
"""Whatever the broker does by default: events of ours stay until somebody decides otherwise (a broker counts from their timestamps,
which in a replay lie far back), none takes the place of another, and the arrival is by the project's clock."""


class Registered(msgspec.Struct, frozen=True):
    """What the control topic says of a source."""

    topic: str
    topic_id: str
    log_partitions: int


@dataclass(frozen=True)
class Topic:
    """A source's topic as it was found. Partitions of the log that it does not have are empty."""

    name: str
    partitions: int
    format: Format
    skips_tombstones: bool


@dataclass(frozen=True)
class Described:
    """Identity and size of a topic, as the broker tells them."""

    topic_id: str
    partitions: int


class Topics:
    """The control topic's identity is the log's, its number of partitions is that of every source: both are fixed by its creation.

    `read_control(offset)` gives (offset, key, value) of the control topic's records from an offset on; `write_control(key, value)`
    adds one, durably.
    """

    def __init__(
        self,
        clients: Clients,
        partitions: int | None,
        read_control: Callable[[int], list[tuple[int, bytes, bytes]]],
        write_control: Callable[[bytes, bytes], object],
    ) -> None:
        self._clients, self._settings = clients, clients.settings
        self._read_control, self._write_control = read_control, write_control
        self._turn = threading.RLock()
        self._registered: dict[str, Registered] = {}
        self.control_offset = 0
        self._topics: dict[str, tuple[Topic, float]] = {}
        control = self._created(self._settings.control_topic, check_partitions(partitions or 1), {"cleanup.policy": "compact"})
        self.uuid, self.partitions = control.topic_id, control.partitions

    def topics(self, sources: Sequence[str]) -> list[Topic | None]:
        """The topic of each source; None where it has none of ours yet. Raises LogMismatch where one is not what it was."""
        with self._turn:
            if not self._registered.keys() >= set(sources):
                self.read_on()
            return [self._topic(source) for source in sources]

    def _topic(self, source: str) -> Topic | None:
        topic, checked_s = self._topics.get(source, (None, 0.0))
        if topic is not None and time.monotonic() < checked_s + _RECHECK_S:
            return topic
        if source in self._registered:
            return self._checked(source, self._registered[source])
        foreign = self._settings.foreign.get(source)
        return None if foreign is None else self._register(source, foreign.name)

    def topic_to_append(self, source: str) -> Topic:
        """The same; a topic of ours is made where there is none."""
        with self._turn:
            found = self.topics([source])[0]
            if found is not None:
                return found
            name = f"{self._settings.prefix}{source}"
            self._created(name, self.partitions, _OURS)
            return self._register(source, name)

    def confirm(self, topic: str) -> None:
        """Raises LogMismatch where a topic of a source is not what it was. Takes no lock: whoever reads has one that others wait for.

        One that is not there may be one that a broker does not know yet: that is LogUnavailable, and the next look at it decides.
        """
        sources = {source: known for source, known in list(self._registered.items()) if known.topic == topic}
        described = self._described(topic)
        if described is None:
            raise self._clients.unavailable(f"describe topic {topic!r}", "it is not there")
        for source, registered in sources.items():
            _refuse_another(source, registered, described)

    def forget(self, sources: Iterable[str]) -> None:
        """Look at the topics of these sources again when they are next used."""
        with self._turn:
            for source in sources:
                self._topics.pop(source, None)

    def read_on(self) -> None:
        """Learn what others have added."""
        for offset, key, value in self._read_control(self.control_offset):
            self.control_offset = offset + 1
            if key.startswith(b"source/"):
                self._registered[key.removeprefix(b"source/").decode()] = msgspec.json.decode(value, type=Registered)

    def _register(self, source: str, name: str) -> Topic:
        described = self._described(name)
        if described is None:
            raise DefinitionError(
                f"[sources.{source}] topic = {name!r}: Kafka at {self._settings.servers} has no such topic; make it, or mend the name"
            )
        self._refuse_larger(source, name, described)
        registered = Registered(name, described.topic_id, self.partitions)
        self._write_control(b"source/" + source.encode(), msgspec.json.encode(registered))
        self._registered[source] = registered
        return self._checked(source, registered, described)

    def _checked(self, source: str, registered: Registered, described: Described | None = None) -> Topic:
        foreign = self._settings.foreign.get(source)
        wanted = f"{self._settings.prefix}{source}" if foreign is None else foreign.name
        if wanted != registered.topic:
            raise LogMismatch(
                f"events of {source!r} come from topic {registered.topic!r} so far, and the settings now say {wanted!r}: "
                f"offsets of one are none of the other; set the topic back, or give the log another prefix and run `twofold build`"
            )
        described = _refuse_another(source, registered, described or self._described(registered.topic))
        if registered.log_partitions != self.partitions:
            raise LogMismatch(
                f"topic {self._settings.control_topic!r} had {registered.log_partitions} partitions when {source!r} came to it and has "
                f"{self.partitions} now; they are fixed: give the log another prefix and build anew"
            )
        self._refuse_larger(source, registered.topic, described)
        format, skips = (JSON_OF_OURS, False) if foreign is None else (foreign.format, foreign.skips_tombstones)
        topic = Topic(registered.topic, described.partitions, format, skips)
        self._topics[source] = topic, time.monotonic()
        return topic

    def _refuse_larger(self, source: str, topic: str, described: Described) -> None:
        """Raises DefinitionError where a topic has more partitions than the log."""
        if described.partitions > self.partitions:
            raise DefinitionError(
                f"topic {topic!r} of {source!r} has {described.partitions} partitions, this log {self.partitions}; set "
                f"`partitions` to at least {described.partitions} when the log is made (another prefix makes a new one)"
            )

    # What the broker says

    def _created(self, name: str, partitions: int, config: dict[str, str]) -> Described:
        """The topic, made where it is not there; of several who make it at once all get the same."""
        found = self._described(name)
        if found is not None:
            return found
        deadline = self._clients.deadline()
        new = NewTopic(name, partitions, config=config)
        try:
            self._clients.answer(self._clients.admin.create_topics([new])[name], f"make topic {name!r}", deadline)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_EXCEPTION:
                raise DataError(f"{name!r} can be no topic of Kafka: letters, digits and . _ - only, at most 249 of them") from None
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._clients.unavailable(f"make topic {name!r}", error.args[0].str()) from None
        while (found := self._described(name)) is None:
            if time.monotonic() > deadline:
                raise self._clients.unavailable(f"show topic {name!r} after it was made")
            time.sleep(0.01)
        with self._clients.translated(f"show topic {name!r}"):  # else the client learns of it only with the next round of its own
            self._clients.admin.list_topics(name, self._clients.timeout_s)
        return found

    def _described(self, name: str) -> Described | None:
        """None where there is no such topic."""
        deadline = self._clients.deadline()
        while True:
            try:
                future = self._clients.admin.describe_topics(TopicCollection([name]))[name]
                told: Any = self._clients.answer(future, f"describe topic {name!r}", deadline)
                return Described(_uuid(told.topic_id), len(told.partitions))
            except KafkaException as error:
                if error.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION):
                    return None
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise self._clients.unavailable(f"describe topic {name!r}", error.args[0].str()) from None
            time.sleep(0.05)


def _refuse_another(source: str, registered: Registered, described: Described | None) -> Described:
    """What the broker tells of a topic; raises LogMismatch where it is not the one that the source has had."""
    if described is None or described.topic_id != registered.topic_id:
        gone = "is gone" if described is None else "was deleted and made anew"
        raise LogMismatch(
            f"topic {registered.topic!r} of source {source!r} {gone} (it had the id {registered.topic_id}), so the events that were "
            "applied are not in it: restore it, or give the log another prefix (`log = kafka://...?prefix=`) and build anew"
        )
    return described


def _uuid(topic_id: Any) -> str:
    """The usual text of an id; the broker's own is base64, which no address holds unquoted."""
    words = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    return str(uuid.UUID(bytes=b"".join(word.to_bytes(8, "big", signed=True) for word in words)))
