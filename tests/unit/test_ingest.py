"""Rows on their way in: every way to be wrong with its exact text, local times around changes of clocks, partitions."""

from __future__ import annotations

import enum
import math
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import DataError, SchemaMismatch
from twofold.instants import to_datetime, to_us
from twofold.keys import encode_key, partition_of
from twofold.plan.canonical import FIRST_US, LAST_US, Refused, canonical, canonical_values, local_us
from twofold.plan.ingest import check_rows, partition_rows
from twofold.plan.serving import SourcePlan

COLUMNS = {
    "flight_id": "str",
    "seats": "int",
    "delay": "float",
    "late": "bool",
    "carrier": "category",
    "landed": "datetime",
    "at": "datetime",
}
FLIGHTS = SourcePlan("flights", COLUMNS, "at", id="flight_id", partition_by=("flight_id",))
NEW_YORK = msgspec.structs.replace(FLIGHTS, zone="America/New_York")
FIELDS = ", ".join(COLUMNS)
ROW: dict[str, Any] = {
    "flight_id": "UA1",
    "seats": 149,
    "delay": 2.5,
    "late": False,
    "carrier": "UA",
    "landed": None,
    "at": 1_380_604_500_000_000,
}


def checked(name: str, value: Any, source: SourcePlan = FLIGHTS) -> Any:
    return check_rows(source, [{**ROW, name: value}])[name][0]


def refusal(rows: Any, source: SourcePlan = FLIGHTS) -> str:
    with pytest.raises(SchemaMismatch) as caught:
        check_rows(source, rows)
    return str(caught.value)


def test_good_rows_become_columns_in_the_order_of_the_source() -> None:
    other = dict(reversed({**ROW, "flight_id": None, "seats": None, "late": None, "landed": "2013-10-01T05:15:00Z"}.items()))
    columns = check_rows(FLIGHTS, [ROW, other])
    assert list(columns) == list(COLUMNS)
    assert columns["flight_id"] == ["UA1", None]
    assert columns["seats"] == [149, None]
    assert columns["landed"] == [None, ROW["at"]]


def test_no_rows_are_columns_without_values() -> None:
    assert check_rows(FLIGHTS, []) == {name: [] for name in COLUMNS}


class Text(str, enum.Enum):  # noqa: UP042 - the kind whose str() is not its value
    UA = "UA"


