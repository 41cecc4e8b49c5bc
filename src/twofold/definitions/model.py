"""Models: what a request looks like, what is joined to it, what is trained on which rows, and what answers when parts fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from twofold.definitions.base import ColumnType, Place, caller_place, type_name
from twofold.definitions.events import Events
from twofold.definitions.table import Table
from twofold.definitions.use import ViewUse
from twofold.definitions.view import View
from twofold.instants import Duration

if TYPE_CHECKING:
    import polars as pl

LABEL, WEIGHT = "label", "weight"
"""Columns of a training set."""


def label_column(name: str) -> str:
    """The column of a label that is one of several."""
    return f"{LABEL}_{name}"


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows to train on: one for each event of `source` that meets `where`, at the instant that the expression `at` gives.

    `sample` keeps that share of the rows, chosen by a pinned hash of each event's id (its position where it has none): the same
    rows in every run, and a smaller sample lies in a larger one. `weight` (a column or a row-level expression, not negative) says
    how much a row counts in fitting and in the figures; a row whose weight is null is left out. Rows of one `group` (a column)
    never stand on both sides of a test: those of a group that was trained on are left out of it.
    """

    source: Events
    _: KW_ONLY
    at: pl.Expr | str | None = None
    where: pl.Expr | None = None
    sample: float | None = None
    weight: pl.Expr | str | None = None
    group: str | None = None
    place: Place = field(default_factory=caller_place, repr=False)


@dataclass(frozen=True, eq=False)
class Label:
    """What is to be foretold of a row: what happens in `[at, at + within)` to events of `source` whose columns `on` equal the row's.

    `value` is a column or row-level expression, of which the first such event counts, or an aggregate of them all without a window
    of its own, as `tw.count()` or `tw.sum("amount", where=...)`. Its tail is not rounded: the horizon begins at `at` exactly.

    `missing` is the label where there is no such event (of an aggregate: where it has no value; a count has one, 0); None leaves
    the row out. An event whose `value` is null leaves the row out in any case, and so does a horizon that is not over: over it is
    when `source` has arrived that far.
    """

    source: Events
    on: str | tuple[str, ...]
    value: Any
    within: Duration
    missing: Any = None
    place: Place = field(default_factory=caller_place, repr=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that tie an event to a row."""
        return (self.on,) if isinstance(self.on, str) else tuple(self.on)


@dataclass(frozen=True)
class Cached:
    """Fallback: the last prediction for the same request, if it is not older than `max_age`."""

    max_age: Duration


@dataclass(frozen=True)
class Default:
    """Fallback: a declared value; never fails."""

    value: Any


Fallback = Cached | Default
Used = View | Table | ViewUse


@dataclass(frozen=True, eq=False)
class Model:
    """A prediction: request fields + features + derived columns -> estimator. Without an estimator it is a feature set.

    Columns, in order: the request's fields that are no identifiers (`str`), each view's features behind its prefix, `derived`.
    `derived` maps a name to a function of columns (NumPy arrays in, array out; free names only `np` and `math`).

    A dict of labels makes a model that foretells them all: each has a column `label_<name>` in training sets, and a prediction is
    an object of one value a name. `estimator` is then one for all labels or a dict with one for each.
    """

    name: str
    request: Mapping[str, ColumnType]
    views: Sequence[Used] = ()
    derived: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    drop: Sequence[str] = ()
    rows: Rows | None = None
    label: Label | Mapping[str, Label] | None = None
    estimator: Any = None
    fallback: Sequence[Fallback] = ()
    deadline: Duration = "100ms"
    retrain: str | None = None
    place: Place = field(default_factory=caller_place, repr=False)

    @property
    def uses(self) -> tuple[ViewUse, ...]:
        """The views as they are read, each as a ViewUse."""
        return tuple(use if isinstance(use, ViewUse) else ViewUse(use, {}, None, None, self.place) for use in self.views)

    @property
    def labels(self) -> dict[str, Label]:
        """Each label by its column in training sets: `label`, or `label_<name>` of a dict; none for a feature set."""
        if isinstance(self.label, Mapping):
            return {label_column(name): label for name, label in self.label.items()}
        return {} if self.label is None else {LABEL: self.label}

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of a dict's labels, in order; empty where there is one label or none."""
        return tuple(self.label) if isinstance(self.label, Mapping) else ()

    @property
    def request_types(self) -> dict[str, str]:
        """Type name of every request field."""
        return {name: type_name(kind, f"{self.name}.request[{name!r}]") for name, kind in self.request.items()}
