"""The encoding of keys: injective, ordered, read back, and no key the beginning of another."""

from datetime import UTC, datetime
from enum import Enum, IntEnum

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twofold.errors import SchemaMismatch
from twofold.keys import Key, decode_key, encode_key, partition_of

hostile_texts = st.one_of(
    st.text(st.sampled_from("\x00\x01\xff\u00ff\ud800\udfff\uffff\U0010ffffab")),
    st.text(st.characters(codec=None)),  # every code point, surrogates too
)
raw_bytes = st.one_of(st.binary(), st.lists(st.sampled_from([0x00, 0x01, 0x10, 0x20, 0xFE, 0xFF])).map(bytes))
integers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]))
instants = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC))
parts = st.one_of(hostile_texts, integers, st.booleans(), raw_bytes, instants)
keys = st.lists(parts, max_size=4).map(tuple)


def typed(key: Key) -> tuple[tuple[type, object], ...]:
    """Equal only where the types are equal too: 1 is not True."""
    return tuple((type(part), part) for part in key)


@given(keys)
@example(())
@example(("",))
@example(("\x00", "\x00\xff", b"\x00", "\ud800"))
def test_a_key_reads_back_with_its_types(key: Key) -> None:
    assert typed(decode_key(encode_key(key))) == typed(key)


@given(keys, keys)
@example(("1", "12"), ("11", "2"))
@example(("", ""), ("",))
@example(("a\x00", "b"), ("a", "\x00b"))
@example(("\x00",), ("",))
@example((1,), (True,))
@example((b"a",), ("a",))
@example((0,), (datetime(1970, 1, 1, tzinfo=UTC),))
def test_different_keys_have_different_bytes(left: Key, right: Key) -> None:
    assert (encode_key(left) == encode_key(right)) == (typed(left) == typed(right))


@pytest.mark.parametrize("kind", [hostile_texts, integers, st.booleans(), raw_bytes, instants])
@given(data=st.data())
def test_bytes_are_ordered_as_the_values_are(kind: st.SearchStrategy[object], data: st.DataObject) -> None:
    left, right = (data.draw(st.tuples(kind, kind)) for _ in range(2))
    assert (encode_key(left) < encode_key(right)) == (left < right)  # type: ignore[arg-type,operator]


@given(st.integers(1, 3).flatmap(lambda arity: st.tuples(*[st.lists(parts, min_size=arity, max_size=arity).map(tuple)] * 2)))
@example((("a",), ("a\x00",)))
@example((("", "a"), ("", "ab")))
def test_no_key_begins_another_of_the_same_arity(pair: tuple[Key, Key]) -> None:
    left, right = (encode_key(key) for key in pair)
    assert left == right or not right.startswith(left)


@given(hostile_texts, parts)
def test_a_part_ends_itself(text: str, rest: object) -> None:
    assert encode_key((text, rest)) == encode_key((text,)) + encode_key((rest,))  # type: ignore[arg-type]


def test_the_encoding_is_pinned() -> None:
    key = ("a\x00b", -1, True, b"\x00", datetime(1970, 1, 1, tzinfo=UTC))
    assert encode_key(key).hex() == "206100ff62000110" + "7fffffffffffffff" + "314000ff0001508000000000000000"


def test_parts_of_derived_classes_are_those_that_they_derive_from() -> None:
    class Moment(datetime):
        pass

    colour, size, at = Enum("Colour", {"RED": "red"}, type=str), IntEnum("Size", {"ONE": 1}), Moment(2020, 1, 1, tzinfo=UTC)
    assert encode_key((colour["RED"], size["ONE"], at)) == encode_key(("red", 1, datetime(2020, 1, 1, tzinfo=UTC)))


@pytest.mark.parametrize("part", [None, 1.5, 2**63, -(2**63) - 1, datetime(2020, 1, 1), ("a",)])
def test_what_is_no_part_of_a_key(part: object) -> None:
    with pytest.raises(SchemaMismatch):
        encode_key((part,))  # type: ignore[arg-type]


@given(keys, st.integers(1, 64))
def test_a_partition_lies_within(key: Key, partitions: int) -> None:
    assert 0 <= partition_of(encode_key(key), partitions) < partitions


def test_partitions_are_pinned_and_even() -> None:
    assert [partition_of(encode_key((f"k{i}",)), 3) for i in range(8)] == [0, 0, 1, 0, 1, 0, 0, 2]
    counts = [0, 0, 0]
    for i in range(3000):
        counts[partition_of(encode_key((i,)), 3)] += 1
    assert min(counts) > 900
