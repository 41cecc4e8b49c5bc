"""The check of sources of events, of their row-level steps, and of tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from twofold.definitions.base import ELEMENT_TYPES, Place, type_name
from twofold.definitions.check_joins import join_problems, joined_types
from twofold.definitions.concat import Concat, branches_of
from twofold.definitions.events import Events, Step
from twofold.definitions.problems import (
    UNKNOWN,
    Columns,
    Problem,
    Problems,
    check_expression,
    column_problems,
    describe,
    duration_problems,
    key_problems,
    name_problems,
)
from twofold.definitions.table import Table
from twofold.errors import DefinitionError, did_you_mean


@dataclass(frozen=True)
class Stepped:
    """The columns that a view of some events sees, after their row-level steps, and the problems of those steps."""

    columns: dict[str, str]
    time: str
    problems: tuple[Problem, ...]


def declared_columns(source: Events | Table) -> dict[str, str]:
    """Type name of every column that arrives; UNKNOWN where the declared type is none."""
    columns = {str(name): _type_or_unknown(kind) for name, kind in source.schema.items()}
    return columns if source.time is None else {**columns, source.time: "datetime"}


def _type_or_unknown(kind: Any) -> str:
    try:
        return type_name(kind, "")
    except DefinitionError:
        return UNKNOWN


def events_problems(events: Events) -> Problems:
    """Problems of a source and of its steps."""
    what, place = describe(events), events.place
    yield from name_problems(events.name, "the source's name", place)
    yield from _schema_problems(events)
    yield from _time_problems(events)
    columns = declared_columns(events)
    if events.id is not None:
        yield from key_problems([events.id], columns, what, f"id of {what}", place)
    by = events.partition_by or ()
    yield from key_problems([by] if isinstance(by, str) else by, columns, what, f"partition_by of {what}", place)
    if events.dedupe not in ("default", None):
        yield from duration_problems(events.dedupe, f"dedupe of {what}", place)
        if events.id is None:
            yield Problem(f"{what}: dedupe needs id=, the column that makes two events the same", place)
    yield from _zone_problems(events)
    yield from stepped(events).problems


def table_problems(table: Table) -> Problems:
    """Problems of a table."""
    what, place = describe(table), table.place
    yield from name_problems(table.name, "the table's name", place)
    yield from _schema_problems(table)
    if table.time is not None:
        yield from _time_problems(table)
    yield from key_problems(table.by, declared_columns(table), what, f"key of {what}", place)
    if not table.by:
        yield Problem(f"{what} has no key; name the columns that tell its rows apart, as in key='tailnum'", place)
    if not table.value_columns:
        yield Problem(f"{what} has no columns besides its key and time, so it has nothing to give", place)
    for name in table.value_columns:
        yield from name_problems(name, f"{what}: the column", place)
    yield from _delete_problems(table)
    if table.max_age is not None:
        yield from duration_problems(table.max_age, f"max_age of {what}", place)
    yield from _zone_problems(table)


def _schema_problems(source: Events | Table) -> Problems:
    what = describe(source)
    for name, kind in source.schema.items():
        if not isinstance(name, str) or not name or name.startswith("__"):
            yield Problem(f"{what}: {name!r} is no name of a column; use a text that does not begin with '__'", source.place)
        try:
            named = type_name(kind, f"{what}: the column {name!r}")
        except DefinitionError as error:
            yield Problem(str(error), source.place)
            continue
        if named in ELEMENT_TYPES and isinstance(source, Table):
            yield Problem(f"{what}: the column {name!r} is a {named}; only events have lists, to be exploded", source.place)


def _time_problems(source: Events | Table) -> Problems:
    """The time column may be left out of the schema, so only a near miss is a mistake."""
    what, time = describe(source), source.time
    if not isinstance(time, str) or not time:
        yield Problem(f"{what}: time is {time!r}; name the column that holds the instant", source.place)
    elif time in source.schema:
        kind = _type_or_unknown(source.schema[time])
        if kind not in ("datetime", UNKNOWN):
            yield Problem(f"{what}: its time {time!r} is declared as {kind}; it must be datetime", source.place)
    else:
        instants = [name for name in source.schema if _type_or_unknown(source.schema[name]) == "datetime"]
        nearest = did_you_mean(time, instants)
        if nearest:
            yield Problem(f"{what}: its time {time!r} is not in the schema, which has {', '.join(instants)}.{nearest}", source.place)


def _delete_problems(table: Table) -> Problems:
    """The column of deletes may be left out of the schema, as that of time."""
    what, name = describe(table), table.deleted
    if table.snapshots and table.time is None:
        yield Problem(f"{what} has snapshots but no time; name the column of a snapshot's instant, as in time='taken_at'", table.place)
    if name is None:
        return
    if not isinstance(name, str) or not name:
        yield Problem(f"{what}: deleted is {name!r}; name the boolean column that marks deletes", table.place)
    elif name in (*table.by, table.time):
        yield Problem(f"{what}: deleted is {name!r}, which is its key or time; name the boolean column that marks deletes", table.place)
    elif name in table.schema:
        kind = _type_or_unknown(table.schema[name])
        if kind not in ("bool", UNKNOWN):
            yield Problem(f"{what}: its column of deletes {name!r} is declared as {kind}; it must be bool", table.place)
    else:
        nearest = did_you_mean(name, [other for other in table.schema if _type_or_unknown(table.schema[other]) == "bool"])
        if nearest:
            yield Problem(f"{what}: its column of deletes {name!r} is not in the schema.{nearest}", table.place)


def _zone_problems(source: Events | Table) -> Problems:
    if source.zone is None:
        return
    try:
        ZoneInfo(source.zone)
    except (LookupError, OSError, ValueError, TypeError, AttributeError):
        nearest = did_you_mean(source.zone, available_timezones()) if isinstance(source.zone, str) else ""
        yield Problem(f"{describe(source)}: {source.zone!r} is no time zone; write one as in 'America/New_York'.{nearest}", source.place)


def stepped(events: Events) -> Stepped:
    """Columns and time column after the steps; a column whose step has a problem is UNKNOWN."""
    columns, time = declared_columns(events), events.time
    problems: list[Problem] = []
    for step in events.steps:
        what = f"{step.kind} of {describe(events)}"
        if step.kind == "rename":
            problems += _rename_problems(step.content, columns, what, step.place)
            columns = {step.content.get(name, name): kind for name, kind in columns.items()}
            time = step.content.get(time, time)
        elif step.kind == "with_columns":
            columns, found = _with_columns(step, columns, time, what)
            problems += found
        elif step.kind == "explode":
            problems += _explode_problems(step, columns, events, what)
            columns = {**columns, step.content["column"]: ELEMENT_TYPES.get(columns.get(step.content["column"], ""), UNKNOWN)}
        elif step.kind == "join":
            problems += join_problems(step, columns, events, what)
            columns = {**columns, **{name: kind for name, kind in joined_types(step).items() if name not in columns}}
        else:
            checked = check_expression(step.content["condition"], columns, describe(events), what, step.place, {"bool"})
            problems += checked.problems
    return Stepped(columns, time, tuple(problems))


def stepped_view(source: Events | Concat) -> Stepped:
    """Columns that a view of a source or of a concat sees: those of all branches; UNKNOWN where the branches have several types."""
    branches = [stepped(events) for events in branches_of(source)]
    columns: dict[str, str] = {}
    for name in branches[0].columns:
        kinds = {branch.columns.get(name) for branch in branches}
        if None not in kinds:
            columns[name] = branches[0].columns[name] if len(kinds) == 1 else UNKNOWN
    return Stepped(columns, branches[0].time, ())


def concat_problems(concat: Concat) -> Problems:
    """A column that all branches have means one thing: it has one type. Their own problems are told with them."""
    what = describe(concat)
    branches = [(events, stepped(events).columns) for events in concat.branches]
    for name in branches[0][1]:
        kinds = [(columns.get(name, UNKNOWN), describe(events)) for events, columns in branches]
        (first, owner), *others = kinds
        for kind, other in others:
            if UNKNOWN not in [kind for kind, _ in kinds] and kind != first:
                text = f"{what}: {name!r} is {first} in {owner} and {kind} in {other}"
                yield Problem(f"{text}; give it one type with .with_columns, or another name with .rename(...)", concat.place)
                break


def _explode_problems(step: Step, columns: Columns, events: Events, what: str) -> Problems:
    """A list column of the source is exploded, and no second one: that would give every pair of elements."""
    name = step.content["column"]
    yield from column_problems([name], columns, describe(events), what, step.place)
    kind = columns.get(name, UNKNOWN)
    if kind not in (*ELEMENT_TYPES, UNKNOWN):
        yield Problem(f"{what}: {name!r} is of type {kind}; only a list has elements, declared as in {name!r}: list[str]", step.place)
    first = next(other for other in events.steps if other.kind == "explode")
    if first is not step:
        text = f"{what}: {name!r} would be the second list after {first.content['column']!r} ({first.place}), which gives every pair"
        yield Problem(f"{text} of elements; explode one list, and the other one for another view", step.place)


def _rename_problems(names: Mapping[str, Any], columns: Columns, what: str, place: Place) -> Problems:
    yield from column_problems(names, columns, "it", what, place)
    kept = [name for name in columns if name not in names]
    for old, new in names.items():
        if not isinstance(new, str):
            yield Problem(f"{what}: the new name of {old!r} is {new!r}, which is no text", place)
        elif new in kept or list(names.values()).count(new) > 1:
            yield Problem(f"{what}: two columns would be called {new!r}", place)


def _with_columns(step: Step, columns: Columns, time: str, what: str) -> tuple[dict[str, str], list[Problem]]:
    added: dict[str, str] = {}
    problems: list[Problem] = []
    for name, expression in step.content.items():
        if name == time:
            problems.append(Problem(f"{what}: {name!r} is the event's time, which no step can change", step.place))
        checked = check_expression(expression, columns, "it", f"{what}: {name}", step.place)
        problems += checked.problems
        added[name] = checked.type
    return {**columns, **added}, problems


def key_column_problems(names: tuple[Any, ...], source: Stepped, owner: str, what: str, place: Place) -> Problems:
    """Problems of a view's key columns; `at` is the name of the instant in every table that is asked for."""
    yield from key_problems(names, source.columns, owner, what, place)
    if "at" in names:
        yield Problem(f"{what}: a key cannot be called 'at', the name of the instant; rename it, as in events.rename(at='place')", place)
