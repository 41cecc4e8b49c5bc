"""`compute`: the meaning of a view over tables at hand, with no disk; for pytest and notebooks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.errors import DataError, did_you_mean
from twofold.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from twofold.definitions.events import Events
    from twofold.definitions.table import Table
    from twofold.definitions.view import View


def compute(view: View | Table, tables: Mapping[Events | Table | str, Any], spine: Any) -> pl.DataFrame:
    """What `twofold.compute` says."""
    from twofold.batch.events import SourceEvents
    from twofold.batch.history import history
    from twofold.batch.joining import loaded_joins
    from twofold.batch.spill import Scratch
    from twofold.definitions.check import check_or_raise
    from twofold.definitions.project import Project
    from twofold.plan.compile import compile_project
    from twofold.plan.inputs import stamped
    from twofold.tables.memory import MemoryTables
    from twofold.tables.snapshots import conform_loaded, with_deletes

    project = Project("compute", views=[view])
    check_or_raise(project)
    compiled = compile_project(project)
    named = {table if isinstance(table, str) else table.name: rows for table, rows in tables.items()}
    held, events = MemoryTables(), []
    scratch = Scratch(Path(tempfile.gettempdir()) / f"twofold-{os.getuid()}", Settings().memory_mb << 20)
    sources = compiled.view(view.name).plan.sources
    joins = [join.table for name in sources for join in compiled.source(name).joins]
    for name in dict.fromkeys([*joins, *sources]):
        if name not in named:
            raise DataError(f"view {view.name!r} needs the table {name!r}; got {', '.join(named) or 'none'}.{did_you_mean(name, named)}")
        source = compiled.source(name)
        rows = with_deletes(source, *conform_loaded(source, named[name], None), held)
        version = held.load(name, stamped(source, rows), "")
        if name in sources:
            joined = loaded_joins(compiled, name, held, version)
            events.append(SourceEvents(source, held, scratch, version, joined=joined))
    return history(compiled.view(view.name), events, spine, "ideal", False, ())
