"""The check of what a model is trained on: its rows and its label."""

from __future__ import annotations

from typing import Any

from twofold.definitions.base import Place
from twofold.definitions.check_sources import stepped
from twofold.definitions.events import Events
from twofold.definitions.features import Feature
from twofold.definitions.model import Label, Rows
from twofold.definitions.problems import (
    UNKNOWN,
    Columns,
    Problem,
    Problems,
    check_expression,
    describe,
    duration_problems,
    key_problems,
    shown,
)

LABEL_TYPES = frozenset({"bool", "int", "float", "str"})


def row_columns(rows: Any) -> Columns | None:
    """Columns of the rows to train on; None where there are none to speak of."""
    return stepped(rows.source).columns if isinstance(rows, Rows) and isinstance(rows.source, Events) else None


def rows_problems(rows: Any, owner: str, place: Place) -> Problems:
    """Problems of the rows to train on."""
    what, columns = f"rows of {owner}", row_columns(rows)
    if not isinstance(rows, Rows):
        yield Problem(f"{what}: {shown(rows)} is no tw.Rows", place)
        return
    for name in rows.later:
        yield Problem(f"{what}: Rows({name}=) is not carried out by this version", rows.place, True)
    if columns is None:
        yield Problem(f"{what}: its source is {shown(rows.source)}; give a tw.Events", rows.place)
        return
    source = describe(rows.source)
    if rows.at is not None:
        yield from check_expression(rows.at, columns, source, f"at of {what}", rows.place, {"datetime"}).problems
    if rows.where is not None:
        yield from check_expression(rows.where, columns, source, f"where of {what}", rows.place, {"bool"}).problems


def label_problems(label: Any, rows: Any, owner: str, place: Place) -> Problems:
    """Problems of a label; its columns `on` stand in its own source and in that of the rows."""
    what = f"label of {owner}"
    if not isinstance(label, Label):
        yield Problem(f"{what}: {shown(label)} is no tw.Label", place)
        return
    yield from duration_problems(label.within, f"within of {what}", label.place)
    if not isinstance(label.source, Events):
        yield Problem(f"{what}: its source is {shown(label.source)}; give a tw.Events", label.place)
        return
    columns, source = stepped(label.source).columns, describe(label.source)
    yield from key_problems(label.keys, columns, source, f"on of {what}", label.place)
    if not label.keys:
        yield Problem(f"{what}: on names no column; name those that tie an event to a row", label.place)
    yield from _tie_problems(label, columns, rows, what)
    yield from _value_problems(label, columns, what)


def _tie_problems(label: Label, columns: Columns, rows: Any, what: str) -> Problems:
    of_rows = row_columns(rows)
    if of_rows is None:
        return
    texts = {"str", "category"}
    yield from key_problems(
        (key for key in label.keys if of_rows.get(key) != "float"), of_rows, describe(rows.source), f"on of {what}", label.place
    )
    for key in label.keys:
        mine, theirs = columns.get(key, UNKNOWN), of_rows.get(key, UNKNOWN)
        if UNKNOWN not in (mine, theirs) and mine != theirs and not {mine, theirs} <= texts:
            text = f"on of {what}: {key!r} has the type {mine} in {describe(label.source)} and {theirs} in {describe(rows.source)}"
            yield Problem(text, label.place)


def _value_problems(label: Label, columns: Columns, what: str) -> Problems:
    if isinstance(label.value, Feature):
        yield Problem(f"{what}: an aggregate such as tw.{label.value.aggregate} is not carried out by this version", label.place, True)
        return
    checked = check_expression(label.value, columns, describe(label.source), f"value of {what}", label.place, LABEL_TYPES)
    yield from checked.problems
    fitting = {"bool": bool, "int": int, "float": int | float, "str": str}
    if checked.type in fitting and label.missing is not None and not isinstance(label.missing, fitting[checked.type]):
        yield Problem(f"{what}: missing={label.missing!r} does not fit its value, whose type is {checked.type}", label.place)
