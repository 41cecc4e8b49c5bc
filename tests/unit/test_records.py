"""Events as Arrow payloads: what goes in comes out, from rows and from frames alike, and what is broken is told."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import nanoarrow as na
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.algebra.base import LOG_ORDER
from twofold.errors import Corrupt, DataError
from twofold.instants import to_datetime
from twofold.log.arrow_stream import head_size
from twofold.log.base import RecordBatch
from twofold.log.records import decode_records, decoded, encode_frame, encode_records, record_frames
from twofold.plan.canonical import FIRST_US, LAST_US
from twofold.plan.ingest import check_rows
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, STAMP
from twofold.plan.serving import SourcePlan

COLUMNS = {"id": "str", "seats": "int", "delay": "float", "late": "bool", "carrier": "category", "at": "datetime"}
FLIGHTS = SourcePlan("flights", COLUMNS, "at")

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(max_size=5),
    "category": st.text(max_size=2),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "bool": st.booleans(),
    "datetime": st.integers(FIRST_US, LAST_US) | st.datetimes(timezones=st.just(UTC)),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: VALUES[kind] if name == "at" else st.none() | VALUES[kind] for name, kind in COLUMNS.items()}), max_size=80
)


def batch(payload: bytes, count: int, first_offset: int = 0, partition: int = 0, arrival_us: int = 7) -> RecordBatch:
    return RecordBatch("flights", partition, first_offset, count, arrival_us, 8, payload)


def of_numbers(values: list[int], first_offset: int = 0, **changes: Any) -> RecordBatch:
    return batch(encode_records({"n": "int"}, {"n": values}), len(values), first_offset, **changes)


def physical(frame: pl.DataFrame) -> dict[str, list[Any]]:
    return {name: (column.to_physical() if column.dtype == pl.Datetime else column).to_list() for name, column in frame.to_dict().items()}


@given(ROWS)
def test_checked_rows_come_back_as_they_were(rows: list[Mapping[str, Any]]) -> None:
    values = check_rows(FLIGHTS, rows)
    payload = encode_records(COLUMNS, values)
    frame = decode_records(payload)
    assert frame.schema == {name: POLARS_TYPES[kind] for name, kind in COLUMNS.items()}
    assert physical(frame) == values
    assert decode_records(encode_frame(frame)).equals(frame, null_equal=True)


@given(ROWS)
def test_other_readers_of_arrow_find_the_payload_valid(rows: list[Mapping[str, Any]]) -> None:
    values = check_rows(FLIGHTS, rows)
    payload = encode_records(COLUMNS, values)
    table = pa.ipc.open_stream(payload).read_all()
    table.validate(full=True)
    shown = {
        name: [None if us is None else to_datetime(us) for us in column] if name == "at" else column for name, column in values.items()
    }
    assert table.to_pydict() == shown
    assert na.ArrayStream.from_readable(payload).read_all().to_pylist() == table.to_pylist()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 63, 64, 65, 1000])
def test_nulls_at_the_edges_of_bytes_and_words(length: int) -> None:
    values = [None if number % 3 == 0 or number == length - 1 else number % 2 == 0 for number in range(length)]
    columns = {"late": values, "seats": [None if value is None else 1 for value in values]}
    assert physical(decode_records(encode_records({"late": "bool", "seats": "int"}, columns))) == columns


def test_the_schema_is_the_same_from_rows_and_from_frames() -> None:
    values = check_rows(FLIGHTS, [dict.fromkeys(COLUMNS) | {"at": 0}])
    from_rows = encode_records(COLUMNS, values)
    from_frame = encode_frame(decode_records(from_rows))
    schemas = [pa.ipc.open_stream(payload).schema for payload in (from_rows, from_frame)]
    assert schemas[0] == schemas[1]
    assert schemas[0] == pa.schema(
        {
            "id": pa.large_string(),
            "seats": pa.int64(),
            "delay": pa.float64(),
            "late": pa.bool_(),
            "carrier": pa.large_string(),
            "at": pa.timestamp("us", "UTC"),
        }
    )
    assert from_rows[: head_size(from_rows)] == from_frame[: head_size(from_frame)]


def test_a_frame_of_many_pieces_is_one_payload() -> None:
    frame = pl.concat([pl.DataFrame({"n": [number, None]}) for number in range(5)], rechunk=False)
    assert frame.n_chunks() == 5
    assert [len(part) for part in pa.ipc.open_stream(encode_frame(frame))] == [10]
    assert decode_records(encode_frame(frame)).equals(frame)
    assert decode_records(encode_frame(frame[3:6])).equals(frame[3:6])


@pytest.mark.parametrize("column", [pl.Series([1], dtype=pl.Int32), pl.Series([date(2013, 1, 1)]), pl.Series([datetime(2013, 1, 1)])])
def test_a_frame_of_other_types_is_refused(column: pl.Series) -> None:
    with pytest.raises(DataError, match=r"column 'n' is .*, which no event has; conform the table to its source first"):
        encode_frame(pl.DataFrame({"n": column}))


PAYLOAD = encode_records({"n": "int", "text": "str"}, {"n": [1, 2], "text": ["a", None]})


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"no Arrow at all, but rather long", PAYLOAD[:50], PAYLOAD[100:], b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"PAR1"]
)
def test_what_is_no_arrow_stream_is_corrupt(payload: bytes) -> None:
    with pytest.raises(Corrupt, match=f"a payload of {len(payload)} bytes is no Arrow stream: "):
        decode_records(payload)


def test_types_that_no_event_has_are_corrupt() -> None:
    with pytest.raises(Corrupt, match="column 'n' of a payload is Int32, which no event has"):
        decode_records(ipc(pl.DataFrame({"n": pl.Series([1], dtype=pl.Int32)})))


def ipc(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc_stream(out)
    return out.getvalue()


# Record batches of a log


def test_batches_become_one_frame_with_their_positions() -> None:
    batches = [
        of_numbers([10, 11], 5, arrival_us=100),
        of_numbers([12], 7, arrival_us=101),
        of_numbers([13, 14], 20, partition=3, arrival_us=102),
    ]
    assert record_frames(batches).to_dict(as_series=False) == {
        "n": [10, 11, 12, 13, 14],
        MAJOR: [LOG_ORDER, LOG_ORDER, LOG_ORDER, LOG_ORDER + 3, LOG_ORDER + 3],
        MINOR: [5, 6, 7, 20, 21],
        STAMP: [100, 100, 101, 102, 102],
    }


def test_rows_and_frames_in_one_log_keep_their_order() -> None:
    frame = pl.DataFrame({"n": [3, 4, 5]})
    foreign = batch(ipc(pl.DataFrame({"n": [6]})), 1, 5)
    batches = [of_numbers([1, 2]), batch(encode_frame(frame), 3, 2), foreign, of_numbers([7], 6), of_numbers([8], 7)]
    assert record_frames(batches)["n"].to_list() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert record_frames(batches).n_chunks() == 1


def test_a_stream_may_lack_its_end() -> None:
    batches = [of_numbers([1]), batch(of_numbers([2]).payload[:-8], 1, 1), batch(of_numbers([3]).payload[:-8], 1, 2)]
    assert record_frames(batches)["n"].to_list() == [1, 2, 3]


def test_no_batches_are_a_frame_without_rows() -> None:
    assert record_frames([]).schema == {MAJOR: pl.Int64(), MINOR: pl.Int64(), STAMP: pl.Int64()}
    assert list(record_frames([], COLUMNS).schema.items())[:6] == [(name, POLARS_TYPES[kind]) for name, kind in COLUMNS.items()]


def test_columns_that_came_or_went_are_null_or_left_out() -> None:
    old = batch(encode_records({"n": "int", "gone": "str"}, {"n": [1], "gone": ["x"]}), 1)
    new = batch(encode_records({"added": "str", "n": "float"}, {"added": ["y"], "n": [2.5]}), 1, 1)
    declared = {"n": "float", "added": "str"}
    assert record_frames([old, new], declared).drop(MAJOR, MINOR, STAMP).to_dict(as_series=False) == {"n": [1.0, 2.5], "added": [None, "y"]}
    with pytest.raises(Corrupt, match="record batches of 'flights' do not have the same types"):
        record_frames([old, new])
    wider = batch(encode_records({"n": "int", "added": "str"}, {"n": [2], "added": ["y"]}), 1, 1)
    assert record_frames([old, wider])["added"].to_list() == [None, "y"]


@pytest.mark.parametrize(
    ("got", "values", "declared"), [("str", ["1"], "int"), ("float", [1.0], "int"), ("int", [2**53 + 1], "float"), ("bool", [True], "int")]
)
def test_a_batch_of_another_type_is_corrupt(got: str, values: list[Any], declared: str) -> None:
    with pytest.raises(Corrupt, match=rf"column 'n' of a record batch of 'flights' is .*; it is declared as {declared} now"):
        record_frames([batch(encode_records({"n": got}, {"n": values}), 1)], {"n": declared})


def test_a_batch_that_does_not_have_the_events_it_says_is_corrupt() -> None:
    wrong = batch(of_numbers([1, 2]).payload, 3)
    for batches in ([wrong], [of_numbers([0]), wrong], [of_numbers([0]), batch(PAYLOAD[:-8], 3)]):
        with pytest.raises(Corrupt, match=r"record batches of 'flights' say they have \d events and have \d"):
            record_frames(batches)


def test_broken_batches_are_told_from_good_ones() -> None:
    columns = {"n": "int"}
    good = [of_numbers([1]), of_numbers([2, 3], 2), of_numbers([4], 5)]
    broken = [batch(b"broken", 1, 1), batch(of_numbers([9]).payload, 7, 4)]
    source = SourcePlan("flights", columns, None)
    frame, unreadable = decoded(sorted([*good, *broken], key=lambda one: one.first_offset), source)
    assert (frame["n"].to_list(), frame[MINOR].to_list()) == ([1, 2, 3, 4], [0, 2, 3, 5])
    assert [each.batch for each in unreadable] == broken
    assert ["no Arrow stream" in unreadable[0].reason, "7 events and have 1" in unreadable[1].reason] == [True, True]
    assert decoded(good, source)[1] == []
    assert decoded(broken, source)[0].schema == record_frames(good, columns).schema


def test_writing_events_loads_no_engine() -> None:
    code = (
        "import sys; from twofold.log.records import encode_records; encode_records({'n': 'int'}, {'n': [1]});"
        "print(*{'polars', 'pandas', 'pyarrow', 'numba'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