GOOD = [
    ("flight_id", "", ""),
    ("flight_id", "a\x00b", "a\x00b"),
    ("flight_id", "é\U0001f6eb", "é\U0001f6eb"),
    ("carrier", Text.UA, "UA"),
    ("carrier", np.str_("UA"), "UA"),
    ("seats", -(2**63), -(2**63)),
    ("seats", 2**63 - 1, 2**63 - 1),
    ("seats", np.int32(7), 7),
    ("seats", enum.IntEnum("Size", {"SMALL": 3})["SMALL"], 3),
    ("delay", 3, 3.0),
    ("delay", 2**53, 2.0**53),
    ("delay", -(2**53), -(2.0**53)),
    ("delay", np.float32(0.5), 0.5),
    ("delay", np.float64(0.1), 0.1),
    ("late", np.bool_(True), True),
    ("at", 0, 0),
    ("at", FIRST_US, FIRST_US),
    ("at", LAST_US, LAST_US),
    ("at", np.int64(5), 5),
    ("at", "2013-10-01T05:15:00Z", ROW["at"]),
    ("at", "2013-10-01 01:15:00.000000-04:00", ROW["at"]),
    ("at", "20131001T051500Z", ROW["at"]),
    ("at", datetime(2013, 10, 1, 5, 15, tzinfo=UTC), ROW["at"]),
    ("at", datetime(2013, 10, 1, 1, 15, tzinfo=ZoneInfo("America/New_York")), ROW["at"]),
    ("at", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
    ("at", pd.Timestamp("2013-10-01T05:15:00.000000999Z"), ROW["at"]),
    ("at", pd.Timestamp("1969-12-31T23:59:59.999999001Z"), -1),
]


@pytest.mark.parametrize(("name", "value", "wanted"), GOOD)
@pytest.mark.parametrize("rows", [1, 9])
def test_accepted_values_are_canonical(name: str, value: Any, wanted: Any, rows: int) -> None:
    values = check_rows(FLIGHTS, [{**ROW, name: value}] * rows)[name]
    assert values == [wanted] * rows
    assert {type(got) for got in values} == {type(wanted)}


@pytest.mark.parametrize("values", [[-0.0], [-0.0] * 9, [-0.0, None] * 9, [-0.0, 1] * 9])
def test_negative_zero_becomes_zero(values: list[Any]) -> None:
    columns = check_rows(FLIGHTS, [{**ROW, "delay": value} for value in values])
    assert math.copysign(1, columns["delay"][0]) == 1.0


ISO = "send ISO 8601 text with a zone, as in '2013-10-01T05:15:00Z', an aware datetime, or an int in microseconds since 1970"
BAD = [
    ("flight_id", 1545, "is 1545, not a text; send it as text, as in '1545'"),
    ("flight_id", True, "is True, not a text; send it as text, as in 'True'"),
    ("flight_id", math.nan, "is nan, not a text; send null where there is none"),
    ("flight_id", b"UA", "is b'UA', not a text; send a text"),
    ("flight_id", {"a": 1}, "is {'a': 1}, not a text; send a text"),
    ("flight_id", "\ud83d", "is '\\ud83d', which holds half of a surrogate pair; send valid Unicode"),
    ("seats", True, "is True, not an int; send 1, or declare the column as bool"),
    ("seats", "1", "is '1', not an int; send an integer without quotes"),
    ("seats", 3.0, "is 3.0, not an int; send 3"),
    ("seats", 3.5, "is 3.5, not an int; round it, or declare the column as float"),
    ("seats", 1e300, "is 1e+300, not an int; round it, or declare the column as float"),
    ("seats", math.nan, "is nan, not an int; send null where there is none"),
    ("seats", 2**63, "is 9223372036854775808, which does not fit 64 bits; declare the column as str"),
    ("seats", -(2**63) - 1, "is -9223372036854775809, which does not fit 64 bits; declare the column as str"),
    ("seats", [1], "is [1], not an int; send an integer"),
    ("seats", np.datetime64(0, "ns"), "is np.datetime64('1970-01-01T00:00:00.000000000'), not an int; send an integer"),
    ("delay", "2.5", "is '2.5', not a float; send a number without quotes"),
    ("delay", False, "is False, not a float; send 0, or declare the column as bool"),
    ("delay", math.nan, "is nan; events take finite numbers, send null where there is none"),
    ("delay", -math.inf, "is -inf; events take finite numbers, send null where there is none"),
    ("delay", np.float32("inf"), "is inf; events take finite numbers, send null where there is none"),
    ("delay", 2**53 + 1, "is 9007199254740993, an integer beyond 2^53, which a float may round; declare the column as int"),
    ("delay", -(2**53) - 1, "is -9007199254740993, an integer beyond 2^53, which a float may round; declare the column as int"),
    ("delay", pd.NA, "is <NA>, not a float; send a number"),
    ("late", 1, "is 1, not a bool; send true or false"),
    ("late", "true", "is 'true', not a bool; send true or false"),
    ("carrier", 5, "is 5, not a text; send it as text, as in '5'"),
    ("at", datetime(2013, 10, 1, 5, 15), "is 2013-10-01T05:15:00, which has no zone; add one, as in '...Z'; a source may declare zone="),
    ("at", "2013-10-01T05:15:00", "is 2013-10-01T05:15:00, which has no zone; add one, as in '...Z'; a source may declare zone="),
    ("at", pd.Timestamp(0), "is 1970-01-01T00:00:00, which has no zone; add one, as in '...Z'; a source may declare zone="),
    ("at", date(2013, 10, 1), "is datetime.date(2013, 10, 1), not an instant; a date has no time of day, send a datetime"),
    ("at", "2013-10-01", f"is '2013-10-01', a date without a time of day; {ISO}"),
    ("at", "20131001", f"is '20131001', a date without a time of day; {ISO}"),
    ("at", "yesterday", f"is 'yesterday', not an instant; {ISO}"),
    ("at", 1.5, f"is 1.5, not an instant; {ISO}"),
    ("at", True, f"is True, not an instant; {ISO}"),
    ("at", math.nan, "is nan, not an instant; send null where there is none"),
    ("at", pd.NaT, "is NaT, not an instant; send null where there is none"),
    ("at", pd.NA, f"is <NA>, not an instant; {ISO}"),
    ("at", np.array([1, 2]), f"is array([1, 2]), not an instant; {ISO}"),
    ("at", np.datetime64(0, "ns"), f"is np.datetime64('1970-01-01T00:00:00.000000000'), not an instant; {ISO}"),
    ("at", LAST_US + 1, "is 253402300800000000, which lies outside the calendar (years 1 to 9999); send microseconds since 1970"),
    ("at", FIRST_US - 1, "is -62135596800000001, which lies outside the calendar (years 1 to 9999); send microseconds since 1970"),
    (
        "at",
        1_380_604_500_000_000_000,
        "is 1380604500000000000, which lies outside the calendar (years 1 to 9999) and looks like nanoseconds; "
        "send microseconds since 1970",
    ),
    (
        "at",
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
        "is 253402315200000000, which lies outside the calendar (years 1 to 9999); send microseconds since 1970",
    ),
    ("at", None, "is null; every event has an instant"),
]


@pytest.mark.parametrize(("name", "value", "text"), BAD, ids=[f"{name}-{number}" for number, (name, *_) in enumerate(BAD)])
@pytest.mark.parametrize("good", [0, 9])
def test_a_bad_value_is_refused_with_its_field(name: str, value: Any, text: str, good: int) -> None:
    taken = ", so none is taken" if good else ""
    assert refusal([ROW] * good + [{**ROW, name: value}]) == f"source 'flights' refuses row {good}{taken}:\n  {name} {text}"


def test_all_bad_fields_of_the_first_bad_row_are_named_and_further_bad_rows_are_counted() -> None:
    wrong: dict[Any, Any] = {**ROW, "seats": "1", "delay": math.nan, "carier": "UA", 7: 1}
    del wrong["carrier"], wrong["at"]
    assert refusal([ROW, wrong, ROW, {}, {**ROW, "late": 1}]) == (
        "source 'flights' refuses row 1 and 2 further of the 5 rows, so none is taken:\n"
        "  seats is '1', not an int; send an integer without quotes\n"
        "  delay is nan; events take finite numbers, send null where there is none\n"
        "  carrier is absent; where nothing is known give null. Did you mean 'carier'?\n"
        "  at is absent; give the instant of the event.\n"
        f"  carier is no field of this source, which has {FIELDS}; leave it out. Did you mean 'carrier'?\n"
        f"  7 is no field of this source, which has {FIELDS}; leave it out."
    )


@pytest.mark.parametrize("rows", [1, 9])
def test_a_field_too_many_is_refused(rows: int) -> None:
    assert refusal([ROW] * (rows - 1) + [{**ROW, "gate": "A1"}]).endswith(
        f":\n  gate is no field of this source, which has {FIELDS}; leave it out. Did you mean 'late'?"
    )


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (
            ROW,
            "source 'flights' takes a list of rows, as in [{...}, {...}]; got {'flight_id': 'UA1', 'seats': 149, 'delay': 2.5, 'late': ...",
        ),
        ("row", "source 'flights' takes a list of rows, as in [{...}, {...}]; got 'row'"),
        (5, "source 'flights' takes a list of rows, as in [{...}, {...}]; got 5"),
        (
            [5],
            "source 'flights' refuses row 0:\n  the row is 5; give an object with the fields " + FIELDS,
        ),
        (["abcdefg"], "source 'flights' refuses row 0:\n  the row is 'abcdefg'; give an object with the fields " + FIELDS),
        (
            [None, ROW],
            "source 'flights' refuses row 0, so none is taken:\n  the row is None; give an object with the fields " + ", ".join(COLUMNS),
        ),
    ],
)
def test_what_is_no_list_of_rows_is_refused(rows: Any, text: str) -> None:
    assert refusal(rows) == text


