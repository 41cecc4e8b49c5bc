"""Tables of whole snapshots: at each load, deletes for the keys that a snapshot lacks, so that all else sees a slowly changing table.

Every row of every snapshot is kept. So a snapshot holds all that is known of its instant, and the order of the loads never matters.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import polars as pl

from twofold.definitions.table import DELETED
from twofold.errors import DataError, SchemaMismatch
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, all_rows, stamped
from twofold.plan.serving import SourcePlan
from twofold.tables.base import Reading, Tables
from twofold.tables.frames import conform

_ROWS_PER_BATCH = 500_000
_PLACE = "__place"


def conform_loaded(source: SourcePlan, table: Any, at_us: int | None) -> tuple[pl.DataFrame, set[int]]:
    """(rows to be loaded in the declared columns, when their snapshots were taken: nothing of a table or source that has none).

    Raises SchemaMismatch and DataError as `conform` does, DataError for an `at_us` that is no snapshot's.
    """
    if source.is_snapshots:
        frame = _conform_snapshots(source, table, at_us)
        return frame, instants_of(source, frame) if at_us is None else {at_us}
    if at_us is not None:
        raise DataError(f"at= says when a snapshot was taken, and {source.name!r} is no table with snapshots=True; leave it out")
    return conform(source, table, strict=False).frame, set()


def _conform_snapshots(source: SourcePlan, table: Any, at_us: int | None) -> pl.DataFrame:
    """The rows of one snapshot taken at `at_us`, or of those that the table's time column tells apart, in the declared columns.

    Raises SchemaMismatch as `conform` does; DataError where both or neither say when the snapshot was taken.
    """
    time = str(source.time)
    ours = {DELETED} if at_us is None else {DELETED, time}
    given = {name: kind for name, kind in source.columns.items() if name not in ours}
    plan = msgspec.structs.replace(source, columns=given, time=time if at_us is None else None)
    try:
        conformed = conform(plan, table, strict=False)
    except SchemaMismatch as error:
        if f"{time} is absent" not in str(error):
            raise
        raise SchemaMismatch(f"{error}\n  Where the rows do not say when the snapshot was taken, give at=.") from None
    what = f"the snapshot of {source.name!r}"
    if time in conformed.dropped:
        raise DataError(f"{what} has the column {time!r}, and at= says when it was taken too; leave one of them out")
    if at_us is None and conformed.frame.is_empty():
        raise DataError(f"{what} has no rows, so nothing says when it was taken; if every key is to be deleted, give at=")
    frame = conformed.frame
    if at_us is not None:
        frame = frame.with_columns(_instant(pl.lit(at_us, pl.Int64)).alias(time))
    if DELETED in source.columns:
        frame = frame.with_columns(pl.lit(False).alias(DELETED))
    return frame.select(*source.columns)


def instants_of(source: SourcePlan, frame: pl.DataFrame) -> set[int]:
    """When the snapshots of a frame were taken, in microseconds."""
    return set(frame[str(source.time)].to_physical().unique().to_list())


def load_snapshots(tables: Tables, source: SourcePlan, frame: pl.DataFrame, instants: Collection[int], content: str) -> int:
    """Load the snapshots taken at `instants`; returns their history version.

    The last load of an instant holds, also where an earlier one had the same content. The same load again changes nothing.
    """
    *_, before, last = 0, 0, *_Loaded(source, tables).versions_at(sorted(instants))
    if last and tables.loaded(source.name, f"{content} after {before}") == last:
        return last
    return tables.load(source.name, stamped(source, with_deletes(source, frame, instants, tables)), f"{content} after {last}", source.time)


def with_deletes(source: SourcePlan, frame: pl.DataFrame, instants: Collection[int], tables: Tables) -> pl.DataFrame:
    """Rows of the snapshots taken at `instants`, and after them the deletes that they bring.

    A key of one snapshot that the next in time lacks is deleted at the next, whichever of the two is new. Where a snapshot of the same
    instant was loaded before, the new one takes its place. One delete of no key marks each snapshot, be it without rows. A frame
    without snapshots stays as it is.
    """
    if not instants:
        return frame
    loaded = _Loaded(source, tables)
    taken = sorted({*loaded.instants(), *instants})
    places = {instant: place for place, instant in enumerate(taken)}
    new = {places[instant] for instant in instants}
    beside = {place + step for place in new for step in (-1, 1)} & set(places.values()) - new
    mine = _placed(source, frame, places)
    replaced = _placed(source, loaded.rows_at([taken[place] for place in sorted(new)]), places)
    others = _placed(source, loaded.rows_at([taken[place] for place in sorted(beside)]), places)
    members = pl.concat([mine, others])
    following = members.with_columns(pl.col(_PLACE) + 1).filter(pl.col(_PLACE) < len(taken))
    touched = pl.col(_PLACE).is_in(list(new)) | (pl.col(_PLACE) - 1).is_in(list(new))
    vanished = pl.concat([following.filter(touched), replaced]).join(members, on=members.columns, how="anti").unique(maintain_order=True)
    marks = pl.DataFrame({_PLACE: sorted(new)}, schema={_PLACE: pl.Int64})
    return pl.concat([frame, _deletes(source, pl.concat([vanished, marks], how="diagonal"), taken)])


def _placed(source: SourcePlan, frame: pl.DataFrame, places: dict[int, int]) -> pl.DataFrame:
    """The keys that each snapshot of a frame has, with the snapshot's place in time; of several rows of a key the last decides."""
    time = pl.col(str(source.time)).to_physical()
    keys = list(source.partition_by)
    placed = frame.select(*keys, pl.col(str(source.deleted)), time.replace_strict(places, return_dtype=pl.Int64).alias(_PLACE))
    last = placed.drop_nulls(keys).unique([*keys, _PLACE], keep="last", maintain_order=True)
    return last.filter(~pl.col(str(source.deleted)).fill_null(False)).drop(str(source.deleted))


