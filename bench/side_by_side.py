"""The batch benchmark side by side: Twofold and its peers on the same Parquet files, each in a process of its own; one table of ratios.

Nothing large is imported here: a child's peak memory counts from what its parent held.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS, BUILD = HERE / "peers", HERE.parent / "build" / "bench"
ALL = "count,sum,mean,min,max,std"


@dataclass(frozen=True)
class Engine:
    """A program of `peers/`, the requirements of its environment (None: ours) and the aggregates that it gives."""

    program: str
    requirements: str | None
    aggregates: str = ALL


OURS = Engine("ours", None)
PEERS = (
    Engine("polars_rolling", "polars"),
    Engine("polars_grouped", "polars"),
    Engine("duckdb_windows", "duckdb"),
    Engine("duckdb_asof", "duckdb", "count,sum,mean"),
    Engine("spark_windows", "spark"),
)


@dataclass(frozen=True)
class Size:
    """How many events and spine rows."""

    events: int
    rows: int

    def files(self) -> list[str]:
        """Paths of the events and the spine, made where they are not there yet."""
        command = [sys.executable, str(HERE / "history_data.py"), "--events", str(self.events), "--rows", str(self.rows)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


SMALL = Size(1000, 100)


@dataclass(frozen=True)
class Run:
    """One measured run: the work's seconds, the whole process's, and its peak of resident memory."""

    seconds: float
    whole_s: float
    peak_gib: float


def python_of(engine: Engine) -> str:
    """The interpreter of the engine's own environment, made where it is absent or its requirements have changed."""
    if engine.requirements is None:
        return sys.executable
    requirements = PROGRAMS / f"{engine.requirements}.txt"
    folder = BUILD / "peers" / engine.requirements
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        print(f"installing {requirements.name}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
        installed.write_text(requirements.read_text())
    return str(python)


def missing(engine: Engine) -> str | None:
    """What this machine lacks for an engine."""
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else "java"
    if engine.requirements == "spark" and shutil.which(java) is None:
        return "no Java was found: install a runtime of version 17 or newer, on Debian openjdk-17-jre-headless"
    return None


def run(engine: Engine, size: Size, limit_s: float) -> Run:
    """Run an engine and hold a sample of its result against the plain reference; a run that is wrong does not count."""
    files, out, log = size.files(), BUILD / f"out-{engine.program}.parquet", BUILD / f"log-{engine.program}.txt"
    if out.is_dir():
        shutil.rmtree(out)
    command = [python_of(engine), str(PROGRAMS / f"{engine.program}.py"), *SMALL.files(), *files, str(out)]
    with log.open("w") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        timer = threading.Timer(limit_s, os.killpg, [process.pid, signal.SIGKILL])
        timer.start()
        assert process.stdout is not None
        answer = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        whole_s = time.perf_counter() - begun
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        reason = f"did not end within {limit_s:g} s" if process.returncode == -signal.SIGKILL else f"failed ({process.returncode})"
        raise SystemExit(f"{engine.program} at {size.events:,} events {reason}; its messages are in {log.relative_to(HERE.parent)}")
    check(engine, files, out)
    return Run(json.loads(answer.splitlines()[-1])["seconds"], whole_s, usage.ru_maxrss / 2**20)


def check(engine: Engine, files: list[str], out: Path) -> None:
    """Twofold rounds a window's tail down to its hop, the peers' windows are exact: each against the reference of its own windows."""
    options = ["--rounds-tails"] if engine is OURS else []
    command = [sys.executable, str(PROGRAMS / "sample_check.py"), *files, str(out), "--aggregates", engine.aggregates, *options]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if checked.returncode:
        raise SystemExit(f"{engine.program} is wrong, so nothing is timed: {checked.stderr.strip().splitlines()[-1]}")
    print(f"{engine.program}: {checked.stdout.strip()} values agree with the reference", file=sys.stderr)


def median_run(engine: Engine, size: Size, runs: int, limit_s: float) -> Run:
    """The run of the middle by seconds."""
    return sorted((run(engine, size, limit_s) for _ in range(runs)), key=lambda one: one.seconds)[runs // 2]


def table(found: list[tuple[Engine, Size, Run]], ours: dict[Size, Run]) -> str:
    """Markdown; every engine beside ours of the same size."""
    lines = [
        "| engine | events | rows | seconds | ours = 1.0 | whole process, s | peak memory, GiB | ours = 1.0 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for engine, size, one in found:
        name = engine.program if engine.aggregates == ALL else f"{engine.program} ({engine.aggregates})"
        ratios = one.seconds / ours[size].seconds, one.peak_gib / ours[size].peak_gib
        lines.append(
            f"| {name} | {size.events:,} | {size.rows:,} | {one.seconds:.2f} | {ratios[0]:.1f} "
            f"| {one.whole_s:.2f} | {one.peak_gib:.2f} | {ratios[1]:.1f} |"
        )
    return "\n".join(lines)


def chosen(peers: str, skip: str, tenth: str) -> list[Engine]:
    """The peers that are named and not skipped; raises SystemExit for a name that none has."""
    known = {engine.program: engine for engine in PEERS}
    unknown = {name for names in (peers, skip, tenth) for name in names.split(",") if name} - set(known)
    if unknown:
        raise SystemExit(f"no peer is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [known[name] for name in peers.split(",") if name and name not in skip.split(",")]


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ",".join(engine.program for engine in PEERS)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peers", default=names, help=f"of {names}")
    parser.add_argument("--skip", default="", help="peers to leave out")
    parser.add_argument("--tenth", default="spark_windows", help="peers to run at a tenth of both sizes, beside ours at a tenth")
    parser.add_argument("--runs", type=int, default=1, help="runs of each; the one of the middle counts")
    parser.add_argument("--limit-s", type=float, default=1800, help="a run that takes longer is ended")
    return parser.parse_args(arguments)


def main() -> None:
    """Ours first at every size, then the peers."""
    options = options_of()
    full = Size(options.events, options.rows)
    sizes = dict.fromkeys(chosen(options.peers, options.skip, options.tenth), full)
    for engine in sizes:
        if engine.program in options.tenth.split(","):
            sizes[engine] = Size(full.events // 10, full.rows // 10)
        if lacking := missing(engine):
            raise SystemExit(f"{engine.program} cannot run here, for {lacking}; or leave it out with --skip {engine.program}")
    ours = {size: median_run(OURS, size, options.runs, options.limit_s) for size in dict.fromkeys([full, *sizes.values()])}
    found = [(OURS, size, one) for size, one in ours.items()]
    found += [(engine, size, median_run(engine, size, options.runs, options.limit_s)) for engine, size in sizes.items()]
    text = table(found, ours)
    (BUILD / "side_by_side.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
