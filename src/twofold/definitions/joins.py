"""The join of a table's row to events, as it is declared: which of the source's columns are the key, what the joined columns are called.

Events are joined when they are appended, before any step; so a join takes the values that the source itself has.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twofold.definitions.table import Table
from twofold.versions import version_of

if TYPE_CHECKING:
    from twofold.definitions.events import Step


class JoinedColumn(NamedTuple):
    """One column of a joined table: as the table has it, as a view sees it, as log records and archive hold it; its type name."""

    column: str
    name: str
    stored: str
    type: str


def join_content(table: Any, on: Any, steps: Sequence[Step]) -> dict[str, Any]:
    """What a step of kind "join" holds: the table, `on` (column of the events -> column of the table's key), and `origins`.

    These say which column of the source each of those columns of the events is, None where a step has computed it.
    """
    pairs = dict(on) if isinstance(on, Mapping) else {name: name for name in (on if isinstance(on, list | tuple) else [on])}
    return {"table": table, "on": pairs, "origins": {name: origin_of(name, steps) for name in pairs}}


def origin_of(name: Any, steps: Sequence[Step]) -> Any:
    """The column of the source that a column after the steps is, whatever it is called now; None where it is none of them."""
    for step in reversed(steps):
        if step.kind == "rename":
            name = next((old for old, new in step.content.items() if new == name), name)
        elif name in _made_by(step):
            return None
    return name


def _made_by(step: Step) -> Collection[Any]:
    """The columns to which a step gives values of its own."""
    if step.kind == "join":
        return [joined.name for joined in joined_columns(step)]
    return step.content if step.kind == "with_columns" else [step.content["column"]] if step.kind == "explode" else ()


def key_columns(join: Step) -> tuple[Any, ...]:
    """The source's columns in the order of the table's key; None for one that no column is given for, or a computed one."""
    of_key = {key: join.content["origins"][name] for name, key in join.content["on"].items()}
    return tuple(of_key.get(key) for key in join.content["table"].by)


@functools.lru_cache(maxsize=1024)
def joined_columns(join: Step) -> tuple[JoinedColumn, ...]:
    """The columns that a join adds; none where it joins something else than a table.

    What is stored is named by its meaning: table, key columns on both sides, column, type. Another join, or a column that has got
    another type, is another stored column, and never read as this one.
    """
    table = join.content["table"]
    if not isinstance(table, Table):
        return ()
    columns, keys = table.columns, list(zip(table.by, key_columns(join), strict=True))
    found = []
    for column in table.value_columns:
        digits = version_of([table.name, keys, column, columns[column]])[:8]
        found.append(JoinedColumn(column, joined_name(table.name, column), f"__{table.name}_{column}_{digits}", columns[column]))
    return tuple(found)


def joined_name(table: str, column: str) -> str:
    """What a view calls a joined column."""
    return f"{table}_{column}"
