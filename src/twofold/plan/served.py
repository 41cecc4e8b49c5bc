"""What a replica answered: the record that serving writes and the audit reads."""

from __future__ import annotations

from typing import Any

import msgspec

from twofold.plan.serving import Frozen


class ViewRead(Frozen, frozen=True):
    """How one view was read: its version, its key's values, the generation (None in stream mode), status and age."""

    view: str
    version: str
    generation: str | None
    key: tuple[Any, ...]
    status: str
    age_us: int | None


class Served(Frozen, frozen=True):
    """One answered prediction or vector.

    `offsets` are the applied offsets (after the last event) of the snapshot, `source/partition` -> offset. `columns` are the values
    of the features by model column (None: null). `served_by` is the rung of the ladder: live, cached, default.
    """

    id: str
    model: str
    version: str | None
    at_us: int
    answered_us: int
    served_by: str
    request: dict[str, Any]
    reads: tuple[ViewRead, ...]
    offsets: dict[str, int]
    columns: dict[str, Any]
    prediction: Any
    degraded: str | None = None


def encode_served(record: Served) -> bytes:
    """One line of JSON with its newline: appended whole, so a killed process leaves at most one broken last line."""
    return msgspec.json.encode(record) + b"\n"


_DECODER = msgspec.json.Decoder(Served)


def decode_served(line: bytes) -> Served:
    """The record of a line; raises msgspec.DecodeError for a broken one."""
    return _DECODER.decode(line)
