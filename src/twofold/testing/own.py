"""The check of a person's own aggregate in one line: what it says of itself, the laws, and every way of computing it, bit for bit.

def test_product() -> None:
    check_aggregate(Product("int"))
"""

from __future__ import annotations

import random
import tempfile
from datetime import datetime
from typing import Any

import twofold as tw
from twofold.algebra.own import Aggregate
from twofold.clocks import ManualClock
from twofold.definitions.base import Place
from twofold.definitions.check_aggregates import own_problems, trial_problems
from twofold.instants import DAY_US, HOUR_US, MINUTE_US, US_PER_SECOND, to_datetime, to_us
from twofold.runtime.opened import Opened
from twofold.testing.laws import check_laws
from twofold.testing.modes import Parity, history_parity, online_parity
from twofold.testing.strategies import HOSTILE_FLOATS, HOSTILE_INTS

_TYPES: dict[str, Any] = {"float": float, "int": int, "bool": bool, "str": str, "category": tw.Category, "datetime": datetime}
_KEYS = ["a", "b", "unknown"]
_START_US = to_us("2024-05-01T00:00:00Z")
_AT_LEAST = 100


def check_aggregate(aggregate: Aggregate[Any], examples: int | None = None, stories: int = 2, seed: int = 0) -> None:
    """What `twofold.testing.check_aggregate` says."""
    cls, place = type(aggregate), Place("", 0)
    what = f"{cls.__name__}({aggregate.input_type!r})"
    problems = list(own_problems(cls, what, place)) or list(trial_problems(cls, aggregate.input_type, aggregate.parameters, what, place))
    assert not problems, "\n".join(problem.text for problem in problems)
    check_laws(aggregate, examples=examples)
    for number in range(stories):
        parity_of(aggregate, random.Random(f"{seed} {number}")).check(_AT_LEAST)


def parity_of(aggregate: Aggregate[Any], rng: random.Random) -> Parity:
    """One story of a home, its values compared with the reference: loaded, appended, built, appended again, some of it late."""
    clock, parity = ManualClock(_START_US), Parity()
    with tempfile.TemporaryDirectory() as folder, _project(aggregate).open(home=folder, clock=clock) as opened:
        opened.load("events", _events(aggregate.input_type, rng, clock.now_us(), 25))
        _append(opened, aggregate, rng)
        opened.build()
        parity += _compared(opened, rng)
        for advance in ("3s", "10m", "2d"):
            clock.advance(advance)
            _append(opened, aggregate, rng)
            parity += _compared(opened, rng)
        opened.build()
        return parity + _compared(opened, rng)


def _project(aggregate: Aggregate[Any]) -> tw.Project:
    kind = aggregate.input_type
    columns = {"key": str} if kind == "event" else {"key": str, "value": _TYPES[kind]}
    events = tw.Events("events", time="at", schema=columns)
    value = None if kind == "event" else "value"
    over: list[str | None] = ["2s", "1h", "3d"] if aggregate.needs_window else ["2s", "1h", "3d", None]
    features: dict[str, Any] = {
        f"own_{window}": tw.aggregate(type(aggregate), value, over=window, **aggregate.parameters) for window in over
    }
    features["before"] = tw.aggregate(type(aggregate), value, over="1h", ago="1h", **aggregate.parameters)
    features["n"] = tw.count(over="1h")
    views = [tw.View("hybrid", events, by="key", features=features), tw.View("stream", events, mode="stream", features=features)]
    return tw.Project("check", views=views)


def _append(opened: Opened, aggregate: Aggregate[Any], rng: random.Random) -> None:
    opened.append("events", _events(aggregate.input_type, rng, opened.home.clock.now_us(), rng.randint(3, 12)))
    opened.catch_up()


def _events(kind: str, rng: random.Random, now: int, count: int) -> list[dict[str, Any]]:
    """Events of the last seconds, hours and days; some tie in time, some have no value."""
    found: list[dict[str, Any]] = []
    for _ in range(count):
        reach = rng.choice([0, 1, 3 * US_PER_SECOND, 12 * US_PER_SECOND, 2 * MINUTE_US, 3 * HOUR_US, 4 * DAY_US])
        at = found[-1]["at"] if found and rng.random() < 0.2 else now - rng.randint(0, reach)
        event = {"key": rng.choice(_KEYS[:2]), "at": at}
        found.append(event if kind == "event" else {**event, "value": _value(kind, rng)})
    return found


def _value(kind: str, rng: random.Random) -> Any:
    if rng.random() < 0.1:
        return None
    pools: dict[str, list[Any]] = {
        "float": [rng.choice(HOSTILE_FLOATS), float(rng.randint(-5, 5)), rng.uniform(-1, 1)],
        "int": [rng.choice(HOSTILE_INTS), rng.randint(-5, 5)],
        "bool": [True, False],
        "datetime": [to_datetime(rng.randint(-(2**50), 2**50)), to_datetime(0)],
    }
    return rng.choice(pools.get(kind, ["", "a", "b", "\u00e9\0x", "a text longer than a word", f"{rng.randint(0, 9)}"]))


def _compared(opened: Opened, rng: random.Random) -> Parity:
    now, parity = opened.home.clock.now_us(), Parity()
    instants = [now, now + 1, now - rng.randint(0, 9 * US_PER_SECOND), now + rng.randint(0, 2 * HOUR_US)]
    for view in ("hybrid", "stream"):
        keys = _KEYS if view == "hybrid" else [()]
        parity += online_parity(opened, view, keys, [*instants, None])
        parity += history_parity(opened, view, keys, [*instants, now - rng.randint(0, 2 * DAY_US)])
    return parity
