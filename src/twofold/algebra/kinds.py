"""The numbers that compiled states go by: kinds of state, kinds of value, operations that read a feature, statuses."""

from __future__ import annotations

import numpy as np
from numba import njit

COUNT, MOMENTS1, MOMENTS2, MIN, MAX, LAST, EARLIEST, NEWEST, FIRST_K, LAST_K, SMALLEST_K, LARGEST_K = range(12)
MOMENTS3, MOMENTS4, DECAYED, REGISTERS, VALUES, SKETCH, HISTOGRAM = range(12, 19)
KINDS = {
    "count": COUNT,
    "moments1": MOMENTS1,
    "moments2": MOMENTS2,
    "min": MIN,
    "max": MAX,
    "last": LAST,
    "first": EARLIEST,
    "newest": NEWEST,
    "first_k": FIRST_K,
    "last_k": LAST_K,
    "smallest_k": SMALLEST_K,
    "largest_k": LARGEST_K,
    "moments3": MOMENTS3,
    "moments4": MOMENTS4,
    "decayed": DECAYED,
    "registers": REGISTERS,
    "values": VALUES,
    "sketch": SKETCH,
    "histogram": HISTOGRAM,
}
FLOAT, INT, WIDE = range(3)
OP_COUNT, OP_SUM, OP_MEAN, OP_STD, OP_VALUE, OP_VAR, OP_SINCE, OP_RATE, OP_LIST = range(9)
OP_SKEW, OP_KURTOSIS, OP_DECAYED_SUM, OP_DECAYED_MEAN, OP_DISTINCT, OP_DISTINCT_EXACT, OP_QUANTILE, OP_BIN = range(9, 17)
OPS = {
    "count": OP_COUNT,
    "sum": OP_SUM,
    "mean": OP_MEAN,
    "share": OP_MEAN,
    "var": OP_VAR,
    "std": OP_STD,
    "min": OP_VALUE,
    "max": OP_VALUE,
    "any": OP_VALUE,
    "all": OP_VALUE,
    "first": OP_VALUE,
    "last": OP_VALUE,
    "time_since_last": OP_SINCE,
    "rate": OP_RATE,
    "first_k": OP_LIST,
    "last_k": OP_LIST,
    "smallest_k": OP_LIST,
    "largest_k": OP_LIST,
    "skew": OP_SKEW,
    "kurtosis": OP_KURTOSIS,
    "decayed_sum": OP_DECAYED_SUM,
    "decayed_mean": OP_DECAYED_MEAN,
    "distinct": OP_DISTINCT,
    "distinct_exact": OP_DISTINCT_EXACT,
    "quantile": OP_QUANTILE,
    "histogram": OP_BIN,
}
ZERO_IF_EMPTY = frozenset({"count", "sum", "rate", "decayed_sum", "distinct", "distinct_exact", "histogram"})
"""Aggregates that are 0, not null, in an empty window: they count or add up."""
PRESENT, EMPTY, AHEAD, STALE, UNBUILT, OVERFLOW, FAILED = range(7)
STATUSES = ("present", "empty", "ahead", "stale", "unbuilt", "overflow", "failed")

_LOW63 = np.int64(0x7FFFFFFFFFFFFFFF)


@njit(cache=True, inline="always")
def sortable(word, value_kind):
    """A float's pattern as an integer of the same order (and back: it is its own inverse); other words as they are."""
    if value_kind == FLOAT and word < 0:
        return word ^ _LOW63
    return word
