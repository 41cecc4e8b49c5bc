"""The check of models: request, views and their keys, columns, rows, label, what answers when parts fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from inspect import signature
from typing import NamedTuple

from twofold.definitions.base import ELEMENT_TYPES, Place, type_name
from twofold.definitions.check_derived import derived_problems, place_of
from twofold.definitions.check_estimators import estimator_problems
from twofold.definitions.check_training import labels_problems, row_columns, rows_problems
from twofold.definitions.check_views import feature_types, key_types
from twofold.definitions.model import WEIGHT, Cached, Default, Label, Model, Rows
from twofold.definitions.problems import (
    UNKNOWN,
    Problem,
    Problems,
    cron_problems,
    describe,
    duration_problems,
    guarded,
    name_problems,
    shown,
    unknown,
)
from twofold.definitions.table import Table
from twofold.definitions.use import ViewUse
from twofold.definitions.view import View
from twofold.errors import DefinitionError, did_you_mean


def _reserved(model: Model) -> dict[str, str]:
    """Columns of a training set that are no columns of the model, and what they are."""
    labels = dict.fromkeys(["label", *model.labels], "what is to be foretold")
    weight = {WEIGHT: "the weight of a row"} if isinstance(model.rows, Rows) and model.rows.weight is not None else {}
    return {"at": "the instant of a row", **labels, **weight}


class Column(NamedTuple):
    """A column of a model: its name, its type name, where it comes from and where that stands."""

    name: str
    type: str
    origin: str
    place: Place


def model_problems(model: Model) -> Problems:
    """Problems of a model; those of its views are told with the views."""
    yield from name_problems(model.name, "the model's name", model.place)
    for part in (_request_problems, _views_problems, _column_problems, _training_problems, _answer_problems):
        yield from guarded(part, model)


def _views_problems(model: Model) -> Problems:
    for number, used in enumerate(model.views):
        if isinstance(used, View | Table | ViewUse):
            yield from _use_problems(model, as_use(used, model.place))
        else:
            text = f"{describe(model)}: views[{number}] is {shown(used)}; give a tw.View, a tw.Table, or one with .on(...) or [...]"
            yield Problem(text, model.place)


def as_use(used: View | Table | ViewUse, place: Place) -> ViewUse:
    """How a model reads a view."""
    return used if isinstance(used, ViewUse) else ViewUse(used, {}, None, None, place)


def request_types(model: Model) -> dict[str, str]:
    """Type name of every request field, UNKNOWN where the declared type is none."""
    types: dict[str, str] = {}
    for name, kind in model.request.items():
        try:
            types[name] = type_name(kind, "")
        except DefinitionError:
            types[name] = UNKNOWN
    return types


def _request_problems(model: Model) -> Problems:
    what = describe(model)
    for name, kind in model.request.items():
        yield from name_problems(name, f"{what}: the request field", model.place)
        try:
            named = type_name(kind, f"{what}: the request field {name!r}")
        except DefinitionError as error:
            yield Problem(str(error), model.place)
            continue
        if named in ELEMENT_TYPES:
            yield Problem(f"{what}: the request field {name!r} is a {named}; only events have lists, to be exploded", model.place)


def _use_problems(model: Model, use: ViewUse) -> Problems:
    """The view's keys are request fields of a fitting type, and what was chosen exists."""
    what, view, place = describe(model), use.view, use.place
    keys, request = key_types(view), request_types(model)
    for key in use.keys:
        if key not in keys:
            yield Problem(f"{what}: on(): {unknown(describe(view), 'key', key, keys)}", place)
    for key, kind in keys.items():
        field = use.keys.get(key, key)
        if field not in request:
            hint = did_you_mean(field, request) if isinstance(field, str) else ""
            text = (
                f"{what}: {describe(view)} needs the key {key!r}, and the request has no {field!r}; it has {', '.join(request) or 'none'}."
            )
            yield Problem(f"{text}{hint} Add it to request=, or name another field with .on({key}=...)", place)
        elif not _fits(request[field], kind, is_key=True):
            yield Problem(
                f"{what}: the key {key!r} of {describe(view)} has the type {kind}, the request's {field!r} has {request[field]}", place
            )
    features = feature_types(view)
    for name in use.features or ():
        if name not in features:
            yield Problem(f"{what}: {unknown(describe(view), 'feature', name, features)}", place)
    if use.prefix:
        yield from name_problems(use.prefix, f"{what}: the prefix", place)


