"""The rows of a training set: which events they come from, at which instant, with which weight; not what is joined to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.definitions.expressions import as_expression
from twofold.definitions.model import WEIGHT, Model, Rows
from twofold.errors import DataError
from twofold.keys import encode_key
from twofold.plan.compile import columns_after_steps, time_after_steps
from twofold.plan.inputs import MAJOR, MINOR, evaluated, with_steps

AT = "at"
_SALT = b"twofold sample"


def training_rows(rows: Rows, fields: Mapping[str, str], events: pl.DataFrame) -> pl.DataFrame:
    """`at`, the `fields` and, where it is declared, `weight` of every row to train on, in order of `at`.

    `events` are those of the rows' source that count, before its steps; ties of `at` stand as they lie in history and log. Rows whose
    `at` or weight is null are left out. Raises DataError for a negative weight.
    """
    if rows.sample is not None:
        events = events.filter(pl.Series(sampled(events, rows.source.id, rows.sample)))
    frame = with_steps(events, rows.source.steps)
    if rows.where is not None:
        frame = frame.filter(evaluated(frame, {"where": rows.where})[0])
    made = {AT: time_after_steps(rows.source) if rows.at is None else rows.at}
    if rows.weight is not None:
        made[WEIGHT] = rows.weight
    columns = evaluated(frame, {name: as_expression(expression) for name, expression in made.items()})
    chosen = frame.select(*fields, MAJOR, MINOR).with_columns(columns).with_columns(pl.col(AT).cast(pl.Datetime("us", "UTC")))
    if rows.weight is not None:
        chosen = weighed(chosen, f"rows of source {rows.source.name!r} ({rows.place})")
    return chosen.drop_nulls(AT).sort(AT, MAJOR, MINOR).select(AT, *fields, *(name for name in made if name != AT))


def weighed(frame: pl.DataFrame, what: str) -> pl.DataFrame:
    """The rows that have a weight, as float64. NaN and infinities are null, and a null weight leaves its row out.

    Raises DataError for a negative one.
    """
    weight = pl.col(WEIGHT).cast(pl.Float64)
    frame = frame.with_columns(pl.when(weight.is_finite()).then(weight).alias(WEIGHT)).drop_nulls(WEIGHT)
    below = frame[WEIGHT].filter(frame[WEIGHT] < 0)
    if len(below):
        raise DataError(
            f"{what}: the weight of {len(below)} rows is negative, the first is {below[0]}; a weight says how much a row counts: "
            "give 0 or more, or null to leave the row out"
        )
    return frame


def sampled(events: pl.DataFrame, id: str | None, share: float) -> NDArray[np.bool_]:
    """Which events are in the sample: those whose identity's hash lies in the first `share` of all hashes.

    The identity is the event's id; where that is null, and in a source without one, its position.
    """
    bound = round(share * 2**64)
    ids = [None] * events.height if id is None else events[id].to_list()
    places = zip(events[MAJOR].to_list(), events[MINOR].to_list(), strict=True)
    identities = ((place if own is None else (own,)) for own, place in zip(ids, places, strict=True))
    return np.fromiter((_hash(encode_key(identity)) < bound for identity in identities), np.bool_, events.height)


def _hash(encoded: bytes) -> int:
    """A pinned hash of 64 bits: part of what a dataset is, so it never changes."""
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8, person=_SALT).digest(), "big")


def row_fields(model: Model, rows: Rows, request: Mapping[str, str]) -> dict[str, str]:
    """Type name of each column that a row needs beside `at`: the request's, the group, and what labels are tied by."""
    columns = columns_after_steps(rows.source)
    needed = [*(() if rows.group is None else (rows.group,)), *(key for label in model.labels.values() for key in label.keys)]
    return {**request, **{name: columns[name] for name in needed if name not in request}}
