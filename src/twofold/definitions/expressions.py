"""Polars expressions without data: their canonical text, their columns and type, and whether they look at one row only.

The list of what is allowed lives in `expression_tree`; here expressions are evaluated, on empty frames, on random rows, and by
`evaluate`, which every engine uses, so that a value depends neither on the other rows nor on how many there are.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from twofold.definitions.base import ELEMENT_TYPES
from twofold.definitions.expression_tree import Node, Reading, from_tree, read
from twofold.errors import DefinitionError, UnknownColumn, did_you_mean

if TYPE_CHECKING:
    import polars as pl

Expression = Any
"""A column's name or a `pl.Expr`."""

SAMPLE_ROWS = 64


def as_expression(expression: Expression) -> pl.Expr:
    """The `pl.Expr` of a column's name or of an expression; raises DefinitionError for anything else."""
    import polars as pl

    if isinstance(expression, str):
        return pl.col(expression)
    if isinstance(expression, pl.Expr):
        return expression
    raise DefinitionError(f"{expression!r} is no expression; give a column's name or a Polars expression such as pl.col('delay') > 15")


def _tree(expression: Expression) -> Node:
    """Polars' own JSON of an expression. A column's name never becomes a pattern."""
    if isinstance(expression, str):
        return {"Column": expression}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return json.loads(as_expression(expression).meta.serialize(format="json"))
        except DefinitionError:
            raise
        except Exception as error:
            raise DefinitionError(f"an expression cannot be written down: {_first_line(error)}") from None


def canonical_text(expression: Expression) -> str:
    """The meaning of an expression as JSON text, in Twofold's own words: the same in every process and with every version of Polars.

    Names given by `alias` are no part of it. Raises DefinitionError where it cannot be written down.

    >>> canonical_text("delay")
    '["column","delay"]'
    """
    return json.dumps(read(_tree(expression), Reading()), separators=(",", ":"), sort_keys=True)


def root_columns(expression: Expression) -> tuple[str, ...]:
    """Names of the columns that an expression reads, each once, in the order in which they stand in it."""
    if isinstance(expression, str):
        return (expression,)
    return tuple(dict.fromkeys(as_expression(expression).meta.root_names()))


def polars_schema(columns: Mapping[str, str]) -> dict[str, pl.DataType]:
    """Polars types of columns given by the names of their types."""
    import polars as pl

    types: dict[str, pl.DataType] = {
        "str": pl.String(),
        "category": pl.String(),
        "int": pl.Int64(),
        "float": pl.Float64(),
        "bool": pl.Boolean(),
        "datetime": pl.Datetime("us", "UTC"),
    }
    types |= {kind: pl.List(types[element]) for kind, element in ELEMENT_TYPES.items()}
    return {name: types[kind] for name, kind in columns.items()}


def output_type(expression: Expression, columns: Mapping[str, str]) -> str:
    """Name of the type of an expression's values over columns of the declared types.

    A plain column keeps its declared type. Raises UnknownColumn, or DefinitionError where Polars refuses the types or the result is no
    type of Twofold.
    """
    _require_columns(expression, columns)
    tree = _tree(expression)
    if set(tree) == {"Column"}:
        return columns[tree["Column"]]
    dtype = _dtype(as_expression(expression), columns)
    kind = _type_of(dtype)
    if kind is None:
        hint = "give it the zone UTC" if str(dtype).startswith("Datetime") else "cast it, as in .cast(pl.Float64)"
        raise DefinitionError(f"an expression gives {dtype}; types are str, int, float, bool and datetime with a zone: {hint}")
    return kind


def _require_columns(expression: Expression, columns: Mapping[str, str]) -> None:
    for name in root_columns(expression):
        if name not in columns:
            raise UnknownColumn(f"there is no column {name!r}; there are {', '.join(columns)}.{did_you_mean(name, columns)}")


def _dtype(expression: pl.Expr, columns: Mapping[str, str]) -> pl.DataType:
    import polars as pl

    try:
        result = pl.DataFrame(schema=polars_schema(columns)).select(expression)
    except (Exception, pl.exceptions.PanicException) as error:
        raise DefinitionError(f"an expression does not fit its columns: {_first_line(error)}") from None
    if result.width != 1:
        raise DefinitionError(f"an expression gives {result.width} columns; give one")
    return result.dtypes[0]


def _type_of(dtype: pl.DataType) -> str | None:
    import polars as pl

    if dtype.is_integer():
        return "int"
    if isinstance(dtype, pl.Datetime):
        return "datetime" if dtype.time_zone is not None else None
    if isinstance(dtype, pl.List):
        lists = polars_schema(dict(zip(ELEMENT_TYPES, ELEMENT_TYPES, strict=True)))
        return next((kind for kind, known in lists.items() if known == dtype), None)
    return {"Float32": "float", "Float64": "float", "Boolean": "bool", "String": "str"}.get(str(dtype))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


class Evaluated(NamedTuple):
    """Values of an expression, one a row, and how many rows it failed on; those are null."""

    values: pl.Series
    failed: int


def evaluate(expression: Expression, frame: pl.DataFrame) -> Evaluated:
    """Values of a row-level expression for every row of `frame`, in its order; null where it fails on that row alone.

    The same row gives the same bits whatever stands beside it. Polars alone does not promise that: it divides a column of one value by
    a literal exactly, but multiplies a longer one by the literal's reciprocal, and it remembers that a column was made of one value.
    So every column is laid out anew, in one chunk, and a single row twice over.
    """
    return _evaluate(as_expression(expression).alias("value"), laid_out(frame.select(root_columns(expression))), frame.height)


