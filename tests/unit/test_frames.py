"""Tables of every kind conformed to a source: what is converted, what is refused with which text, and nothing in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import DataError, SchemaMismatch
from twofold.instants import to_us
from twofold.plan.canonical import FIRST_US, LAST_US, Refused, local_us
from twofold.plan.ingest import check_rows
from twofold.plan.inputs import POLARS_TYPES
from twofold.plan.serving import SourcePlan
from twofold.tables.frames import conform, conform_rows, conform_spine

COLUMNS = {"id": "str", "seats": "int", "delay": "float", "late": "bool", "at": "datetime"}
FLIGHTS = SourcePlan("flights", COLUMNS, "at", id="id")
NEW_YORK = msgspec.structs.replace(FLIGHTS, zone="America/New_York")
PLANES = SourcePlan("planes", {"tailnum": "str", "seats": "int"}, None, is_table=True)
AWARE = pl.Datetime("us", "UTC")
FRAME = pl.DataFrame(
    {"id": ["a", None, "c"], "seats": [1, None, 3], "delay": [0.5, None, -2.0], "late": [True, None, False], "at": [0, 1, 2]},
    schema={name: POLARS_TYPES[kind] for name, kind in COLUMNS.items()},
)


def with_column(name: str, values: Any, dtype: Any = None) -> pl.DataFrame:
    return FRAME.with_columns(pl.Series(name, values, dtype))


def fitted(name: str, values: Any, dtype: Any = None, *, strict: bool = False, source: SourcePlan = FLIGHTS) -> list[Any]:
    """The column as it comes out, instants as microseconds."""
    frame = conform(source, with_column(name, values, dtype), strict).frame
    assert frame.schema == FRAME.schema
    return (frame[name].to_physical() if name == "at" else frame[name]).to_list()


def refusal(table: Any, *, strict: bool = False, source: SourcePlan = FLIGHTS) -> str:
    with pytest.raises(SchemaMismatch) as caught:
        conform(source, table, strict)
    head, *lines = str(caught.value).split("\n  ")
    assert head == "the table for 'flights' is refused:"
    return "\n".join(lines)


# Kinds of tables


def as_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """With pandas' own ideas: floats for ints with nulls, objects for bools with nulls, nanoseconds, an index with holes."""
    return pd.DataFrame(
        {
            "id": pd.Categorical(frame["id"].to_list()),
            "seats": np.array([math.nan if seats is None else seats for seats in frame["seats"]]),
            "delay": np.array([math.nan if delay is None else delay for delay in frame["delay"]]),
            "late": pd.Series(frame["late"].to_list(), dtype=object),
            "at": pd.to_datetime(frame["at"].to_physical().to_numpy(), unit="us", utc=True),
        }
    ).set_index(pd.Index([number * number for number in range(frame.height)]))


def as_columns(frame: pl.DataFrame) -> dict[str, Any]:
    """Lists, tuples, arrays and series side by side."""
    columns: dict[str, Any] = frame.to_dict(as_series=False)
    columns["id"] = tuple(columns["id"])
    columns["late"] = frame["late"].rename("other")
    columns["delay"] = np.array([math.nan if delay is None else delay for delay in columns["delay"]])
    return columns


def iso_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{**row, "at": row["at"].isoformat()} for row in frame.to_dicts()]


