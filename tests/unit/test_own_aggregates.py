"""Aggregates of one's own: what is refused with which text, what the version is made of, faults in their code, labels, and replicas."""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import twofold as tw
from twofold.algebra.base import OVERFLOW, Item, Window
from twofold.algebra.guarded import BROKEN, Guarded, WrongResult, conformed
from twofold.algebra.own import class_of_source
from twofold.clocks import ManualClock
from twofold.definitions.check import check
from twofold.definitions.load import load_project
from twofold.definitions.own_source import class_content, own_source
from twofold.errors import DefinitionError
from twofold.plan.compile import compile_view
from twofold.testing import check_aggregate

EVENTS = tw.Events("ev", time="t", schema={"k": str, "x": float, "i": int, "s": str})
HEAD = "import math\nimport polars as pl\nimport numpy as np\nimport twofold as tw\n"
GOOD = '''
LIMIT = 5
class Longest(tw.Aggregate):
    """The longest text."""
    accepts = {"str"}
    state_type = str
    result_type = "str"
    def zero(self): return ""
    def add(self, state, item): return self.merge(state, item.value)
    def merge(self, left: str, right: str) -> str:
        return max(left, right, key=lambda text: (len(text), text))
    def result(self, state, t_us, window): return state or None
'''
TAIL = """
ev = tw.Events("ev", time="t", schema={"k": str, "x": float, "i": int, "s": str})
view = tw.View("v", ev, by="k", features={"own": tw.aggregate(Longest, "s", over=["1h", "1d"])})
project = tw.Project("p", views=[view])
"""


def project_of(folder: Path, text: str, *changes: tuple[str, str]) -> tw.Project:
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "file.py").write_text(text)
    return load_project(folder / "file.py")


REFUSED = [
    (('accepts = {"str"}', 'accepts = {"text"}'), "accepts names 'text'; inputs are .*bool"),
    (('accepts = {"str"}', "accepts = 7"), "accepts is 7; name the types"),
    (("    state_type = str\n", ""), "it has no state_type"),
    (("state_type = str", "state_type = set[str]"), "a set has no order"),
    (("state_type = str", "state_type = dict[int, str]"), "the keys of a dict are texts"),
    (("state_type = str", "state_type = complex"), "reads 'complex'|made of int"),
    (('result_type = "str"', 'result_type = "string"'), "result_type is 'string'.*Did you mean 'str'"),
    (('result_type = "str"', 'result_type = "list[list[int]]"'), "results are float"),
    (('    def zero(self): return ""\n', ""), "lacks zero; it needs zero, add, merge, result"),
    (("class Longest(tw.Aggregate)", "class Base(tw.Aggregate): pass\nclass Longest(Base)"), "subclass that alone"),
    (("state or None", "state[:LIMIT] or None"), "file.py:16: aggregate Longest: result reads 'LIMIT', which a replica does not have"),
    (("state or None", "pl.Series([state])[0]"), "result reads 'pl', which a replica does not have"),
    (("state or None", "open(state)"), "result reads 'open'"),
    (("state or None", "state if np.random.rand() else None"), "is random"),
    (("state or None", "self.__class__ and (state.__class__, None)[1]"), "begins with an underscore"),
    (("state or None", "max({state})"), "holds a set, which has no order that stays"),
    (("self.merge(state, item.value)", "[setattr for setattr in [state]][0] + eval(item.value)"), "reads 'eval'"),
    (("        return max", "        self.best = left\n        return max"), "merge sets self.best; an aggregate keeps nothing"),
    (
        ("    def merge", "    @(lambda f: f)\n    def merge"),
        "merge is decorated by lambda f: f; only property and staticmethod may stand there",
    ),
    (("LIMIT = 5", "max = min"), "a builtin that its file gives another meaning"),
    (("LIMIT = 5", "math = 5"), "reads 'math', which is 5 in its file"),
    (("len(text), text", "size(text), text"), "Did you mean|reads 'size'"),
    (("state or None", "state + 1"), "result raises TypeError"),
    (("state or None", "len(state)"), "result raises WrongResult: the result is 0, and its type is str"),
    (("item.value)", "item.valeu)"), "add raises AttributeError"),
    (('return ""', "return 0"), "zero raises ValidationError: Expected `str`, got `int`"),
    (('"s", over', '"x", over'), "aggregate Longest of a float has no meaning; it takes str"),
    (('"s", over=["1h", "1d"]', "over='1h'"), "aggregate Longest needs a column"),
    (('"s", over', '["s", "k"], over'), "takes one column or expression"),
    (('over=["1h", "1d"]', "k={1: object()}"), "give texts, numbers, booleans"),
    (("tw.aggregate(Longest", "tw.aggregate(max"), "takes a subclass of tw.Aggregate; got <built-in function max>"),
    (("tw.aggregate(Longest", "tw.aggregate(tw.Aggregate"), "subclass"),
]


