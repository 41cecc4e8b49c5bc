"""Windows that slide over sets of values, against the plain aggregate of what each row sees: nulls, gaps, events not yet visible."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from twofold.algebra import kinds, sliding, sliding_ranks
from twofold.algebra.base import OVERFLOW, Aggregate, Item, aggregate
from twofold.algebra.hashing import hash_of
from twofold.algebra.programme import new_areas, value_kind
from twofold.algebra.words import encode_value
from twofold.plan.merge import single_slot_programme
from twofold.testing.laws import state_of, value_of
from twofold.testing.strategies import HOSTILE_FLOATS

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("distinct", {"error": 0.26}),
    ("distinct", {"error": 0.02}),
    ("distinct_exact", {"at_most": 4}),
    ("distinct_exact", {"at_most": 1000}),
    ("smallest_k", {"k": 3}),
    ("largest_k", {"k": 1}),
    ("largest_k", {"k": 50}),
]
POOLS: dict[str, list[Any]] = {
    "float": sorted(HOSTILE_FLOATS),
    "int": [-(2**63), -1, 0, *range(5, 300), 2**63 - 1],
    "str": ["", "a", "longer than a word", *(f"text {i}" for i in range(20))],
}
NOTHING = np.empty(0, np.int64)


class Data:
    """Random groups of events, rows of each, and what the rows of windows of random lengths hold."""

    def __init__(self, rng: random.Random, kind: str, has_nulls: bool, has_hidden: bool) -> None:
        sizes = [rng.choice([0, 1, 5, 60, 150]) for _ in range(6)]
        self.kind, self.starts = kind, np.cumsum([0, *sizes])
        pools = [rng.sample(POOLS[kind], rng.randint(1, len(POOLS[kind]))) for _ in sizes]
        self.values = [rng.choice(pool) for pool, size in zip(pools, sizes, strict=True) for _ in range(size)]
        if has_nulls:
            self.values = [None if rng.random() < 0.3 else value for value in self.values]
        held = [value is not None for value in self.values]
        self.ranks = np.cumsum([0, *held]) if has_nulls else NOTHING
        self.positions = np.flatnonzero(held) if has_nulls else NOTHING
        times = [time for size in sizes for time in sorted(rng.randint(0, 1000) for _ in range(size))]
        self.seen = np.array([time + rng.choice([0, 0, 0, 30]) for time in times], np.int64) if has_hidden else NOTHING
        counts = [rng.choice([0, 1, 10, 30]) for _ in sizes]
        t = np.array([instant for count in counts for instant in sorted(rng.randint(0, 1100) for _ in range(count))], np.int64)
        width, starts = rng.choice([3, 50, 400, -1]), np.cumsum([0, *counts])
        low, high, is_hidden = np.empty(t.size, np.int64), np.empty(t.size, np.int64), np.empty(t.size, np.bool_)
        self.times = np.array(times, np.int64)
        sliding.bounds(self.starts, self.times, self.seen, starts, t, t, t, width, 1, 0, low, high, is_hidden)
        self.rows = sliding.Rows(starts, t, t, low, high, is_hidden)

    def expected(self, meaning: Aggregate[Any]) -> list[Any]:
        """The plain aggregate's value of each row."""
        found = []
        for row, t in enumerate(self.rows.t.tolist()):
            seen = [i for i in range(self.rows.low[row], self.rows.high[row]) if not self.seen.size or self.seen[i] < t]
            items = [Item(self.values[i], 0, (1, i)) for i in seen if self.values[i] is not None]
            found.append(value_of(meaning, state_of(meaning, items)))
        return found

    def slid(self, meaning: Aggregate[Any]) -> list[Any]:
        """The engine's."""
        ordered = sorted({value for value in self.values if value is not None})
        is_text, by_place = self.kind == "str", meaning.state != "registers"
        words = np.zeros(len(self.values), np.int64)
        for i, value in enumerate(self.values):
            if value is not None:
                words[i] = ordered.index(value) if is_text else encode_value(value, self.kind)
        kind = value_kind(self.kind)
        places, at_place = sliding_ranks.places_within(self.starts, words, self.ranks, kind)
        if by_place:
            words, kind = places, kinds.INT
        elif is_text:
            words = np.array([np.uint64(hash_of(value or "", "str")) for value in self.values], np.uint64).view(np.int64)
        count, operation = self.rows.t.size, kinds.OPS[meaning.name]
        out, codes = np.zeros(count * meaning.result_words, np.int64), np.zeros((1, count), np.int8)
        areas = new_areas(single_slot_programme(meaning.state, self.kind, meaning.size), 2)
        fresh = areas.copy()
        asked = sliding.Asked(kinds.KINDS[meaning.state], kind, -1, np.array([operation]), np.array([0]), np.array([0]))
        events = sliding.Events(self.times, self.seen, words, self.ranks, self.positions)
        sliding.slide(events, self.rows, asked, areas, sliding.Out(out, out.view(np.float64), codes))
        assert (areas[:, :3] == fresh[:, :3]).all(), "an area was left full"
        values = [self.words_of(ordered, at_place, place) for place in out.tolist()] if meaning.result_words > 1 else []
        found: list[Any] = []
        for row, code in enumerate(codes[0].tolist()):
            held = int(out[row])
            listed = [values[row + (i + 1) * count] for i in range(held)] if values and code == kinds.PRESENT else None
            found.append(OVERFLOW if code == kinds.OVERFLOW else listed if meaning.result_words > 1 else held)
        return found

    def words_of(self, ordered: list[Any], at_place: Any, place: int) -> Any:
        """The value at a place."""
        if not 0 <= place < at_place.size:
            return None
        if self.kind == "str":
            return ordered[at_place[place]] if at_place[place] < len(ordered) else None
        word = at_place[place : place + 1]
        return word.view(np.float64).item() if self.kind == "float" else word.item()


@pytest.mark.parametrize("has_hidden", [False, True], ids=["visible", "hidden"])
@pytest.mark.parametrize("has_nulls", [False, True], ids=["full", "nulls"])
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize(("name", "parameters"), ASKED)
def test_sliding_is_the_plain_aggregate(
    name: str, parameters: dict[str, Any], kind: str, has_nulls: bool, has_hidden: bool, request: pytest.FixtureRequest
) -> None:
    meaning, rng = aggregate(name, kind, parameters), random.Random(f"{request.config.option.hypothesis_seed} {request.node.name}")
    for _ in range(2):
        data = Data(rng, kind, has_nulls, has_hidden)
        assert data.slid(meaning) == data.expected(meaning)
