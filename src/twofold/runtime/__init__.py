"""The composition root: opens a project's engines and wires the rooms to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twofold.definitions.project import Project
    from twofold.instants import Clock
    from twofold.plan.compile import CompiledProject
    from twofold.runtime.opened import Opened
    from twofold.settings import Settings


def open_project(project: Project, home: str | Path, clock: Clock | None = None, **settings: Any) -> Opened:
    """The running system of a project under `home`; raises DefinitionError with all problems of the definitions."""
    from twofold.settings import Settings

    return open_with(project, Settings(home=Path(home), **settings), clock)


def open_with(project: Project, settings: Settings, clock: Clock | None = None) -> Opened:
    """`open_project` with settings as they were read from file, environment and options."""
    from twofold.definitions.check import check_or_raise
    from twofold.plan.compile import compile_project
    from twofold.runtime.home import Home
    from twofold.runtime.opened import Opened

    check_or_raise(project)
    compiled = compile_project(project)
    _check_topics(compiled, settings)
    return Opened(compiled, Home(settings, clock))


def _check_topics(compiled: CompiledProject, settings: Settings) -> None:
    """Raises DefinitionError for a `[sources.<name>]` of no source that takes events, NotYet for one of a source that joins a table."""
    from twofold.errors import DefinitionError, NotYet, did_you_mean

    names = [name for name, source in compiled.sources.items() if source.takes_events]
    for name in settings.sources:
        if name not in names:
            raise DefinitionError(
                f"[sources.{name}]: project {compiled.project.name!r} has no source {name!r} that takes events; it has "
                f"{', '.join(sorted(names)) or 'none'}.{did_you_mean(name, names)}"
            )
        if compiled.sources[name].joins:
            raise NotYet(
                f"source {name!r} joins {compiled.sources[name].joins[0].table!r}, and others write its topic ([sources.{name}]): rows are "
                "joined when events are appended here, which those are not; join before they are produced, or use the table in the model"
            )
