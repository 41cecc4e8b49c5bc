"""Hashes of content, and the source of functions: pinned, since they name what is stored."""

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import DefinitionError
from twofold.versions import function_source, syntax_content, version_of

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_a_version_is_pinned() -> None:
    content = {"name": "airport", "by": ["origin"], "windows": [3_600_000_000, None], "share": 0.1, "is_late": True, "ü": "\ud800"}
    assert version_of(content) == "03b34de6d7b29a96"


@given(json_values)
def test_the_order_of_mappings_is_no_content(value: Any) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: turned(item[name]) for name in reversed(item)}
        return [turned(part) for part in item] if isinstance(item, list) else item

    assert version_of(turned(value)) == version_of(value)


@given(json_values, json_values)
def test_other_content_has_another_version(left: Any, right: Any) -> None:
    assert (version_of(left) == version_of(right)) == (json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True))


@pytest.mark.parametrize("pair", [(1, 1.0), (1, True), ("1", 1), ([], {}), (None, "None"), ([1, [2]], [[1], 2]), ({"a": None}, {})])
def test_near_content_has_another_version(pair: tuple[Any, Any]) -> None:
    assert version_of(pair[0]) != version_of(pair[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"x"])
def test_what_is_no_json_has_no_version(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        version_of(value)


def test_a_version_is_the_same_in_another_process() -> None:
    code = "from twofold.versions import version_of; print(version_of({'b': [1, 'x'], 'a': 0.1}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == version_of({"a": 0.1, "b": [1, "x"]})


# Sources of functions. The layout of what follows is the test.


def call(*functions: Callable[..., Any], **named: Callable[..., Any]) -> list[Callable[..., Any]]:
    return [*functions, *named.values()]


# fmt: off
ONE_LINE = {"a": lambda x, y: x - y, "b": lambda x, y: x + y, "c": lambda y, x: x + y}
LINES = {
    "a": lambda x, y: x - y,
    "b": lambda x,
                y: (x
                    * y),
    "ü": lambda x, y: "ü" + x, "after ü": lambda x, y: "ü" + y,
}
CALL = call(
    lambda x: x + 1,
    lambda x: (
        x + 2
    ),
    trend=lambda x: x + 3, other=lambda x: x + 4,
)
OUTER = lambda x: (lambda x: x + 5)  # noqa: E731
# fmt: on


def plain(x: float, *, k: int = 2) -> float:
    """Twice."""
    return x * k


def bare(x, *, k=2):  # type: ignore[no-untyped-def]
    return x * k


def starred(x, /, *rest, **named):  # type: ignore[no-untyped-def]
    return x


SOURCES = [
    (ONE_LINE["a"], "lambda x, y: x - y"),
    (ONE_LINE["b"], "lambda x, y: x + y"),
    (ONE_LINE["c"], "lambda y, x: x + y"),
    (LINES["a"], "lambda x, y: x - y"),
    (LINES["b"], "lambda x, y: x * y"),
    (LINES["ü"], "lambda x, y: 'ü' + x"),
    (LINES["after ü"], "lambda x, y: 'ü' + y"),
    (CALL[0], "lambda x: x + 1"),
    (CALL[1], "lambda x: x + 2"),
    (CALL[2], "lambda x: x + 3"),
    (CALL[3], "lambda x: x + 4"),
    (OUTER, "lambda x: lambda x: x + 5"),
    (OUTER(0), "lambda x: x + 5"),
    (bare, "def bare(x, *, k=2):\n    return x * k"),
    (starred, "def starred(x, /, *rest, **named):\n    return x"),
]


@pytest.mark.parametrize(("function", "source"), SOURCES, ids=[source for _, source in SOURCES])
def test_a_function_is_found_by_its_own_instructions(function: Callable[..., Any], source: str) -> None:
    assert ast.unparse(function_source(function)) == source


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*arguments: Any) -> Any:
        return function(*arguments) + 1

    return inner


@decorated
def wrapped(x: float) -> float:
    return x


@functools.cache
def cached(x: float) -> float:
    return x


class CallableThing:
    def __call__(self, x: float) -> float:
        return x


WITHOUT = [
    np.subtract,
    len,
    functools.partial(bare, k=3),
    wrapped,
    cached,
    cached.__wrapped__,
    CallableThing(),
    int,
    None,
    eval("lambda x: x"),
]


@pytest.mark.parametrize("thing", WITHOUT, ids=lambda thing: re.sub(" at 0x[0-9a-f]+", "", repr(thing)))
def test_what_has_no_source_of_its_own(thing: Any) -> None:
    with pytest.raises(DefinitionError):
        function_source(thing)


def test_a_file_that_has_changed_since_gives_no_wrong_source(tmp_path: Path) -> None:
    path = tmp_path / "changing.py"
    path.write_text("f = lambda x: x + 1\n")
    found: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), found)
    assert ast.unparse(function_source(found["f"])) == "lambda x: x + 1"
    for other in ("# moved down\nf = lambda x: x + 1\n", "f = lambda y: y + 1\n", "def f(x): return x\n"):
        path.write_text(other)
        with pytest.raises(DefinitionError, match="load the file anew"):
            function_source(found["f"])


def test_the_meaning_of_a_function_is_pinned() -> None:
    content = syntax_content(function_source(bare))
    assert version_of(content) == "56e12501988ff6d5"
    assert "bare" not in json.dumps(content)


def test_names_docstrings_and_annotations_are_no_meaning() -> None:
    assert syntax_content(function_source(plain)) == syntax_content(function_source(bare))


@pytest.mark.parametrize(
    "pair",
    [
        ("x + 1", "x + 2"),
        ("x + 1", "x + 1.0"),
        ("x + 1", "1 + x"),
        ("'1'", "1"),
        ("True", "1"),
        ("x < y", "x <= y"),
        ("x[0]", "x[1]"),
        ("b'a'", "'a'"),
    ],
)
def test_other_syntax_is_another_meaning(pair: tuple[str, str]) -> None:
    left, right = (syntax_content(ast.parse(text, mode="eval").body) for text in pair)
    assert version_of(left) != version_of(right)


@pytest.mark.parametrize("pair", [("x+1", "(x +  1)"), ("'a'", '"a"'), ("1e3", "1000.0"), ("0x10", "16"), ("x\\\n+ 1", "x + 1")])
def test_layout_is_no_meaning(pair: tuple[str, str]) -> None:
    left, right = (syntax_content(ast.parse(text, mode="eval").body) for text in pair)
    assert left == right
