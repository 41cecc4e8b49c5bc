"""What a person's own aggregate is made of, under the names that a project file uses; what it does is in `algebra`."""

from __future__ import annotations

from twofold.algebra.base import OVERFLOW, Item, Window
from twofold.algebra.own import Aggregate

__all__ = ["OVERFLOW", "Aggregate", "Item", "Window"]
