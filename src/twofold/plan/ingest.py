"""The first thing every event passes: JSON-like rows checked against a source's columns, and their partitions. No engine is loaded.

An accepted value is *canonical*: a float is finite and never -0.0, an integer fits 64 bits, an instant is an int in microseconds UTC
within the calendar (years 1 to 9999), a text is valid Unicode (zero characters included); or it is None. What is accepted and what the
refusals say is decided value by value in `canonical`; whole columns of one Python type take a short way to the same values.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from twofold.errors import DataError, SchemaMismatch, did_you_mean
from twofold.instants import timedelta_us, to_us
from twofold.keys import encode_key, partition_of
from twofold.plan.serving import SourcePlan

Values = list[Any]
Columns = dict[str, Values]

EXACT_INT = 2**53
"""Up to here every integer is a float64."""
FIRST_US, LAST_US = to_us("0001-01-01T00:00:00Z"), to_us("9999-12-31T23:59:59.999999Z")
"""The calendar: other instants could not be shown as datetimes."""
_INT_BEGIN, _INT_END = -(2**63), 2**63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE_TEXT = 10
"""Length of `2013-10-01`: an ISO text no longer than this has no time of day."""


class Refused(ValueError):
    """A value that its column cannot take; the text says what was got and what to do, without the column's name."""


