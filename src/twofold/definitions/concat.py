"""Events of several sources as one stream for a view: which branches it has. What they share is found by the check and by the compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twofold.definitions.base import Place, caller_place
from twofold.definitions.events import Events
from twofold.errors import DefinitionError

if TYPE_CHECKING:
    import polars as pl

    from twofold.definitions.table import Table


@dataclass(frozen=True, eq=False)
class Concat:
    """The events of several branches as one stream, with the columns that all of them have after their steps, of the same types.

    Every branch keeps its own time column, whatever it is called. A step after the concat is taken by each branch.
    """

    branches: tuple[Events, ...]
    place: Place = field(repr=False)

    @property
    def name(self) -> str:
        """The names of the sources, for texts."""
        return " + ".join(events.name for events in self.branches)

    def filter(self, condition: pl.Expr) -> Concat:
        """The same events, only those for which `condition` is true."""
        return self._each(lambda events: events.filter(condition))

    def with_columns(self, **columns: pl.Expr) -> Concat:
        """The same events with columns added or replaced by row-level expressions."""
        return self._each(lambda events: events.with_columns(**columns))

    def rename(self, **new_names: str) -> Concat:
        """The same events with columns renamed, `old="new"`."""
        return self._each(lambda events: events.rename(**new_names))

    def explode(self, column: str) -> Concat:
        """One event for each element of a list column, as in `Events.explode`."""
        return self._each(lambda events: events.explode(column))

    def join(self, table: Table, on: str | Sequence[str] | Mapping[str, str]) -> Concat:
        """The same events, each with a table's row, as in `Events.join`."""
        return self._each(lambda events: events.join(table, on))

    def _each(self, step: Callable[[Events], Events]) -> Concat:
        return Concat(tuple(step(events) for events in self.branches), self.place)


def concat(sources: Sequence[Events | Concat]) -> Concat:
    """Events of several sources as one stream for a View: `tw.concat([orders, refunds.with_columns(amount=-pl.col("amount"))])`.

    The view sees the columns that all of them have after their steps; those must have the same types. The time columns may have
    different names. The same source may stand here more than once, with different steps: an event then counts once for each. Raises
    DefinitionError for what is no source of events.
    """
    place = caller_place()
    branches: list[Events] = []
    given: Any = sources
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise DefinitionError(f"tw.concat takes a list, as in tw.concat([orders, refunds]); got {_named(given)} ({place})")
    for item in given:
        if not isinstance(item, Events | Concat):
            text = f"tw.concat takes sources of events, as in tw.concat([orders, refunds]); got {_named(item)} ({place})"
            raise DefinitionError(text)
        branches += branches_of(item)
    if not branches:
        raise DefinitionError(f"tw.concat of nothing has no events; give sources, as in tw.concat([orders, refunds]) ({place})")
    return Concat(tuple(branches), place)


def _named(value: Any) -> str:
    return f"{type(value).__name__.lower()} {value.name!r}" if hasattr(value, "name") else repr(value)


def branches_of(source: Events | Concat) -> tuple[Events, ...]:
    """The events that a view folds, one for each branch."""
    return source.branches if isinstance(source, Concat) else (source,)
