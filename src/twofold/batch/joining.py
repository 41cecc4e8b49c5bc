"""The table rows that loaded events join: as of each event's time, from the table's own loaded history. Log events bring theirs along."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.base import LOG_ORDER
from twofold.errors import NotBuilt
from twofold.plan.compile import CompiledProject, CompiledView
from twofold.plan.inputs import MAJOR, all_rows, prepared
from twofold.plan.serving import JoinPlan, SourcePlan
from twofold.tables.base import Reading, Tables
from twofold.tables.point_in_time import point_in_time

_ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class _TableHistory:
    """A joined table's loaded history, and which version of it the rows of each history version of the source join."""

    source: SourcePlan
    view: CompiledView
    tables: Tables
    pins: NDArray[np.int64]
    _ready: dict[int, pl.DataFrame] = field(default_factory=dict)

    def rows(self, version: int) -> pl.DataFrame:
        """The table's prepared rows up to a version; they are kept, as tables are small beside events."""
        if version not in self._ready:
            reading = Reading(version, columns=tuple(self.source.columns))
            frame = all_rows(self.source.columns, *self.tables.batches(self.source.name, reading, _ROWS_AT_ONCE))
            self._ready[version] = prepared(self.view, frame)
        return self._ready[version]


@dataclass(frozen=True)
class LoadedJoins:
    """Adds the joined columns to loaded rows of a source."""

    source: SourcePlan
    _of_table: dict[str, _TableHistory]

    def needed(self, columns: Collection[str]) -> tuple[str, ...]:
        """What must be read beside these columns: the keys of the joins that they hold."""
        keys = [name for join in self._wanted(columns) for name in join.keys]
        return tuple(name for name in dict.fromkeys(keys) if name not in columns)

    def added(self, frame: pl.DataFrame, columns: Collection[str]) -> pl.DataFrame:
        """Rows with the joined ones of these columns; rows of the archive as they are, for they have theirs."""
        wanted = self._wanted(columns)
        if not wanted or frame.is_empty() or int(frame[MAJOR].max()) >= LOG_ORDER:  # type: ignore[arg-type]
            return frame
        return frame.with_columns(column for join in wanted for column in self._joined(join, frame))

    def _wanted(self, columns: Collection[str]) -> list[JoinPlan]:
        return [join for join in self.source.joins if any(name in columns for name in join.types)]

    def _joined(self, join: JoinPlan, frame: pl.DataFrame) -> list[pl.Series]:
        """The joined columns, null where the table has no row of the key before the event's time."""
        table = self._of_table[join.table]
        keys = frame.select(pl.col(name).alias(f"k{i}") for i, name in enumerate(join.keys))
        at = frame[str(self.source.time)].to_physical().to_numpy()
        versions = table.pins[frame[MAJOR].to_numpy() - 1]
        rows = [np.flatnonzero(versions == version) for version in np.unique(versions)]
        parts = [point_in_time(table.view.plan, table.rows(int(versions[mine[0]])), keys[mine], at[mine]) for mine in rows]
        found = pl.concat(parts)[np.argsort(np.concatenate(rows))]
        return [found[column].alias(stored) for column, stored in join.stored.items()]


def loaded_joins(project: CompiledProject, source: str, tables: Tables, history: int) -> LoadedJoins | None:
    """What rows of a source up to a history version join; None where it joins nothing.

    Which version of a table's history they join is decided here, once for ever. Raises NotBuilt where the table has none yet.
    """
    plan = project.source(source)
    found = {}
    for join in plan.joins:
        pins = tables.pinned(source, join.table, history)
        if 0 in pins:
            raise NotBuilt(
                f"source {source!r} has loaded history, which joins the table {join.table!r}, and that has none: load its rows first "
                "(an empty table, if they all come later)"
            )
        found[join.table] = _TableHistory(project.source(join.table), project.view(join.table), tables, np.array(pins, np.int64))
    return LoadedJoins(plan, found) if found else None
