"""A process that lives one life of a home after another, each in a forked child that may be killed on its way, for the fault tests.

It reads requests (one JSON object a line) and answers each with one line. What a life needs is imported and compiled before the first
fork; engines are opened in the child only. `python fault_driver.py` is the process, `Driver` the one who talks to it.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

START = "2024-05-01T00:00:00Z"
STEP_US = 7 * 60 * 1_000_000
COLUMNS = ("payment_id", "card", "amount", "shop", "paid_at")
CARDS, SHOPS = ["a", "b", "c", None], ["x", "y"]
BROKEN = b"no Arrow stream"
RETENTION = "5m"
"""Less than a step: a build drops what the lives before have appended."""


class Homes:
    """Homes with history, a generation and a trained model, each made when it is asked for."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self._count = driver, 0
        self._template = driver.folder / "template"

    def fresh(self) -> Path:
        """A home of its own. An embedded one is a copy; on servers each is set up."""
        self._count += 1
        home = self._driver.folder / f"home{self._count}"
        if {"log", "store"} & set(self._driver.engines):
            self._driver.ask("set_up", home)
            return home
        if not self._template.exists():
            self._driver.ask("set_up", self._template)
        for suffix in ("", ".producer"):
            shutil.copytree(self._template.with_suffix(suffix), home.with_suffix(suffix))
        return home


