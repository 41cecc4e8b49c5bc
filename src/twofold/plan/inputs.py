"""From a source's events to a view's inputs: row-level steps and expressions, the same over history and over micro-batches.

A frame of events has the columns that the source stores, those of joined rows among them, and four of ours: `MAJOR`, `MINOR` (the
order), `STAMP` (arrival_time of the log, event_time of loaded history) and, after `prepared`, `TIME`; all int64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra import tiles
from twofold.algebra.words import WIDE_TYPES
from twofold.definitions.base import ELEMENT_TYPES, TYPE_NAMES
from twofold.definitions.events import Step
from twofold.definitions.expressions import evaluate, laid_out, polars_schema
from twofold.definitions.joins import joined_columns
from twofold.definitions.table import DELETED
from twofold.instants import BEGIN_US
from twofold.plan.canonical import MOST_ELEMENTS
from twofold.plan.compile import CompiledView
from twofold.plan.serving import InputPlan, SourcePlan, ViewPlan

TIME, MAJOR, MINOR, STAMP = "__time", "__major", "__minor", "__stamp"
SYSTEM = (MAJOR, MINOR, STAMP)
Words = NDArray[np.int64]

POLARS_TYPES = polars_schema({kind: kind for kind in (*TYPE_NAMES.values(), *ELEMENT_TYPES)})
FEATURE_TYPES = POLARS_TYPES | {f"list[{kind}]": pl.List(POLARS_TYPES[kind]) for kind in ("datetime", "category")}
"""Types of features: lists of any values among them."""


def frame_schema(columns: Mapping[str, str]) -> dict[str, pl.DataType]:
    """Polars schema of a source's frame: its columns, then the system columns."""
    named = {name: POLARS_TYPES[kind] for name, kind in columns.items()}
    return {**named, **dict.fromkeys(SYSTEM, pl.Int64())}


def all_rows(columns: Mapping[str, str], *frames: pl.DataFrame | None) -> pl.DataFrame:
    """Frames of one source as one, in the declared columns; a column that an older frame lacks is null there."""
    schema = frame_schema(columns)
    shaped = [
        frame.select(pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, kind).alias(name) for name, kind in schema.items())
        for frame in frames
        if frame is not None
    ]
    return pl.concat(shaped) if shaped else pl.DataFrame(schema=schema)


def with_stored(source: SourcePlan, frame: pl.DataFrame, joined: Mapping[str, Sequence[object]]) -> pl.DataFrame:
    """Rows with canonical values of the source's joined columns beside its own, in the order of `SourcePlan.stored`."""
    kinds = {stored: POLARS_TYPES[kind] for join in source.joins for stored, kind in join.types.items()}
    added = [
        pl.Series(name, joined[name], pl.Int64() if kind == POLARS_TYPES["datetime"] else kind).cast(kind) for name, kind in kinds.items()
    ]
    return frame.with_columns(added)


