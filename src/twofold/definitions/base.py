"""What all definitions share: the place in the user's file where each was written, and the column types."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_origin

from twofold.errors import DefinitionError, did_you_mean


@dataclass(frozen=True)
class Place:
    """File and line where a definition stands, for error texts."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


def caller_place() -> Place:
    """The nearest frame outside this package; code that dataclasses generate belongs to the module of its class."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "twofold":
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)


class Category:
    """A text column of a request that reaches the estimator; its codes are frozen with the model version, unseen is null."""


ColumnType = Any
"""`str`, `int`, `float`, `bool`, `datetime`, `tw.Category`; of events also `list[str]`, `list[int]`, `list[float]`, `list[bool]`."""
TYPE_NAMES: dict[type, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    datetime: "datetime",
    Category: "category",
}


ELEMENT_TYPES = {f"list[{element}]": element for element in ("str", "int", "float", "bool")}
"""Type name of a list -> that of its elements. Only columns of events are lists: there they can be exploded."""


def type_name(kind: ColumnType, what: str) -> str:
    """The name of a column type; raises DefinitionError with the types that can be had."""
    if isinstance(kind, type) and kind in TYPE_NAMES:
        return TYPE_NAMES[kind]
    written = kind if isinstance(kind, str) else getattr(kind, "__name__", repr(kind))
    if list in (kind, get_origin(kind)):
        named = f"list[{', '.join(TYPE_NAMES.get(element, '?') for element in get_args(kind))}]"
        if named in ELEMENT_TYPES:
            return named
        raise DefinitionError(f"{what} has the type {str(kind) if get_args(kind) else 'list'!r}; lists are {', '.join(ELEMENT_TYPES)}")
    nearest = did_you_mean(written.lower().removesuffix("64").removesuffix("32"), TYPE_NAMES.values())
    raise DefinitionError(f"{what} has the type {written!r}; types are str, int, float, bool, datetime and tw.Category.{nearest}")
