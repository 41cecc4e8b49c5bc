"""Which values a column takes and what they become: one canonical form for each type, decided value by value.

A canonical value is None, or: a float that is finite and not -0.0; an integer of 64 bits; a bool; a text of valid Unicode (zero
characters included); an instant as an int in microseconds UTC within the calendar (years 1 to 9999); a list of canonical values of one of
the first four types. Whole columns of one Python type take a short way to the same values. Rows and tables are not known here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from twofold.definitions.base import ELEMENT_TYPES
from twofold.instants import timedelta_us, to_us

Values = list[Any]

MOST_ELEMENTS = 2**20
"""So many elements can a list have: each must find its place in the order between its event and the next (see `plan.inputs`)."""
EXACT_INT = 2**53
"""Up to here every integer is a float64."""
FIRST_US, LAST_US = to_us("0001-01-01T00:00:00Z"), to_us("9999-12-31T23:59:59.999999Z")
"""The calendar: other instants could not be shown as datetimes."""
_LIKELY = to_us("1990-01-01T00:00:00Z"), to_us("2200-01-01T00:00:00Z")
"""A number beyond the calendar that lies here as nanoseconds is most likely that."""
INT_BEGIN, INT_END = -(2**63), 2**63
_EPOCH, _LOCAL_EPOCH = datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1)
_NO_TIME = timedelta(0)
_FEW = 4
"""A column no longer than this is converted value by value sooner than it is looked at as a whole."""
_DATE_TEXT = 10
"""Length of `2013-10-01`: an ISO text no longer than this has no time of day."""


class Refused(ValueError):
    """A value that its column cannot take; the text says what was got and what to do, without the column's name."""


