"""Bytewax: one tumbling window by key over events in memory, results thrown away; no recovery store."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.operators import windowing
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

Event = tuple[str, tuple[datetime, float]]


def events_of(folder: str) -> Iterator[Event]:
    """Keyed events of the CSV file."""
    with open(f"{folder}/events.csv", newline="") as file:
        for key, at, amount in csv.reader(file):
            yield key, (datetime.fromisoformat(at).replace(tzinfo=UTC), float(amount))


class _Partition(StatelessSourcePartition[Event]):
    def __init__(self, folder: str) -> None:
        self._events = events_of(folder)

    def next_batch(self) -> list[Event]:
        batch = [event for _, event in zip(range(1000), self._events, strict=False)]
        if not batch:
            raise StopIteration
        return batch


class _Source(DynamicSource[Event]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Partition:
        return _Partition(sys.argv[1])


Hour = tuple[str, tuple[int, tuple[int, float]]]
BEGIN, HOUR = datetime(2024, 1, 1, tzinfo=UTC), timedelta(hours=1)


class _Lines(StatelessSinkPartition[Hour]):
    """Lines of CSV, for the check; without a path nothing."""

    def __init__(self, path: str | None) -> None:
        self._file = None if path is None else open(path, "w")  # noqa: SIM115 - it lives as long as the flow

    def write_batch(self, items: list[Hour]) -> None:
        if self._file is not None:
            self._file.writelines(f"{key},{BEGIN + number * HOUR},{n},{amount!r}\n" for key, (number, (n, amount)) in items)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Sink(DynamicSink[Hour]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Lines:
        return _Lines(sys.argv[3] if len(sys.argv) > 3 else None)


def main() -> None:
    """One worker in this process."""
    flow = Dataflow("hourly")
    keyed = op.input("events", flow, _Source())
    clock = windowing.EventClock(ts_getter=lambda event: event[0], wait_for_system_duration=timedelta(0))
    hours = windowing.TumblingWindower(length=HOUR, align_to=BEGIN)
    hourly = windowing.fold_window(
        "hourly",
        keyed,
        clock,
        hours,
        builder=lambda: (0, 0.0),
        folder=lambda state, event: (state[0] + 1, state[1] + event[1]),
        merger=lambda left, right: (left[0] + right[0], left[1] + right[1]),
    )
    op.output("results", hourly.down, _Sink())
    run_main(flow)


if __name__ == "__main__":
    main()
