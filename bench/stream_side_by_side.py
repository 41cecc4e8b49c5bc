"""The speed layer side by side: Twofold's worker and its peers on the same events and one core each, in processes of their own.

A peer computes one thing: count and sum of tumbling hours by key. It runs twice, over the first fifth of the events and over all of
them; the difference of events over the difference of seconds is its rate, so that what starting and stopping cost falls out. Twofold's
worker is measured on the same job and on the 24 features of the batch benchmark (`stream_ours.py`).
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS, BUILD = HERE / "stream_peers", HERE.parent / "build" / "bench"
CORE = "0"
PLAIN, BEHIND = "10,000", "100,000"
"""Events of our micro-batches; the larger are those of a worker that is far behind."""
ONE_THREAD = dict.fromkeys(("POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS", "PATHWAY_THREADS"), "1")


@dataclass(frozen=True)
class Peer:
    """A program of `stream_peers/`, the share of the events that it gets (a slow one fewer), and what it needs beside its packages."""

    name: str
    what: str
    share: float = 1.0
    needs_java: bool = False


PEERS = (
    Peer("pathway", "CSV read as a stream"),
    Peer("flink", "SQL, CSV, no checkpoints", needs_java=True),
    Peer("spark", "Parquet files one by one, state checkpointed", needs_java=True),
    Peer("bytewax", "events from memory, no recovery store", share=0.1),
)


class Lacking(Exception):
    """A peer that cannot run on this machine, with the reason."""


def python_of(peer: Peer) -> str:
    """The interpreter of the peer's own environment, made where it is absent or its requirements have changed; raises Lacking."""
    if peer.needs_java and shutil.which(Path(os.environ["JAVA_HOME"], "bin", "java") if "JAVA_HOME" in os.environ else "java") is None:
        raise Lacking("no Java was found: install a runtime of version 17, on Debian openjdk-17-jre-headless")
    requirements, folder = PROGRAMS / f"{peer.name}.txt", BUILD / "stream_peers" / peer.name
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if not installed.exists() or installed.read_text() != requirements.read_text():
        print(f"installing {requirements.name}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", requirements], capture_output=True, text=True)
        if done.returncode:
            raise Lacking(f"pip cannot install {requirements.name}: {(done.stderr.strip().splitlines() or ['it does not say why'])[-1]}")
        installed.write_text(requirements.read_text())
    return str(python)


def pinned(command: list[str], limit_s: float) -> tuple[float, str]:
    """(seconds, what it printed) of a command on one core; raises Lacking where it fails or takes too long."""
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            ["taskset", "-c", CORE, *command],
            env=os.environ | ONE_THREAD,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Lacking(f"it did not end within {limit_s:g} s") from None
    seconds = time.perf_counter() - begun
    if done.returncode:
        (BUILD / "stream-failed.txt").write_text(done.stdout + done.stderr)
        raise Lacking(f"it failed ({done.returncode}); its messages are in build/bench/stream-failed.txt")
    return seconds, done.stdout


