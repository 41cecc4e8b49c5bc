"""What a check finds, and the small checks that all definitions share: names, durations, cron expressions, expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twofold.definitions.base import ELEMENT_TYPES, Place
from twofold.definitions.expressions import Expression, output_type, root_columns, row_level_problems, tree_problems
from twofold.errors import DefinitionError, did_you_mean
from twofold.instants import duration_us

UNKNOWN = "?"
"""Type name of a column about which a problem has been told already; it causes no further ones."""

Columns = Mapping[str, str]
"""Column -> type name."""

NUMBERS = frozenset({"int", "float", "bool"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NAME_LETTERS = 128
"""So long a name may be: names of sources are names of folders and topics too, with something before and after them."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a project file; `str` puts file and line before it."""

    text: str
    place: Place

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


Problems = Iterator[Problem]


def guarded(problems: Callable[[Any], Iterable[Problem]], definition: Any) -> Problems:
    """What a check of a definition finds; an exception on the way becomes a problem too, so that the other checks go on."""
    found = iter(problems(definition))
    while True:
        try:
            problem = next(found)
        except StopIteration:
            return
        except Exception as error:
            text = f"{describe(definition)} is not written as it should be ({type(error).__name__}: {error})"
            yield Problem(text, definition.place)
            return
        yield problem


def describe(definition: Any) -> str:
    """`view 'airport'`."""
    name = getattr(definition, "name", None)
    kind = "source" if type(definition).__name__ == "Events" else type(definition).__name__.lower()
    return kind if name is None else f"{kind} {name!r}"


def shown(value: Any) -> str:
    """What stands where something else belongs, in few words."""
    if hasattr(value, "place"):
        return describe(value)
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def unknown(owner: str, what: str, got: Any, known: Collection[str]) -> str:
    """`source 'departures' has no column 'dely'; it has delay, origin. Did you mean 'delay'?`."""
    nearest = did_you_mean(got, known) if isinstance(got, str) else ""
    return f"{owner} has no {what} {got!r}; it has {', '.join(known) or 'none'}.{nearest}"


def name_problems(name: Any, what: str, place: Place) -> Problems:
    """A name stands in columns, paths and commands, so it is made of letters, digits and underscores."""
    if not isinstance(name, str):
        yield Problem(f"{what} {name!r} is no text", place)
    elif len(name) > NAME_LETTERS:
        yield Problem(f"{what} {shown(name)} has {len(name)} letters; take at most {NAME_LETTERS}", place)
    elif not _NAME.fullmatch(name):
        nearest = re.sub(r"\W", "_", name, flags=re.ASCII)
        nearest = nearest if _NAME.fullmatch(nearest) else f"_{nearest}"
        yield Problem(f"{what} {name!r} is no name; use letters, digits and underscores, as in {nearest!r}", place)


def duration_problems(duration: Any, what: str, place: Place) -> Problems:
    """`what` must be a duration."""
    try:
        duration_us(duration)
    except DefinitionError as error:
        yield Problem(f"{what}: {error}", place)


def cron_problems(text: Any, what: str, place: Place) -> Problems:
    """`what` must be a cron expression."""
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError

    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, AttributeError, TypeError):
        yield Problem(f"{what}: {text!r} is no cron expression; write minute, hour, day, month, weekday in UTC, as in '0 3 * * 1'", place)


def column_problems(names: Iterable[Any], columns: Columns, owner: str, what: str, place: Place) -> Problems:
    """Each name must be a column of `owner`."""
    for name in names:
        if name not in columns:
            yield Problem(f"{what}: {unknown(owner, 'column', name, columns)}", place)


def key_problems(names: Iterable[Any], columns: Columns, owner: str, what: str, place: Place) -> Problems:
    """Key columns exist, once each, and can be told apart: a float is no key."""
    names = list(names)
    yield from column_problems(names, columns, owner, what, place)
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield Problem(f"{what}: the column {name!r} is named twice", place)
        if columns.get(name) == "float":
            yield Problem(f"{what}: {name!r} is a float, and floats are no keys; declare it as int or str", place)
        if columns.get(name) in ELEMENT_TYPES:
            remedy = f"make an event of each element, as in events.explode({name!r})"
            yield Problem(f"{what}: {name!r} is a {columns[name]}, and lists are no keys; {remedy}", place)


@dataclass(frozen=True)
class Checked:
    """Type name of an expression (UNKNOWN where it has problems) and its problems."""

    type: str
    problems: tuple[Problem, ...]


def check_expression(
    expression: Expression, columns: Columns, owner: str, what: str, place: Place, wants: Collection[str] | None = None
) -> Checked:
    """An expression over columns of `owner`: they exist, it looks at its own row only, and its type is one of `wants`."""
    try:
        missing = [name for name in root_columns(expression) if name not in columns]
    except DefinitionError as error:
        return Checked(UNKNOWN, (Problem(f"{what}: {error}", place),))
    texts = [unknown(owner, "column", name, columns) for name in missing]
    if missing or any(columns[name] == UNKNOWN for name in root_columns(expression)):
        texts += tree_problems(expression)
        return Checked(UNKNOWN, tuple(Problem(f"{what}: {text}", place) for text in texts))
    known = {name: columns[name] for name in columns if columns[name] != UNKNOWN}
    texts = [] if isinstance(expression, str) else row_level_problems(expression, known)
    kind = UNKNOWN
    if not texts:
        try:
            kind = output_type(expression, known)
        except DefinitionError as error:
            texts.append(str(error))
        if kind != UNKNOWN and wants is not None and kind not in wants:
            texts.append(f"its type is {kind}; it must be {' or '.join(sorted(wants))}")
            kind = UNKNOWN
    return Checked(kind, tuple(Problem(f"{what}: {text}", place) for text in texts))
