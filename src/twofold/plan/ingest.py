"""The first thing every event passes: JSON-like rows checked against a source's columns, and their partitions. No engine is loaded here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twofold.definitions.base import ELEMENT_TYPES
from twofold.definitions.joins import joined_name
from twofold.errors import DataError, SchemaMismatch, did_you_mean
from twofold.instants import to_us
from twofold.keys import encode_key, partition_of
from twofold.plan.canonical import Refused, Values, canonical, canonical_values, shown
from twofold.plan.serving import SourcePlan


def check_rows(source: SourcePlan, rows: Sequence[Mapping[str, Any]]) -> dict[str, Values]:
    """Canonical values of all columns of the source, in the order of its columns and of the rows.

    All rows are accepted, or none is. A null is allowed except in the time column; an absent field is not. Raises SchemaMismatch
    with all that is wrong with the first bad row and the number of further bad ones (rows are counted from 0); DataError for a
    table that takes no single rows.
    """
    time = require_takes_events(source)
    if type(rows) is not list and (isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Sequence)):
        raise SchemaMismatch(f"source {source.name!r} takes a list of rows, as in [{{...}}, {{...}}]; got {shown(rows)}")
    columns = source.columns
    if set(map(type, rows)) - {dict}:
        rows = [dict(row) if isinstance(row, Mapping) else row for row in rows]
    try:
        if set(map(len, rows)) - {len(columns)}:
            raise Refused
        if len(rows) == 1:  # the most frequent call of all, 2 us instead of 4
            checked = {name: [canonical(kind, rows[0][name], source.zone)] for name, kind in columns.items()}
        else:
            checked = {name: canonical_values(kind, [row[name] for row in rows], source.zone) for name, kind in columns.items()}
        if None in checked[time]:
            raise Refused
    except (Refused, KeyError, TypeError, AttributeError, IndexError):
        raise SchemaMismatch(_refusal(source, rows)) from None
    return checked


def require_takes_events(source: SourcePlan) -> str:
    """The time column of a source; raises DataError for a table that is loaded only: a static one, or one of whole snapshots."""
    if source.is_snapshots:
        raise DataError(f"{source.name!r} is a table of whole snapshots, which takes no single rows; load the next snapshot")
    if source.time is None:
        raise DataError(f"{source.name!r} is a static table, which takes no events; load its rows as a table")
    return source.time


def _refusal(source: SourcePlan, rows: Sequence[Any]) -> str:
    """What is wrong with the first bad row, and how many others are bad."""
    bad = [number for number, row in enumerate(rows) if not _is_good(source, row)]
    further = f" and {len(bad) - 1} further of the {len(rows)} rows" if len(bad) > 1 else ""
    whole = "" if len(rows) == 1 else ", so none is taken"
    problems = "\n".join(f"  {problem}" for problem in row_problems(source, rows[bad[0]]))
    return f"source {source.name!r} refuses row {bad[0]}{further}{whole}:\n{problems}"


def _is_good(source: SourcePlan, row: Any) -> bool:
    """Whether `row_problems` finds none; a look for the nearest name in each of a million rows would take minutes."""
    if not isinstance(row, dict) or row.keys() != source.columns.keys() or row[source.time] is None:
        return False
    try:
        for name, kind in source.columns.items():
            canonical(kind, row[name], source.zone)
    except Refused:
        return False
    return True


def row_problems(source: SourcePlan, row: Any) -> list[str]:
    """Every problem of one row, by field in the order of the columns, then fields that the source does not have."""
    columns = source.columns
    if not isinstance(row, Mapping):
        return [f"the row is {shown(row)}; give an object with the fields {', '.join(columns)}"]
    problems = []
    for name, kind in columns.items():
        if name not in row:
            near = did_you_mean(name, [got for got in row if isinstance(got, str) and got not in columns])
            remedy = "give the instant of the event" if name == source.time else "where nothing is known give null"
            problems.append(f"{name} is absent; {remedy}.{near}")
            continue
        try:
            if canonical(kind, row[name], source.zone) is None and name == source.time:
                problems.append(f"{name} is null; every event has an instant")
        except Refused as refused:
            problems.append(f"{name} {refused}")
    for name in row:
        if name not in columns:
            problems.append(_why_no_field(source, name))
    return problems


def _why_no_field(source: SourcePlan, name: Any) -> str:
    if table := joined_from(source, name):
        return f"{name} is not sent: it is joined from table {table!r} when the event is appended; leave it out"
    near = did_you_mean(name, source.columns) if isinstance(name, str) else ""
    return f"{name} is no field of this source, which has {', '.join(source.columns)}; leave it out.{near}"


def joined_from(source: SourcePlan, name: Any) -> str | None:
    """The table that a column is joined from, under its name in views or the one that is stored; None for any other column."""
    for join in source.joins:
        if name in join.types or name in {joined_name(join.table, column) for column in join.stored}:
            return join.table
    return None


def partition_rows(source: SourcePlan, columns: Mapping[str, Sequence[Any]], partitions: int) -> list[Sequence[int]]:
    """Numbers of the rows that belong to each partition, ascending; one entry for each of the `partitions`.

    The partition is a pinned hash of the source's `partition_by` columns, of all columns where there are none, so equal rows meet
    in one partition whenever and wherever they are appended. `columns` are canonical; instants may also be aware datetimes.
    """
    names = source.partition_by or tuple(source.columns)
    count = len(columns[names[0]])
    if partitions == 1:
        return [range(count)]
    rows: list[list[int]] = [[] for _ in range(partitions)]
    for number, key in enumerate(partition_keys(source, columns)):
        rows[partition_of(key, partitions)].append(number)
    return list(rows)


def partition_keys(source: SourcePlan, columns: Mapping[str, Sequence[Any]]) -> Iterator[bytes]:
    """The bytes that each row is partitioned by (see `partition_rows`)."""
    names = source.partition_by or tuple(source.columns)
    parts = [map(_part_of(source.columns[name]), columns[name]) for name in names]
    return map(b"".join, zip(*parts, strict=True))


_NULL_PART, _FLOAT_TAG, _LIST_TAG = b"\x00", b"\x60", b"\x70"
"""Beside the tags of `keys`: what can be no key, but can be part of a row."""


def _part_of(kind: str) -> Callable[[Any], bytes]:
    """Bytes of a value of a column: null, a float or a list, which no key has, or its key (of an instant, of its microseconds)."""
    if kind in ELEMENT_TYPES:
        part = _part_of(ELEMENT_TYPES[kind])
        return lambda value: _NULL_PART if value is None else b"".join([_LIST_TAG, struct.pack(">q", len(value)), *map(part, value)])
    if kind == "float":
        return lambda value: _NULL_PART if value is None else _FLOAT_TAG + struct.pack(">d", value)
    if kind == "datetime":
        return lambda value: _NULL_PART if value is None else encode_key((value if isinstance(value, int) else to_us(value),))
    return lambda value: _NULL_PART if value is None else encode_key((value,))
