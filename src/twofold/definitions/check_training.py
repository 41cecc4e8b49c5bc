"""The check of what a model is trained on: its rows and its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twofold.definitions.base import Place
from twofold.definitions.check_sources import stepped
from twofold.definitions.check_views import checked_input, feature_types, own_problems_of, word_of
from twofold.definitions.events import Events
from twofold.definitions.features import Feature
from twofold.definitions.model import LABEL, Label, Model, Rows
from twofold.definitions.problems import (
    UNKNOWN,
    Columns,
    Problem,
    Problems,
    check_expression,
    describe,
    duration_problems,
    key_problems,
    name_problems,
    shown,
)
from twofold.definitions.view import View

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
    if columns is None:
        yield Problem(f"{what}: its source is {shown(rows.source)}; give a tw.Events", rows.place)
        return
    source = describe(rows.source)
    if rows.at is not None:
        yield from check_expression(rows.at, columns, source, f"at of {what}", rows.place, {"datetime"}).problems
    if rows.where is not None:
        yield from check_expression(rows.where, columns, source, f"where of {what}", rows.place, {"bool"}).problems
    if rows.sample is not None and not _is_share(rows.sample):
        text = f"sample of {what}: {shown(rows.sample)} is no share of the rows; give a number above 0, up to 1, as in sample=0.1"
        yield Problem(text, rows.place)
    if rows.weight is not None:
        yield from check_expression(rows.weight, columns, source, f"weight of {what}", rows.place, {"int", "float"}).problems
    if rows.group is not None:
        names = [rows.group] if isinstance(rows.group, str) else list(rows.group)
        yield from key_problems(names, columns, source, f"group of {what}", rows.place)
        if not isinstance(rows.group, str):
            yield Problem(f"group of {what}: {shown(rows.group)} is no name of a column; give one, made by with_columns(...)", rows.place)


def _is_share(sample: Any) -> bool:
    return isinstance(sample, int | float) and not isinstance(sample, bool) and 0 < sample <= 1


def labels_problems(model: Model, owner: str) -> Problems:
    """Problems of a model's label, or of each of several."""
    label, place = model.label, model.place
    if not isinstance(label, Mapping):
        yield from _label_problems(label, model.rows, f"label of {owner}", place)
        return
    if not label:
        yield Problem(f"{owner}: its dict of labels is empty; give each label a name, as in label={{'late': tw.Label(...)}}", place)
    for name, item in label.items():
        yield from name_problems(name, f"{owner}: the label's name", getattr(item, "place", place))
        yield from _label_problems(item, model.rows, f"label {name!r} of {owner}", place)


def label_type(label: Any) -> str:
    """Type name of a label's values, UNKNOWN where it has problems."""
    if not isinstance(label, Label) or not isinstance(label.source, Events):
        return UNKNOWN
    if isinstance(label.value, Feature):
        bare = replace(label.value, over=())
        types = list(feature_types(View(LABEL, label.source, features={LABEL: bare})).values())
        return types[0] if len(types) == 1 else UNKNOWN
    return check_expression(label.value, stepped(label.source).columns, "", "", label.place, LABEL_TYPES).type


def _label_problems(label: Any, rows: Any, what: str, place: Place) -> Problems:
    """Its columns `on` stand in its own source and in that of the rows."""
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
    owner = describe(label.source)
    if isinstance(label.value, Feature):
        found = [*_aggregate_problems(label.value, label.source, what)]
    else:
        found = [*check_expression(label.value, columns, owner, f"value of {what}", label.place, LABEL_TYPES).problems]
    yield from found
    kind = UNKNOWN if found else label_type(label)
    fitting = {"bool": bool, "int": int, "float": int | float, "str": str}
    if kind in fitting and label.missing is not None and not isinstance(label.missing, fitting[kind]):
        yield Problem(f"{what}: missing={label.missing!r} does not fit its value, whose type is {kind}", label.place)


def _aggregate_problems(value: Feature, source: Events, what: str) -> Problems:
    """An aggregate of a label takes what it takes in a view, over the horizon and no window of its own."""
    word = word_of(value)
    if found := own_problems_of(value, f"value of {what}"):
        yield from found
        return
    for name in ("over", "hop", "ago"):
        if getattr(value, name, None):
            text = f"value of {what}: {word}({name}=...): a label looks over its horizon [at, at + within) exactly; leave {name} out"
            yield Problem(text, value.place)
    checked = checked_input(value, stepped(source), describe(source), f"value of {what}")
    yield from checked.problems
    if value.where is not None:
        columns = stepped(source).columns
        yield from check_expression(value.where, columns, describe(source), f"where of {what}", value.place, {"bool"}).problems
    if checked.type == UNKNOWN:
        return
    kind = label_type(Label(source, (), value, "1d"))
    if kind not in LABEL_TYPES:
        text = f"value of {what}: {word} gives no one value of {', '.join(sorted(LABEL_TYPES))}, so it is no label"
        yield Problem(text, value.place)
