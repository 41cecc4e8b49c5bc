"""Fail points: each declared one stands at exactly one place; what the variable says is done, and nothing without it."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from twofold.errors import DefinitionError
from twofold.fail_points import FAIL_POINTS, VARIABLE, fail_at

SOURCE = Path(__file__).parents[2] / "src" / "twofold"
CODE = "from twofold.fail_points import fail_point\nfor name in ['flip.before', 'flip.after', 'flip.before']: fail_point(name); print(name)"


def used_in(text: str) -> list[str]:
    """The names in the calls of `fail_point`; a name that is not written out is '?'."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and ast.unparse(node.func) == "fail_point"]
    return [node.args[0].value if isinstance(node.args[0], ast.Constant) else "?" for node in calls]


def test_each_point_stands_at_one_place_and_each_place_is_declared() -> None:
    used = Counter(name for path in SOURCE.rglob("*.py") for name in used_in(path.read_text(encoding="utf-8")))
    assert used == dict.fromkeys(FAIL_POINTS, 1)


def test_a_place_is_seen() -> None:
    assert used_in("def f():\n    fail_point('a.b')\n    fail_point(name)\n    other('c.d')") == ["a.b", "?"]


def run(text: str) -> tuple[int, list[str]]:
    done = subprocess.run([sys.executable, "-uc", CODE], env={**os.environ, VARIABLE: text}, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_a_process_dies_at_the_point_the_first_or_a_later_time() -> None:
    assert run("flip.before") == (-signal.SIGKILL, [])
    assert run("flip.before:2") == (-signal.SIGKILL, ["flip.before", "flip.after"])
    assert run("flip.before:3") == (0, ["flip.before", "flip.after", "flip.before"])
    assert run("") == (0, ["flip.before", "flip.after", "flip.before"])


def test_a_process_stops_at_the_point_and_goes_on_when_it_is_told() -> None:
    process = subprocess.Popen([sys.executable, "-uc", CODE], env={**os.environ, VARIABLE: "flip.after@stop"}, stdout=subprocess.PIPE)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.send_signal(signal.SIGCONT)
    assert process.communicate()[0].split() == [b"flip.before", b"flip.after", b"flip.before"]
    assert process.returncode == 0


@pytest.mark.parametrize("text", ["flip.befor", "flip.before:0", "flip.before@raise", ":2"])
def test_a_point_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match=VARIABLE):
        fail_at(text)


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(DefinitionError, match=r"Did you mean 'flip\.before'"):
        fail_at("flip.befor")
