"""One column of a table as a column of a declared type: what fits exactly is converted, what does not is refused with row and value."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.definitions.base import ELEMENT_TYPES
from twofold.instants import to_iso
from twofold.plan.canonical import EXACT_INT, FIRST_US, LAST_US, MOST_ELEMENTS, Refused, canonical, canonical_values, shown
from twofold.plan.inputs import POLARS_TYPES
from twofold.tables.given import ABSENT

Fitted = tuple[pl.Series, list[str]]
"""A column of its declared Polars type, and notes on what was changed in it."""

_AWARE, _LOCAL = pl.Datetime("us", "UTC"), pl.Datetime("us")
_ZONES_AGREE_UNTIL = datetime(2099, 12, 1)
"""Later than that, Polars' rules of clocks are not those of Python."""
_SHOWN_ELEMENTS = 100
_LONG_NUMBER = re.compile(r"-?\d{9,}")
"""An instant in microseconds, in a text; a shorter one would be a date."""


class Unfit(Exception):
    """Values that do not fit: `text` says what the one in `row` is and what to do, `count` how many there are."""

    def __init__(self, row: int, text: str, count: int = 1) -> None:
        super().__init__(row, text, count)
        self.row, self.text, self.count = row, text, count

    def about(self, name: str) -> str:
        """The problem as a line of an error."""
        further = f" (and {self.count - 1} further)" if self.count > 1 else ""
        return f"{name} in row {self.row}{further} {self.text}"


def fit(values: pl.Series | list[Any], kind: str, zone: str | None, strict: bool, is_text: bool = False) -> Fitted:
    """The values as a column of type `kind`; raises Unfit.

    A column without any value fits every type. Not `strict`: NaN and infinities become null in float columns, NaN in int columns.
    """
    if isinstance(values, list):
        return _fit_values(values, kind, zone, strict)
    if values.null_count() == len(values):
        return pl.Series(values.name, [None] * len(values), POLARS_TYPES[kind]), []
    if kind in ELEMENT_TYPES:
        return _fit_lists(values, kind, zone, strict)
    if is_text:
        return _TEXT_WAYS[kind](values, zone, strict)
    return _WAYS[kind](values, zone, strict)


def _refuse(series: pl.Series, is_bad: pl.Series, text: str) -> None:
    """Raise Unfit for the first row for which `is_bad` is true, if there is one."""
    rows = is_bad.arg_true()
    if len(rows):
        raise Unfit(int(rows[0]), f"is {_shown_at(series, int(rows[0]))}, {text}", len(rows))


def _type_refusal(series: pl.Series, text: str) -> Unfit:
    row = int(series.is_not_null().arg_true()[0])
    return Unfit(row, f"is {_shown_at(series, row)}, {text}", len(series) - series.null_count())


def _shown_at(series: pl.Series, row: int) -> str:
    if isinstance(series.dtype, pl.Datetime):
        us = series.to_physical()[row] * 1000 // {"ns": 1_000_000, "us": 1000, "ms": 1}[series.dtype.time_unit]
        return to_iso(us) if series.dtype.time_zone else to_iso(us).removesuffix("Z")
    value = series[row]
    return shown(value[:_SHOWN_ELEMENTS].to_list() if isinstance(value, pl.Series) else value)


# Python values, one by one: the same rules as for events, but for what `strict` says


def _fit_values(values: list[Any], kind: str, zone: str | None, strict: bool) -> Fitted:
    for row, value in enumerate(values):
        if value is ABSENT:
            raise Unfit(row, "is absent; where nothing is known give None", sum(1 for other in values if other is ABSENT))
    notes: list[str] = []
    if not strict and ELEMENT_TYPES.get(kind, kind) in ("float", "int"):
        lenient = [_number(value, kind) for value in values]
        changed = sum(_count_nulls(after) - _count_nulls(before) for before, after in zip(values, lenient, strict=True))
        notes = _nulled(changed)
        values = lenient
    try:
        fitted = canonical_values(kind, values, zone)
    except Refused:
        raise _first_refusal(values, kind, zone) from None
    if kind == "datetime":
        return pl.Series(fitted, dtype=pl.Int64).cast(_AWARE), notes
    return pl.Series(fitted, dtype=POLARS_TYPES[kind]), notes


def _first_refusal(values: list[Any], kind: str, zone: str | None) -> Unfit:
    bad: list[tuple[int, str]] = []
    for row, value in enumerate(values):
        try:
            canonical(kind, value, zone)
        except Refused as refused:
            bad.append((row, str(refused)))
    return Unfit(*bad[0], len(bad))


def _count_nulls(value: Any) -> int:
    return sum(item is None for item in value) if isinstance(value, list) else value is None


