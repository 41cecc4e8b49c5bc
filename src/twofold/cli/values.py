"""Values typed on the command line: key parts by their declared type, requests as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from twofold.errors import SchemaMismatch
from twofold.instants import to_datetime, to_us


def typed_key(by: Mapping[str, str], texts: Sequence[str]) -> tuple[Any, ...]:
    """A key of the view's types from texts, one a key column. Raises SchemaMismatch."""
    if len(texts) != len(by):
        raise SchemaMismatch(f"the view's key is ({', '.join(by)}): give {len(by)} values, got {len(texts)}")
    return tuple(_typed(name, kind, text) for (name, kind), text in zip(by.items(), texts, strict=True))


def _typed(name: str, kind: str, text: str) -> str | int | bool | datetime:
    try:
        if kind == "int":
            return int(text)
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise SchemaMismatch(f"key column {name!r} is {kind}; got {text!r}") from None
    return to_datetime(to_us(text)) if kind == "datetime" else text


def json_value(text: str) -> Any:
    """The value of a JSON text. Raises SchemaMismatch."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise SchemaMismatch(f'the request is no JSON: {error}; write it as in \'{{"origin": "JFK"}}\'') from None
