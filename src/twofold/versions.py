"""Canonical content -> hash. Never a pickle, nothing that changes with a library's or Python's version."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable
from typing import Any

from twofold.errors import DefinitionError


def version_of(content: Any) -> str:
    """16 hexadecimal digits that name `content`: JSON values only, mappings in any order.

    >>> version_of({"b": 1, "a": [2]}) == version_of({"a": [2], "b": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def function_source(function: Callable[..., Any]) -> ast.Lambda | ast.FunctionDef:
    """Syntax tree of a lambda or of a function with plain source; raises DefinitionError where no source can be had."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise DefinitionError(f"the source of {function!r} cannot be read; define it in the project file") from None
    tree = _parse_fragment(source)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda | ast.FunctionDef)]
    wanted = list(inspect.signature(function).parameters)
    matching = [node for node in nodes if [a.arg for a in node.args.args] == wanted]
    if not matching:
        raise DefinitionError(f"the source of {function!r} cannot be told apart; put it on lines of its own")
    if len({ast.dump(node) for node in matching}) > 1:
        raise DefinitionError(f"two functions with the arguments {wanted} stand in one statement; put each on lines of its own")
    return matching[0]


def _parse_fragment(source: str) -> ast.AST:
    """Parse the lines around a lambda, which may be a piece of a call: drop closing brackets until it parses."""
    attempts = [source, f"({source.strip()})", f"f({source.strip()})", "{" + source.strip() + "}"]
    for text in attempts:
        for end in range(len(text), 0, -1):
            if end != len(text) and text[end] not in ",)}]\n":
                continue
            for closing in ("", ")", "}"):
                try:
                    return ast.parse(text[:end] + closing)
                except SyntaxError:
                    continue
    raise DefinitionError(f"the source {source!r} cannot be parsed; put the function on lines of its own")
