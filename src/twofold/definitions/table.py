"""Tables: the latest whole row of a key before t."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twofold.definitions.base import ColumnType, Place, caller_place, type_name
from twofold.definitions.use import ViewUse

DELETED = "__deleted"


@dataclass(frozen=True, eq=False)
class Table:
    """The latest whole row before t for a key; a null in it stays null.

    With `time` the table changes slowly: its rows are events, loaded or streamed. Without `time` it is static: the last loaded
    row of a key holds for ever. The feature names are the other columns' names.

    `deleted` names a boolean column: a row in which it is true deletes its key from the row's instant on, until a later row brings
    the key back; null is false. With `snapshots` every load is whole, of one instant or several (the time column): a key that a
    snapshot lacks is deleted from the snapshot's instant on. Such a table takes no single rows.
    """

    name: str
    key: str | tuple[str, ...]
    schema: Mapping[str, ColumnType]
    time: str | None = None
    zone: str | None = None
    max_age: str | None = None
    deleted: str | None = None
    snapshots: bool = False
    place: Place = field(default_factory=caller_place, repr=False)

    @property
    def by(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def columns(self) -> dict[str, str]:
        """Type name of every column, those of time and deletes included where there are any."""
        named = {column: type_name(kind, f"{self.name}.{column}") for column, kind in self.schema.items()}
        named |= {} if self.time is None else {self.time: "datetime"}
        return named if self.deleted_column is None else {**named, self.deleted_column: "bool"}

    @property
    def deleted_column(self) -> str | None:
        """The column that marks deletes; in a table of snapshots that names none it is ours, filled at each load."""
        return DELETED if self.deleted is None and self.snapshots else self.deleted

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The columns that are features: not those of key, time and deletes."""
        return tuple(column for column in self.schema if column not in (*self.by, self.time, self.deleted))

    def on(self, prefix: str | None = None, **keys: str) -> ViewUse:
        """Read by other request fields: `.on(tailnum="plane")`."""
        return ViewUse(self, dict(keys), prefix, None, caller_place())

    def __getitem__(self, columns: str | tuple[str, ...]) -> ViewUse:
        """Only some columns of the table, for a model."""
        chosen = (columns,) if isinstance(columns, str) else tuple(columns)
        return ViewUse(self, {}, None, chosen, caller_place())
