"""The feature words: tw.count, tw.sum, tw.mean and the others; each has the name of an aggregate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

from twofold.algebra import base
from twofold.algebra.base import registered
from twofold.algebra.own import Aggregate
from twofold.definitions.base import Place, caller_place
from twofold.errors import DefinitionError
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

    `aggregate` is the name of a registered aggregate, `input` a column name, several of them, or a row-level `pl.Expr` (None: the
    event itself), `over` the windows' texts (empty: all events before t), `where` a row-level condition that an event must meet,
    `ago` how far back the windows are shifted. `parts` are the values that it gives, each with a suffix of its name and the
    aggregate's parameters. `own` is the class of a person's own aggregate.
    """

    aggregate: str
    input: Any
    over: tuple[Window, ...]
    where: Any
    hop: Window | None
    ago: Window | None
    parts: tuple[Part, ...]
    place: Place = field(repr=False)
    own: type[Aggregate[Any]] | None = None


class Part(NamedTuple):
    """One of the values that a declaration gives: what its name has more (perhaps nothing), and the aggregate's parameters."""

    suffix: str
    parameters: Mapping[str, Any]


class Named(NamedTuple):
    """A feature by its full name: its window (None: all time) and the aggregate's parameters."""

    name: str
    window: str | None
    parameters: Mapping[str, Any]


ONE_PART = (Part("", {}),)


def class_of(feature: Feature) -> type[base.Aggregate[Any]]:
    """The class of a feature's aggregate."""
    return feature.own or registered()[feature.aggregate]


def named_features(name: str, feature: Feature) -> list[Named]:
    """Each feature that a declaration gives: `delay` over "60m" and "7d" gives `delay_1h`, `delay_7d`.

    A window is written as `duration_text` writes it; None is all time, and its feature ends in `_all`; `ago="1d"` adds `_ago_1d`. Raises
    DefinitionError for a window that is no duration.
    """
    windows: list[str | None] = [duration_text(duration_us(window)) for window in feature.over]
    shift = f"_ago_{duration_text(duration_us(feature.ago))}" if feature.ago is not None else ""
    return [
        Named("_".join(text for text in (name, part.suffix, window or "all") if text) + shift, window, part.parameters)
        for part in feature.parts
        for window in windows or [None]
    ]


def _feature(
    aggregate: str, value: Any, over: Over, where: Any, hop: Window | None, ago: Window | None, parts: tuple[Part, ...] = ONE_PART
) -> Feature:
    windows = () if over is None else (over,) if isinstance(over, str | timedelta) else tuple(over)
    return Feature(aggregate, value, windows, where, hop, ago, parts, caller_place())


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


