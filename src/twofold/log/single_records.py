"""Events as single records, one a payload: written as JSON, read from JSON, Avro or with a decoder of one's own; no engine is loaded here.

A record becomes a row, and its fields are checked as those of an appended row are. What more a record has does not matter.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from twofold.errors import DataError, DefinitionError, TwofoldError
from twofold.log.base import Append, Format
from twofold.plan.canonical import Refused, Values, canonical, canonical_values, shown
from twofold.plan.ingest import partition_keys, partition_rows
from twofold.plan.serving import SourcePlan

Decode = Callable[[bytes], Mapping[str, Any]]
"""A payload as its fields; raises what it likes where it is none."""

_FEW = 8
"""So few records are looked at one by one where one of them is refused."""
_NO_VALUE = "; the record has no value: if it is a tombstone, see `tombstones` of [sources.<name>]"


def single_appends(source: SourcePlan, columns: Mapping[str, Values], partitions: int) -> list[Append]:
    """One append for each row, in order: a JSON object of its canonical values (instants are microseconds since 1970).

    The key is what the row is partitioned by; where that is the whole row there is none.
    """
    partition_of = [0] * len(next(iter(columns.values())))
    for partition, numbers in enumerate(partition_rows(source, columns, partitions)):
        for number in numbers:
            partition_of[number] = partition
    keys: Sequence[bytes | None] = list(partition_keys(source, columns)) if source.partition_by else [None] * len(partition_of)
    encode, names = msgspec.json.Encoder().encode, tuple(source.stored)
    rows = zip(*(columns[name] for name in names), strict=True)
    return [
        Append(source.name, partition, 1, encode(dict(zip(names, row, strict=True))), key)
        for partition, row, key in zip(partition_of, rows, keys, strict=True)
    ]


def columns_of(payloads: Sequence[bytes], format: Format, source: SourcePlan) -> tuple[dict[str, Values], dict[int, str]]:
    """(Canonical values by column, of the payloads that are events of the source, in order; number of each other payload -> why)."""
    tuples_of = _tuples_of(format, tuple(source.stored))
    columns: dict[str, Values] = {name: [] for name in source.stored}
    refused: dict[int, str] = {}

    def add(begin: int, end: int) -> None:
        """Take payloads together, and by halves where one of them is refused."""
        try:
            checked = _checked(tuples_of(payloads[begin:end]), source)
        except _NOT_EVENTS as error:
            if end - begin == 1:
                refused[begin] = _reason(payloads[begin], format, source, error)
                return
            middle = (begin + end) // 2
            add(begin, middle)
            add(middle, end)
            return
        for name, values in checked.items():
            columns[name] += values

    if payloads:
        add(0, len(payloads))
    return columns, refused


class Undecoded(ValueError):
    """A payload that is no record; the text says why."""


_NOT_EVENTS = (Refused, Undecoded)


def _checked(rows: list[tuple[Any, ...]], source: SourcePlan) -> dict[str, Values]:
    columns = zip(*rows, strict=True)
    checked = {
        name: canonical_values(kind, list(values), source.zone) for (name, kind), values in zip(source.stored.items(), columns, strict=True)
    }
    if source.time is not None and None in checked[source.time]:
        raise Refused(f"{source.time} is null; every event has an instant")
    return checked


def _reason(payload: bytes, format: Format, source: SourcePlan, error: Exception) -> str:
    """Why one payload is refused, with the field's name."""
    try:
        row = _decode(format)(payload)
    except Undecoded as undecoded:
        return f"{undecoded}{'' if payload else _NO_VALUE}"
    for name, kind in source.stored.items():
        if name not in row:
            if not format.fills_absent:
                return f"{name} is absent"
            continue
        try:
            canonical(kind, row[name], source.zone)
        except Refused as refused:
            return f"{name} {refused}"
    return str(error)


def _tuples_of(format: Format, names: tuple[str, ...]) -> Callable[[Sequence[bytes]], list[tuple[Any, ...]]]:
    """A function from payloads to tuples of the fields; raises Undecoded where one has not all of them."""
    if format.name == "json":
        return _json_tuples(names, format.fills_absent)
    decode = _decode(format)

    def tuples(payloads: Sequence[bytes]) -> list[tuple[Any, ...]]:
        rows = [decode(payload) for payload in payloads]
        if format.fills_absent:
            return [tuple(row.get(name) for name in names) for row in rows]
        try:
            return [tuple(row[name] for name in names) for row in rows]
        except KeyError as error:
            raise Undecoded(f"{error.args[0]} is absent") from None

    return tuples


@functools.lru_cache(maxsize=256)
def _json_tuples(names: tuple[str, ...], fills_absent: bool) -> Callable[[Sequence[bytes]], list[tuple[Any, ...]]]:
    """Of objects only the fields that are wanted are made: 1 us a record of six fields."""
    default = {"default": None} if fills_absent else {}
    fields = [(f"f{number}", Any, msgspec.field(name=name, **default)) for number, name in enumerate(names)]
    decode = msgspec.json.Decoder(msgspec.defstruct("Record", fields, gc=False)).decode
    astuple = msgspec.structs.astuple

    def tuples(payloads: Sequence[bytes]) -> list[tuple[Any, ...]]:
        try:
            return [astuple(decode(payload)) for payload in payloads]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Undecoded(str(error)) from None

    return tuples


@functools.lru_cache(maxsize=256)
def _decode(format: Format) -> Decode:
    """The function for one payload; it raises Undecoded, or Unavailable where a registry does not answer."""
    if format.name == "json":
        return _told(msgspec.json.decode)
    if format.name == "avro":
        from twofold.log.avro import avro_decoder

        return _told(avro_decoder(str(format.registry)))
    return _told(_own_decoder(format.name))


def _told(decode: Callable[[bytes], Any]) -> Decode:
    """Whatever a decoder raises, but for our own errors, is why a payload is no record."""

    def decoded(payload: bytes) -> Mapping[str, Any]:
        try:
            row = decode(payload)
        except DataError as error:
            raise Undecoded(str(error)) from None
        except TwofoldError:
            raise
        except Exception as error:
            raise Undecoded(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from None
        if not isinstance(row, Mapping):
            raise Undecoded(f"the record is {shown(row)}, not an object with fields")
        return row

    return decoded


def _own_decoder(name: str) -> Callable[[bytes], Any]:
    module, _, attribute = name.partition(":")
    try:
        found = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise DefinitionError(f"format = {name!r}: {error}; write the module and the function that turns bytes into a mapping") from None
    if not callable(found):
        raise DefinitionError(f"format = {name!r} is {shown(found)}, which cannot be called; it turns bytes into a mapping")
    return found
