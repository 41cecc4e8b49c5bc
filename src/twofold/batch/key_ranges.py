"""Ranges of a view's keys, cut so that each holds about as many events; events and spines are told their range alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class KeyRanges:
    """Ranges in the order of keys: range i holds the keys from split i on and below the next one; keys below all splits are in range 0.

    The order of keys is that of their columns, which is also the order of their encoded bytes.
    """

    def __init__(self, splits: pl.DataFrame) -> None:
        """`splits` are keys, `k0..`, distinct and in order; the first range begins before the first of them."""
        self._splits = splits
        self.count = splits.height + 1

    @classmethod
    def whole(cls) -> KeyRanges:
        """One range of all keys."""
        return cls(pl.DataFrame())

    @classmethod
    def of_sample(cls, keys: pl.DataFrame, count: int) -> KeyRanges:
        """At most `count` ranges of about equal weight, from the keys of a sample of events. A heavy key has a range almost to itself."""
        ordered = keys.sort(keys.columns)
        places = sorted({ordered.height * i // count for i in range(1, count)}) if ordered.height and keys.columns else []
        return cls(ordered[places].unique(maintain_order=True))

    def of(self, keys: pl.DataFrame) -> Numbers:
        """The range of each key; of one with a null 0."""
        if self.count == 1:
            return np.zeros(keys.height, np.int64)
        numbers = _splits_up_to(self._splits, keys, self._splits.columns)
        has_null = keys.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
        numbers[has_null] = 0
        return numbers


def _splits_up_to(splits: pl.DataFrame, keys: pl.DataFrame, columns: Sequence[str]) -> Numbers:
    """How many of the ordered splits are not greater than each key."""
    split, key = (_searchable(frame[columns[0]]) for frame in (splits, keys))
    last = split.search_sorted(key, side="right").cast(pl.Int64).to_numpy(writable=True)
    if len(columns) == 1:
        return last
    first = split.search_sorted(key, side="left").cast(pl.Int64).to_numpy()
    for begin in np.unique(first[first < last]):
        # The first column is that of some splits: the other columns decide among these.
        rows = np.flatnonzero((first == begin) & (last > begin))
        among = splits[int(begin) : int(last[rows[0]])]
        last[rows] = begin + _splits_up_to(among, keys[rows], columns[1:])
    return last


def _searchable(column: pl.Series) -> pl.Series:
    return column.cast(pl.Int64) if column.dtype == pl.Boolean else column.to_physical()
