"""Columns of canonical values as the bytes of an Arrow IPC stream, written here because one small batch must cost microseconds.

A stream is a head (the schema), record batches, and an end. The head depends on names and types only, so streams of one source can be
joined by their bytes. Reading is left to Arrow libraries; no log is known here.

The layout is that of the Arrow columnar format, version V5: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import functools
import io
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from twofold.definitions.base import ELEMENT_TYPES

Values = list[Any]
Layout = tuple[tuple[str, str], ...]
"""(name, type name) of each column."""

_CONTINUATION = b"\xff\xff\xff\xff"
END = _CONTINUATION + bytes(4)
_VERSION_5, _RECORD_BATCH = 4, 3
_FEW = 64
"""So few flags become bits sooner in Python than in NumPy."""
_PADDING = tuple(bytes(count) for count in range(8))


def encode_stream(columns: Mapping[str, str], values: Mapping[str, Values]) -> bytes:
    """A stream of one record batch: `columns` maps names to type names, `values` the names to canonical values of one length."""
    return b"".join([stream_head(tuple(columns.items())), *_record_batch([(kind, values[name]) for name, kind in columns.items()]), END])


def head_size(stream: bytes | memoryview) -> int:
    """Length of a stream's head; -1 where these are not the bytes of a stream."""
    size = 8 + int.from_bytes(stream[4:8], "little", signed=True)
    return size if stream[:4] == _CONTINUATION and 8 < size <= len(stream) else -1


@functools.lru_cache(maxsize=256)
def stream_head(layout: Layout) -> bytes:
    """The schema message: texts are large_string, instants timestamp('us', 'UTC'), lists large_list; every column may hold nulls."""
    import nanoarrow as na
    from nanoarrow.ipc import StreamWriter

    types = {
        "str": na.large_string(),
        "category": na.large_string(),
        "int": na.int64(),
        "float": na.float64(),
        "bool": na.bool_(),
        "datetime": na.timestamp("us", "UTC"),
    }
    types |= {kind: na.large_list(types[element]) for kind, element in ELEMENT_TYPES.items()}
    children = [na.c_array([], types[kind]) for _, kind in layout]
    empty = na.c_array_from_buffers(na.struct({name: types[kind] for name, kind in layout}), 0, [None], children=children)
    out = io.BytesIO()
    with StreamWriter.from_writable(out) as writer:
        writer.write_array(empty)
    return out.getvalue()[: head_size(out.getvalue())]


# A record batch: 8 bytes, metadata, and the body, which holds the buffers of all columns, each padded to 8 bytes


def _record_batch(columns: Sequence[tuple[str, Values]]) -> list[bytes]:
    length = len(columns[0][1]) if columns else 0
    nodes: list[int] = []
    places: list[int] = []
    body: list[bytes] = []
    position = 0
    for kind, values in _nodes(columns):
        nulls = values.count(None)
        nodes += (len(values), nulls)
        validity = _bits([value is not None for value in values]) if nulls else b""
        for buffer in (validity, *_BUFFERS_OF[kind](values, nulls)):
            size = len(buffer)
            padding = -size % 8
            places += (position, size)
            body += (buffer, _PADDING[padding])
            position += size + padding
    metadata = _metadata(length, nodes, places, position)
    return [_CONTINUATION, len(metadata).to_bytes(4, "little"), metadata, *body]


def _nodes(columns: Sequence[tuple[str, Values]]) -> Sequence[tuple[str, Values]]:
    """The columns, each list followed by its elements, as Arrow lays them out."""
    if not any(kind in ELEMENT_TYPES for kind, _ in columns):
        return columns
    nodes: list[tuple[str, Values]] = []
    for kind, values in columns:
        nodes.append((kind, values))
        if kind in ELEMENT_TYPES:
            nodes.append((ELEMENT_TYPES[kind], [element for value in values if value for element in value]))
    return nodes


def _metadata(length: int, nodes: list[int], places: list[int], body_size: int) -> bytes:
    """The flatbuffer of a record batch message: `nodes` are (length, nulls), `places` (offset, size), each a flat list.

    ```
      0 root -> 16                         40 fields of RecordBatch
      4 fields of Message                  56 RecordBatch: length, nodes -> 84, buffers
     16 Message: header -> 56, body size   84 count and nodes, then count and buffers
    ```
    """
    n, m = len(nodes) // 2, len(places) // 2
    message = (16, 12, 24, 16, 18, 4, 8, 12, 36, body_size, _VERSION_5, _RECORD_BATCH)
    batch = (10, 24, 8, 4, 16, 16, 24, length, 20 + 16 * n)
    return struct.pack(f"<I6HiIqhB5x5H6xiIqI8xI{2 * n}q4xI{2 * m}q", *message, *batch, n, *nodes, m, *places)


def _bits(flags: Sequence[Any]) -> bytes:
    """One bit for each flag, the first lowest; null is 0."""
    if len(flags) <= _FEW:
        return sum(1 << i for i, flag in enumerate(flags) if flag).to_bytes((len(flags) + 7) // 8, "little")
    return np.packbits(np.array(flags, np.bool_), bitorder="little").tobytes()


def _texts(values: Values, nulls: int) -> tuple[bytes, ...]:
    encoded = [value.encode() if value else b"" for value in values]
    return array("q", accumulate(map(len, encoded), initial=0)).tobytes(), b"".join(encoded)


def _lists(values: Values, nulls: int) -> tuple[bytes, ...]:
    return (array("q", accumulate((len(value) if value else 0 for value in values), initial=0)).tobytes(),)


def _words(code: str) -> Callable[[Values, int], tuple[bytes, ...]]:
    return lambda values, nulls: (array(code, [value or 0 for value in values] if nulls else values).tobytes(),)


_BUFFERS_OF: dict[str, Callable[[Values, int], tuple[bytes, ...]]] = {
    "str": _texts,
    "category": _texts,
    "int": _words("q"),
    "float": _words("d"),
    "bool": lambda values, nulls: (_bits(values),),
    "datetime": _words("q"),
    **dict.fromkeys(ELEMENT_TYPES, _lists),
}
"""Type name -> the buffers that follow the validity of a column; where it is null their content does not matter."""