class Driver:
    """Asks the process, one request at a time. In the URLs of `engines`, `{home}` is the name of each home's folder."""

    def __init__(self, folder: Path, engines: dict[str, Any] | None = None) -> None:
        self.folder, self.engines = folder, {"partitions": 2, **(engines or {})}
        if "log" not in self.engines:
            self.engines["retention"] = RETENTION
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-W", "ignore", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.ask("warm", folder / "warm")

    def ask(self, what: str, home: Path, fail_at: str | None = None, **parameters: Any) -> Any:
        """The answer of a life; None where it was killed at its fail point. Raises AssertionError where it failed otherwise."""
        return self._value(
            self._request("whole", what=what, home=str(home), fail_at=fail_at, parameters=parameters), f"{what} at {fail_at}"
        )

    def begin(self, what: str, home: Path, fail_at: str | None = None, **parameters: Any) -> int:
        """Begin a life; its process."""
        return int(self._request("begin", what=what, home=str(home), fail_at=fail_at, parameters=parameters)["value"])

    def end(self, process: int) -> Any:
        """The answer of a life that was begun, when it has ended; None where it was killed."""
        return self._value(self._request("end", process=process), f"process {process}")

    def until_stopped(self, process: int) -> None:
        """Wait until a life has stopped at its fail point."""
        assert self._request("until_stopped", process=process)["value"], f"process {process} ended and did not stop"

    def _request(self, how: str, **fields: Any) -> dict[str, Any]:
        request = {"how": how, "engines": self.engines, **fields}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return dict(json.loads(self._process.stdout.readline()))

    def _value(self, answer: dict[str, Any], said: str) -> Any:
        assert answer.get("error") is None, f"{said}:\n{answer['error']}"
        return None if answer["killed"] else answer["value"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process whose children live the lives."""
        return self._process.pid


# In the child: what a life can be.


class Producer:
    """Appends events, and writes down beside the home what it will send and what was acknowledged; it sends again what was not."""

    def __init__(self, opened: Any, number: int) -> None:
        self._opened, self._rng, self._number, self._sent = opened, random.Random(number), number, 0
        self._folder = opened.home.settings.home.with_suffix(".producer")
        self._folder.mkdir(exist_ok=True)

    def _note(self, file: str, value: Any) -> None:
        with open(self._folder / file, "ab", buffering=0) as out:
            out.write(json.dumps(value).encode() + b"\n")

    def read(self, file: str) -> list[Any]:
        """What was written down."""
        path = self._folder / file
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def event(self) -> dict[str, Any]:
        """Mostly new and of just now; sometimes late, far in the future, or one that was sent before."""
        rng, now = self._rng, self._opened.home.clock.now_us()
        self._sent += 1
        lateness = rng.choice([0, 0, 1_000_000, 3_600_000_000, 86_400_000_000, -3 * 86_400_000_000])
        number = self._sent if rng.random() < 0.8 else rng.randint(1, self._sent)
        return {
            "payment_id": f"{self._number}-{number}" if rng.random() < 0.95 else None,
            "card": rng.choice(CARDS),
            "amount": rng.choice([None, 0.1, 1e15, -1e15, float(rng.randint(1, 500))]),
            "shop": rng.choice(SHOPS),
            "paid_at": now - lateness - rng.randint(0, 10_000_000),
        }

    def send(self, count: int) -> None:
        """New events."""
        self.append(f"{self._number}/{self._sent}", [self.event() for _ in range(count)])

    def send_again(self) -> None:
        """What nobody acknowledged."""
        done = {name for name, *_ in self.read("acknowledged")}
        for name, rows in self.read("sent"):
            if name not in done:
                self.append(name, rows)

    def append(self, name: str, rows: list[dict[str, Any]]) -> None:
        """These events, under a name of their own."""
        self._note("sent", [name, rows])
        position = self._opened.append("payments", rows)
        self._note("acknowledged", [name, str(position), [row["payment_id"] for row in rows if row["payment_id"] is not None]])

    def send_broken(self) -> None:
        """A payload that is no events, past every check."""
        from twofold.log.base import Append

        count = 3 if self._opened.home.log.encoding == "arrow" else 1
        self._opened.home.append_batches([Append("payments", 0, count, BROKEN)])

    def replay(self) -> None:
        """The first dead letters, corrected."""
        from twofold.runtime.replaying import letters_of

        rows = {}
        for letter in letters_of(self._opened, "payments")[:2]:
            row = letter.row or self.event()
            rows[letter.partition, letter.offset] = {name: row[name] for name in COLUMNS} | {"paid_at": self._opened.home.clock.now_us()}
        for place, row in rows.items():
            self._note("replayed", [*place, row])
        report = self._opened.replay("payments", rows=rows)
        assert report.appended == len(rows) > 0, report

    def see(self) -> None:
        """Write down how far the store has applied."""
        from twofold.testing.faults import applied_offsets

        self._note("applied", [[source, partition, offset] for (source, partition), offset in applied_offsets(self._opened).items()])

    def applied(self) -> dict[tuple[str, int], int]:
        """The greatest applied offsets that were ever seen."""
        found: dict[tuple[str, int], int] = {}
        for seen in self.read("applied"):
            for source, partition, offset in seen:
                found[source, partition] = max(offset, found.get((source, partition), 0))
        return found


@contextlib.contextmanager
def opened_at(home: str, engines: dict[str, Any], number: int) -> Iterator[Any]:
    """The project on its home, `number` steps after the start."""
    from shop_project import project

    from twofold.clocks import ManualClock
    from twofold.instants import to_us
    from twofold.plan.compile import compile_project
    from twofold.runtime.home import Home
    from twofold.runtime.opened import Opened
    from twofold.settings import Settings

    clock = ManualClock(to_us(START) + number * STEP_US)
    named = {name: value.format(home=Path(home).name) if isinstance(value, str) else value for name, value in engines.items()}
    with Opened(compile_project(project), Home(Settings(home=Path(home), **named), clock)) as opened:
        yield opened


def history(seed: int, count: int) -> list[dict[str, Any]]:
    """Rows to load, of the twenty days before the start."""
    from twofold.instants import DAY_US, to_us

    rng = random.Random(seed)
    return [
        {
            "payment_id": f"h{seed}-{i}",
            "card": rng.choice(CARDS),
            "amount": float(rng.randint(1, 500)),
            "shop": rng.choice(SHOPS),
            "paid_at": to_us(START) - rng.randrange(20 * DAY_US),
        }
        for i in range(count)
    ]


def predict(opened: Any, times: int = 1) -> None:
    """Serve, so that the audit has something to look at."""
    opened.predict("risk", [{"card": card, "shop": "x", "amount": 10.0} for _ in range(times) for card in CARDS])


def set_up(opened: Any) -> None:
    """History, a first generation, a trained model; events in every partition, which will be the first to be dropped from the log."""
    opened.load("payments", history(-1, 200))
    opened.load("limits", [{"card": "a", "limit": 100.0, "set_at": opened.home.clock.now_us() - STEP_US}])
    opened.build()
    opened.train("risk", test=None)
    opened.append("limits", {"card": "a", "limit": 99.0, "set_at": opened.home.clock.now_us() - 1})
    Producer(opened, 0).send(12)


def live(opened: Any, number: int) -> None:
    """All that happens to a home: events, a worker, a build while events come, loads, answers. Each step can be the last."""
    from twofold.runtime.sharing import membership
    from twofold.stream.worker import Worker

    home, producer = opened.home, Producer(opened, number)
    producer.send_again()
    producer.send(12)
    producer.send_broken()
    with membership(home) if home.store.has_many_writers else home.lock("worker"):
        worker = Worker(opened.compiled, home.log, home.store, home.bell)
        worker.take_over()
        worker.catch_up()
        producer.see()
        predict(opened)
        producer.replay()
        producer.send(5)
        opened.append("limits", {"card": "a", "limit": float(number), "set_at": home.clock.now_us() - 1})
        worker.catch_up()

        calls = itertools.count()

        def traffic(*_: Any) -> None:
            if next(calls) % 4 == 0:
                producer.send(1)
                worker.catch_up()

        opened.build(progress=traffic)
        predict(opened)
        producer.send(2)
        worker.catch_up()
        worker.close()
        producer.see()
    opened.load("payments", history(number, 5))
    predict(opened)


def met(opened: Any, number: int) -> dict[str, int]:
    """How often a whole life comes to each fail point."""
    from twofold import fail_points

    counts: Counter[str] = Counter()
    fail_points._fault = SimpleNamespace(meet=lambda name: counts.update([name]))  # type: ignore[assignment]
    live(opened, number)
    return counts


def check(opened: Any, number: int) -> dict[str, Any]:
    """Finish what is unfinished, then say what is wrong."""
    from twofold.testing.faults import applied_offsets, left_over

    producer, applied = Producer(opened, number), sum(applied_offsets(opened).values())
    producer.send_again()
    opened.catch_up()
    complaints = complaints_of(opened, producer, is_built=False)
    opened.build()
    predict(opened)
    complaints += complaints_of(opened, producer, is_built=True)
    audit = opened.audit()
    if audit.different or not audit.compared:
        complaints.append(f"the audit compared {audit.compared}, different: {audit.examples}")
    return {"complaints": complaints, "left_over": left_over(opened), "audited": audit.compared, "applied": applied}


def load(opened: Any, number: int) -> int:
    """History of ids that live events may repeat; the version it becomes."""
    version: int = opened.load("payments", history(number, 20))
    return version


def repeat(opened: Any, number: int, loaded: int, goes_on: bool) -> dict[str, Any]:
    """Events of the ids that `load` of the number `loaded` had, applied by a worker that `goes_on` as if it had been there all the time.

    Else by one that takes over. Then `check`.
    """
    now = opened.home.clock.now_us()
    Producer(opened, number).append(f"{number}/repeated", [row | {"paid_at": now - i} for i, row in enumerate(history(loaded, 20))])
    if goes_on:
        work(opened, number)
    return check(opened, number)


def complaints_of(opened: Any, producer: Producer, is_built: bool) -> list[str]:
    """Broken promises and different values."""
    from twofold.instants import DAY_US, HOUR_US
    from twofold.testing.faults import broken_promises, counted_once
    from twofold.testing.modes import history_parity, online_parity

    acknowledged = [(position, ids) for _, position, ids in producer.read("acknowledged")]
    replayed = [("payments", partition, offset) for partition, offset, _ in producer.read("replayed")]
    complaints = broken_promises(opened, acknowledged, producer.applied(), replayed)
    complaints += unsent(opened, producer)
    now = opened.home.clock.now_us()
    for view in ("card", "shop", "everything", "limits"):
        keys: list[Any] = {"shop": SHOPS, "everything": [()]}.get(view, [*CARDS[:3], "nobody"])
        parity = online_parity(opened, view, keys, [None, now + HOUR_US, now + 2 * DAY_US])
        if is_built:
            parity += history_parity(opened, view, keys, [now - DAY_US, now + HOUR_US])
        complaints += parity.examples + ([] if parity.compared else [f"{view}: nothing was compared"])
    complaints += counted_once(opened, "everything", "n_all", opened.features("everything", [()])["n_all"][0])
    producer.see()
    return complaints


def unsent(opened: Any, producer: Producer) -> list[str]:
    """Events in the log that nobody has sent so, and dead letters that are gone though their event is not in the log again."""
    from twofold.instants import to_us
    from twofold.runtime.replaying import letters_of
    from twofold.testing.appended import appended

    rows = {(*row[:-1], to_us(row[-1])) for row in appended(opened, opened.compiled.source("payments")).select(*COLUMNS).iter_rows()}
    replayed = {(partition, offset): tuple(row.values()) for partition, offset, row in producer.read("replayed")}
    sent = {tuple(row.values()) for _, rows in producer.read("sent") for row in rows}
    sent |= {tuple(row.values()) for _, _, row in producer.read("replayed")}
    left = {(letter.partition, letter.offset) for letter in letters_of(opened, "payments")}
    lost = [place for place, row in replayed.items() if place not in left and row not in rows]
    return [f"{row} is in the log, but nobody has sent it" for row in rows - sent] + [
        f"the dead letter at {place} is gone, but its event is not in the log again" for place in lost
    ]


def send(opened: Any, number: int, count: int = 10) -> str:
    """Append events; what the log says where it cannot take them."""
    from twofold.errors import TwofoldError

    try:
        Producer(opened, number).send(count)
    except TwofoldError as error:
        return f"{type(error).__name__}: {error}"
    return "sent"


def work(opened: Any, number: int) -> str:
    """A worker that nobody keeps from beginning beside another; what the store says where it cannot go on."""
    from twofold.errors import TwofoldError
    from twofold.stream.worker import Worker

    home = opened.home
    try:
        worker = Worker(opened.compiled, home.log, home.store, home.bell)
        worker.take_over()
        worker.catch_up()
        worker.close()
    except TwofoldError as error:
        return f"{type(error).__name__}: {error}"
    return "applied"


def ingest_for_ever(opened: Any, number: int) -> None:
    """A producer that never rests."""
    producer = Producer(opened, number)
    producer.send_again()
    while True:
        producer.send(producer._rng.randint(1, 5))


def stream_for_ever(opened: Any, number: int) -> None:
    """The worker process, which writes down what is applied as it goes on; where another still is, tried again."""
    from twofold.errors import Busy

    producer = Producer(opened, number)

    def never() -> bool:
        producer.see()
        return False

    while True:
        with contextlib.suppress(Busy):
            opened.stream(until=never)


def build_for_ever(opened: Any, number: int) -> None:
    """One build after another."""
    while True:
        opened.build()


def serve_for_ever(opened: Any, number: int) -> None:
    """A replica."""
    while True:
        predict(opened)


def read(opened: Any, number: int, stops: bool = False, at: int | None = None) -> list[Any]:
    """Features of all cards, by a reader that stops inside its snapshot where it is to."""
    from twofold.serve.generations import OpenGenerations

    taken = OpenGenerations.take

    def stopping(self: Any, wanted: Any) -> Any:
        OpenGenerations.take = taken  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGSTOP)
        return taken(self, wanted)

    if stops:
        OpenGenerations.take = stopping  # type: ignore[method-assign]
    return [list(row) for row in opened.features("card", CARDS[:3], at=at, status=True).iter_rows()]


def answers(opened: Any, number: int) -> Any:
    """Features of every view, online and from history, at one instant, and the dead letters; where they are refused, the kind of error."""
    from twofold.errors import TwofoldError
    from twofold.instants import HOUR_US
    from twofold.stream.dead_letters import dead_letters

    at = opened.home.clock.now_us() + HOUR_US
    keys = {"card": CARDS[:3], "shop": SHOPS, "everything": [()], "limits": ["a", "b"]}
    try:
        opened.catch_up()
        found = [[repr(row) for row in opened.features(view, wanted, at=at).rows()] for view, wanted in keys.items()]
        spine = [{"card": card, "at": at} for card in CARDS[:3]]
        found += [[repr(row) for row in opened.history("card", spine).rows()], [opened.home.log.uuid]]
        with opened.home.store.snapshot() as snapshot:
            return [*found, [letter.offset for letter in dead_letters(snapshot, opened.home.log.partitions)]]
    except TwofoldError as error:
        return f"twofold.errors.{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}: {error}"


LIVES: dict[str, Callable[..., Any]] = {
    work.__name__: work
    for work in (
        live, met, check, load, repeat, send, work, ingest_for_ever, stream_for_ever, build_for_ever, serve_for_ever, read, answers,
    )
}  # fmt: skip


def take_less_in_a_call() -> None:
    """Some commits to servers of a life are too large for one call, and are staged in several."""
    from twofold.store import redis

    redis._MOST_CHANGES, redis._PART = 25, 20


def serve_request(request: dict[str, Any]) -> Any:
    """One life."""
    from twofold.fail_points import fail_at

    home, engines, parameters = request["home"], request["engines"], request["parameters"]
    if request["what"] == "warm":
        with opened_at(home, engines, 0) as opened:
            set_up(opened)
            live(opened, 1)
            check(opened, 1)
        shutil.rmtree(home)
        shutil.rmtree(Path(home).with_suffix(".producer"))
        return used()
    if request["what"] == "set_up":
        with opened_at(home, engines, 0) as opened:
            return set_up(opened)
    for plant in parameters.pop("plants", ()):
        importlib.import_module("planted_faults").PLANTS[plant]()
    if "store" in engines:
        take_less_in_a_call()
    with opened_at(home, engines, parameters["number"]) as opened:
        if (timeout_s := parameters.pop("timeout_s", None)) is not None:
            opened.home.log._timeout_s = opened.home.store._turn._timeout_s = timeout_s
        fail_at(request["fail_at"])
        return LIVES[request["what"]](opened, **parameters)


# In the parent.


def used() -> dict[str, Any]:
    """The modules that are imported, and the compiled functions that were used with their types."""
    from numba.core.dispatcher import Dispatcher

    found = [
        (module, name, value.signatures)
        for module in sorted(sys.modules)
        if module.startswith("twofold.")
        for name, value in vars(sys.modules[module]).items()
        if isinstance(value, Dispatcher) and value.signatures
    ]
    return {
        "modules": [name for name in sys.modules if "." not in name.lstrip("_")] + list(sys.modules),
        "kernels": pickle.dumps(found).hex(),
    }


def have(found: dict[str, Any]) -> None:
    """Have them in this process too, so that no child loads them again; nothing is run, so no thread or lock of theirs is forked."""
    for name in dict.fromkeys(found["modules"]):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for module, name, signatures in pickle.loads(bytes.fromhex(found["kernels"])):
        for signature in signatures:
            getattr(importlib.import_module(module), name).compile(signature)


def begun(work: Callable[[], Any]) -> tuple[int, int]:
    """A forked child at work, and the pipe that will hold its answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            answer: dict[str, Any] = {"killed": False, "value": work()}
        except BaseException:
            answer = {"killed": False, "error": traceback.format_exc()}
        with os.fdopen(writing, "w") as out:
            json.dump(answer, out)
        os._exit(0)
    os.close(writing)
    return child, reading


def ended(child: int, reading: int) -> dict[str, Any]:
    """What a child has answered."""
    with os.fdopen(reading) as answers:
        text = answers.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        killed = os.WTERMSIG(status) == signal.SIGKILL
        return {"killed": killed, "error": None if killed else f"ended by signal {os.WTERMSIG(status)}"}
    return dict(json.loads(text))


def main() -> None:
    children: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        how = request["how"]
        if how in ("whole", "begin"):
            child, reading = begun(lambda request=request: serve_request(request))  # type: ignore[misc]
            children[child] = reading
            answer: dict[str, Any] = {"killed": False, "value": child} if how == "begin" else ended(child, children.pop(child))
        elif how == "until_stopped":
            answer = {"value": os.WIFSTOPPED(os.waitpid(request["process"], os.WUNTRACED)[1])}
        else:
            answer = ended(request["process"], children.pop(request["process"]))
        if request.get("what") == "warm" and not answer.get("error"):
            have(answer["value"])
            answer["value"] = None
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