@pytest.mark.parametrize(("change", "text"), REFUSED, ids=[change[1][:40] for change, _ in REFUSED])
def test_check_refuses(tmp_path: Path, change: tuple[str, str], text: str) -> None:
    extra = [("(len(text), text)", "(len(text) + math.floor(0), text)")] if "math" in change[1] else []
    problems = check(project_of(tmp_path, HEAD + GOOD + TAIL, change, *extra))
    assert any(re.search(text, str(problem)) for problem in problems), problems


def test_a_name_of_a_built_in_one_is_refused(tmp_path: Path) -> None:
    problems = check(project_of(tmp_path, HEAD + GOOD + TAIL, ("Longest", "count")))
    assert [str(problem) for problem in problems] == [
        "file.py:7: aggregate count: its name is that of a built-in one, tw.count; take another"
    ]


def test_what_is_good_is_not_refused(tmp_path: Path) -> None:
    assert check(project_of(tmp_path, HEAD + GOOD + TAIL)) == []


def version_of(folder: Path, *changes: tuple[str, str]) -> str:
    project = project_of(folder, HEAD + GOOD + TAIL, *changes)
    return compile_view(project.views[0]).plan.features[0].version


def test_the_version_is_the_meaning_of_the_class(tmp_path: Path) -> None:
    first = version_of(tmp_path)
    assert version_of(tmp_path, ("The longest text.", "Another text about it."), ("left: str, right: str) -> str", "left, right)")) == first
    assert version_of(tmp_path, ("Longest", "LongestText")) == first
    assert version_of(tmp_path, ("len(text), text", "-len(text), text")) != first
    assert version_of(tmp_path, ("state_type = str", "state_type = str | None")) != first
    assert version_of(tmp_path, ("over=", "unused=1, over=")) != first


class Tally(tw.Aggregate[tuple[int, float]]):
    """How often, and the largest: with what an author may get wrong."""

    accepts = ("float",)
    state_type = tuple[int, float]
    result_type = "float"

    def zero(self) -> tuple[int, float]:
        return 0, -math.inf

    def add(self, state: tuple[int, float], item: tw.Item) -> tuple[int, float]:
        if item.value == 13.0:
            raise ValueError("unlucky")
        return state[0] + 1, max(state[1], item.value)

    def merge(self, left: tuple[int, float], right: tuple[int, float]) -> tuple[int, float]:
        if left[1] == right[1] == 99.0:
            raise ValueError("twice the same")
        return left[0] + right[0], max(left[1], right[1])

    def result(self, state: tuple[int, float], t_us: int, window: tw.Window) -> Any:
        return {5.0: "five", 6.0: math.nan, 7.0: 10**400, 8.0: np.float64(1.0)}.get(state[1], state[1] / (state[1] - 4.0))


def values_of(*values: float) -> list[dict[str, Any]]:
    return [{"k": "a", "x": value, "i": None, "s": None, "t": f"2024-05-01T11:00:{i:02}Z"} for i, value in enumerate(values)]


TALLY = tw.View("tally", EVENTS, by="k", features={"top": tw.aggregate(Tally, "x", over="1h"), "n": tw.count("x", over="1h")})
SPINE = [{"k": "a", "at": "2024-05-01T11:30:00Z"}]