def stamped(source: SourcePlan, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows to be loaded, with STAMP: their event_time, 0 in a static table."""
    stamp = pl.lit(0, pl.Int64) if source.time is None else pl.col(source.time).to_physical().cast(pl.Int64)
    return frame.with_columns(stamp.alias(STAMP))


def as_history(source: SourcePlan, frame: pl.DataFrame, version: int) -> pl.DataFrame:
    """Rows as the history version `version`, numbered in their order."""
    rows = pl.Series(MINOR, range(frame.height), dtype=pl.Int64)
    return stamped(source, frame).with_columns(pl.lit(version, pl.Int64).alias(MAJOR), rows).select(*source.columns, *SYSTEM)


def prepared(view: CompiledView, frame: pl.DataFrame, kept: Sequence[str] = ()) -> pl.DataFrame:
    """One branch's events of a view: `k0..` key columns, TIME, MAJOR, MINOR, STAMP, `in0..` inputs; rows in the order of `frame`.

    `frame` has events of the branch's source. After an explode, and in a concat, (MAJOR, MINOR) is an order, and no position any more;
    columns that are `kept` hold what was decided by position.
    Events that a filter leaves out or whose key has a null are gone. NaN and infinities of expressions are null, -0.0 is 0.0. An
    expression that fails on a row is null there. A table's row is a struct, with a field DELETED where its rows can delete.
    """
    plan = view.plan
    frame = in_branch(with_steps(frame, view.steps), *view.branch)
    time = pl.lit(BEGIN_US, pl.Int64)
    if view.time is not None:
        time = pl.col(view.time).to_physical().cast(pl.Int64)
    keys = [pl.col(name).alias(f"k{i}") for i, name in enumerate(plan.by)]
    system = [time.alias(TIME), *(pl.col(name) for name in (*SYSTEM, *kept))]
    if plan.row is not None:
        deletes = [] if view.deleted is None else [pl.col(view.deleted).fill_null(False).alias(DELETED)]
        return _with_keys(frame.select(*keys, *system, pl.struct(*plan.row, *deletes).alias("in0")), len(keys))
    inputs = {f"in{i}": _clean(expression, item) for i, (expression, item) in enumerate(zip(view.inputs, plan.inputs, strict=True))}
    try:
        # All in one query: for a frame of few rows that is a fifth of the time of several.
        named = [expression.alias(name) for name, expression in inputs.items()]
        ready = laid_out(frame).select(*keys, *system, *named)[: frame.height]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        ready = frame.select(*keys, *system).with_columns(evaluated(frame, inputs))
    return _with_keys(ready, len(keys))


def all_prepared(branches: Sequence[CompiledView], frames: Mapping[str, pl.DataFrame], kept: Sequence[str] = ()) -> pl.DataFrame:
    """The events of several branches of a view, each of its source's frame."""
    ready = [prepared(branch, frames[branch.source], kept) for branch in branches]
    return ready[0] if len(ready) == 1 else pl.concat(ready)


def _with_keys(ready: pl.DataFrame, keys: int) -> pl.DataFrame:
    names = [f"k{i}" for i in range(keys)]
    return ready.drop_nulls(names) if any(ready[name].null_count() for name in names) else ready


def with_steps(frame: pl.DataFrame, steps: Sequence[Step]) -> pl.DataFrame:
    """A frame of events after its source's row-level steps. A step that fails on a row gives null there, a filter leaves it out."""
    for step in steps:
        if step.kind == "rename":
            frame = frame.rename(dict(step.content))
        elif step.kind == "filter":
            frame = frame.filter(evaluated(frame, step.content)[0])
        elif step.kind == "explode":
            frame = exploded(frame, step.content["column"])
        elif step.kind == "join":
            # What lies in the frame is what somebody needs.
            found = [joined for joined in joined_columns(step) if joined.stored in frame.columns]
            frame = frame.with_columns(pl.col(joined.stored).alias(joined.name) for joined in found)
        else:
            frame = frame.with_columns(evaluated(frame, step.content))
    return frame


def exploded(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """A row for each element of a list column, none for a null or empty list; MINOR becomes MINOR * MOST_ELEMENTS + element number.

    So the elements have a place of their own in the order, the same in every engine, between their event and the next. From here on
    MINOR is no row or offset any more: what is decided by position is decided before.
    """
    full = frame.filter(pl.col(column).list.len() > 0)
    number = pl.int_ranges(pl.col(column).list.len().cast(pl.Int64), dtype=pl.Int64)
    rows = full.with_columns(number.alias(_ELEMENT)).explode(column, _ELEMENT)
    return rows.with_columns(pl.col(MINOR) * MOST_ELEMENTS + pl.col(_ELEMENT)).drop(_ELEMENT)


_ELEMENT = "__element"


def in_branch(frame: pl.DataFrame, number: int, count: int) -> pl.DataFrame:
    """Events of one of `count` branches: MAJOR becomes MAJOR * count + number, so that no two branches have an order in common."""
    return frame if count == 1 else frame.with_columns(pl.col(MAJOR) * count + number)


def evaluated(frame: pl.DataFrame, expressions: Mapping[str, pl.Expr]) -> list[pl.Series]:
    """Values of named row-level expressions, the same bits for a row whatever stands beside it; null where one fails on a row.

    `definitions.expressions.evaluate` for all of them at once; one by one only where one fails.
    """
    if not expressions:
        return []
    try:
        # A column beside them stretches literals to the frame's height.
        named = [expression.alias(name) for name, expression in expressions.items()]
        return laid_out(frame).select(pl.first().alias("__beside"), *named)[: frame.height].get_columns()[1:]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return [evaluate(expression, frame).values.alias(name) for name, expression in expressions.items()]


def _clean(expression: pl.Expr, item: InputPlan) -> pl.Expr:
    if item.columns is None:
        return _clean_values(expression, item.type)
    fields = [_clean_values(expression.struct.field(name), kind).alias(name) for name, kind in item.columns.items()]
    return pl.when(expression.is_not_null()).then(pl.struct(fields))


def _clean_values(values: pl.Expr, kind: str) -> pl.Expr:
    value = values.cast(POLARS_TYPES[kind])
    # Adding 0.0 would not do: Polars keeps the sign of -0.0 then.
    return pl.when(value == 0.0).then(0.0).when(value.is_finite()).then(value) if kind == "float" else value


def event_words(plan: ViewPlan, ready: pl.DataFrame) -> tuple[Words, Words]:
    """(events, heap) of prepared events, in their order."""
    events = np.zeros((tiles.VALUES + len(plan.inputs), ready.height), np.int64)
    for row, name in ((tiles.TIME, TIME), (tiles.MAJOR, MAJOR), (tiles.MINOR, MINOR)):
        events[row] = ready[name].to_numpy()
    heap = [np.zeros(1, np.int64)]
    size = 1
    for i, item in enumerate(plan.inputs):
        column = ready[f"in{i}"]
        if item.type in WIDE_TYPES:
            references, words = _wide(column, item.type, plan)
            events[tiles.VALUES + i] = np.where(references < 0, 0, references + size)
            events[tiles.VALID] |= (references >= 0).astype(np.int64) << i
            heap.append(words)
            size += words.size
        else:
            events[tiles.VALUES + i] = words_of(column)
            events[tiles.VALID] |= (column.is_not_null().to_numpy().astype(np.int64) if column.null_count() else 1) << i
    return events, np.concatenate(heap)


def words_of(column: pl.Series) -> Words:
    """The words of a column of numbers, booleans or instants; 0 where it is null."""
    if column.dtype == pl.Float64:
        return _filled(column, 0.0).to_numpy().view(np.int64)
    physical = column.to_physical() if column.dtype == pl.Datetime else column
    return _filled(physical if physical.dtype == pl.Int64 else physical.cast(pl.Int64), 0).to_numpy()


def _filled(column: pl.Series, value: float) -> pl.Series:
    return column.fill_null(value) if column.null_count() else column


def _wide(column: pl.Series, kind: str, plan: ViewPlan) -> tuple[Words, Words]:
    """(index of each value in the words, -1 where null; the words) of texts or rows."""
    if kind == "row":
        rows = (None if value is None else () if value.pop(DELETED, False) else value.values() for value in column)
        raw: list[bytes | None] = [None if values is None else encode_row(values) for values in rows]
    else:
        raw = [None if text is None else text.encode("utf-8", "surrogatepass") for text in column]
    sizes = np.array([-8 if value is None else len(value) for value in raw], np.int64)
    lengths = np.where(sizes < 0, 0, 1 + (sizes + 7) // 8)
    begins = np.cumsum(lengths) - lengths
    padded = b"".join(b"" if value is None else len(value).to_bytes(8, "little") + value + bytes(-len(value) % 8) for value in raw)
    return np.where(sizes < 0, -1, begins), np.frombuffer(padded, np.int64)


_ENCODER = msgspec.msgpack.Encoder()


def encode_row(values: object) -> bytes:
    """A table's row as bytes, a delete as a row without columns; instants become aware datetimes again at decoding."""
    return _ENCODER.encode(list(values))  # type: ignore[call-overload]