def _number(value: Any, kind: str) -> Any:
    """A float that is none as None, a whole one as an int where ints are wanted; in a list each element."""
    if kind in ELEMENT_TYPES:
        return [_number(item, ELEMENT_TYPES[kind]) for item in value] if isinstance(value, list | tuple | np.ndarray) else value
    if not isinstance(value, float | np.floating):
        return value
    if kind == "float":
        return value if np.isfinite(value) else None
    if value != value:
        return None
    number = float(value)
    return int(number) if number.is_integer() and abs(number) <= EXACT_INT else value


def _nulled(count: int) -> list[str]:
    return [f"{count} x no finite number, null instead"] if count else []


# Series


def _fit_lists(series: pl.Series, kind: str, zone: str | None, strict: bool) -> Fitted:
    """Lists whose elements are fitted as a column of their own."""
    element = ELEMENT_TYPES[kind]
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if not isinstance(series.dtype, pl.List):
        raise _type_refusal(series, f"not a list ({series.dtype}); give a column of lists, as pl.List({POLARS_TYPES[element]}) is")
    lengths = series.list.len()
    _refuse(series, lengths > MOST_ELEMENTS, f"with more than {MOST_ELEMENTS} elements; give several events")
    counts = lengths.fill_null(0).cast(pl.Int64).to_numpy()
    try:
        elements, notes = fit(series.filter(lengths > 0).explode(), element, zone, strict)
    except Unfit as error:
        raise Unfit(int(np.repeat(np.arange(counts.size), counts)[error.row]), f"has an element that {error.text}", error.count) from None
    return as_lists(elements, counts, series.is_not_null().to_numpy()).alias(series.name), notes


def as_lists(values: pl.Series, counts: NDArray[np.int64], is_value: NDArray[np.bool_]) -> pl.Series:
    """A column of lists from their values one after another: `counts` [rows] values each, null where not `is_value`."""
    numbers = pl.Series(np.repeat(np.arange(counts.size), counts))
    listed = pl.DataFrame({"row": numbers, "value": values}).group_by("row", maintain_order=True).agg("value")
    rows = pl.DataFrame({"row": np.arange(counts.size)}).join(listed, on="row", how="left", maintain_order="left")["value"]
    return rows.fill_null(pl.lit([], dtype=rows.dtype)).set(pl.Series(~is_value), None) if is_value.any() else rows


