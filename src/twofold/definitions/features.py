"""The feature words: tw.count, tw.sum, tw.mean, tw.min, tw.max, tw.last, tw.std."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twofold.definitions.base import Place, caller_place
from twofold.errors import NotYet

if TYPE_CHECKING:
    import polars as pl

Over = str | Sequence[str] | None


@dataclass(frozen=True)
class Feature:
    """One declared aggregate over one or several windows.

    `aggregate` is the name of a registered aggregate, `input` a column name or a row-level `pl.Expr` (None: the event itself),
    `over` the windows' texts (empty: all events before t), `where` a row-level condition that an event must meet.
    """

    aggregate: str
    input: Any
    over: tuple[str, ...]
    where: Any
    hop: str | None
    place: Place


def _feature(aggregate: str, value: Any, over: Over, where: Any, hop: str | None, ago: str | None) -> Feature:
    place = caller_place()
    if ago is not None:
        raise NotYet(f"tw.{aggregate}(ago=...) is not carried out by this version ({place})")
    windows = () if over is None else (over,) if isinstance(over, str) else tuple(over)
    return Feature(aggregate, value, windows, where, hop, place)


def count(
    value: str | pl.Expr | None = None, over: Over = None, *, where: pl.Expr | None = None, hop: str | None = None, ago: str | None = None
) -> Feature:
    """Number of events in the window, or of those whose `value` is not null; 0 in an empty window."""
    return _feature("count", value, over, where, hop, ago)


def sum(value: str | pl.Expr, over: Over = None, *, where: pl.Expr | None = None, hop: str | None = None, ago: str | None = None) -> Feature:
    """The true sum, rounded once to the nearest float64 (equal to `math.fsum`); exact for integers; 0 in an empty window."""
    return _feature("sum", value, over, where, hop, ago)


def mean(value: str | pl.Expr, over: Over = None, *, where: pl.Expr | None = None, hop: str | None = None, ago: str | None = None) -> Feature:
    """The true mean, rounded once; of a condition the share of events that meet it; null in an empty window."""
    return _feature("mean", value, over, where, hop, ago)


def std(value: str | pl.Expr, over: Over = None, *, where: pl.Expr | None = None, hop: str | None = None, ago: str | None = None) -> Feature:
    """Sample standard deviation (n - 1): the root of the true variance, rounded; null below two values, 0 of a constant."""
    return _feature("std", value, over, where, hop, ago)


def min(value: str | pl.Expr, over: Over = None, *, where: pl.Expr | None = None, hop: str | None = None, ago: str | None = None) -> Feature:
    """The smallest value; null in an empty window."""
    return _feature("min", value, over, where, hop, ago)


def max(value: str | pl.Expr, over: Over = None, *, where: pl.Expr | None = None, hop: str | None = None, ago: str | None = None) -> Feature:
    """The largest value; null in an empty window."""
    return _feature("max", value, over, where, hop, ago)


def last(value: str | pl.Expr, over: Over = None, *, where: pl.Expr | None = None, hop: str | None = None, ago: str | None = None) -> Feature:
    """The latest value by event_time, ties by (history version, row) then (partition, offset); null in an empty window."""
    return _feature("last", value, over, where, hop, ago)
