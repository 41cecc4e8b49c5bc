"""Avro records in the wire format of schema registries: a zero byte, the schema's number in four, the record; schemas are fetched once."""

from __future__ import annotations

import functools
import http.client
import io
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import msgspec

from twofold.errors import DataError, DefinitionError, LogUnavailable

_HEAD_BYTES = 5
_TIMEOUT_S = 10.0
_SCHEMA_NOT_FOUND = 40403
_REFUSED_S = 3.0
"""So long a schema that is not there, or cannot be used, is not asked for again: else each of its records would ask."""
_MOST_REFUSED = 1024


class _Answer(msgspec.Struct):
    """What a registry says of a schema."""

    schema: str
    schemaType: str = "AVRO"


def avro_decoder(registry: str) -> Callable[[bytes], Mapping[str, Any]]:
    """A function from payloads to their fields. It raises DataError for what is no Avro record, LogUnavailable without the registry."""
    refused: dict[int, tuple[float, str]] = {}

    @functools.lru_cache(maxsize=1024)
    def schema(number: int) -> Any:
        asked_s, why = refused.get(number, (-math.inf, ""))
        if time.monotonic() < asked_s + _REFUSED_S:
            raise DataError(why)
        try:
            return _parsed(_fetched(registry, number), registry, number)
        except DataError as error:
            if len(refused) >= _MOST_REFUSED:
                refused.clear()
            refused[number] = time.monotonic(), str(error)
            raise

    def decode(payload: bytes) -> Mapping[str, Any]:
        if len(payload) < _HEAD_BYTES or payload[0] != 0:
            raise DataError(f"the payload of {len(payload)} bytes does not begin with a zero byte and the number of a schema")
        body = io.BytesIO(payload)
        body.seek(_HEAD_BYTES)
        row = fastavro.schemaless_reader(body, schema(int.from_bytes(payload[1:_HEAD_BYTES], "big")), None)
        if body.tell() != len(payload):
            raise DataError(f"{len(payload) - body.tell()} bytes follow the record")
        if not isinstance(row, dict):
            raise DataError("the record is no Avro record with fields")
        return {name: _plain(value) for name, value in row.items()}

    return decode


def _plain(value: Any) -> Any:
    """Logical types as what a column takes: decimals as floats, dates and UUIDs as text, enums are texts already."""
    if value is None or isinstance(value, str | int | float | bool | datetime):
        return value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, date) or type(value).__name__ == "UUID" else value


def _fetched(registry: str, number: int) -> bytes:
    url = f"{registry.rstrip('/')}/schemas/ids/{number}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404 and _is_unknown(error):
                raise DataError(f"schema {number} is not in the registry {registry}") from None
            why = f"HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        why = str(error)
    except ValueError as error:
        raise DefinitionError(f"schema_registry = {registry!r}: {error}") from None
    raise _not_given(registry, number, why)


def _not_given(registry: str, number: int, why: str) -> LogUnavailable:
    return LogUnavailable(f"the schema registry {registry} did not give schema {number}: {why}; see whether it runs, then try again")


def _is_unknown(error: urllib.error.HTTPError) -> bool:
    """Whether a registry itself says that it has no such schema, and not a proxy that it has no such page."""
    try:
        return bool(msgspec.json.decode(error.read())["error_code"] == _SCHEMA_NOT_FOUND)
    except (KeyError, TypeError, msgspec.MsgspecError, OSError, http.client.HTTPException):
        return False


def _parsed(content: bytes, registry: str, number: int) -> Any:
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _not_given(registry, number, f"the answer is none of a registry ({error})") from None
    try:
        if answer.schemaType != "AVRO":
            raise DataError(f"schema {number} is of type {answer.schemaType}, not AVRO")
        return fastavro.parse_schema(msgspec.json.decode(answer.schema))
    except (KeyError, TypeError, AttributeError, msgspec.MsgspecError, fastavro.schema.SchemaParseException) as error:
        raise DataError(f"schema {number} of the registry cannot be read: {type(error).__name__}: {error}") from None