def test_rows_may_be_any_mapping_and_none_is_filled_in_on_the_way() -> None:
    assert check_rows(FLIGHTS, (MappingProxyType(ROW),)) == check_rows(FLIGHTS, [ROW])
    filling: dict[Any, Any] = defaultdict(int, {**ROW, "extra": 1})
    del filling["seats"]
    assert "seats is absent" in refusal([filling])
    assert "seats" not in filling


def test_a_static_table_takes_no_events() -> None:
    planes = SourcePlan("planes", {"tailnum": "str"}, None, is_table=True)
    with pytest.raises(DataError, match="'planes' is a static table, which takes no events; load its rows as a table"):
        check_rows(planes, [{"tailnum": "N1"}])


def test_a_value_is_shown_on_one_short_line() -> None:
    shown = repr("x\n" * 500)[:57]
    assert refusal([{**ROW, "seats": "x\n" * 500}]).splitlines()[1:] == [
        f"  seats is {shown}..., not an int; send an integer without quotes"
    ]


# Zones


@pytest.mark.parametrize(
    ("local", "wanted"),
    [
        ("2013-10-01T01:15:00", "2013-10-01T05:15:00Z"),
        ("2013-03-10T01:59:59.999999", "2013-03-10T06:59:59.999999Z"),
        ("2013-03-10T03:00:00", "2013-03-10T07:00:00Z"),
        ("2013-11-03T00:59:59", "2013-11-03T04:59:59Z"),
        ("2013-11-03T01:00:00", "2013-11-03T05:00:00Z"),  # comes twice: the earlier one
        ("2013-11-03T01:59:59.999999", "2013-11-03T05:59:59.999999Z"),
        ("2013-11-03T02:00:00", "2013-11-03T07:00:00Z"),
        ("2013-10-01T05:15:00Z", "2013-10-01T05:15:00Z"),
    ],
)
def test_a_time_without_zone_is_local_where_the_source_says_so(local: str, wanted: str) -> None:
    assert checked("at", local, NEW_YORK) == to_us(wanted)
    assert checked("at", datetime.fromisoformat(local), NEW_YORK) == to_us(wanted)
    assert checked("landed", local, NEW_YORK) == to_us(wanted)


