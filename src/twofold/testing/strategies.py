"""Hypothesis strategies for values as events carry them: hostile numbers, odd texts, instants before 1970, ties of event_time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from twofold.algebra.base import LOG_ORDER, Item
from twofold.instants import BEGIN_US

LARGEST = 1.7976931348623157e308
SMALLEST = 5e-324
HOSTILE_FLOATS = (
    *(0.0, 1.0, -1.0, 0.1, -0.1, 1 / 3, 1e15, -1e15, 1e16, -1e16, 1e300, -1e300, 1e-300, 1.5e308, LARGEST, -LARGEST),
    *(SMALLEST, -SMALLEST, 2.2250738585072014e-308, -2.225073858507201e-308, 2.0**53, 1_700_000_000.123456, 1_700_000_000.123457),
)
"""Ledgers that cancel, overflow, subnormals, Unix seconds: what breaks sums and deviations in plain float64."""
HOSTILE_INTS = (0, 1, -1, 2**31 - 1, -(2**31), 2**32, 2**53 + 1, 2**62, -(2**62), 2**63 - 1, -(2**63))


def floats() -> st.SearchStrategy[float]:
    """Finite floats as they pass ingest (never -0.0), many of them hostile."""
    plain = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
    return st.one_of(st.sampled_from(HOSTILE_FLOATS), st.integers(-100, 100).map(float), plain)


def ints() -> st.SearchStrategy[int]:
    """Integers of 64 bits, many near the ends."""
    return st.one_of(st.sampled_from(HOSTILE_INTS), st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1))


def texts() -> st.SearchStrategy[str]:
    """Valid texts of lengths around a word's eight bytes, with zero characters and characters of several bytes."""
    return st.one_of(st.sampled_from(("", "\0", "1", "eight by", "nine byte", "\u00e9\0\U0001f6eb")), st.text(max_size=20))


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "event": st.just(True),
    "float": floats(),
    "int": ints(),
    "bool": st.booleans(),
    "str": texts(),
    "category": texts(),
    "datetime": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    "row": st.binary(max_size=20),
}


def values(input_type: str) -> st.SearchStrategy[Any]:
    """Values of an input of that type, never null."""
    return _VALUES[input_type]


@st.composite
def items(draw: st.DrawFn, input_type: str, max_size: int = 12) -> list[Item]:
    """Events as an aggregate of that input type sees them: some tie in event_time, no two in order; some columns are constant."""
    return _as_items(draw, draw(st.lists(values(input_type), max_size=max_size)))


@st.composite
def three_parts(draw: st.DrawFn, input_type: str, max_size: int = 5) -> tuple[list[Item], list[Item], list[Item]]:
    """Events in three parts, any of which may be empty: what the laws of an aggregate are tried on."""
    parts = [draw(st.lists(values(input_type), max_size=max_size)) for _ in range(3)]
    whole = _as_items(draw, [value for part in parts for value in part])
    first, second = len(parts[0]), len(parts[0]) + len(parts[1])
    return whole[:first], whole[first:second], whole[second:]


def _as_items(draw: st.DrawFn, drawn: list[Any]) -> list[Item]:
    if drawn and draw(st.integers(0, 9)) == 0:
        drawn = [drawn[0]] * len(drawn)
    times = st.one_of(st.integers(-3, 3), st.integers(BEGIN_US, 2**62 - 1))
    majors = st.sampled_from((1, 2, LOG_ORDER, LOG_ORDER + 1))
    numbers = draw(st.permutations(range(len(drawn))))
    return [Item(value, draw(times), (draw(majors), number)) for value, number in zip(drawn, numbers, strict=True)]
