"""Positions: joined, written and read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import DataError
from twofold.log.base import Position, RecordBatch

sources = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=","), min_size=1)
offsets = st.dictionaries(st.tuples(sources, st.integers(0, 99)), st.integers(0, 2**63 - 1), max_size=5)
positions = st.builds(Position, st.just("log"), offsets)


@given(position=positions)
def test_the_text_of_a_position_is_read_back_as_the_same(position: Position) -> None:
    assert Position.parse(str(position)) == position


def test_the_text_of_a_position_is_in_order() -> None:
    assert str(Position("u", {("b", 0): 1, ("a", 2): 3, ("a", 1): 4})) == "u;a/1=4,a/2=3,b/0=1"
    assert str(Position("u", {})) == "u;"


@pytest.mark.parametrize("text", ["", "u", ";", ";a/0=1", "u;a", "u;a/0", "u;a=1", "u;a/x=1", "u;a/0=x", "u;a/0=-1", "u;a/-1=1", 3, None])
def test_what_is_no_position_is_refused(text: Any) -> None:
    with pytest.raises(DataError, match="is no position"):
        Position.parse(text)


@given(one=positions, other=positions, third=positions)
def test_joined_positions_cover_both_in_any_order(one: Position, other: Position, third: Position) -> None:
    both = one | other
    assert both == other | one
    assert both | one == both
    assert (one | other) | third == one | (other | third)
    for position in (one, other):
        assert all(both.offsets[place] >= offset for place, offset in position.offsets.items())
    assert both.offsets.keys() == one.offsets.keys() | other.offsets.keys()


def test_a_join_leaves_both_as_they_were() -> None:
    one, other = Position("u", {("a", 0): 1}), Position("u", {("a", 0): 2})
    assert (one | other).offsets == {("a", 0): 2}
    assert (one.offsets, other.offsets) == ({("a", 0): 1}, {("a", 0): 2})


def test_positions_of_two_logs_are_not_joined() -> None:
    with pytest.raises(DataError, match="one and two"):
        Position("one", {}) | Position("two", {})


def test_a_batch_ends_after_its_last_event() -> None:
    assert RecordBatch("s", 0, 7, 3, 0, 0, b"").end_offset == 10