def _fits(got: str, wanted: str, is_key: bool = False) -> bool:
    """Whether values of one type can stand for those of another: a text is a text, and an int fits a float but is no key for it."""
    texts = {"str", "category"}
    if UNKNOWN in (got, wanted) or got == wanted or {got, wanted} <= texts:
        return True
    return not is_key and (got, wanted) == ("float", "int")


def model_columns(model: Model) -> Iterator[Column]:
    """The columns of a model in order, request fields that are identifiers included; derived ones have no type yet."""
    for name, kind in request_types(model).items():
        yield Column(name, kind, "the request", model.place)
    for used in model.views:
        if isinstance(used, View | Table | ViewUse):
            use = as_use(used, model.place)
            for name, kind in feature_types(use.view).items():
                if use.features is None or name in use.features:
                    yield Column(f"{use.column_prefix}{name}", kind, describe(use.view), use.place)
    for name, function in model.derived.items():
        yield Column(name, UNKNOWN, "derived", place_of(function, model.place))


def _column_problems(model: Model) -> Problems:
    """Columns have one origin each; derived ones are made of those before them; what is dropped exists."""
    what, reserved = describe(model), _reserved(model)
    columns: dict[str, Column] = {}
    for column in model_columns(model):
        if column.name in reserved:
            yield Problem(f"{what}: {column.name!r} is {reserved[column.name]}; call the column of {column.origin} otherwise", column.place)
        elif column.name in columns:
            first = columns[column.name].origin
            text = f"{what}: two columns would be called {column.name!r}: one of {first}, one of {column.origin}"
            yield Problem(f"{text}; give one of them a prefix, as in .on(prefix='dest_')", column.place)
        if column.origin == "derived":
            yield from name_problems(column.name, f"{what}: the derived column", column.place)
            known = {name: found.type for name, found in columns.items()}
            yield from derived_problems(column.name, model.derived[column.name], known, what, model.place)
        if _is_text_for_estimator(model, column):
            text = f"{what}: {column.name!r} of {column.origin} is a str, which no estimator takes"
            yield Problem(f"{text}; declare it as tw.Category, or name it in drop=", column.place)
        columns.setdefault(column.name, column)
    for name in model.drop:
        if name not in columns:
            yield Problem(f"{what}: drop: {unknown(what, 'column', name, columns)}", model.place)


def _is_text_for_estimator(model: Model, column: Column) -> bool:
    """A request's `str` is an identifier and stays away by itself; a feature is there to be used."""
    return model.estimator is not None and column.type == "str" and column.name not in {*model.request, *model.drop}


def _training_problems(model: Model) -> Problems:
    what, request = describe(model), request_types(model)
    if model.estimator is not None:
        yield from estimator_problems(model, nullable_columns(model))
    if model.rows is not None:
        yield from rows_problems(model.rows, what, model.place)
        yield from _row_field_problems(model, request)
    if model.label is not None:
        yield from labels_problems(model, what)
        yield from _training_column_problems(model)
        if model.rows is None:
            yield Problem(f"{what} has a label and no rows; say which rows it belongs to, as in rows=tw.Rows(source)", model.place)
    if model.retrain is not None:
        yield from cron_problems(model.retrain, f"retrain of {what}", model.place)


