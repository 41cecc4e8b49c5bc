"""Features at points in time over a source's events: the view's mode and schedule decide what each row sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from twofold.plan.compile import CompiledView
from twofold.plan.inputs import prepared
from twofold.tables.frames import conform_spine
from twofold.tables.point_in_time import Visibility, point_in_time
from twofold.tables.visibility import Kind, events_in_mode, visibility_of, window_ends


def history(view: CompiledView, events: pl.DataFrame, spine: Any, kind: Kind, status: bool, began: tuple[int, ...]) -> pl.DataFrame:
    """The spine (key columns of the view and `at`), in its order, with the view's features as of each `at` added.

    `events` are all that count. `began` are the offsets at which a stream view began. `status` adds `<feature>__status`.
    """
    keys, at, original = conform_spine(view.plan.by, spine)
    visible = visibility_of(view.plan, at, kind)
    ends = window_ends(view.plan, at)
    ready = prepared(view, events_in_mode(view.plan, events, began))
    if visible.head is not None:
        visible = Visibility(np.minimum(visible.head, at), visible.seen, visible.horizon)
    features = point_in_time(view.plan, ready, keys, ends, visible, status)
    return pl.concat([original, features], how="horizontal")
