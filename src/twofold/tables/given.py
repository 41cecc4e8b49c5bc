"""Tables as people hand them over (frames, Arrow, pandas, files, lists, dicts), read as named columns; their values are not judged here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from twofold.errors import DataError, SchemaMismatch, did_you_mean
from twofold.plan.canonical import shown

ACCEPTED = "a Polars frame or LazyFrame, an Arrow or pandas table, a path of .parquet or .csv, a list of dicts or a dict of columns"


@dataclass(frozen=True)
class Given:
    """A table: `names` of all its columns, and those that were asked for, as series or as lists of Python values, all `height` long.

    `is_text` says that all values are still written as text, as in a CSV file. `frame` is the table where it came as one.
    """

    names: list[str]
    columns: Mapping[str, pl.Series | list[Any]]
    height: int
    is_text: bool = False
    frame: pl.DataFrame | None = None


def read_given(table: Any, wanted: Collection[str] | None, what: str) -> Given:
    """Those columns of a table that are `wanted` (all where None) and that it has. A LazyFrame and a file read no others.

    Raises DataError for a path where no such file is, SchemaMismatch where the table cannot be read.
    """
    if isinstance(table, str | Path):
        return _from_lazy(*_scanned(Path(table), what), wanted, what)
    if isinstance(table, pl.LazyFrame):
        return _from_lazy(table, False, wanted, what)
    if isinstance(table, pl.DataFrame):
        return _from_frame(table, False)
    if isinstance(table, Mapping):
        return _from_columns(table, what)
    if hasattr(table, "__arrow_c_stream__"):
        return _from_frame(_from_arrow(table, what), False)
    if isinstance(table, Sequence) and not isinstance(table, bytes):
        return _from_rows(table, wanted, what)
    raise SchemaMismatch(f"{what} is {shown(table)}; give {ACCEPTED}")


def _from_frame(frame: pl.DataFrame, is_text: bool, names: list[str] | None = None) -> Given:
    columns = {name: frame[name] for name in frame.columns}
    return Given(frame.columns if names is None else names, columns, frame.height, is_text, frame)


def _from_lazy(lazy: pl.LazyFrame, is_text: bool, wanted: Collection[str] | None, what: str) -> Given:
    try:
        names = lazy.collect_schema().names()
        frame = lazy.select(names if wanted is None else [name for name in names if name in wanted]).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(what, error) from None
    return _from_frame(frame, is_text, names)


def _scanned(path: Path, what: str) -> tuple[pl.LazyFrame, bool]:
    """The file as a LazyFrame, and whether its values are texts."""
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        nearest = did_you_mean(suffix, [".parquet", ".csv"]) if suffix else ""
        raise DataError(f"{what} is {str(path)!r}, which is no path of .parquet or .csv; read the file and give a frame.{nearest}")
    if not path.exists():
        raise DataError(f"{what} is {str(path)!r}, and there is no such file")
    try:
        return (pl.scan_csv(path, infer_schema=False), True) if suffix == ".csv" else (pl.scan_parquet(path), False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(what, error) from None


class _ArrowStream:
    """Only the stream of a table, so that pandas' own rules (an index, objects, NaN for null) are Arrow's."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def _from_arrow(table: Any, what: str) -> pl.DataFrame:
    try:
        frame = pl.DataFrame(_ArrowStream(table))
    except ImportError as error:
        raise DataError(f"{what} is a {type(table).__name__}, which {_first_line(error)} is needed for; install pyarrow") from None
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise _unreadable(what, error) from None
    return frame.drop([name for name in frame.columns if name.startswith("__index_level_")])  # a pandas index without a name


def _from_columns(table: Mapping[Any, Any], what: str) -> Given:
    columns: dict[str, pl.Series | list[Any]] = {}
    for name, values in table.items():
        columns[str(name)] = _column(str(name), values, what)
    heights = {name: len(values) for name, values in columns.items()}
    if len(set(heights.values())) > 1:
        lengths = ", ".join(f"{name} {height}" for name, height in heights.items())
        raise SchemaMismatch(f"{what} has columns of different lengths ({lengths}); give one value for each row")
    return Given(list(columns), columns, next(iter(heights.values()), 0))


def _column(name: str, values: Any, what: str) -> pl.Series | list[Any]:
    if isinstance(values, pl.Series):
        return values.alias(name)
    if isinstance(values, list | tuple):
        return list(values)
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise SchemaMismatch(f"{what} has the column {name!r} = {shown(values)}; give a list, an array or a series, one value for each row")
    try:
        return pl.Series(name, values)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise _unreadable(f"column {name!r} of {what}", error) from None


class Absent:
    """The value of a field that a row does not have."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()


def _from_rows(rows: Sequence[Any], wanted: Collection[str] | None, what: str) -> Given:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise SchemaMismatch(f"{what} has {shown(row)} as row {number}; give a dict for each row, or {ACCEPTED}")
    names = list(dict.fromkeys(name for row in rows for name in row)) if rows else list(wanted or ())
    chosen = names if wanted is None else [name for name in names if name in wanted]
    return Given([str(name) for name in names], {str(name): [row.get(name, ABSENT) for row in rows] for name in chosen}, len(rows))


def _unreadable(what: str, error: BaseException) -> SchemaMismatch:
    return SchemaMismatch(f"{what} cannot be read: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
