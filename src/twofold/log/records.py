"""Events as the payloads of record batches and back as frames; knows Arrow and no log. Only reading loads an engine.

A payload is an Arrow IPC stream. From rows or from a frame, its schema is the same to the byte.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from twofold.algebra.base import LOG_ORDER
from twofold.errors import Corrupt, DataError
from twofold.log.arrow_stream import END, encode_stream, head_size, stream_head
from twofold.log.base import ARROW, Append, Format, RecordBatch
from twofold.plan.canonical import EXACT_INT
from twofold.plan.ingest import partition_rows
from twofold.plan.serving import SourcePlan

if TYPE_CHECKING:
    import polars as pl


def encode_records(columns: Mapping[str, str], values: Mapping[str, list[Any]]) -> bytes:
    """The payload of events: `columns` maps names to type names, `values` names to canonical values (see `plan.canonical`).

    One batch of six fields and one event takes 12 us; no engine is loaded.
    """
    return encode_stream(columns, values)


def encode_frame(frame: pl.DataFrame) -> bytes:
    """The payload of a frame's rows; its columns must have the types of `plan.inputs.POLARS_TYPES`, else DataError."""
    import polars as pl

    kinds = {dtype: kind for kind, dtype in _arrow_types().items()}
    for name, dtype in frame.schema.items():
        if dtype not in kinds:
            raise DataError(f"column {name!r} is {dtype}, which no event has; conform the table to its source first")
    out = io.BytesIO()
    frame.write_ipc_stream(out, compat_level=pl.CompatLevel.oldest())
    stream = out.getbuffer()
    head = stream_head(tuple((name, kinds[dtype]) for name, dtype in frame.schema.items()))
    return b"".join([head, stream[head_size(stream) :]])


def appends(source: SourcePlan, columns: Mapping[str, list[Any]], partitions: int, encoding: str) -> list[Append]:
    """What a log of this encoding and number of partitions is to append for rows of canonical values; no engine is loaded."""
    if encoding != "arrow":
        from twofold.log.single_records import single_appends

        return single_appends(source, columns, partitions)
    batches = []
    for partition, rows in enumerate(partition_rows(source, columns, partitions)):
        if rows:
            part = columns if len(rows) == len(next(iter(columns.values()))) else {k: [v[i] for i in rows] for k, v in columns.items()}
            batches.append(Append(source.name, partition, len(rows), encode_records(source.stored, part)))
    return batches


def frame_appends(source: SourcePlan, frame: pl.DataFrame, partitions: int, encoding: str) -> list[Append]:
    """The same for a table that conforms to its source."""
    if encoding != "arrow":
        columns = {name: frame[name].cast(_physical(frame.schema[name])).to_list() for name in source.stored}
        return appends(source, columns, partitions, encoding)
    if partitions == 1 or frame.is_empty():
        parts = [frame]
    else:
        parts = [frame[rows] for rows in partition_rows(source, frame.to_dict(as_series=False), partitions)]
    return [Append(source.name, i, part.height, encode_frame(part)) for i, part in enumerate(parts) if part.height]


def decode_records(payload: bytes) -> pl.DataFrame:
    """The events of a payload, in order; raises Corrupt where it is no Arrow stream."""
    import polars as pl

    try:
        frame = pl.read_ipc_stream(io.BytesIO(payload))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise Corrupt(f"a payload of {len(payload)} bytes is no Arrow stream: {_first_line(error)}") from None
    allowed = set(_arrow_types().values())
    for name, dtype in frame.schema.items():
        if dtype not in allowed:
            raise Corrupt(f"column {name!r} of a payload is {dtype}, which no event has")
    return frame


