"""Which events a row of a spine may see: the one rule of training sets, audits and replays."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.base import LOG_ORDER
from twofold.plan.inputs import MAJOR, MINOR, STAMP
from twofold.plan.schedule import previous_fires
from twofold.plan.serving import ViewPlan
from twofold.tables.point_in_time import Visibility

Kind = Literal["ideal", "arrival"]


def visibility_of(plan: ViewPlan, at: NDArray[np.int64], kind: Kind) -> Visibility:
    """What serving would have seen at each instant, had every build run on time.

    "ideal": every event has arrived as it happened, or the declared delay later; "arrival": from its arrival_time on, loaded history
    from its event_time on. A batch view sees what its latest refresh saw.
    """
    if plan.mode != "batch" or plan.refresh is None:
        if kind == "arrival":
            return Visibility(seen=STAMP, horizon=at + 1)
        # What arrives at t is seen at t, what happens at t is not: where there is no delay, event_time < t is all.
        return Visibility(head=at - plan.delay_us + 1) if plan.delay_us else Visibility()
    refreshed = previous_fires(plan.refresh, at)
    return Visibility(head=refreshed - plan.delay_us) if kind == "ideal" else Visibility(head=refreshed, seen=STAMP, horizon=refreshed)


def window_ends(plan: ViewPlan, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """The t of each row's windows: `at`, or the latest refresh for a view whose windows end at the build."""
    return previous_fires(plan.refresh, at) if plan.as_of == "build" and plan.refresh is not None else at


def events_in_mode(plan: ViewPlan, frame: pl.DataFrame, began: tuple[int, ...]) -> pl.DataFrame:
    """The events a view can ever hold: for mode "stream" those of the log from the offsets at which its delta began."""
    if plan.mode != "stream":
        return frame
    after = [(pl.col(MAJOR) == LOG_ORDER + partition) & (pl.col(MINOR) >= offset) for partition, offset in enumerate(began)]
    return frame.filter(pl.any_horizontal(after)) if after else frame.clear()