def _fit_text(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    if series.dtype != pl.String and not isinstance(series.dtype, pl.Categorical | pl.Enum):
        raise _type_refusal(series, f"not a text ({series.dtype}); cast the column, as in .cast(pl.String)")
    return series.cast(pl.String), []


def _fit_bool(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    if series.dtype != pl.Boolean:
        raise _type_refusal(series, f"not a bool ({series.dtype}); make the column a condition, as in pl.col(...) != 0")
    return series, []


def _fit_int(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    if series.dtype.is_integer():
        whole = series.cast(pl.Int64, strict=False)
        _refuse(series, whole.is_null() & series.is_not_null(), "which does not fit 64 bits; declare the column as str")
        return whole, []
    if not (series.dtype.is_float() or series.dtype.is_decimal()):
        raise _type_refusal(series, f"not an int ({series.dtype}); cast the column, as in .cast(pl.Int64)")
    changed: list[str] = []
    if series.dtype.is_float():
        series = series.cast(pl.Float64)
        if not strict:
            changed = _nulled(int(series.is_nan().sum()))
            series = series.fill_nan(None)
        _refuse(series, ~series.is_finite(), "not an int; give null where there is none")
        _refuse(series, series.abs() > EXACT_INT, "beyond 2^53, where floats have lost digits of integers; give the column as integers")
    whole = series.cast(pl.Int64, strict=False)
    _refuse(
        series,
        ((whole.cast(series.dtype) != series) | whole.is_null()) & series.is_not_null(),
        "not an int; round the column, or declare it as float",
    )
    return whole, changed


def _fit_float(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    if series.dtype.is_integer():
        is_rounded = (series > EXACT_INT) | (series < -EXACT_INT) if series.dtype.is_signed_integer() else series > EXACT_INT
        _refuse(series, is_rounded, "an integer beyond 2^53, which a float may round; declare the column as int, or cast it")
        return series.cast(pl.Float64), []
    if not (series.dtype.is_float() or series.dtype.is_decimal()):
        raise _type_refusal(series, f"not a float ({series.dtype}); cast the column, as in .cast(pl.Float64)")
    return _finite(series.cast(pl.Float64), strict)


def _finite(series: pl.Series, strict: bool) -> Fitted:
    """The column without NaN, infinities and -0.0."""
    is_number = series.is_finite()
    if strict:
        _refuse(series, ~is_number, "no finite number; give null where there is none")
    changed = int((~is_number).sum())
    # Not `series + 0.0`: Polars takes that for the series itself and keeps the sign of zero.
    value = pl.when(series == 0.0).then(0.0).when(is_number).then(series)
    return pl.select(value.alias(series.name)).to_series(), _nulled(changed)


def _fit_instant(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    if series.dtype == pl.String:
        return _fit_values(series.to_list(), "datetime", zone, strict)
    if series.dtype.is_integer():
        return _in_calendar(series.cast(pl.Int64, strict=False), series, 1).cast(_AWARE), []
    if not isinstance(series.dtype, pl.Datetime):
        remedy = (
            "a date has no time of day; make it a datetime"
            if series.dtype == pl.Date
            else "give aware datetimes or microseconds since 1970"
        )
        raise _type_refusal(series, f"not an instant ({series.dtype}); {remedy}")
    us, notes = _microseconds(series)
    if series.dtype.time_zone is not None:
        return us.cast(_AWARE), notes
    return _from_local(us, zone, notes)


def _in_calendar(instants: pl.Series, given: pl.Series, per_unit: int) -> pl.Series:
    """Microseconds of whole instants of `per_unit` microseconds each."""
    is_far = (instants < FIRST_US // per_unit) | (instants > LAST_US // per_unit) | (instants.is_null() & given.is_not_null())
    physical = given.to_physical()
    _refuse(physical, is_far, "which lies outside the calendar (years 1 to 9999); give microseconds since 1970")
    return instants * per_unit


def _microseconds(series: pl.Series) -> Fitted:
    """Datetimes as an int column of microseconds; nanoseconds are floored."""
    assert isinstance(series.dtype, pl.Datetime)
    physical = series.to_physical()
    if series.dtype.time_unit == "ns":
        lost = int((physical % 1000 != 0).sum())
        return physical // 1000, [f"{lost} x finer than microseconds, rounded down"] if lost else []
    return _in_calendar(physical, series, 1000 if series.dtype.time_unit == "ms" else 1), []


_NO_ZONE = "which has no zone; add one, as in .dt.replace_time_zone('UTC'); a source may declare zone="


def _from_local(us: pl.Series, zone: str | None, notes: list[str]) -> Fitted:
    local = us.cast(_LOCAL)
    if zone is None:
        raise _type_refusal(local, _NO_ZONE)
    if local.max() > _ZONES_AGREE_UNTIL:  # type: ignore[operator]
        return _fit_values(local.to_list(), "datetime", zone, strict=True)
    first, second = (local.dt.replace_time_zone(zone, ambiguous=which, non_existent="null") for which in ("earliest", "latest"))
    left_out = first.is_null() & local.is_not_null()
    _refuse(local, left_out, f"which the clocks of {zone} leave out; give aware datetimes")
    twice = int((first.to_physical() != second.to_physical()).sum())
    if twice:
        notes = [*notes, f"{twice} x a local time that comes twice in {zone}, the earlier instant taken"]
    utc = first.to_physical()
    return _in_calendar(utc, utc, 1).cast(_AWARE), notes


# Texts of a CSV file


def _read_text(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    return series, []


def _read_int(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    whole = series.cast(pl.Int64, strict=False)
    rest = series.set(whole.is_not_null(), None)
    if rest.null_count() == len(rest):
        return whole, []
    floats, notes = _fit_int(_numbers(rest, "an int"), zone, strict)
    return whole.fill_null(floats), notes


def _read_float(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    return _finite(_numbers(series, "a float"), strict)


def _numbers(series: pl.Series, what: str) -> pl.Series:
    numbers = series.cast(pl.Float64, strict=False)
    _refuse(series, numbers.is_null() & series.is_not_null(), f"not {what}; write nothing where there is none")
    return numbers


def _read_bool(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    lower = series.str.to_lowercase()
    _refuse(series, ~lower.is_in(["true", "false"]), "not a bool; write true or false, or nothing where there is none")
    return lower == "true", []


def _read_instant(series: pl.Series, zone: str | None, strict: bool) -> Fitted:
    values = [int(text) if text and _LONG_NUMBER.fullmatch(text) else text for text in series]
    return _fit_values(values, "datetime", zone, strict)


_Way = Callable[[pl.Series, str | None, bool], Fitted]
_WAYS: dict[str, _Way] = {
    "str": _fit_text,
    "category": _fit_text,
    "int": _fit_int,
    "float": _fit_float,
    "bool": _fit_bool,
    "datetime": _fit_instant,
}
_TEXT_WAYS: dict[str, _Way] = {
    "str": _read_text,
    "category": _read_text,
    "int": _read_int,
    "float": _read_float,
    "bool": _read_bool,
    "datetime": _read_instant,
}
