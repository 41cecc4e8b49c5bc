"""Several `twofold stream` processes: shares on Kafka and Redis, stand-by on the embedded store; dead, stopped and returning ones."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer as Producing
from confluent_kafka.admin import AdminClient, NewTopic
from hanging import VARIABLE as HANGS
from kafka_broker import KafkaBroker
from redis_server import RedisServer, why_no_redis

import twofold as tw
from twofold.fail_points import VARIABLE
from twofold.instants import to_us
from twofold.log.base import Position
from twofold.runtime.supervisor import processes_of
from twofold.settings import Settings
from twofold.stream.shares import members
from twofold.testing.faults import applied_offsets, broken_promises, counted_once
from twofold.testing.modes import online_parity

FILE = Path(__file__).parent / "orders.py"
NUMBERS = itertools.count()
START_US = to_us("2024-05-01T00:00:00Z")
SHOPS = ["a", "b", "c", "d"]
PARTITIONS = 6
pytestmark = pytest.mark.slow


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, f"{what} did not happen in {timeout_s} s"
        time.sleep(0.02)


class Producer:
    """Appends orders, some of them twice, in this process; knows what was acknowledged."""

    def __init__(self, opened: Any, clock: tw.ManualClock) -> None:
        self._opened, self._clock, self._rng = opened, clock, random.Random(7)
        self.acknowledged: list[tuple[str, list[str]]] = []
        self.sent = 0

    def send(self, count: int = 5) -> None:
        self._clock.advance("1s")
        again = [f"o{self._rng.randrange(self.sent)}" for _ in range(2)] if self.sent else []
        ids = [*(f"o{self.sent + i}" for i in range(count)), *again]
        self.sent += count
        now = self._clock.now_us()
        rows = [{"order": each, "shop": SHOPS[hash(each) % 4], "price": 1.25, "at": now - self._rng.randrange(10**7)} for each in ids]
        self.acknowledged.append((str(self._opened.append("orders", rows)), ids))

    @contextlib.contextmanager
    def traffic(self) -> Iterator[None]:
        """Sends all the time, from a thread."""
        ended, failures = threading.Event(), list[BaseException]()

        def work() -> None:
            try:
                while not ended.wait(0.02):
                    self.send()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert not failures, failures


class Workers:
    """`twofold stream` processes on the engines of a home, each on this home or on one of its own, as on another machine."""

    def __init__(self, opened: Any) -> None:
        self._opened, self._settings = opened, opened.home.settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, is_elsewhere: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        home = self._settings.home.parent / name if is_elsewhere else self._settings.home
        engines = {"TWOFOLD_LOG": self._settings.log, "TWOFOLD_STORE": self._settings.store, "TWOFOLD_PARTITIONS": str(PARTITIONS)}
        with self.output(name).open("wb") as out:
            command = [sys.executable, "-m", "twofold", "stream", str(FILE), "--home", str(home)]
            env = os.environ | engines | environment
            self.processes[name] = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env)
        return self.processes[name]

    def output(self, name: str) -> Path:
        return Path(self._settings.home.parent / f"{name}.log")

    def partitions(self) -> dict[str, tuple[int, ...]]:
        """What each living worker says that it applies."""
        names = {process.pid: name for name, process in self.processes.items()}
        with self._opened.home.store.snapshot() as snapshot:
            return {names.get(member.process, "?"): member.partitions for member in members(snapshot).values()}

    def are_shared_by(self, *names: str) -> bool:
        found = self.partitions()
        sizes = [len(found.get(name, ())) for name in names]
        return set(found) == set(names) and sum(sizes) == PARTITIONS and max(sizes) - min(sizes) <= 1

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for name, process in self.processes.items():
            if process.wait(30) not in (0, -signal.SIGKILL):
                raise AssertionError(self.output(name).read_text())


@pytest.fixture
def clock() -> tw.ManualClock:
    return tw.ManualClock(START_US)


@pytest.fixture(scope="module")
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kernels are compiled once, not by all worker processes at the same time."""
    from orders import project

    clock = tw.ManualClock(START_US)
    with project.open(home=tmp_path_factory.mktemp("compiled"), clock=clock) as opened:
        producer = Producer(opened, clock)
        for _ in range(2):
            producer.send(200)
            opened.build()
        producer.send()
        opened.catch_up()
        opened.features("shop", SHOPS)


