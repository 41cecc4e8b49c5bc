"""The check of views: keys, features and their windows, mode and refresh; and the types of what they give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twofold.definitions.base import ELEMENT_TYPES, Place
from twofold.definitions.check_aggregates import own_problems, trial_problems
from twofold.definitions.check_sources import Stepped, declared_columns, key_column_problems, stepped_view
from twofold.definitions.concat import Concat
from twofold.definitions.events import Events
from twofold.definitions.features import Feature, Named, class_of, named_features
from twofold.definitions.problems import (
    UNKNOWN,
    Checked,
    Problem,
    Problems,
    check_expression,
    cron_problems,
    describe,
    duration_problems,
    guarded,
    name_problems,
    shown,
)
from twofold.definitions.table import Table
from twofold.definitions.view import View
from twofold.errors import DefinitionError, did_you_mean
from twofold.instants import HOPS_US, duration_text, duration_us

MODES = ("hybrid", "batch", "stream")
EVENT = "event"


def view_problems(view: View) -> Problems:
    """Problems of a view; those of its source are told with the source."""
    yield from name_problems(view.name, "the view's name", view.place)
    for part in (_schedule_problems, _key_problems, _features_problems):
        yield from guarded(part, view)


def _key_problems(view: View) -> Problems:
    what = describe(view)
    if not isinstance(view.source, Events | Concat):
        yield Problem(f"{what}: its source is {shown(view.source)}; give a tw.Events or a tw.concat", view.place)
        return
    yield from key_column_problems(view.keys, stepped_view(view.source), describe(view.source), f"by of {what}", view.place)


def _features_problems(view: View) -> Problems:
    what, place = describe(view), view.place
    if not view.features:
        yield Problem(f"{what} has no features; declare some, as in features={{'events': tw.count(over='1h')}}", place)
    source = stepped_view(view.source) if isinstance(view.source, Events | Concat) else None
    taken: dict[str, str] = {}
    for name, feature in view.features.items():
        if not isinstance(feature, Feature):
            yield Problem(f"{what}: feature {name!r} is {shown(feature)}; use a word such as tw.count or tw.mean", place)
            continue
        yield from name_problems(name, f"{what}: the feature's name", feature.place)
        found = own_problems_of(feature, f"feature {name!r} of {what}")
        yield from found
        if source is not None and not found:
            yield from _feature_problems(str(name), feature, view, source)
        yield from _taken_problems(str(name), feature, view, taken)
    yield from _own_name_problems(view)


def own_problems_of(feature: Feature, what: str) -> list[Problem]:
    """Problems of the class of a person's own aggregate; none of a built-in one."""
    if feature.own is None:
        return []
    if isinstance(feature.input, list | tuple):
        text = f"{what}: it takes {shown(feature.input)}; an aggregate of your own takes one column or expression"
        return [Problem(text, feature.place)]
    return list(own_problems(feature.own, what, feature.place))


def _own_name_problems(view: View) -> Problems:
    """Two classes of one name in a view cannot be told apart."""
    classes: dict[str, Any] = {}
    for feature in view.features.values():
        if isinstance(feature, Feature) and classes.setdefault(feature.aggregate, feature.own) is not feature.own:
            yield Problem(f"{describe(view)}: two aggregates have the name {feature.aggregate!r}; rename one class", feature.place)


def _schedule_problems(view: View) -> Problems:
    what, place = describe(view), view.place
    if view.mode not in MODES:
        nearest = did_you_mean(view.mode, MODES) if isinstance(view.mode, str) else ""
        yield Problem(f"{what}: there is no mode {view.mode!r}; there are {', '.join(MODES)}.{nearest}", place)
    if view.mode == "batch" and view.refresh is None:
        yield Problem(f"{what}: mode 'batch' needs refresh=, a cron expression that says when to rebuild, as in '0 2 * * *'", place)
    if view.mode == "stream" and view.refresh is not None:
        yield Problem(f"{what}: mode 'stream' has no generation to refresh; leave refresh out", place)
    if view.refresh is not None:
        yield from cron_problems(view.refresh, f"refresh of {what}", place)
    if view.max_age is not None:
        yield from duration_problems(view.max_age, f"max_age of {what}", place)
    if view.delay is not None:
        yield from duration_problems(view.delay, f"delay of {what}", place)
    if view.as_of not in ("request", "build"):
        yield Problem(f"{what}: as_of is {view.as_of!r}; it is 'request' or 'build'", place)
    elif view.as_of == "build" and view.mode != "batch":
        yield Problem(f"{what}: as_of='build' belongs to mode 'batch'; this view's mode is {view.mode!r}", place)


def _taken_problems(name: str, feature: Feature, view: View, taken: dict[str, str]) -> Problems:
    """Full names are unique among features and keys; `taken` remembers who has them."""
    keys = dict.fromkeys(view.keys, "the key")
    for full, _, _ in _named(name, feature):
        owner = keys.get(full) or taken.get(full)
        if owner is not None:
            yield Problem(f"{describe(view)}: feature {name!r} gives {full!r}, which is the name of {owner} already", feature.place)
        taken[full] = f"feature {name!r}"


def _named(name: str, feature: Feature) -> Iterator[Named]:
    """The features of the windows that are durations; the others are told elsewhere."""
    with suppress(DefinitionError):
        if feature.ago is not None:
            duration_us(feature.ago)
        for single in [replace(feature, over=(window,)) for window in feature.over] or [feature]:
            with suppress(DefinitionError):
                yield from named_features(name, single)


