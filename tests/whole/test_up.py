"""`twofold up` with real processes: requests go on while one of them is killed, nothing is lost, and the audit finds no difference."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from whole_data import LIVE, START_US, load_history

import twofold as tw
from twofold.runtime.supervisor import processes_of
from twofold.settings import Settings

FILE = Path(__file__).parent / "shop.py"
REQUEST = {"payment_id": "p", "card": "a", "shop": "x", "amount": 10.0}
pytestmark = pytest.mark.slow


def call(port: int, method: str, path: str, body: Any = None, tries: int = 200) -> tuple[int, Any]:
    """One request; sent again where its connection breaks or the answer is 503."""
    payload = None if body is None else json.dumps(body)
    for attempt in range(tries):
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request(method, path, payload, {"content-type": "application/json"})
                response = connection.getresponse()
                content = response.read()
            finally:
                connection.close()
            if response.status != 503 or attempt == tries - 1:
                return response.status, json.loads(content) if content.startswith((b"{", b"[")) else content
        time.sleep(0.05)
    raise AssertionError(f"{method} {path} was never answered")


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, f"{what} did not happen in {timeout_s} s"
        time.sleep(0.05)


def is_ready(port: int) -> bool:
    with contextlib.suppress(AssertionError):
        return call(port, "GET", "/readyz", tries=1)[0] == 200
    return False


@contextlib.contextmanager
def up(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "twofold", "up", str(FILE), "--home", str(home), "--clock", "replay", "--port", str(port)]
    with open(home / "up.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(lambda: process.poll() is not None or is_ready(port), "ready", 120)
            assert process.poll() is None, (home / "up.log").read_text()
            yield process
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with history, a generation and a trained model; its clock stands at the start of the live part."""
    from shop import project

    clock = tw.ReplayClock(tmp_path / "clock")
    clock.set(START_US)
    with project.open(home=tmp_path, clock=clock) as opened:
        load_history(opened)
        opened.build()
        opened.train("risk", test="5d")
    return tmp_path


def test_killed_processes_cost_no_request_and_no_event(home: Path) -> None:
    from shop import project

    port, clock, answers = free_port(), tw.ReplayClock(home / "clock"), []
    kills = {40: "replica-0", 80: "worker-0"}
    with up(home, port):
        for at, row in enumerate(LIVE):
            if at in kills:
                os.kill(int(processes_of(Settings(home=home))[kills[at]]["pid"] or 0), signal.SIGKILL)
            clock.set(row["paid_at"] + 1)
            status, appended = call(port, "POST", "/v1/events/payments", row)
            assert status == 200, appended
            status, answer = call(port, "POST", f"/v1/predict/risk?after={appended['position']}&deadline_ms=30000", REQUEST)
            assert status == 200, answer
            answers.append(answer)
        wait_for(lambda: all(item["pid"] for item in processes_of(Settings(home=home)).values()), "all processes back")
        restarts = {name: item["restarts"] for name, item in processes_of(Settings(home=home)).items()}
    assert restarts == {"replica-0": 1, "replica-1": 0, "worker-0": 1, "schedule": 0}
    assert [answer["served_by"] for answer in answers] == ["live"] * len(LIVE)
    with project.open(home=home, clock=clock) as opened:
        audit = opened.audit()
        assert (audit.different, audit.ahead) == (0, 0)
        assert audit.compared >= 10 * len(LIVE)
        assert set(opened.events_of("payments")["payment_id"]) >= {row["payment_id"] for row in LIVE}
        assert opened.events_of("payments").filter(opened.events_of("payments")["payment_id"].str.starts_with("l")).height == len(LIVE)


def test_a_build_under_traffic_and_a_promotion_without_a_restart(home: Path) -> None:
    from shop import project

    port, clock = free_port(), tw.ReplayClock(home / "clock")
    failures: list[Any] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            status, answer = call(port, "POST", "/v1/predict/risk?deadline_ms=30000", REQUEST, tries=1)
            if status != 200 or answer["served_by"] != "live":
                failures.append(answer)

    with up(home, port), project.open(home=home, clock=clock) as beside:
        thread = threading.Thread(target=ask)
        thread.start()
        for at in range(0, len(LIVE), 30):
            clock.set(LIVE[at + 29]["paid_at"] + 1)
            beside.append("payments", LIVE[at : at + 30])
            beside.catch_up()
            assert {built.view for built in beside.build()} >= {"card", "shop"}
        before = call(port, "POST", "/v1/predict/risk", REQUEST)[1]["model"]
        version = beside.train("risk", test="4d").version
        beside.promote("risk", version)
        wait_for(
            lambda: call(port, "POST", "/v1/predict/risk", REQUEST)[1]["model"] == f"risk@{version[:8]}", "the promoted version answers"
        )
        assert before != f"risk@{version[:8]}"
        ended.set()
        thread.join()
        assert beside.audit().different == 0
    assert failures == []


def test_a_second_supervisor_is_refused(home: Path) -> None:
    with up(home, free_port()):
        command = [sys.executable, "-m", "twofold", "up", str(FILE), "--port", str(free_port()), "--home", str(home)]
        refused = subprocess.run([*command, "--clock", "replay"], capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 1
        assert "Busy" in refused.stderr
        assert "there can be only one" in refused.stderr


def test_never_built_is_not_ready_and_a_kill_of_the_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    tw.ReplayClock(tmp_path / "clock").set(START_US)
    port = free_port()
    command = [sys.executable, "-m", "twofold", "serve", "--home", str(tmp_path), "--clock", "replay", "--port", str(port)]
    empty = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(3)
    assert empty.poll() is None  # it waits for a plan
    empty.terminate()
    empty.wait(30)
    port = free_port()
    with up(tmp_path, port) as supervisor:
        pids = [int(item["pid"] or 0) for item in processes_of(Settings(home=tmp_path)).values()]
        assert call(port, "POST", "/v1/features/card", {"card": "a"})[0] == 200
        supervisor.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "children end with their supervisor", 30)
