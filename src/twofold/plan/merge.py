"""The Lambda merge, once: a key's generation and deltas at t, become values with a status. No input or output, no Polars."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twofold.algebra import reading, states, tiles
from twofold.algebra.programme import Slot, Words, assemble, new_areas
from twofold.algebra.states import AHEAD, EMPTY, OVERFLOW, PRESENT, STALE, STATUSES
from twofold.algebra.words import WIDE_TYPES, decode_value
from twofold.instants import US_PER_SECOND
from twofold.plan.serving import ViewPlan

_NULL_STATUSES = (AHEAD, OVERFLOW, states.UNBUILT)


def programme_of(plan: ViewPlan) -> Words:
    """The merge programme of a view."""
    return assemble(
        [Slot(slot.state, "event" if slot.input < 0 else plan.inputs[slot.input].type, slot.input) for slot in plan.slots],
        [item.type for item in plan.inputs],
        [(window.width_us, window.hop_us) for window in plan.windows],
        [(feature.slot, feature.window, feature.aggregate) for feature in plan.features],
    )


def single_slot_programme(state: str, input_type: str) -> Words:
    """The programme of one slot alone, for engines that compute a feature at a time."""
    return assemble([Slot(state, input_type, 0)], [input_type], [], [])


@dataclass(frozen=True)
class Answer:
    """A key's features at one instant, in the order of the view's features.

    `values` are Python values, None for null. `statuses` are names of `algebra.states.STATUSES`. `age_us` is t minus the greatest
    event_time of the key, None where it has no event.
    """

    values: tuple[Any, ...]
    statuses: tuple[str, ...]
    age_us: int | None

    @property
    def status(self) -> str:
        """The one word for the whole key: the worst of its features' statuses, `empty` only where all are."""
        for name in ("unbuilt", "ahead", "overflow", "stale", "present"):
            if name in self.statuses:
                return name
        return "empty"


class ViewReader:
    """Merges blobs of one view version; safe to use from several threads."""

    def __init__(self, plan: ViewPlan) -> None:
        self.plan = plan
        self._programme = programme_of(plan)
        self._features = len(plan.features)
        self._kinds = tuple(feature.type for feature in plan.features)
        self._aggregates = tuple(feature.aggregate for feature in plan.features)
        self._wide = tuple(plan.inputs[plan.slots[f.slot].input].type in WIDE_TYPES and f.aggregate == "last" for f in plan.features)
        self._scratch = threading.local()

    def greatest(self, blobs: Sequence[bytes | None]) -> int:
        """The greatest event_time of a key's blobs; below every instant where it has none."""
        greatest = tiles.NEVER
        for blob in blobs:
            if blob:
                at = tiles.GREATEST * 8
                greatest = max(greatest, int.from_bytes(blob[at : at + 8], "little", signed=True))
        return greatest

    def read(self, blobs: Sequence[bytes | None], t_us: int) -> Answer:
        """The key's features at t from its blobs (generation, deltas), in any order."""
        parts = [blob for blob in blobs if blob]
        joined = b"".join(parts)
        words = np.frombuffer(joined, np.int64)
        starts = np.zeros(len(parts) + 1, np.int64)
        for i, blob in enumerate(parts):
            starts[i + 1] = starts[i] + len(blob) // 8
        areas, out, floats, status = self._buffers()
        is_exact = reading.read(words, starts, t_us, self._programme, areas, out, floats, status)
        greatest = self.greatest(parts)
        age = None if greatest == tiles.NEVER else t_us - greatest
        is_stale = self.plan.max_age_us is not None and age is not None and age > self.plan.max_age_us
        return self._answer(joined, out, status, is_exact, is_stale, age)

    def _buffers(self) -> tuple[Words, Words, NDArray[np.float64], Words]:
        if not hasattr(self._scratch, "buffers"):
            out = np.zeros(self._features, np.int64)
            areas = new_areas(self._programme, len(self.plan.windows) + 1)
            self._scratch.buffers = (areas, out, out.view(np.float64), np.zeros(self._features, np.int64))
        buffers: tuple[Words, Words, NDArray[np.float64], Words] = self._scratch.buffers
        return buffers

    def _answer(self, joined: bytes, out: Words, status: Words, is_exact: bool, is_stale: bool, age: int | None) -> Answer:
        if not is_exact:
            status[:] = AHEAD
        codes = status.tolist()
        if self.plan.row is not None:
            return self._row_answer(joined, int(out[0]), codes[0], is_stale, age)
        values: list[Any] = []
        for i, (word, code) in enumerate(zip(out.tolist(), codes, strict=True)):
            if code in _NULL_STATUSES or (code == EMPTY and self._aggregates[i] not in ("count", "sum")):
                values.append(None)
            elif self._wide[i]:
                values.append(_wide_bytes(joined, word).decode("utf-8", "surrogatepass"))
            else:
                values.append(decode_value(word, self._kinds[i]))
        names = tuple(STATUSES[STALE if is_stale and code == PRESENT else code] for code in codes)
        return Answer(tuple(values), names, age)

    def _row_answer(self, joined: bytes, word: int, code: int, is_stale: bool, age: int | None) -> Answer:
        """A table's row: one status for all its columns; a null stays null and present. A static table has no age."""
        age = None if self.plan.is_static else age
        if code != PRESENT:
            return Answer((None,) * self._features, (STATUSES[code],) * self._features, age)
        values = tuple(msgspec.msgpack.decode(_wide_bytes(joined, word)))
        return Answer(values, (STATUSES[STALE if is_stale and not self.plan.is_static else code],) * self._features, age)


def _wide_bytes(joined: bytes, word: int) -> bytes:
    size = int.from_bytes(joined[word * 8 : word * 8 + 8], "little")
    return joined[word * 8 + 8 : word * 8 + 8 + size]


def age_s(age_us: int | None) -> float | None:
    """Seconds of an age, for answers."""
    return None if age_us is None else age_us / US_PER_SECOND
