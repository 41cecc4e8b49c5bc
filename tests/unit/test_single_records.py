"""Events as single JSON records: the same frame as from Arrow, whatever poison lies between; keys and partitions of a row."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import DefinitionError
from twofold.keys import partition_of
from twofold.log.base import Format, RecordBatch
from twofold.log.kafka_settings import JSON, JSON_OF_OURS
from twofold.log.records import Undecodable, appends, decoded
from twofold.log.single_records import single_appends
from twofold.plan.canonical import FIRST_US, LAST_US
from twofold.plan.ingest import check_rows
from twofold.plan.serving import SourcePlan

COLUMNS = {
    "id": "str",
    "a b": "int",
    "x": "float",
    "late": "bool",
    "kind": "category",
    "at": "datetime",
    "tags": "list[str]",
    "xs": "list[float]",
}
SOURCE = SourcePlan("s", COLUMNS, "at", partition_by=("id",))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(max_size=5),
    "category": st.text(max_size=2),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "bool": st.booleans(),
    "datetime": st.integers(FIRST_US, LAST_US) | st.datetimes(timezones=st.just(UTC)),
    "list[str]": st.lists(st.none() | st.text(max_size=3), max_size=3),
    "list[float]": st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: VALUES[kind] if name == "at" else st.none() | VALUES[kind] for name, kind in COLUMNS.items()}),
    min_size=1,
    max_size=40,
)


def batches(payloads: list[bytes], format: Format = JSON) -> list[RecordBatch]:
    return [RecordBatch("s", 2, 5 + 3 * number, 1, 100 + number, 0, payload, format) for number, payload in enumerate(payloads)]


@given(ROWS)
def test_the_frame_is_that_of_arrow(rows: list[Mapping[str, Any]]) -> None:
    columns = check_rows(SOURCE, rows)
    payloads = [append.payload for append in single_appends(SOURCE, columns, 1)]
    (whole,) = appends(SOURCE, columns, 1, "arrow")
    frame, undecodable = decoded(batches(payloads), SOURCE)
    arrow, _ = decoded([RecordBatch("s", 2, 0, len(rows), 0, 0, whole.payload)], SOURCE)
    assert undecodable == []
    assert frame.select(list(COLUMNS)).equals(arrow.select(list(COLUMNS)), null_equal=True)
    assert frame.schema == arrow.schema
    assert frame["__minor"].to_list() == [5 + 3 * number for number in range(len(rows))]
    assert frame["__stamp"].to_list() == [100 + number for number in range(len(rows))]


POISON = [
    b"",
    b"{",
    b"1",
    b"null",
    b"[]",
    b'{"n": 1',
    b'{"n": "1", "at": 1}',
    b'{"at": 1}',
    b'{"n": 1}',
    b'{"n": 1, "at": null}',
    b'{"n": 1.5, "at": 1}',
]
GOOD = b'{"at": 3, "n": %d, "more": [{}]}'
NUMBERS = SourcePlan("s", {"n": "int", "at": "datetime"}, "at")


@given(st.lists(st.sampled_from(POISON) | st.integers(0, 9).map(lambda number: GOOD % number), max_size=60))
def test_what_is_an_event_follows_from_the_record_alone(payloads: list[bytes]) -> None:
    given_batches = batches(payloads)
    frame, undecodable = decoded(given_batches, NUMBERS)
    alone = [decoded([batch], NUMBERS) for batch in given_batches]
    assert undecodable == [letter for _, letters in alone for letter in letters]
    assert {letter.batch.payload for letter in undecodable} == set(payloads) & set(POISON)
    assert frame.rows() == [row for one, _ in alone for row in one.rows()]


def test_a_payload_that_closes_a_record_and_opens_another_is_no_event() -> None:
    inside = [b'{"n": 1, "at": 1}, {"n": 2, "at": 1}', b'{"n": 1, "at": 1}\n{"n": 2, "at": 1}', b'{"n": 1, "at": 1', b"}"]
    assert [letter.batch.payload for letter in decoded(batches(inside), NUMBERS)[1]] == inside


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"n": 1}', "at is absent"),
        (b'{"n": 1, "at": null}', "at is null; every event has an instant"),
        (b'{"n": 1.5, "at": 1}', "n is 1.5, not an int"),
        (b"[1]", "the record is [1], not an object with fields"),
        (b"\xff", ""),
    ],
)
def test_the_reason_names_the_field(payload: bytes, reason: str) -> None:
    (letter,) = decoded(batches([payload]), NUMBERS)[1]
    assert isinstance(letter, Undecodable)
    assert reason in letter.reason
    assert letter.reason


def test_absent_fields_are_null_where_the_format_says_so() -> None:
    frame, undecodable = decoded(batches([b'{"at": 1}', b'{"n": 1}'], JSON_OF_OURS), NUMBERS)
    assert frame["n"].to_list() == [None]
    assert [letter.batch.payload for letter in undecodable] == [b'{"n": 1}']


def test_no_batches_are_a_frame_without_rows() -> None:
    frame, undecodable = decoded([], NUMBERS)
    assert (frame.height, frame.columns[:2], undecodable) == (0, ["n", "at"], [])


def test_a_row_goes_with_its_key_to_the_keys_partition() -> None:
    columns = check_rows(SOURCE, [dict.fromkeys(COLUMNS) | {"id": name, "at": 1} for name in "abcaz"])
    made = single_appends(SOURCE, columns, 7)
    assert [append.partition for append in made] == [partition_of(append.key or b"", 7) for append in made]
    assert made[0].key == made[3].key != made[1].key
    assert [append.count for append in made] == [1] * 5
    whole_rows = single_appends(SourcePlan("s", COLUMNS, "at"), columns, 7)
    assert {append.key for append in whole_rows} == {None}


@pytest.mark.parametrize("name", ["nowhere_to_be_found:f", "json:nothing", "json:__name__"])
def test_a_decoder_that_is_none_is_told(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"format = '{name}'"):
        decoded(batches([b"x"], Format(name)), NUMBERS)


def test_writing_single_records_loads_no_engine() -> None:
    code = (
        "import sys; from twofold.log.records import appends; from twofold.plan.serving import SourcePlan;"
        "appends(SourcePlan('s', {'n': 'int', 'at': 'datetime'}, 'at'), {'n': [1], 'at': [2]}, 3, 'json');"
        "print(*{'polars', 'pandas', 'pyarrow', 'fastavro', 'confluent_kafka'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