def skew(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """Sample skewness (adjusted Fisher-Pearson, as in pandas) of the true moments; null below three values and of a constant."""
    return _feature("skew", value, over, where, hop, ago)


def kurtosis(value: Value, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None) -> Feature:
    """Sample excess kurtosis (0 of a normal distribution, as in pandas) of the true moments; null below four values and of a constant."""
    return _feature("kurtosis", value, over, where, hop, ago)


def decayed_sum(
    value: Value,
    half_life: Window,
    over: Over = None,
    *,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """The sum of the values, each times 2^(-(t - event_time) / half_life); 0 in an empty window."""
    return _feature("decayed_sum", value, over, where, hop, ago, (_with_half_life(half_life),))


def decayed_mean(
    value: Value,
    half_life: Window,
    over: Over = None,
    *,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """The mean of the values, each by the weight 2^(-(t - event_time) / half_life); null in an empty window."""
    return _feature("decayed_mean", value, over, where, hop, ago, (_with_half_life(half_life),))


def _with_half_life(half_life: Window) -> Part:
    """The parameter in one form for one length, so that "60m" and "1h" are one feature; `check` refuses what is no duration."""
    with suppress(DefinitionError):
        half_life = duration_text(duration_us(half_life))
    return Part("", {"half_life": half_life})


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


def last(
    value: Value | Sequence[str],
    over: Over = None,
    *,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """The latest value by event_time, ties by (history version, row) then (partition, offset); null in an empty window.

    Of several columns, as in `tw.last(["lat", "lon"])`, all that one latest event has, its nulls too: `<name>_lat_<window>`, ...
    """
    if isinstance(value, list | tuple):
        columns = tuple(value)
        return _feature("last", columns, over, where, hop, ago, tuple(Part(str(column), {"column": column}) for column in columns))
    return _feature("last", value, over, where, hop, ago)


def first_k(
    value: Value, k: int, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None
) -> Feature:
    """A list of the k earliest values, the earliest first; shorter where there are fewer, null in an empty window."""
    return _feature("first_k", value, over, where, hop, ago, (Part("", {"k": k}),))


def last_k(
    value: Value, k: int, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None
) -> Feature:
    """A list of the k latest values, the latest first; shorter where there are fewer, null in an empty window."""
    return _feature("last_k", value, over, where, hop, ago, (Part("", {"k": k}),))


def smallest_k(
    value: Value, k: int, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None
) -> Feature:
    """A list of the k smallest values, the smallest first, equal ones each; shorter where there are fewer, null in an empty window."""
    return _feature("smallest_k", value, over, where, hop, ago, (Part("", {"k": k}),))


def largest_k(
    value: Value, k: int, over: Over = None, *, where: Condition = None, hop: Window | None = None, ago: Window | None = None
) -> Feature:
    """A list of the k largest values, the largest first, equal ones each; shorter where there are fewer, null in an empty window."""
    return _feature("largest_k", value, over, where, hop, ago, (Part("", {"k": k}),))


def quantile(
    value: Value,
    q: float,
    over: Over = None,
    *,
    error: float = 0.01,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """The value below which the share `q` lies: that at rank floor(q (n - 1)), within a relative `error`; null in an empty window."""
    return _feature("quantile", value, over, where, hop, ago, (Part("", {"q": q, "error": error}),))


def quantiles(
    value: Value,
    qs: Sequence[float],
    over: Over = None,
    *,
    error: float = 0.01,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """Several quantiles of one sketch, a feature each: `delay` at 0.5 and 0.999 gives `delay_p50_<window>`, `delay_p99_9_<window>`."""
    parts = tuple(Part(f"p{_percent(q)}", {"q": q, "error": error}) for q in qs)
    return _feature("quantile", value, over, where, hop, ago, parts)


def _percent(q: Any) -> str:
    return f"{q * 100:.10g}".replace(".", "_") if isinstance(q, int | float) else str(q)


def histogram(
    value: Value,
    categories: Sequence[str | int | bool],
    over: Over = None,
    *,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """How many events each category has, a feature each: `<name>_<category>_<window>`; other values are left out; 0 in an empty window."""
    import polars as pl

    column, code = pl.col(value) if isinstance(value, str) else value, pl.lit(None, pl.Int64)
    for number, category in enumerate(categories):
        code = pl.when(column == category).then(number).otherwise(code)
    parts = tuple(
        Part(str(category).lower() if isinstance(category, bool) else str(category), {"bin": number, "bins": len(categories)})
        for number, category in enumerate(categories)
    )
    return _feature("histogram", code, over, where, hop, ago, parts)


def distinct(
    value: Value,
    over: Over = None,
    *,
    error: float = 0.02,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """About how many distinct values there are, with a standard error of at most the share `error`; 0 in an empty window."""
    return _feature("distinct", value, over, where, hop, ago, (Part("", {"error": error}),))


def distinct_exact(
    value: Value,
    over: Over = None,
    *,
    at_most: int = 1000,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
) -> Feature:
    """How many distinct values there are; null with the status `overflow` above `at_most`; 0 in an empty window."""
    return _feature("distinct_exact", value, over, where, hop, ago, (Part("", {"at_most": at_most}),))


def aggregate(
    own: type[Aggregate[Any]],
    value: Value | None = None,
    over: Over = None,
    *,
    where: Condition = None,
    hop: Window | None = None,
    ago: Window | None = None,
    **parameters: Any,
) -> Feature:
    """What an aggregate of one's own gives: `own` is a subclass of `tw.Aggregate`, the parameters are plain values for it.

    Without a value it takes the events themselves. What an empty window gives is its own `result` of `zero()`.
    """
    name = str(getattr(own, "name", getattr(own, "__name__", own)))
    plain = {key: list(item) if isinstance(item, tuple) else item for key, item in parameters.items()}
    feature = _feature(name, value, over, where, hop, ago, (Part("", plain),))
    return replace(feature, own=own)
