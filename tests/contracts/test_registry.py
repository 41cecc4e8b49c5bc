"""One suite for every registry, and what only a registry on disk must bear: other processes, crashes, damaged files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twofold.errors import Corrupt, DataError, Fenced, Unavailable, UnknownName, VersionError
from twofold.registry.base import AliasMove, Registry, live_alias
from twofold.registry.memory import MemoryRegistry
from twofold.registry.sqlite import SqliteRegistry

MAKERS: dict[str, Callable[[Path], Registry]] = {"memory": lambda path: MemoryRegistry(), "sqlite": SqliteRegistry}


@pytest.fixture(params=MAKERS)
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    made = MAKERS[request.param](tmp_path / "registry")
    yield made
    made.close()


class TestArtifacts:
    @pytest.mark.parametrize("content", [b"", b"\x00", b"model\n" * 100_000], ids=["empty", "nul", "large"])
    def test_comes_back_under_its_hash(self, registry: Registry, content: bytes) -> None:
        name = registry.put_artifact(content)
        assert name == hashlib.sha256(content).hexdigest()
        assert registry.get_artifact(name) == content
        assert registry.artifact_path(name).read_bytes() == content
        assert registry.put_artifact(content) == name

    @pytest.mark.parametrize("name", ["0" * 64, "", "../registry.sqlite", "/etc/passwd", "A" * 64, "0" * 63 + "\n"])
    def test_unknown_names(self, registry: Registry, name: str) -> None:
        with pytest.raises(UnknownName):
            registry.get_artifact(name)
        with pytest.raises(UnknownName):
            registry.artifact_path(name)


class TestVersions:
    def test_newest_last_in_the_order_of_registration(self, registry: Registry) -> None:
        assert registry.versions("late") == []
        for version, now_us in [("c", 30), ("a", 10), ("b", 20)]:
            registry.register("late", version, {"rows": now_us}, now_us=now_us)
        registry.register("other", "z", {})
        got = [(one.model, one.version, one.created_us, one.record) for one in registry.versions("late")]
        assert got == [
            ("late", "c", 30, {"rows": 30}),
            ("late", "a", 10, {"rows": 10}),
            ("late", "b", 20, {"rows": 20}),
        ]

    def test_again_with_the_same_record_changes_nothing(self, registry: Registry) -> None:
        first = registry.register("late", "a", {"auc": 0.7, "columns": ["x", "y"]}, now_us=1)
        again = registry.register("late", "a", {"columns": ["x", "y"], "auc": 0.7}, now_us=2)
        assert first == again == registry.get("late", "a")
        assert registry.versions("late") == [first]

    def test_with_another_record_is_refused_by_name(self, registry: Registry) -> None:
        first = registry.register("late", "a", {"auc": 0.7, "rows": 1})
        with pytest.raises(VersionError, match=r"late@a .* differ in auc\)"):
            registry.register("late", "a", {"auc": 0.8, "rows": 1})
        assert registry.versions("late") == [first]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"raw"], ids=["nan", "inf", "set", "bytes"])
    def test_a_record_is_json(self, registry: Registry, value: object) -> None:
        with pytest.raises(DataError, match="late@a"):
            registry.register("late", "a", {"metrics": {"auc": value}})
        assert registry.versions("late") == []

    def test_a_record_cannot_be_changed_from_outside(self, registry: Registry) -> None:
        given = {"columns": ["x"]}
        returned = registry.register("late", "a", given).record
        given["columns"].append("y")
        returned["columns"].append("z")
        registry.get("late", "a").record["columns"].append("w")
        assert registry.get("late", "a").record == {"columns": ["x"]}

    def test_unknown_versions_name_the_nearest(self, registry: Registry) -> None:
        registry.register("late", "3f2b", {})
        with pytest.raises(UnknownName, match="Did you mean '3f2b'"):
            registry.get("late", "3f2a")
        with pytest.raises(UnknownName, match="has none"):
            registry.get("early", "3f2a")


class TestAliases:
    def test_history_leads_back(self, registry: Registry) -> None:
        name = live_alias("late")
        assert registry.alias(name) is None
        assert registry.alias_history(name) == []
        for now_us, value in enumerate(["a", "b", "b", "a"]):
            registry.move_alias(name, value, now_us=now_us)
        assert registry.alias(name) == "a"
        assert registry.alias_history(name) == [AliasMove("a", 0), AliasMove("b", 1), AliasMove("a", 3)]

    def test_moves_only_from_what_was_expected(self, registry: Registry) -> None:
        registry.move_alias("plan", "a", expect=None)
        for wrong in (None, "b"):
            with pytest.raises(Fenced, match="'plan' is 'a'"):
                registry.move_alias("plan", "c", expect=wrong)
            with pytest.raises(Fenced):
                registry.move_alias("plan", "a", expect=wrong)
        registry.move_alias("plan", "b", expect="a")
        assert [move.value for move in registry.alias_history("plan")] == ["a", "b"]

    def test_several_move_as_one(self, registry: Registry) -> None:
        registry.move_aliases({"plan": "p1", "live/late": "v1"}, {"plan": None})
        with pytest.raises(Fenced):
            registry.move_aliases({"plan": "p2", "live/late": "v2"}, {"plan": "p1", "live/late": "v0"})
        assert (registry.alias("plan"), registry.alias("live/late")) == ("p1", "v1")
        registry.move_aliases({"plan": "p2", "live/late": "v2"}, {"live/other": None})
        assert (registry.alias("plan"), registry.alias("live/late")) == ("p2", "v2")

    def test_the_count_tells_of_every_move_and_of_nothing_else(self, registry: Registry) -> None:
        assert registry.move_count() == 0
        registry.move_aliases({"plan": "p1", "live/late": "v1"})
        assert registry.move_count() == 2
        registry.put_artifact(b"x")
        registry.register("late", "v2", {})
        registry.move_alias("plan", "p1")
        assert registry.move_count() == 2
        registry.move_alias("plan", "p0")
        assert registry.move_count() == 3

    def test_threads_lose_no_move(self, registry: Registry) -> None:
        registry.move_alias("count", "0")

        def count(_: int) -> None:
            while True:
                seen = registry.alias("count") or ""
                try:
                    return registry.move_alias("count", str(int(seen) + 1), expect=seen)
                except Fenced:
                    continue

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(40)))
        assert [move.value for move in registry.alias_history("count")] == [str(number) for number in range(41)]


class TestOnDisk:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "registry"

    @pytest.fixture
    def opened(self, path: Path) -> Iterator[SqliteRegistry]:
        made = SqliteRegistry(path)
        yield made
        made.close()

    def test_outlives_its_process_and_is_seen_by_others(self, opened: SqliteRegistry, path: Path) -> None:
        other = SqliteRegistry(path)
        before = other.move_count()
        name = opened.put_artifact(b"plan")
        registered = opened.register("late", "a", {"artifact": name})
        opened.move_alias("plan", name)
        assert other.move_count() != before
        assert other.get_artifact(other.alias("plan") or "") == b"plan"
        assert other.versions("late") == [registered]
        other.close()

    @pytest.mark.parametrize("damage", [b"", b"plam", b"plan and more"])
    def test_a_damaged_artifact_is_never_returned_and_can_be_put_again(self, opened: SqliteRegistry, damage: bytes) -> None:
        name = opened.put_artifact(b"plan")
        file = opened.artifact_path(name)
        file.unlink()
        file.write_bytes(damage)
        with pytest.raises(Corrupt, match=name):
            opened.get_artifact(name)
        with pytest.raises(Corrupt, match=name):
            opened.artifact_path(name)
        opened.put_artifact(b"plan")
        assert opened.get_artifact(name) == b"plan"

    def test_a_file_that_is_no_registry(self, path: Path) -> None:
        path.mkdir()
        (path / "registry.sqlite").write_bytes(b"no database" * 100)
        with pytest.raises(Corrupt, match="registry"):
            SqliteRegistry(path)

    @pytest.mark.parametrize(
        ("right", "damaged"),
        [(b"ON moves (name,", b"ON moves (n\xacme,"), (b"moved_us INTEGER", b"moved_uz INTEGER"), (b"plan", b"pl\xacn")],
    )
    def test_flipped_bytes_in_the_tables_are_a_damaged_registry(self, path: Path, right: bytes, damaged: bytes) -> None:
        made = SqliteRegistry(path)
        made.move_alias("a", "plan")
        made.close()
        file = path / "registry.sqlite"
        assert right in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(right, damaged))
        with pytest.raises(Corrupt, match="cannot be read"), contextlib.closing(SqliteRegistry(path)) as opened:
            opened.alias_history("a")

    def test_a_newer_layout_is_refused(self, opened: SqliteRegistry, path: Path) -> None:
        opened._db.execute("PRAGMA user_version = 99")
        with pytest.raises(VersionError, match="layout 99"):
            SqliteRegistry(path)

    def test_no_room_leaves_nothing_behind(self, path: Path) -> None:
        code = """
            import resource, signal, sys
            from twofold.errors import Unavailable
            from twofold.registry.sqlite import SqliteRegistry

            registry = SqliteRegistry(sys.argv[1])
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            try:
                registry.put_artifact(b"x" * 200_000)
            except Unavailable as error:
                print(error)
        """
        assert "cannot be written" in run(code, path).stdout
        assert [file.name for file in (path / "artifacts").iterdir()] == [".lock"]

    def test_processes_lose_no_move_and_may_open_at_once(self, path: Path) -> None:
        code = """
            import sys
            from twofold.errors import Fenced
            from twofold.registry.sqlite import SqliteRegistry

            registry = SqliteRegistry(sys.argv[1])
            done = 0
            while done < 20:
                registry.put_artifact(str(done).encode() * 100_000)
                seen = registry.alias("count")
                try:
                    registry.move_alias("count", str(int(seen or 0) + 1), expect=seen)
                    done += 1
                except Fenced:
                    pass
            registry.register("late", "same", {"rows": 1})
            registry.close()
        """
        others = [start(code, path) for _ in range(3)]
        assert [other.communicate(timeout=60)[1] for other in others] == [""] * 3
        registry = SqliteRegistry(path)
        assert [move.value for move in registry.alias_history("count")] == [str(number) for number in range(1, 61)]
        assert len(registry.versions("late")) == 1
        assert len(list((path / "artifacts").glob("[0-9a-f]*"))) == 20
        registry.close()

    def test_a_writer_that_holds_on_is_reported(self, opened: SqliteRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("twofold.registry.sqlite._TIMEOUT_S", 0.01)
        other = SqliteRegistry(opened._path)
        opened._db.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            other.move_alias("plan", "a")
        assert other.alias("plan") is None
        opened._db.execute("ROLLBACK")
        other.move_alias("plan", "a")
        other.close()


PUBLISH = """
    import os, signal, sys
    import twofold.registry.sqlite as room

    def publish(registry, number):
        name = registry.put_artifact(str(number).encode() * 50_000)
        registry.register("late", str(number), {"artifact": name})
        registry.move_aliases({"live/late": str(number), "plan": name})
