"""The check of a join: a table is joined, by its whole key, on columns that the source itself has, under names that are free."""

from __future__ import annotations

from twofold.definitions.base import type_name
from twofold.definitions.events import Events, Step
from twofold.definitions.joins import joined_name
from twofold.definitions.problems import UNKNOWN, Columns, Problem, Problems, describe, key_problems, shown, unknown
from twofold.definitions.table import Table
from twofold.errors import DefinitionError

_TEXTS = frozenset({"str", "category"})
"""Types that are one and the same in a key."""


def joined_types(join: Step) -> dict[str, str]:
    """The columns that a join adds, UNKNOWN where the table has a problem of its own; none where no table is joined."""
    table = join.content["table"]
    if not isinstance(table, Table):
        return {}
    return {joined_name(table.name, column): _column_type(table, column) for column in table.value_columns}


def _column_type(table: Table, column: str) -> str:
    try:
        return type_name(table.schema.get(column), "")
    except DefinitionError:
        return UNKNOWN


def join_problems(join: Step, columns: Columns, events: Events, what: str) -> Problems:
    """Problems of one join; `columns` are those of the events before it."""
    table, on = join.content["table"], join.content["on"]
    if not isinstance(table, Table):
        yield Problem(f"{what}: it joins {shown(table)}; events can be joined with the rows of a tw.Table", join.place)
        return
    what = f"{what} with {describe(table)}"
    first = next(step for step in events.steps if step.kind == "join" and step.content["table"] is table)
    if first is not join:
        yield Problem(f"{what}: that table is joined already ({first.place}); join it once", join.place)
        return
    yield from key_problems(on, columns, describe(events), f"on of {what}", join.place)
    yield from _on_problems(join, table, columns, what)
    taken = [name for name in joined_types(join) if name in columns]
    for name in taken:
        column = name.removeprefix(f"{table.name}_")
        text = f"{what}: its column {column!r} would be called {name!r}, which {describe(events)} has already"
        yield Problem(f"{text}; rename that one first, as in .rename({name}='other')", join.place)


def _on_problems(join: Step, table: Table, columns: Columns, what: str) -> Problems:
    """Every key column of the table is given once, by a column of its type that no step has computed."""
    on = join.content["on"]
    given = list(on.values())
    example = ", ".join(f"'...': {key!r}" for key in table.by)
    for name, key in on.items():
        if key not in table.by:
            known = unknown(describe(table), "key column", key, table.by)
            yield Problem(f"on of {what}: {known} Where the events call it otherwise write on={{{example}}}", join.place)
        elif given.count(key) > 1:
            yield Problem(f"on of {what}: the key column {key!r} is given twice", join.place)
        elif name in columns:
            yield from _origin_problems(join, name, what)
            yield from _type_problems(join, name, table, columns[name], what)
    if (missing := [key for key in table.by if key not in given]) and set(given) <= set(table.by):
        yield Problem(f"on of {what}: its key is {', '.join(table.by)}, and nothing is given for {', '.join(missing)}", join.place)


def _origin_problems(join: Step, name: str, what: str) -> Problems:
    if join.content["origins"][name] is None:
        text = f"on of {what}: {name!r} is computed by a step; rows are joined when an event is appended, by what the event brings"
        yield Problem(f"{text}: join first, then compute", join.place)


def _type_problems(join: Step, name: str, table: Table, got: str, what: str) -> Problems:
    key = join.content["on"][name]
    wanted = _column_type(table, key) if key != table.time else "datetime"
    if UNKNOWN not in (got, wanted) and got != wanted and not {got, wanted} <= _TEXTS:
        yield Problem(f"on of {what}: {name!r} is {got}, and the key {key!r} is {wanted}; declare both as one type", join.place)
