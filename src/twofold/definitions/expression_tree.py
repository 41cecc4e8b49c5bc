"""The serialised tree of a Polars expression, read against the list of what is allowed: its canonical form and its problems.

Nothing here evaluates. The words on the right are Twofold's own: they go into version hashes, so that a release of Polars that
renames a node needs a new line here and changes no version. A node that is not listed is refused.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

Node = Any
"""A piece of Polars' JSON: `{"Column": "delay"}`."""

BINARY = {
    "Plus": "add",
    "Minus": "subtract",
    "Multiply": "multiply",
    "TrueDivide": "divide",
    "FloorDivide": "floor_divide",
    "Modulus": "modulo",
    "Eq": "equal",
    "NotEq": "not_equal",
    "EqValidity": "equal_missing",
    "NotEqValidity": "not_equal_missing",
    "Lt": "less",
    "LtEq": "less_equal",
    "Gt": "greater",
    "GtEq": "greater_equal",
    "And": "and",
    "Or": "or",
    "Xor": "xor",
    "LogicalAnd": "logical_and",
    "LogicalOr": "logical_or",
}

_SAME_NAMED = """
Abs Sign Negate Round RoundSF Truncate Floor Ceil Clip Log Log1p Exp Atan2 Coalesce FillNull
MinHorizontal MaxHorizontal SumHorizontal MeanHorizontal
Pow.Generic Pow.Sqrt Pow.Cbrt
Trigonometry.Sin Trigonometry.Cos Trigonometry.Tan Trigonometry.Cot Trigonometry.ArcSin Trigonometry.ArcCos Trigonometry.ArcTan
Trigonometry.Sinh Trigonometry.Cosh Trigonometry.Tanh Trigonometry.ArcSinh Trigonometry.ArcCosh Trigonometry.ArcTanh
Trigonometry.Degrees Trigonometry.Radians
Boolean.Not Boolean.IsNull Boolean.IsNotNull Boolean.IsNan Boolean.IsNotNan Boolean.IsFinite Boolean.IsInfinite
Boolean.IsIn Boolean.IsBetween Boolean.IsClose Boolean.AnyHorizontal Boolean.AllHorizontal
StringExpr.Lowercase StringExpr.Uppercase StringExpr.Titlecase StringExpr.StripChars StringExpr.StripCharsStart
StringExpr.StripCharsEnd StringExpr.StripPrefix StringExpr.StripSuffix StringExpr.StartsWith StringExpr.EndsWith
StringExpr.Contains StringExpr.CountMatches StringExpr.Find StringExpr.LenChars StringExpr.LenBytes StringExpr.Slice
StringExpr.Head StringExpr.Tail StringExpr.Replace StringExpr.Extract StringExpr.Reverse StringExpr.ZFill StringExpr.PadStart
StringExpr.PadEnd StringExpr.ConcatHorizontal StringExpr.Format StringExpr.ToInteger StringExpr.Strptime StringExpr.Normalize
TemporalExpr.Century TemporalExpr.Year TemporalExpr.IsoYear TemporalExpr.Quarter TemporalExpr.Month TemporalExpr.Week
TemporalExpr.WeekDay TemporalExpr.Day TemporalExpr.OrdinalDay TemporalExpr.Hour TemporalExpr.Minute TemporalExpr.Second
TemporalExpr.Millisecond TemporalExpr.Microsecond TemporalExpr.Nanosecond TemporalExpr.IsLeapYear TemporalExpr.DaysInMonth
TemporalExpr.Date TemporalExpr.Time TemporalExpr.TotalDays TemporalExpr.TotalHours TemporalExpr.TotalMinutes
TemporalExpr.TotalSeconds TemporalExpr.TotalMilliseconds TemporalExpr.TotalMicroseconds TemporalExpr.TotalNanoseconds
TemporalExpr.Truncate TemporalExpr.Round TemporalExpr.OffsetBy TemporalExpr.MonthStart TemporalExpr.MonthEnd
TemporalExpr.TimeStamp TemporalExpr.ToString TemporalExpr.ConvertTimeZone TemporalExpr.ReplaceTimeZone
TemporalExpr.CastTimeUnit TemporalExpr.BaseUtcOffset TemporalExpr.DSTOffset TemporalExpr.Duration
ListExpr.Length ListExpr.Contains ListExpr.Get
"""

_GROUPS = frozenset(
    {"Boolean", "StringExpr", "TemporalExpr", "Pow", "Trigonometry", "Bitwise", "ListExpr", "ArrayExpr", "StructExpr", "Range"}
)


