"""Point-in-time features of a spine from a Parquet file of events: 4 windows x 6 aggregates, end to end (read, compute, write)."""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

from history_data import FOLDER, files

import twofold as tw

WINDOWS = ["1h", "1d", "7d", "30d"]
AGGREGATES = ("count", "sum", "mean", "min", "max", "std")
payments = tw.Events("payments", time="at", schema={"key": int, "amount": float})
card = tw.View("card", payments, by="key", features={name: getattr(tw, name)("amount", over=WINDOWS) for name in AGGREGATES})
MORE = {
    "distinct": tw.distinct_exact("amount", over=["7d", "30d"], at_most=100_000),
    "p95": tw.quantile("amount", 0.95, over=["7d", "30d"]),
    "last": tw.last("amount"),
}
wider = tw.View("wider", payments, by="key", features={**card.features, **MORE})


def twofold(events: Path, spine: Path, out: Path, view: tw.View = card) -> None:
    """Ours: `tw.compute` from path to path."""
    tw.compute(view, {payments: events}, spine).write_parquet(out, compression="snappy")


def main() -> None:
    """Run once for warm kernels on a small input, then timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    for view in (card, wider):
        twofold(*files(1000, 100), FOLDER / "out-small.parquet", view)
    events, spine = files(options.events, options.rows)
    seconds = []
    for view in (card, wider):
        begun = time.perf_counter()
        twofold(events, spine, FOLDER / "out-twofold.parquet", view)
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"twofold: {options.events:,} events, {options.rows:,} rows x 24 features: {seconds[0]:.2f} s, peak {peak:.2f} GiB of both")
    print(f"with exact distinct and p95 over 7d and 30d, and last: {seconds[1]:.2f} s, {seconds[1] / seconds[0]:.2f} x")


if __name__ == "__main__":
    main()
