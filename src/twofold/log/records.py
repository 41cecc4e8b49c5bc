"""Events as the payloads of record batches and back as frames; knows Arrow and no log. Only reading loads an engine.

A payload is an Arrow IPC stream. From rows or from a frame, its schema is the same to the byte.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from twofold.algebra.base import LOG_ORDER
from twofold.errors import Corrupt, DataError
from twofold.log.arrow_stream import END, encode_stream, head_size, stream_head
from twofold.log.base import RecordBatch
from twofold.plan.canonical import EXACT_INT

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
        frame = pl.concat(frames, how="diagonal", rechunk=True) if frames else pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        raise Corrupt(f"record batches of {batches[0].source!r} do not have the same types: {_first_line(error)}") from None
    counts = np.array([batch.count for batch in batches], np.int64)

    def of_each(values: list[int]) -> pl.Series:
        return pl.Series(np.repeat(np.array(values, np.int64), counts))

    offsets = [np.arange(batch.first_offset, batch.end_offset) for batch in batches]
    return frame.with_columns(
        of_each([LOG_ORDER + batch.partition for batch in batches]).alias(MAJOR),
        pl.Series(MINOR, np.concatenate([np.empty(0, np.int64), *offsets])),
        of_each([batch.arrival_us for batch in batches]).alias(STAMP),
    )


def decoded(batches: Sequence[RecordBatch], columns: Mapping[str, str]) -> tuple[pl.DataFrame, list[RecordBatch]]:
    """(`record_frames` of the batches that can be read, those that cannot: they are dead letters)."""
    try:
        return record_frames(batches, columns), []
    except Corrupt:
        broken = [batch for batch in batches if not _is_readable(batch, columns)]
        return record_frames([batch for batch in batches if batch not in broken], columns), broken


def _is_readable(batch: RecordBatch, columns: Mapping[str, str] | None) -> bool:
    try:
        record_frames([batch], columns)
    except Corrupt:
        return False
    return True


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

        frame = pl.concat([decode_records(payload) for payload in payloads])
    expected = sum(batch.count for batch in batches)
    if frame.height != expected:
        raise Corrupt(f"record batches of {batches[0].source!r} say they have {expected} events and have {frame.height}")
    return frame if columns is None else _as_declared(batches[0].source, frame, columns)


def _as_declared(source: str, frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    import polars as pl

    from twofold.plan.inputs import POLARS_TYPES

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
    return frame.select(chosen)


def _is_exact(column: pl.Series, kind: str) -> bool:
    """Whether these are integers, now declared as floats, that floats can hold."""
    import polars as pl

    if column.dtype == pl.List(pl.Int64) and kind == "list[float]":
        column, kind = column.explode(), "float"
    return column.dtype == pl.Int64 and kind == "float" and not (column.abs() > EXACT_INT).any()
