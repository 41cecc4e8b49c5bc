"""A predictor for each of several labels in one file, each in the format of its own library."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from twofold.errors import Corrupt
from twofold.predictors.base import FORMATS, Matrix, Predictor, library


class Member(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One predictor: its library's format and what that exported."""

    format: str
    content: bytes


_DECODER = msgspec.msgpack.Decoder(tuple[Member, ...])


def pack(members: Sequence[tuple[str, bytes]]) -> bytes:
    """One file of (format, content), in their order; the same bytes for the same members."""
    return msgspec.msgpack.encode([Member(*member) for member in members])


def load(content: bytes, what: str, columns: Sequence[str]) -> Predictor:
    """The predictor in what `pack` wrote; raises Corrupt where it is nothing such, and what each library raises."""
    try:
        members = _DECODER.decode(content)
    except msgspec.DecodeError as error:
        raise _corrupt(what, str(error)) from error
    if not members or any(member.format not in FORMATS for member in members):
        raise _corrupt(what, f"it holds the formats {', '.join(member.format for member in members) or 'of nothing'}")
    loaded = [library(member.format).load(member.content, f"{what} (label {i})", columns) for i, member in enumerate(members)]
    return SeveralPredictor(loaded)


def _corrupt(what: str, why: str) -> Corrupt:
    return Corrupt(f"{what} is no file of several predictors: {why}; restore the file from a copy, or train again")


class SeveralPredictor:
    """Predictions of several predictors side by side; each sees the same inputs and gives one value a row."""

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.columns = members[0].columns
        self._members = tuple(members)

    def predict_one(self, row: Matrix) -> list[float]:
        return [float(member.predict_one(row)) for member in self._members]  # type: ignore[arg-type]

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        return np.column_stack([member.predict(matrix) for member in self._members])
