"""A view or table as a model reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twofold.definitions.base import Place, caller_place

if TYPE_CHECKING:
    from twofold.definitions.table import Table
    from twofold.definitions.view import View


@dataclass(frozen=True, eq=False)
class ViewUse:
    """A view or table as a model reads it: key column -> request field, a prefix for its columns, a choice of features."""

    view: View | Table
    keys: Mapping[str, str]
    prefix: str | None
    features: tuple[str, ...] | None
    place: Place = field(repr=False)

    def on(self, prefix: str | None = None, **keys: str) -> ViewUse:
        """The same choice of features read by other request fields."""
        return ViewUse(self.view, {**self.keys, **keys}, prefix or self.prefix, self.features, caller_place())

    @property
    def column_prefix(self) -> str:
        """What goes before each feature's name in the model's columns: `prefix`, or the view's name and `_`."""
        return f"{self.view.name}_" if self.prefix is None else self.prefix