def folders(events: int, keys: int, firsts: list[int]) -> list[str]:
    """The folders of the first so many events, made where they are not there yet."""
    command = [sys.executable, str(HERE / "stream_data.py"), "--events", str(events), "--keys", str(keys), "--first", *map(str, firsts)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


CHECKED_EVENTS = 20_000


def check(peer: Peer, python: str, keys: int, limit_s: float) -> None:
    """A peer that is wrong on two days of few events is not timed; raises Lacking."""
    (folder,), out = folders(CHECKED_EVENTS, keys, [CHECKED_EVENTS]), BUILD / f"stream-out-{peer.name}"
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    pinned([python, str(PROGRAMS / f"{peer.name}_hourly.py"), folder, str(CHECKED_EVENTS), str(out)], limit_s)
    checked = subprocess.run([sys.executable, str(HERE / "stream_check.py"), folder, str(out)], capture_output=True, text=True, check=False)
    if checked.returncode:
        raise Lacking(f"it is wrong, so nothing is timed: {(checked.stderr.strip().splitlines() or ['no text'])[-1]}")
    print(f"{peer.name}: {checked.stdout.strip()} hours agree with Polars", file=sys.stderr)


@dataclass(frozen=True)
class Rate:
    """Events a second of the steady part, and the seconds of the whole long run."""

    events: int
    per_s: float
    whole_s: float


def peer_rate(peer: Peer, events: int, keys: int, limit_s: float) -> Rate:
    """Of the difference of two runs."""
    python, counts = python_of(peer), [int(events * peer.share / 5), int(events * peer.share)]
    check(peer, python, keys, limit_s)
    seconds = []
    for count, folder in zip(counts, folders(events, keys, counts), strict=True):
        seconds.append(pinned([python, str(PROGRAMS / f"{peer.name}_hourly.py"), folder, str(count)], limit_s)[0])
    if seconds[1] - seconds[0] < 1:
        raise Lacking("it was too fast for a rate: its two runs differ by less than a second; take more --events")
    return Rate(counts[1] - counts[0], (counts[1] - counts[0]) / (seconds[1] - seconds[0]), seconds[1])


def ours(options: argparse.Namespace) -> str:
    """What `stream_ours.py` prints."""
    command = [sys.executable, str(HERE / "stream_ours.py"), "--events", str(2 * options.events), "--keys", str(options.keys)]
    return pinned([*command, "--cases", options.cases, "--seconds", str(options.seconds)], options.limit_s * 4)[1]


def rate_of(printed: str, case: str, batch: str) -> float | None:
    """The rate in micro-batches of that size."""
    found = re.search(rf"^{case}, micro-batches of {batch} +([\d,]+) events/s", printed, re.MULTILINE)
    return float(found[1].replace(",", "")) if found else None


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    names = ["ours", *(peer.name for peer in PEERS)]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the peers; ours gets them after as many of the day before")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--only", default=",".join(names), help=f"of {','.join(names)}")
    parser.add_argument("--cases", default="hourly,card,fresh", help="of ours; card_ids is card with an id whose duplicates are dropped")
    parser.add_argument("--seconds", type=float, default=20, help="of the freshness at 1,000 events a second")
    parser.add_argument("--limit-s", type=float, default=900, help="a run that takes longer is ended")
    options = parser.parse_args(arguments)
    if unknown := set(options.only.split(",")) - set(names):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    return options


def main() -> None:
    """Ours, then the peers; a peer that cannot run here is said and left out."""
    options = options_of()
    only, lines = options.only.split(","), ["| engine | job | events/s | ours = 1.0 | ours, 24 features = 1.0 |", "|---|---|---|---|---|"]
    cheap = wide = None
    if "ours" in only:
        printed = ours(options)
        print(printed)
        cheap, wide = rate_of(printed, "hourly", PLAIN), rate_of(printed, "card", PLAIN)
        jobs = ("hourly", "count and sum of an hour"), ("card", "24 features")
        for batch, (case, job) in itertools.product((PLAIN, BEHIND), jobs):
            if (rate := rate_of(printed, case, batch)) is not None:
                lines.append(
                    f"| ours, durable, micro-batches of {batch} | {job} | {rate:,.0f} | {times(rate, cheap)} | {times(rate, wide)} |"
                )
    for peer in (peer for peer in PEERS if peer.name in only):
        try:
            rate = peer_rate(peer, options.events, options.keys, options.limit_s)
        except Lacking as lacking:
            print(f"{peer.name} is left out: {lacking}")
            continue
        print(f"{peer.name}: {rate.events:,} events at {rate.per_s:,.0f}/s; the whole long run {rate.whole_s:.1f} s", flush=True)
        ratios = f"{times(rate.per_s, cheap)} | {times(rate.per_s, wide)}"
        lines.append(f"| {peer.name}, {peer.what} | count and sum of an hour | {rate.per_s:,.0f} | {ratios} |")
    (BUILD / "stream_side_by_side.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def times(rate: float, ours_per_s: float | None) -> str:
    """How many times ours a rate is; nothing where ours was not measured."""
    return "" if ours_per_s is None else f"{rate / ours_per_s:.2f}"


if __name__ == "__main__":
    main()