"""

DIE_AT_STEP = """
    def begin():
        global left
        registry = room.SqliteRegistry(f"{sys.argv[1]}/{step}")
        publish(registry, 0)
        left = step
        for name in ("fchmod", "fsync", "replace"):
            setattr(os, name, counted(getattr(os, name)))
        registry._db.set_progress_handler(count, 1)
        publish(registry, 1)
        os._exit(0)

    def count():
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(real):
        def call(*arguments):
            count()
            real(*arguments)
            count()
        return call

    status = None
    step = 0
    while status != 0:
        step += 1
        child = os.fork()
        if child == 0:
            begin()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, flush=True)
"""

FOR_EVER = """
    registry = room.SqliteRegistry(sys.argv[1])
    for number in range(10_000):
        publish(registry, number)
        print(number, flush=True)
"""


class TestCrash:
    def test_killed_at_every_step_of_publishing(self, tmp_path: Path) -> None:
        """A step is a system call that puts the artifact in place, or an instruction of SQLite's programmes."""
        ended = run(PUBLISH + DIE_AT_STEP, tmp_path)
        codes = [int(line) for line in ended.stdout.split()]
        assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0], ended.stderr
        assert len(codes) > 50
        for step, code in enumerate(codes, start=1):
            assert_whole(tmp_path / str(step), acknowledged=["0", "1"] if code == 0 else ["0"])

    @pytest.mark.parametrize("lines", [1, 7, 23])
    def test_killed_in_the_middle_of_much(self, tmp_path: Path, lines: int) -> None:
        worker = start(PUBLISH + FOR_EVER, tmp_path)
        assert worker.stdout is not None
        acknowledged = [worker.stdout.readline().strip() for _ in range(lines)]
        worker.kill()
        assert_whole(tmp_path, acknowledged + worker.communicate()[0].split())


def assert_whole(path: Path, acknowledged: list[str]) -> None:
    """All that was acknowledged is there, all that is there is whole, and the next writer goes on."""
    registry = SqliteRegistry(path)
    there = registry.versions("late")
    assert [one.version for one in there] in (acknowledged, [*acknowledged, str(len(acknowledged))])
    for one in there:
        assert registry.get_artifact(one.record["artifact"]) == one.version.encode() * 50_000
    live = registry.alias("live/late")
    assert live in (acknowledged[-1], str(len(acknowledged)))
    assert registry.alias("plan") == registry.get("late", live).record["artifact"]
    registry.put_artifact(b"after")
    names = {file.name for file in (path / "artifacts").iterdir()} - {".lock"}
    assert {one.record["artifact"] for one in there} <= names
    for name in names:
        assert hashlib.sha256((path / "artifacts" / name).read_bytes()).hexdigest() == name
    registry.close()


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    process = start(code, *arguments)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
