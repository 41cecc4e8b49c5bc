"""The Lambda merge, once: a key's generation and deltas at t, become values with a status. No input or output, no Polars."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence

import numpy as np

from twofold.algebra import reading, tiles
from twofold.algebra.kinds import AHEAD, PRESENT, STALE, STATUSES
from twofold.algebra.programme import Slot, Wanted, Words, assemble, new_areas
from twofold.algebra.windows import SLACK_US, Levels
from twofold.instants import BEGIN_US, US_PER_SECOND
from twofold.plan.answers import Answer, Decoding
from twofold.plan.counts import Failures
from twofold.plan.own import OpaquePart, compiled_part, meaning_of, opaque_part
from twofold.plan.serving import FeaturePlan, SlotPlan, ViewPlan

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


def exact_from(plan: ViewPlan, base_us: int) -> int:
    """The first t that a generation of the clock `base_us` answers exactly; over all time that is every t above the key's events."""
    return BEGIN_US if all(window.width_us is None for window in plan.windows) else base_us - SLACK_US


class ViewReader:
    """Merges blobs of one view version; safe to use from several threads."""

    def __init__(self, plan: ViewPlan) -> None:
        self.plan, self._opaque = plan, opaque_part(plan)
        self._programme = programme_of(plan)
        self._compiled = compiled_part(plan).features
        self._words = [wanted_of(plan, feature).words for feature in self._compiled]
        self._decoding = Decoding(plan, self._compiled, self._words)
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

    def read(
        self,
        blobs: Sequence[bytes | None],
        t_us: int,
        asked_us: int | None = None,
        exact_from_us: int = BEGIN_US,
        greatest: int | None = None,
    ) -> Answer:
        """The key's features at t from its blobs (generation, deltas), in any order.

        `asked_us` is the instant that the age counts to, where that is not t: a window may end at its build. Below `exact_from_us`
        (see `exact_from`) nothing is exact, also for a key without blobs: its events may have been too old to be kept. `greatest` is
        what that method says of the blobs, where the caller knows.
        """
        work, decoding = self._work(), self._decoding
        end = work.lay(blobs)
        unlike_present = reading.read(work.words, end, t_us, exact_from_us, self._programme, work.areas, work.out, work.codes)
        if greatest is None:
            greatest = self.greatest(blobs)
        age = None if greatest == tiles.NEVER else (t_us if asked_us is None else asked_us) - greatest
        is_stale = age is not None and self.plan.max_age_us is not None and age > self.plan.max_age_us
        codes = bytes(work.code_bytes) if unlike_present else decoding.all_present
        answer = decoding.answer(work.out_bytes, codes, work.bytes, is_stale, age)
        if self._opaque is None:
            return answer
        return self._with_opaque(answer, self._opaque, [blob for blob in blobs if blob], t_us, unlike_present >= 0, is_stale)

    def failures(self) -> Failures:
        """How many calls of a person's code have failed here."""
        return Failures() if self._opaque is None else self._opaque.failures()

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

    def _work(self) -> _Work:
        """What is this thread's own."""
        try:
            work: _Work = self._scratch.work
        except AttributeError:
            areas = new_areas(self._programme, len(self.plan.windows) + 1)
            work = self._scratch.work = _Work(areas, sum(self._words), len(self._compiled))
        return work


class _Work:
    """What a thread's reads go through again and again: a key's blobs laid out as words, the kernel's scratch, what it writes."""

    def __init__(self, areas: Words, words: int, features: int) -> None:
        self.areas = areas
        self.out, self.codes = np.zeros(words, np.int64), np.zeros(features, np.uint8)
        self.out_bytes, self.code_bytes = self.out.data.cast("B"), self.codes.data
        self._make_room(_FIRST_WORDS)

    def _make_room(self, words: int) -> None:
        self.words = np.zeros(words, np.int64)
        self._ends = self.words.data
        self.bytes = self._ends.cast("B")

    def lay(self, blobs: Sequence[bytes | None]) -> int:
        """Lay a key's blobs out in `words`, each behind a word that says where it ends; returns where the last one does."""
        at = 0
        for blob in blobs:
            if blob:
                end = at + 1 + len(blob) // 8
                if end > self.words.size:
                    self._make_room(2 * sum(1 + len(blob) // 8 for blob in blobs if blob))
                    return self.lay(blobs)
                self._ends[at] = end
                self.bytes[8 * at + 8 : 8 * end] = blob
                at = end
        return at


_FIRST_WORDS = 4096


def age_s(age_us: int | None) -> float | None:
    """Seconds of an age, for answers."""
    return None if age_us is None else age_us / US_PER_SECOND
