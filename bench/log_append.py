"""How many events a second the SQLite log makes durable, by the size of batches, and what share of an append a bare fsync would take.

Run `python bench/log_append.py [directory]`; the directory decides which disk is measured (default: here). Nothing of it is a test.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from twofold.log.base import Append
from twofold.log.sqlite import SqliteLog

SECONDS = 2.0


def payload_of(count: int) -> bytes:
    """An Arrow IPC stream of `count` flights: three texts, a float, an instant."""
    random = np.random.default_rng(1)
    table = pl.DataFrame(
        {
            "flight_id": [f"2013-10-01-{number}" for number in range(count)],
            "origin": random.choice(["EWR", "JFK", "LGA"], count),
            "tailnum": [f"N{number:05}" for number in random.integers(0, 4000, count)],
            "delay": random.normal(10, 40, count),
            "departed_at": random.integers(0, 2**50, count),
        }
    )
    stream = io.BytesIO()
    table.write_ipc_stream(stream)
    return stream.getvalue()


def append_for(path: Path, count: int, seconds: float, threads: int = 1) -> list[float]:
    """Append as fast as possible; the duration of every append in seconds."""
    log = SqliteLog(path)
    append = [Append("departures", 0, count, payload_of(count))]
    took: list[float] = []

    def work() -> None:
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            log.append(append, 0)
            took.append(time.perf_counter() - begun)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    log.close()
    return took


def fsync_share(directory: Path, count: int, seconds: float) -> float:
    """Median time of a bare write and `fdatasync` of as many bytes, as a share of an append's; in turn, so other load weighs on both."""
    payload = payload_of(count)
    log = SqliteLog(directory / f"share-{count}")
    file = os.open(directory / "bare", os.O_RDWR | os.O_CREAT)
    append, raw = [Append("departures", 0, count, payload)], os.urandom(len(payload) + 8192)
    bare, whole = [], []
    end = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        log.append(append, 0)
        appended = time.perf_counter()
        os.pwrite(file, raw, 0)
        os.fdatasync(file)
        whole.append(appended - begun)
        bare.append(time.perf_counter() - appended)
    os.close(file)
    log.close()
    return statistics.median(bare) / statistics.median(whole)


def line(name: str, count: int, took: list[float], share: float | None = None) -> str:
    """One row of the table."""
    ordered = sorted(took)
    p50, p99 = ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3
    fsync = "" if share is None else f"{share:6.0%}"
    return f"{name:34}{count * len(took) / SECONDS:12,.0f}{len(took) / SECONDS:11,.0f}{p50:9.2f}{p99:9.2f}{ordered[-1] * 1e3:9.2f}{fsync}"


def main() -> None:
    """Print the table."""
    directory = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else "."))
    try:
        print(f"{'':34}{'events/s':>12}{'appends/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9} fsync")
        for count in (1, 100, 10_000):
            took = append_for(directory / f"batches-{count}", count, SECONDS)
            print(line(f"batches of {count:,}", count, took, fsync_share(directory, count, SECONDS)))
        for threads in (4, 16):
            print(line(f"batches of 1, {threads} threads", 1, append_for(directory / f"threads-{threads}", 1, SECONDS, threads)))
        for processes in (2, 4):
            path = directory / f"processes-{processes}"
            SqliteLog(path).close()
            with multiprocessing.get_context("spawn").Pool(processes) as pool:
                parts = pool.starmap(append_for, [(path, 1, SECONDS)] * processes)
            print(line(f"batches of 1, {processes} processes", 1, [each for part in parts for each in part]))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
