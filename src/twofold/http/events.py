"""Events over HTTP: from a body to rows, appended in threads so that a commit to disk holds no other request up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import msgspec

from twofold.errors import DataError, SchemaMismatch, known
from twofold.http.messages import Call, Reply, TooMany, decoded, malformed, reply
from twofold.log.base import Position
from twofold.plan.canonical import shown
from twofold.plan.serving import ServingPlan

Ingest = Callable[[str, list[dict[str, Any]]], Position]

MOST_BYTES, MOST_CALLS = 128 << 20, 1024
"""What may be on its way to the log in one process; more is told to come again."""

_LINES = (b"ndjson", b"jsonl", b"jsonlines", b"json-seq")
_RECORD_SEPARATOR = b"\x1e"
"""What begins each text of a JSON text sequence (RFC 7464); no JSON may hold it."""


class Ingesting:
    """Appends events in threads; calls that are under way together share a commit of the log."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._calls = self._bytes = 0

    async def events(self, plan: ServingPlan, ingest: Ingest, call: Call) -> tuple[Reply, int]:
        """The position after the events and how many there were; all of them are in the log, or none."""
        call.query(())
        source = known(plan.sources, call.names[0], "source")
        rows = rows_of(call)
        size = len(call.body)
        if self._calls >= MOST_CALLS or (self._calls and self._bytes + size > MOST_BYTES):
            raise TooMany(f"{self._calls} calls with {self._bytes} bytes of events wait for the log already; try again later")
        self._calls, self._bytes = self._calls + 1, self._bytes + size
        try:
            position = await asyncio.get_running_loop().run_in_executor(self._executor, ingest, source.name, rows)
        finally:
            self._calls, self._bytes = self._calls - 1, self._bytes - size
        return reply({"position": str(position), "count": len(rows)}), len(rows)


def rows_of(call: Call) -> list[dict[str, Any]]:
    """The events of a body: an object, an array of them, or one a line (NDJSON). Raises SchemaMismatch, DataError."""
    body = call.body
    if any(mark in value.lower() for value in call.header(b"content-type") for mark in _LINES):
        return _objects(_lines(body.replace(_RECORD_SEPARATOR, b"")))
    try:
        value = decoded(body)
    except msgspec.DecodeError as error:
        if b"\n" in body.strip() and body.lstrip().startswith(b"{"):
            return _objects(_lines(body))
        raise malformed(error, body) from None
    return _objects(value if isinstance(value, list) else [value])


def _lines(body: bytes) -> list[Any]:
    rows = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            try:
                rows.append(decoded(line))
            except msgspec.DecodeError as error:
                raise DataError(f"line {number} is no JSON: {error}; send one object a line") from None
    return rows


def _objects(rows: Sequence[Any]) -> list[dict[str, Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise SchemaMismatch(f"event {number} is {shown(row)}; an event is an object with the fields of its source")
    return list(rows)
