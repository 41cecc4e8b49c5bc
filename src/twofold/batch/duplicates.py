"""Which rows of a source are duplicates, without all of its ids in memory; the rule itself is `plan.counting`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.batch.spill import Scratch, estimated_bytes
from twofold.instants import BEGIN_US, DAY_US
from twofold.plan.counting import duplicates_among
from twofold.plan.inputs import MAJOR, MINOR, STAMP
from twofold.plan.serving import SourcePlan

RowsSince = Callable[[int | None], tuple[int, Iterable[pl.DataFrame]]]
"""(at most so many rows; frames of id, MAJOR, MINOR and STAMP) of the rows whose STAMP is not less; None: of all."""


class Places:
    """A set of (MAJOR, MINOR), a bit for each MINOR up to the greatest: 100M rows take 12 MB."""

    def __init__(self) -> None:
        self._bits: dict[int, NDArray[np.uint8]] = {}

    def add(self, places: pl.DataFrame) -> None:
        """Put MAJOR and MINOR of each row in."""
        for (major,), rows in places.group_by(MAJOR):
            minors = rows[MINOR].to_numpy()
            bits = self._bits.get(int(major), np.zeros(0, np.uint8))
            size = int(minors.max()) // 8 + 1
            if size > bits.size:
                bits = np.concatenate([bits, np.zeros(max(size, 2 * bits.size) - bits.size, np.uint8)])
            np.bitwise_or.at(bits, minors >> 3, (1 << (minors & 7)).astype(np.uint8))
            self._bits[int(major)] = bits

    def has(self, rows: pl.DataFrame) -> NDArray[np.bool_]:
        """Whether each row of a frame is in the set."""
        majors, minors = rows[MAJOR].to_numpy(), rows[MINOR].to_numpy()
        found = np.zeros(rows.height, np.bool_)
        for major, bits in self._bits.items():
            at = np.flatnonzero((majors == major) & (minors < bits.size * 8))
            found[at] = (bits[minors[at] >> 3] >> (minors[at] & 7).astype(np.uint8)) & 1
        return found


def duplicates_of(source: SourcePlan, rows_since: RowsSince, since_us: int | None, scratch: Scratch) -> Places:
    """The duplicates among a source's rows, for all rows with event_time >= `since_us` (None: all).

    Whether a row counts hangs on earlier rows of its id, each less than the horizon after the one before. So rows are read from a
    horizon before, and from twice as far back as long as such a chain begins too near to where the reading begins to be known.
    """
    if source.dedupe_us is None or source.id is None:
        return Places()
    # A row that counts lies at most a day beyond its arrival, so its STAMP is not less than this.
    decided_us = None if since_us is None else since_us - DAY_US
    reach = source.dedupe_us
    while decided_us is not None:
        most, frames = rows_since(decided_us - reach)
        if most == rows_since(None)[0]:
            break
        places = _decided(source, most, frames, decided_us, decided_us - reach, scratch)
        if places is not None:
            return places
        reach *= 2
    return _decided(source, *rows_since(None), BEGIN_US, None, scratch) or Places()


def _decided(
    source: SourcePlan, most: int, frames: Iterable[pl.DataFrame], decided_us: int, read_us: int | None, scratch: Scratch
) -> Places | None:
    """The duplicates among these rows; None where a row from `decided_us` on may hang on one before `read_us`."""
    places = Places()
    for part in _by_id(source, most, frames, scratch):
        if read_us is not None and _is_open(source, part, decided_us, read_us):
            return None
        places.add(duplicates_among(source, part))
    return places


def _by_id(source: SourcePlan, most: int, frames: Iterable[pl.DataFrame], scratch: Scratch) -> Iterator[pl.DataFrame]:
    """The rows that have an id, all of one id in the same frame."""
    identity = str(source.id)
    parts = scratch.parts_for(estimated_bytes(most, [source.columns[identity]]))
    wanted = (frame.select(identity, MAJOR, MINOR, STAMP).drop_nulls(identity) for frame in frames)
    if parts == 1:
        if found := list(wanted):
            yield pl.concat(found)
        return
    with scratch.spill(parts) as spill:
        for frame in wanted:
            spill.add(frame, (frame[identity].hash() % parts).cast(pl.Int64).to_numpy())
        for number in range(parts):
            if (part := spill.take(number)) is not None:
                yield part


def _is_open(source: SourcePlan, rows: pl.DataFrame, decided_us: int, read_us: int) -> bool:
    """Whether some row from `decided_us` on ends a chain of rows of its id that begins less than the horizon after `read_us`."""
    horizon = source.dedupe_us or 0
    chains = (
        rows.select(identity=source.id, stamp=STAMP)
        .sort("identity", "stamp")
        .with_columns(
            begins=(pl.col("stamp") - pl.col("stamp").shift() >= horizon).fill_null(True)
            | (pl.col("identity") != pl.col("identity").shift())
        )
        .with_columns(chain=pl.col("begins").cum_sum())
        .group_by("chain")
        .agg(first=pl.col("stamp").min(), last=pl.col("stamp").max())
    )
    return chains.filter((pl.col("last") >= decided_us) & (pl.col("first") < read_us + horizon)).height > 0
