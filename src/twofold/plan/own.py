"""Where a plan meets a person's own aggregates: what a feature means, and the opaque part that follows the compiled words of a blob.

A blob of a view that has such features is `[compiled words][opaque part, padded to whole words]`; words 6 and 7 of the compiled
header are the number of compiled words and of the part's bytes. Compiled code never looks beyond its own words. No Polars here.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from twofold.algebra import opaque, tiles
from twofold.algebra.base import Aggregate, aggregate
from twofold.algebra.guarded import Guarded
from twofold.algebra.own import OPAQUE, class_of_source
from twofold.algebra.words import WIDE_TYPES, decode_any
from twofold.plan.counts import Failures
from twofold.plan.serving import FeaturePlan, ViewPlan

Words = NDArray[np.int64]
_SIZES = struct.Struct("<qq")
_SIZES_AT = 6 * 8


def meaning_of(plan: ViewPlan, feature: FeaturePlan) -> Aggregate[Any]:
    """The aggregate of a feature, built in or a person's own, over the feature's input."""
    source = plan.slots[feature.slot].input
    kind = "event" if source < 0 else plan.inputs[source].type
    if feature.aggregate in plan.aggregates:
        return class_of_source(feature.aggregate, plan.aggregates[feature.aggregate])(kind, **feature.parameters)
    return aggregate(feature.aggregate, kind, {} if kind == "row" else feature.parameters)


def guarded(plan: ViewPlan, feature: FeaturePlan) -> Guarded:
    """The aggregate of an opaque feature, as engines call it."""
    return Guarded(meaning_of(plan, feature), f"aggregate {feature.aggregate} of {plan.name}.{feature.name}")


def is_opaque(plan: ViewPlan, feature: FeaturePlan) -> bool:
    """Whether only the aggregate's own class understands a feature's state."""
    return plan.slots[feature.slot].state == OPAQUE


def compiled_part(plan: ViewPlan) -> ViewPlan:
    """The view without its opaque features: what compiled code sees of it."""
    if not plan.aggregates:
        return plan
    slots = tuple(slot for slot in plan.slots if slot.state != OPAQUE)
    return msgspec.structs.replace(plan, slots=slots, features=tuple(item for item in plan.features if not is_opaque(plan, item)))


def opaque_part(plan: ViewPlan) -> OpaquePart | None:
    """The opaque features of a view; None where it has none."""
    return OpaquePart(plan) if plan.aggregates else None


class OpaquePart:
    """Folds and reads the opaque parts of a view's blobs; its counts of failures apart, it may be shared between threads."""

    def __init__(self, plan: ViewPlan) -> None:
        self.features = [feature for feature in plan.features if is_opaque(plan, feature)]
        first = len(plan.slots) - sum(slot.state == OPAQUE for slot in plan.slots)
        of_slot = {feature.slot: feature for feature in reversed(self.features)}
        slots = [opaque.Slot(guarded(plan, of_slot[i]), plan.slots[i].input) for i in range(first, len(plan.slots))]
        self._names = [(plan.name, of_slot[i].name) for i in range(first, len(plan.slots))]
        self._types = [item.type for item in plan.inputs]
        self.programme = opaque.Programme(
            slots,
            {slot.input: self._types[slot.input] for slot in slots if slot.input >= 0},
            [window.span for window in plan.windows],
            [(feature.slot - first, feature.window) for feature in self.features],
        )

    def fold(
        self, blobs: Sequence[bytes], old: Sequence[bytes | None], events: Words, starts: Words, heap: Words, now_us: int, keeps_raw: bool
    ) -> list[bytes]:
        """New blobs of many keys with their opaque parts: `blobs` are their compiled words, the rest as `tiles.fold` takes it."""
        found = []
        for k, (blob, before) in enumerate(zip(blobs, old, strict=True)):
            mine = [self._event(events, i, heap) for i in range(starts[k], starts[k + 1])]
            part = opaque.fold(self.programme, self._part_of(before), mine, now_us, keeps_raw)
            found.append(blob if part is None else _joined(blob, opaque.encode_part(self.programme, part)))
        return found

    def read(self, blobs: Sequence[bytes], t_us: int) -> list[tuple[Any, int]]:
        """(value, status code) of each of `features` at t from a key's blobs, none of them empty."""
        parts = [part for part in map(self._part_of, blobs) if part is not None]
        return opaque.read(self.programme, parts, t_us)

    def failures(self) -> Failures:
        """How many calls of a person's code have failed; of features that share a state, under the first one's name."""
        failed = [(name, dict(slot.aggregate.failures)) for name, slot in zip(self._names, self.programme.slots, strict=True)]
        return Counter({(*name, call): count for name, calls in failed for call, count in calls.items()})

    def _part_of(self, blob: bytes | None) -> opaque.Part | None:
        if not blob:
            return None
        words, size = _SIZES.unpack_from(blob, _SIZES_AT)
        return opaque.decode_part(self.programme, blob[words * 8 : words * 8 + size])

    def _event(self, events: Words, i: int, heap: Words) -> opaque.Event:
        valid, values = int(events[tiles.VALID, i]), {}
        for source, kind in self.programme.input_types.items():
            if valid >> source & 1:
                values[source] = _value(int(events[tiles.VALUES + source, i]), kind, heap)
        order = (int(events[tiles.MAJOR, i]), int(events[tiles.MINOR, i]))
        return opaque.Event(int(events[tiles.TIME, i]), order, values)


def _value(word: int, kind: str, heap: Words) -> Any:
    if kind in WIDE_TYPES:
        words = (int(heap[word]) + 7) // 8
        return decode_any(tuple(heap[word : word + 1 + words].tolist()), 0, kind)[0]
    return decode_any((word,), 0, kind)[0]


def _joined(blob: bytes, part: bytes) -> bytes:
    joined = bytearray(blob + part + bytes(-len(part) % 8))
    _SIZES.pack_into(joined, _SIZES_AT, len(blob) // 8, len(part))
    return bytes(joined)


def slot_text(name: str, parameters: Mapping[str, Any]) -> str:
    """What tells opaque slots over one input apart."""
    return msgspec.json.encode([name, parameters], order="deterministic").decode()