def _feature_problems(name: str, feature: Feature, view: View, source: Stepped) -> Problems:
    what, place = f"feature {name!r} of {describe(view)}", feature.place
    yield from checked_input(feature, source, describe(view.source), what).problems
    if feature.where is not None:
        yield from check_expression(feature.where, source.columns, describe(view.source), f"where of {what}", place, {"bool"}).problems
    yield from _missing_window_problems(feature, what)
    yield from _parameter_problems(feature, source, what)
    widths: dict[int, Any] = {}
    for window in feature.over:
        if window is None or window == "all":
            yield Problem(f"window of {what}: {window!r} is no window; all time is a feature of its own, without over=", place)
            continue
        found = list(duration_problems(window, f"window of {what}", place))
        yield from found
        if not found:
            width = duration_us(window)
            if width in widths:
                yield Problem(f"{what}: the windows {widths[width]!r} and {window!r} are the same", place)
            widths[width] = window
    if feature.ago is not None:
        yield from duration_problems(feature.ago, f"ago of {what}", place)
        if not feature.over:
            yield Problem(f"{what}: ago= shifts a window back; give over= too, as in over='1d', ago='1d'", place)
    if feature.hop is not None:
        yield from _hop_problems(feature.hop, list(widths), bool(feature.over), what, place)


def _missing_window_problems(feature: Feature, what: str) -> Problems:
    if not feature.over and class_of(feature).needs_window:
        yield Problem(f"{what}: {word_of(feature)} needs a window; give over=, as in over='1h'", feature.place)


def _parameter_problems(feature: Feature, source: Stepped, what: str) -> Problems:
    """What the aggregate says of its own parameters."""
    kind = checked_input(feature, source, "", "").type
    if feature.own is not None:
        if kind != UNKNOWN:
            yield from trial_problems(feature.own, kind, feature.parts[0].parameters, what, feature.place)
    elif isinstance(feature.input, tuple):
        if not feature.input or len(set(feature.input)) < len(feature.input):
            yield Problem(f"{what}: it takes the columns {shown(feature.input)}; name one or several, each once", feature.place)
    elif kind != UNKNOWN:
        for part in feature.parts:
            try:
                class_of(feature)(kind, **part.parameters)
            except DefinitionError as error:
                yield Problem(f"{what}: {error}", feature.place)
                return


def _hop_problems(hop: Any, widths: list[int], has_windows: bool, what: str, place: Place) -> Problems:
    found = list(duration_problems(hop, f"hop of {what}", place))
    yield from found
    if found:
        return
    ladder = [duration_text(step) for step in HOPS_US]
    if duration_us(hop) not in HOPS_US:
        nearest = duration_text(min(HOPS_US, key=lambda step: abs(step - duration_us(hop))))
        yield Problem(f"hop of {what}: {hop!r} is not on the ladder {', '.join(ladder)}. Did you mean {nearest!r}?", place)
    if not has_windows:
        yield Problem(f"hop of {what}: all time has no hop; give over= or leave hop out", place)
    for width in widths:
        if duration_us(hop) > width:
            yield Problem(f"hop of {what}: {hop!r} is longer than the window {duration_text(width)!r}", place)


def word_of(feature: Feature) -> str:
    """How texts call a feature's aggregate."""
    return f"tw.{feature.aggregate}" if feature.own is None else f"aggregate {feature.aggregate}"


def checked_input(feature: Feature, source: Stepped, owner: str, what: str) -> Checked:
    """Type of the values that the aggregate takes."""
    place, word = feature.place, word_of(feature)
    accepts = class_of(feature).accepts
    if feature.input is None:
        if EVENT in accepts:
            return Checked(EVENT, ())
        return Checked(UNKNOWN, (Problem(f"{what}: {word} needs a column or an expression to take", place),))
    if isinstance(feature.input, tuple) and feature.own is None:
        problems = [p for column in feature.input for p in check_expression(column, source.columns, owner, what, place).problems]
        return Checked(UNKNOWN if problems else "row", tuple(problems))
    checked = check_expression(feature.input, source.columns, owner, what, place)
    if checked.type == UNKNOWN or checked.type in accepts:
        return checked
    text = f"{what}: {word} of a {checked.type} has no meaning; it takes {', '.join(sorted(accepts - {EVENT, 'row'}))}"
    if checked.type in ELEMENT_TYPES:
        text += ". Make an event of each element first, with events.explode(column)"
    return Checked(UNKNOWN, (Problem(text, place),))


def feature_types(view: View | Table) -> dict[str, str]:
    """Type name of every feature that a view or table gives, UNKNOWN where it has problems of its own."""
    if isinstance(view, Table):
        columns = declared_columns(view)
        return {name: columns[name] for name in view.value_columns}
    types: dict[str, str] = {}
    source = stepped_view(view.source) if isinstance(view.source, Events | Concat) else Stepped({}, "", ())
    for name, feature in view.features.items():
        if isinstance(feature, Feature) and not own_problems_of(feature, ""):
            kind = checked_input(feature, source, "", "").type
            for full, _, parameters in _named(str(name), feature):
                types[full] = UNKNOWN
                with suppress(DefinitionError):
                    if kind == "row":
                        types[full] = source.columns[parameters["column"]]
                    elif kind != UNKNOWN:
                        types[full] = class_of(feature)(kind, **parameters).result_type
    return types


def key_types(view: View | Table) -> dict[str, str]:
    """Type name of every key column, UNKNOWN where it does not exist."""
    if isinstance(view, Table):
        columns, names = declared_columns(view), view.by
    else:
        columns, names = (stepped_view(view.source).columns if isinstance(view.source, Events | Concat) else {}), view.keys
    return {name: columns.get(name, UNKNOWN) for name in names}
