"""The Lambda merge, once: a key's generation and deltas at t, become values with a status. No input or output, no Polars."""

from __future__ import annotations

import itertools
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twofold.algebra import reading, tiles
from twofold.algebra.kinds import AHEAD, EMPTY, PRESENT, STALE, STATUSES, ZERO_IF_EMPTY
from twofold.algebra.programme import Slot, Wanted, Words, assemble, new_areas
from twofold.algebra.windows import SLACK_US, Levels
from twofold.algebra.words import WIDE_TYPES, decode_value, element_type
from twofold.instants import BEGIN_US, US_PER_SECOND
from twofold.plan.own import OpaquePart, compiled_part, meaning_of, opaque_part
from twofold.plan.serving import FeaturePlan, SlotPlan, ViewPlan

Floats = NDArray[np.float64]
_WORD = struct.Struct("<q")


def programme_of(plan: ViewPlan) -> Words:
    """The merge programme of a view, its opaque features left out."""
    plan = compiled_part(plan)
    return assemble(
        [Slot(slot.state, input_type(plan, slot), slot.input, slot.size) for slot in plan.slots],
        [item.type for item in plan.inputs],
        [window.span for window in plan.windows],
        [wanted_of(plan, feature) for feature in plan.features],
    )


def input_type(plan: ViewPlan, slot: SlotPlan) -> str:
    """Type name of what a slot's state is made of."""
    return "event" if slot.input < 0 else plan.inputs[slot.input].type


def wanted_of(plan: ViewPlan, feature: FeaturePlan) -> Wanted:
    """A feature as programmes have it."""
    kind = input_type(plan, plan.slots[feature.slot])
    if kind == "row":
        return Wanted(feature.slot, feature.window, feature.aggregate)
    meaning = meaning_of(plan, feature)
    return Wanted(feature.slot, feature.window, feature.aggregate, meaning.argument, meaning.result_words)


def oldest_reached(plan: ViewPlan, base_us: int) -> int | None:
    """The oldest event_time that any window of the view reaches from a state compacted at `base_us`; None: all of them."""
    levels = Levels.of([(window.span.reach_us, window.hop_us) for window in plan.windows])
    return None if levels.keeps_all or not levels.hops_us else min(levels.boundaries(base_us))


def single_slot_programme(state: str, input_type: str, size: int = 0) -> Words:
    """The programme of one slot alone, for engines that compute a feature at a time."""
    return assemble([Slot(state, input_type, 0, size)], [input_type], [], [])


@dataclass(frozen=True)
class Answer:
    """A key's features at one instant, in the order of the view's features.

    `values` are Python values, None for null. `statuses` are names of `algebra.kinds.STATUSES`. `age_us` is t minus the greatest
    event_time of the key, None where it has no event.
    """

    values: tuple[Any, ...]
    statuses: tuple[str, ...]
    age_us: int | None

    @property
    def status(self) -> str:
        """The one word for the whole key: the worst of its features' statuses, `empty` only where all are."""
        for name in ("unbuilt", "ahead", "failed", "overflow", "stale", "present"):
            if name in self.statuses:
                return name
        return "empty"


def exact_from(plan: ViewPlan, base_us: int) -> int:
    """The first t that a generation of the clock `base_us` answers exactly; over all time that is every t above the key's events."""
    return BEGIN_US if all(window.width_us is None for window in plan.windows) else base_us - SLACK_US


