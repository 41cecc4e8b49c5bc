"""Replays events and requests against a running `twofold up`, in event order: a small HTTP client and the order of things."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl

Json = Any


@dataclass(frozen=True)
class Moment:
    """One instant of the replay: what happened since the one before (by source), then what is asked."""

    at_us: int
    events: Mapping[str, list[dict[str, Any]]]
    requests: list[dict[str, Any]]


def moments(requests: pl.DataFrame, events: Mapping[str, tuple[str, pl.DataFrame]]) -> Iterator[Moment]:
    """The replay in order: a request at t comes after every event before t, and before every event at or after t.

    `requests` has `at` and the request's fields; `events` maps a source to its time column and rows.
    """
    asked = requests.sort("at").partition_by("at", maintain_order=True)
    instants = [int(part["at"].to_physical()[0]) for part in asked]
    streams = {source: _Stream(time, frame) for source, (time, frame) in events.items()}
    for at_us, part in zip(instants, asked, strict=True):
        happened = {source: rows for source, stream in streams.items() if (rows := stream.take_before(at_us))}
        yield Moment(at_us, happened, part.drop("at").to_dicts())


class _Stream:
    """The events of one source in order of time, handed out up to an instant."""

    def __init__(self, time: str, frame: pl.DataFrame) -> None:
        ordered = frame.sort(time)
        self._times = ordered[time].to_physical().to_numpy()
        self._rows = ordered.with_columns(pl.col(time).to_physical())
        self._next = 0

    def take_before(self, at_us: int) -> list[dict[str, Any]]:
        """The rows not yet taken with event_time < at_us."""
        end = int(self._times.searchsorted(at_us, side="left"))
        rows = self._rows[self._next : end].to_dicts() if end > self._next else []
        self._next = end
        return rows


@dataclass
class Client:
    """Keep-alive connections to one server. A request whose connection dies is sent again, within its deadline.

    Sending twice is safe: a prediction changes nothing, and an event with an id counts once.
    """

    host: str
    port: int
    deadline_s: float = 20.0
    retried: int = 0
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def post(self, path: str, body: Json) -> tuple[int, Json]:
        """(status, JSON) of the answer; retries broken connections and 503 until the deadline, then raises TimeoutError."""
        payload = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: {self.host}\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
        ends = time.monotonic() + self.deadline_s
        while True:
            try:
                async with asyncio.timeout(ends - time.monotonic()), self._connection() as (reader, writer):
                    writer.write(head.encode() + payload)
                    status, answer = await _answer(reader)
                if status != 503:
                    return status, answer
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            if time.monotonic() >= ends:
                raise TimeoutError(f"{path} was not answered within {self.deadline_s} s")
            self.retried += 1
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        pair = self._idle.pop() if self._idle else await asyncio.open_connection(self.host, self.port)
        try:
            yield pair
        except BaseException:
            pair[1].close()
            raise
        self._idle.append(pair)

    def close(self) -> None:
        """Close the idle connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, Json]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    return int(head.split(" ", 2)[1]), json.loads(body) if body else None


@dataclass
class Tally:
    """What came of a replay."""

    asked: int = 0
    failed: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    def latency_ms(self, share: float) -> float:
        """The latency below which a share of the predictions lies."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


async def play(moment: Moment, client: Client, model: str, id_field: str, tally: Tally) -> None:
    """One moment: append what happened, then ask with `after=` the positions that came back. The clock stands at the moment already."""
    appended = await asyncio.gather(*(_append(client, source, rows, tally) for source, rows in moment.events.items()))
    query = "&".join([f"after={position}" for position in appended] + [f"deadline_ms={int(client.deadline_s * 500)}"])
    path = f"/v1/predict/{model}?{query}"
    await asyncio.gather(*(_ask(client, path, request, id_field, moment.at_us, tally) for request in moment.requests))


async def _append(client: Client, source: str, rows: Sequence[Mapping[str, Any]], tally: Tally) -> str:
    status, answer = await client.post(f"/v1/events/{source}", rows)
    if status != 200:
        raise RuntimeError(f"events of {source} were refused with {status}: {answer}")
    tally.sent[source] = tally.sent.get(source, 0) + len(rows)
    return str(answer["position"])


async def _ask(client: Client, path: str, request: Mapping[str, Any], id_field: str, at_us: int, tally: Tally) -> None:
    tally.asked += 1
    begun = time.perf_counter()
    try:
        status, answer = await client.post(path, request)
    except TimeoutError:
        tally.failed += 1
        return
    tally.latencies_ms.append((time.perf_counter() - begun) * 1000)
    if status == 200:
        tally.answers.append({**answer, "asked_for": request[id_field], "at_us": at_us})
    else:
        tally.failed += 1
