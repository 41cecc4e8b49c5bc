"""All that was ever appended to a source of a home, as rows, whether the log still holds it or not; what of it counts is not known here."""

from __future__ import annotations

import polars as pl

from twofold.log.base import RecordBatch
from twofold.log.records import decoded
from twofold.plan.inputs import all_rows
from twofold.plan.serving import SourcePlan
from twofold.runtime.opened import Opened


def appended(opened: Opened, source: SourcePlan) -> pl.DataFrame:
    """Every row with the system columns, in no particular order; duplicates and those too far in the future too, undecodable ones not.

    From the log itself; what retention has dropped there, from the archive.
    """
    starts = opened.home.log.start_offsets([source.name])
    dropped = opened.home.tables.archive_up_to(source.name, list(starts.values())) if any(starts.values()) else None
    held = [decoded(held_batches(opened, *place), source)[0] for place in starts]
    return all_rows(source.stored, dropped, *held)


def held_batches(opened: Opened, source: str, partition: int) -> list[RecordBatch]:
    """The batches of a partition that are in the log, in order."""
    log, place = opened.home.log, (source, partition)
    start, end = log.start_offsets([source])[place], log.end_offsets([source])[place]
    return log.read(source, partition, start, end - start) if start < end else []
