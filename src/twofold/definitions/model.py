"""Models: what a request looks like, what is joined to it, what is trained on which rows, and what answers when parts fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twofold.definitions.base import ColumnType, Place, caller_place, type_name
from twofold.definitions.events import Events
from twofold.definitions.table import Table
from twofold.definitions.use import ViewUse
from twofold.definitions.view import View
from twofold.instants import Duration

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, init=False, eq=False)
class Rows:
    """The rows to train on: one for each event of `source` that meets `where`, at the instant that the expression `at` gives."""

    source: Events
    at: Any
    where: Any
    later: tuple[str, ...]
    place: Place = field(repr=False)

    def __init__(
        self,
        source: Events,
        *,
        at: pl.Expr | str | None = None,
        where: pl.Expr | None = None,
        sample: float | None = None,
        weight: pl.Expr | str | None = None,
        group: str | None = None,
    ) -> None:
        place = caller_place()
        later = [name for name, value in {"sample": sample, "weight": weight, "group": group}.items() if value is not None]
        for name, value in {"source": source, "at": at, "where": where, "place": place, "later": tuple(later)}.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False)
class Label:
    """What is to be foretold: `value` of the first event of `source` in `[at, at + within)` whose columns `on` equal the row's.

    `missing=None` leaves a row without such an event out; any other value is its label. Rows whose horizon is not over are left out.
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
    """

    name: str
    request: Mapping[str, ColumnType]
    views: Sequence[Used] = ()
    derived: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    drop: Sequence[str] = ()
    rows: Rows | None = None
    label: Label | None = None
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
    def request_types(self) -> dict[str, str]:
        """Type name of every request field."""
        return {name: type_name(kind, f"{self.name}.request[{name!r}]") for name, kind in self.request.items()}
