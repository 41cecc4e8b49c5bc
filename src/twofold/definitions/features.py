"""The feature words: tw.count, tw.sum, tw.mean and the others; each has the name of an aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Optional, Union

from twofold.definitions.base import Place, caller_place
from twofold.errors import NotYet
from twofold.instants import duration_text, duration_us

if TYPE_CHECKING:
    import polars as pl

Window = str | timedelta
Value = Union[str, "pl.Expr"]
Condition = Optional["pl.Expr"]
Over = Window | Sequence[Window] | None


@dataclass(frozen=True, eq=False)
class Feature:
    """One declared aggregate over one or several windows.

    `aggregate` is the name of a registered aggregate, `input` a column name or a row-level `pl.Expr` (None: the event itself),
    `over` the windows' texts (empty: all events before t), `where` a row-level condition that an event must meet.
    """

    aggregate: str
    input: Any
    over: tuple[Window, ...]
    where: Any
    hop: Window | None
    place: Place = field(repr=False)


def feature_names(name: str, feature: Feature) -> dict[str, str | None]:
    """Full name -> window of each feature that a declaration gives: `delay` over "60m" and "7d" gives `delay_1h`, `delay_7d`.

    A window is written as `duration_text` writes it; None is all time, and its feature ends in `_all`. Raises DefinitionError for a
    window that is no duration.
    """
    if not feature.over:
        return {f"{name}_all": None}
    windows = [duration_text(duration_us(window)) for window in feature.over]
    return {f"{name}_{window}": window for window in windows}


def _feature(aggregate: str, value: Any, over: Over, where: Any, hop: Window | None, ago: Window | None) -> Feature:
    place = caller_place()
    if ago is not None:
        raise NotYet(f"tw.{aggregate}(ago=...) is not carried out by this version ({place})")
    windows = () if over is None else (over,) if isinstance(over, str | timedelta) else tuple(over)
    return Feature(aggregate, value, windows, where, hop, place)


def count(
    value: Value | None = None, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None
) -> Feature:
    """Number of events in the window, or of those whose `value` is not null; 0 in an empty window."""
    return _feature("count", value, over, where, hop, ago)


def rate(
    value: Value | None = None, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None
) -> Feature:
    """Events a second, or those whose `value` is not null: the count divided by `over`, which it needs; 0 in an empty window."""
    return _feature("rate", value, over, where, hop, ago)


def time_since_last(
    value: Value | None = None, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None
) -> Feature:
    """Seconds from the event_time of the latest event, or of the latest whose `value` is not null, to t; null in an empty window."""
    return _feature("time_since_last", value, over, where, hop, ago)


def sum(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """The true sum, rounded once to the nearest float64 (equal to `math.fsum`); exact for integers; 0 in an empty window."""
    return _feature("sum", value, over, where, hop, ago)


def mean(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """The true mean, rounded once; of a condition the share of events that meet it; null in an empty window."""
    return _feature("mean", value, over, where, hop, ago)


def std(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """Sample standard deviation (n - 1): the root of the true variance, rounded; null below two values, 0 of a constant."""
    return _feature("std", value, over, where, hop, ago)


def var(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """Sample variance (n - 1), rounded once; null below two values, 0 of a constant."""
    return _feature("var", value, over, where, hop, ago)


def share(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """Share of the events that meet a condition (a boolean column or expression); null in an empty window."""
    return _feature("share", value, over, where, hop, ago)


def any(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """Whether any event in the window meets a condition; null in an empty window."""
    return _feature("any", value, over, where, hop, ago)


def all(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """Whether all events in the window meet a condition; null in an empty window."""
    return _feature("all", value, over, where, hop, ago)


def first(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """The earliest value by event_time, ties by (history version, row) then (partition, offset); null in an empty window."""
    return _feature("first", value, over, where, hop, ago)


def min(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """The smallest value, of texts the first by code points; null in an empty window."""
    return _feature("min", value, over, where, hop, ago)


def max(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """The largest value, of texts the last by code points; null in an empty window."""
    return _feature("max", value, over, where, hop, ago)


def last(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """The latest value by event_time, ties by (history version, row) then (partition, offset); null in an empty window."""
    return _feature("last", value, over, where, hop, ago)
