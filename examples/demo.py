"""The whole job on real flights: history, training, a month replayed live through killed processes, and the proof that it was right.

Run it with `make demo`. It leaves a home that `twofold up` can serve, and its figures in `build/demo.json`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl
from flights import project
from flights_data import FlightData, flights
from replay import Client, Tally, moments, play
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import twofold as tw
from twofold.learn.evaluate import auc
from twofold.runtime.supervisor import processes_of
from twofold.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twofold.runtime.opened import Opened

FOLDER = Path(__file__).resolve().parent
BUILD = FOLDER.parent / "build"
HOME = BUILD / "demo"
NEW_YORK = ZoneInfo("America/New_York")
BEGIN, END = (datetime(2013, month, 1, tzinfo=NEW_YORK).astimezone(UTC) for month in (10, 11))
TIMES = {"schedule": "scheduled_at", "departures": "departed_at", "arrivals": "arrived_at", "weather": "observed_at"}
console = Console(highlight=False)


def main() -> None:
    """The steps, one after another."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    begun = time.monotonic()
    clock = tw.ReplayClock(HOME / "clock")
    clock.set(BEGIN)
    console.rule("1  History: January to September 2013")
    data = flights()
    with project.open(home=HOME, clock=clock) as twofold:
        learn(twofold, data)
    console.rule("2  Live: October 2013, replayed over HTTP")
    with running() as port:
        tally, retried, interruptions = asyncio.run(replay_october(data, clock, port))
        rest(data, clock, port, tally)
    console.rule("3  Proof: what was served, recomputed from history")
    with project.open(home=HOME, clock=clock) as twofold:
        report = judge(twofold, data, tally)
    report["interruptions"] = interruptions
    report["predictions"]["retried"] = retried
    report["seconds"] = round(time.monotonic() - begun, 1)
    (BUILD / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    show(report)
    if report["parity"]["different"] or report["parity"]["ahead"] or report["predictions"]["failed"] or report["events"]["lost_or_double"]:
        sys.exit("the demo has found a fault; see build/demo.json")


def learn(twofold: Opened, data: FlightData) -> None:
    """Load what happened before October, build a generation, train both models."""
    for source, time_column in TIMES.items():
        frame = getattr(data, source).filter(pl.col(time_column) < BEGIN)
        twofold.load(source, frame)
        console.print(f"loaded {frame.height:>8,} rows of {source}")
    twofold.load("planes", data.planes)
    for built in twofold.build():
        console.print(f"built  {built.keys:>8,} keys of {built.view} from {built.events:,} events")
    with console.status("point-in-time training set, training"):
        begun = time.monotonic()
        training = twofold.training_set("late")
        console.print(f"training set: {training.height:,} rows x {training.width} columns in {time.monotonic() - begun:.1f} s")
        trained = [twofold.train("late", frame=training), twofold.train("late_plain", frame=training)]
    for version in trained:
        console.print(f"{version.model}@{version.version[:8]}: AUC {version.metrics['auc']:.3f} on {version.test_rows:,} later flights")


@contextmanager
def running() -> Iterator[int]:
    """`twofold up` on a free port, ready; ended when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "twofold", "up", str(FOLDER / "flights.py"), "--home", str(HOME)]
    process = subprocess.Popen([*command, "--clock", "replay", "--port", str(port), "--replicas", "2"])
    try:
        wait_until_ready(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(port: int, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    """Return once `/readyz` says so."""
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    sys.exit(f"twofold up did not become ready; see {HOME / 'run'}/*.log")


async def replay_october(data: FlightData, clock: tw.ReplayClock, port: int) -> tuple[Tally, int, list[str]]:
    """Every event and every request of October in event order, while processes are killed and a generation is built."""
    requests = october_requests(data)
    play_list = list(moments(requests, october_events(data)))
    faults = Faults(len(play_list))
    client, tally = Client("127.0.0.1", port), Tally()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("flights"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("October", total=requests.height)
        for i, moment in enumerate(play_list):
            faults.strike(i)
            clock.set(moment.at_us)
            await play(moment, client, "late", "flight_id", tally)
            progress.update(
                task, advance=len(moment.requests), description=f"{datetime.fromtimestamp(moment.at_us / 1e6, NEW_YORK):%d %b %H:%M}"
            )
    client.close()
    faults.join()
    return tally, client.retried, faults.done


class Faults:
    """What goes wrong on purpose, and when: a replica and the worker are killed, a generation is built under traffic."""

    def __init__(self, moments: int) -> None:
        self.done: list[str] = []
        self._plan = {moments // 3: self._kill("replica-0"), moments // 2: self._kill("worker-0"), 2 * moments // 3: self._build}
        self._threads: list[threading.Thread] = []

    def strike(self, moment: int) -> None:
        """Do what is planned for this moment, beside the traffic."""
        if moment in self._plan:
            self._threads.append(threading.Thread(target=self._plan[moment]))
            self._threads[-1].start()

    def _kill(self, name: str) -> Any:
        def kill() -> None:
            pid = processes_of(Settings(home=HOME))[name]["pid"]
            os.kill(int(pid or 0), signal.SIGKILL)
            self.done.append(f"SIGKILL {name}")

        return kill

    def _build(self) -> None:
        command = [sys.executable, "-m", "twofold", "build", str(FOLDER / "flights.py"), "--home", str(HOME), "--clock", "replay"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.done.append("build and roll-over under traffic")

    def join(self) -> None:
        """Wait for what is still under way."""
        for thread in self._threads:
            thread.join()


def rest(data: FlightData, clock: tw.ReplayClock, port: int, tally: Tally) -> None:
    """What happened after the last request: the flights of October land, so that every label is known."""
    ends = END + timedelta(hours=26)
    last = max(int(answer["at_us"]) for answer in tally.answers)
    events = {source: (name, frame.filter(pl.col(name).to_physical() >= last)) for source, (name, frame) in october_events(data).items()}
    moment = next(moments(pl.DataFrame({"at": [ends]}), events))
    clock.set(ends)
    client = Client("127.0.0.1", port)
    asyncio.run(play(dataclasses.replace(moment, requests=[]), client, "late", "flight_id", tally))


def october_requests(data: FlightData) -> pl.DataFrame:
    """`at` and the request's fields of every flight scheduled in October, 15 minutes before its departure."""
    scheduled = data.schedule.filter(pl.col("scheduled_at").is_between(BEGIN, END, closed="left"))
    return scheduled.select((pl.col("scheduled_at") - pl.duration(minutes=15)).alias("at"), pl.all().exclude("scheduled_at"))


def october_events(data: FlightData) -> dict[str, tuple[str, pl.DataFrame]]:
    """Time column and events from October on, by source."""
    return {source: (name, getattr(data, source).filter(pl.col(name) >= BEGIN)) for source, name in TIMES.items()}


def judge(twofold: Opened, data: FlightData, tally: Tally) -> dict[str, Any]:
    """The figures: answers, latency, freshness, AUC live and from history, parity of every served feature."""
    with console.status("recomputing every served feature, and the same rows from history"):
        parity = twofold.audit()
        status = twofold.status()
        rows = twofold.training_set("late", rows=october_requests(data))
    live = {answer["asked_for"]: float(answer["prediction"]) for answer in tally.answers}
    known = rows.filter(pl.col("flight_id").is_in(list(live)))
    labels = known["label"].to_numpy()
    scores = {
        "live": known["flight_id"].replace_strict(live, return_dtype=pl.Float64).to_numpy(),
        "offline": twofold.score("late", known).to_numpy(),
        "without_features": twofold.score("late_plain", known).to_numpy(),
    }
    return {
        "predictions": {
            "asked": tally.asked,
            "answered": len(tally.answers),
            "failed": tally.failed,
            "by_rung": dict(Counter(answer["served_by"] for answer in tally.answers)),
        },
        "latency_ms": {"p50": round(tally.latency_ms(0.5), 2), "p99": round(tally.latency_ms(0.99), 2)},
        "freshness_ms": {name: None if value is None else round(value, 2) for name, value in status.freshness_ms.items()},
        "auc": {name: round(auc(labels, values) or 0.0, 4) for name, values in scores.items()},
        "parity": {"compared": parity.compared, "different": parity.different, "ahead": parity.ahead, "skipped": parity.skipped},
        "events": count_events(twofold, data, tally),
    }


def count_events(twofold: Opened, data: FlightData, tally: Tally) -> dict[str, int]:
    """How many events were sent, and how many of them are not exactly once among those that count (dead letters included)."""
    wrong = twofold.status().dead_letters
    for source, sent in tally.sent.items():
        events = twofold.events_of(source).filter(pl.col(TIMES[source]) >= BEGIN)
        key = "flight_id" if "flight_id" in events.columns else pl.struct("airport", TIMES[source])
        wrong += abs(events.select(key).n_unique() - sent) + events.height - sent
    return {"sent": sum(tally.sent.values()), "lost_or_double": wrong}


def show(report: dict[str, Any]) -> None:
    """The summary, for people."""
    predictions, auc_of, parity = report["predictions"], report["auc"], report["parity"]
    rungs = ", ".join(f"{count:,} {rung}" for rung, count in predictions["by_rung"].items())
    table = Table(show_header=False, box=None, title="Twofold on October 2013", title_justify="left")
    table.add_row(
        "predictions", f"{predictions['asked']:,} asked, {predictions['answered']:,} answered ({rungs}), {predictions['failed']} failed"
    )
    table.add_row("meanwhile", ", ".join(report["interruptions"]) + f"; {predictions['retried']} requests sent again")
    table.add_row("events", f"{report['events']['sent']:,} sent, {report['events']['lost_or_double']} lost or counted twice")
    table.add_row("latency", "p50 {p50} ms, p99 {p99} ms (append -> visible -> answer, closed loop)".format(**report["latency_ms"]))
    table.add_row("freshness", "p50 {p50} ms, p99 {p99} ms from accepted to visible".format(**report["freshness_ms"]))
    table.add_row("AUC", "{live} live, {offline} on the same rows from history, {without_features} without features".format(**auc_of))
    table.add_row("parity", f"{parity['compared']:,} served features recomputed: {parity['different']} different, {parity['ahead']} ahead")
    console.print(table)
    console.print(f"took {report['seconds']} s; figures in {BUILD / 'demo.json'}")


if __name__ == "__main__":
    main()
