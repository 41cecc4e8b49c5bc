"""The speed layer on Redis: events a second of one worker, and of two that share the partitions; the log is the embedded one.

As many events were applied before. The server is started here, on loopback, and appends to its file once a second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from stream_data import stream
from stream_homes import PLAIN_BATCH, append, project_of

import twofold as tw
from twofold.stream.worker import Worker

PARTITIONS = 4


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a Redis of one's own, which appends to a file in the folder and syncs it once a second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"port": port, "bind": "127.0.0.1", "dir": folder, "appendonly": "yes", "save": ""}
    command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    break
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def opened(home: Path, url: str, clock: tw.ManualClock):
    """The 24 features, on four partitions."""
    return project_of("card").open(home=home, clock=clock, partitions=PARTITIONS, store=url)


def work(home: Path, url: str, mine: list[int]) -> None:
    """In a process of its own: take partitions over, say so, wait for the word, apply all, say how long it took."""
    with opened(home, url, tw.ManualClock(0)) as running:
        worker = Worker(running.compiled, running.home.log, running.home.store, running.home.bell, PLAIN_BATCH)
        worker.take_over(mine)
        print("ready", flush=True)
        sys.stdin.readline()
        worker.catch_up()


def measured(home: Path, url: str, shares: list[list[int]], cores: int) -> float:
    """Seconds until workers with these shares have applied what the log holds."""
    command = [sys.executable, __file__, "--worker", str(home), url]
    workers = [subprocess.Popen([*command, *map(str, share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for share in shares]
    for number, worker in enumerate(workers):
        os.sched_setaffinity(worker.pid, {number % cores})
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    begun = time.perf_counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate()
    assert not any(worker.returncode for worker in workers)
    return time.perf_counter() - begun


def main() -> None:
    """Fill, then apply the same events with one worker and with two."""
    if len(sys.argv) > 1 and sys.argv[1] == "--worker":
        work(Path(sys.argv[2]), sys.argv[3], list(map(int, sys.argv[4:])))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000, help="of each run, and of the time before them")
    parser.add_argument("--keys", type=int, default=100_000)
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("there is no redis-server (on Debian: apt install redis-server)")
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        home, clock = Path(folder) / "home", tw.ManualClock(0)
        thirds = list(stream(3 * options.events, options.keys).iter_slices(options.events))
        with opened(home, url, clock) as running:
            append(running, thirds[0], PLAIN_BATCH, clock)
            running.catch_up()
        for shares, frame in (([list(range(PARTITIONS))], thirds[1]), ([[0, 1], [2, 3]], thirds[2])):
            with opened(home, url, clock) as running:
                append(running, frame, PLAIN_BATCH, clock)
            seconds = measured(home, url, shares, os.cpu_count() or 1)
            print(f"{len(shares)} worker(s): {options.events / seconds:,.0f} events/s", flush=True)


if __name__ == "__main__":
    main()
