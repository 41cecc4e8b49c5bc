"""The check of derived columns: functions that a replica compiles from their source, so nothing but columns, np and math may occur."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from twofold.definitions.base import Place
from twofold.definitions.problems import NUMBERS, UNKNOWN, Columns, Problem, Problems, unknown
from twofold.errors import DefinitionError
from twofold.versions import function_source

MODULES = frozenset({"np", "math"})
_STATEMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.If, ast.Expr, ast.Pass)
_REFUSED = {
    ast.Lambda: "a function in the function",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.FormattedValue: "a text made of values",
}
_IMPURE = {("np", "random"): "is random", ("np", "load"): "reads a file", ("np", "save"): "writes a file"}


def derived_problems(name: str, function: Any, columns: Columns, owner: str, place: Place) -> Problems:
    """Problems of one derived column; `columns` are those that its arguments may name."""
    what = f"derived column {name!r} of {owner}"
    place = place_of(function, place)
    try:
        node = function_source(function)
    except DefinitionError as error:
        yield Problem(f"{what}: {error}", place)
        return
    signature = node.args
    if signature.vararg or signature.kwarg or signature.kwonlyargs or signature.defaults:
        yield Problem(f"{what}: its arguments are columns, one name each, without defaults or stars", place)
    arguments = [argument.arg for argument in (*signature.posonlyargs, *signature.args)]
    if not arguments:
        yield Problem(f"{what} takes no column; name columns of the model as its arguments", place)
    for argument in arguments:
        if argument not in columns:
            yield Problem(f"{what}: {unknown(owner, 'column', argument, columns)}", place)
        elif columns[argument] not in NUMBERS | {UNKNOWN, "datetime"}:
            yield Problem(f"{what}: {argument!r} is a {columns[argument]}; derived columns are made of numbers", place)
    for text, line in _body_problems(node):
        yield Problem(f"{what}: {text}", Place(place.file, line))


def place_of(function: Callable[..., Any], place: Place) -> Place:
    """Where a function stands; `place` where it has no source."""
    code = getattr(function, "__code__", None)
    return place if code is None else Place(code.co_filename, code.co_firstlineno)


def _body_problems(function: ast.Lambda | ast.FunctionDef) -> Iterator[tuple[str, int]]:
    """What a function may not say, with the lines where it does."""
    body = [function.body] if isinstance(function, ast.Lambda) else function.body
    nodes = [node for part in body for node in ast.walk(part)]
    local = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    local |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    told: set[str] = set()
    for node in nodes:
        text = _refusal(node, local)
        if text is not None and text not in told:
            told.add(text)
            yield text, getattr(node, "lineno", function.lineno)
    if isinstance(function, ast.FunctionDef) and not any(isinstance(node, ast.Return) for node in nodes):
        yield "it returns nothing", function.lineno


def _refusal(node: ast.AST, local: set[str]) -> str | None:
    """Why a node is not allowed; None where it is."""
    if isinstance(node, ast.stmt) and not isinstance(node, _STATEMENTS):
        return f"{type(node).__name__.lower()} is no statement of a derived column; use assignments, if and return"
    if type(node) in _REFUSED:
        return f"{_REFUSED[type(node)]} is not allowed in a derived column"
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in local | MODULES:
        return _free_name(node.id)
    if isinstance(node, ast.Attribute):
        if node.attr.startswith("_"):
            return f"{ast.unparse(node)} begins with an underscore, which is not allowed in a derived column"
        base = node.value.id if isinstance(node.value, ast.Name) else None
        for (module, prefix), why in _IMPURE.items():
            if base == module and node.attr.startswith(prefix):
                return f"{ast.unparse(node)} {why}; a derived column gives the same for the same columns, everywhere"
    return None


def _free_name(name: str) -> str:
    hint = {
        "numpy": "write np",
        "pl": "derived columns take NumPy arrays, not Polars",
        **{word: f"write np.{word}" for word in ("abs", "round", "sum", "any", "all")},
        "min": "write np.minimum",
        "max": "write np.maximum",
        "float": "write .astype(float64 of np)",
        "int": "write np.floor",
        "len": "a derived column is computed row by row",
    }.get(name, "write its value into the function")
    return f"it reads {name!r}, which a replica does not have: only its arguments, np and math are; {hint}"
