"""Schedules: the latest fire at or before an instant, alone and for many, against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.instants import DAY_US, HOUR_US, MINUTE_US, floor_to, to_us
from twofold.plan.schedule import previous_fire, previous_fires

PLAIN = {
    "0 2 * * *": lambda t: floor_to(t - 2 * HOUR_US, DAY_US) + 2 * HOUR_US,
    "30 * * * *": lambda t: floor_to(t - 30 * MINUTE_US, HOUR_US) + 30 * MINUTE_US,
    "*/15 * * * *": lambda t: floor_to(t, 15 * MINUTE_US),
    "* * * * *": lambda t: floor_to(t, MINUTE_US),
    # 1970-01-01 was a Thursday.
    "0 3 * * 1": lambda t: floor_to(t + 3 * DAY_US - 3 * HOUR_US, 7 * DAY_US) - 3 * DAY_US + 3 * HOUR_US,
}
INSTANTS = st.one_of(
    st.integers(-30 * 365 * DAY_US, 60 * 365 * DAY_US),
    st.builds(lambda minute, beside: minute * MINUTE_US + beside, st.integers(-(10**7), 3 * 10**7), st.sampled_from([-1, 0, 1])),
)


@pytest.mark.parametrize("schedule", PLAIN)
def test_the_previous_fire_is_the_latest_at_or_before(schedule: str) -> None:
    @given(INSTANTS)
    def holds(t: int) -> None:
        assert previous_fire(schedule, t) == PLAIN[schedule](t)

    holds()


@pytest.mark.parametrize("schedule", ["0 2 * * *", "0 3 * * 1"])
def test_many_instants_have_the_fires_of_each(schedule: str) -> None:
    @given(st.integers(-(10**16), 10**16), st.lists(st.integers(0, 40 * DAY_US), max_size=10))
    def holds(start: int, offsets: list[int]) -> None:
        times = np.array([start + offset for offset in offsets], np.int64)
        assert previous_fires(schedule, times).tolist() == [previous_fire(schedule, int(t)) for t in times]

    holds()


def test_a_fire_on_its_own_microsecond_counts() -> None:
    two = to_us("2024-05-01T02:00:00Z")
    assert [previous_fire("0 2 * * *", t) for t in (two - 1, two, two + 1)] == [two - DAY_US, two, two]
