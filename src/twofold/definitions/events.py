"""Sources of events: a schema, a time column, an identity, and row-level steps before aggregation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from twofold.definitions.base import ColumnType, Place, caller_place, type_name
from twofold.definitions.joins import join_content
from twofold.instants import Duration, duration_us

if TYPE_CHECKING:
    import polars as pl

    from twofold.definitions.table import Table

StepKind = Literal["filter", "with_columns", "rename", "explode", "join"]


@dataclass(frozen=True, eq=False)
class Step:
    """One row-level step: `filter` holds one expression, `with_columns` named ones, `rename` old -> new names, `explode` a column.

    What `join` holds is said in `definitions.joins`.
    """

    kind: StepKind
    content: Mapping[str, Any]
    place: Place


@dataclass(frozen=True, init=False, eq=False)
class Events:
    """A source of events: rows of `schema` that happened at the instant in the column `time`.

    `schema` need not name the time column; it is a datetime. `id` names the column that makes an event the same event when it
    comes twice; it implies `dedupe="10m"` (None turns that off). `zone` is the zone of datetimes that carry none (without it
    they are refused). `partition_by` names the columns that the log partitions by (default: `id`, else the whole row).
    """

    name: str
    schema: Mapping[str, ColumnType]
    time: str
    id: str | None
    dedupe: Duration | Literal["default"] | None
    zone: str | None
    partition_by: str | tuple[str, ...] | None
    steps: tuple[Step, ...]
    place: Place = field(repr=False)

    def __init__(
        self,
        name: str,
        *,
        schema: Mapping[str, ColumnType],
        time: str,
        id: str | None = None,
        dedupe: Duration | Literal["default"] | None = "default",
        zone: str | None = None,
        partition_by: str | tuple[str, ...] | list[str] | None = None,
    ) -> None:
        by = tuple(partition_by) if isinstance(partition_by, list) else partition_by
        values = {"name": name, "schema": dict(schema), "time": time, "id": id, "dedupe": dedupe, "zone": zone, "partition_by": by}
        for key, value in {**values, "steps": (), "place": caller_place()}.items():
            object.__setattr__(self, key, value)

    @property
    def columns(self) -> dict[str, str]:
        """Type name of every column that arrives, the time column (a datetime) included."""
        named = {column: type_name(kind, f"{self.name}.{column}") for column, kind in self.schema.items()}
        return {**named, self.time: "datetime"}

    @property
    def dedupe_us(self) -> int | None:
        """Horizon of duplicate removal in microseconds; None where events of one id all count."""
        if self.dedupe == "default":
            return duration_us("10m") if self.id else None
        return None if self.dedupe is None else duration_us(self.dedupe)

    def filter(self, condition: pl.Expr) -> Events:
        """The same events, only those for which `condition` is true."""
        return self._with(Step("filter", {"condition": condition}, caller_place()))

    def with_columns(self, **columns: pl.Expr) -> Events:
        """The same events with columns added or replaced by row-level expressions."""
        return self._with(Step("with_columns", columns, caller_place()))

    def rename(self, **new_names: str) -> Events:
        """The same events with columns renamed, `old="new"`."""
        return self._with(Step("rename", new_names, caller_place()))

    def explode(self, column: str) -> Events:
        """One event for each element of a list column, in its order, the other columns repeated; none for a null or empty list.

        The column then holds the element, which may be null. All of them keep the event's time; among events that tie in time, the
        elements follow each other. An event can be exploded once.
        """
        return self._with(Step("explode", {"column": column}, caller_place()))

    def join(self, table: Table, on: str | Sequence[str] | Mapping[str, str]) -> Events:
        """The same events, each with the table's row of its key: the columns `<table>_<column>`, null where there is no row.

        `on` names the key column, or several; where the events call them otherwise, `{column of the events: column of the key}`. The
        row is looked up when the event is appended, and stays with it for ever; an event of loaded history has the row that held just
        before its event_time. Join first, then compute: the key is as the source has it.
        """
        return self._with(Step("join", join_content(table, on, self.steps), caller_place()))

    def _with(self, step: Step) -> Events:
        return replace_fields(self, steps=(*self.steps, step))


def replace_fields(events: Events, **changes: Any) -> Events:
    """A copy with other field values (dataclasses.replace without the public constructor)."""
    copy = object.__new__(Events)
    for name in Events.__dataclass_fields__:
        object.__setattr__(copy, name, changes.get(name, getattr(events, name)))
    return copy