def _row_field_problems(model: Model, request: Mapping[str, str]) -> Problems:
    """What a request gives online, the source of the rows gives in training."""
    columns = row_columns(model.rows)
    if columns is None or model.rows is None:
        return
    what, source = describe(model), describe(model.rows.source)
    for field, kind in request.items():
        if field not in columns:
            yield Problem(f"rows of {what}: the request field {field!r}: {unknown(source, 'column', field, columns)}", model.rows.place)
        elif not _fits(kind, columns[field]):
            text = f"rows of {what}: the request field {field!r} has the type {kind}, the column of {source} has {columns[field]}"
            yield Problem(text, model.rows.place)


def _training_column_problems(model: Model) -> Problems:
    """The columns that a row has for training only stand beside the model's own, none in the place of another."""
    rows, taken, what = model.rows, _reserved(model), describe(model)
    if not isinstance(rows, Rows):
        return
    ties = [(key, label.place) for label in model.labels.values() if isinstance(label, Label) for key in label.keys]
    group = [(rows.group, rows.place)] if isinstance(rows.group, str) else []
    for name, place in dict([*ties, *group]).items():
        if name in taken:
            text = f"rows of {what}: the column {name!r} would stand in the place of {name!r}, {taken[name]}"
            yield Problem(f"{text}; rename it, as in events.rename({name}='other')", place)
    if group and rows.group not in model.request:
        for column in model_columns(model):
            if column.name == rows.group:
                text = f"rows of {what}: the group {rows.group!r} has the name of a column of {column.origin}; call one of them otherwise"
                yield Problem(text, rows.place)


def nullable_columns(model: Model) -> list[str]:
    """The estimator's columns that may be null whatever a request says: values of no events, unseen categories, what is derived of them."""
    from twofold.algebra.kinds import ZERO_IF_EMPTY

    never = set(model.request) - {name for name, kind in request_types(model).items() if kind == "category"}
    for used in model.views:
        use = as_use(used, model.place)
        if isinstance(use.view, View):
            kept = {name: feature for name, feature in use.view.features.items() if feature.aggregate in ZERO_IF_EMPTY}
            never |= {f"{use.column_prefix}{name}" for name in feature_types(replace(use.view, features=kept))}
    for name, function in model.derived.items():
        with suppress(TypeError, ValueError):  # no function: told elsewhere
            never |= {name} if set(signature(function).parameters) <= never else set()
    identifiers = {name for name, kind in request_types(model).items() if kind == "str"}
    return [column.name for column in model_columns(model) if column.name not in {*never, *identifiers, *model.drop}]


def _answer_problems(model: Model) -> Problems:
    what, place = describe(model), model.place
    yield from duration_problems(model.deadline, f"deadline of {what}", place)
    for number, item in enumerate(model.fallback):
        if isinstance(item, Cached):
            yield from duration_problems(item.max_age, f"{what}: max_age of tw.Cached", place)
        elif not isinstance(item, Default):
            yield Problem(f"{what}: fallback[{number}] is {shown(item)}; give tw.Cached(max_age=...) or tw.Default(value)", place)
        elif number + 1 < len(model.fallback):
            yield Problem(f"{what}: tw.Default never fails, so what stands behind it in fallback is never reached", place)
        else:
            yield from _default_problems(item, model)


def _default_problems(item: Default, model: Model) -> Problems:
    """A declared answer is what the model would answer: one value, or one for each label."""
    what, names = describe(model), model.label_names
    values = [item.value]
    if names and item.value is not None:
        if not isinstance(item.value, Mapping) or set(item.value) != set(names):
            example = ", ".join(f"{name!r}: ..." for name in names)
            yield Problem(f"{what}: tw.Default({item.value!r}) is no answer for its labels; give tw.Default({{{example}}})", model.place)
            return
        values = list(item.value.values())
    if not all(isinstance(value, bool | int | float | str | None) for value in values):
        yield Problem(f"{what}: tw.Default({item.value!r}) cannot be answered as JSON; give a number or a text", model.place)
