"""Who may import whom, which library may be named where, how large a file may grow; the tables at the top say it.

Each rule is a function from sources to complaints. It runs on the package, and on planted violations, to catch them.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
Sources = dict[str, str]
"""Path below `src/twofold` -> text."""

SURFACES = ("cli", "console", "http", "testing")
LINES = (
    ("__main__",),
    SURFACES,
    ("runtime",),
    ("batch", "stream", "learn", "serve", "watch", "advise"),
    ("log", "store", "tables", "registry", "compute", "predictors"),
    ("plan",),
    ("definitions",),
    ("algebra",),
    ("base",),
)
"""From top to bottom. A room may import itself and lines below; "base" is every other file at the package's root."""

PACKAGE_MAY_IMPORT = ("definitions", "base")
"""What `twofold/__init__.py` may import; in functions also `runtime`. Only `SURFACES` import the package itself."""

UPWARD_EXCEPTIONS = {("definitions/project.py", "runtime")}
"""(file, room): may import upward, only inside a function or under TYPE_CHECKING."""

NO_IMPLEMENTATION = {
    *("base", "sweeping", "applied", "records", "single_records"),
    *("point_in_time", "grouping", "visibility", "frames", "spines", "artifacts"),
}
"""Modules of the ports that are no concrete implementation; only `runtime` and their own room name the others."""

ANYWHERE = ("*.py",)
LIBRARIES = {
    "numpy": ANYWHERE,
    "numba": ANYWHERE,
    "msgspec": ANYWHERE,
    "polars": (
        "definitions/*.py",
        "log/records.py",
        "plan/*.py",
        "tables/*.py",
        "batch/*.py",
        "stream/*.py",
        "learn/*.py",
        "watch/*.py",
        "advise/*.py",
        "cli/*.py",
        "testing/*.py",
        "runtime/*.py",
    ),
    "deltalake": ("tables/deltalake.py",),
    "arro3": ("tables/deltalake.py",),
    "xxhash": ("store/records.py", "store/checkpoints.py"),
    "lmdb": ("store/lmdb.py", "store/checkpoints.py", "store/environments.py", "store/generations.py"),
    "redis": ("store/servers.py",),
    "nanoarrow": ("log/arrow_stream.py",),
    "confluent_kafka": ("log/kafka*.py",),
    "fastavro": ("log/avro.py",),
    "hypothesis": ("testing/laws.py", "testing/strategies.py"),
    "lightgbm": ("predictors/lightgbm.py",),
    "sklearn": ("predictors/sklearn.py",),
    "skops": ("predictors/sklearn.py",),
    "pandas": ("predictors/sklearn.py",),
    "cronsim": ("definitions/problems.py", "plan/schedule.py"),
    "uvicorn": ("http/*.py",),
    "uvloop": ("http/*.py",),
    "httptools": ("http/*.py",),
    "typer": ("cli/*.py",),
    "rich": ("cli/*.py",),
}
"""Library -> the only files that may import it (for types alone any file may); what is not listed nobody may."""

LAZY_ROOMS = {"definitions"}
"""Rooms that import libraries inside functions only: a definition loads no engine."""

REPLICA_ROOMS, REPLICA_NEVER = {"serve", "http"}, {"polars", "pandas", "pyarrow", "deltalake", "lightgbm", "sklearn", "skops"}
"""What a serving process must not load when these rooms are imported: it starts in 2 s and stays below 150 MB."""

HEAVY = (
    "polars",
    "numpy",
    "numba",
    "deltalake",
    "lmdb",
    "redis",
    "lightgbm",
    "sklearn",
    "pandas",
    "pyarrow",
    "uvicorn",
    "typer",
    "rich",
)
"""What `import twofold` must not load: a project file starts in well under 0.3 s."""

MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 70
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
"""Path, or path:function -> why it may be longer. An entry that is not needed any more is a complaint."""

EMPTY_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"}


@dataclass(frozen=True)
class Import:
    """One import: which file, what, which line, and where ("top" runs on import, else "function" or "typing")."""

    path: str
    target: str
    line: int
    where: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.target}"


