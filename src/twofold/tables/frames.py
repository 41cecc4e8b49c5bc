"""Tables as a source declares them: any accepted table in, one frame of exact types out, or an error that names column and row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.errors import SchemaMismatch, did_you_mean
from twofold.plan.ingest import check_rows, joined_from, require_takes_events
from twofold.plan.serving import SourcePlan
from twofold.tables.columns import Unfit, fit
from twofold.tables.given import ABSENT, Given, read_given

AT = "at"


@dataclass(frozen=True)
class Conformed:
    """A table as its source declares it: `frame` has exactly the declared columns, in their order and types (`plan.inputs.POLARS_TYPES`).

    `dropped` are the table's other columns. `notes` say what was changed in values, such as NaN that became null.
    """

    frame: pl.DataFrame
    dropped: list[str]
    notes: list[str]


def conform(source: SourcePlan, table: Any, strict: bool) -> Conformed:
    """The rows of a table in the declared columns, in order; all of them, or an error.

    Takes Polars frames and LazyFrames, Arrow and pandas tables, paths of Parquet or CSV, lists of dicts and dicts of columns. Integers
    fit float columns, floats that are whole fit int columns (pandas makes floats of ints with nulls), narrow types are widened, other
    zones and units of time become microseconds UTC (nanoseconds are floored), categories become text. A column without any value
    fits every type. In CSV files nothing is null, and other texts are read as the declared type.

    Not `strict`, for `load`: NaN and infinities are null in float columns, NaN in int columns, columns that are not declared are left
    out. `strict`, for `append`: both are refused, and lists of dicts are checked as events. A local time that comes twice is the
    earlier instant. Rows are counted from 0. Raises SchemaMismatch with the first bad row and value of every bad column, DataError
    for a file that is not there and for events of a table that takes no single rows.
    """
    if strict:
        require_takes_events(source)
    if strict and isinstance(table, Sequence) and not isinstance(table, str | bytes):
        table = {
            name: _series(name, kind, values)
            for (name, kind), values in zip(source.columns.items(), check_rows(source, table).values(), strict=True)
        }
    what = f"the table for {source.name!r}"
    given = read_given(table, source.columns, what)
    extra = [name for name in given.names if name not in source.columns]
    problems: list[str] = []
    columns, notes = _fitted(given, source.columns, source.zone, strict, problems)
    if source.time in columns:
        problems += _null_problems(columns[source.time], "every row has an instant; leave such rows out")
    if strict:
        problems += [_why_no_column(source, name) for name in extra]
    _raise(what, problems)
    return Conformed(pl.DataFrame(columns), extra, notes)


def _why_no_column(source: SourcePlan, name: str) -> str:
    if table := joined_from(source, name):
        return f"{name} is not sent: it is joined from table {table!r} when the event is appended; leave it out"
    return f"{name} is no column of this source; leave it out.{did_you_mean(name, source.columns)}"


def conform_spine(by: Mapping[str, str], table: Any) -> tuple[pl.DataFrame, NDArray[np.int64], pl.DataFrame]:
    """A table of keys and instants: (its key columns as `k0`, `k1`, ... in the order and types of `by`; its `at`; the table as a frame).

    `at` are aware datetimes, ISO texts with a zone or int microseconds, none of them null; keys may be null. Other columns stay in the
    third. A list of no rows has these columns, empty. Raises SchemaMismatch.
    """
    if isinstance(table, list) and not table:
        table = {name: [] for name in (*by, AT)}
    given = read_given(table, None, "the spine")
    columns = _with_at(given, by, "the spine")
    keys = pl.DataFrame([columns[name].alias(f"k{i}") for i, name in enumerate(by)]) if by else pl.DataFrame(height=given.height)
    return keys, columns[AT].to_physical().to_numpy(), _original(given, columns)


def conform_rows(fields: Mapping[str, str], table: Any) -> pl.DataFrame:
    """A table of requests and instants as a frame of `at` and the `fields`, in this order; its other columns are left out.

    `at` as for a spine. Raises SchemaMismatch.
    """
    columns = _with_at(read_given(table, {AT, *fields}, "the table of rows"), fields, "the table of rows")
    return pl.DataFrame({AT: columns[AT], **{name: columns[name] for name in fields}})


def _with_at(given: Given, fields: Mapping[str, str], what: str) -> dict[str, pl.Series]:
    problems: list[str] = []
    columns, _ = _fitted(given, {**fields, AT: "datetime"}, None, False, problems)
    if AT in columns:
        problems += _null_problems(columns[AT], "every row has an instant; leave such rows out")
    _raise(what, problems)
    return columns


def _fitted(
    given: Given, wanted: Mapping[str, str], zone: str | None, strict: bool, problems: list[str]
) -> tuple[dict[str, pl.Series], list[str]]:
    """(the wanted columns, notes); what is wrong with a column is added to `problems`, and the column left out."""
    columns: dict[str, pl.Series] = {}
    notes: list[str] = []
    others = [name for name in given.names if name not in wanted]
    for name, kind in wanted.items():
        if name not in given.columns:
            problems.append(f"{name} is absent.{did_you_mean(name, others)}")
            continue
        try:
            column, changed = fit(given.columns[name], kind, zone, strict, given.is_text)
        except Unfit as error:
            problems.append(error.about(name))
            continue
        columns[name] = column.alias(name)
        notes += [f"{name}: {note}" for note in changed]
    if not wanted.keys() <= given.columns.keys():
        problems.append(f"The table has {', '.join(given.names) or 'no columns'}.")
    return columns, notes


def _null_problems(column: pl.Series, text: str) -> list[str]:
    nulls = column.null_count()
    if not nulls:
        return []
    rows = "1 row" if nulls == 1 else f"{nulls} rows"
    return [f"{column.name} is null in {rows}, the first is row {int(column.is_null().arg_true()[0])}; {text}"]


def _raise(what: str, problems: list[str]) -> None:
    if problems:
        raise SchemaMismatch(f"{what} is refused:\n" + "\n".join(f"  {problem}" for problem in problems))


def _series(name: str, kind: str, values: list[Any]) -> pl.Series:
    return fit(values, kind, None, True)[0].alias(name)


def _original(given: Given, fitted: Mapping[str, pl.Series]) -> pl.DataFrame:
    """The whole table as a frame; of columns that came as Python values, those that were understood in their types."""
    if given.frame is not None:
        return given.frame
    columns = {}
    for name, values in given.columns.items():
        if isinstance(values, pl.Series):
            columns[name] = values
        elif name in fitted:
            columns[name] = fitted[name]
        else:
            columns[name] = pl.Series([None if value is ABSENT else value for value in values], strict=False)
    return pl.DataFrame(columns)