def test_fold_says_which_of_two_instants_is_meant() -> None:
    assert checked("at", datetime(2013, 11, 3, 1, 30, fold=1), NEW_YORK) == to_us("2013-11-03T06:30:00Z")
    assert checked("at", datetime(2013, 10, 1, 1, 15, fold=1), NEW_YORK) == to_us("2013-10-01T05:15:00Z")


@pytest.mark.parametrize("local", ["2013-03-10T02:00:00", "2013-03-10T02:30:00", "2013-03-10T02:59:59.999999"])
@pytest.mark.parametrize("fold", [0, 1])
def test_a_time_that_clocks_leave_out_is_refused(local: str, fold: int) -> None:
    assert refusal([{**ROW, "at": datetime.fromisoformat(local).replace(fold=fold)}], NEW_YORK) == (
        f"source 'flights' refuses row 0:\n  at is {local}, which the clocks of America/New_York leave out; "
        "send the instant with its offset, as in '...Z'"
    )


def test_a_local_time_at_the_edge_of_the_calendar_is_refused_not_a_crash() -> None:
    assert "outside the calendar" in refusal([{**ROW, "at": datetime(9999, 12, 31, 23)}], NEW_YORK)


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
)
def test_a_local_instant_shows_the_local_time_again(local: datetime, zone: str) -> None:
    place = ZoneInfo(zone)
    try:
        us = local_us(local, zone)
    except Refused:
        assert local.replace(tzinfo=place).astimezone(UTC).astimezone(place).replace(tzinfo=None) != local
        return
    assert to_datetime(us).astimezone(place).replace(tzinfo=None, fold=0) == local
    assert us == to_us(local.replace(tzinfo=place, fold=0))