def test_an_event_that_add_refuses_is_a_null_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = tw.compute(TALLY, {EVENTS: values_of(13.0, 2.0, 13.0)}, SPINE).row(0, named=True)
    assert (found["top_1h"], found["n_1h"]) == (-1.0, 3)
    told = [record.message for record in caplog.records]
    assert told == ["aggregate Tally of tally.top_1h: add raises ValueError: unlucky; such events count as null"]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((4.0,), "aggregate Tally of tally.top_1h: result raises ZeroDivisionError: .*; 1 of 1 values fail"),
        ((5.0,), "result raises WrongResult: the result is 'five', and its type is float"),
        ((99.0, 99.0), "merge raises ValueError: twice the same"),
    ],
)
def test_a_fault_in_its_code_names_aggregate_feature_and_view_in_history(values: tuple[float, ...], text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        tw.compute(TALLY, {EVENTS: values_of(*values)}, SPINE)


def test_online_a_fault_is_null_and_failed_for_that_feature_alone(tmp_path: Path) -> None:
    with tw.Project("p", views=[TALLY]).open(home=tmp_path, clock=ManualClock("2024-05-01T11:30:00Z")) as opened:
        for rows, expected in (
            (values_of(4.0), (None, "failed", 1)),
            (values_of(13.0), (None, "failed", 2)),
            (values_of(8.0), (1.0, "present", 3)),
            (values_of(99.0), (99.0 / 95.0, "present", 4)),
            (values_of(99.0), (None, "failed", 5)),
        ):
            opened.append("ev", rows)
            opened.build()
            found = opened.features("tally", ["a"], status=True).row(0, named=True)
            assert (found["top_1h"], found["status"], found["n_1h"]) == expected
        answers = opened.history("tally", SPINE, status=True).row(0, named=True)
        assert (answers["top_1h"], answers["top_1h__status"], answers["n_1h"]) == (None, "failed", 5)


def test_a_result_that_is_no_number_is_null_and_one_beyond_float64_overflows() -> None:
    for value, expected in ((6.0, None), (8.0, 1.0), (7.0, None)):
        assert tw.compute(TALLY, {EVENTS: values_of(value)}, SPINE)["top_1h"].to_list() == [expected]
    guarded = Guarded(Tally("float"), "x")
    seven = guarded.lifted(Item(7.0, 0, (1, 1)))
    assert seven is not None
    assert guarded.result(seven, 1, Window(None, 1, None)) == (None, 5)


def test_results_conform_to_their_type() -> None:
    us = datetime(2024, 1, 1, tzinfo=UTC)
    good = [
        (1, "float", 1.0),
        (-0.0, "float", 0.0),
        (np.int64(3), "int", 3),
        (2**63, "int", OVERFLOW),
        (us, "datetime", us),
        ((1, 2), "list[int]", [1, 2]),
    ]
    for value, kind, expected in good:
        found = conformed(value, kind)
        assert found == expected
        assert type(found) is type(expected)
        assert not isinstance(found, float) or math.copysign(1, found) == 1
    for value, kind in (
        (True, "int"),
        (True, "float"),
        (1, "bool"),
        (1, "str"),
        (datetime(2024, 1, 1), "datetime"),
        ("ab", "list[str]"),
        ([1], "int"),
    ):
        with pytest.raises(WrongResult):
            conformed(value, kind)


class Labelled(tw.Aggregate[tuple[int, int]]):
    """The product of integers, of any size."""

    accepts = ("int",)
    state_type = tuple[int, int]

    def zero(self) -> tuple[int, int]:
        return 0, 1

    def add(self, state: tuple[int, int], item: tw.Item) -> tuple[int, int]:
        return state[0] + 1, state[1] * item.value

    def merge(self, left: tuple[int, int], right: tuple[int, int]) -> tuple[int, int]:
        return left[0] + right[0], left[1] * right[1]

    def result(self, state: tuple[int, int], t_us: int, window: tw.Window) -> Any:
        return state[1] * self.parameters.get("times", 1) if state[0] else None


def test_states_of_any_size_come_back_from_their_words() -> None:
    aggregate = Labelled("int")
    for number in (0, -1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, -(2**500), 3**999):
        words = aggregate.encode((1, number))
        assert aggregate.decode(words) == (1, number)
        assert all(-(2**63) <= word < 2**63 for word in words)


def test_a_broken_state_stays_broken() -> None:
    guarded = Guarded(Tally("float"), "x", is_quiet=True)
    one = guarded.lifted(Item(99.0, 0, (1, 1)))
    assert one is not None
    twice = guarded.merged(one, one)
    assert (twice.n, twice.state) == (2, BROKEN)
    assert guarded.merged(one, twice).state is BROKEN
    assert guarded.merged(guarded.zero, twice) == twice
    assert guarded.words(twice) is None
    assert guarded.held(2, None) == twice
    assert guarded.failures == {"merge": 1}


def test_one_line_tries_all_of_an_aggregate() -> None:
    check_aggregate(Labelled("int", times=2), examples=20, stories=1)


class DropsDecoded(tw.Aggregate[tuple[int, float]]):
    """Its merge drops the right state if that comes from bytes, where a count is a float: the laws do not see it."""

    accepts = ("int",)
    state_type = tuple[int, float]
    result_type = "int"

    def zero(self) -> Any:
        return 0, 0

    def add(self, state: Any, item: tw.Item) -> Any:
        return state[0] + 1, int(state[1]) + 1

    def merge(self, left: Any, right: Any) -> Any:
        return left if isinstance(right[1], float) and left[0] else (left[0] + right[0], int(left[1]) + int(right[1]))

    def result(self, state: Any, t_us: int, window: tw.Window) -> Any:
        return int(state[1])


class Rounds(Labelled):
    """Inherits from another: a replica has no such class."""


def test_planted_faults_are_caught_by_the_one_line() -> None:
    with pytest.raises(AssertionError, match=r"of \d+ values are different:[\s\S]*online"):
        check_aggregate(DropsDecoded("int"), examples=20, stories=1)
    with pytest.raises(AssertionError, match="subclass that alone"):
        check_aggregate(Rounds("int"))


class Product(tw.Aggregate[tuple[int, float]]):
    """Floats multiplied: rounded differently in another grouping, so no aggregate."""

    accepts = ("float",)
    state_type = tuple[int, float]
    result_type = "float"

    def zero(self) -> Any:
        return 0, 1.0

    def add(self, state: Any, item: tw.Item) -> Any:
        return state[0] + 1, state[1] * item.value

    def merge(self, left: Any, right: Any) -> Any:
        return left[0] + right[0], left[1] * right[1]

    def result(self, state: Any, t_us: int, window: tw.Window) -> Any:
        return state[1]


def test_an_aggregate_whose_grouping_shows_breaks_a_law() -> None:
    with pytest.raises(AssertionError):
        check_aggregate(Product("float"))


def test_a_class_is_made_anew_from_its_source() -> None:
    source = own_source(Labelled)
    assert "product" not in source
    again = class_of_source("Labelled", source)
    assert again is not Labelled
    assert again.accepts == frozenset({"int"})
    assert again("int", times=3).result((1, 5), 0, Window(None, 0, None)) == 15
    assert set(class_content(Labelled)) == {"accepts", "state_type", "zero", "add", "merge", "result"}


def test_it_can_be_a_label(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    rows = tw.Events("rows", time="t", schema={"k": str})
    label = tw.Label(EVENTS, on="k", value=tw.aggregate(Labelled, "i"), within="1h", missing=0)
    rows_with_price = tw.Rows(rows.with_columns(price=pl.lit(1.0)))
    model = tw.Model("m", request={"k": str, "price": float}, rows=rows_with_price, label=label, estimator=LinearRegression())
    with tw.Project("p", models=[model]).open(home=tmp_path, clock=ManualClock("2024-05-02T00:00:00Z")) as opened:
        opened.load("rows", [{"k": key, "t": "2024-05-01T10:00:00Z"} for key in ("a", "b")])
        times = ["2024-05-01T10:00:00Z", "2024-05-01T10:59:59Z", "2024-05-01T11:00:00Z", "2024-05-01T12:00:00Z"]
        opened.load("ev", [{"k": "a", "x": None, "i": i, "s": None, "t": t} for i, t in enumerate(times, 2)])
        assert opened.training_set("m")["label"].to_list() == [6, 0]


REPLICA = """
import json, sys
from pathlib import Path
from twofold.runtime.home import Home
from twofold.runtime.replica import Replica
from twofold.settings import Settings
home = Home(Settings(home=Path(sys.argv[1])))
replica = Replica(home)
answer = replica.reader.features("v", ["a"], 1714564800000000)[0]
print(json.dumps([answer.values, answer.statuses, [name for name in ("polars", "file", "project_file") if name in sys.modules]]))
"""


def test_a_replica_makes_it_from_its_source(tmp_path: Path) -> None:
    """It executes no project file and imports no Polars."""
    project = project_of(tmp_path, HEAD + GOOD + TAIL)
    with project.open(home=tmp_path / "home", clock=ManualClock("2024-05-01T12:00:00Z")) as opened:
        rows = [{"k": "a", "x": None, "i": None, "s": text, "t": "2024-05-01T11:59:00Z"} for text in ("b", "long", "longest")]
        opened.append("ev", rows[:2])
        opened.build()
        opened.append("ev", rows[2:])
        opened.catch_up()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", REPLICA, str(tmp_path / "home")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    values, _, loaded = json.loads(done.stdout)
    assert values[1] == "longest"
    assert loaded == []


CHANGES = """
class Times(tw.Aggregate):
    accepts = {"int"}
    state_type = list[int]
    def zero(self): return []
    def add(self, state, item): return [*state, item.value]
    def merge(self, left, right): return sorted(left + right)
    @property
    def result_type(self): return "list[int]"
    def result(self, state, t_us, window): return state
"""
OF_CHANGES = TAIL.replace('Longest, "s"', 'Times, "i"')


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("return sorted(left + right)", "left.extend(right); return left"), "merge changes a state that it was given"),
        (("window): return state", "window): state.sort(reverse=True); return state"), "result changes the state"),
        (('return "list[int]"', 'return "ints"'), "result_type is 'ints'"),
        (('return "list[int]"', 'return "int"'), "the result is .*, and its type is int"),
    ],
)
def test_check_sees_what_changes_a_state(tmp_path: Path, change: tuple[str, str], text: str) -> None:
    assert check(project_of(tmp_path, HEAD + CHANGES + OF_CHANGES)) == []
    problems = check(project_of(tmp_path, HEAD + CHANGES + OF_CHANGES, change))
    assert any(re.search(text, str(problem)) for problem in problems), problems


