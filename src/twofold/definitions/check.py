"""The check of a project: all problems at once, each with file, line and the nearest right name. It never raises on a bad definition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from twofold.definitions.check_models import as_use, model_problems
from twofold.definitions.check_sources import concat_problems, events_problems, table_problems
from twofold.definitions.check_views import view_problems
from twofold.definitions.concat import Concat
from twofold.definitions.content import content_of
from twofold.definitions.events import Events, replace_fields
from twofold.definitions.load import load_project
from twofold.definitions.model import Label, Model, Rows
from twofold.definitions.problems import Problem, Problems, describe, guarded, name_problems, shown
from twofold.definitions.project import Project, joins_of
from twofold.definitions.table import Table
from twofold.definitions.use import ViewUse
from twofold.definitions.view import View
from twofold.errors import DefinitionError

__all__ = ["Problem", "check", "check_or_raise", "load_project"]


def check(project: Project) -> list[Problem]:
    """Every problem of a project, by file and line; empty where it can be carried out as a whole."""
    found = [*guarded(_project_problems, project)]
    for definition in _definitions(project):
        found += guarded(_CHECKS[type(definition)], definition)
    found += guarded(_duplicate_problems, project)
    return sorted(dict.fromkeys(found), key=lambda problem: (problem.place.file, problem.place.line))


def check_or_raise(project: Project) -> None:
    """Raise DefinitionError with the texts of all problems."""
    texts = [str(problem) for problem in check(project)]
    if texts:
        count = "1 problem" if len(texts) == 1 else f"{len(texts)} problems"
        raise DefinitionError(f"{count} in project {project.name!r}:\n" + "\n".join(texts))


_CHECKS: dict[type, Any] = {
    Events: events_problems,
    Concat: concat_problems,
    Table: table_problems,
    View: view_problems,
    Model: model_problems,
}


def _project_problems(project: Project) -> Problems:
    yield from name_problems(project.name, "the project's name", project.place)
    kinds = {"models": (Model,), "views": (View, Table), "sources": (Events, Table)}
    for part, wanted in kinds.items():
        for number, item in enumerate(getattr(project, part)):
            if not isinstance(item, wanted):
                names = " or ".join(f"tw.{kind.__name__}" for kind in wanted)
                yield Problem(f"project {project.name!r}: {part}[{number}] is {shown(item)}; give a {names}", project.place)
    if not any(True for _ in _definitions(project)):
        yield Problem(f"project {project.name!r} is empty; name its models, as in models=[late]", project.place)


def _definitions(project: Project) -> Iterator[Events | Concat | Table | View | Model]:
    """Every definition that the project reaches, each object once; what is no definition is left out."""
    seen: set[int] = set()
    waiting = [*_items(project.sources), *_items(project.views), *_items(project.models)]
    while waiting:
        item = waiting.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Events | Concat | Table | View | Model):
            yield item
        waiting += _reached(item)


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else []


def _reached(item: Any) -> list[Any]:
    if isinstance(item, Model):
        labels = item.label.values() if isinstance(item.label, Mapping) else [item.label]
        return [*_items(item.views), item.rows, *labels]
    if isinstance(item, ViewUse):
        return [as_use(item, item.place).view]
    if isinstance(item, Concat):
        return list(item.branches)
    if isinstance(item, Events):
        return [join.content["table"] for join in joins_of(item)]
    return [item.source] if isinstance(item, View | Rows | Label) else []


def _duplicate_problems(project: Project) -> Problems:
    """One name, one content: among sources and tables, among views and tables, among models. The later one is told."""
    definitions = sorted(_definitions(project), key=lambda item: (item.place.file, item.place.line))
    bare = [replace_fields(item, steps=()) if isinstance(item, Events) else item for item in definitions]
    for kinds in ((Events, Table), (View, Table), (Model,)):
        first: dict[str, Any] = {}
        for item in bare:
            if not isinstance(item, kinds):
                continue
            other = first.setdefault(item.name, item)
            if other is not item and (isinstance(item, Model) or content_of(other) != content_of(item)):
                yield Problem(f"{describe(item)}: the name is taken by another {describe(other)} ({other.place})", item.place)