def check_rows(source: SourcePlan, rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Canonical values of all columns of the source, in the order of its columns and of the rows.

    All rows are accepted, or none is. A null is allowed except in the time column; an absent field is not. Raises SchemaMismatch
    with all that is wrong with the first bad row and the number of further bad ones (rows are counted from 0), DataError for a static table.
    """
    if source.time is None:
        raise DataError(f"{source.name!r} is a static table, which takes no events; load its rows as a table")
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Sequence):
        raise SchemaMismatch(f"source {source.name!r} takes a list of rows, as in [{{...}}, {{...}}]; got {_shown(rows)}")
    columns = source.columns
    try:
        if any(len(row) != len(columns) for row in rows):
            raise Refused
        checked = {name: canonical_values(kind, [row[name] for row in rows], source.zone) for name, kind in columns.items()}
        if None in checked[source.time]:
            raise Refused
    except (Refused, KeyError, TypeError, AttributeError, IndexError):
        raise SchemaMismatch(_refusal(source, rows)) from None
    return checked


def _refusal(source: SourcePlan, rows: Sequence[Any]) -> str:
    """What is wrong with the first bad row, and how many others are bad."""
    bad = [(number, problems) for number, row in enumerate(rows) if (problems := row_problems(source, row))]
    number, problems = bad[0]
    further = f" and {len(bad) - 1} further of the {len(rows)} rows" if len(bad) > 1 else ""
    whole = "" if len(rows) == 1 else ", so none is taken"
    return f"source {source.name!r} refuses row {number}{further}{whole}:\n" + "\n".join(f"  {problem}" for problem in problems)


def row_problems(source: SourcePlan, row: Any) -> list[str]:
    """Every problem of one row, by field in the order of the columns, then fields that the source does not have."""
    columns = source.columns
    if not isinstance(row, Mapping):
        return [f"the row is {_shown(row)}; give an object with the fields {', '.join(columns)}"]
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
            near = did_you_mean(name, columns) if isinstance(name, str) else ""
            problems.append(f"{name} is no field of this source, which has {', '.join(columns)}; leave it out.{near}")
    return problems


def canonical_values(kind: str, values: Values, zone: str | None = None) -> Values:
    """Canonical values of a whole column; raises Refused where any of them cannot be taken."""
    short = _SHORT_WAYS[kind](values, set(map(type, values)))
    if short is not None:
        return short
    convert = _CONVERT[kind]
    return [None if value is None else convert(value, zone) for value in values]


def canonical(kind: str, value: Any, zone: str | None = None) -> Any:
    """The canonical value of one field of a column of type `kind`; None stays None. Raises Refused."""
    return None if value is None else _CONVERT[kind](value, zone)


# One value


def _plain(value: Any) -> Any:
    """A NumPy scalar as the Python value that it stands for; instants of NumPy have no zone and stay what they are."""
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64) else value


def _text(value: Any, zone: str | None) -> str:
    if not isinstance(value, str):
        remedy = f"send it as text, as in {str(value)!r}" if isinstance(value, int | float) else "send a text"
        raise Refused(f"is {_shown(value)}, not a text; {remedy}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(f"is {_shown(value)}, which holds half of a surrogate pair; send valid Unicode") from None
    return str(value)


def _int(value: Any, zone: str | None) -> int:
    value = _plain(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"is {_shown(value)}, not an int; {_number_remedy(value, int)}")
    if not _INT_BEGIN <= value < _INT_END:
        raise Refused(f"is {_shown(value)}, which does not fit 64 bits; declare the column as str or float")
    return int(value)


def _float(value: Any, zone: str | None) -> float:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"is {_shown(value)}, not a float; {_number_remedy(value, float)}")
    if isinstance(value, int) and not -EXACT_INT <= value <= EXACT_INT:
        raise Refused(
            f"is {_shown(value)}, an integer beyond 2^53 that a float would round; send it as a float or declare the column as int"
        )
    if not isfinite(value):
        raise Refused(f"is {_shown(value)}; events take finite numbers, send null where there is none")
    return value + 0.0


def _bool(value: Any, zone: str | None) -> bool:
    value = _plain(value)
    if not isinstance(value, bool):
        raise Refused(f"is {_shown(value)}, not a bool; send true or false")
    return value


def _number_remedy(value: Any, wanted: type) -> str:
    if isinstance(value, str):
        return "send a number without quotes"
    if isinstance(value, bool):
        return "send 1 or 0"
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_INT:
        return f"send {int(value)}"
    return (
        "declare the column as float, or round it" if isinstance(value, float) else f"send {'an integer' if wanted is int else 'a number'}"
    )


def _instant(value: Any, zone: str | None) -> int:
    if type(value) is not datetime:
        value = _plain(value)
        if isinstance(value, bool):
            raise Refused(f"is {_shown(value)}, not an instant; {_INSTANT_REMEDY}")
        if isinstance(value, int):
            return _in_calendar(int(value))
        value = _parsed(value) if isinstance(value, str) else value
        if not isinstance(value, datetime):
            remedy = "a date has no time of day, use a datetime" if isinstance(value, date) else _INSTANT_REMEDY
            raise Refused(f"is {_shown(value)}, not an instant; {remedy}")
        if value != value:  # pandas' NaT calls itself a datetime
            raise Refused("is NaT; send null where there is no instant")
    if value.tzinfo is None or value.utcoffset() is None:
        if zone is None:
            raise Refused(f"is {value.isoformat()}, which has no zone; add one, as in '...Z', or declare zone= of the source")
        return local_us(value, zone)
    # An aware datetime may lie up to a day beyond the calendar in UTC.
    return _in_calendar(timedelta_us(value - _EPOCH))


_INSTANT_REMEDY = "send ISO 8601 text with a zone, as in '2013-10-01T05:15:00Z', an aware datetime, or an int in microseconds since 1970"


def _parsed(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"is {_shown(text)}, not an instant; {_INSTANT_REMEDY}") from None
    if len(text) <= _DATE_TEXT:
        raise Refused(f"is {_shown(text)}, a date without a time of day; {_INSTANT_REMEDY}")
    return parsed


def _in_calendar(us: int) -> int:
    if FIRST_US <= us <= LAST_US:
        return us
    guess = "; it looks like nanoseconds" if FIRST_US // 20 <= us // 1000 <= LAST_US // 20 else ""
    raise Refused(f"is {us}, which lies outside the calendar (years 1 to 9999){guess}; send microseconds since 1970")


@functools.lru_cache(maxsize=64)
def _zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_us(local: datetime, zone: str) -> int:
    """The instant at which the clocks of `zone` show `local` (a datetime without a zone).

    Of two such instants, in the hour that clocks repeat, the earlier one, unless the datetime says `fold=1`. Raises Refused for a
    time that the clocks of the zone leave out.
    """
    aware = local.replace(tzinfo=_zone_of(zone))
    try:
        us = timedelta_us(aware.astimezone(UTC) - _EPOCH)
        shown = aware.astimezone(UTC).astimezone(_zone_of(zone))
    except OverflowError:
        raise Refused(f"is {local.isoformat()}, which lies outside the calendar in UTC; send another instant") from None
    if shown.replace(tzinfo=None) != local.replace(tzinfo=None):
        raise Refused(f"is {local.isoformat()}, which the clocks of {zone} leave out; send the instant with its offset, as in '...Z'")
    return us


_CONVERT: dict[str, Callable[[Any, str | None], Any]] = {
    "str": _text,
    "category": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "datetime": _instant,
}


# A whole column of few Python types: the same values, or None where only the long way can tell.

_NULL = type(None)
_TEXTS, _INTS, _BOOLS = {str, _NULL}, {int, _NULL}, {bool, _NULL}
_FLOATS, _NUMBERS = {float, _NULL}, {float, int, _NULL}


def _short_text(values: Values, types: set[type]) -> Values | None:
    if not types <= _TEXTS:
        return None
    joined = "".join(values if _NULL not in types else filter(None, values))
    if not joined.isascii():
        try:
            joined.encode()
        except UnicodeEncodeError:
            return None
    return values


def _short_int(values: Values, types: set[type]) -> Values | None:
    if not types <= _INTS:
        return None
    present = values if _NULL not in types else [value for value in values if value is not None]
    return values if not present or (min(present) >= _INT_BEGIN and max(present) < _INT_END) else None


def _short_float(values: Values, types: set[type]) -> Values | None:
    if not types <= _NUMBERS:
        return None
    if int in types and not all(-EXACT_INT <= value <= EXACT_INT for value in values if type(value) is int):
        return None
    if _NULL in types:
        values = [None if value is None else value + 0.0 for value in values]
        return values if all(value is None or isfinite(value) for value in values) else None
    values = [value + 0.0 for value in values]
    return values if all(map(isfinite, values)) else None


def _short_bool(values: Values, types: set[type]) -> Values | None:
    return values if types <= _BOOLS else None


def _short_instant(values: Values, types: set[type]) -> Values | None:
    if types == {int}:
        return values if min(values) >= FIRST_US and max(values) <= LAST_US else None
    return None


_SHORT_WAYS: dict[str, Callable[[Values, set[type]], Values | None]] = {
    "str": _short_text,
    "category": _short_text,
    "int": _short_int,
    "float": _short_float,
    "bool": _short_bool,
    "datetime": _short_instant,
}


def _shown(value: Any, width: int = 60) -> str:
    """A value as an error shows it, never longer than a line."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= width else f"{text[: width - 3]}..."


# Partitions


def partition_rows(source: SourcePlan, columns: Mapping[str, Sequence[Any]], partitions: int) -> list[Sequence[int]]:
    """Numbers of the rows that belong to each partition, ascending; one entry for each of the `partitions`.

    The partition is a pinned hash of the source's `partition_by` columns, of all columns where there are none, so equal rows meet
    in one partition whenever and wherever they are appended. `columns` are canonical; instants may also be aware datetimes.
    """
    names = source.partition_by or tuple(source.columns)
    count = len(columns[names[0]])
    if partitions == 1:
        return [range(count)]
    parts = [map(_part_of(source.columns[name]), columns[name]) for name in names]
    rows: list[list[int]] = [[] for _ in range(partitions)]
    for number, key in enumerate(zip(*parts, strict=True)):
        rows[partition_of(b"".join(key), partitions)].append(number)
    return list(rows)


_NULL_PART, _FLOAT_TAG = b"\x00", b"\x60"
"""Beside the tags of `keys`: what can be no key, but can be part of a row."""


def _part_of(kind: str) -> Callable[[Any], bytes]:
    """Bytes of a value of a column: null or a float, which no key has, or the key of that value (of an instant, of its microseconds)."""
    if kind == "float":
        return lambda value: _NULL_PART if value is None else _FLOAT_TAG + struct.pack(">d", value)
    if kind == "datetime":
        return lambda value: _NULL_PART if value is None else encode_key((value if isinstance(value, int) else to_us(value),))
    return lambda value: _NULL_PART if value is None else encode_key((value,))