def laid_out(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame as expressions are evaluated on it: every column in one chunk; a single row stands there twice."""
    import polars as pl

    columns = [column.rechunk() for column in frame.get_columns()]
    return pl.DataFrame([pl.concat([column, column], rechunk=True) for column in columns] if frame.height == 1 else columns)


def _evaluate(expression: pl.Expr, frame: pl.DataFrame, rows: int) -> Evaluated:
    """`frame` is laid out: two equal rows stand for one."""
    import polars as pl

    try:
        values = frame.select(expression).to_series()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        if rows == 0:
            raise
        if rows == 1:
            return Evaluated(pl.Series("value", [None], dtype=frame.clear().select(expression).dtypes[0]), 1)
        halves = [frame[: rows // 2], frame[rows // 2 :]]
        found = [_evaluate(expression, laid_out(half), half.height) for half in halves]
        return Evaluated(pl.concat([half.values for half in found], rechunk=True), sum(half.failed for half in found))
    is_constant = len(values) == 1 and not frame.width
    return Evaluated(values.new_from_index(0, rows) if is_constant else values[:rows], 0)


def tree_problems(expression: Expression) -> list[str]:
    """Why an expression's tree is not row-level, without a look at its columns' types."""
    try:
        found = Reading()
        read(_tree(expression), found)
    except DefinitionError as error:
        return [str(error)]
    return list(dict.fromkeys(found.problems))


def row_level_problems(expression: Expression, columns: Mapping[str, str]) -> list[str]:
    """Why an expression is not row-level, each reason a text; empty where it looks at its own row only.

    First every node of the tree must be on the list of what is allowed; then 64 random rows are evaluated as a whole, one by one and
    permuted, and must give the same bits.
    """
    try:
        found = Reading()
        read(_tree(expression), found)
        if not found.problems:
            _require_columns(expression, columns)
            _dtype(as_expression(expression), columns)
            found.problems += _parsing_problems(found, columns)
    except DefinitionError as error:
        found.problems.append(str(error))
    return list(dict.fromkeys(found.problems)) or _sample_problems(expression, columns)


def _parsing_problems(found: Reading, columns: Mapping[str, str]) -> list[str]:
    if any(str(_dtype(from_tree(inner), columns)) == "String" for inner in found.parsed):
        return ["a cast from str to a date guesses its format from the data; use str.to_datetime(format)"]
    return []


def _sample_problems(expression: Expression, columns: Mapping[str, str]) -> list[str]:
    import polars as pl

    read_columns = {name: columns[name] for name in root_columns(expression)}
    if not read_columns:
        return []
    frame = random_rows(read_columns)
    whole = _evaluated_bits(expression, frame)
    single = [bit for row in range(frame.height) for bit in _evaluated_bits(expression, frame[row : row + 1])]
    order = random.Random(2).sample(range(frame.height), frame.height)
    permuted = dict(zip(order, _evaluated_bits(expression, frame[pl.Series(order, dtype=pl.UInt32)]), strict=True))
    for row in range(frame.height):
        if not whole[row] == single[row] == permuted[row]:
            return [
                f"an expression gives {whole[row]} for the row {frame.row(row, named=True)} among others, {single[row]} for it alone "
                f"and {permuted[row]} in another order"
            ]
    return []


def _evaluated_bits(expression: Expression, frame: pl.DataFrame) -> list[Any]:
    values = evaluate(expression, frame).values
    plain = values.to_physical() if values.dtype.is_temporal() else values  # instants beyond the calendar are none of Python's
    return [_bits(value) for value in plain.to_list()]


def _bits(value: Any) -> Any:
    """A value such that equal means equal bits; NaN is null and -0.0 is 0.0, as they become everywhere."""
    if isinstance(value, list):
        return [_bits(element) for element in value]
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else (value + 0.0).hex()


_TEXTS = (
    "",
    "a",
    "A b",
    " x ",
    "12",
    "-3",
    "3.5",
    "2013-10-01",
    "2013-10-01 05:15:00",
    "2013-10-01T05:15:00Z",
    "05:15",
    "ü€",
    "ab\x00c",
    "true",
)
_FLOATS = (0.0, 1.0, -1.0, 0.1, -2.5, 15.0, 1e-300, -1e300, 1.7976931348623157e308, 5e-324)
_INTS = (0, 1, -1, 2, 3, 15, 100, -(2**63), 2**63 - 1)
_BEGIN = datetime(1950, 1, 1, tzinfo=UTC)


def random_rows(columns: Mapping[str, str]) -> pl.DataFrame:
    """64 rows of the declared types, the same in every run, with nulls and edge cases."""
    import polars as pl

    source = random.Random(1)
    values = {name: [_random_value(kind, source) for _ in range(SAMPLE_ROWS)] for name, kind in columns.items()}
    return pl.DataFrame(values, schema=polars_schema(columns))


def _random_value(kind: str, source: random.Random) -> Any:
    if source.random() < 0.15:
        return None
    if kind in ELEMENT_TYPES:
        return [_random_value(ELEMENT_TYPES[kind], source) for _ in range(source.randrange(4))]
    is_edge = source.random() < 0.3
    match kind:
        case "int":
            return source.choice(_INTS) if is_edge else source.randint(-1000, 1000)
        case "float":
            return source.choice(_FLOATS) if is_edge else source.uniform(-1000, 1000)
        case "bool":
            return source.random() < 0.5
        case "datetime":
            return _BEGIN + timedelta(microseconds=source.randrange(150 * 365 * 86_400 * 1_000_000))
    return source.choice(_TEXTS) if is_edge else "".join(source.choices("abcxyz019 -", k=source.randint(1, 8)))
