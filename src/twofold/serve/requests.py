"""Requests checked against a model's fields, keys against a view's key columns; what a bad one is told. No store is known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.errors import SchemaMismatch, did_you_mean
from twofold.instants import to_datetime
from twofold.keys import encode_key
from twofold.plan.canonical import INT_BEGIN, INT_END, Refused, canonical, canonical_values, shown
from twofold.plan.serving import ModelPlan, ViewPlan

Request = dict[str, Any]
"""Field -> canonical value (see `plan.canonical`), in the order of the model's fields; instants are int microseconds."""


class RequestCheck:
    """Checks requests of one model. Every field must be there; any may be null, and nothing else may be there."""

    def __init__(self, plan: ModelPlan) -> None:
        self._model, self._fields = plan.name, dict(plan.request)
        self._items = tuple(self._fields.items())

    def rows(self, rows: Sequence[Any]) -> list[Request]:
        """Canonical requests in their order. Raises SchemaMismatch that names the first bad request and all its bad fields."""
        if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Sequence):
            raise SchemaMismatch(f"model {self._model!r} takes a list of requests, as in [{{...}}, {{...}}]; got {shown(rows)}")
        return [self._row(number, row) for number, row in enumerate(rows)]

    def _row(self, number: int, row: Any) -> Request:
        try:
            if len(row) == len(self._items):
                return {name: canonical(kind, row[name]) for name, kind in self._items}
        except (Refused, KeyError, TypeError, IndexError):
            pass
        raise SchemaMismatch(f"model {self._model!r} refuses request {number}:\n" + "\n".join(f"  {text}" for text in self._problems(row)))

    def columns(self, columns: Mapping[str, Any]) -> list[Request]:
        """Requests from columns: lists of one length, and single values that stand for all rows.

        Raises SchemaMismatch for lists of several lengths, and as `rows` does.
        """
        lengths = {name: len(value) for name, value in columns.items() if isinstance(value, list | tuple)}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{name} has {count}" for name, count in lengths.items()) or "there is none"
            raise SchemaMismatch(f"model {self._model!r} takes columns of one length, beside single values for all rows; {told}")
        count = next(iter(lengths.values()))
        try:
            if columns.keys() == self._fields.keys():
                whole = [
                    canonical_values(kind, list(columns[name])) if name in lengths else [canonical(kind, columns[name])] * count
                    for name, kind in self._items
                ]
                return [dict(zip(self._fields, values, strict=True)) for values in zip(*whole, strict=True)]
        except Refused:
            pass
        rows = [{name: value[i] if name in lengths else value for name, value in columns.items()} for i in range(count)]
        return self.rows(rows or [{name: None if name in lengths else value for name, value in columns.items()}])

    def _problems(self, row: Any) -> list[str]:
        """Everything that is wrong with a request, by field."""
        fields = ", ".join(self._fields)
        if not isinstance(row, Mapping):
            return [f"it is {shown(row)}; give an object with the fields {fields}"]
        problems = []
        for name, kind in self._items:
            if name not in row:
                near = did_you_mean(name, [got for got in row if isinstance(got, str) and got not in self._fields])
                problems.append(f"{name} is absent; where nothing is known give null.{near}")
                continue
            try:
                canonical(kind, row[name])
            except Refused as refused:
                problems.append(f"{name} {refused}")
        for name in row:
            if name not in self._fields:
                near = did_you_mean(name, self._fields) if isinstance(name, str) else ""
                problems.append(f"{name} is no field of this model, whose requests have {fields}; leave it out.{near}")
        return problems


class KeyCheck:
    """Keys of one view as its stored keys are typed."""

    def __init__(self, plan: ViewPlan) -> None:
        self._view, self._by = plan.name, dict(plan.by)
        self._items = tuple(self._by.items())
        self._kinds = tuple(self._by.values())
        self._has_instants = "datetime" in self._kinds
        self._single = {"int": int, "str": str}.get(self._kinds[0]) if len(self._kinds) == 1 else None
        """The Python type of a key of one column, where such a value says all."""

    def encoded(self, number: int, key: Any) -> tuple[tuple[Any, ...], bytes | None]:
        """The parts of a key as `key` gives them, and their bytes; no bytes where a part is null."""
        kind = type(key)
        if kind is self._single and (key.isascii() if kind is str else INT_BEGIN <= key < INT_END):
            return (key,), encode_key((key,))
        parts = self.key(number, key)
        return parts, None if None in parts else encode_key(parts)

    def key(self, number: int, key: Any) -> tuple[Any, ...]:
        """The parts of a key given as a value (one key column), a list of parts in order, or an object by key column; a null stays None.

        Raises SchemaMismatch that names the key column and the key's number.
        """
        parts = self._parts(number, key)
        try:
            found = tuple([canonical(kind, parts[place]) for place, kind in enumerate(self._kinds)])
            return tuple(map(key_part, self._kinds, found)) if self._has_instants else found
        except Refused:
            pass
        problems = []
        for (name, kind), part in zip(self._items, parts, strict=True):
            try:
                canonical(kind, part)
            except Refused as refused:
                problems.append(f"{name} {refused}")
        raise SchemaMismatch(f"view {self._view!r} refuses key {number}:\n" + "\n".join(f"  {text}" for text in problems))

    def _parts(self, number: int, key: Any) -> Sequence[Any]:
        if isinstance(key, list | tuple):
            parts: Sequence[Any] = key
        elif isinstance(key, Mapping):
            unknown = [name for name in key if name not in self._by]
            absent = [name for name in self._by if name not in key]
            if not unknown and not absent:
                return [key[name] for name in self._by]
            wrong = f"{absent[0]} is absent" if absent else f"{unknown[0]} is no key column"
            near = did_you_mean(absent[0], map(str, unknown)) if absent else ""
            raise SchemaMismatch(f"view {self._view!r} refuses key {number}: {wrong}; its key columns are {self._columns()}.{near}")
        else:
            parts = (key,)
        if len(parts) != len(self._items):
            raise SchemaMismatch(
                f"view {self._view!r} refuses key {number}: it has {len(parts)} parts, {shown(key)}; its key columns are {self._columns()}"
            )
        return parts

    def _columns(self) -> str:
        return ", ".join(self._by) or "none, so its one key is []"


def key_part(kind: str, value: Any) -> Any:
    """A canonical value as part of a key: instants are aware datetimes there."""
    return to_datetime(value) if kind == "datetime" and value is not None else value