KINDS: dict[str, Callable[[pl.DataFrame], Any]] = {
    "frame": lambda frame: frame,
    "frame in another order": lambda frame: frame.select(reversed(frame.columns)),
    "lazy frame": pl.DataFrame.lazy,
    "arrow": pl.DataFrame.to_arrow,
    "arrow reader": lambda frame: frame.to_arrow().to_reader(),
    "pandas": as_pandas,
    "rows": pl.DataFrame.to_dicts,
    "rows with texts": iso_rows,
    "tuple of rows": lambda frame: tuple(frame.to_dicts()),
    "columns": as_columns,
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_table_is_accepted(kind: Callable[[pl.DataFrame], Any]) -> None:
    conformed = conform(FLIGHTS, kind(FRAME), strict=False)
    assert conformed.frame.schema == FRAME.schema
    assert conformed.frame.equals(FRAME)
    assert conformed.dropped == []


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_other_columns_are_left_out_and_named(kind: Callable[[pl.DataFrame], Any]) -> None:
    table = kind(FRAME)
    if isinstance(table, pd.DataFrame | dict):
        table["gate"] = [1, 2, 3]
    else:
        table = kind(FRAME.with_columns(gate=pl.Series([1, 2, 3])))
    conformed = conform(FLIGHTS, table, strict=False)
    assert conformed.frame.equals(FRAME)
    assert conformed.dropped == ["gate"]


def test_files(tmp_path: Path) -> None:
    table = FRAME.with_columns(gate=pl.Series([1, 2, 3]))
    table.write_parquet(tmp_path / "flights.parquet")
    table.with_columns(pl.col("at").dt.to_string("iso:strict")).write_csv(tmp_path / "flights.CSV")
    for path in (tmp_path / "flights.parquet", str(tmp_path / "flights.CSV")):
        conformed = conform(FLIGHTS, path, strict=False)
        assert conformed.frame.equals(FRAME)
        assert conformed.dropped == ["gate"]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("empty", [[], FRAME.clear(), FRAME.clear().lazy(), {name: [] for name in COLUMNS}])
def test_tables_without_rows(empty: Any, strict: bool) -> None:
    assert conform(FLIGHTS, empty, strict).frame.equals(FRAME.clear())


def test_a_column_without_values_fits_every_type() -> None:
    table = FRAME.with_columns(id=pl.lit(None, pl.Float64), seats=pl.lit(None), late=pl.lit(None, pl.Date))
    assert conform(FLIGHTS, table, strict=True).frame.select("id", "seats", "late").null_count().row(0) == (3, 3, 3)


def test_a_static_table_is_loaded_and_takes_no_events() -> None:
    table = [{"tailnum": "N1", "seats": 2}]
    assert conform(PLANES, table, strict=False).frame.rows() == [("N1", 2)]
    with pytest.raises(DataError, match="'planes' is a static table, which takes no events; load its rows as a table"):
        conform(PLANES, table, strict=True)


# Values


A_DAY = 86_400_000_000
CONVERTED = [
    ("id", ["a", None, "b"], pl.Categorical, ["a", None, "b"]),
    ("id", ["a", None, "b"], pl.Enum(["a", "b"]), ["a", None, "b"]),
    ("id", ["a\x00", "", "é"], None, ["a\x00", "", "é"]),
    ("seats", [1, None, -3], pl.Int8, [1, None, -3]),
    ("seats", [1, None, 2**32 - 1], pl.UInt32, [1, None, 2**32 - 1]),
    ("seats", [1, None, 2**63 - 1], pl.UInt64, [1, None, 2**63 - 1]),
    ("seats", [1, None, -(2**63)], pl.Int128, [1, None, -(2**63)]),
    ("seats", [1.0, None, -(2.0**53)], None, [1, None, -(2**53)]),
    ("seats", [1.0, None, -0.0], pl.Float32, [1, None, 0]),
    ("seats", [Decimal("1.00"), None, Decimal("12")], None, [1, None, 12]),
    ("delay", [1, None, -(2**53)], None, [1.0, None, -(2.0**53)]),
    ("delay", [1, None, 2**53], pl.UInt64, [1.0, None, 2.0**53]),
    ("delay", [0.5, None, 0.1], pl.Float32, [0.5, None, float(np.float32(0.1))]),
    ("delay", [Decimal("1.10"), None, Decimal("2")], None, [1.1, None, 2.0]),
    ("at", [0, 1, FIRST_US], pl.Int64, [0, 1, FIRST_US]),
    ("at", [0, 1, 2], pl.UInt32, [0, 1, 2]),
    (
        "at",
        ["2013-10-01T05:15:00Z", "1970-01-01T00:00:00-01:00", "1970-01-01T00:00:00.000001Z"],
        None,
        [1_380_604_500_000_000, 3_600_000_000, 1],
    ),
    ("at", [0, -1, 1], pl.Datetime("ms", "UTC"), [0, -1000, 1000]),
    ("at", [FIRST_US // 1000, LAST_US // 1000, 0], pl.Datetime("ms", "UTC"), [FIRST_US, LAST_US // 1000 * 1000, 0]),
    ("at", [999, -1, 1000], pl.Datetime("ns", "UTC"), [0, -1, 1]),
    ("at", [0, A_DAY, LAST_US], pl.Datetime("us", "America/New_York"), [0, A_DAY, LAST_US]),
]


@pytest.mark.parametrize(("name", "values", "dtype", "wanted"), CONVERTED)
@pytest.mark.parametrize("strict", [False, True])
def test_what_fits_is_converted(name: str, values: list[Any], dtype: Any, wanted: list[Any], strict: bool) -> None:
    assert fitted(name, values, dtype, strict=strict) == wanted


BAD = [
    ("id", [None, 7, 8], None, "id in row 1 (and 1 further) is 7, not a text (Int64); cast the column, as in .cast(pl.String)"),
    ("id", [b"a", None, None], None, "id in row 0 is b'a', not a text (Binary); cast the column, as in .cast(pl.String)"),
    (
        "seats",
        [1, 2**63, 2**64 - 1],
        pl.UInt64,
        "seats in row 1 (and 1 further) is 9223372036854775808, which does not fit 64 bits; declare the column as str",
    ),
    (
        "seats",
        [1, 2, -(2**63) - 1],
        pl.Int128,
        "seats in row 2 is -9223372036854775809, which does not fit 64 bits; declare the column as str",
    ),
    ("seats", [1.0, 2.5, 3.5], None, "seats in row 1 (and 1 further) is 2.5, not an int; round the column, or declare it as float"),
    ("seats", [1.0, -math.inf, None], None, "seats in row 1 is -inf, not an int; give null where there is none"),
    (
        "seats",
        [1.0, None, 2.0**53 + 2],
        None,
        "seats in row 2 is 9007199254740994.0, beyond 2^53, where floats have lost digits of integers; give the column as integers",
    ),
    ("seats", [None, Decimal("2.5"), None], None, "seats in row 1 is Decimal('2.5'), not an int; round the column, or declare it as float"),
    (
        "seats",
        [Decimal(10) ** 25, None, Decimal(1)],
        pl.Decimal(38, 0),
        "seats in row 0 is Decimal('10000000000000000000000000'), not an int; round the column, or declare it as float",
    ),
    ("seats", ["1", "2", None], None, "seats in row 0 (and 1 further) is '1', not an int (String); cast the column, as in .cast(pl.Int64)"),
    ("seats", [True, None, None], None, "seats in row 0 is True, not an int (Boolean); cast the column, as in .cast(pl.Int64)"),
    (
        "delay",
        [0, None, 2**53 + 1],
        None,
        "delay in row 2 is 9007199254740993, an integer beyond 2^53, which a float may round; declare the column as int, or cast it",
    ),
    (
        "delay",
        [-(2**53) - 1, 0, 0],
        None,
        "delay in row 0 is -9007199254740993, an integer beyond 2^53, which a float may round; declare the column as int, or cast it",
    ),
    ("delay", [None, "x", None], None, "delay in row 1 is 'x', not a float (String); cast the column, as in .cast(pl.Float64)"),
    (
        "late",
        [1, 0, None],
        None,
        "late in row 0 (and 1 further) is 1, not a bool (Int64); make the column a condition, as in pl.col(...) != 0",
    ),
    (
        "at",
        [date(2013, 10, 1)] * 3,
        None,
        "at in row 0 (and 2 further) is datetime.date(2013, 10, 1), not an instant (Date); a date has no time of day; make it a datetime",
    ),
    (
        "at",
        [0.5, 1.0, 2.0],
        None,
        "at in row 0 (and 2 further) is 0.5, not an instant (Float64); give aware datetimes or microseconds since 1970",
    ),
    (
        "at",
        [datetime(2013, 10, 1, 5, 15)] * 3,
        None,
        "at in row 0 (and 2 further) is 2013-10-01T05:15:00, which has no zone; add one, as in .dt.replace_time_zone('UTC'); "
        "a source may declare zone=",
    ),
    (
        "at",
        [0, LAST_US + 1, 0],
        None,
        "at in row 1 is 253402300800000000, which lies outside the calendar (years 1 to 9999); give microseconds since 1970",
    ),
    (
        "at",
        [0, 0, 2**62],
        pl.Datetime("ms", "UTC"),
        "at in row 2 is 4611686018427387904, which lies outside the calendar (years 1 to 9999); give microseconds since 1970",
    ),
    (
        "at",
        [0, 2**63, 0],
        pl.UInt64,
        "at in row 1 is 9223372036854775808, which lies outside the calendar (years 1 to 9999); give microseconds since 1970",
    ),
    (
        "at",
        ["2013-10-01T05:15:00Z", "2013-10-01", "x"],
        None,
        "at in row 1 (and 1 further) is '2013-10-01', a date without a time of day; send ISO 8601 text with a zone, as in "
        "'2013-10-01T05:15:00Z', an aware datetime, or an int in microseconds since 1970",
    ),
    ("at", [None, 1, None], None, "at is null in 2 rows, the first is row 0; every row has an instant; leave such rows out"),
    ("at", [None] * 3, pl.Null, "at is null in 3 rows, the first is row 0; every row has an instant; leave such rows out"),
]


@pytest.mark.parametrize(("name", "values", "dtype", "text"), BAD, ids=[f"{name}-{number}" for number, (name, *_) in enumerate(BAD)])
@pytest.mark.parametrize("strict", [False, True])
def test_what_does_not_fit_is_refused_with_row_and_value(name: str, values: list[Any], dtype: Any, text: str, strict: bool) -> None:
    assert refusal(with_column(name, values, dtype), strict=strict) == text


def test_no_finite_number_is_null_when_loaded_and_refused_when_appended() -> None:
    table = FRAME.with_columns(delay=pl.Series([math.nan, math.inf, 1.0]), seats=pl.Series([math.nan, None, 2.0]))
    conformed = conform(FLIGHTS, table, strict=False)
    assert conformed.frame["delay"].to_list() == [None, None, 1.0]
    assert conformed.frame["seats"].to_list() == [None, None, 2]
    assert conformed.notes == ["seats: 1 x no finite number, null instead", "delay: 2 x no finite number, null instead"]
    assert refusal(table, strict=True) == (
        "seats in row 0 is nan, not an int; give null where there is none\n"
        "delay in row 0 (and 1 further) is nan, no finite number; give null where there is none"
    )


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Float32])
@pytest.mark.parametrize("strict", [False, True])
def test_negative_zero_becomes_zero(dtype: Any, strict: bool) -> None:
    assert [math.copysign(1, value) for value in fitted("delay", [-0.0, 0.0, -1.0], dtype, strict=strict)] == [1, 1, -1]


def test_columns_that_are_not_declared_are_refused_when_appended() -> None:
    assert refusal(FRAME.with_columns(dely=1, runway=2), strict=True) == (
        "dely is no column of this source; leave it out. Did you mean 'delay'?\nrunway is no column of this source; leave it out."
    )


def test_absent_columns_are_all_named() -> None:
    assert refusal(FRAME.rename({"delay": "dely"}).drop("late")) == (
        "delay is absent. Did you mean 'dely'?\nlate is absent.\nThe table has id, seats, dely, at."
    )


def test_problems_of_all_columns_come_at_once() -> None:
    table = FRAME.with_columns(seats=pl.Series([1.5, 2, 3]), at=pl.Series([1, None, 2])).drop("id")
    assert [line.split()[0] for line in refusal(table).splitlines()] == ["id", "seats", "The", "at"]


# Rows and columns of Python values


def test_rows_are_loaded_more_kindly_than_appended() -> None:
    rows = [
        {"id": "a", "seats": 2.0, "delay": math.nan, "late": None, "at": 0, "gate": 1},
        {"id": None, "seats": math.nan, "delay": 3, "late": True, "at": 1},
    ]
    conformed = conform(FLIGHTS, rows, strict=False)
    assert conformed.frame.drop("at").rows() == [("a", 2, None, None), (None, None, 3.0, True)]
    assert conformed.dropped == ["gate"]
    assert conformed.notes == ["seats: 1 x no finite number, null instead", "delay: 1 x no finite number, null instead"]
    with pytest.raises(SchemaMismatch, match="source 'flights' refuses row 0 and 1 further of the 2 rows"):
        conform(FLIGHTS, rows, strict=True)


def test_appended_rows_are_checked_as_events() -> None:
    assert conform(NEW_YORK, [{**FRAME.row(0, named=True), "at": "2013-10-01T01:15:00"}], strict=True).frame[
        "at"
    ].to_physical().to_list() == [to_us("2013-10-01T05:15:00Z")]


def test_a_field_absent_from_some_rows_is_refused() -> None:
    rows = [*FRAME.to_dicts(), {"id": "x", "at": 1}]
    assert refusal(rows) == (
        "seats in row 3 is absent; where nothing is known give None\n"
        "delay in row 3 is absent; where nothing is known give None\n"
        "late in row 3 is absent; where nothing is known give None"
    )


def test_a_bad_value_among_columns_of_lists() -> None:
    table = {**as_columns(FRAME), "seats": [1, "2", True]}
    assert refusal(table) == "seats in row 1 (and 1 further) is '2', not an int; send an integer without quotes"


ANYTHING = "a Polars frame or LazyFrame, an Arrow or pandas table, a path of .parquet or .csv, a list of dicts or a dict of columns"


@pytest.mark.parametrize(
    ("table", "error", "text"),
    [
        (5, SchemaMismatch, f"the table for 'flights' is 5; give {ANYTHING}"),
        (b"x", SchemaMismatch, f"the table for 'flights' is b'x'; give {ANYTHING}"),
        ([FRAME.row(0, named=True), 5], SchemaMismatch, f"the table for 'flights' has 5 as row 1; give a dict for each row, or {ANYTHING}"),
        (
            {"id": "a"},
            SchemaMismatch,
            "the table for 'flights' has the column 'id' = 'a'; give a list, an array or a series, one value for each row",
        ),
        (
            {"id": ["a"], "seats": [1, 2]},
            SchemaMismatch,
            "the table for 'flights' has columns of different lengths (id 1, seats 2); give one value for each row",
        ),
        ("nowhere.csv", DataError, "the table for 'flights' is 'nowhere.csv', and there is no such file"),
        (
            "flights.parqet",
            DataError,
            "the table for 'flights' is 'flights.parqet', which is no path of .parquet or .csv; read the file and give a frame. "
            "Did you mean '.parquet'?",
        ),
    ],
)
def test_what_is_no_table_is_refused(table: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        conform(FLIGHTS, table, strict=False)
    assert str(caught.value) == text


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    for table in (tmp_path / "broken.parquet", pl.LazyFrame({"a": [1]}).select("b"), pd.DataFrame({"id": [1, "x"]})):
        with pytest.raises(SchemaMismatch, match="the table for 'flights' cannot be read: "):
            conform(FLIGHTS, table, strict=False)


# CSV


def csv(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text("\n".join(["id,seats,delay,late,at", *lines]) + "\n", encoding="utf-8")
    return path


def test_texts_of_a_file_are_read_as_the_declared_types(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "007,9007199254740993,1,true,2013-10-01T05:15:00Z",
        ",3.0,NaN,False,1380604500000000",
        '"",,-0.0,,2013-10-01 01:15:00-04:00',
    )
    conformed = conform(FLIGHTS, path, strict=False)
    assert conformed.frame.drop("at").rows() == [("007", 2**53 + 1, 1.0, True), (None, 3, None, False), ("", None, 0.0, None)]
    assert conformed.frame["at"].to_physical().to_list() == [1_380_604_500_000_000] * 3


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a,x,1,true,0000000000", "seats in row 1 is 'x', not an int; write nothing where there is none"),
        ("a,1.5,1,true,0000000000", "seats in row 1 is 1.5, not an int; round the column, or declare it as float"),
        ("a,1,NA,true,0000000000", "delay in row 1 is 'NA', not a float; write nothing where there is none"),
        ("a,1,1,1,0000000000", "late in row 1 is '1', not a bool; write true or false, or nothing where there is none"),
        ("a,1,1,true,", "at is null in 1 row, the first is row 1; every row has an instant; leave such rows out"),
    ],
)
def test_texts_that_do_not_fit_are_refused(tmp_path: Path, line: str, text: str) -> None:
    assert refusal(csv(tmp_path, "a,1,1,true,2013-10-01T05:15:00Z", line)) == text


def test_a_date_in_a_file_is_no_number_of_microseconds(tmp_path: Path) -> None:
    assert "at in row 0 is '20131001', a date without a time of day" in refusal(csv(tmp_path, "a,1,1,true,20131001"))


# Zones


def test_local_times_are_instants_of_the_declared_zone() -> None:
    local = [datetime(2013, 10, 1, 1, 15), datetime(2013, 11, 3, 1, 30), datetime(2013, 11, 3, 2, 0)]
    wanted = [to_us("2013-10-01T05:15:00Z"), to_us("2013-11-03T05:30:00Z"), to_us("2013-11-03T07:00:00Z")]
    for values in (local, [when.isoformat() for when in local]):
        assert fitted("at", values, source=NEW_YORK) == wanted
    table = with_column("at", local, pl.Datetime("ms"))
    assert conform(NEW_YORK, table, strict=False).notes == [
        "at: 1 x a local time that comes twice in America/New_York, the earlier instant taken"
    ]


def test_local_times_that_clocks_leave_out_are_refused() -> None:
    assert refusal(with_column("at", [datetime(2013, 3, 10, hour, 30) for hour in (1, 2, 3)]), source=NEW_YORK) == (
        "at in row 1 is 2013-03-10T02:30:00, which the clocks of America/New_York leave out; give aware datetimes"
    )


LOCAL = st.datetimes(datetime(1850, 1, 1), datetime(2200, 1, 1)) | st.builds(
    lambda days, minutes: datetime(1980, 1, 1) + timedelta(days=days, minutes=minutes), st.integers(0, 43_000), st.integers(0, 240)
)


@given(
    st.lists(LOCAL, min_size=1, max_size=30),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca"]),
)
def test_local_times_of_tables_and_of_events_are_the_same_instants(local: list[datetime], zone: str) -> None:
    def of_event(when: datetime) -> int | None:
        try:
            return local_us(when, zone)
        except Refused:
            return None

    source = msgspec.structs.replace(FLIGHTS, zone=zone)
    wanted = [of_event(when) for when in local]
    kept = [when for when, us in zip(local, wanted, strict=True) if us is not None]
    frame = FRAME.clear().with_columns(at=pl.lit(None, pl.Datetime("us")))
    table = pl.concat([frame, pl.DataFrame({"at": kept}, schema={"at": pl.Datetime("us")})], how="diagonal")
    assert conform(source, table, strict=False).frame["at"].to_physical().to_list() == [us for us in wanted if us is not None]
    if None in wanted:
        whole = pl.concat([frame, pl.DataFrame({"at": local}, schema={"at": pl.Datetime("us")})], how="diagonal")
        assert f"at in row {wanted.index(None)} " in refusal(whole, source=source)


# The same as for events


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.none() | st.text(max_size=4),
            "seats": st.none() | st.integers(-(2**63), 2**63 - 1),
            "delay": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "late": st.none() | st.booleans(),
            "at": st.datetimes(timezones=st.just(UTC)),
        }
    )
)


