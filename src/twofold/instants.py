"""Instants (int64 microseconds UTC), durations and the ladder of hops. Only this file converts units of time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

from twofold.errors import DefinitionError, SchemaMismatch

US_PER_SECOND = 1_000_000
MINUTE_US = 60 * US_PER_SECOND
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

BEGIN_US = -(2**62)
"""Before every event: the start of an all-time state and the event_time of a static row."""

HOPS_US = (
    100_000,
    500_000,
    US_PER_SECOND,
    5 * US_PER_SECOND,
    15 * US_PER_SECOND,
    MINUTE_US,
    5 * MINUTE_US,
    15 * MINUTE_US,
    HOUR_US,
    6 * HOUR_US,
    DAY_US,
)
"""Each hop divides the next, so a coarse tile is a union of whole finer ones."""

MAX_TILES = 128
_UNITS = {"us": 1, "ms": 1000, "s": US_PER_SECOND, "m": MINUTE_US, "min": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_DURATION = re.compile(r"(\d+)(us|ms|s|min|m|h|d|w)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Instant = int | datetime
Duration = str | timedelta


def duration_us(text: Duration) -> int:
    """Length of a duration such as `"90s"`, `"1h30m"` or a timedelta, in microseconds; always positive.

    >>> duration_us("1h30m")
    5400000000
    """
    if isinstance(text, timedelta):
        value = timedelta_us(text)
    elif isinstance(text, str) and text and not _DURATION.sub("", text):
        value = sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    else:
        raise DefinitionError(f"{text!r} is no duration; write a number and a unit of us, ms, s, m, h, d or w, as in '15m' or '7d'")
    if value <= 0:
        raise DefinitionError(f"{text!r} is no duration: it must be longer than nothing")
    if value >= 2**61:
        raise DefinitionError(f"{text!r} is too long a duration; leave `over` out for all time")
    return value


def timedelta_us(delta: timedelta) -> int:
    """Exact length of a timedelta in microseconds."""
    return (delta.days * 86_400 + delta.seconds) * US_PER_SECOND + delta.microseconds


def duration_text(us: int) -> str:
    """The shortest text of a duration: `3600000000` is `"1h"`.

    >>> duration_text(5_400_000_000)
    '90m'
    """
    for unit in ("d", "h", "m", "s", "ms", "us"):
        if us % _UNITS[unit] == 0:
            return f"{us // _UNITS[unit]}{unit}"
    raise AssertionError(us)


def to_us(instant: Instant | str) -> int:
    """Microseconds since 1970 UTC of an aware datetime, an ISO 8601 text with a zone, or an int taken as it is.

    Raises SchemaMismatch for a datetime without a zone.
    """
    if isinstance(instant, bool):
        raise SchemaMismatch(f"{instant!r} is no instant")
    if isinstance(instant, int):
        if not BEGIN_US <= instant < 2**62:
            raise SchemaMismatch(f"instant {instant} lies outside the representable time; give microseconds since 1970")
        return instant
    if isinstance(instant, str):
        try:
            instant = datetime.fromisoformat(instant)
        except ValueError:
            raise SchemaMismatch(f"{instant!r} is no instant; write ISO 8601 with a zone, as in '2013-10-01T05:15:00Z'") from None
    if not isinstance(instant, datetime):
        raise SchemaMismatch(f"{instant!r} is no instant; give an aware datetime or microseconds since 1970")
    if instant.tzinfo is None:
        raise SchemaMismatch(f"datetime {instant.isoformat()} has no zone; add one, as in '...Z' or tzinfo=UTC")
    return timedelta_us(instant - _EPOCH)


def to_datetime(us: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + timedelta(microseconds=us)


def to_iso(us: int) -> str:
    """ISO 8601 text in UTC of an instant; the number itself where it lies beyond the calendar."""
    try:
        return to_datetime(us).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return str(us)


def floor_to(us: int, hop_us: int) -> int:
    """Start of the hop that holds `us`; true floor, also before 1970."""
    return us - us % hop_us


def hop_for(width_us: int) -> int:
    """The smallest hop of the ladder that cuts a window of `width_us` into at most 128 tiles; 1 d where none does."""
    for hop in HOPS_US:
        if width_us <= hop * MAX_TILES:
            return hop
    return HOPS_US[-1]


class Clock(Protocol):
    """Where the project takes its time from: stamps arrivals, chooses `at`, decides what is due."""

    def now_us(self) -> int:
        """The present instant in microseconds UTC."""
        ...
