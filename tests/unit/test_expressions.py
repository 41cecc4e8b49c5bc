"""Expressions without data: what is row-level and what is not, types, canonical texts, and values that do not depend on other rows."""

import math
import struct
import subprocess
import sys
import warnings
from datetime import UTC, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import col

from twofold.definitions.expressions import (
    canonical_text,
    evaluate,
    output_type,
    random_rows,
    root_columns,
    row_level_problems,
    tree_problems,
)
from twofold.errors import DefinitionError, UnknownColumn

COLUMNS = {
    "a": "float",
    "b": "float",
    "i": "int",
    "j": "int",
    "s": "str",
    "c": "category",
    "p": "bool",
    "q": "bool",
    "t": "datetime",
    "u": "datetime",
}
NOON = datetime(2013, 10, 1, 12, tzinfo=UTC)

ALLOWED: dict[str, tuple[Any, str]] = {
    "a column's name": ("a", "float"),
    "a column": (col("i"), "int"),
    "a category": (col("c"), "category"),
    "a literal": (pl.lit(3), "int"),
    "arithmetic": ((col("a") + col("i") * 2 - 1) / col("b"), "float"),
    "division by a literal": (col("a") / 7, "float"),
    "modulo of floats": (col("a") % 7, "float"),
    "floor division": (col("i") // 7, "int"),
    "power": (col("a") ** 2, "float"),
    "minus": (-col("a"), "float"),
    "comparison": (col("a") > 15, "bool"),
    "comparison of texts": (col("s") == "x", "bool"),
    "a category as a text": (col("c") != "NL", "bool"),
    "comparison of instants": (col("t") > NOON, "bool"),
    "missing is equal": (col("a").eq_missing(1), "bool"),
    "booleans": ((col("a") > 1) & ~(col("b") < 2.5) | col("p") ^ col("q"), "bool"),
    "null": (col("a").is_null() | col("b").is_not_null(), "bool"),
    "nan": (col("a").is_nan() | col("b").is_finite(), "bool"),
    "between": (col("a").is_between(1, 2), "bool"),
    "when": (pl.when(col("a") > 1).then(col("b")).otherwise(None), "float"),
    "when, chained": (pl.when(col("a") > 1).then(1).when(col("a") > 0).then(2).otherwise(3), "int"),
    "when, open": (pl.when(col("p")).then(col("s")), "str"),
    "cast": (col("i").cast(pl.Float64), "float"),
    "cast to text": (col("i").cast(pl.String), "str"),
    "cast of a text": (col("s").cast(pl.Int64, strict=False), "int"),
    "cast that fails on some rows": (col("s").cast(pl.Int64), "int"),
    "cast of an int to an instant": (col("i").cast(pl.Datetime("us", "UTC")), "datetime"),
    "is_in": (col("i").is_in([1, 2, 3]), "bool"),
    "is_in of texts": (col("s").is_in({"x", "y"}), "bool"),
    "is_in of instants": (col("t").is_in([NOON]), "bool"),
    "abs": (col("a").abs(), "float"),
    "round": (col("a").round(2), "float"),
    "round_sig_figs": (col("a").round_sig_figs(3), "float"),
    "floor and ceil": (col("a").floor() + col("a").ceil(), "float"),
    "clip": (col("a").clip(0, 10), "float"),
    "log, exp, sqrt, sign": (col("a").log() + col("b").exp() + col("a").sqrt() + col("b").sign(), "float"),
    "log1p and log10": (col("a").log1p() + col("b").log10(), "float"),
    "trigonometry": (col("a").sin() + pl.arctan2("a", "b"), "float"),
    "horizontal": (pl.min_horizontal("a", "b") + pl.max_horizontal("a", "b") + pl.sum_horizontal("a", "b"), "float"),
    "mean_horizontal": (pl.mean_horizontal("a", "b"), "float"),
    "any of columns": (pl.any_horizontal("p", "q") | pl.all_horizontal("p", "q"), "bool"),
    "coalesce": (pl.coalesce("a", "b", 0), "float"),
    "fill_null": (col("a").fill_null(0), "float"),
    "fill_nan": (col("a").fill_nan(0), "float"),
    "case of letters": (col("s").str.to_lowercase() + col("s").str.to_uppercase(), "str"),
    "strip": (col("s").str.strip_chars().str.strip_prefix("a"), "str"),
    "starts and ends": (col("s").str.starts_with("a") | col("s").str.ends_with("b"), "bool"),
    "contains": (col("s").str.contains("a|b"), "bool"),
    "length": (col("s").str.len_chars() + col("s").str.len_bytes(), "int"),
    "slice and replace": (col("s").str.slice(0, 2).str.replace("a", "b"), "str"),
    "extract": (col("s").str.extract("([a-z]+)"), "str"),
    "concat of texts": (pl.concat_str("s", pl.lit("-"), "c"), "str"),
    "to_integer": (col("s").str.to_integer(strict=False), "int"),
    "an instant of a text, with a format": (col("s").str.to_datetime("%Y-%m-%d", time_zone="UTC", strict=False), "datetime"),
    "parts of an instant": (col("t").dt.hour() + col("t").dt.weekday() + col("t").dt.ordinal_day(), "int"),
    "weekend": (col("t").dt.weekday() >= 6, "bool"),
    "hour of a zone": (col("t").dt.convert_time_zone("America/New_York").dt.hour(), "int"),
    "time of day": (col("t").dt.time() > time(8), "bool"),
    "pl.duration": (col("t") - pl.duration(minutes=15), "datetime"),
    "pl.duration of a column": (col("t") + pl.duration(minutes="i"), "datetime"),
    "timedelta": (col("t") - timedelta(minutes=15), "datetime"),
    "offset_by": (col("t").dt.offset_by("-15m"), "datetime"),
    "truncate": (col("t").dt.truncate("1h"), "datetime"),
    "between two instants": ((col("t") - col("u")).dt.total_minutes(), "int"),
    "epoch": (col("t").dt.epoch("s"), "int"),
    "strftime": (col("t").dt.strftime("%H:%M"), "str"),
    "sql": (pl.sql_expr("a + 1"), "float"),
    "an alias": (col("a").alias("z"), "float"),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "sum": (col("a").sum(), "sum() is an aggregate"),
    "mean in arithmetic": (col("a") - col("a").mean(), "mean() is an aggregate"),
    "min": (col("a").min(), "min() is an aggregate"),
    "std": (col("a").std(), "std() is an aggregate"),
    "first": (col("a").first(), "first() is an aggregate"),
    "n_unique": (col("a").n_unique(), "n_unique() is an aggregate"),
    "implode": (col("a").implode(), "implode() is an aggregate"),
    "dot": (col("a").dot("b"), "sum() is an aggregate"),
    "quantile": (col("a").quantile(0.5), "quantile() looks at other rows"),
    "len": (pl.len(), "len() counts rows"),
    "over": (col("a").sum().over("s"), "over() looks at other rows"),
    "shift": (col("a").shift(1), "shift() looks at other rows"),
    "shift deep inside": (pl.when(col("p")).then(col("a") + col("b").shift(1).abs()).otherwise(0), "shift() looks at other rows"),
    "diff": (col("a").diff(), "diff() looks at other rows"),
    "pct_change": (col("a").pct_change(), "pct_change() looks at other rows"),
    "cum_sum": (col("a").cum_sum(), "cum_sum() looks at other rows"),
    "rank": (col("a").rank(), "rank() looks at other rows"),
    "sort": (col("a").sort(), "sort() looks at other rows"),
    "sort_by": (col("a").sort_by("b"), "sort_by() looks at other rows"),
    "reverse": (col("a").reverse(), "reverse() looks at other rows"),
    "rolling": (col("a").rolling_mean(3), "rolling_mean() looks at other rows"),
    "rolling by": (col("a").rolling_sum_by("t", "1h"), "rolling_sum_by() looks at other rows"),
    "ewm": (col("a").ewm_mean(com=1), "ewm_mean() looks at other rows"),
    "interpolate": (col("a").interpolate(), "interpolate() looks at other rows"),
    "forward fill": (col("a").fill_null(strategy="forward"), "fill_null(strategy=...) looks at other rows"),
    "duplicates": (col("a").is_duplicated(), "is_duplicated() looks at other rows"),
    "first distinct": (col("a").is_first_distinct(), "is_first_distinct() looks at other rows"),
    "runs": (col("a").rle_id(), "rle_id() looks at other rows"),
    "any": (col("p").any(), "any() looks at other rows"),
    "row number": (pl.int_range(pl.len()), "int_range() looks at other rows"),
    "filter": (col("a").filter(col("p")), "filter() leaves rows out"),
    "head": (col("a").head(2), "slice() looks at other rows"),
    "gather": (col("a").gather([0]), "gather() looks at other rows"),
    "unique": (col("a").unique(), "unique() looks at other rows"),
    "explode": (col("a").explode(), "explode() gives other rows"),
    "a join of texts": (col("s").str.join(","), "concat_vertical() looks at other rows"),
    "a Series": (col("a") + pl.lit(pl.Series([1.0, 2.0])), "a literal Series"),
    "a Series of one": (col("a") + pl.lit(pl.Series([1.0])), "a literal Series"),
    "is_in a Series": (col("i").is_in(pl.Series([1, 2])), "no list of literals"),
    "is_in a column": (col("i").is_in(col("j").implode()), "no list of literals"),
    "a list": (pl.lit([1, 2]), "is_in() only"),
    "categorical": (col("s").cast(pl.Categorical), "a cast to Categorical"),
    "enum": (col("s").cast(pl.Enum(["a"])), "a cast to Enum"),
    "a literal category": (pl.lit("x", dtype=pl.Categorical), "a literal of type Categorical"),
    "the physical value": (col("s").to_physical(), "to_physical() is not known"),
    "hash": (col("s").hash(), "hash() gives other values with another version"),
    "shuffle": (col("a").shuffle(), "shuffle() is random"),
    "sample": (col("a").sample(3), "sample() is random"),
    "map_elements": (col("a").map_elements(lambda x: x, return_dtype=pl.Float64), "a Python function"),
    "map_batches": (col("a").map_batches(lambda x: x), "a Python function"),
    "fold": (pl.fold(0, lambda x, y: x + y, [col("a"), col("b")]), "calls a Python function"),
    "inferred instant": (col("s").str.to_datetime(), "give format="),
    "inferred date": (col("s").str.to_date(), "give format="),
    "inferred by a cast": (col("s").cast(pl.Datetime("us", "UTC")), "guesses its format"),
    "inferred by a cast inside": (col("s").str.strip_chars().cast(pl.Date).dt.year(), "guesses its format"),
    "NaN": (pl.when(col("p")).then(float("nan")), "NaN or infinite"),
    "infinity": (col("a") + float("inf"), "NaN or infinite"),
    "infinity of 32 bits": (col("a") + pl.lit(float("inf"), pl.Float32), "NaN or infinite"),
    "infinity in is_in": (col("a").is_in([1.0, float("inf")]), "no plain value"),
    "all columns": (pl.all(), "a selector"),
    "a pattern": (col("^a.*$"), "a selector"),
    "two columns": (col("a", "b"), "a selector"),
    "selectors": (pl.selectors.numeric(), "a selector"),
    "a struct": (pl.struct("a", "b"), "as_struct() is not known to be row-level"),
    "replace": (col("i").replace({1: 2, 2: 3}), "write pl.when"),
    "decimal": (col("s").str.to_decimal(scale=2), "to_decimal() is not known to be row-level"),
    "json": (col("s").str.json_decode(pl.Int64), "json_decode() is not known to be row-level"),
    "unfit types": (col("s") + 1, "does not fit its columns"),
    "an unknown column": (col("delya"), "no column 'delya'"),
    "no expression": (5, "is no expression"),
    "an open when": (pl.when(col("p")), "is no expression"),
}


@pytest.mark.parametrize(("expression", "kind"), ALLOWED.values(), ids=ALLOWED.keys())
def test_what_looks_at_its_own_row_is_allowed(expression: Any, kind: str) -> None:
    assert row_level_problems(expression, COLUMNS) == []
    assert output_type(expression, COLUMNS) == kind


@pytest.mark.parametrize(("expression", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_is_refused_and_named(expression: Any, text: str) -> None:
    problems = row_level_problems(expression, COLUMNS)
    assert len(problems) == 1
    assert text in problems[0]


def test_every_reason_is_told_at_once() -> None:
    expression = col("a").shift(1) + col("b").rank() + col("a").shift(2) + col("i").sum()
    assert row_level_problems(expression, COLUMNS) == tree_problems(expression)
    assert [text.split("(")[0] for text in tree_problems(expression)] == ["shift", "rank", "sum"]


def test_a_node_that_nobody_has_heard_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.definitions.expressions._tree", lambda _: {"Invented": {"input": []}})
    assert tree_problems("x") == ["invented() is not known to be row-level"]


def test_the_random_rows_catch_what_the_list_would_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were shift on the list by mistake, evaluation alone would still find it."""
    monkeypatch.setitem(sys.modules["twofold.definitions.expression_tree"].FUNCTIONS, "Shift", "shift")
    (problem,) = row_level_problems(col("a").shift(1), COLUMNS)
    assert "for it alone" in problem


def test_a_row_alone_catches_what_no_order_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["twofold.definitions.expression_tree"].FUNCTIONS, "NullCount", "null_count")
    (problem,) = row_level_problems(col("a") + col("a").null_count(), COLUMNS)
    assert "for it alone" in problem


def test_random_rows_are_the_same_each_time_and_have_nulls_and_edges() -> None:
    rows = random_rows(COLUMNS)
    assert rows.equals(random_rows(COLUMNS))
    assert rows.height == 64
    assert all(0 < count < 32 for count in rows.null_count().row(0))
    assert {1.7976931348623157e308, 0.0} <= set(rows["a"])


# Types


def test_a_plain_column_keeps_its_declared_type() -> None:
    assert output_type("c", COLUMNS) == output_type(col("c"), COLUMNS) == "category"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (col("t").dt.date(), "gives Date"),
        (col("t") - col("u"), "gives Duration"),
        (col("t").dt.replace_time_zone(None), "give it the zone UTC"),
        (pl.lit(None), "gives Null"),
        (col("a") + col("s"), "does not fit its columns"),
        (pl.struct("a"), "gives Struct"),
        (pl.all(), "gives 10 columns"),
    ],
)
def test_what_is_no_type_of_ours(expression: pl.Expr, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        output_type(expression, COLUMNS)


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(UnknownColumn, match=r"no column 'delya'; there are delay, origin\. Did you mean 'delay'\?"):
        output_type(col("delya") + 1, {"delay": "float", "origin": "str"})


# Columns and canonical texts


@pytest.mark.parametrize(
    ("expression", "names"),
    [("a b", ("a b",)), (col("a") + col("b") * col("a"), ("a", "b")), (pl.lit(1), ()), (pl.when(col("p")).then(col("a")), ("a", "p"))],
)
def test_the_columns_that_an_expression_reads(expression: Any, names: tuple[str, ...]) -> None:
    assert sorted(root_columns(expression)) == sorted(names)


CANONICAL = {
    "a column": ("delay", '["column","delay"]'),
    "a column as an expression": (col("delay"), '["column","delay"]'),
    "an alias is no meaning": ((col("a") > 15).alias("late"), '["greater",["column","a"],["literal","int",15]]'),
    "a float literal": (col("a") * 0.1, '["multiply",["column","a"],["literal","float",0.1]]'),
    "a duration": (col("t") - pl.duration(minutes=15), '["subtract",["column","t"],["literal","Duration",[900000000,"Microseconds"]]]'),
    "a timedelta is the same": (
        col("t") - timedelta(minutes=15),
        '["subtract",["column","t"],["literal","Duration",[900000000,"Microseconds"]]]',
    ),
    "a list is a set": (
        col("s").is_in(["b", "a", "b", None]),
        '["is_in",{"nulls_equal":false},["column","s"],["literal","list","String",["a","b",null]]]',
    ),
    "a cast": (col("i").cast(pl.Float64), '["cast",["column","i"],"Float64","Strict"]'),
    "a function with options": (col("a").round(2), '["round",{"decimals":2,"mode":"HalfToEven"},["column","a"]]'),
    "when": (
        pl.when(col("p")).then(col("a")).otherwise(None),
        '["when",["column","p"],["column","a"],["literal","Null","Null"]]',
    ),
}


@pytest.mark.parametrize(("expression", "text"), CANONICAL.values(), ids=CANONICAL.keys())
def test_canonical_texts_are_pinned(expression: Any, text: str) -> None:
    assert canonical_text(expression) == text


def test_different_meanings_have_different_texts() -> None:
    named = {name: canonical_text(expression) for name, (expression, _) in ALLOWED.items()}
    shared = [{name for name, text in named.items() if text == other} for other in set(named.values())]
    assert [names for names in shared if len(names) > 1 and names != {"pl.duration", "timedelta"}] == [{"a column's name", "an alias"}]
    near = [col("a") + 1, col("a") + 1.0, col("a") + pl.lit(1, pl.Int32), 1 + col("a"), col("a").is_in([1.0]), col("a").is_in([2.0])]
    assert len({canonical_text(expression) for expression in near}) == len(near)


def test_a_canonical_text_is_the_same_in_another_process() -> None:
    """A set's order is not, from process to process."""
    words = [f"w{i}" for i in range(50)]
    code = (
        "import polars as pl; from twofold.definitions.expressions import canonical_text;"
        f"print(canonical_text(pl.col('s').is_in(set({words!r}))))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert answers == {canonical_text(col("s").is_in(words))}


def test_nothing_is_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canonical_text(col("s").is_in(["a"]))


# Values


def bits(values: pl.Series) -> list[Any]:
    values = values.to_physical() if values.dtype.is_temporal() else values
    return [struct.pack("<d", value) if isinstance(value, float) and not math.isnan(value) else str(value) for value in values]


FLOATS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.floats(-1000, 1000), st.integers(-50, 50).map(float))
INTS = st.one_of(st.none(), st.integers(-1000, 1000), st.integers(-(2**63), 2**63 - 1))
NUMERIC = [
    (name, expression)
    for name, (expression, kind) in ALLOWED.items()
    if root_columns(expression) and set(root_columns(expression)) <= {"a", "b", "i", "j"}
]


@pytest.mark.parametrize("expression", [item[1] for item in NUMERIC], ids=[item[0] for item in NUMERIC])
@settings(max_examples=40)
@given(rows=st.lists(st.tuples(FLOATS, FLOATS, INTS, INTS), min_size=1, max_size=20), data=st.data())
def test_a_row_has_the_same_bits_whatever_stands_beside_it(expression: Any, rows: list[Any], data: st.DataObject) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Float64, "b": pl.Float64, "i": pl.Int64, "j": pl.Int64}, orient="row")
    whole = bits(evaluate(expression, frame).values)
    begin = data.draw(st.integers(0, len(rows) - 1))
    end = data.draw(st.integers(begin + 1, len(rows)))
    assert bits(evaluate(expression, frame[begin:end]).values) == whole[begin:end]
    pieces = pl.concat([frame[row : row + 1] for row in range(len(rows))])
    assert bits(evaluate(expression, pieces).values) == whole


def test_polars_alone_divides_one_row_otherwise_than_many() -> None:
    """Why `evaluate` exists: should this fail one day, it may become simpler."""
    frame = pl.DataFrame({"a": [11.1, 11.2, 11.3, 12.7, 17.9]})
    single = [frame[row : row + 1].select(col("a") / 7).item() for row in range(5)]
    assert single != frame.select(col("a") / 7)["a"].to_list()


def test_a_column_of_one_repeated_literal_is_a_column_like_any_other() -> None:
    frame = pl.DataFrame({"a": [11.1, 11.3, 12.7]}).with_columns(k=pl.lit(12.7))
    assert evaluate(col("k") / 7, frame).values[0] == evaluate(col("a") / 7, frame).values[2]


def test_a_literal_has_one_value_a_row() -> None:
    frame = pl.DataFrame({"a": [1.0, 2.0, 3.0]})
    for height in range(4):
        assert evaluate(pl.lit(True), frame[:height]).values.to_list() == [True] * height


def test_a_row_on_which_an_expression_fails_is_null_and_counted() -> None:
    frame = pl.DataFrame({"s": ["1", "x", "3", None, "y"], "other": [[1], [2], [3], [4], [5]]})
    values, failed = evaluate(col("s").cast(pl.Int64), frame)
    assert (values.to_list(), failed, values.dtype) == ([1, None, 3, None, None], 2, pl.Int64)
    assert evaluate(col("s").cast(pl.Int64), frame[1:2]).values.to_list() == [None]


def test_no_rows_give_no_values_of_the_right_type() -> None:
    values, failed = evaluate(col("s").cast(pl.Int64), pl.DataFrame(schema={"s": pl.String}))
    assert (len(values), failed, values.dtype) == (0, 0, pl.Int64)
