"""Distinct values: the pinned hash, the registers' packed forms, bounds of parameters, and the declared error against `len(set())`."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from twofold.algebra import distinct, hashing, kinds, registers, states
from twofold.algebra.base import OVERFLOW, Item, registered
from twofold.algebra.distinct import Distinct, DistinctExact
from twofold.algebra.hashing import hash_of
from twofold.algebra.programme import new_areas, value_kind
from twofold.algebra.words import WIDE_TYPES, encode_any
from twofold.errors import DefinitionError
from twofold.instants import to_datetime
from twofold.plan.merge import single_slot_programme
from twofold.tables.point_in_time import _hashes
from twofold.testing.laws import state_of, value_of
from twofold.testing.strategies import texts, values

TYPES = ["int", "float", "bool", "datetime", "str", "category"]
PINNED = [
    ("int", 1, 0xE220A8397B1DCDAF),  # the first number of SplitMix64 from the seed 0, for the tag of integers is 1
    ("int", 0, 0x910A2DEC89025CC1),  # and from the seed 1
    ("int", -1, 0xF3203E9039F4A821),
    ("int", 2**63 - 1, 0x2BD3A93E4C5407BE),
    ("bool", True, 0xE220A8397B1DCDAF),
    ("float", 0.0, 0xE220A8397B1DCDAF),
    ("float", 1.0, 0x88D7C35BBBF3EDED),
    ("float", -0.1, 0x2BD2C02C909AAE3D),
    ("datetime", to_datetime(1_700_000_000_123_456), 0x72BB228AA745905E),
    ("str", "", 0x975835DE1C9756CE),
    ("str", "a", 0xA763FD1C59E2164A),
    ("str", "eight by", 0xADDE4E62B671AED0),
    ("str", "longer than a word", 0x9CE2792ABE16B483),
    ("category", "\u00e9\0x", 0x9DDE7C5E302FBEC6),
]


@pytest.mark.parametrize(("kind", "value", "hashed"), PINNED)
def test_the_hash_is_pinned(kind: str, value: Any, hashed: int) -> None:
    """It lies in stored states: another hash would count every value twice."""
    assert f"{hash_of(value, kind):016x}" == f"{hashed:016x}"


@pytest.mark.parametrize("kind", TYPES)
def test_the_compiled_hash_is_the_plain_one(kind: str) -> None:
    @given(values(kind))
    def holds(value: Any) -> None:
        words = np.array([7, *encode_any(value, kind)], np.int64)
        got = hashing.hash_wide(words, 1) if kind in WIDE_TYPES else hashing.hash_word(words[1], value_kind(kind))
        assert got & (2**64 - 1) == hash_of(value, kind)

    holds()


@given(st.lists(st.one_of(st.none(), texts())))
def test_hashes_of_a_column_are_those_of_its_texts(drawn: list[str | None]) -> None:
    got = _hashes(pl.Series(drawn, dtype=pl.String)).tolist()
    assert [word & (2**64 - 1) for word in got] == [hash_of(text or "", "str") for text in drawn]


@pytest.mark.parametrize("p", [4, 7, 12, 14])
def test_registers_of_any_filling_are_the_plain_ones(p: int) -> None:
    """Around where all registers become smaller than pairs; merged from parts on both sides of it."""
    aggregate, rng = Distinct("int", 1.04 / math.sqrt(1 << p)), random.Random(p)
    edge = 3 * (1 << p) // 10
    assert aggregate.p == p
    for held in [0, 1, 3, 4, edge - 3, edge, edge + 1, edge + 2, edge + 3, edge + 4, (1 << p) - 1, 1 << p]:
        ranks = {register: rng.randint(1, 65 - p) for register in rng.sample(range(1 << p), held)}
        plain = (held, tuple(sorted(ranks.items())))
        other = (5, tuple(sorted((register, rng.randint(1, 65 - p)) for register in rng.sample(range(1 << p), min(held + 2, 1 << p)))))
        words = aggregate.encode(plain)
        assert aggregate.decode(words) == plain
        assert all(-(2**63) <= word < 2**63 for word in words)
        assert merged(aggregate, words) == (words, value_of(aggregate, plain))
        both = aggregate.merge(plain, other)
        if len(both[1]) < 1 << p or any(rank <= 64 - p for _, rank in both[1]):
            assert merged(aggregate, words, aggregate.encode(other)) == (aggregate.encode(both), value_of(aggregate, both))
            assert merged(aggregate, aggregate.encode(other), words) == (aggregate.encode(both), value_of(aggregate, both))


def merged(aggregate: Distinct | DistinctExact, *closed: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
    """(words, value) of closed states merged by the kernels, as words and as areas."""
    kind, words_kind = kinds.KINDS[aggregate.state], value_kind(aggregate.input_type)
    areas = new_areas(single_slot_programme(aggregate.state, aggregate.input_type, aggregate.size), 2)
    blob = np.array([word for words in closed for word in words], np.int64)
    at = 0
    for _ in closed:
        at = states.merge_words(areas[0], 0, kind, words_kind, blob, at, blob)
    states.merge_areas(areas[1], 0, areas[0], 0, kind, words_kind, blob, blob)
    found = []
    for area in areas:
        out = np.zeros(states.closed_size(area, 0, kind, words_kind, blob, blob), np.int64)
        end = states.close(area, 0, kind, words_kind, out, 0, blob, blob)
        value = np.zeros(1, np.int64)
        code = states.result(area, 0, kind, words_kind, kinds.OPS[aggregate.name], 0, 0, -1, value, value.view(np.float64), 0, 1)
        found.append((tuple(out[:end].tolist()), OVERFLOW if code == kinds.OVERFLOW else int(value[0])))
        states.clear(area, 0, kind)
        assert area[0] == area[2] == 0
        assert kind == kinds.VALUES or not area[2 : registers.RANKS + (1 << area[1])].any(), "clear left something"
    assert found[0] == found[1]
    return found[0]


@given(st.sampled_from(["int", "str"]), st.lists(st.sets(st.integers(0, 60)), min_size=2, max_size=4), st.sampled_from([-20, -1, 0, 1]))
def test_sets_of_any_sizes_are_merged_to_the_plain_ones(kind: str, drawn: list[set[int]], room: int) -> None:
    """Around the bound: the sets together are too many, just one too many, as many as may be, or fewer."""
    aggregate = DistinctExact(kind, max(1, len(set().union(*drawn)) + room))
    at_most = aggregate.at_most
    parts = [(len(part), tuple(sorted(f"{i:03}" if kind == "str" else i for i in part))) for part in drawn]
    parts = [(n, chosen if len(chosen) <= at_most else None) for n, chosen in parts]
    whole = aggregate.zero()
    for part in parts:
        whole = aggregate.merge(whole, part)
    value = value_of(aggregate, whole) if whole[0] else 0
    assert merged(aggregate, *map(aggregate.encode, parts)) == (aggregate.encode(whole), value)


@pytest.mark.parametrize("kind", TYPES)
def test_distinct_exact_is_the_size_of_the_set(kind: str) -> None:
    @given(st.lists(values(kind), max_size=30), st.sampled_from([1, 5, 1000]))
    def holds(drawn: list[Any], at_most: int) -> None:
        aggregate = registered()["distinct_exact"](kind, at_most=at_most)
        got = value_of(aggregate, state_of(aggregate, [Item(value, i, (1, i)) for i, value in enumerate(drawn)]))
        assert got == (len(set(drawn)) if len(set(drawn)) <= at_most else OVERFLOW)

    holds()


# The declared error


@njit
def estimates(area, first, sizes):
    """The estimates of how many integers there are, from `first` on, when they are as many as each of `sizes`."""
    found = np.empty(sizes.size, np.int64)
    for i in range(sizes.size):
        for n in range(sizes[i - 1] if i else 0, sizes[i]):
            registers.insert(area, 0, hashing.hash_word(first + n, kinds.INT))
        found[i] = registers.estimate(area, 0)
    registers.clear(area, 0)
    return found


@pytest.mark.parametrize("p", [6, 10, 12])
def test_the_standard_error_is_the_declared_one(p: int) -> None:
    """Of 120 streams of consecutive integers, each read at six sizes; the same ones each time."""
    streams, sizes = 120, np.array([10, 100, 1000, 10_000, 100_000, 1_000_000])
    area = new_areas(single_slot_programme("registers", "int", p), 1)[0]
    errors = np.array([estimates(area, stream * 10_000_000, sizes) for stream in range(streams)]) / sizes - 1
    declared = 1.04 / math.sqrt(1 << p)
    deviation, bias = np.sqrt((errors**2).mean(axis=0)), np.abs(errors.mean(axis=0))
    # A deviation of so few streams is itself uncertain by 1 / sqrt(2 streams) of it, a mean by the deviation / sqrt(streams);
    # and estimates are rounded.
    assert (deviation <= declared * (1 + 3 / math.sqrt(2 * streams))).all(), deviation
    assert (bias <= 3 * declared / math.sqrt(streams) + 0.5 / sizes).all(), bias
    assert (deviation[2:] >= declared / 4).all(), "no sketch is this good: something else counts"


@pytest.mark.parametrize("kind", TYPES)
def test_few_distinct_values_of_any_type_are_counted_nearly_exactly(kind: str) -> None:
    drawn = {
        "int": [i * 1_000_003 for i in range(200)],
        "float": [i / 7 for i in range(200)],
        "bool": [True, False],
        "datetime": [to_datetime(i * 86_400_000_000) for i in range(200)],
        "str": [f"user {i}" for i in range(200)],
        "category": [chr(0x4E00 + i) for i in range(200)],
    }[kind]
    aggregate = Distinct(kind)
    items = [Item(value, i, (1, i)) for i, value in enumerate([*drawn, *drawn])]
    assert abs(value_of(aggregate, state_of(aggregate, items)) - len(set(drawn))) <= 0.06 * len(drawn)


@pytest.mark.parametrize(("error", "p"), [(0.26, 4), (0.2, 5), (0.1, 7), (0.02, 12), (0.01, 14), (0.008125, 14), (0.0229, 12), (0.023, 11)])
def test_registers_are_the_fewest_that_keep_the_error(error: float, p: int) -> None:
    assert Distinct("int", error).p == p
    assert 1.04 / math.sqrt(1 << p) <= error


@pytest.mark.parametrize("error", [0, 0.008, 0.27, 1, -0.1, math.nan, math.inf, True, "0.02", None])
def test_an_error_that_no_registers_keep_is_refused(error: Any) -> None:
    with pytest.raises(DefinitionError, match=r"give a share from 0.008125 to 0.26"):
        Distinct("int", error)


@pytest.mark.parametrize("at_most", [0, -1, 100_001, 2.0, True, "5", None])
def test_a_bound_that_is_none_is_refused(at_most: Any) -> None:
    with pytest.raises(DefinitionError, match=r"give a whole number from 1 to 100,000"):
        DistinctExact("int", at_most)


def test_the_bias_constant_is_that_of_the_paper() -> None:
    assert abs(distinct.LIMIT * 2 * math.log(2) - 1) < 1e-15
