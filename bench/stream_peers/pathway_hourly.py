"""Pathway: one tumbling window by key over a CSV file that is read as a stream; results thrown away, no persistence."""

from __future__ import annotations

import os
import sys

import pathway as pw


class Event(pw.Schema):
    key: int
    at: str
    amount: float


def hours(events: pw.Table) -> pw.Table:
    """`key`, `begin`, `n`, `amount`."""
    events = events.with_columns(at=pw.this.at.dt.strptime("%Y-%m-%d %H:%M:%S%.f"))
    windows = events.windowby(pw.this.at, window=pw.temporal.tumbling(duration=pw.Duration(hours=1)), instance=pw.this.key)
    return windows.reduce(
        key=pw.this._pw_instance, begin=pw.this._pw_window_start, n=pw.reducers.count(), amount=pw.reducers.sum(pw.this.amount)
    )


def main() -> None:
    """A stream of files never ends: a count of all events says when everything has passed. For the check the file is read once."""
    if len(sys.argv) > 3:
        pw.io.subscribe(hours(pw.io.csv.read(f"{sys.argv[1]}/headed", schema=Event, mode="static")), on_change=kept)
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
        return
    hourly = hours(pw.io.csv.read(f"{sys.argv[1]}/headed", schema=Event, mode="streaming"))
    pw.io.null.write(hourly)
    expected, total = int(sys.argv[2]), hourly.reduce(n=pw.reducers.sum(pw.this.n))

    def seen(key: object, row: dict[str, int], time: int, is_addition: bool) -> None:
        if is_addition and row["n"] >= expected:
            os._exit(0)

    pw.io.subscribe(total, on_change=seen)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


def kept(key: object, row: dict[str, object], time: int, is_addition: bool) -> None:
    """A line of CSV for each new state of an hour."""
    if is_addition:
        with open(sys.argv[3], "a") as file:
            file.write(f"{row['key']},{row['begin']},{row['n']},{row['amount']!r}\n")


if __name__ == "__main__":
    main()
