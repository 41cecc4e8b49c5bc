"""What may stand in no tracked file: registries' hosts, paths of somebody's machine, marks of an unfinished merge."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

REGISTRIES = (
    ("pypi", "org"),
    ("files", "pythonhosted", "org"),
    ("anaconda", "org"),
    ("registry", "npmjs", "org"),
    ("crates", "io"),
    ("proxy", "golang", "org"),
    ("repo1", "maven", "org"),
    ("repo", "maven", "apache", "org"),
    ("deb", "debian", "org"),
)
"""Spelt in parts, so that this file does not hold what it forbids."""

FORBIDDEN = {
    "a package registry's host": re.compile("|".join(r"\b" + r"\.".join(host) + r"\b" for host in REGISTRIES)),
    "a path of somebody's machine": re.compile(r"(?<![\w.:/-])/(?:work|root|home|Users|tmp/\w+|opt/wheels)/[\w.]"),
    "a mark of an unfinished merge": re.compile(r"^(?:<{7}|>{7}|[|]{7}) ", re.MULTILINE),
}


def faults_of(text: str) -> list[str]:
    """What stands in `text` and may not, with its line."""
    return [
        f"line {text.count(chr(10), 0, found.start()) + 1}: {what}: {found.group()!r}"
        for what, pattern in FORBIDDEN.items()
        for found in pattern.finditer(text)
    ]


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_tracked_files_hold_nothing_of_one_machine() -> None:
    files = tracked_files()
    assert ROOT / "pyproject.toml" in files
    faults = []
    for path in files:
        text = path.read_bytes().decode("utf-8", "replace")
        faults += [f"{path.relative_to(ROOT)}, {fault}" for fault in faults_of(text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        *(f"see https://{'.'.join(host)}/simple" for host in REGISTRIES),
        "sys.path.insert(0, '" + "/ro" + "ot/project')",
        "file:" + " /ho" + "me/ann/flights.py",
        "(" + "/wo" + "rk/main)",
        "x = 1\n" + "<" * 7 + " HEAD\n",
        ">" * 7 + " 3f2a (a change)",
    ],
)
def test_a_planted_fault_is_caught(text: str) -> None:
    assert len(faults_of(text)) == 1


@pytest.mark.parametrize("text", ["https://github.com/a/home/b", "../work/x", "Title\n=======\n", "a <<<<<<< b", "net/work/x"])
def test_a_near_miss_passes(text: str) -> None:
    assert faults_of(text) == []
