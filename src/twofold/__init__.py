"""Declare a feature once; Twofold computes it from history and from the stream, and serves one answer."""

from twofold.definitions.base import Category
from twofold.definitions.events import Events
from twofold.definitions.features import count, last, max, mean, min, std, sum
from twofold.definitions.model import Cached, Default, Label, Model, Rows
from twofold.definitions.project import Project
from twofold.definitions.table import Table
from twofold.definitions.view import View

__version__ = "0.1.0"

__all__ = [
    "Cached",
    "Category",
    "Default",
    "Events",
    "Label",
    "Model",
    "Project",
    "Rows",
    "Table",
    "View",
    "count",
    "last",
    "max",
    "mean",
    "min",
    "std",
    "sum",
]
