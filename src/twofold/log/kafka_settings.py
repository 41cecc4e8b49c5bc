"""Where a Kafka log lies and what the topics of others hold, read from settings; nothing connects here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from twofold.errors import DefinitionError, did_you_mean
from twofold.log.base import Format

JSON_OF_OURS, JSON = Format("json", fills_absent=True), Format("json")
_DEFAULT_PREFIX = "twofold."
_PROMISES = {
    "bootstrap.servers": "stands in the URL",
    "group.id": "is not used: offsets belong to the store",
    "enable.auto.commit": "is not used: offsets belong to the store",
    "enable.auto.offset.store": "is not used: offsets belong to the store",
    "auto.offset.reset": "would hide that events are gone",
    "isolation.level": "is read_committed",
    "enable.partition.eof": "is needed to find the end",
    "check.crcs": "keeps a record that a disk or a wire has changed from being an event",
    "enable.idempotence": "keeps a retry from writing an event twice",
    "acks": "is all",
    "transactional.id": "is not used",
}
"""Options of the client that are ours, and why."""


@dataclass(frozen=True)
class ForeignTopic:
    """A topic that exists already, with keys, partitions and a format of its own.

    `skips_tombstones`: a record without a value is no event, as a marker of a transaction is none.
    """

    name: str
    format: Format
    skips_tombstones: bool = False


@dataclass(frozen=True)
class KafkaSettings:
    """Bootstrap servers, the prefix of all topics of ours, options of the client, and source -> topic of others."""

    servers: str
    prefix: str = _DEFAULT_PREFIX
    options: Mapping[str, Any] = field(default_factory=dict)
    foreign: Mapping[str, ForeignTopic] = field(default_factory=dict)

    @property
    def control_topic(self) -> str:
        """The topic that says which log this is and which topic each source has."""
        return f"{self.prefix}twofold"


def kafka_settings(url: str, options: Mapping[str, Any], sources: Mapping[str, Any]) -> KafkaSettings:
    """Settings of `kafka://host:port[,host:port]?prefix=...`, of `[kafka]` and of `[sources.<name>]`; raises DefinitionError."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme != "kafka" or not parts.netloc or parts.path.strip("/") or set(query) - {"prefix"}:
        raise DefinitionError(
            f"log = {url!r}; write kafka://host:port,host:port?prefix=name. (the prefix of its topics, {_DEFAULT_PREFIX!r})"
        )
    for name in options:
        if name in _PROMISES:
            raise DefinitionError(f"[kafka] {name} cannot be set: it {_PROMISES[name]}")
    topics = {name: _foreign_topic(name, table) for name, table in sources.items()}
    return KafkaSettings(parts.netloc, query.get("prefix", _DEFAULT_PREFIX), dict(options), topics)


_FIELDS = ("topic", "format", "schema_registry", "absent", "tombstones")


def _foreign_topic(source: str, table: Any) -> ForeignTopic:
    where = f"[sources.{source}]"
    if not isinstance(table, Mapping):
        raise DefinitionError(f'sources: {source} = {table!r}; write a section {where} with topic = "..."')
    for name in table:
        if name not in _FIELDS:
            raise DefinitionError(f"{where} has no setting {name!r}.{did_you_mean(name, _FIELDS)}")
    if not isinstance(table.get("topic"), str):
        raise DefinitionError(f'{where} has no topic; add topic = "...", or leave the section out: then the source has a topic of ours')
    kind, registry, absent = table.get("format", "json"), table.get("schema_registry"), table.get("absent", "error")
    if absent not in ("error", "null"):
        raise DefinitionError(f'{where} absent = {absent!r}; it is "error" (an event that lacks a field is a dead letter) or "null"')
    tombstones = table.get("tombstones", "error")
    if tombstones not in ("error", "skip"):
        raise DefinitionError(f'{where} tombstones = {tombstones!r}; it is "error" (a record without a value is a dead letter) or "skip"')
    if kind not in ("json", "avro") and not (isinstance(kind, str) and ":" in kind):
        raise DefinitionError(f'{where} format = {kind!r}; it is "json", "avro", or "package.module:function" of a decoder of yours')
    if (kind == "avro") != (registry is not None):
        raise DefinitionError(
            f'{where} schema_registry = "http://..." belongs to format = "avro"; got format {kind!r}, registry {registry!r}'
        )
    return ForeignTopic(table["topic"], Format(kind, registry, absent == "null"), tombstones == "skip")
