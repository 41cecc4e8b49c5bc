"""Pathway: one tumbling window by key over a CSV file that is read as a stream; results thrown away, no persistence."""

from __future__ import annotations

import os
import sys

import pathway as pw


class Event(pw.Schema):
    key: int
    at: str
    amount: float


def main() -> None:
    """A stream of files never ends: a count of all events says when everything has passed."""
    expected = int(sys.argv[2])
    events = pw.io.csv.read(f"{sys.argv[1]}/headed", schema=Event, mode="streaming")
    events = events.with_columns(at=pw.this.at.dt.strptime("%Y-%m-%d %H:%M:%S%.f"))
    hourly = events.windowby(pw.this.at, window=pw.temporal.tumbling(duration=pw.Duration(hours=1)), instance=pw.this.key).reduce(
        pw.this._pw_instance, pw.this._pw_window_start, n=pw.reducers.count(), amount=pw.reducers.sum(pw.this.amount)
    )
    pw.io.null.write(hourly)
    total = hourly.reduce(n=pw.reducers.sum(pw.this.n))

    def seen(key: object, row: dict[str, int], time: int, is_addition: bool) -> None:
        if is_addition and row["n"] >= expected:
            os._exit(0)

    pw.io.subscribe(total, on_change=seen)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
