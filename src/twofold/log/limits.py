"""What every log refuses, with one text for all of them; nothing is stored here."""

from __future__ import annotations

from collections.abc import Sequence

from twofold.errors import DataError, DefinitionError, LogMismatch
from twofold.instants import to_us
from twofold.log.base import Append

MAX_COUNT = 2**31 - 1
MAX_PARTITIONS = 65_534
"""Each has a shard of the store, which has two bytes, and the last two are `plan.layout.META` and `plan.layout.MEMBERS`."""
MAX_PAYLOAD_BYTES = 512 * 1024 * 1024


def check_partitions(partitions: int) -> int:
    """The number itself; raises DefinitionError where no log can have so many partitions."""
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise DefinitionError(f"a log cannot have {partitions} partitions; give a number from 1 to {MAX_PARTITIONS}")
    return partitions


def check_append(batches: Sequence[Append], now_us: int, partitions: int) -> None:
    """Raises DataError for a batch that no log can hold, before anything is queued: one caller's fault must not fail another's commit."""
    to_us(now_us)
    for batch in batches:
        check_place(batch.source, batch.partition, partitions)
        if not 1 <= batch.count <= MAX_COUNT:
            raise DataError(f"a batch of {batch.source!r} says it has {batch.count} events; it must be 1 to {MAX_COUNT}")
        if not isinstance(batch.payload, bytes):
            raise DataError(f"the payload of a batch of {batch.source!r} is {type(batch.payload).__name__}; it must be bytes")
        if len(batch.payload) > MAX_PAYLOAD_BYTES:
            raise DataError(
                f"a batch of {batch.source!r} has {len(batch.payload)} bytes; append at most {MAX_PAYLOAD_BYTES} at once, in several calls"
            )


def check_source(source: str) -> str:
    """The name itself; raises DataError where the text of a position cannot hold it."""
    if not source.isprintable() or not source or "," in source:
        raise DataError(f"{source!r} cannot be the name of a source in a log; it must be printable and without a comma")
    return source


def check_place(source: str, partition: int, partitions: int) -> None:
    """Raises DataError for a name that no source can have, or a partition that the log does not have."""
    check_source(source)
    if not 0 <= partition < partitions:
        raise DataError(f"partition {partition} of {source!r} does not exist: this log has {partitions}, numbered from 0")


def check_offset(log: str, source: str, partition: int, offset: int, end: int, start: int = 0) -> None:
    """Raises LogMismatch where `offset` lies outside `start .. end`, the end included."""
    if 0 <= offset < start:
        raise LogMismatch(
            f"offset {offset} of {source}/{partition} lies before the start of log {log}, which holds {start} to {end}: earlier events "
            "were dropped after they had been archived; remove HOME/store and run `twofold build`, which goes on from the archive"
        )
    if not 0 <= offset <= end:
        raise LogMismatch(
            f"offset {offset} of {source}/{partition} lies outside log {log}, which holds {start} to {end}; "
            "the offset comes from another log or a newer copy of this one: rebuild from this log what was computed from that one"
        )