# The short way


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63, -(2**63), -(2**63) - 1, FIRST_US, LAST_US + 1]),
    st.floats(),
    st.text(st.characters(), max_size=3),
    st.datetimes(timezones=st.just(UTC)),
)


@given(
    st.sampled_from(sorted(set(COLUMNS.values()))),
    st.one_of(
        *[
            st.lists(strategy, max_size=12)
            for strategy in (
                VALUES,
                st.none() | st.floats(),
                st.none() | st.text(st.characters()),
                st.integers(),
                st.none() | st.booleans(),
            )
        ]
    ),
)
def test_a_whole_column_gives_what_its_values_give(kind: str, values: list[Any]) -> None:
    def outcome(convert: Any) -> Any:
        try:
            return [(type(value), value, math.copysign(1, value) if isinstance(value, float) else 0) for value in convert()]
        except Refused:
            return "refused"

    assert outcome(lambda: canonical_values(kind, values * 3)) == outcome(lambda: [canonical(kind, value) for value in values * 3])


# Partitions


def test_one_partition_is_free() -> None:
    assert partition_rows(FLIGHTS, {"flight_id": [object(), object()]}, 1) == [range(2)]


def test_rows_go_where_the_key_of_their_columns_belongs() -> None:
    ids = [f"UA{number}" for number in range(50)] + ["UA3", None, None]
    parts = partition_rows(FLIGHTS, {"flight_id": ids}, 5)
    assert sorted(row for part in parts for row in part) == list(range(53))
    assert all(list(part) == sorted(part) for part in parts)
    for partition, rows in enumerate(parts):
        assert all(partition_of(encode_key((ids[row],)), 5) == partition for row in rows if ids[row] is not None)
    assert len([part for part in parts if 51 in part or 52 in part]) == 1


def test_the_pinned_partitions_stay_what_they_are() -> None:
    """They must: a log partitioned otherwise by the next version would tear the duplicates of an id apart."""
    columns = {
        "flight_id": ["UA1", "", None, "é"],
        "seats": [1, None, -1, 2**62],
        "delay": [0.5, None, 1.0, -2.0],
        "late": [True, False, None, True],
    }
    columns |= {"carrier": ["UA", None, "x", "y"], "landed": [None, 1, -1, 0], "at": [0, 1, 2, 3]}
    by_row = msgspec.structs.replace(FLIGHTS, partition_by=())
    by_two = msgspec.structs.replace(FLIGHTS, partition_by=("late", "landed"))
    assert [partition_of_each(source, columns) for source in (FLIGHTS, by_row, by_two)] == PINNED


def partition_of_each(source: SourcePlan, columns: dict[str, list[Any]]) -> list[int]:
    parts = partition_rows(source, columns, 1000)
    return [next(partition for partition, rows in enumerate(parts) if row in rows) for row in range(len(columns["at"]))]


PINNED = [[968, 909, 896, 591], [135, 172, 113, 181], [370, 405, 806, 431]]


def test_instants_as_datetimes_partition_like_microseconds() -> None:
    by_time = msgspec.structs.replace(FLIGHTS, partition_by=("at",))
    instants = list(range(0, 10**9, 10**7))
    assert partition_rows(by_time, {"at": instants}, 7) == partition_rows(by_time, {"at": [to_datetime(us) for us in instants]}, 7)


def test_values_that_only_together_look_alike_are_told_apart() -> None:
    two = SourcePlan("two", {"a": "str", "b": "str", "at": "datetime"}, "at", partition_by=("a", "b"))
    pairs = [("1", "12"), ("11", "2"), ("", None), (None, ""), ("1", None)]
    found = {tuple(partition_of_each(two, {"a": [a], "b": [b], "at": [0]})) for a, b in pairs}
    assert len(found) == len(pairs)


def test_ingest_loads_no_engine() -> None:
    code = "import sys, twofold.plan.ingest; print(*{'polars', 'pandas', 'pyarrow', 'numba'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