def canonical_values(kind: str, values: Values, zone: str | None = None) -> Values:
    """Canonical values of a whole column; raises Refused where any of them cannot be taken."""
    if len(values) > _FEW:
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
    if type(value) is str and value.isascii():
        return value
    if not isinstance(value, str):
        raise Refused(f"is {shown(value)}, not a text; {_text_remedy(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refused(f"is {shown(value)}, which holds half of a surrogate pair; send valid Unicode") from None
    return str.__str__(value)


def _int(value: Any, zone: str | None) -> int:
    if type(value) is not int:
        value = _plain(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused(f"is {shown(value)}, not an int; {_number_remedy(value, 'an integer')}")
    number = int(value)
    if not INT_BEGIN <= number < INT_END:
        raise Refused(f"is {shown(number)}, which does not fit 64 bits; declare the column as str")
    return number


def _float(value: Any, zone: str | None) -> float:
    if type(value) is not float:
        value = _plain(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(f"is {shown(value)}, not a float; {_number_remedy(value, 'a number')}")
        if isinstance(value, int) and not -EXACT_INT <= value <= EXACT_INT:
            raise Refused(f"is {shown(value)}, an integer beyond 2^53, which a float may round; declare the column as int")
    if not isfinite(value):
        raise Refused(f"is {value!r}; events take finite numbers, {_SEND_NULL}")
    return float(value) + 0.0


def _bool(value: Any, zone: str | None) -> bool:
    value = _plain(value)
    if not isinstance(value, bool):
        raise Refused(f"is {shown(value)}, not a bool; send true or false")
    return value


_SEND_NULL = "send null where there is none"


def _is_nan(value: Any) -> bool:
    """NaN, or pandas' NaT, which calls itself a datetime."""
    return isinstance(value, float | datetime) and value != value


def _text_remedy(value: Any) -> str:
    if _is_nan(value):
        return _SEND_NULL
    return f"send it as text, as in '{value}'" if isinstance(value, int | float) else "send a text"


def _number_remedy(value: Any, wanted: str) -> str:
    if isinstance(value, str):
        return f"send {wanted} without quotes"
    if isinstance(value, bool):
        return f"send {int(value)}, or declare the column as bool"
    if not isinstance(value, float):
        return f"send {wanted}"
    if _is_nan(value):
        return _SEND_NULL
    return f"send {int(value)}" if value.is_integer() and abs(value) < EXACT_INT else "round it, or declare the column as float"


def _instant(value: Any, zone: str | None) -> int:
    if type(value) is int:
        return _in_calendar(value)
    moment = value if type(value) is datetime else _moment(value)
    if isinstance(moment, int):
        return _in_calendar(moment)
    if moment.tzinfo is None or moment.utcoffset() is None:
        if zone is None:
            raise Refused(f"is {moment.isoformat()}, which has no zone; add one, as in '...Z'; a source may declare zone=")
        return local_us(moment.replace(tzinfo=None), zone)
    return _in_calendar(timedelta_us(moment - _EPOCH))


def _moment(value: Any) -> datetime | int:
    """What is meant by an instant that is not plainly a datetime."""
    value = _plain(value)
    if isinstance(value, str):
        return _parsed(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if _is_nan(value):
        raise Refused(f"is {shown(value)}, not an instant; {_SEND_NULL}")
    if not isinstance(value, datetime):
        remedy = "a date has no time of day, send a datetime" if isinstance(value, date) else _INSTANT_REMEDY
        raise Refused(f"is {shown(value)}, not an instant; {remedy}")
    # A subclass may carry more than microseconds: they are cut off.
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return datetime(value.year, value.month, value.day, *clock, tzinfo=value.tzinfo, fold=value.fold)


_INSTANT_REMEDY = "send ISO 8601 text with a zone, as in '2013-10-01T05:15:00Z', an aware datetime, or an int in microseconds since 1970"


def _parsed(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"is {shown(text)}, not an instant; {_INSTANT_REMEDY}") from None
    if len(text) <= _DATE_TEXT:
        raise Refused(f"is {shown(text)}, a date without a time of day; {_INSTANT_REMEDY}")
    return parsed


def _in_calendar(us: int) -> int:
    if FIRST_US <= us <= LAST_US:
        return us
    guess = " and looks like nanoseconds" if _LIKELY[0] <= us // 1000 < _LIKELY[1] else ""
    raise Refused(f"is {us}, which lies outside the calendar (years 1 to 9999){guess}; send microseconds since 1970")


@functools.lru_cache(maxsize=64)
def _zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_us(local: datetime, zone: str) -> int:
    """The instant at which the clocks of `zone` show `local` (a datetime without a zone).

    Of two such instants, in the hour that clocks repeat, the earlier one, unless the datetime says `fold=1`. Raises Refused for a
    time that the clocks of the zone leave out.
    """
    place = _zone_of(zone)
    first, second = (local.replace(tzinfo=place, fold=fold).utcoffset() or _NO_TIME for fold in (0, 1))
    if first < second:  # clocks go forward, over this time
        raise Refused(f"is {local.isoformat()}, which the clocks of {zone} leave out; send the instant with its offset, as in '...Z'")
    return _in_calendar(timedelta_us(local - _LOCAL_EPOCH - (second if local.fold else first)))


def _list_of(element: str) -> Callable[[Any, str | None], Values]:
    convert = _CONVERT[element]

    def convert_all(value: Any, zone: str | None) -> Values:
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise Refused(f"is {shown(value)}, not a list; send one, as in [{_EXAMPLES[element]}], or null")
        if len(value) > MOST_ELEMENTS:
            raise Refused(f"has {len(value)} elements, and an event can have {MOST_ELEMENTS}; send several events")
        converted: Values = []
        try:
            for item in value:
                converted.append(None if item is None else convert(item, zone))
        except Refused as refused:
            raise Refused(f"in element {len(converted)} {refused}") from None
        return converted

    return convert_all


_EXAMPLES = {"str": "'a', 'b'", "int": "1, 2", "float": "0.5, 1.5", "bool": "true, false"}
_CONVERT: dict[str, Callable[[Any, str | None], Any]] = {
    "str": _text,
    "category": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "datetime": _instant,
}
_CONVERT |= {kind: _list_of(element) for kind, element in ELEMENT_TYPES.items()}


# A whole column of few Python types: the same values, or None where only the long way can tell.

_NULL = type(None)
_TEXTS, _INTS, _BOOLS = {str, _NULL}, {int, _NULL}, {bool, _NULL}
_NUMBERS = {float, int, _NULL}


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
    return values if not present or (min(present) >= INT_BEGIN and max(present) < INT_END) else None


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


def _short_list(element: str) -> Callable[[Values, set[type]], Values | None]:
    def short(values: Values, types: set[type]) -> Values | None:
        if not types <= _LISTS or any(value is not None and len(value) > MOST_ELEMENTS for value in values):
            return None
        elements = [item for value in values if value is not None for item in value]
        found = _SHORT_WAYS[element](elements, set(map(type, elements)))
        if found is None:
            return None
        following = iter(found)
        return [None if value is None else list(islice(following, len(value))) for value in values]

    return short


_LISTS = {list, _NULL}
_SHORT_WAYS: dict[str, Callable[[Values, set[type]], Values | None]] = {
    "str": _short_text,
    "category": _short_text,
    "int": _short_int,
    "float": _short_float,
    "bool": _short_bool,
    "datetime": _short_instant,
}
_SHORT_WAYS |= {kind: _short_list(element) for kind, element in ELEMENT_TYPES.items()}


def shown(value: Any, width: int = 60) -> str:
    """A value as an error shows it, never longer than a line."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= width else f"{text[: width - 3]}..."
