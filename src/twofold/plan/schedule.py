"""Cron schedules in UTC: when a view was last due, and which are due now."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from cronsim import CronSim
from numpy.typing import NDArray

from twofold.instants import to_datetime, to_us


def previous_fire(schedule: str, t_us: int) -> int:
    """The latest instant at or before t at which the schedule fires."""
    # CronSim goes strictly back from its start: begin a minute later than t's own minute.
    start = to_datetime(t_us).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return to_us(next(CronSim(schedule, start, reverse=True)))


def previous_fires(schedule: str, t_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """`previous_fire` of every instant."""
    if t_us.size == 0:
        return t_us
    fires = [previous_fire(schedule, int(t_us.min()))]
    forward = CronSim(schedule, to_datetime(fires[0]))
    while (following := to_us(next(forward))) <= int(t_us.max()):
        fires.append(following)
    return np.array(fires, np.int64)[np.searchsorted(fires, t_us, side="right") - 1]
