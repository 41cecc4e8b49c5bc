"""From the words that a merge wrote to a key's values with their statuses; how they are computed is not known here."""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from twofold.algebra.kinds import AHEAD, EMPTY, PRESENT, STALE, STATUSES, ZERO_IF_EMPTY
from twofold.algebra.words import WIDE_TYPES, decode_value, element_type
from twofold.plan.serving import FeaturePlan, Frozen, ViewPlan


class Answer(Frozen, frozen=True, gc=False):
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
        return _worst(self.statuses)


@functools.lru_cache(4096)
def _worst(statuses: tuple[str, ...]) -> str:
    for name in ("unbuilt", "ahead", "failed", "overflow", "stale", "present"):
        if name in statuses:
            return name
    return "empty"


class Decoding:
    """How the words of a view's compiled features become an `Answer`; safe to use from several threads."""

    def __init__(self, plan: ViewPlan, features: Sequence[FeaturePlan], words: Sequence[int]) -> None:
        self._is_static, self._has_rows = plan.is_static, plan.row is not None
        self._zero_if_empty = tuple(feature.aggregate in ZERO_IF_EMPTY for feature in features)
        formats = [_format(plan, feature) or "q" * count for feature, count in zip(features, words, strict=True)]
        self._unpack = struct.Struct("<" + "".join(formats)).unpack_from
        places = list(itertools.accumulate(words, initial=0))
        self._places = tuple(places[:-1])
        self._is_one_word_each = places[-1] == len(features)
        self._decoders = [
            (i, place, _decoder(plan, feature, count))
            for i, (feature, place, count) in enumerate(zip(features, self._places, words, strict=True))
            if _format(plan, feature) is None
        ]
        self._known: dict[tuple[bytes, bool], tuple[tuple[str, ...], tuple[int, ...]]] = {}
        self.all_present = bytes([PRESENT]) * len(features)
        self.all_ahead = bytes([AHEAD]) * len(features)

    def answer(self, out: memoryview, codes: bytes, blobs: memoryview, is_stale: bool, age_us: int | None) -> Answer:
        """The answer of the words `out` with a status code a feature; references among them point into `blobs`."""
        if self._is_static:
            is_stale, age_us = False, None
        words = self._unpack(out)
        if self._has_rows and codes[0] == PRESENT and _wide_bytes(blobs, words[0]) == _NO_ROW:
            codes = bytes([EMPTY]) * len(codes)
        statuses, nulls = self._known.get((codes, is_stale)) or self._learned(codes, is_stale)
        found = words if self._is_one_word_each else [words[place] for place in self._places]
        if nulls or self._decoders:
            found = list(found)
            for i, place, decode in self._decoders:
                if i not in nulls:
                    found[i] = decode(blobs, words, place)
            for i in nulls:
                found[i] = None
        return Answer(tuple(found), statuses, age_us)

    def _learned(self, codes: bytes, is_stale: bool) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """(the names of status codes, which features are null then); the few patterns that occur are kept."""
        statuses = tuple([STATUSES[STALE if is_stale and code == PRESENT else code] for code in codes])
        nulls = [
            i
            for i, (code, is_zero) in enumerate(zip(codes, self._zero_if_empty, strict=True))
            if code != PRESENT and not (is_zero and code == EMPTY)
        ]
        if len(self._known) >= _MOST_PATTERNS:
            self._known.clear()
        self._known[codes, is_stale] = found = statuses, tuple(nulls)
        return found


_MOST_PATTERNS = 1024
_NO_ROW = msgspec.msgpack.encode([])
"""The row that deletes a table's key (see `plan.inputs.encode_row`)."""

_Decoder = Callable[[memoryview, Sequence[Any], int], Any]
"""(the blobs' bytes, the words written, the place of the first of a feature's words) -> its value."""


def _format(plan: ViewPlan, feature: FeaturePlan) -> str | None:
    """How `struct` names the word of a feature, where it needs nothing more to be a Python value."""
    return None if _columns(plan, feature) else {"float": "d", "int": "q", "bool": "?7x"}.get(feature.type)


def _columns(plan: ViewPlan, feature: FeaturePlan) -> dict[str, str] | None:
    """The columns of the rows that a feature is one of; None where it is not made of rows."""
    source = plan.slots[feature.slot].input
    return plan.inputs[source].columns if source >= 0 else None


def _decoder(plan: ViewPlan, feature: FeaturePlan, words: int) -> _Decoder:
    """How a feature's words become its value."""
    if columns := _columns(plan, feature):
        column = list(columns).index(feature.parameters["column"])
        return lambda blobs, out, place: msgspec.msgpack.decode(_wide_bytes(blobs, out[place]))[column]
    kind = element_type(feature.type)
    if kind in WIDE_TYPES:

        def decode(blobs: memoryview, word: int) -> Any:
            return _wide_bytes(blobs, word).decode("utf-8", "surrogatepass")
    else:

        def decode(blobs: memoryview, word: int) -> Any:
            return decode_value(word, kind)

    if words > 1:
        return lambda blobs, out, place: [decode(blobs, word) for word in out[place + 1 : place + 1 + out[place]]]
    return lambda blobs, out, place: decode(blobs, out[place])


def _wide_bytes(blobs: memoryview, word: int) -> bytes:
    size = int.from_bytes(blobs[word * 8 : word * 8 + 8], "little")
    return bytes(blobs[word * 8 + 8 : word * 8 + 8 + size])
