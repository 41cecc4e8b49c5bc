"""The laws of an aggregate, each a function that raises AssertionError where one is broken; what values to try, strategies say.

class TestMine:
    def test_laws(self):
        check_laws(Mine("float"))
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from twofold.algebra.base import Aggregate, Item, Window, registered
from twofold.instants import DAY_US

Items = Sequence[Item]
Law = Callable[[Aggregate[Any], Items, Items, Items], None]

READ_WINDOW = Window(None, 2**62 - 1, DAY_US)
"""The window of `value_of`: it reaches every event, and has a width for aggregates that need one."""
_READ_TIMES = 10


def every_aggregate() -> dict[str, Aggregate[Any]]:
    """Every registered aggregate over every input and with every example of its parameters, by a name that says so."""
    return {
        "-".join([name, kind, *(f"{key}={value}" for key, value in parameters.items())]): cls(kind, **parameters)
        for name, cls in sorted(registered().items())
        for kind in sorted(cls.accepts)
        for parameters in cls.examples
    }


def state_of(aggregate: Aggregate[Any], items: Items) -> Any:
    """The state of some events, added one by one."""
    state = aggregate.zero()
    for item in items:
        state = aggregate.add(state, item)
    return state


def value_of(aggregate: Aggregate[Any], state: Any) -> Any:
    """The result of a state, read in `READ_WINDOW` at its end."""
    return aggregate.result(state, READ_WINDOW.end_us, READ_WINDOW)


def same_value(left: Any, right: Any) -> bool:
    """Whether two values are the same: of one type, floats bit for bit."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same_value, left, right))
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    return bool(left == right)


def assert_same(aggregate: Aggregate[Any], left: Any, right: Any, why: str) -> None:
    """Two states are equal, have the same words and give the same value."""
    assert left == right, f"{why}: {left} != {right}"
    assert aggregate.encode(left) == aggregate.encode(right), f"{why}: equal states have different words"
    assert same_value(value_of(aggregate, left), value_of(aggregate, right)), f"{why}: equal states give different values"


def zero_is_the_identity(aggregate: Aggregate[Any], first: Items, second: Items, third: Items) -> None:
    """Merging the state of no events, from either side, changes nothing."""
    state = state_of(aggregate, first)
    assert_same(aggregate, aggregate.merge(aggregate.zero(), state), state, "zero merged with a state")
    assert_same(aggregate, aggregate.merge(state, aggregate.zero()), state, "a state merged with zero")


def merge_is_associative(aggregate: Aggregate[Any], first: Items, second: Items, third: Items) -> None:
    """Grouping never shows."""
    a, b, c = (state_of(aggregate, part) for part in (first, second, third))
    left = aggregate.merge(aggregate.merge(a, b), c)
    right = aggregate.merge(a, aggregate.merge(b, c))
    assert_same(aggregate, left, right, "(a + b) + c and a + (b + c)")


def merge_is_commutative(aggregate: Aggregate[Any], first: Items, second: Items, third: Items) -> None:
    """Order never shows."""
    a, b = state_of(aggregate, first), state_of(aggregate, second)
    assert_same(aggregate, aggregate.merge(a, b), aggregate.merge(b, a), "a + b and b + a")


def merge_is_the_state_of_the_union(aggregate: Aggregate[Any], first: Items, second: Items, third: Items) -> None:
    """Two states merged are the state of both their events, in whatever order these arrive."""
    union = [*first, *second, *third]
    merged = aggregate.merge(aggregate.merge(state_of(aggregate, first), state_of(aggregate, second)), state_of(aggregate, third))
    assert_same(aggregate, merged, state_of(aggregate, union), "merged states and the state of the union")
    shuffled = random.Random(len(union)).sample(union, len(union))
    for order in (union[::-1], shuffled):
        assert_same(aggregate, merged, state_of(aggregate, order), "merged states and the state of the union in another order")


def no_call_changes_its_arguments(aggregate: Aggregate[Any], first: Items, second: Items, third: Items) -> None:
    """A state that is read, added to and merged ten times stays what it was, and so does what came out the first time."""
    a, b = state_of(aggregate, first), state_of(aggregate, second)
    zero, before = aggregate.zero(), [aggregate.encode(a), aggregate.encode(b)]
    merged = aggregate.merge(a, b)
    value, words = value_of(aggregate, merged), aggregate.encode(merged)
    for _ in range(_READ_TIMES):
        for item in third:
            aggregate.add(a, item)
            aggregate.add(merged, item)
            aggregate.add(zero, item)
        again = aggregate.merge(aggregate.merge(a, b), state_of(aggregate, third))
        aggregate.merge(merged, again)
        aggregate.merge(zero, again)
        assert same_value(value_of(aggregate, merged), value), "reading or merging changed a value"
    assert [aggregate.encode(a), aggregate.encode(b)] == before, "reading or merging changed an argument"
    assert aggregate.encode(merged) == words, "merging changed a state that was merged before"
    assert aggregate.encode(zero) == aggregate.encode(aggregate.zero()), "zero was changed"


def words_give_the_state_back(aggregate: Aggregate[Any], first: Items, second: Items, third: Items) -> None:
    """`decode` gives what `encode` was given, and merging goes on from there; words are signed and have 64 bits."""
    a, b = state_of(aggregate, first), state_of(aggregate, second)
    words = aggregate.encode(a)
    assert all(type(word) is int and -(2**63) <= word < 2**63 for word in words), "a word has more than 64 bits"
    decoded = aggregate.decode(words)
    assert_same(aggregate, decoded, a, "a state decoded from its words")
    assert_same(aggregate, aggregate.merge(decoded, b), aggregate.merge(a, b), "a decoded state merged")


def results_are_pure(aggregate: Aggregate[Any], first: Items, second: Items, third: Items) -> None:
    """The result depends on nothing but state, t and window."""
    state = state_of(aggregate, first)
    value = value_of(aggregate, state)
    value_of(aggregate, state_of(aggregate, second))
    other = type(aggregate)(aggregate.input_type, **aggregate.parameters)
    assert same_value(value_of(aggregate, state), value), "a second reading gives another value"
    assert same_value(value_of(other, state_of(other, first)), value), "another object of the class gives another value"


LAWS: tuple[Law, ...] = (
    zero_is_the_identity,
    merge_is_associative,
    merge_is_commutative,
    merge_is_the_state_of_the_union,
    no_call_changes_its_arguments,
    words_give_the_state_back,
    results_are_pure,
)


def check_laws(aggregate: Aggregate[Any], laws: Sequence[Law] = LAWS, examples: int | None = None) -> None:
    """Try the laws on random events, hostile ones among them; raises AssertionError with the smallest events that break one.

    `examples` says on how many (None: as the settings of Hypothesis say). Needs the extra `testing`.
    """
    from hypothesis import given, settings

    from twofold.testing.strategies import three_parts

    @settings(max_examples=examples or settings().max_examples, deadline=None)
    @given(three_parts(aggregate.input_type))
    def hold(parts: tuple[Items, Items, Items]) -> None:
        for law in laws:
            law(aggregate, *parts)

    hold()
