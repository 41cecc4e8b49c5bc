"""Long work in a real process: it tells how far it is, Ctrl-C ends it cleanly, a kill leaves nothing that the next run does not remove."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from twofold.cli.progress import Lines, can_be_interrupted, line_of
from twofold.clocks import ManualClock

PROJECT = """
import twofold as tw

events = tw.Events("events", time="t", schema={"k": int, "x": float})
view = tw.View("view", events, by="k", features={"n": tw.count(), "x": tw.std("x", over=["1h", "7d"])})
project = tw.Project("long", views=[view])
"""
ROWS = 60_000
STOPPED = """
import os, signal, sys
import twofold.batch.gathering as gathering
original, wanted = gathering.Gathering._take, getattr(signal, sys.argv[1])

def take(self, number):
    if number == 3:
        assert os.listdir(os.environ["TWOFOLD_HOME"] + "/tmp") != ["owner.lock"], "nothing was spilled"
        os.kill(os.getpid(), wanted)
    return original(self, number)

gathering.Gathering._take = take
sys.argv = ["twofold", "build", "long.py"]
from twofold.cli.app import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "long.py").write_text(PROJECT)
    rng = np.random.default_rng(3)
    times = pl.Series(rng.integers(1_700_000_000_000_000, 1_700_600_000_000_000, ROWS)).cast(pl.Datetime("us", "UTC"))
    pl.DataFrame({"k": rng.integers(0, 2_000, ROWS), "x": rng.random(ROWS), "t": times}).write_parquet(tmp_path / "events.parquet")
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TWOFOLD_HOME": str(folder / "home"), "TWOFOLD_MEMORY_MB": "1"}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def spilled(folder: Path) -> list[str]:
    return [path.name for path in (folder / "home" / "tmp").iterdir() if path.is_dir()]


def test_a_build_that_is_interrupted_or_killed_runs_again(folder: Path) -> None:
    loaded = run(folder, "-m", "twofold", "load", "events", "events.parquet", "long.py")
    assert loaded.returncode == 0, loaded.stderr
    assert "writing events" in loaded.stderr

    interrupted = run(folder, "-c", STOPPED, "SIGINT")
    assert interrupted.returncode == 130, interrupted.stderr
    assert "can be run again" in interrupted.stderr
    assert "Traceback" not in interrupted.stderr
    assert spilled(folder) == []

    killed = run(folder, "-c", STOPPED, "SIGKILL")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(spilled(folder)) == 1
    assert list((folder / "home" / "store" / "generations").glob("*.gen")) == []

    built = run(folder, "-m", "twofold", "build", "long.py")
    assert built.returncode == 0, built.stderr
    assert re.search(r"view: 2,000 keys from 60,000 events", built.stdout), built.stdout
    assert "reading events" in built.stderr
    assert spilled(folder) == []
    names = [path.suffix for path in (folder / "home" / "store" / "generations").iterdir()]
    assert names.count(".gen") == 1
    assert ".tmp" not in names
    shown = run(folder, "-m", "twofold", "build", "long.py")
    assert "up to date" in shown.stdout


def test_a_load_that_is_interrupted_leaves_no_row_and_no_file(folder: Path) -> None:
    import twofold as tw
    from twofold.definitions.load import load_project

    def stop(stage: str, done: int = 0, total: int | None = None) -> None:
        if stage.startswith("writing"):
            raise KeyboardInterrupt

    home = folder / "home"
    with load_project(str(folder / "long.py")).open(home=home, clock=tw.ManualClock("2024-01-01T00:00:00Z")) as opened:
        with pytest.raises(KeyboardInterrupt):
            opened.load("events", folder / "events.parquet", progress=stop)
        assert opened.home.tables.history_version("events") == 0
        assert list((home / "data" / "history" / "events").glob("*.parquet")) == []
        (home / "data" / "history" / "events" / "part-of-a-killed-load.parquet").write_bytes(b"half")
        assert opened.load("events", folder / "events.parquet") == 1
        assert opened.load("events", folder / "events.parquet") == 1
        assert opened.events_of("events").height == ROWS
        assert not (home / "data" / "history" / "events" / "part-of-a-killed-load.parquet").exists()


# How it looks


def test_lines_come_at_each_stage_and_now_and_then() -> None:
    clock, written = ManualClock(0), list[str]()
    lines = Lines("building", written.append, lambda: clock.now_us() / 1_000_000)
    for done in range(10):
        lines("reading", done * 1000, 10_000)
        clock.advance("1s")
    lines("folding")
    assert written == ["building", "reading", "reading: 5,000 of 10,000, 1,000/s, 5 s left", "folding"]


def test_a_stage_without_a_total_says_how_much_is_done() -> None:
    assert line_of("building card", 20_000, None, 4.0) == "building card: 20,000, 5,000/s"
    assert line_of("reading", 0, 10, 0.0) == "reading: 0 of 10"


def test_ctrl_c_is_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    with pytest.raises(typer.Exit) as ended, can_be_interrupted(Console(stderr=True)):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert "run again" in capsys.readouterr().err.replace("\n", " ")
