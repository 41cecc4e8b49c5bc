"""Declare a feature once; Twofold computes it from history and from the stream, and serves one answer."""

from typing import TYPE_CHECKING, Any

from twofold.clocks import ManualClock, ReplayClock, SystemClock
from twofold.definitions.base import Category
from twofold.definitions.events import Events
from twofold.definitions.features import count, last, max, mean, min, std, sum
from twofold.definitions.model import Cached, Default, Label, Model, Rows
from twofold.definitions.project import Project
from twofold.definitions.table import Table
from twofold.definitions.view import View

if TYPE_CHECKING:
    from twofold.runtime.compute import compute

__version__ = "0.1.0"

__all__ = [
    "Cached",
    "Category",
    "Default",
    "Events",
    "Label",
    "ManualClock",
    "Model",
    "Project",
    "ReplayClock",
    "Rows",
    "SystemClock",
    "Table",
    "View",
    "compute",
    "count",
    "last",
    "max",
    "mean",
    "min",
    "std",
    "sum",
]


def __getattr__(name: str) -> Any:
    """What needs the engines is imported when it is first used."""
    if name == "compute":
        from twofold.runtime.compute import compute

        return compute
    raise AttributeError(f"module 'twofold' has no attribute {name!r}")
