"""Dead letters of a home: shown, appended again as new events, dropped; how they come about is the speed layer's affair."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from twofold.errors import DataError
from twofold.fail_points import fail_point
from twofold.instants import to_us
from twofold.plan.counting import FUTURE_TOLERANCE_US
from twofold.plan.layout import dead_letter_key
from twofold.plan.serving import SourcePlan
from twofold.runtime.tasks import TASK_WAIT_S, alone
from twofold.store.base import commit
from twofold.stream.dead_letters import DeadLetter, dead_letters

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened

Place = tuple[int, int]
"""Partition and offset."""


class Replayed(msgspec.Struct):
    """How many letters were appended again, and of the others, which stay, the reasons by `partition/offset`."""

    appended: int = 0
    refused: dict[str, str] = msgspec.field(default_factory=dict)


def letters_of(project: Opened, source: str | None = None, places: Collection[Place] | None = None) -> list[DeadLetter]:
    """Dead letters by partition, source and offset. Raises DataError for a place at which there is none."""
    if source is not None:
        project.compiled.source(source)
    for place in places or ():
        if not (isinstance(place, tuple | list) and [type(part) for part in place] == [int, int]):
            raise DataError(f"{place!r} is no place of a dead letter; give (partition, offset) for each, as in [(0, 5)]")
    with project.home.store.snapshot() as snapshot:
        found = [
            letter
            for letter in dead_letters(snapshot, project.home.log.partitions, source)
            if source is None or letter.source == source
            if places is None or (letter.partition, letter.offset) in places
        ]
    missing = set(places or ()) - {(letter.partition, letter.offset) for letter in found}
    if missing:
        shown = ", ".join(f"{partition}/{offset}" for partition, offset in sorted(missing))
        raise DataError(
            f"source {source!r} has no dead letter at {shown} (partition/offset); `twofold dead-letters list` shows those it has"
        )
    return found


def letter_table(letters: Collection[DeadLetter]) -> pl.DataFrame:
    """A row a letter: source, partition, offset, count, reason, arrival, and `content`: its row as JSON, or the payload in base64."""
    instant = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "source": pl.Series([letter.source for letter in letters], dtype=pl.String),
            "partition": pl.Series([letter.partition for letter in letters], dtype=pl.Int64),
            "offset": pl.Series([letter.offset for letter in letters], dtype=pl.Int64),
            "count": pl.Series([letter.count for letter in letters], dtype=pl.Int64),
            "reason": pl.Series([letter.reason for letter in letters], dtype=pl.String),
            "arrival": pl.Series([letter.arrival_us for letter in letters], dtype=pl.Int64).cast(instant),
            "content": pl.Series([content_of(letter) for letter in letters], dtype=pl.String),
        }
    )


def content_of(letter: DeadLetter) -> str:
    """What the letter holds, as text."""
    return letter.payload or "" if letter.row is None else msgspec.json.encode(letter.row).decode()


def replay(project: Opened, source: str, places: Collection[Place] | None, rows: Mapping[Place, Mapping[str, Any]]) -> Replayed:
    """What `Opened.replay` says."""
    with alone(project.home, "replay", TASK_WAIT_S):
        return _replay(project, source, places, rows)


def _replay(project: Opened, source: str, places: Collection[Place] | None, rows: Mapping[Place, Mapping[str, Any]]) -> Replayed:
    """The caller has the lock for it: who sends letters again at the same time would append each twice."""
    plan, report = project.compiled.source(source), Replayed()
    for letter in letters_of(project, source, {*(places or ()), *rows} if places is not None or rows else None):
        row = rows.get((letter.partition, letter.offset), letter.row)
        try:
            project.append(source, [_acceptable(project, plan, letter, row)])
        except DataError as error:
            report.refused[f"{letter.partition}/{letter.offset}"] = str(error)
            continue
        report.appended += 1
        fail_point("replay.appended")
        # Only now: killed in between, the event comes twice, which its id makes harmless; the other way round it would be lost.
        _delete(project, letter)
        fail_point("replay.removed")
    return report


def _acceptable(project: Opened, plan: SourcePlan, letter: DeadLetter, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row without what the source does not take. Raises DataError where it would be a dead letter again."""
    if row is None:
        raise DataError(f"its payload cannot be decoded ({letter.reason}); give its rows in a file")
    known = dict(row) if letter.row != row else {name: value for name, value in row.items() if name in plan.columns}
    event_time = known.get(str(plan.time))
    if isinstance(event_time, str | int) and to_us(event_time) - project.home.clock.now_us() > FUTURE_TOLERANCE_US:
        raise DataError("its event_time still lies too far beyond its arrival; give it a right one in a file, or wait")
    return known


def drop(project: Opened, source: str, places: Collection[Place] | None) -> int:
    """What `Opened.drop_dead_letters` says."""
    with alone(project.home, "replay", TASK_WAIT_S):
        letters = letters_of(project, source, places)
        for letter in letters:
            _delete(project, letter)
    return len(letters)


def _delete(project: Opened, letter: DeadLetter) -> None:
    commit(project.home.store, lambda txn: txn.delete(dead_letter_key(letter.source, letter.partition, letter.offset)))