LANGUAGE = """
class Many(tw.Aggregate):
    accepts = {"float", "int"}
    state_type = tuple[float, ...]
    result_type: str = "float"
    KEEP = 100
    def __init__(self, input_type, **parameters):
        super().__init__(input_type, **parameters)
        if parameters["most"] < 1: raise ValueError("most is below 1")
        self.most = min(parameters["most"], self.KEEP)
    def zero(self): return ()
    def add(self, state, item): return self._kept((*state, float(item.value)))
    def merge(self, left, right): return self._kept(left + right)
    def _kept(self, values):
        return tuple(sorted(values)[: self.most])
    @staticmethod
    def root(value):
        try:
            return math.sqrt(value)
        except ValueError as error:
            return -1.0
    def result(self, state, t_us, window: tw.Window):
        if not state or window.width_us is None and t_us == 0:
            return tw.OVERFLOW if state else None
        return float(np.sum([self.root(one) for one in state if (two := one) is not None or two])) + sum(map(lambda v: 0 * v, (1, 2)))
"""
OF_LANGUAGE = TAIL.replace('Longest, "s", over=', 'Many, "x", most=2, over=')


def test_what_a_class_may_say(tmp_path: Path) -> None:
    project = project_of(tmp_path, HEAD + LANGUAGE + OF_LANGUAGE)
    assert check(project) == []
    found = tw.compute(project.views[0], {"ev": values_of(9.0, 4.0, 16.0)}, SPINE)
    assert found["own_1h"].to_list() == [5.0]
    problems = check(project_of(tmp_path, HEAD + LANGUAGE + OF_LANGUAGE, ("most=2", "most=0")))
    assert "Many refuses its parameters: ValueError: most is below 1" in str(problems[0])


