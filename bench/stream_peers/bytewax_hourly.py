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


class _Nothing(StatelessSinkPartition[object]):
    def write_batch(self, items: list[object]) -> None:
        pass


class _Sink(DynamicSink[object]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Nothing:
        return _Nothing()


def main() -> None:
    """One worker in this process."""
    flow = Dataflow("hourly")
    keyed = op.input("events", flow, _Source())
    clock = windowing.EventClock(ts_getter=lambda event: event[0], wait_for_system_duration=timedelta(0))
    hours = windowing.TumblingWindower(length=timedelta(hours=1), align_to=datetime(2024, 1, 1, tzinfo=UTC))
    hourly = windowing.fold_window(
        "hourly",
        keyed,
        clock,
        hours,
        builder=lambda: (0, 0.0),
        folder=lambda state, event: (state[0] + 1, state[1] + event[1]),
        merger=lambda left, right: (left[0] + right[0], left[1] + right[1]),
    )
    op.output("nothing", hourly.down, _Sink())
    run_main(flow)


if __name__ == "__main__":
    main()
