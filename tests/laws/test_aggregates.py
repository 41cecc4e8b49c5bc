"""The laws, on every registered aggregate over every type that it accepts; a new aggregate is found by itself."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, given, settings

from twofold.algebra.base import Aggregate, Item, Window, registered
from twofold.algebra.words import element_type, encode_value
from twofold.testing import laws
from twofold.testing.laws import Law, check_laws, state_of, value_of
from twofold.testing.strategies import items, three_parts, values

EVERY = [pytest.param(aggregate, id=name) for name, aggregate in laws.every_aggregate().items()]
ZEROS = {"count": 0, "distinct": 0, "distinct_exact": 0, "sum": 0, "rate": 0, "histogram": 0, "decayed_sum": 0}
"""Of an empty window; the other aggregates are null there."""
NULL_BELOW = {
    "count": 0,
    "decayed_sum": 0,
    "distinct": 0,
    "distinct_exact": 0,
    "sum": 0,
    "rate": 0,
    "histogram": 0,
    "std": 2,
    "var": 2,
    "skew": 3,
    "kurtosis": 4,
}
"""Fewest values of a result; 1 for the other aggregates."""


@pytest.mark.parametrize("aggregate", EVERY)
def test_an_aggregate_keeps_the_laws(aggregate: Aggregate[Any]) -> None:
    """On many examples, but for the quick profile, which is the only one below 50."""
    asked = settings().max_examples
    check_laws(aggregate, examples=asked if asked < 50 else max(100, asked))


@pytest.mark.parametrize("aggregate", EVERY)
def test_null_where_the_semantics_say_so_and_else_of_the_promised_type(aggregate: Aggregate[Any]) -> None:
    python = {"int": int, "float": float, "bool": bool, "str": str, "category": str, "datetime": datetime, "row": bytes}

    @settings(max_examples=min(100, settings().max_examples))  # how many values there are decides, and these are few
    @given(items(aggregate.input_type, max_size=4))
    def holds(some: list[Item]) -> None:
        value = value_of(aggregate, state_of(aggregate, some))
        is_shapeless = aggregate.name in ("skew", "kurtosis") and len({item.value for item in some}) < 2
        assert (value is None) == (len(some) < NULL_BELOW.get(aggregate.name, 1) or is_shapeless)
        if not some and aggregate.name in ZEROS:
            assert value == 0
        each = value if isinstance(value, list) else [value]
        assert isinstance(value, list) == (aggregate.result_words > 1) or value is None
        expected = python[element_type(aggregate.result_type)]
        assert all(one is None or repr(one) == "OVERFLOW" or type(one) is expected for one in each)

    holds()


def test_types_of_results() -> None:
    types = {(some.name, some.input_type): some.result_type for some in laws.every_aggregate().values()}
    assert {kind for (name, _), kind in types.items() if name == "count"} == {"int"}
    assert {kind for (name, _), kind in types.items() if name in ("mean", "std", "var", "share", "rate", "time_since_last")} == {"float"}
    assert [types["sum", kind] for kind in ("float", "int", "bool")] == ["float", "int", "int"]
    assert all(result == kind for (name, kind), result in types.items() if name in ("min", "max", "first", "last", "any", "all"))


def test_the_last_of_equal_times_is_that_of_the_greatest_order() -> None:
    last = registered()["last"]("int")
    tied = [Item(1, 5, (2, 9)), Item(2, 5, (1 << 40, 0)), Item(3, 5, (2, 10)), Item(4, 4, (1 << 41, 7))]
    for order in (tied, tied[::-1]):
        assert value_of(last, state_of(last, order)) == 2
        assert value_of(last, state_of(last, [item for item in order if item.value != 2])) == 3


def test_the_first_of_equal_times_is_that_of_the_least_order() -> None:
    first = registered()["first"]("int")
    tied = [Item(1, 5, (2, 9)), Item(2, 5, (1 << 40, 0)), Item(3, 5, (2, 10)), Item(4, 6, (1, 7))]
    for order in (tied, tied[::-1]):
        assert value_of(first, state_of(first, order)) == 1
        assert value_of(first, state_of(first, [item for item in order if item.value != 1])) == 3


# Planted: aggregates that break one law each, so that the laws are seen to catch them


class Broken(Aggregate[Any]):
    """A correct sum of small integers, for the planted ones to break."""

    name: ClassVar[str] = "broken"
    state: ClassVar[str] = "broken"
    accepts: ClassVar[frozenset[str]] = frozenset({"int"})

    def zero(self) -> Any:
        return 0

    def add(self, state: Any, item: Item) -> Any:
        return state + item.value

    def merge(self, left: Any, right: Any) -> Any:
        return left + right

    def result(self, state: Any, t_us: int, window: Window) -> Any:
        return state

    def encode(self, state: Any) -> tuple[int, ...]:
        return (state % 2**64 - 2**63, state >> 64)

    def decode(self, words: tuple[int, ...]) -> Any:
        return words[0] + 2**63 + (words[1] << 64)


class MutableMerge(Broken):
    """Adds in place: a state read from a store and merged twice counts twice."""

    def zero(self) -> Any:
        return [0]

    def add(self, state: Any, item: Item) -> Any:
        return [state[0] + item.value]

    def merge(self, left: Any, right: Any) -> Any:
        left[0] += right[0]
        return left

    def result(self, state: Any, t_us: int, window: Window) -> Any:
        return state[0]

    def encode(self, state: Any) -> tuple[int, ...]:
        return super().encode(state[0])

    def decode(self, words: tuple[int, ...]) -> Any:
        return [super().decode(words)]


class PlainFloatSum(Broken):
    """Float64 addition: grouping shows."""

    accepts: ClassVar[frozenset[str]] = frozenset({"float"})

    def encode(self, state: Any) -> tuple[int, ...]:
        return (encode_value(float(state), "float"),)


class LatestToArrive(Broken):
    """The last event by arrival instead of by event_time."""

    def zero(self) -> Any:
        return None

    def add(self, state: Any, item: Item) -> Any:
        return item.value

    def merge(self, left: Any, right: Any) -> Any:
        return left if right is None else right

    def encode(self, state: Any) -> tuple[int, ...]:
        return super().encode(state or 0)


class NoIdentity(Broken):
    """A zero that counts."""

    def zero(self) -> Any:
        return 1


class ShortWords(Broken):
    """Words that lose what lies beyond 32 bits."""

    def encode(self, state: Any) -> tuple[int, ...]:
        return (state & 0xFFFFFFFF,)

    def decode(self, words: tuple[int, ...]) -> Any:
        return words[0]


class Grouped(int):
    """An integer that remembers how it was merged, beside its value."""

    depth = 0


class SeveralWords(Broken):
    """Equal states whose words tell how they were merged."""

    def merge(self, left: Any, right: Any) -> Any:
        merged = Grouped(left + right)
        merged.depth = 2 * getattr(left, "depth", 0) + 1
        return merged

    def encode(self, state: Any) -> tuple[int, ...]:
        return (*super().encode(state), getattr(state, "depth", 0))


class ImpureResult(Broken):
    """A result that depends on how often it was asked for."""

    asked = 0

    def result(self, state: Any, t_us: int, window: Window) -> Any:
        self.asked += 1
        return state + self.asked


def test_what_the_planted_ones_break_is_otherwise_right() -> None:
    check_laws(Broken("int"))


PLANTED: list[tuple[type[Aggregate[Any]], Law]] = [
    (MutableMerge, laws.no_call_changes_its_arguments),
    (PlainFloatSum, laws.merge_is_associative),
    (PlainFloatSum, laws.merge_is_the_state_of_the_union),
    (LatestToArrive, laws.merge_is_commutative),
    (LatestToArrive, laws.merge_is_the_state_of_the_union),
    (NoIdentity, laws.zero_is_the_identity),
    (ShortWords, laws.words_give_the_state_back),
    (SeveralWords, laws.merge_is_associative),
    (ImpureResult, laws.results_are_pure),
]


@pytest.mark.parametrize(("broken", "law"), PLANTED, ids=lambda item: item.__name__)
def test_a_planted_bug_is_caught(broken: type[Aggregate[Any]], law: Law) -> None:
    aggregate = broken(next(iter(broken.accepts)))

    @settings(max_examples=1000, phases=[Phase.generate], database=None)
    @given(three_parts(aggregate.input_type))
    def holds(parts: tuple[Any, Any, Any]) -> None:
        law(aggregate, *parts)

    with pytest.raises(AssertionError):
        holds()


@given(values("float"))
def test_floats_are_such_as_pass_ingest(value: float) -> None:
    assert math.isfinite(value)
    assert math.copysign(1, value) == 1 or value != 0


@given(items("int"))
def test_no_two_events_have_one_order(some: list[Item]) -> None:
    assert len({item.order for item in some}) == len(some)
