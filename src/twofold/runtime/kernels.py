"""Compiled code made before it is needed: the whole job once, tiny, in a folder that goes away; which kernels there are is not known here.

Numba keeps what it compiled beside the package (or in the user's cache where that cannot be written), so `python -m
twofold.runtime.kernels` after an installation spares the first build, the first answer and every test run about a minute of one core.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

from twofold.algebra.stale import forget_stale_kernels
from twofold.clocks import ManualClock
from twofold.definitions import features as words
from twofold.definitions.events import Events
from twofold.definitions.project import Project
from twofold.definitions.view import View
from twofold.instants import DAY_US, HOUR_US, MINUTE_US, US_PER_SECOND, to_us

_NOW_US = to_us("2024-05-01T00:00:00Z")
_AGES_US = (1, 3 * US_PER_SECOND, MINUTE_US, 3 * HOUR_US, 4 * DAY_US)


def compile_kernels() -> None:
    """Compile what loading, building, streaming, serving and training sets run, for every kind of aggregate; done already, seconds pass."""
    forget_stale_kernels()
    clock = ManualClock(_NOW_US - DAY_US)
    with tempfile.TemporaryDirectory() as folder, _project().open(home=folder, clock=clock) as opened:
        opened.load("events", _events(clock.now_us()))
        opened.build()
        clock.advance("1d")
        for _ in range(2):
            opened.append("events", _events(clock.now_us()))
            opened.catch_up()
        for view in ("sums", "texts", "others"):
            opened.features(view, ["a", "b", "unknown"])
            opened.history(view, [{"key": key, "at": clock.now_us()} for key in "ab"])
        opened.build()


def _project() -> Project:
    events = Events("events", time="at", schema={"key": str, "x": float, "n": int, "text": str, "flag": bool})
    kept = {
        "sums": {
            "count": words.count(over="1h"),
            "mean": words.mean("x", over="1h"),
            "sum": words.sum("n"),
            "high": words.max("x", over="1d"),
        },
        "texts": {"last": words.last("text"), "three": words.last(["text", "x"], over="1d"), "kinds": words.distinct("text", over="1d")},
        "others": {
            "std": words.std("x", over="1d"),
            "kurtosis": words.kurtosis("x", over="1d"),
            "exact": words.distinct_exact("text", over="1d"),
            "p95": words.quantile("x", 0.95, over="1d"),
            "bins": words.histogram("x", [0, 1], over="1d"),
            "decayed": words.decayed_mean("x", half_life="1h"),
            "least": words.smallest_k("x", 3, over="1d"),
        },
    }
    return Project("kernels", views=[View(name, events, by="key", features=features) for name, features in kept.items()])


def _events(now_us: int) -> list[dict[str, Any]]:
    return [
        {"key": key, "at": now_us - age, "x": float(age), "n": age, "text": f"a text of {age}", "flag": True}
        for key in "ab"
        for age in _AGES_US
    ]


if __name__ == "__main__":
    begun = time.perf_counter()
    compile_kernels()
    print(f"compiled code is ready ({time.perf_counter() - begun:.0f} s)")
