"""The check of a person's own aggregates: what the class says of itself, its source, and one try of every method on sample events."""

from __future__ import annotations

import json
import typing
from datetime import UTC, datetime
from types import UnionType
from typing import Any

from twofold.algebra.base import Item, Window, registered
from twofold.algebra.own import INPUTS, Aggregate
from twofold.definitions.base import Place
from twofold.definitions.own_source import class_tree, source_refusals
from twofold.definitions.problems import Problem, Problems, shown
from twofold.errors import DefinitionError, did_you_mean

RESULTS = ("float", "int", "bool", "str", "datetime")
_METHODS = ("zero", "add", "merge", "result")
_PLAIN = (int, float, str, bool, bytes, datetime, type(None))
_SAMPLES: dict[str, tuple[Any, ...]] = {
    "event": (True, True, True),
    "float": (1.5, -2.0, 0.0),
    "int": (3, -1, 0),
    "bool": (True, False, True),
    "str": ("a", "", "bc"),
    "category": ("a", "", "bc"),
    "datetime": (datetime(2024, 1, 1, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC), datetime(2030, 6, 1, tzinfo=UTC)),
}


def own_problems(cls: Any, what: str, place: Place) -> Problems:
    """Problems of the class that `tw.aggregate` was given, each in the file of the class where it can be told."""
    if not (isinstance(cls, type) and issubclass(cls, Aggregate)):
        yield Problem(f"{what}: tw.aggregate takes a subclass of tw.Aggregate; got {shown(cls)}", place)
        return
    if cls.__bases__[:1] != (Aggregate,) or len([base for base in cls.__bases__ if base is not typing.Generic]) > 1:
        names = ", ".join(base.__name__ for base in cls.__bases__)
        yield Problem(f"{what}: aggregate {cls.__name__} is made of {names}; a replica has only tw.Aggregate: subclass that alone", place)
        return
    missing = [name for name in _METHODS if name not in vars(cls)]
    if missing:
        yield Problem(f"{what}: aggregate {cls.__name__} lacks {', '.join(missing)}; it needs {', '.join(_METHODS)}", place)
        return
    try:
        tree = class_tree(cls)
    except DefinitionError as error:
        yield Problem(f"{what}: {error}", place)
        return
    file = cls.zero.__code__.co_filename if hasattr(cls.zero, "__code__") else place.file
    for text in _said(cls):
        yield Problem(f"aggregate {cls.__name__}: {text}", Place(file, tree.lineno))
    for text, line in dict.fromkeys(source_refusals(cls)):
        yield Problem(f"aggregate {cls.__name__}: {text}", Place(file, line))


def _said(cls: type[Aggregate[Any]]) -> typing.Iterator[str]:
    """What the class says of itself that cannot be."""
    if cls.name != cls.__name__:
        yield f"its name is {cls.name!r}; leave name out, it is that of the class"
    if cls.name in registered():
        yield f"its name is that of a built-in one, tw.{cls.name}; take another"
    accepts = getattr(cls, "accepts", None)
    if not isinstance(accepts, frozenset) or not accepts:
        yield f"accepts is {shown(accepts)}; name the types of inputs it takes, as in accepts = {{'float', 'int'}}"
    elif unknown := sorted(map(str, accepts - INPUTS)):
        nearest = did_you_mean(unknown[0], INPUTS)
        yield f"accepts names {', '.join(map(repr, unknown))}; inputs are {', '.join(sorted(INPUTS))}.{nearest}"
    if "encode" not in vars(cls) or "decode" not in vars(cls):
        if "state_type" not in vars(cls):
            yield "it has no state_type; say what its states are, as in state_type = tuple[int, float]"
        elif (text := _state_problem(cls.state_type)) is not None:
            yield f"state_type is {shown(cls.state_type)}; {text}"
    result = vars(cls).get("result_type")
    if result is not None and not isinstance(result, property):
        yield from _result_problems(result)


def _state_problem(kind: Any) -> str | None:
    """Why a type is no type of states that have one form in bytes."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in (set, frozenset) or origin in (set, frozenset):
        return "a set has no order; write a sorted tuple, or a dict with text keys"
    if origin is dict and arguments[:1] != (str,):
        return "the keys of a dict are texts: dict[str, ...]"
    if kind in _PLAIN or kind is None:
        return None
    if origin not in (tuple, list, dict, typing.Union, UnionType):
        return "it is made of int, float, str, bool, bytes, datetime, None, and of tuple[...], list[...], dict[str, ...] and | of such"
    return next((text for part in arguments if part is not Ellipsis and (text := _state_problem(part)) is not None), None)


def _result_problems(result: Any) -> typing.Iterator[str]:
    element = result[5:-1] if isinstance(result, str) and result.startswith("list[") and result.endswith("]") else result
    if element not in (*RESULTS, "category"):
        nearest = did_you_mean(element, RESULTS) if isinstance(element, str) else ""
        yield f"result_type is {shown(result)}; results are {', '.join(RESULTS)} and lists of them, as in 'list[float]'.{nearest}"


def trial_problems(cls: type[Aggregate[Any]], kind: str, parameters: Any, what: str, place: Place) -> Problems:
    """What goes wrong when an aggregate over inputs of a type is tried on sample events."""
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError):
        yield Problem(f"{what}: its parameters are {shown(dict(parameters))}; give texts, numbers, booleans, None or lists of them", place)
        return
    try:
        aggregate = cls(kind, **parameters)
    except DefinitionError as error:
        yield Problem(f"{what}: {error}", place)
        return
    except Exception as error:
        yield Problem(f"{what}: aggregate {cls.__name__} refuses its parameters: {type(error).__name__}: {error}", place)
        return
    if (texts := list(_result_problems(aggregate.result_type))) and not isinstance(vars(cls).get("result_type"), str):
        yield Problem(f"{what}: aggregate {cls.__name__}: {texts[0]}", place)
    else:
        yield from (Problem(text, place) for text in _tried(aggregate, kind, f"{what}: aggregate {cls.__name__} of {kind}"))


def _tried(aggregate: Aggregate[Any], kind: str, what: str) -> typing.Iterator[str]:
    from twofold.algebra.guarded import Guarded

    tried = Guarded(aggregate, what, is_quiet=True)
    items = [Item(value, 1_000_000 * i, (1, i)) for i, value in enumerate(_SAMPLES[kind])]
    held = [tried.lifted(item) for item in items]
    total = tried.zero
    for one in held:
        before = [None if state is None else tried.words(state) for state in (total, one)]
        merged = total if one is None else tried.merged(total, one)
        if before != [None if state is None else tried.words(state) for state in (total, one)]:
            yield f"{what}: merge changes a state that it was given; make a new one"
        total = merged
    window = Window(0, 10_000_000, 10_000_000)
    for state in (tried.zero, total):
        before = [tried.words(state)]
        tried.result(state, window.end_us, window)
        if before != [tried.words(state)]:
            yield f"{what}: result changes the state that it was given"
    for call, text in tried.failure_texts.items():
        # A value that `add` refuses is a null; an `add` that takes none is a mistake.
        if call != "add" or all(one is None for one in held):
            yield text
