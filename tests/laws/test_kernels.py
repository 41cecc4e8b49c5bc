"""Compiled states and exact sums against the plain aggregates, bit for bit: values, canonical words, merging, taking away."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twofold.algebra import decay, exact, kinds, powers, states
from twofold.algebra.base import OVERFLOW, Aggregate, Item, registered
from twofold.algebra.decay import DecayedSum
from twofold.algebra.moments import PowerSums, balanced_digits, fixed_point
from twofold.algebra.programme import new_areas, value_kind
from twofold.algebra.wide import wide_words
from twofold.algebra.words import WIDE_TYPES, decode_value, decode_wide, element_type, encode_value, encode_wide
from twofold.instants import BEGIN_US
from twofold.plan.merge import single_slot_programme
from twofold.testing.laws import READ_WINDOW, every_aggregate, same_value, state_of, value_of
from twofold.testing.strategies import LARGEST, SMALLEST, floats, ints, items, three_parts, values

EVERY = [pytest.param(aggregate, id=name) for name, aggregate in every_aggregate().items()]
GROUPS = [param for param in EVERY if param.values[0].state in ("count", "moments1", "moments2", "moments3", "moments4", "histogram")]

NOTHING = np.zeros(0, np.int64)
HOSTILE = {"float": LARGEST, "int": -(2**63)}


class Area:
    """The compiled state of one aggregate, open, with the heap that wide values of its events lie in."""

    def __init__(self, aggregate: Aggregate[Any]) -> None:
        self.aggregate = aggregate
        self.kind, self.value_kind = kinds.KINDS[aggregate.state], value_kind(aggregate.input_type)
        self.words = new_areas(single_slot_programme(aggregate.state, aggregate.input_type, aggregate.size), 1)[0]
        self.heap = np.zeros(1, np.int64)

    def add(self, events: list[Item], sign: int = 1) -> Area:
        for item in events:
            word = 0
            if self.value_kind == kinds.WIDE:
                word = ~self.heap.size
                self.heap = np.concatenate([self.heap, np.array(encode_wide(item.value), np.int64)])
            elif self.aggregate.input_type != "event":
                word = encode_value(item.value, self.aggregate.input_type)
            if sign > 0:
                states.add_event(self.words, 0, self.kind, self.value_kind, item.event_time, *item.order, word, self.heap[:0], self.heap)
            else:
                states.add(self.words, 0, self.kind, self.value_kind, item.event_time, *item.order, word, sign)
        return self

    def closed(self, other: Any = None) -> tuple[int, ...]:
        """Canonical words; `other` are the words that references >= 0 point into."""
        other = np.zeros(1, np.int64) if other is None else other
        size = states.closed_size(self.words, 0, self.kind, self.value_kind, other, self.heap)
        out = np.full(size, -7, np.int64)
        end = states.close(self.words, 0, self.kind, self.value_kind, out, 0, other, self.heap)
        assert end <= size, "closed_size is no upper bound"
        return tuple(out[:end].tolist())

    def merge_closed(self, words: tuple[int, ...]) -> Any:
        """Merge closed words, put behind other words as in a blob; returns the array that holds them."""
        array = np.array([1, 2, 3, *words], np.int64)
        end = states.merge_words(self.words, 0, self.kind, self.value_kind, array, 3, self.heap)
        assert end == array.size, "merge_words did not read the whole state"
        return array

    def value(self, other: Any = None, t: int = READ_WINDOW.end_us) -> Any:
        words = self.aggregate.result_words
        out = np.full(2 * words, -7, np.int64)
        op = kinds.OPS[self.aggregate.name]
        width = READ_WINDOW.width_us
        argument = self.aggregate.argument
        code = states.result(self.words, 0, self.kind, self.value_kind, op, argument, t, width, out, out.view(np.float64), 0, 2)
        if code == kinds.OVERFLOW:
            return OVERFLOW
        if code == kinds.EMPTY and self.aggregate.name not in kinds.ZERO_IF_EMPTY:
            return None
        assert (out[1::2] == -7).all(), "the stride was not kept"
        if words > 1:
            return [self.decoded(int(word), other) for word in out[2 : 2 + 2 * out[0] : 2]]
        return self.decoded(int(out[0]), other)

    def decoded(self, word: int, other: Any) -> Any:
        """The value of a word, which may be a reference."""
        kind = element_type(self.aggregate.result_type)
        if kind not in WIDE_TYPES:
            return decode_value(word, kind)
        source, at = (other, word) if word >= 0 else (self.heap, ~word)
        raw = decode_wide(tuple(source[at : at + wide_words(source, at)].tolist()))
        return raw if self.aggregate.input_type == "row" else raw.decode("utf-8", "surrogatepass")

    def is_zero(self) -> bool:
        states.clear(self.words, 0, self.kind)
        fresh = Area(self.aggregate).words
        is_sums = powers.is_powers(self.kind) or self.kind in (kinds.COUNT, kinds.DECAYED)
        return bool((self.words == fresh).all()) if is_sums else self.words[0] == 0


@pytest.mark.parametrize("aggregate", EVERY)
def test_words_values_and_merging_are_the_plain_ones(aggregate: Aggregate[Any]) -> None:
    @given(three_parts(aggregate.input_type))
    def holds(parts: tuple[list[Item], list[Item], list[Item]]) -> None:
        words_and_value_are_the_plain_ones(aggregate, [*parts[0], *parts[1], *parts[2]])
        merging_is_the_plain_one_of_areas_and_of_words(aggregate, parts[0], parts[1])

    holds()


def test_a_decayed_sum_of_the_first_instant_is_zero_at_the_last() -> None:
    aggregate = DecayedSum("float", half_life="1us")
    words_and_value_are_the_plain_ones(aggregate, [Item(5e-324, BEGIN_US + 1073, (1, 0))])


def words_and_value_are_the_plain_ones(aggregate: Aggregate[Any], events: list[Item]) -> None:
    area, plain = Area(aggregate).add(events), state_of(aggregate, events)
    assert same_value(area.value(), value_of(aggregate, plain))
    assert area.closed() == aggregate.encode(plain)
    assert same_value(area.value(), value_of(aggregate, plain)), "closing changed the state"
    assert area.is_zero(), "clear left something"


def merging_is_the_plain_one_of_areas_and_of_words(aggregate: Aggregate[Any], first: list[Item], second: list[Item]) -> None:
    plain = state_of(aggregate, [*first, *second])
    union, left, right = aggregate.encode(plain), Area(aggregate).add(first), Area(aggregate).add(second)
    right_words, before = right.closed(), right.words.copy()
    array = left.merge_closed(right_words)
    assert left.closed(array) == union
    assert same_value(left.value(array), value_of(aggregate, plain))
    if aggregate.input_type not in WIDE_TYPES:
        for _ in range(10):
            left = Area(aggregate).add(first)
            states.merge_areas(left.words, 0, right.words, 0, left.kind, left.value_kind, NOTHING, NOTHING)
            assert left.closed() == union
        assert (right.words == before).all(), "merging changed the other state"


@pytest.mark.parametrize("aggregate", GROUPS)
def test_what_is_taken_away_again_was_never_there(aggregate: Aggregate[Any]) -> None:
    @given(three_parts(aggregate.input_type), st.booleans())
    def holds(parts: tuple[list[Item], list[Item], list[Item]], reads_between: bool) -> None:
        area = Area(aggregate).add(parts[0]).add(parts[1])
        if reads_between:
            area.value()
        area.add(parts[2]).add(parts[1], -1)
        kept = state_of(aggregate, [*parts[0], *parts[2]])
        assert same_value(area.value(), value_of(aggregate, kept))
        assert area.closed() == aggregate.encode(kept)
        area.add(parts[0], -1).add(parts[2], -1)
        assert area.closed() == aggregate.encode(aggregate.zero())

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", GROUPS)
def test_a_window_slid_over_many_events_is_the_plain_one(aggregate: Aggregate[Any]) -> None:
    @settings(max_examples=30, deadline=None)
    @given(st.lists(items(aggregate.input_type, max_size=40), min_size=5, max_size=10), st.integers(1, 60))
    def holds(parts: list[list[Item]], width: int) -> None:
        events, area = [item for part in parts for item in part], Area(aggregate)
        for i, item in enumerate(events):
            area.add([item])
            if i >= width:
                area.add([events[i - width]], -1)
            assert same_value(area.value(), value_of(aggregate, state_of(aggregate, events[max(0, i - width + 1) : i + 1])))

    holds()


# States that no test could add up event by event: any number of events, sums of any size


def area_of(aggregate: Aggregate[Any], plain: PowerSums) -> Area:
    area = Area(aggregate)
    area.merge_closed(aggregate.encode(plain))
    return area


COUNTS = st.one_of(st.integers(1, 10), st.integers(1, 2**62), st.sampled_from([2**32 - 1, 2**32, 2**32 + 1, 2**53 + 1, 2**62]))


@given(floats(), COUNTS, st.integers(-3, 3))
@example(LARGEST, 2**62, 0)
@example(SMALLEST, 2**62, 1)
@example(LARGEST, 3, 3)
@settings(max_examples=300)
def test_mean_of_up_to_2_to_the_62_events(value: float, count: int, beside: int) -> None:
    mean = registered()["mean"]("float")
    total = fixed_point(value) * count + beside
    if Fraction(abs(total), count << 1088) <= Fraction(LARGEST):
        plain = PowerSums(count, (total,))
        assert same_value(area_of(mean, plain).value(), value_of(mean, plain))


@given(st.lists(floats(), min_size=1, max_size=4), COUNTS)
@example([LARGEST, -LARGEST], 2**61)
@example([SMALLEST, 0.0], 2**32 + 1)
@example([1e16, 1e16 + 2], 2**60)
@settings(max_examples=300)
def test_std_of_up_to_2_to_the_62_events(drawn: list[float], times: int) -> None:
    std = registered()["std"]("float")
    once = state_of(std, [Item(value, 0, (1, i)) for i, value in enumerate(drawn)])
    times = max(2, times // len(drawn))
    plain = PowerSums(once.n * times, tuple(total * times for total in once.sums))
    assert same_value(area_of(std, plain).value(), value_of(std, plain))


@pytest.mark.parametrize("name", ["skew", "kurtosis"])
def test_shapes_of_up_to_2_to_the_62_events(name: str) -> None:
    aggregate = registered()[name]("float")

    @given(st.lists(floats(), min_size=1, max_size=4), COUNTS)
    @example([LARGEST, -LARGEST, LARGEST], 2**62)
    @example([SMALLEST, 0.0, 0.0], 2**62)
    @example([SMALLEST, LARGEST], 2**32 + 1)
    @example([1e16, 1e16 + 2, 1e16 + 2], 2**60)
    @settings(max_examples=200, deadline=None)
    def holds(drawn: list[float], times: int) -> None:
        once = state_of(aggregate, [Item(value, 0, (1, i)) for i, value in enumerate(drawn)])
        times = max(2, times // len(drawn))
        plain = PowerSums(once.n * times, tuple(total * times for total in once.sums))
        assert same_value(area_of(aggregate, plain).value(), value_of(aggregate, plain))

    holds()


# Decayed sums: blocks of half-lives, events of which go and come in every way

BLOCKS = st.integers(-3, 3).map(lambda block: block * decay.BLOCK)
AROUND_BLOCKS = st.builds(lambda start, beside: start + beside, BLOCKS, st.one_of(st.integers(-2, 2), st.integers(0, decay.BLOCK)))


@pytest.mark.parametrize("name", ["decayed_sum", "decayed_mean"])
@pytest.mark.parametrize("kind", ["float", "int"])
def test_decayed_states_over_the_edges_of_blocks(name: str, kind: str) -> None:
    aggregate = registered()[name](kind, half_life="1us")

    @given(st.lists(st.tuples(values(kind), AROUND_BLOCKS), max_size=8), st.integers(0, 8), st.integers(1, 3 * decay.BLOCK))
    @example([(HOSTILE[kind], 0), (1, 2047), (1, 2048), (HOSTILE[kind], 4096)], 2, 1)
    @settings(max_examples=200, deadline=None)
    def holds(drawn: list[tuple[Any, int]], cut: int, after: int) -> None:
        events = [Item(value, time, (1, i)) for i, (value, time) in enumerate(drawn)]
        plain = state_of(aggregate, events)
        left, right = (Area(aggregate).add(part) for part in (events[:cut], events[cut:]))
        for _ in range(2):
            assert left.closed() == aggregate.encode(state_of(aggregate, events[:cut]))
        words, t = right.closed(), max([time for _, time in drawn], default=0) + after
        states.merge_areas(left.words, 0, right.words, 0, left.kind, left.value_kind, NOTHING, NOTHING)
        assert same_value(left.value(t=t), aggregate.result(plain, t, READ_WINDOW))
        assert left.closed() == aggregate.encode(plain)
        other = Area(aggregate).add(events[:cut])
        other.merge_closed(words)
        assert other.closed() == aggregate.encode(plain)
        assert same_value(other.value(t=t), aggregate.result(plain, t, READ_WINDOW))
        assert other.is_zero()

    holds()


@pytest.mark.parametrize("half_life", ["1us", "3us", "700us"])
def test_decayed_sums_of_a_window_in_order_of_time(half_life: str) -> None:
    """Events leave in the order in which they came, also those of blocks that were left out before."""
    total = registered()["decayed_sum"]("float", half_life=half_life)

    @given(st.lists(st.tuples(floats(), AROUND_BLOCKS), max_size=15), st.integers(1, 5))
    @settings(max_examples=200, deadline=None)
    def holds(drawn: list[tuple[float, int]], width: int) -> None:
        events = sorted((Item(value, time, (1, i)) for i, (value, time) in enumerate(drawn)), key=lambda item: item.event_time)
        area = Area(total)
        for i, item in enumerate(events):
            area.add([item])
            if i >= width:
                area.add([events[i - width]], -1)
            plain, t = state_of(total, events[max(0, i - width + 1) : i + 1]), item.event_time + 1
            assert same_value(area.value(t=t), total.result(plain, t, READ_WINDOW))
            assert area.closed() == total.encode(plain)

    holds()


@given(st.integers(-(2**68), 2**68))
@example(2**63 - 1)
@example(2**63)
@example(-(2**63))
@example(-(2**63) - 1)
@example(2**63 - 2**31)
@example(2**63 + 2**31 - 1)
@example(2**95)
@example(-(2**95) - 2**31)
@settings(max_examples=1000)
def test_a_sum_of_integers_near_the_ends_of_int64(total: int) -> None:
    aggregate = registered()["sum"]("int")
    plain = PowerSums(5, (total << 1088,))
    got = area_of(aggregate, plain).value()
    assert got is OVERFLOW if not -(2**63) <= total < 2**63 else same_value(got, total)


@given(st.one_of(st.integers(), st.integers(-(2**2200), 2**2200), st.builds(lambda bits: 1 << bits, st.integers(0, 2200))))
@example(0)
@example(2**31)
@example(-(2**31))
@example(2**31 - 1)
def test_balanced_digits_are_the_number_in_its_one_form(total: int) -> None:
    low, count, *digits = balanced_digits(total)
    assert len(digits) == count
    assert sum(digit << (32 * (low + i)) for i, digit in enumerate(digits)) == total
    assert all(-(2**31) <= digit < 2**31 for digit in digits)
    assert not digits or (digits[0] and digits[-1])


@given(st.lists(st.tuples(ints(), st.sampled_from([1, -1])), max_size=50))
def test_normalise_brings_any_digits_into_the_canonical_form(added: list[tuple[int, int]]) -> None:
    area = Area(registered()["sum"]("int"))
    for value, sign in added:
        exact.add_int(area.words, powers.FIRST, value, sign)
    exact.normalise(area.words, powers.FIRST, exact.BINS_1)
    low, high = area.words[powers.FIRST + exact.LO], area.words[powers.FIRST + exact.HI]
    digits = area.words[powers.FIRST + exact.DIGITS :][low : high + 1].tolist()
    total = sum(value * sign for value, sign in added)
    assert [low if digits else 0, len(digits), *digits] == balanced_digits(total << 1088)


def test_many_additions_between_two_readings_stay_exact() -> None:
    """Digits grow beyond 32 bits and are brought back in time: the count of a state stands near where that happens."""
    area, aggregate = Area(registered()["std"]("int")), registered()["std"]("int")
    extreme = Item(2**63 - 1, 0, (1, 0))
    plain = PowerSums(exact.SAFE_ADDITIONS - 3, tuple((exact.SAFE_ADDITIONS - 3) * fixed_point(extreme.value) ** p for p in (1, 2)))
    area.merge_closed(aggregate.encode(plain))
    for _ in range(6):
        area.add([extreme])
        plain = aggregate.add(plain, extreme)
    assert area.closed() == aggregate.encode(plain)
    assert same_value(area.value(), 0.0)
