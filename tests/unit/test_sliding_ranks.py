"""The ordered multiset against a sorted list, places against sorted sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.algebra import kinds, sliding_ranks
from twofold.algebra.words import encode_value
from twofold.testing.strategies import values


@pytest.mark.parametrize("codes", [1, 2, 16, 17, 255, 256, 257, 5000])
def test_the_multiset_is_a_sorted_list(codes: int) -> None:
    counts, begins = sliding_ranks.new_multiset(codes)

    @given(st.data(), st.sampled_from(sorted({1, (codes + 19) // 20, codes})))
    def holds(data: st.DataObject, used: int) -> None:
        code, levels = st.integers(0, used - 1), sliding_ranks.levels_of(used)
        held, beside = sorted(data.draw(st.lists(code, max_size=60))), data.draw(code)
        gone = data.draw(st.lists(st.sampled_from(held), unique=True)) if held else []
        for one in held:
            sliding_ranks.change(counts, begins, levels, one, 1)
        for one in gone:
            sliding_ranks.change(counts, begins, levels, one, -1)
            held.remove(one)
        assert sliding_ranks.total(counts, begins, levels) == len(held)
        assert [sliding_ranks.kth(counts, begins, levels, k) for k in range(len(held))] == held
        for one in [*held, beside]:
            assert sliding_ranks.count_of(counts, begins, one) == held.count(one)
            assert sliding_ranks.next_code(counts, begins, levels, one) == min([other for other in held if other >= one], default=-1)
            if one + 1 < used:
                after = sliding_ranks.next_code(counts, begins, levels, one + 1)
                assert after == min([other for other in held if other > one], default=-1)
        for one in held:
            sliding_ranks.change(counts, begins, levels, one, -1)
        assert not counts.any(), "what was taken out again left something"

    holds()


@pytest.mark.parametrize("kind", ["float", "int"])
def test_places_are_those_among_the_distinct_values_of_the_group(kind: str) -> None:
    @given(st.lists(st.lists(st.one_of(st.none(), values(kind)), max_size=20), max_size=5), st.booleans())
    def holds(groups: list[list[Any]], any_null: bool) -> None:
        groups = groups if any_null else [[value for value in group if value is not None] for group in groups]
        drawn = [value for group in groups for value in group]
        starts = np.cumsum([0, *map(len, groups)])
        words = np.array([0 if value is None else encode_value(value, kind) for value in drawn], np.int64)
        ranks = np.cumsum([0, *(value is not None for value in drawn)]) if any_null else np.empty(0, np.int64)
        places, at_place = sliding_ranks.places_within(starts, words, ranks, kinds.FLOAT if kind == "float" else kinds.INT)
        for start, group in zip(starts.tolist(), groups, strict=False):
            distinct = sorted({value for value in group if value is not None})
            expected = [-1 if value is None else start + distinct.index(value) for value in group]
            assert places[start : start + len(group)].tolist() == expected
            assert at_place[start : start + len(distinct)].tolist() == [encode_value(value, kind) for value in distinct]

    holds()
