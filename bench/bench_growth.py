"""Point-in-time features from a home of 1M, 10M and 100M events: time per event and peak memory; `--events` for other sizes."""

from __future__ import annotations

import argparse
from pathlib import Path

from history_data import files
from homes import Measured, home_of, measure, measured, opened, show


def main() -> None:
    """Each size in a process of its own, after a small run in it for warm kernels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--measure", type=Path)
    options = parser.parse_args()
    _, spine = files(1000, options.rows, options.keys)
    if options.measure is not None:
        with opened(home_of(1000, 100)) as small:
            small.history("card", files(1000, 100)[1])
        with opened(options.measure) as running:
            measure(lambda: f"({running.history('card', spine).height:,} rows x 24 features)")
        return
    before: tuple[int, Measured] | None = None
    for events in options.events:
        home = home_of(events, options.keys)
        found = measured(__file__, "--measure", home, "--rows", options.rows, "--keys", options.keys)
        show(f"history, {events:,} events", events, found, before)
        before = events, found


if __name__ == "__main__":
    main()
