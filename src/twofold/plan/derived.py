"""Derived columns: functions of columns that travel as source, run on NumPy arrays, the same in training and in serving.

Their free names are `np` and `math`; nothing else of Python can be reached.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from twofold.errors import DefinitionError
from twofold.plan.serving import DerivedPlan

Floats = NDArray[np.float64]
FREE_NAMES = ("np", "math")
_BUILTINS = {"abs": abs, "min": min, "max": max, "float": float, "int": int, "bool": bool, "len": len, "range": range, "round": round}


def derive(item: DerivedPlan, columns: Mapping[str, Floats], rows: int) -> Floats:
    """The derived column, float64[rows]; NaN is null, infinities become null. Raises DefinitionError where the function fails."""
    try:
        with np.errstate(all="ignore"):
            value = compiled(item.name, item.source)(*(columns[argument] for argument in item.arguments))
            result = np.asarray(value, np.float64)
            if result.shape != (rows,):
                result = np.broadcast_to(result, (rows,))
    except Exception as error:
        raise DefinitionError(f"derived column {item.name!r} fails: {type(error).__name__}: {error}") from error
    return np.where(np.isfinite(result), result, np.nan)


@functools.lru_cache(maxsize=1024)
def compiled(name: str, source: str) -> Callable[..., Any]:
    """The function of a source (a lambda or one `def`); raises DefinitionError for names or syntax that it may not use."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal | ast.ClassDef | ast.AsyncFunctionDef | ast.Await):
            raise DefinitionError(
                f"derived column {name!r} may not use {type(node).__name__}; it is a function of its arguments, np and math"
            )
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise DefinitionError(f"derived column {name!r} may not read {node.attr!r}")
    namespace: dict[str, Any] = {"np": np, "math": math, "__builtins__": _BUILTINS}
    statement = tree.body[0]
    if isinstance(statement, ast.FunctionDef):
        exec(compile(tree, f"<derived {name}>", "exec"), namespace)
        function: Callable[..., Any] = namespace[statement.name]
        return function
    return cast(Callable[..., Any], eval(compile(ast.Expression(statement.value), f"<derived {name}>", "eval"), namespace))  # type: ignore[attr-defined]
