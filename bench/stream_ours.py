"""Twofold's speed layer on one core: the peers' job, 24 features on deltas a day old, freshness of single events, reads in process."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import polars as pl
from stream_data import folder_of
from stream_homes import SOURCE, Done, aged, append, apply, reopened, store_mib

import twofold as tw
from twofold.plan import layout
from twofold.stream.freshness import decode_counts, quantile_ms

BATCHES = {1: 0.01, 100: 0.1, 1_000: 0.3, 10_000: 0.29, 100_000: 0.3}
"""Events of a micro-batch -> the share of the measured day that is applied in such batches, one after the other on the same home."""

READS, THREADS = 5_000, 8
ALL = ("hourly", "card", "fresh")


def show(name: str, applied: Done, appended: Done, note: str = "") -> None:
    """One line of the measurement."""
    print(
        f"{name:44}{applied.rate:12,.0f} events/s  {applied.events:10,} events, a commit each {applied.commit_ms:8.2f} ms; "
        f"append {appended.rate:12,.0f} events/s, {appended.seconds / appended.commits * 1e3:7.3f} ms each {note}",
        flush=True,
    )


def rates(view: str, events: pl.DataFrame, home: Path, has_ids: bool = False) -> None:
    """The first day is applied before; of the second one stretch for each size of micro-batches, already in the log."""
    half = events.height // 2
    clock = tw.ManualClock(events["at"][0])
    running = aged(view, home, events[:half], clock, has_ids)
    print(f"{view}: deltas hold {half:,} events of a day, {store_mib(home):,.0f} MiB")
    begin = half
    for batch, share in BATCHES.items():
        part = events[begin : begin + int(share * half)]
        begin += part.height
        appended = append(running, part, batch, clock)
        show(f"{view}, micro-batches of {batch:,}", apply(running, batch), appended)
    print(f"{view}: the store has {store_mib(home):,.0f} MiB now")
    if view == "card":
        reads(running, events[:begin]["key"])
    running.close()


def reads(running: tw.Opened, keys: pl.Series) -> None:
    """One key's features, in process: of keys as often as they have events, and of the heaviest again and again."""
    reader = running.replica.reader
    running.home.store.sync()  # which would go on beside the first of them, on the same core
    counted = keys.value_counts(sort=True)["key"]
    cases = {
        "any event's key": keys.sample(READS, seed=1).to_list(),
        "any key": counted.sample(READS, seed=1, with_replacement=True).to_list(),
        "the heaviest key": [counted[0]] * READS,
    }
    for name, wanted in cases.items():
        took = []
        for key in wanted:
            begun = time.perf_counter()
            reader.features("card", [key])
            took.append(time.perf_counter() - begun)
        took.sort()
        print(f"{'card, 24 features of ' + name:44}{took[READS // 2] * 1e6:12.1f} us p50  {took[READS * 99 // 100] * 1e6:10.1f} us p99")


def fresh(events: pl.DataFrame, home: Path, seconds: float, rate: int) -> None:
    """Single events by `project.append` in this process, a worker in another: accepted (and synced) -> visible, by the store's counts."""
    half = events.height // 2
    shift_us = time.time_ns() // 1000 - int(events["at"].to_physical()[half])
    older = events[:half].with_columns(pl.col("at") + pl.duration(microseconds=shift_us))
    aged("card", home, older, tw.ManualClock(older["at"][0])).close()
    with reopened("card", home) as running:
        before = accepted_to_visible(running)
        worker = subprocess.Popen([sys.executable, __file__, "--worker", str(home)], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        worker.stdout.readline()
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0) - {0} or {0})} if (os.cpu_count() or 1) > 1 else {0})
        took = sorted(paced(running, events[half:]["key"].to_list(), events[half:]["amount"].to_list(), seconds, rate))
        running.catch_up()
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        counts = accepted_to_visible(running)
        counts.subtract(before)
    p50, p99 = quantile_ms(counts, 0.5) or 0, quantile_ms(counts, 0.99) or 0
    print(f"{'fresh, accepted -> visible':44}{p50:12.2f} ms p50  {p99:10.2f} ms p99  of {sum(counts.values()):,} single events")
    p50, p99 = took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3
    came = f"asked for {rate:,}/s, came {len(took) / seconds:,.0f}/s, {THREADS} threads"
    print(f"{'fresh, project.append of one event':44}{p50:12.2f} ms p50  {p99:10.2f} ms p99  {came}")


def accepted_to_visible(running: tw.Opened) -> Counter[int]:
    """The store's counts of how long events took."""
    counts: Counter[int] = Counter()
    with running.home.store.snapshot() as snapshot:
        for partition in range(running.home.log.partitions):
            counts.update(decode_counts(snapshot.get(layout.freshness_key(partition))))
    return counts


def paced(running: tw.Opened, keys: list[int], amounts: list[float], seconds: float, rate: int) -> list[float]:
    """Append single events at a steady pace from some threads; seconds of each append. Who is late sends at once."""
    took: list[float] = []
    began = time.perf_counter()

    def send(thread: int) -> None:
        for number in range(thread, int(rate * seconds), THREADS):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            at, begun = time.time_ns() // 1000, time.perf_counter()
            running.append(SOURCE, {"key": keys[number % len(keys)], "at": at, "amount": amounts[number % len(keys)]})
            took.append(time.perf_counter() - begun)
            if begun - began > seconds:
                return

    threads = [threading.Thread(target=send, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


def work(home: Path) -> None:
    """The worker's process: applies until it is told to stop."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    os.sched_setaffinity(0, {0})
    with reopened("card", home) as running:
        running.catch_up()
        print("ready", flush=True)
        running.stream(stopped.is_set)


def main() -> None:
    """Each case on a home of its own, which is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="of two days; the second is measured")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--cases", default=",".join(ALL), help=f"of {', '.join(ALL)} and card_ids: with an id, duplicates dropped")
    parser.add_argument("--seconds", type=float, default=20, help="of the freshness")
    parser.add_argument("--rate", type=int, default=1_000, help="of the freshness")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        work(options.worker)
        return
    events = pl.read_parquet(folder_of(options.events, options.keys, options.events) / "events.parquet")
    for case in options.cases.split(","):
        with tempfile.TemporaryDirectory(dir=folder_of(options.events, options.keys, options.events)) as home:
            if case == "fresh":
                fresh(events, Path(home), options.seconds, options.rate)
            else:
                rates(case.removesuffix("_ids"), events, Path(home), case.endswith("_ids"))


if __name__ == "__main__":
    main()
