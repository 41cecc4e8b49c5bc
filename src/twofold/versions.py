"""Canonical content -> hash. Never a pickle, nothing that changes with a library's or Python's version."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeGuard

from twofold.errors import DefinitionError

_MEANINGLESS = frozenset({"ctx", "kind", "type_comment", "type_params", "annotation", "returns"})
"""Fields of syntax nodes that change no value, and that come and go with versions of Python."""


def version_of(content: Any) -> str:
    """16 hexadecimal digits that name `content`: JSON values only, mappings in any order.

    >>> version_of({"b": 1, "a": [2]}) == version_of({"a": [2], "b": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def function_source(function: Callable[..., Any]) -> ast.Lambda | ast.FunctionDef:
    """Syntax tree of a lambda or of an undecorated `def`, from the file that it stands in.

    Where several stand in one line, the one whose text covers the function's own instructions. Raises DefinitionError where no source
    can be had, or where the file has changed since it was loaded.
    """
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        raise DefinitionError(f"{function!r} has no source; write a lambda or a def in the project file")
    try:
        text = "".join(inspect.findsource(code)[0])
        tree = ast.parse(text)
    except (OSError, SyntaxError):
        raise DefinitionError(f"the source of {function!r} cannot be read; define it in the project file") from None
    candidates = [node for node in ast.walk(tree) if _may_be(node, code)]
    if len(candidates) > 1:
        candidates = sorted((node for node in candidates if _covers(node, code)), key=_extent)
    if not candidates:
        raise DefinitionError(f"the source of {function!r} is not where it was; load the file anew")
    if isinstance(candidates[0], ast.FunctionDef) and candidates[0].decorator_list:
        raise DefinitionError(f"{function!r} is decorated, so its source is not its meaning; write it without decorators")
    return candidates[0]


def _may_be(node: ast.AST, code: CodeType) -> TypeGuard[ast.Lambda | ast.FunctionDef]:
    """Same kind, name, first line and arguments."""
    if isinstance(node, ast.Lambda):
        name, line = "<lambda>", node.lineno
    elif isinstance(node, ast.FunctionDef):
        name, line = node.name, min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    else:
        return False
    return (name, line, _arguments(node)) == (code.co_name, code.co_firstlineno, _argument_names(code))


def _arguments(node: ast.Lambda | ast.FunctionDef) -> list[str]:
    parts = node.args
    stars = [part.arg for part in (parts.vararg, parts.kwarg) if part is not None]
    return [part.arg for part in (*parts.posonlyargs, *parts.args, *parts.kwonlyargs)] + stars


def _argument_names(code: CodeType) -> list[str]:
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + stars])


def _covers(node: ast.Lambda | ast.FunctionDef, code: CodeType) -> bool:
    """Every instruction of the code comes from within the body."""
    first = node.body if isinstance(node, ast.Lambda) else node.body[0]
    begin, end = (first.lineno, first.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    places = [place for place in code.co_positions() if None not in place and place[2] != place[3]]
    if not places:
        raise DefinitionError("Python runs without positions in code; put each function on lines of its own")
    return all(begin <= (line, column) and (last, until) <= end for line, last, column, until in places)


def _extent(node: ast.expr | ast.stmt) -> tuple[int, int]:
    lines = (node.end_lineno or node.lineno) - node.lineno
    return lines, (node.end_col_offset or 0) - (0 if lines else node.col_offset)


def syntax_content(node: Any) -> Any:
    """The meaning of a syntax tree as JSON values, the same with every version of Python.

    A function's name, its docstring and its annotations are no part of it.

    >>> syntax_content(ast.parse("a - 1", mode="eval").body)["node"]
    'BinOp'
    """
    if isinstance(node, list | tuple):
        return [syntax_content(part) for part in node]
    if isinstance(node, ast.Constant):
        value = node.value
        plain = value if value is None or isinstance(value, bool | str) else repr(value)
        return {"node": "Constant", "type": type(value).__name__, "value": plain}
    if not isinstance(node, ast.AST):
        return node
    content = {name: syntax_content(part) for name, part in ast.iter_fields(node) if name not in _MEANINGLESS and part not in (None, [])}
    if isinstance(node, ast.FunctionDef):
        content = {"args": content["args"], "body": syntax_content(node.body[1:] if ast.get_docstring(node) is not None else node.body)}
    return {"node": type(node).__name__, **content}