def _arrow_types() -> dict[str, Any]:
    """Type name -> Polars type, each type once."""
    from twofold.plan.inputs import POLARS_TYPES

    return {kind: dtype for kind, dtype in POLARS_TYPES.items() if kind != "category"}


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def record_frames(batches: Sequence[RecordBatch], columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """The events of record batches, in the order of the batches, with the system columns of `plan.inputs`.

    MAJOR is LOG_ORDER + partition, MINOR the offset, STAMP the arrival. With `columns` (names to type names of the source as it is
    declared now) the frame has exactly these before the system columns: what a batch lacks is null, what is not declared any more
    is left out, integers fit float columns. Without, it has the columns of all batches. Raises Corrupt where a batch is no Arrow
    stream, does not have the events it says, or has other types.
    """
    import polars as pl

    from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, STAMP

    frames = [_decoded_group(list(group), columns) for _, group in groupby(batches, lambda batch: _head(batch.payload))]
    if columns is not None and not frames:
        frames = [pl.DataFrame(schema={name: POLARS_TYPES[kind] for name, kind in columns.items()})]
    try:
        frame = pl.concat(frames, how="diagonal", rechunk=True) if len(frames) > 1 else frames[0] if frames else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        raise Corrupt(f"record batches of {batches[0].source!r} do not have the same types: {_first_line(error)}") from None
    counts = np.array([batch.count for batch in batches], np.int64)

    def of_each(name: str, values: list[int]) -> pl.Series:
        return pl.Series(name, np.repeat(np.array(values, np.int64), counts))

    offsets = [np.arange(batch.first_offset, batch.end_offset) for batch in batches]
    system = [
        of_each(MAJOR, [LOG_ORDER + batch.partition for batch in batches]),
        pl.Series(MINOR, np.concatenate([np.empty(0, np.int64), *offsets])),
        of_each(STAMP, [batch.arrival_us for batch in batches]),
    ]
    return frame.hstack(system)


@dataclass(frozen=True)
class Undecodable:
    """A batch that is no events of its source, and why."""

    batch: RecordBatch
    reason: str


def decoded(batches: Sequence[RecordBatch], source: SourcePlan) -> tuple[pl.DataFrame, list[Undecodable]]:
    """(The events that can be read, as `record_frames` gives them with the source's columns; those that cannot: they are dead letters).

    Which is which follows from each batch and the declared columns alone, so stream and batch agree. Raises Unavailable where a
    schema registry does not answer.
    """
    groups = [_decoded_of(list(group), format, source) for format, group in groupby(batches, lambda batch: batch.format)]
    if len(groups) == 1:
        return groups[0]
    import polars as pl

    frames = [frame for frame, _ in groups] or [record_frames([], source.stored)]
    return pl.concat(frames), [letter for _, letters in groups for letter in letters]


def _decoded_of(batches: list[RecordBatch], format: Format, source: SourcePlan) -> tuple[pl.DataFrame, list[Undecodable]]:
    if format != ARROW:
        return _decoded_singly(batches, format, source)
    try:
        return _timed(batches, source), []
    except Corrupt:
        reasons = {batch: _why_unreadable(batch, source) for batch in batches}
        letters = [Undecodable(batch, reason) for batch, reason in reasons.items() if reason]
        return record_frames([batch for batch in batches if not reasons[batch]], source.stored), letters


def _timed(batches: Sequence[RecordBatch], source: SourcePlan) -> pl.DataFrame:
    """The events of batches, each of which has an instant; raises Corrupt otherwise."""
    frame = record_frames(batches, source.stored)
    if source.time is not None and frame[source.time].null_count():
        raise Corrupt(f"an event of {source.name!r} has no {source.time}")
    return frame


def _decoded_singly(batches: list[RecordBatch], format: Format, source: SourcePlan) -> tuple[pl.DataFrame, list[Undecodable]]:
    """Batches of one event each."""
    import polars as pl

    from twofold.log.single_records import columns_of
    from twofold.plan.inputs import MAJOR, MINOR, STAMP

    columns, refused = columns_of([batch.payload for batch in batches], format, source)
    good = [batch for number, batch in enumerate(batches) if number not in refused] if refused else batches
    frame = decode_records(encode_records(source.stored, columns))  # lists become a column so ten times as fast as one by one
    system = {
        MAJOR: [LOG_ORDER + batch.partition for batch in good],
        MINOR: [batch.first_offset for batch in good],
        STAMP: [batch.arrival_us for batch in good],
    }
    whole = frame.with_columns(pl.Series(name, values, pl.Int64) for name, values in system.items())
    return whole, [Undecodable(batches[number], reason) for number, reason in refused.items()]


def _physical(dtype: pl.DataType) -> pl.DataType:
    """What canonical values of a column of this type are."""
    import polars as pl

    return pl.Int64() if dtype == pl.Datetime("us", "UTC") else dtype


def _why_unreadable(batch: RecordBatch, source: SourcePlan) -> str:
    """Empty where it can be read."""
    try:
        _timed([batch], source)
    except Corrupt as error:
        return str(error)
    return ""


def _head(payload: bytes) -> bytes:
    return payload[: max(0, head_size(payload))]


def _decoded_group(batches: list[RecordBatch], columns: Mapping[str, str] | None) -> pl.DataFrame:
    """The events of batches whose payloads begin with the same head, read as one stream: 10 us a batch instead of 20."""
    payloads = [batch.payload for batch in batches]
    if len(batches) > 1 and all(payload.endswith(END) for payload in payloads):
        size = head_size(payloads[0])
        payload = b"".join([payloads[0][:size], *(memoryview(payload)[size : -len(END)] for payload in payloads), END])
        frame = decode_records(payload)
    else:
        import polars as pl

        frames = [decode_records(payload) for payload in payloads]
        frame = frames[0] if len(frames) == 1 else pl.concat(frames)
    expected = sum(batch.count for batch in batches)
    if frame.height != expected:
        raise Corrupt(f"record batches of {batches[0].source!r} say they have {expected} events and have {frame.height}")
    return frame if columns is None else _as_declared(batches[0].source, frame, columns)


def _as_declared(source: str, frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    import polars as pl

    from twofold.plan.inputs import POLARS_TYPES

    if list(frame.schema.items()) == [(name, POLARS_TYPES[kind]) for name, kind in columns.items()]:
        return frame
    chosen = []
    for name, kind in columns.items():
        wanted = POLARS_TYPES[kind]
        if name not in frame.columns:
            chosen.append(pl.lit(None, wanted).alias(name))
            continue
        got = frame.schema[name]
        if got != wanted and not _is_exact(frame[name], kind):
            raise Corrupt(f"column {name!r} of a record batch of {source!r} is {got}; it is declared as {kind} now")
        chosen.append(pl.col(name).cast(wanted))
    return frame.with_columns(chosen).select(*columns)  # not at once: of constants alone one row would be left


def _is_exact(column: pl.Series, kind: str) -> bool:
    """Whether these are integers, now declared as floats, that floats can hold."""
    import polars as pl

    if column.dtype == pl.List(pl.Int64) and kind == "list[float]":
        column, kind = column.explode(), "float"
    return column.dtype == pl.Int64 and kind == "float" and not (column.abs() > EXACT_INT).any()