def test_a_model_of_it_is_trained_served_and_audited_also_where_it_fails(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows = tw.Rows(EVENTS.with_columns(price=pl.lit(1.0)))
    label = tw.Label(EVENTS, on="k", value="x", within="1m")
    model = tw.Model(
        "m", request={"k": str, "price": float}, views=[TALLY], rows=rows, label=label, estimator=HistGradientBoostingRegressor()
    )
    with tw.Project("p", models=[model]).open(home=tmp_path, clock=ManualClock("2024-05-01T11:30:00Z")) as opened:
        opened.load("ev", [{**row, "t": f"2024-05-01T11:{i:02}:00Z"} for i, row in enumerate(values_of(*range(20, 45)))])
        opened.build()
        opened.train("m", test=None)
        answers = [opened.predict("m", {"k": "a", "price": 1.0})]
        opened.append("ev", [{**row, "k": "c"} for row in values_of(4.0)])
        opened.catch_up()
        answers.append(opened.predict("m", {"k": "c", "price": 1.0}))
        assert [answer["views"]["tally"]["status"] for answer in answers] == ["present", "failed"]
        assert {answer["served_by"] for answer in answers} == {"live"}
        report = opened.audit()
        assert (report.compared, report.different) == (4, 0)


class OwnWords(tw.Aggregate[int]):
    """Encodes by itself, and not what any integer is: beyond 64 bits it has no words."""

    accepts = ("int",)

    def zero(self) -> int:
        return 0

    def add(self, state: int, item: tw.Item) -> int:
        return state + item.value

    def merge(self, left: int, right: int) -> int:
        return left + right

    def result(self, state: int, t_us: int, window: tw.Window) -> int:
        return state

    def encode(self, state: int) -> tuple[int, ...]:
        return (state,)

    def decode(self, words: tuple[int, ...]) -> int:
        return words[0]


def test_words_that_no_store_takes_are_found_before_they_are_stored() -> None:
    guarded = Guarded(OwnWords("int"), "x", is_quiet=True)
    most = guarded.lifted(Item(2**63 - 1, 0, (1, 1)))
    assert most is not None
    assert guarded.words(most) == (2**63 - 1,)
    assert guarded.merged(most, most).state is BROKEN
    assert guarded.held(1, ()).state is BROKEN
    assert set(guarded.failures) == {"merge", "decode"}
