"""Homes for the parity tests: all in memory, or embedded on disk as users have them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twofold.clocks import ManualClock
from twofold.definitions.check import check_or_raise
from twofold.definitions.project import Project
from twofold.log.memory import MemoryLog
from twofold.plan.compile import compile_project
from twofold.registry.memory import MemoryRegistry
from twofold.runtime.home import Home
from twofold.runtime.opened import Opened
from twofold.settings import Settings
from twofold.store.memory import MemoryStore
from twofold.tables.memory import MemoryTables

Open = Callable[..., Opened]


class MemoryHome(Home):
    """The engines in memory."""

    @functools.cached_property
    def log(self) -> Any:
        return MemoryLog(self.settings.partitions or 1)

    @functools.cached_property
    def store(self) -> Any:
        return MemoryStore()

    @functools.cached_property
    def tables(self) -> Any:
        return MemoryTables()

    @functools.cached_property
    def registry(self) -> Any:
        return MemoryRegistry()


@pytest.fixture
def open_home(tmp_path: Path) -> Iterator[Open]:
    """Opens a project with a hand-moved clock: `open_home(project, clock, partitions=3, on_disk=True)`."""
    opened: list[Opened] = []

    def open_one(project: Project, clock: ManualClock, partitions: int = 1, on_disk: bool = False) -> Opened:
        check_or_raise(project)
        settings = Settings(home=tmp_path / str(len(opened)), partitions=partitions)
        opened.append(Opened(compile_project(project), (Home if on_disk else MemoryHome)(settings, clock)))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
