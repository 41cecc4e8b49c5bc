"""Prepared events in the order of their keys, column by column: the same order as that of the keys' encoded bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.grouping import group_order, is_ordered
from twofold.keys import encode_key
from twofold.plan.inputs import MAJOR, MINOR, TIME, event_words
from twofold.plan.serving import ViewPlan

Words = NDArray[np.int64]
_KEY = "__key"
_SIGN = np.uint64(1 << 63)
_TAGS = {pl.Int64: b"\x10", pl.Datetime: b"\x50"}


@dataclass(frozen=True)
class KeyOrder:
    """Keys (`k0..`) distinct and in order; the rows of key i are `order[starts[i]:starts[i+1]]`, in order of (time, order)."""

    keys: pl.DataFrame
    order: Words
    starts: Words

    @property
    def count(self) -> int:
        """Number of keys."""
        return self.starts.size - 1


def in_key_order(ready: pl.DataFrame, columns: list[str]) -> KeyOrder:
    """The order of prepared events, whose key columns have no null."""
    if columns:
        keys = ready.select(columns).unique().sort(columns)
        numbered = keys.with_columns(pl.int_range(keys.height, dtype=pl.Int64).alias(_KEY))
        key_of = ready.select(columns).join(numbered, on=columns, how="left", maintain_order="left")[_KEY].to_numpy()
        count = keys.height
    else:
        keys, key_of, count = pl.DataFrame(), np.zeros(ready.height, np.int64), min(ready.height, 1)
    by_time = time_order(ready)
    if by_time is None:
        return KeyOrder(keys, *group_order(key_of, count))
    order, starts = group_order(key_of[by_time], count)
    return KeyOrder(keys, by_time[order], starts)


def time_order(ready: pl.DataFrame) -> Words | None:
    """Numbers of prepared events in order of (time, order); None where they lie so already."""
    times, majors, minors = (ready[name].to_numpy() for name in (TIME, MAJOR, MINOR))
    if is_ordered(times, majors, minors):
        return None
    if is_ordered(majors, minors, minors):
        # They lie in their order, so a stable sort by time is enough.
        return np.argsort(times, kind="stable")
    return ready.select(pl.arg_sort_by(TIME, MAJOR, MINOR).cast(pl.Int64)).to_series().to_numpy()


def encoded_keys(keys: pl.DataFrame) -> list[bytes]:
    """`encode_key` of every row."""
    if not keys.columns:
        return [b""]
    parts = [_encoded_parts(column) for column in keys]
    return parts[0] if len(parts) == 1 else [b"".join(row) for row in zip(*parts, strict=True)]


def _encoded_parts(column: pl.Series) -> list[bytes]:
    tag = _TAGS.get(type(column.dtype))
    if tag is not None:
        words = (column.to_physical().to_numpy().view(np.uint64) ^ _SIGN).astype(">u8").tobytes()
        return [tag + word for (word,) in struct.iter_unpack("8s", words)]
    values: list[Any] = column.to_list()
    if column.dtype == pl.String and not column.str.contains("\x00", literal=True).any():
        return [b"\x20" + text.encode() + b"\x00\x01" for text in values]
    return [encode_key((value,)) for value in values]


@dataclass(frozen=True)
class KeyedEvents:
    """Events of a view grouped by key: `keys` encoded and ascending, events of key i at `events[:, starts[i]:starts[i+1]]` in order.

    `events` and `heap` are as `algebra.tiles.fold` takes them.
    """

    keys: list[bytes]
    starts: Words
    events: Words
    heap: Words


def keyed(plan: ViewPlan, ready: pl.DataFrame) -> KeyedEvents:
    """Prepared events grouped by key, in order of (time, order) within each."""
    columns = [f"k{i}" for i in range(len(plan.by))]
    if ready.height <= _FEW:
        return _keyed_few(plan, ready, columns)
    groups = in_key_order(ready, columns)
    events, heap = event_words(plan, ready[groups.order])
    return KeyedEvents(encoded_keys(groups.keys) if groups.count else [], groups.starts, events, heap)


_FEW = 64
"""So few events are sorted by key sooner in Python than by Polars, whose every call costs as much as several of them."""


def _keyed_few(plan: ViewPlan, ready: pl.DataFrame, columns: list[str]) -> KeyedEvents:
    """`keyed` for few events."""
    plain = zip(*(ready[name].to_list() for name in (TIME, MAJOR, MINOR, *columns)), strict=True)
    rows = [(encode_key(row[3:]), *row[:3], number) for number, row in enumerate(plain)]
    ordered = sorted(rows)
    if ordered != rows:
        ready = ready[[row[-1] for row in ordered]]
    keys = list(dict.fromkeys(row[0] for row in ordered))
    found = [row[0] for row in ordered]
    starts = np.array([*(found.index(key) for key in keys), len(found)], np.int64)
    events, heap = event_words(plan, ready)
    return KeyedEvents(keys, starts, events, heap)