class ViewReader:
    """Merges blobs of one view version; safe to use from several threads."""

    def __init__(self, plan: ViewPlan) -> None:
        self.plan, self._opaque = plan, opaque_part(plan)
        self._programme = programme_of(plan)
        self._compiled = compiled_part(plan).features
        wanted = [wanted_of(plan, feature) for feature in self._compiled]
        self._places = tuple(itertools.accumulate((item.words for item in wanted), initial=0))
        self._decoders = tuple(_decoder(plan, feature, item.words) for feature, item in zip(self._compiled, wanted, strict=True))
        self._zero_if_empty = tuple(feature.aggregate in ZERO_IF_EMPTY for feature in self._compiled)
        self._all_present = (STATUSES[PRESENT],) * len(self._compiled)
        self._scratch = threading.local()

    def greatest(self, blobs: Sequence[bytes | None]) -> int:
        """The greatest event_time of a key's blobs; below every instant where it has none."""
        greatest = tiles.NEVER
        for blob in blobs:
            if blob:
                (mine,) = _WORD.unpack_from(blob, tiles.GREATEST * 8)
                if mine > greatest:
                    greatest = mine
        return greatest

    def read(self, blobs: Sequence[bytes | None], t_us: int, asked_us: int | None = None, exact_from_us: int = BEGIN_US) -> Answer:
        """The key's features at t from its blobs (generation, deltas), in any order.

        `asked_us` is the instant that the age counts to, where that is not t: a window may end at its build. Below `exact_from_us`
        (see `exact_from`) nothing is exact, also for a key without blobs: its events may have been too old to be kept.
        """
        parts = [blob for blob in blobs if blob]
        joined = b"".join(parts)
        # Writable, as the words that are folded: compiled code knows one type of array then, not two.
        words = np.frombuffer(bytearray(joined), np.int64)
        starts = np.zeros(len(parts) + 1, np.int64)
        for i, blob in enumerate(parts):
            starts[i + 1] = starts[i] + len(blob) // 8
        areas, out, floats, status = self._buffers()
        is_exact = reading.read(words, starts, t_us, self._programme, areas, out, floats, status) and t_us >= exact_from_us
        greatest = self.greatest(parts)
        age = None if greatest == tiles.NEVER else (t_us if asked_us is None else asked_us) - greatest
        is_stale = self.plan.max_age_us is not None and age is not None and age > self.plan.max_age_us
        answer = self._answer(joined, out, floats, status, is_exact, is_stale, age)
        return answer if self._opaque is None else self._with_opaque(answer, self._opaque, parts, t_us, is_exact, is_stale)

    def _with_opaque(self, answer: Answer, opaque: OpaquePart, parts: Sequence[bytes], t_us: int, is_exact: bool, is_stale: bool) -> Answer:
        """The answer with the opaque features in their places."""
        mine = {feature.name: (None, AHEAD) for feature in opaque.features}
        if is_exact:
            mine = dict(zip(mine, opaque.read(parts, t_us), strict=True))
        found = {name: (value, STATUSES[STALE if is_stale and code == PRESENT else code]) for name, (value, code) in mine.items()}
        names = (feature.name for feature in self._compiled)
        found |= dict(zip(names, zip(answer.values, answer.statuses, strict=True), strict=True))
        values, statuses = zip(*(found[feature.name] for feature in self.plan.features), strict=True)
        return Answer(values, statuses, answer.age_us)

    def _buffers(self) -> tuple[Words, Words, Floats, Words]:
        try:
            buffers: tuple[Words, Words, Floats, Words] = self._scratch.buffers
        except AttributeError:
            out = np.zeros(self._places[-1], np.int64)
            areas = new_areas(self._programme, len(self.plan.windows) + 1)
            buffers = self._scratch.buffers = (areas, out, out.view(np.float64), np.zeros(len(self._compiled), np.int64))
        return buffers

    def _answer(self, joined: bytes, out: Words, floats: Floats, status: Words, is_exact: bool, is_stale: bool, age: int | None) -> Answer:
        if not is_exact:
            status[:] = AHEAD
        codes: list[int] = status.tolist()
        if self.plan.is_static:
            is_stale, age = False, None
        words, numbers = out.tolist(), floats.tolist()
        if self.plan.row is not None and codes[0] == PRESENT and _wide_bytes(joined, words[0]) == _NO_ROW:
            codes = [EMPTY] * len(codes)
        values: list[Any] = []
        for place, code, decode, is_zero in zip(self._places, codes, self._decoders, self._zero_if_empty, strict=False):
            if code != PRESENT and not (is_zero and code == EMPTY):
                values.append(None)
            elif decode is None:
                values.append(numbers[place])
            else:
                values.append(decode(joined, words, place))
        names = self._all_present
        if is_stale or any(codes):
            names = tuple([STATUSES[STALE if is_stale and code == PRESENT else code] for code in codes])
        return Answer(tuple(values), names, age)


_NO_ROW = msgspec.msgpack.encode([])
"""The row that deletes a table's key (see `plan.inputs.encode_row`)."""

_Decoder = Callable[[bytes, list[int], int], Any]
"""(the blobs' bytes, the words written, the place of the first of a feature's words) -> its value."""


def _decoder(plan: ViewPlan, feature: FeaturePlan, words: int) -> _Decoder | None:
    """How a feature's words become its value; None for a float."""
    source = plan.slots[feature.slot].input
    if source >= 0 and (columns := plan.inputs[source].columns) is not None:
        column = list(columns).index(feature.parameters["column"])
        return lambda joined, out, place: msgspec.msgpack.decode(_wide_bytes(joined, out[place]))[column]
    kind = element_type(feature.type)
    if kind in WIDE_TYPES:

        def decode(joined: bytes, word: int) -> Any:
            return _wide_bytes(joined, word).decode("utf-8", "surrogatepass")
    else:

        def decode(joined: bytes, word: int) -> Any:
            return decode_value(word, kind)

    if words > 1:
        return lambda joined, out, place: [decode(joined, word) for word in out[place + 1 : place + 1 + out[place]]]
    return None if kind == "float" else lambda joined, out, place: decode(joined, out[place])


def _wide_bytes(joined: bytes, word: int) -> bytes:
    size = int.from_bytes(joined[word * 8 : word * 8 + 8], "little")
    return joined[word * 8 + 8 : word * 8 + 8 + size]


def age_s(age_us: int | None) -> float | None:
    """Seconds of an age, for answers."""
    return None if age_us is None else age_us / US_PER_SECOND
