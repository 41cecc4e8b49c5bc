"""Declare a feature once; Twofold computes it from history and from the stream, and serves one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twofold.clocks import ManualClock, ReplayClock, SystemClock
from twofold.definitions.aggregates import OVERFLOW, Aggregate, Item, Window
from twofold.definitions.base import Category
from twofold.definitions.concat import concat
from twofold.definitions.events import Events
from twofold.definitions.features import (
    aggregate,
    all,
    any,
    count,
    decayed_mean,
    decayed_sum,
    distinct,
    distinct_exact,
    first,
    first_k,
    histogram,
    kurtosis,
    largest_k,
    last,
    last_k,
    max,
    mean,
    min,
    quantile,
    quantiles,
    rate,
    share,
    skew,
    smallest_k,
    std,
    sum,
    time_since_last,
    var,
)
from twofold.definitions.model import Cached, Default, Label, Model, Rows
from twofold.definitions.project import Project
from twofold.definitions.table import Table
from twofold.definitions.view import View

if TYPE_CHECKING:
    import polars as pl

__version__ = "0.1.0"

__all__ = [
    "OVERFLOW",
    "Aggregate",
    "Cached",
    "Category",
    "Default",
    "Events",
    "Item",
    "Label",
    "ManualClock",
    "Model",
    "Project",
    "ReplayClock",
    "Rows",
    "SystemClock",
    "Table",
    "View",
    "Window",
    "aggregate",
    "all",
    "any",
    "compute",
    "concat",
    "count",
    "decayed_mean",
    "decayed_sum",
    "distinct",
    "distinct_exact",
    "first",
    "first_k",
    "histogram",
    "kurtosis",
    "largest_k",
    "last",
    "last_k",
    "max",
    "mean",
    "min",
    "quantile",
    "quantiles",
    "rate",
    "share",
    "skew",
    "smallest_k",
    "std",
    "sum",
    "time_since_last",
    "var",
]


def compute(view: View | Table, tables: Mapping[Events | Table | str, Any], spine: Any) -> pl.DataFrame:
    """Features of `view` for every row of `spine` (key columns and `at`), in its order, from tables at hand; no disk.

    `tables` maps the view's source (or its name) to any table that `load` takes; rows are taken as loaded history. Raises
    DefinitionError with all problems of the view, DataError where its source is not among the tables.

    >>> import twofold as tw
    >>> rides = tw.Events("rides", time="at", schema={"city": str, "fare": float})
    >>> city = tw.View("city", rides, by="city", features={"fare": tw.mean("fare", over="1h")})
    >>> table = [{"city": "Oslo", "fare": 10.0, "at": "2024-05-01T11:30:00Z"}, {"city": "Oslo", "fare": 20.0, "at": "2024-05-01T11:45:00Z"}]
    >>> tw.compute(city, {rides: table}, [{"city": "Oslo", "at": "2024-05-01T12:00:00Z"}])["fare_1h"].to_list()
    [15.0]
    """
    from twofold.runtime.compute import compute as computed

    return computed(view, tables, spine)