def snake(name: str) -> str:
    """`TemporalExpr.IsoYear` as people write it: `iso_year`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2]).lower()


def _word(path: str) -> str:
    group, _, _ = path.rpartition(".")
    prefix = {"StringExpr": "str.", "TemporalExpr": "dt.", "ListExpr": "list."}.get(group, "")
    return prefix + {"RoundSF": "round_sig_figs", "Pow.Generic": "pow", "ListExpr.Length": "len"}.get(path, snake(path))


FUNCTIONS = {path: _word(path) for path in _SAME_NAMED.split()}

_INTEGERS = frozenset({"Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"})
CASTS = _INTEGERS | {"Float32", "Float64", "Boolean", "String", "Date", "Datetime", "Duration"}
SCALARS = CASTS | {"Null", "Time"}
PARSED = frozenset({"Date", "Datetime", "Duration"})
"""Casts that, from a text, would guess the format from the data."""

_OTHER_ROWS = """
Shift ShiftAndFill Diff PctChange CumCount CumSum CumProd CumMin CumMax CumReduceHorizontal Rank FillNullWithStrategy RollingExpr
RollingExprBy EwmMean EwmMeanBy EwmStd EwmVar EwmSum Interpolate InterpolateBy RLE RLEID PeakMin PeakMax Reverse ArgSort ArgUnique ArgWhere
ArgMin ArgMax TopK TopKBy Unique UniqueCounts ValueCounts Mode Quantile Skew Kurtosis Correlation Entropy Hist QCut DropNulls DropNans
Append ExtendConstant SearchSorted GatherEvery Repeat Reshape Range
Boolean.IsDuplicated Boolean.IsUnique Boolean.IsFirstDistinct Boolean.IsLastDistinct Boolean.Any Boolean.All Boolean.AllNull
StringExpr.ConcatVertical
"""
_REFUSED = dict.fromkeys(_OTHER_ROWS.split(), "looks at other rows") | {
    "Hash": "gives other values with another version of Polars",
    "Random": "is random",
    "FoldHorizontal": "calls a Python function, whose meaning cannot be written down",
    "ReduceHorizontal": "calls a Python function, whose meaning cannot be written down",
    "Replace": "is not known to be row-level; write pl.when(...).then(...).otherwise(...)",
    "ReplaceStrict": "is not known to be row-level; write pl.when(...).then(...).otherwise(...)",
}

_NODES = {
    "Agg": "is an aggregate over rows; aggregates belong in features, as in tw.sum(...)",
    "Over": "looks at other rows",
    "Rolling": "looks at other rows",
    "Sort": "looks at other rows",
    "SortBy": "looks at other rows",
    "Filter": "leaves rows out; give the condition as where=, or use events.filter(...)",
    "Slice": "looks at other rows",
    "Gather": "looks at other rows",
    "Explode": "gives other rows than it was given",
    "Len": "counts rows; that is tw.count()",
    "Element": "looks at other rows",
}


@dataclass
class Reading:
    """What a walk over a tree found besides its canonical form.

    `problems` are texts, `parsed` the sub-trees that a cast turns into an instant (refused where they are texts).
    """

    problems: list[str] = field(default_factory=list)
    parsed: list[Node] = field(default_factory=list)


def read(node: Node, found: Reading) -> Any:
    """Canonical form of a tree as JSON values: `["add", ["column", "delay"], ["literal", "int", 1]]`; fills `found`."""
    kind, content = _head(node)
    match kind:
        case "Column":
            return ["column", content]
        case "Alias":
            return read(content[0], found)
        case "Literal":
            return ["literal", *_literal(content, found)]
        case "BinaryExpr" if content["op"] in BINARY:
            return [BINARY[content["op"]], read(content["left"], found), read(content["right"], found)]
        case "Ternary":
            return ["when", *(read(content[part], found) for part in ("predicate", "truthy", "falsy"))]
        case "Cast":
            return _cast(content, found)
        case "Function":
            return _function(content, found)
    found.problems.append(_refusal(kind, content))
    return ["unknown", node]


def _head(node: Node) -> tuple[str, Any]:
    """Name and content of a node: `{"Column": "a"}` or a bare `"Len"`."""
    if isinstance(node, Mapping) and len(node) == 1:
        return next(iter(node.items()))
    return str(node), None


def _refusal(kind: str, content: Any) -> str:
    if kind == "Agg":
        name, _ = _head(content)
        return f"{'n_unique' if name == 'NUnique' else snake(name)}() {_NODES[kind]}"
    if kind == "Selector":
        return "a selector (pl.all(), a pattern or a list of columns) stands for columns that may change; name one column"
    if kind == "AnonymousFunction":
        return "a Python function (map_elements, map_batches) cannot be looked into; write it with Polars expressions"
    return f"{snake(kind)}() {_NODES.get(kind, 'is not known to be row-level')}"


def _function(content: Mapping[str, Any], found: Reading) -> Any:
    path, options = _path(content["function"])
    if path not in FUNCTIONS:
        why = _REFUSED.get(path) or _REFUSED.get(path.partition(".")[0], "is not known to be row-level")
        found.problems.append(f"{_call(_written(path, options))} {why}")
        return ["unknown", content]
    word = FUNCTIONS[path]
    if path == "StringExpr.Strptime":
        if options[1].get("format") is None:
            found.problems.append("str.to_datetime() without a format guesses it from the data; give format=")
        options = {"dtype": _dtype(options[0], found), **options[1]}
    if path == "Boolean.IsIn":
        return [word, options, read(content["input"][0], found), _members(content["input"][1], found)]
    return [word, options, *(read(part, found) for part in content["input"])]


def _call(word: str) -> str:
    return word if word.endswith(")") else f"{word}()"


def _written(path: str, options: Any) -> str:
    """The method that people called: `rolling_mean` for `{"RollingExpr": {"function": "Mean"}}`."""
    if path == "Random":
        return snake(_head(options["method"])[0])
    if path in ("RollingExpr", "RollingExprBy"):
        return f"rolling_{snake(options.get('function') or options.get('function_by'))}"
    return {"RLEID": "rle_id", "FillNullWithStrategy": "fill_null(strategy=...)"}.get(path, snake(path))


def _path(function: Node) -> tuple[str, Any]:
    """`{"StringExpr": {"Contains": {...}}}` as ("StringExpr.Contains", {...})."""
    name, options = _head(function)
    if name in _GROUPS and options is not None:
        inner, options = _head(options)
        return f"{name}.{inner}", options
    return name, options


def _cast(content: Mapping[str, Any], found: Reading) -> Any:
    dtype = _dtype(content["dtype"], found)
    if _head(dtype)[0] in PARSED:
        found.parsed.append(content["expr"])
    return ["cast", read(content["expr"], found), dtype, content["options"]]


def _dtype(written: Node, found: Reading) -> Any:
    """The type of a cast, which must be spelt out and plain."""
    kind, dtype = _head(written)
    name = _head(dtype)[0]
    if kind != "Literal" or name not in CASTS:
        got = name if kind == "Literal" else "a type that depends on the data"
        found.problems.append(f"a cast to {got} is not allowed; types are {', '.join(sorted(CASTS))}")
    return dtype


def _literal(content: Node, found: Reading) -> tuple[str, Any]:
    """Type and value of a scalar."""
    origin, typed = _head(content)
    name, value = _head(typed)
    if origin == "Dyn" and name in ("Int", "Float", "Str"):
        if name == "Float" and value is None:
            found.problems.append("a literal is NaN or infinite")
        return name.lower(), value
    if origin == "Scalar" and name in SCALARS:
        if name.startswith("Float") and value is None:
            found.problems.append("a literal is NaN or infinite")
        return name, value
    if origin == "Series":
        found.problems.append("a literal Series is a column of its own; give a single value, or a plain list to is_in()")
    elif name == "List":
        found.problems.append("a literal list is allowed in is_in() only")
    else:
        found.problems.append(f"a literal of type {name if origin == 'Scalar' else origin} is not allowed")
    return "unknown", content


def _members(node: Node, found: Reading) -> Any:
    """The values that `is_in` looks among, each once and in a fixed order: a set's order changes from run to run."""
    content = node.get("Literal") if isinstance(node, Mapping) else None
    if not isinstance(content, Mapping) or _head(content.get("Scalar"))[0] != "List":
        found.problems.append("is_in() looks among something that is no list of literals; give a plain list")
        return ["unknown", node]
    dtype, values = _list_values(node)
    texts = sorted({json.dumps(_plain(value, found)) for value in values})
    return ["literal", "list", dtype, [json.loads(text) for text in texts]]


def from_tree(node: Node) -> pl.Expr:
    """The expression of a tree that holds no Python function."""
    import polars as pl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")


def _list_values(node: Node) -> tuple[str, list[Any]]:
    """Type and values of a list literal, which Polars writes as bytes of its own format."""
    import polars as pl

    series = pl.select(from_tree(node)).to_series()[0]
    if series.dtype.is_temporal():
        return str(series.dtype), series.to_physical().to_list()
    return str(series.dtype), series.to_list()


def _plain(value: Any, found: Reading) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    found.problems.append(f"is_in() looks for {value!r}, which is no plain value")
    return repr(value)
