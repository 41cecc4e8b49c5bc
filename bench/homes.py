"""Homes with loaded history for the batch benchmarks, under build/bench, and work on them measured in processes of their own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_history import card
from history_data import BEGIN_US, FOLDER, SPAN_US, chunks

import twofold as tw

project = tw.Project("bench", views=[card])
NOW_US = BEGIN_US + SPAN_US


def opened(home: Path):
    """The benchmarks' project on a home, at the end of its events."""
    return project.open(home=home, clock=tw.ManualClock(NOW_US))


def home_of(events: int, keys: int) -> Path:
    """A home with so many events loaded, chunk by chunk; made once."""
    home = FOLDER / f"home-{events}-{keys}"
    loaded = home / "loaded"
    if not loaded.exists():
        with opened(home) as running:
            for chunk in chunks(events, keys):
                running.load("payments", chunk)
        loaded.touch()
    return home


@dataclass(frozen=True)
class Measured:
    """What one piece of work took."""

    seconds: float
    peak_gib: float
    note: str = ""


def measure(work: Callable[[], str]) -> None:
    """In the measured process: do it, print what it took."""
    begun = time.perf_counter()
    note = work()
    seconds = time.perf_counter() - begun
    print(json.dumps(asdict(Measured(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, note))))


def measured(script: str, *arguments: object) -> Measured:
    """What a script printed with `measure`, run on its own."""
    done = subprocess.run([sys.executable, script, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def show(what: str, events: int, found: Measured, before: tuple[int, Measured] | None) -> None:
    """One line: time, rate, peak, and how much longer an event took than in the run before."""
    growth = (
        "" if before is None else f", {found.seconds / events / (before[1].seconds / before[0]):.2f} x the time per event of {before[0]:,}"
    )
    print(
        f"{what}: {found.seconds:.2f} s, {events / found.seconds:,.0f} events/s, peak {found.peak_gib:.2f} GiB{growth} {found.note}",
        flush=True,
    )
