"""A generation of 24 window features for all keys: 10M events of 100k keys, and of 5M keys with its peak memory."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from homes import home_of, measure, measured, opened, show


def main() -> None:
    """Each case in a process of its own, after a small build in it for warm kernels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, nargs="+", default=[100_000, 5_000_000])
    parser.add_argument("--measure", type=Path)
    options = parser.parse_args()
    if options.measure is not None:
        for home in (home_of(1000, 100), options.measure):
            shutil.rmtree(home / "store", ignore_errors=True)
        with opened(home_of(1000, 100)) as small:
            small.build()
        with opened(options.measure) as running:
            running.catch_up()
            measure(lambda: f"({running.build()[0].keys:,} keys)")
        return
    for keys in options.keys:
        home = home_of(options.events, keys)
        show(f"build, {options.events:,} events, at most {keys:,} keys", options.events, measured(__file__, "--measure", home), None)


if __name__ == "__main__":
    main()
