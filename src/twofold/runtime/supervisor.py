"""The supervisor: keeps the processes of a home running on this machine; a dead one is started again, its peers go on meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from twofold.errors import Unavailable
from twofold.runtime.life import forget, sign_of
from twofold.settings import Settings, as_environment
from twofold.silence import Silence

_PR_SET_PDEATHSIG = 1
_QUICK_DEATH_S = 5.0
_LONGEST_PAUSE_S = 5.0
_TERMINATION_S = 10.0
_POLL_S = 0.02
_LONGEST_SILENCE_S = 3.0
_LONGEST_LOOK_S = 0.2


@dataclass
class Child:
    """One kind of process: what to run, the running one, and how often it died young.

    One that `gives_signs` of life (see `life`) is killed when it stops giving them: it may hold what its successor needs.
    """

    name: str
    command: Sequence[str]
    files: tuple[int, ...] = ()
    gives_signs: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    quick_deaths: int = 0
    due: float = field(default=0.0)
    silence: Silence | None = None


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that every replica accepts from: while one is dead, the others answer. Raises Unavailable where the port is taken."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {error}; take another --port") from None
    listener.listen(2048)
    listener.set_inheritable(True)
    return listener


class Supervisor:
    """Starts children, restarts the dead at once (the ones that keep dying after a pause), kills the silent, ends all when it ends.

    Children get SIGTERM from the kernel when the supervisor is killed. Their output goes to `run/<name>.log`, their process ids to
    `run/processes.json`.
    """

    def __init__(self, settings: Settings, children: Sequence[Child]) -> None:
        self._settings, self._run, self._children = settings, settings.run, children
        self._is_ending = False

    def run(self) -> None:
        """Keep the children running until SIGTERM or SIGINT (or `stop`)."""
        with self._signals():
            try:
                while not self._is_ending:
                    changed = [self._tend(child) for child in self._children]
                    if any(changed):
                        self._write_processes()
                    time.sleep(_POLL_S)
            finally:
                self._end_all()

    def stop(self) -> None:
        """Let `run` return."""
        self._is_ending = True

    def _tend(self, child: Child) -> bool:
        """Start a child that is not running and is due; returns whether its process has changed."""
        now = time.monotonic()
        if child.process is not None:
            if child.process.poll() is None:
                self._listen_to(child, child.process, now)
                return False
            forget(self._run, child.process.pid)
            is_quick = now - child.started < _QUICK_DEATH_S
            child.quick_deaths = child.quick_deaths + 1 if is_quick else 0
            child.due = now + (min(0.1 * 2**child.quick_deaths, _LONGEST_PAUSE_S) if child.quick_deaths > 1 else 0)
            child.restarts += 1
            child.process = None
        if now < child.due:
            return False
        with self._output(child.name) as output:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=child.files,
                env=environment(self._settings),
                preexec_fn=_die_with_parent,
            )
        child.started, child.silence = now, None
        return True

    def _listen_to(self, child: Child, process: subprocess.Popen[bytes], now: float) -> None:
        """Kill a process that has given signs of life and gives none any more, so that the next look finds it dead."""
        sign = sign_of(self._run, process.pid) if child.gives_signs else None
        if sign is None:
            return
        if child.silence is None:
            child.silence = Silence(sign, now, _LONGEST_LOOK_S)
        elif child.silence.look(sign, now) >= _LONGEST_SILENCE_S:
            with self._output(child.name) as output:
                output.write(b"supervisor: process %d has given no sign of life for %.0f s: killed\n" % (process.pid, _LONGEST_SILENCE_S))
            process.kill()

    def _output(self, name: str) -> IO[bytes]:
        self._run.mkdir(parents=True, exist_ok=True)
        return open(self._run / f"{name}.log", "ab")

    def _write_processes(self) -> None:
        known = {child.name: {"pid": child.process.pid if child.process else None, "restarts": child.restarts} for child in self._children}
        temporary = self._run / "processes.json.new"
        temporary.write_bytes(msgspec.json.encode(known))
        temporary.rename(self._run / "processes.json")

    def _end_all(self) -> None:
        """Ask every child to end, and kill those that do not."""
        running = [child.process for child in self._children if child.process is not None and child.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _TERMINATION_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        (self._run / "processes.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, lambda *_: self.stop()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _die_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when the parent ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def processes_of(settings: Settings) -> dict[str, dict[str, int | None]]:
    """Name -> process id and restarts of the supervised processes; empty where no supervisor runs."""
    try:
        return msgspec.json.decode((settings.run / "processes.json").read_bytes(), type=dict[str, dict[str, int | None]])
    except FileNotFoundError:
        return {}


def replica_command(settings: Settings, listener: socket.socket) -> list[str]:
    """The command of a serving process that accepts from an inherited socket."""
    return [sys.executable, "-m", "twofold.http.server", "--fd", str(listener.fileno()), *_options(settings)]


def children_of(settings: Settings, project: str, listener: socket.socket) -> list[Child]:
    """The processes of `twofold up`: the speed layer, the schedule, and the replicas."""
    verb = [sys.executable, "-m", "twofold"]
    return [
        *(Child(f"worker-{i}", [*verb, "stream", project, *_options(settings)], gives_signs=True) for i in range(settings.workers)),
        Child("schedule", [*verb, "schedule", project, *_options(settings)]),
        *(Child(f"replica-{i}", replica_command(settings, listener), (listener.fileno(),)) for i in range(settings.replicas)),
    ]


def _options(settings: Settings) -> list[str]:
    return ["--home", str(settings.home), "--clock", settings.clock]


def log_of(settings: Settings, name: str) -> Path:
    """File with the output of a supervised process."""
    return settings.run / f"{name}.log"


def environment(settings: Settings) -> dict[str, str]:
    """The environment of children: the same settings; compiled modules and kernels may be kept, which halves the time of a restart."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | as_environment(settings)