def _deletes(source: SourcePlan, vanished: pl.DataFrame, taken: list[int]) -> pl.DataFrame:
    """Rows that delete keys, each at the instant of its place; all other columns null."""
    instants = pl.Series(taken, dtype=pl.Int64).gather(vanished[_PLACE]).alias(str(source.time))
    marked = vanished.drop(_PLACE).with_columns(_instant(instants), pl.lit(True).alias(str(source.deleted)))
    others = [pl.lit(None, POLARS_TYPES[kind]).alias(name) for name, kind in source.columns.items() if name not in marked.columns]
    return marked.with_columns(others).select(*source.columns)


def _instant(microseconds: Any) -> Any:
    return microseconds.cast(POLARS_TYPES["datetime"])


class _Loaded:
    """What was loaded of a source before; of its columns only those that say which keys were there when."""

    def __init__(self, source: SourcePlan, tables: Tables) -> None:
        self._source, self._tables = source, tables
        self._version = tables.history_version(source.name)
        self._time = str(source.time)

    def instants(self) -> set[int]:
        """When the snapshots were taken."""
        reading = Reading(self._version, columns=(self._time,))
        batches = self._tables.batches(self._source.name, reading, _ROWS_PER_BATCH)
        return set().union(*(instants_of(self._source, batch) for batch in batches))

    def versions_at(self, instants: list[int]) -> list[int]:
        """The history versions that brought one of these snapshots, ascending."""
        rows = self.rows_at(instants)
        is_mark = pl.all_horizontal(pl.col(str(self._source.deleted)), *(pl.col(name).is_null() for name in self._source.partition_by))
        found: list[int] = rows.filter(is_mark)[MAJOR].unique().sort().to_list()
        return found

    def rows_at(self, instants: list[int]) -> pl.DataFrame:
        """Rows of these snapshots as they were loaded: key, time and deletes."""
        columns = (*self._source.partition_by, self._time, str(self._source.deleted))
        frames = [
            batch
            for instant in instants
            for batch in self._tables.batches(
                self._source.name, Reading(self._version, columns=columns, bounds={self._time: (instant, instant + 1)}), _ROWS_PER_BATCH
            )
        ]
        return all_rows({name: self._source.columns[name] for name in columns}, *frames).sort(MAJOR, MINOR)