Open = Callable[..., Any]


@pytest.fixture
def open_home(tmp_path: Path, clock: tw.ManualClock, _compiled: None) -> Iterator[Open]:
    """Opens the project on a home; `workers(opened)` are ended with the test."""
    from orders import project

    handles: list[Any] = []

    def open_one(**settings: Any) -> Any:
        handles.append(project.open(home=tmp_path / "home", clock=clock, partitions=PARTITIONS, **settings))
        return handles[-1]

    yield open_one
    for handle in handles:
        handle.close()


@pytest.fixture
def scaled(open_home: Open, kafka: KafkaBroker, redis_server: RedisServer) -> Any:
    """The project on Kafka and Redis."""
    number = next(NUMBERS)
    return open_home(log=f"kafka://{kafka.servers}?prefix=workers{number}.", store=f"{redis_server.url}?name=workers{number}")


@pytest.fixture
def workers() -> Iterator[Callable[[Any], Workers]]:
    made: list[Workers] = []

    def make(opened: Any) -> Workers:
        made.append(Workers(opened))
        return made[-1]

    yield make
    for each in made:
        each.end()


def assert_sound(opened: Any, producer: Producer, clock: tw.ManualClock) -> None:
    """All that was acknowledged is applied, once; what is read is the reference."""
    opened.catch_up()
    assert broken_promises(opened, producer.acknowledged) == []
    applied, ends = applied_offsets(opened), opened.home.log.end_offsets(["orders"])
    assert applied == ends
    counted = opened.features("everything", [()])["n_all"][0]
    assert counted == producer.sent
    assert counted_once(opened, "everything", "n_all", counted) == []
    parity = online_parity(opened, "shop", SHOPS, [None, clock.now_us() + 10**7])
    parity.check(at_least=30)


def test_one_worker_three_then_two_under_load_and_one_that_is_stopped_and_comes_back(
    scaled: Any, clock: tw.ManualClock, workers: Callable[[Any], Workers]
) -> None:
    scaled.build_missing()
    group, producer, seen = workers(scaled), Producer(scaled, clock), [applied_offsets(scaled)]

    def shared_by(*names: str) -> None:
        def look() -> bool:
            seen.append(applied_offsets(scaled))
            return group.are_shared_by(*names)

        until(look, f"shared by {names}, is {group.partitions()}")

    def goes_on() -> None:
        """What has been sent up to now is applied: no partition is without a worker."""
        ends = scaled.home.log.end_offsets(["orders"])
        until(lambda: all(applied_offsets(scaled)[place] >= end for place, end in ends.items()), "applied")

    with producer.traffic():
        group.start("first")
        shared_by("first")
        group.start("second")
        group.start("third", is_elsewhere=True)
        shared_by("first", "second", "third")
        goes_on()
        group.processes["third"].kill()
        shared_by("first", "second")
        goes_on()
        group.processes["first"].send_signal(signal.SIGSTOP)
        shared_by("second")
        goes_on()
        group.processes["first"].send_signal(signal.SIGCONT)
        shared_by("first", "second")
        goes_on()
        group.processes["second"].terminate()
        shared_by("first")
        group.processes["second"].wait(30)
    assert_sound(scaled, producer, clock)
    for before, after in itertools.pairwise(seen):
        assert all(after[place] >= offset for place, offset in before.items())


