"""Data for tests of the whole."""

from __future__ import annotations

import random
from typing import Any

from twofold.instants import DAY_US, HOUR_US, to_us

START_US = to_us("2024-05-01T00:00:00Z")


def make_payments(count: int, begin_us: int, span_us: int, seed: int, prefix: str) -> list[dict[str, Any]]:
    """Random payments in order of time."""
    rng = random.Random(seed)
    times = sorted(begin_us + rng.randrange(span_us) for _ in range(count))
    return [
        {
            "payment_id": f"{prefix}{i}",
            "card": rng.choice(["a", "b", "c", None]),
            "shop": rng.choice(["x", "y"]),
            "amount": rng.choice([None, 0.1, 1e15, -1e15, float(rng.randint(1, 500))]),
            "paid_at": at,
        }
        for i, at in enumerate(times)
    ]


HISTORY = make_payments(600, START_US - 20 * DAY_US, 20 * DAY_US, 1, "h")
LIVE = make_payments(120, START_US, 6 * HOUR_US, 2, "l")
FRAUDS = [{"payment_id": row["payment_id"], "reported_at": row["paid_at"] + HOUR_US} for row in HISTORY[::5]]
SHOPS = [{"shop": "x", "kind": "food", "floor_m2": 120}, {"shop": "y", "kind": "toys", "floor_m2": None}]
LIMITS = [{"card": "a", "limit": 100.0, "ended": False, "set_at": START_US - DAY_US}]


def load_history(opened: Any) -> None:
    """Load everything that happened before the start."""
    opened.load("payments", HISTORY)
    opened.load("frauds", FRAUDS)
    opened.load("shops", SHOPS)
    opened.load("limits", LIMITS)
