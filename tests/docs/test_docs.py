"""The documentation cannot lie: links resolve, examples run, public names are documented, a word has one meaning."""

from __future__ import annotations

import doctest
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import twofold
from twofold.settings import Settings

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted((ROOT / "src" / "twofold").rglob("*.py"))
EXAMPLES = [path for path in SOURCES if ">>>" in path.read_text(encoding="utf-8")]

RUNNER = """
import json, linecache, sys
page, blocks = json.load(sys.stdin)
names, lines = {"__name__": "__main__"}, []
for line, text in blocks:
    # What reads the source of a class in a block finds the page's Python alone.
    lines += [""] * (line - len(lines)) + text.splitlines()
    linecache.cache[page] = (0, None, [one + "\\n" for one in lines], page)
    exec(compile("\\n" * line + text, page, "exec"), names)
"""


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block: its info text, the number of the line with its opening fence, and what stands in it."""

    info: str
    line: int
    text: str


def blocks_of(page: str) -> Iterator[Block]:
    opening = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
    for found in opening.finditer(page):
        yield Block(found["info"].strip(), page.count("\n", 0, found.start()) + 1, found["text"])


def without_blocks(page: str) -> str:
    return re.sub(r"^(```+).*?^\1[ ]*$", "", page, flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: str) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    titles = re.findall(r"^#+ +(.+?) *$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: str, path: Path) -> list[str]:
    """Relative links of a page whose file or heading is not there."""
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", without_blocks(page))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        if file != path and not file.exists():
            dead.append(f"{target}: no such file")
        elif anchor and anchor not in anchors_of(page if file == path else file.read_text(encoding="utf-8")):
            dead.append(f"{target}: no such heading")
    return dead


def run_blocks(page: str, path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a page's Python blocks one after the other in one fresh process, whose working folder is `home`."""
    python = [block for block in blocks_of(page) if block.info.split()[:1] == ["python"]]
    for block in python:
        compile(block.text, f"{path}:{block.line}", "exec")
    running = [(block.line, block.text) for block in python if "no-run" not in block.info.split()]
    given = json.dumps([str(path), running])
    settings = {name: value for name, value in os.environ.items() if not name.startswith("TWOFOLD_")}
    command = [sys.executable, "-W", "error", "-c", RUNNER]
    return subprocess.run(command, input=given, cwd=home, env=settings, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_resolve(path: Path) -> None:
    assert dead_links(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_code_blocks_run(path: Path, tmp_path: Path) -> None:
    done = run_blocks(path.read_text(encoding="utf-8"), path, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_fences_are_closed(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert "```" not in without_blocks(page)


def test_every_public_name_is_documented() -> None:
    written = "\n".join(path.read_text(encoding="utf-8") for path in PAGES if path.name not in ("CHANGELOG.md", "CONTRIBUTING.md"))
    bare = [name for name in twofold.__all__ if not is_documented(getattr(twofold, name))]
    unmentioned = [name for name in twofold.__all__ if not re.search(rf"\btw\.{name}\b", written)]
    assert bare == [], "these public names have no docstring"
    assert unmentioned == [], "these public names stand in no page (as tw.name)"


def test_every_setting_is_documented() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    rows = "\n".join(re.findall(r"^\| (`.+?`) \|", guide, re.MULTILINE))
    assert [field.name for field in fields(Settings) if f"`{field.name}`" not in rows] == []


def is_documented(thing: object) -> bool:
    """Whether somebody wrote its docstring: an instance has its class's, a dataclass without one has its signature."""
    name, text = getattr(thing, "__name__", None), thing.__doc__
    return bool(name and text and text.strip() and not text.startswith(f"{name}("))


def test_a_glossary_term_is_unique_and_no_synonym_of_another() -> None:
    rows = glossary_rows((ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"))
    assert len(rows) > 30
    assert glossary_faults(rows) == []


def glossary_rows(page: str) -> list[tuple[str, list[str]]]:
    """(term, words that are not used for it) of each row, in lower case."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|.+\| *([^|]*?) *\|$", page, re.MULTILINE)
    return [(term.lower(), [word.strip() for word in words.lower().split(",") if word.strip()]) for term, words in rows]


def glossary_faults(rows: list[tuple[str, list[str]]]) -> list[str]:
    terms = [term for term, _ in rows]
    faults = [f"{term!r} is explained twice" for term in sorted(set(terms)) if terms.count(term) > 1]
    faults += [f"{word!r} is a term, and not to be used for {term!r}" for term, words in rows for word in words if word in terms]
    return faults + [f"{after!r} stands behind {before!r}" for before, after in itertools.pairwise(terms) if after < before]


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_examples_in_docstrings_run(path: Path) -> None:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    failed, tried = doctest.testmod(importlib.import_module(".".join(parts).removesuffix(".__init__")))
    assert tried > 0
    assert failed == 0


STEPS = re.compile(r"^\| \d \| `?([^`|]+?)`? \| [^|]+ \| (.+) \|$", re.MULTILINE)


def missing_steps(page: str) -> list[str]:
    """What the walk-through of a new aggregate names and the package does not have."""
    missing = []
    for file, beside in STEPS.findall(page):
        path, names = file, re.findall(r"`([^`]+)`", beside)
        if not file.endswith(".py"):
            path, *names = names
        source = ROOT / "src" / "twofold" / path
        text = source.read_text(encoding="utf-8") if source.exists() else ""
        missing += [f"{path}: {name}" for name in names if not re.search(rf"^(def {name}\(|.*\b{name}\b.* = )", text, re.MULTILINE)]
    return missing


def test_the_steps_of_a_new_aggregate_are_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(STEPS.findall(page)) == 7
    assert missing_steps(page) == []
    assert missing_steps("| 2 | `algebra/base.py` | it | `registered`, `unregistered` |\n") == ["algebra/base.py: unregistered"]


# Planted faults


PAGE = ROOT / "docs" / "planted.md"


def test_a_planted_dead_link_is_caught() -> None:
    page = "# A title\n[a](nowhere.md) [b](#no-title) [c](../README.md#no) [d](#a-title) [e](../README.md) [f](https://a.example)\n"
    assert dead_links(page, PAGE) == ["nowhere.md: no such file", "#no-title: no such heading", "../README.md#no: no such heading"]
    assert dead_links("`[a](nowhere.md)`\n```\n[b](nowhere.md)\n```\n", PAGE) == []


def test_a_planted_example_that_fails_is_caught(tmp_path: Path) -> None:
    page = "text\n\n```python\nx = 1\n```\n\n```python no-run\nraise SystemExit(3)\n```\n\n```python\nassert x == 2\n```\n"
    done = run_blocks(page, PAGE, tmp_path)
    assert done.returncode != 0
    assert f'{PAGE}", line 12' in done.stderr
    assert run_blocks(page.replace("== 2", "== 1"), PAGE, tmp_path).returncode == 0
    with pytest.raises(SyntaxError):
        run_blocks("```python no-run\nx = = 1\n```\n", PAGE, tmp_path)


def test_a_planted_bare_name_is_caught() -> None:
    from dataclasses import dataclass as plain

    bare = plain(type("Bare", (), {"__annotations__": {"x": int}}))
    assert not is_documented(bare)
    assert not is_documented(1)
    assert is_documented(twofold.View)


def test_a_planted_double_meaning_is_caught() -> None:
    page = "| **key** | a | entity, join key |\n| **log** | b | |\n| **Key** | c | log |\n"
    assert len(glossary_faults(glossary_rows(page))) == 3