def test_a_worker_that_hangs_leaves_its_partitions_to_others_and_takes_part_again_when_it_goes_on(
    open_home: Open,
    kafka: KafkaBroker,
    redis_server: RedisServer,
    clock: tw.ManualClock,
    workers: Callable[[Any], Workers],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """One of two hangs in a decoder of ours; its thread that beats does not."""
    number, hangs = next(NUMBERS), tmp_path / "hangs"
    topic, admin = f"hanging{number}.v1", AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result()
    sources = {"orders": {"topic": topic, "format": "hanging:decode"}}
    log, store = f"kafka://{kafka.servers}?prefix=hanging{number}.", f"{redis_server.url}?name=hanging{number}"
    opened = open_home(log=log, store=store, sources=sources)
    opened.build_missing()
    group, sent, acknowledged = workers(opened), itertools.count(), list[tuple[str, list[str]]]()
    producer = Producing({"bootstrap.servers": kafka.servers, "log_level": 0})

    def send(count: int = 60) -> None:
        clock.advance("1s")
        for _ in range(count):
            row = {"order": f"o{next(sent)}", "shop": "a", "price": 1.25, "at": clock.now_us()}

            def note(_: object, message: Any, identity: str = str(row["order"])) -> None:
                position = Position(opened.home.log.uuid, {("orders", message.partition()): message.offset() + 1})
                acknowledged.append((str(position), [identity]))

            stamp_ms = clock.now_us() // 1000
            producer.produce(
                topic, json.dumps(row).encode(), partition=len(acknowledged) % PARTITIONS, timestamp=stamp_ms, on_delivery=note
            )
            assert producer.flush(20) == 0

    def all_is_applied() -> bool:
        return applied_offsets(opened) == opened.home.log.end_offsets(["orders"])

    common = {"TWOFOLD_SOURCES": json.dumps(sources), "PYTHONPATH": os.pathsep.join([str(FILE.parent), os.environ.get("PYTHONPATH", "")])}
    first = group.start("first", **common, TWOFOLD_MAX_STALL_S="1", **{HANGS: str(hangs)})
    group.start("second", **common)
    until(lambda: group.are_shared_by("first", "second"), "shared")
    send()
    until(all_is_applied, "applied by both")
    hangs.touch()
    send()
    until(lambda: group.are_shared_by("second"), "left by the one that hangs")
    send()
    until(all_is_applied, "applied by the other")
    assert first.poll() is None
    hangs.unlink()
    until(lambda: group.are_shared_by("first", "second"), "shared again")
    send()
    until(all_is_applied, "applied by both again")
    assert group.output("first").read_text().count("max_stall_s") == 1
    assert group.output("second").read_text() == ""
    assert broken_promises(opened, acknowledged) == []
    counted = opened.features("everything", [()])["n_all"][0]
    assert counted == len(acknowledged) == 240
    assert counted_once(opened, "everything", "n_all", counted) == []


def test_builds_under_traffic_with_several_workers(scaled: Any, clock: tw.ManualClock, workers: Callable[[Any], Workers]) -> None:
    scaled.build_missing()
    group, producer = workers(scaled), Producer(scaled, clock)
    for name in ("first", "second"):
        group.start(name)
    until(lambda: group.are_shared_by("first", "second"), "shared")
    applied_by = sorted(worker.partitions for worker in scaled.status().workers)
    assert sorted(itertools.chain(*applied_by)) == list(range(PARTITIONS))
    assert {worker.process for worker in scaled.status().workers} == {process.pid for process in group.processes.values()}
    with producer.traffic():
        for _ in range(4):
            sent = producer.sent
            until(lambda sent=sent: producer.sent > sent + 20, "traffic")  # type: ignore[misc]
            scaled.catch_up()
            assert [built.view for built in scaled.build()] == ["shop"]
            assert group.are_shared_by("first", "second"), "a build or catch_up took partitions away"
    assert_sound(scaled, producer, clock)


def test_catch_up_and_build_apply_by_themselves_where_no_worker_lives(scaled: Any, clock: tw.ManualClock, workers: Any) -> None:
    producer = Producer(scaled, clock)
    scaled.build_missing()
    producer.send()
    assert scaled.catch_up() == 5
    assert scaled.catch_up() == 0
    worker = workers(scaled)
    process = worker.start("elsewhere", is_elsewhere=True)
    until(lambda: worker.are_shared_by("elsewhere"), "taken over")
    process.kill()
    producer.send()
    assert scaled.catch_up() == 7
    producer.send()
    scaled.build()
    assert worker.partitions() == {}
    assert_sound(scaled, producer, clock)


def test_another_takes_over_when_the_active_worker_of_an_embedded_home_is_killed(
    open_home: Open, clock: tw.ManualClock, workers: Callable[[Any], Workers]
) -> None:
    opened = open_home()
    opened.build_missing()
    group, producer = workers(opened), Producer(opened, clock)
    run, names = opened.home.settings.run, ["first", "second", "third"]
    from twofold.home_lock import holder_of

    with producer.traffic():
        group.start(names[0])
        until(lambda: holder_of(run, "worker") == group.processes["first"].pid, "the first is active")
        for name in names[1:]:
            group.start(name)
            until(lambda name=name: b"standing by" in group.output(name).read_bytes(), "stands by")  # type: ignore[misc]
        shown = {worker.process: len(worker.partitions) for worker in opened.status().workers}
        assert shown == {group.processes[name].pid: PARTITIONS * (name == "first") for name in names}
        for name in names[:2]:
            active = holder_of(run, "worker")
            ended = next(process for process in group.processes.values() if process.pid == active)
            (ended.kill if name == "first" else ended.terminate)()
            ended.wait(30)
            until(lambda active=active: holder_of(run, "worker") not in (None, active), "another is active")  # type: ignore[misc]
        sent = producer.sent
        until(lambda: producer.sent > sent + 20, "traffic")
        assert opened.catch_up() == 0
    assert_sound(opened, producer, clock)


def test_a_worker_that_starts_before_the_store_does_waits_for_it(
    open_home: Open, clock: tw.ManualClock, workers: Callable[[Any], Workers], tmp_path: Path
) -> None:
    if reason := why_no_redis():
        pytest.skip(reason)
    with RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as server:
        opened = open_home(store=server.url)
        opened.build_missing()
        group, producer = workers(opened), Producer(opened, clock)
        producer.send()
        server.kill()
        process = group.start("early")
        until(lambda: group.output("early").read_text().count("will be tried again: store") > 1, "two tries")
        server.start()
        until(lambda: group.are_shared_by("early"), "taken over")
        assert process.poll() is None
        assert_sound(opened, producer, clock)
        server.kill()
        ended = group.start("never")
        until(lambda: b"will be tried again" in group.output("never").read_bytes(), "a try")
        ended.terminate()
        assert ended.wait(30) == 0
        server.start()


SUPERVISED = """
import json
import sys
from twofold.runtime.supervisor import Child, Supervisor, children_of, listening_socket
from twofold.settings import Settings
from pathlib import Path
settings = Settings(home=Path(sys.argv[2]), partitions=6, **json.loads(sys.argv[3]))
with listening_socket("127.0.0.1", 0) as listener:
    workers = [child for child in children_of(settings, sys.argv[1], listener) if child.name.startswith("worker")]
Supervisor(settings, workers).run()
"""


@contextlib.contextmanager
def supervised(home: Path, environment: dict[str, str], **settings: Any) -> Iterator[Callable[[], int]]:
    """Workers under a supervisor; yields what tells how often it has started one again."""
    command = [sys.executable, "-c", SUPERVISED, str(FILE), str(home), json.dumps(settings)]
    supervisor = subprocess.Popen(command, env=os.environ | environment, stdin=subprocess.DEVNULL)
    try:
        yield lambda: sum(int(item["restarts"] or 0) for item in processes_of(Settings(home=home)).values())
    finally:
        supervisor.terminate()
        supervisor.wait(30)


@pytest.mark.parametrize("where", ["", "apply.before_commit:2@stop"])
def test_a_stopped_worker_is_killed_by_its_supervisor(where: str, open_home: Open, clock: tw.ManualClock, tmp_path: Path) -> None:
    """Wherever it stands, inside the store's transaction too, the next one goes on."""
    opened = open_home()
    opened.build_missing()
    producer, home = Producer(opened, clock), opened.home.settings.home
    from twofold.home_lock import holder_of

    with supervised(home, {VARIABLE: where} if where else {}, workers=2) as restarts:
        until(lambda: holder_of(home / "run", "worker"), "one is active")
        active = int(holder_of(home / "run", "worker") or 0)
        producer.send()
        opened.catch_up()
        assert restarts() == 0
        if not where:
            os.kill(active, signal.SIGSTOP)
        producer.send()
        until(lambda: applied_offsets(opened) == opened.home.log.end_offsets(["orders"]), "another goes on")
        assert holder_of(home / "run", "worker") not in (None, active)
        until(lambda: restarts() == 1, "restarted")
    assert_sound(opened, producer, clock)


@pytest.mark.parametrize("is_embedded", [True, False])
def test_the_only_worker_is_killed_by_its_supervisor_where_it_hangs(
    open_home: Open, kafka: KafkaBroker, redis_server: RedisServer, clock: tw.ManualClock, tmp_path: Path, is_embedded: bool
) -> None:
    """In a decoder of ours, as long as a file is there; its threads live."""
    number, hangs = next(NUMBERS), tmp_path / "hangs"
    topic, admin = f"supervised{number}.v1", AdminClient({"bootstrap.servers": kafka.servers, "log_level": 0})
    admin.create_topics([NewTopic(topic, PARTITIONS)])[topic].result()
    settings: dict[str, Any] = {"log": f"kafka://{kafka.servers}?prefix=supervised{number}.", "max_stall_s": 1}
    settings |= {"sources": {"orders": {"topic": topic, "format": "hanging:decode"}}}
    settings |= {} if is_embedded else {"store": f"{redis_server.url}?name=supervised{number}"}
    opened = open_home(**settings)
    opened.build_missing()
    producer, home = Producing({"bootstrap.servers": kafka.servers, "log_level": 0}), opened.home.settings.home

    def send(first: int) -> None:
        for i in range(first, first + 60):
            row = {"order": f"o{i}", "shop": "a", "price": 1.25, "at": START_US}
            producer.produce(topic, json.dumps(row).encode(), partition=i % PARTITIONS, timestamp=START_US // 1000)
        assert producer.flush(20) == 0

    def all_is_applied() -> bool:
        return applied_offsets(opened) == opened.home.log.end_offsets(["orders"])

    paths = os.pathsep.join([str(FILE.parent), os.environ.get("PYTHONPATH", "")])
    with supervised(home, {"PYTHONPATH": paths, HANGS: str(hangs)}, workers=1, **settings) as restarts:
        send(0)
        until(all_is_applied, "applied")
        time.sleep(5)  # nothing comes: it rests, and does not hang
        assert restarts() == 0
        hangs.touch()
        send(60)
        until(lambda: restarts() > 0, "killed")
        hangs.unlink()
        until(all_is_applied, "applied by the next")
    told = (home / "run" / "worker-0.log").read_text()
    assert told.index("max_stall_s") < told.index("no sign of life")
    assert broken_promises(opened, []) == []
    assert counted_once(opened, "everything", "n_all", 120) == []


def test_up_on_kafka_and_redis_with_two_workers_of_which_one_is_killed(
    kafka: KafkaBroker, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events in over HTTP, each seen by the prediction that comes after it, from any replica."""
    from ports import free_port
    from shop import project
    from test_up import REQUEST, call, up
    from whole_data import LIVE, load_history

    engines = {"log": f"kafka://{kafka.servers}?prefix=up.", "store": f"{redis_server.url}?name=up"}
    for name, value in {**engines, "workers": "2", "partitions": "4"}.items():
        monkeypatch.setenv(f"TWOFOLD_{name.upper()}", value)
    clock, port = tw.ReplayClock(tmp_path / "clock"), free_port()
    clock.set(LIVE[0]["paid_at"])
    with project.open(home=tmp_path, clock=clock, partitions=4, **engines) as opened:
        load_history(opened)
        opened.build()
        opened.train("risk", test="5d")
    with up(tmp_path, port):
        for at, row in enumerate(LIVE):
            if at == 40:
                os.kill(int(processes_of(Settings(home=tmp_path))["worker-0"]["pid"] or 0), signal.SIGKILL)
            clock.set(row["paid_at"] + 1)
            status, appended = call(port, "POST", "/v1/events/payments", row)
            assert status == 200, appended
            status, answer = call(port, "POST", f"/v1/predict/risk?after={appended['position']}&deadline_ms=30000", REQUEST)
            assert (status, answer["served_by"]) == (200, "live"), answer
        until(lambda: processes_of(Settings(home=tmp_path))["worker-0"]["restarts"] == 1, "restarted")
    with project.open(home=tmp_path, clock=clock, partitions=4, **engines) as opened:
        audit = opened.audit()
        assert (audit.different, audit.ahead) == (0, 0)
        assert audit.compared >= 10 * len(LIVE)
        assert opened.features("all_payments", [()]).height == 1
        rows = opened.events_of("payments")["payment_id"].to_list()
        assert sorted(each for each in rows if each.startswith("l")) == sorted(row["payment_id"] for row in LIVE)