def module_of(path: str) -> str:
    parts = ["twofold", *PurePosixPath(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of a module: what LINES names at the root, "base" for other files there, "twofold" for the package."""
    first, *below = module.split(".")[1:] or ["twofold"]
    is_room = below or first == "twofold" or any(first in line for line in LINES)
    return first if is_room else "base"


def imports_of(sources: Sources) -> Sequence[Import]:
    return _imports_of(tuple(sources.items()))


@functools.lru_cache(maxsize=1)
def _imports_of(sources: tuple[tuple[str, str], ...]) -> Sequence[Import]:
    modules = {module_of(path) for path, _ in sources}
    return [found for path, text in sources for found in _imports(path, ast.parse(text), "top", modules)]


def _imports(path: str, node: ast.AST, where: str, modules: set[str]) -> Iterator[Import]:
    for target in _targets(path, node, modules):
        yield Import(path, target, getattr(node, "lineno", 0), where)
    typing_only = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    for child in ast.iter_child_nodes(node):
        inner = where
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "function"
        elif typing_only and isinstance(node, ast.If) and child in node.body:
            inner = "typing"
        yield from _imports(path, child, inner, modules)


def _targets(path: str, node: ast.AST, modules: set[str]) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            above = ["twofold", *PurePosixPath(path).parts[:-1]]
            prefix = ".".join([*above[: len(above) + 1 - level], *filter(None, [module])]) if level else module or ""
            full = [f"{prefix}.{alias.name}" for alias in names]
            return sorted({name if name in modules else prefix for name in full})
        case ast.Call(args=[ast.Constant(value=str(name)), *_]) if ast.unparse(node.func).endswith(("import_module", "__import__")):
            return [name]
    return []


def is_own(target: str) -> bool:
    return target.split(".")[0] == "twofold"


# The rules


def layers(sources: Sources) -> list[str]:
    """Upper lines may import lower ones; rooms in one line do not see each other."""
    line_of = {room: number for number, line in enumerate(LINES) for room in line}
    complaints = []
    for found in imports_of(sources):
        if not is_own(found.target):
            continue
        room, target = room_of(module_of(found.path)), room_of(found.target)
        unknown = {room, target} - set(line_of) - {"twofold"}
        if unknown:
            complaints.append(f"{found}: the room {unknown.pop()!r} has no place in LINES")
        elif room == "twofold":
            is_lazy = found.where == "function" and target == "runtime"
            if target not in (*PACKAGE_MAY_IMPORT, "twofold") and not is_lazy:
                complaints.append(f"{found}: the package may import definitions, and runtime inside a function")
        elif target == "twofold":
            if room not in SURFACES:
                complaints.append(f"{found}: name the file that the name comes from, not the package")
        elif room != target and line_of[target] <= line_of[room] and not _is_excepted(found, target):
            relation = "in the same line" if line_of[room] == line_of[target] else "above it"
            complaints.append(f"{found}: {room} may not see {target}, which is {relation}")
    return complaints


def _is_excepted(found: Import, room: str) -> bool:
    return (found.path, room) in UPWARD_EXCEPTIONS and found.where != "top"


def concrete_implementations(sources: Sources) -> list[str]:
    """Only `runtime` names concrete implementations outside their own room."""
    ports = LINES[4]
    complaints = []
    for found in imports_of(sources):
        room, name = room_of(found.target), found.target.rsplit(".", 1)[-1]
        if not is_own(found.target) or room not in ports or found.target == f"twofold.{room}":
            continue
        own = room_of(module_of(found.path))
        if name not in NO_IMPLEMENTATION and own not in (room, "runtime"):
            complaints.append(f"{found}: only runtime names a concrete implementation; take the protocol from {room}/base.py")
    return complaints


def libraries(sources: Sources) -> list[str]:
    """A library is imported only in the files that LIBRARIES gives it."""
    complaints = []
    for found in imports_of(sources):
        name = found.target.split(".")[0]
        if is_own(found.target) or name in sys.stdlib_module_names or found.where == "typing":
            continue
        if name not in LIBRARIES:
            complaints.append(f"{found}: {name} is not in the table LIBRARIES")
        elif not any(PurePosixPath(found.path).match(pattern) for pattern in LIBRARIES[name]):
            complaints.append(f"{found}: {name} belongs into {', '.join(LIBRARIES[name]) or 'no file yet'}")
        elif found.where == "top" and room_of(module_of(found.path)) in LAZY_ROOMS:
            complaints.append(f"{found}: a definition loads no engine; import {name} inside the function that needs it")
    return complaints


def loaded_by(sources: Sources) -> dict[str, set[str]]:
    """Module -> what it imports while it is imported itself: modules of the package, and names of libraries."""
    graph: dict[str, set[str]] = {module_of(path): set() for path in sources}
    for found in imports_of(sources):
        own = module_of(found.path)
        if found.where == "top" and found.target != own:
            graph[own].add(found.target if is_own(found.target) else found.target.split(".")[0])
    return graph


def replica_start(sources: Sources) -> list[str]:
    """Importing what serves loads no engine, by whatever chain of imports."""
    graph = loaded_by(sources)
    waiting = [[module] for module in graph if room_of(module) in REPLICA_ROOMS]
    seen = {chain[0] for chain in waiting}
    complaints = []
    while waiting:
        chain = waiting.pop(0)
        loaded = graph[chain[-1]]
        complaints += [f"a replica loads {name}: {' -> '.join([*chain, name])}" for name in sorted(loaded & REPLICA_NEVER)]
        waiting += [[*chain, module] for module in sorted(loaded & graph.keys() - seen)]
        seen |= loaded
    return complaints


def circles(sources: Sources) -> list[str]:
    """What a module imports while it is imported never comes back to it."""
    graph = loaded_by(sources)
    try:
        graphlib.TopologicalSorter({module: loaded & graph.keys() for module, loaded in graph.items()}).prepare()
    except graphlib.CycleError as error:
        return ["a circle of imports: " + " -> ".join(reversed(error.args[1]))]
    return []


def sizes(sources: Sources) -> list[str]:
    """A file has at most 400 lines, a function at most 70."""
    long_files = {path: text.count("\n") + 1 for path, text in sources.items() if text.count("\n") + 1 > MAX_FILE_LINES}
    long_functions = {}
    for path, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long_functions[f"{path}:{node.name}"] = length
    complaints = [f"{path} has {lines} lines; at most {MAX_FILE_LINES}" for path, lines in long_files.items() if path not in LONG_FILES]
    complaints += [
        f"{name} has {lines} lines; at most {MAX_FUNCTION_LINES}" for name, lines in long_functions.items() if name not in LONG_FUNCTIONS
    ]
    stale = (LONG_FILES.keys() - long_files) | (LONG_FUNCTIONS.keys() - long_functions)
    return complaints + [f"{name} is short again; take it off the list of exceptions" for name in sorted(stale)]


def names(sources: Sources) -> list[str]:
    """No file, folder or class is called after nothing: utils, common, helpers, manager."""
    complaints = []
    for path, text in sources.items():
        named = {str(part): part for part in PurePosixPath(path).with_suffix("").parts}
        named |= {node.name: node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)}
        for name in named:
            empty = {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)} & EMPTY_NAMES
            if empty:
                complaints.append(f"{path}: the name {name!r} says {empty.pop()!r}; say what it is or what comes out")
    return complaints


RULES: tuple[Callable[[Sources], list[str]], ...] = (layers, concrete_implementations, libraries, replica_start, circles, sizes, names)


# The package keeps them


@pytest.fixture(scope="module")
def package() -> Sources:
    below = ROOT / "src" / "twofold"
    return {path.relative_to(below).as_posix(): path.read_text(encoding="utf-8") for path in sorted(below.rglob("*.py"))}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Callable[[Sources], list[str]], package: Sources) -> None:
    assert package, "no source was found"
    complaints = rule(package)
    assert not complaints, "\n".join(complaints)


def test_every_listed_library_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["lightgbm"], *extras["sklearn"], *extras["kafka"], *extras["redis"], *extras["testing"]]
    installed = {
        re.split(r"[<>=\[; ]", line)[0]
        .replace("scikit-learn", "sklearn")
        .replace("arro3-core", "arro3")
        .replace("confluent-kafka", "confluent_kafka")
        for line in needed
    }
    assert set(LIBRARIES) <= installed


def test_importing_the_package_loads_no_engine() -> None:
    code = f"import sys, twofold; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert loaded.stdout.split() == []


# Planted violations: each has to be caught, each near miss has to pass


CAUGHT = {
    "upward": (layers, {"store/base.py": "import twofold.serve.features"}, "which is above it"),
    "upward in a function": (
        layers,
        {"plan/merge.py": "def f():\n    from twofold.store.base import Store"},
        "above it",
    ),
    "upward for types": (layers, {"algebra/base.py": "if TYPE_CHECKING:\n    from twofold.plan import x"}, "above it"),
    "upward from the root": (layers, {"keys.py": "from twofold.algebra.base import Aggregate"}, "above it"),
    "upward by a relative import": (layers, {"log/base.py": "from ..runtime import open_project"}, "above it"),
    "upward by name": (layers, {"log/base.py": "importlib.import_module('twofold.runtime')"}, "above it"),
    "in the same line": (layers, {"serve/ladder.py": "from twofold.watch.metrics import x"}, "same line"),
    "ports in one line": (layers, {"log/base.py": "from twofold.store.base import x"}, "same line"),
    "predictors are a port": (layers, {"predictors/base.py": "from twofold.learn.fit import x"}, "above it"),
    "a submodule by from": (
        layers,
        {"batch/archive.py": "from twofold import stream", "stream/__init__.py": ""},
        "batch may not see stream",
    ),
    "exception, but not lazily": (layers, {"definitions/project.py": "import twofold.runtime"}, "above it"),
    "exception of another file": (layers, {"definitions/view.py": "def f():\n    import twofold.runtime"}, "above it"),
    "package and engine": (layers, {"__init__.py": "from twofold.plan.compile import x"}, "the package may"),
    "package and runtime at the top": (layers, {"__init__.py": "from twofold.runtime import x"}, "the package may"),
    "the package from below": (layers, {"serve/features.py": "from twofold import View"}, "name the file"),
    "a room without a place": (layers, {"extras/x.py": "import twofold.keys"}, "'extras' has no place"),
    "concrete store": (
        concrete_implementations,
        {"serve/features.py": "from twofold.store.lmdb import LmdbStore"},
        "only runtime",
    ),
    "concrete log": (
        concrete_implementations,
        {"cli/up.py": "def f():\n    import twofold.log.sqlite"},
        "only runtime",
    ),
    "concrete by from": (
        concrete_implementations,
        {"stream/worker.py": "from twofold.log import memory", "log/memory.py": ""},
        "only runtime",
    ),
    "library": (libraries, {"store/base.py": "import lmdb"}, "belongs into store/lmdb.py"),
    "library in a function": (
        libraries,
        {"serve/predict.py": "def f():\n    from lightgbm import Booster"},
        "belongs into",
    ),
    "library by name": (libraries, {"http/app.py": "importlib.import_module('polars')"}, "belongs into"),
    "a predictor is no learner": (libraries, {"predictors/base.py": "import polars as pl"}, "belongs into"),
    "unlisted library": (libraries, {"http/app.py": "import requests"}, "not in the table"),
    "a definition loads an engine": (libraries, {"definitions/check.py": "import polars"}, "loads no engine"),
    "a replica loads an engine": (
        replica_start,
        {"serve/a.py": "import twofold.plan.b", "plan/b.py": "from twofold.plan import c", "plan/c.py": "import polars"},
        "twofold.serve.a -> twofold.plan.b -> twofold.plan.c -> polars",
    ),
    "circle": (
        circles,
        {"log/a.py": "import twofold.log.b", "log/b.py": "from twofold.log import a"},
        "twofold.log.a -> twofold.log.b",
    ),
    "circle through the room": (
        circles,
        {"log/__init__.py": "from twofold.log.a import x", "log/a.py": "from twofold.log import y"},
        "circle",
    ),
    "long file": (sizes, {"keys.py": "x = 1\n" * 400}, "keys.py has 401 lines"),
    "long function": (sizes, {"keys.py": "async def f():\n" + "    x = 1\n" * 70}, "keys.py:f has 71 lines"),
    "long method": (
        sizes,
        {"keys.py": "class A:\n    def f(self):\n" + "        x = 1\n" * 70},
        "keys.py:f has 71 lines",
    ),
    "empty file name": (names, {"log/utils.py": ""}, "'utils'"),
    "empty folder name": (names, {"common/keys.py": ""}, "'common'"),
    "part of a name": (names, {"log/read_helpers.py": ""}, "'helpers'"),
    "class name": (names, {"log/base.py": "class LogManager: ..."}, "'manager'"),
}

PASSES = {
    "downward": (layers, {"serve/ladder.py": "from twofold.store.base import x\nimport twofold.keys"}),
    "one's own room": (
        layers,
        {"log/sqlite.py": "from twofold.log.base import x\nfrom . import base", "log/base.py": ""},
    ),
    "a learner and predictors": (layers, {"learn/fit.py": "from twofold.predictors.base import x"}),
    "the lazy exception": (layers, {"definitions/project.py": "def f():\n    from twofold.runtime import x"}),
    "package": (
        layers,
        {"__init__.py": "from twofold.definitions.view import View\ndef f():\n    import twofold.runtime"},
    ),
    "a surface and the package": (layers, {"cli/app.py": "from twofold import __version__"}),
    "runtime names implementations": (concrete_implementations, {"runtime.py": "from twofold.store.lmdb import x"}),
    "so does their own room": (concrete_implementations, {"store/__init__.py": "from twofold.store.lmdb import x"}),
    "a protocol": (concrete_implementations, {"serve/features.py": "from twofold.store.base import Store"}),
    "library where it belongs": (libraries, {"store/lmdb.py": "import lmdb", "learn/fit.py": "import polars as pl"}),
    "library for types": (libraries, {"definitions/view.py": "if TYPE_CHECKING:\n    import polars as pl"}),
    "a lazy engine": (libraries, {"definitions/check.py": "def f():\n    import polars"}),
    "a replica and a lazy engine": (
        replica_start,
        {"serve/a.py": "import twofold.plan.b", "plan/b.py": "def f():\n    import twofold.plan.c", "plan/c.py": "import polars"},
    ),
    "standard library": (libraries, {"http/app.py": "import sqlite3, xml.etree"}),
    "circle for types only": (
        circles,
        {"log/a.py": "import twofold.log.b", "log/b.py": "if TYPE_CHECKING:\n    import twofold.log.a"},
    ),
    "as long as allowed": (sizes, {"keys.py": "x = 1\n" * 399, "x.py": "def f():\n" + "    x = 1\n" * 69}),
    "a full name": (names, {"log/commons.py": "class Uncommon: ...\nclass Utility: ..."}),
}


@pytest.mark.parametrize("case", CAUGHT.values(), ids=CAUGHT.keys())
def test_a_planted_violation_is_caught(case: tuple[Callable[[Sources], list[str]], Sources, str]) -> None:
    rule, sources, text = case
    complaints = rule(sources)
    assert len(complaints) == 1
    assert text in complaints[0]


@pytest.mark.parametrize("case", PASSES.values(), ids=PASSES.keys())
def test_a_near_miss_passes(case: tuple[Callable[[Sources], list[str]], Sources]) -> None:
    rule, sources = case
    assert rule(sources) == []


def test_an_exception_that_is_not_needed_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LONG_FILES, "keys.py", "a reason")
    assert "take it off" in sizes({"keys.py": ""})[0]
    assert sizes({"keys.py": "x = 1\n" * 500}) == []
