"""Events and rows brought together by key: groups in order of (time, order), by counting instead of comparing where that can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.sliding import group_order
from twofold.plan.key_order import time_order

Words = NDArray[np.int64]
_GROUP = "__group"


@dataclass(frozen=True)
class Grouped:
    """Rows of a frame by group: group g is `order[starts[g]:starts[g+1]]`, numbers of rows in their order within the group."""

    order: Words
    starts: Words


def groups_of(spine: pl.DataFrame, keys: list[str]) -> tuple[pl.DataFrame, Words]:
    """(distinct keys of the spine with their number, group of each row). Rows of null keys are groups too, without events."""
    if not keys:
        return pl.DataFrame({_GROUP: pl.Series([0], dtype=pl.Int64)}), np.zeros(spine.height, np.int64)
    groups = spine.select(keys).unique().with_row_index(_GROUP).with_columns(pl.col(_GROUP).cast(pl.Int64))
    found = spine.select(keys).join(groups, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return groups, found[_GROUP].to_numpy()


def grouped_rows(row_groups: Words, at: Words, count: int) -> Grouped:
    """Rows of a spine by group, in order of their instant."""
    by_time = np.argsort(at, kind="stable")
    order, starts = group_order(row_groups[by_time], count)
    return Grouped(by_time[order], starts)


def grouped_events(ready: pl.DataFrame, groups: pl.DataFrame, keys: list[str]) -> Grouped:
    """Prepared events of the groups' keys by group, in order of (time, order); events of other keys are left out."""
    if keys:
        joined = ready.select(keys).join(groups, on=keys, how="left", maintain_order="left")[_GROUP]
        event_groups = joined.fill_null(-1).to_numpy()
    else:
        event_groups = np.zeros(ready.height, np.int64)
    by_time = time_order(ready)
    if by_time is None:
        return Grouped(*group_order(event_groups, groups.height))
    order, starts = group_order(event_groups[by_time], groups.height)
    return Grouped(by_time[order], starts)
