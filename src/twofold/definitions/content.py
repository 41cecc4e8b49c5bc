"""The meaning of a definition as plain values, without the place where it stands: what two definitions of one name must share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

from twofold.algebra.own import Aggregate
from twofold.definitions.base import TYPE_NAMES
from twofold.definitions.expressions import canonical_text
from twofold.definitions.own_source import class_content
from twofold.versions import function_source, syntax_content


def content_of(value: Any) -> Any:
    """JSON values that are equal where two definitions mean the same; raises DefinitionError where one cannot be written down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"is": type(value).__name__, **{f.name: content_of(getattr(value, f.name)) for f in fields(value) if f.name != "place"}}
    if isinstance(value, Mapping):
        return {str(name): content_of(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [content_of(item) for item in value]
    if isinstance(value, type) and issubclass(value, Aggregate):
        return class_content(value)
    if isinstance(value, type):
        return TYPE_NAMES.get(value, value.__qualname__)
    if isinstance(value, FunctionType):
        return syntax_content(function_source(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "meta"):
        return canonical_text(value)
    return repr(value)
