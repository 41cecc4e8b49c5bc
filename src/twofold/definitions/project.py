"""The project: all definitions that belong together, reached from its models and views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.definitions.base import Place, caller_place
from twofold.definitions.concat import branches_of
from twofold.definitions.events import Events, Step, replace_fields
from twofold.definitions.model import Model
from twofold.definitions.table import Table
from twofold.definitions.view import View

if TYPE_CHECKING:
    from twofold.instants import Clock
    from twofold.runtime.opened import Opened


@dataclass(frozen=True, eq=False)
class Project:
    """A name and the models and views that belong to it; their sources and tables are reached from them."""

    name: str
    models: Sequence[Model] = ()
    views: Sequence[View | Table] = ()
    sources: Sequence[Events] = ()
    place: Place = field(default_factory=caller_place, repr=False)

    def reached_views(self) -> tuple[View | Table, ...]:
        """Every view and table, each name once, in the order in which it is reached."""
        views = [*self.views, *(use.view for model in self.models for use in model.uses)]
        return tuple(_unique([*views, *(join.content["table"] for events in self.reached_events() for join in joins_of(events))]))

    def reached_events(self) -> tuple[Events, ...]:
        """Events with their steps, as views, rows and labels take them; those of one source may come several times."""
        views = [*self.views, *(use.view for model in self.models for use in model.uses)]
        found = [events for view in views if isinstance(view, View) for events in branches_of(view.source)]
        parts = [part for model in self.models for part in (model.rows, *model.labels.values()) if part is not None]
        return (*self.sources, *found, *(part.source for part in parts))

    def reached_sources(self) -> tuple[Events | Table, ...]:
        """Every source of events and every table, each name once, in the order in which it is reached; steps are no part of a source."""
        found: list[Events | Table] = list(self.sources)
        for view in self.reached_views():
            found += [view] if isinstance(view, Table) else branches_of(view.source)
        found += self.reached_events()
        return tuple(replace_fields(item, steps=()) if isinstance(item, Events) else item for item in _unique(found))

    def open(self, home: str | Path = ".twofold", clock: Clock | None = None, **settings: Any) -> Opened:
        """The running system, a context manager; all embedded state lies under `home`."""
        from twofold.runtime import open_project

        return open_project(self, home=home, clock=clock, **settings)


def joins_of(events: Events) -> tuple[Step, ...]:
    """The steps that join a table."""
    return tuple(step for step in events.steps if step.kind == "join")


def _unique(items: Sequence[Any]) -> Iterator[Any]:
    """Each name once: `check` has seen to it that one name has one content."""
    seen: set[str] = set()
    for item in items:
        if item.name not in seen:
            seen.add(item.name)
            yield item