@given(ROWS)
def test_a_table_and_its_rows_are_the_same_events(rows: list[dict[str, Any]]) -> None:
    values = check_rows(FLIGHTS, rows)
    for table in (pl.DataFrame(rows, schema=FRAME.schema), rows, pa.Table.from_pylist(rows, schema=FRAME.to_arrow().schema)):
        for strict in (False, True):
            frame = conform(FLIGHTS, table, strict).frame
            assert {name: (frame[name].to_physical() if name == "at" else frame[name]).to_list() for name in COLUMNS} == values


# Spines and rows


def test_a_spine_of_a_frame_keeps_it_as_it_was() -> None:
    table = pl.DataFrame({"n": [1.0, None], "at": [5, 6], "origin": ["EWR", None], "other": [[1], [2]]})
    keys, at, original = conform_spine({"origin": "str", "n": "int"}, table)
    assert keys.equals(pl.DataFrame({"k0": ["EWR", None], "k1": [1, None]}))
    assert (at.dtype, at.tolist()) == (np.int64, [5, 6])
    assert original.equals(table)


def test_a_spine_of_rows_becomes_a_frame() -> None:
    rows = [{"origin": "EWR", "at": "2013-10-01T05:15:00Z", "x": 1}, {"origin": "JFK", "at": datetime(1970, 1, 1, tzinfo=UTC)}]
    keys, at, original = conform_spine({"origin": "str"}, rows)
    assert keys["k0"].to_list() == ["EWR", "JFK"]
    assert at.tolist() == [1_380_604_500_000_000, 0]
    assert original.columns == ["origin", "at", "x"]
    assert original["at"].dtype == AWARE
    assert original["x"].to_list() == [1, None]


