"""Whether an event counts: a function of the log alone, decided once for its source and equal in batch and stream.

Too far in the future: a dead letter. An id that came less than the horizon before in its partition (or in loaded history): a
duplicate. The plain meaning of the second is `reference.counted`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl

from twofold.algebra.base import LOG_ORDER
from twofold.instants import BEGIN_US, DAY_US
from twofold.plan.inputs import MAJOR, MINOR, STAMP
from twofold.plan.serving import SourcePlan

FUTURE_TOLERANCE_US = DAY_US
"""A log event whose event_time lies further beyond its arrival is a dead letter: its producer's clock is wrong."""


def too_far_in_the_future(source: SourcePlan) -> pl.Expr:
    """Whether a row of a source's frame lies too far beyond its arrival; never for loaded history."""
    if source.time is None:
        return pl.lit(False)
    return (pl.col(MAJOR) >= LOG_ORDER) & (pl.col(source.time).to_physical() - pl.col(STAMP) > FUTURE_TOLERANCE_US)


def far_rows(source: SourcePlan, frame: pl.DataFrame) -> pl.Series | None:
    """`too_far_in_the_future` of each row of a frame of log events; None where no row is."""
    if source.time is None or frame.is_empty():
        return None
    times, stamps = frame[source.time].to_numpy().view(np.int64), frame[STAMP].to_numpy()
    if int(times.max()) - int(stamps.min()) <= FUTURE_TOLERANCE_US and times.min() >= BEGIN_US:
        return None
    is_far = frame.select(too_far_in_the_future(source)).to_series()
    return is_far if is_far.any() else None


def counted(source: SourcePlan, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of history and log that count, in no particular order."""
    frame = frame.filter(~too_far_in_the_future(source))
    duplicates = duplicates_among(source, frame)
    return frame.join(duplicates, on=[MAJOR, MINOR], how="anti") if duplicates.height else frame


def duplicates_among(source: SourcePlan, frame: pl.DataFrame) -> pl.DataFrame:
    """(MAJOR, MINOR) of the duplicates among rows none of which lies too far in the future, all rows of an id being there."""
    schema = {MAJOR: pl.Int64, MINOR: pl.Int64}
    if source.dedupe_us is None or source.id is None:
        return pl.DataFrame(schema=schema)
    suspects = frame.filter(pl.col(source.id).is_not_null() & pl.col(source.id).is_duplicated())
    if suspects.is_empty():
        return pl.DataFrame(schema=schema)
    is_history = pl.col(MAJOR) < LOG_ORDER
    ordered = suspects.with_columns(__source=is_history.not_()).sort("__source", pl.when(is_history).then(STAMP), MAJOR, MINOR)
    rows = ordered.select(source.id, MAJOR, MINOR, STAMP).iter_rows()
    return pl.DataFrame(list(_duplicates(source.dedupe_us, rows)), schema=schema, orient="row")


def _duplicates(horizon_us: int, rows: Iterable[tuple[Any, int, int, int]]) -> Iterator[tuple[int, int]]:
    """(MAJOR, MINOR) of the duplicates among rows `(id, MAJOR, MINOR, STAMP)`, history by stamp first, then each partition in order."""
    history: dict[Any, int] = {}
    latest: dict[tuple[Any, int], int] = {}
    for identity, major, minor, stamp in rows:
        before = max_of(history.get(identity), latest.get((identity, major)))
        if is_duplicate(stamp, before, horizon_us):
            yield major, minor
        elif major < LOG_ORDER:
            history[identity] = max(stamp, history.get(identity, stamp))
        else:
            latest[identity, major] = stamp


def max_of(left: int | None, right: int | None) -> int | None:
    """The greater of two stamps, either of which may be missing."""
    return right if left is None else left if right is None else max(left, right)


def is_duplicate(stamp_us: int, before_us: int | None, horizon_us: int) -> bool:
    """Whether an event is dropped, given the greatest stamp of the counted events of its id that precede it."""
    return before_us is not None and stamp_us - before_us < horizon_us
