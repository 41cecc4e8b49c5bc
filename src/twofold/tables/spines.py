"""Keys, requests and spines as people give them: lists, dicts or tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from twofold.errors import SchemaMismatch, did_you_mean
from twofold.keys import Key
from twofold.tables.given import read_given


def keys_of(by: Mapping[str, str], keys: Any) -> list[Key | tuple[Any, ...]]:
    """Key tuples of a list of values (one key column), of tuples or dicts, or of a table with the key columns; in order."""
    names = list(by)
    if isinstance(keys, str | bytes | int):
        keys = [keys]
    if isinstance(keys, Mapping):
        keys = [keys]
    if not isinstance(keys, Sequence):
        frame = _frame(keys, "the table of keys")
        _require(names, frame.columns)
        return list(frame.select(names).iter_rows())
    return [_key(names, key) for key in keys]


def _key(names: list[str], key: Any) -> tuple[Any, ...]:
    if isinstance(key, Mapping):
        _require(names, list(key))
        return tuple(key[name] for name in names)
    parts = tuple(key) if isinstance(key, tuple | list) else (key,)
    if len(parts) != len(names):
        raise SchemaMismatch(f"the key {key!r} has {len(parts)} parts; the view's keys are ({', '.join(names)})")
    return parts


def _require(names: list[str], columns: Sequence[str]) -> None:
    for name in names:
        if name not in columns:
            raise SchemaMismatch(f"the key column {name!r} is missing; got {', '.join(columns) or 'nothing'}.{did_you_mean(name, columns)}")


def rows_of(requests: Any) -> list[Any]:
    """Requests as dicts: of one dict, a list of dicts, or a table. Items of a list that are none stay as they are, to be refused."""
    if isinstance(requests, Mapping):
        return [dict(requests)]
    if isinstance(requests, Sequence) and not isinstance(requests, str | bytes):
        return [dict(row) if isinstance(row, Mapping) else row for row in requests]
    return _frame(requests, "the table of requests").to_dicts()


def _frame(table: Any, what: str) -> pl.DataFrame:
    """A table as a frame; raises SchemaMismatch where it is none, DataError for a path where no such file is."""
    return pl.DataFrame(dict(read_given(table, None, what).columns))