def test_a_spine_of_no_keys_has_its_rows() -> None:
    keys, at, original = conform_spine({}, {"at": [3, 1]})
    assert (keys.shape, at.tolist(), original.height) == ((2, 0), [3, 1], 2)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"orign": ["EWR"], "at": [1]}, "origin is absent. Did you mean 'orign'?\nThe table has orign, at."),
        ({"origin": ["EWR"]}, "at is absent.\nThe table has origin."),
        ({"origin": ["EWR"], "at": [None]}, "at is null in 1 row, the first is row 0; every row has an instant; leave such rows out"),
        ({"origin": [5], "at": [1]}, "origin in row 0 is 5, not a text; send it as text, as in '5'"),
        (
            {"origin": ["EWR"], "at": [datetime(2013, 1, 1)]},
            "at in row 0 is 2013-01-01T00:00:00, which has no zone; add one, as in '...Z'; a source may declare zone=",
        ),
    ],
)
def test_a_wrong_spine_is_refused(table: Any, text: str) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        conform_spine({"origin": "str"}, table)
    assert str(caught.value).replace("\n  ", "\n") == f"the spine is refused:\n{text}"


def test_rows_of_a_model_have_at_and_the_fields_in_order() -> None:
    table = pl.DataFrame({"z": [1], "distance": [3], "origin": ["EWR"], "at": [1]})
    rows = conform_rows({"origin": "category", "distance": "float"}, table)
    assert rows.schema == {"at": AWARE, "origin": pl.String(), "distance": pl.Float64()}
    assert rows.drop("at").rows() == [("EWR", 3.0)]
    with pytest.raises(SchemaMismatch, match=r"the table of rows is refused:\n  origin is absent"):
        conform_rows({"origin": "str"}, table.drop("origin"))
