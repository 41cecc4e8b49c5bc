"""A real Redis (or Valkey) server for tests, on a free loopback port or a socket; its data live in a folder of the caller's."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import redis
from ports import free_port
from redis.backoff import NoBackoff
from redis.retry import Retry

_ENGINES = Path(os.environ.get("TWOFOLD_ENGINES", Path(sys.prefix) / "engines"))
_PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server") or shutil.which("redis-server", path=str(_ENGINES))


def why_no_redis() -> str:
    """Why no server can be started; empty where one can."""
    return "" if _PROGRAM else "there is no redis-server (on Debian: apt install redis-server)"


def _die_with_parent() -> None:
    """In the child: a killed test run leaves no server behind (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class RedisServer:
    """A server with its data in a folder. It can be killed and started again, on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self._options = folder, free_port(), options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def client(self) -> redis.Redis:
        """A client of one's own, which tests look behind the store with."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0))

    def ask(self, command: str, *arguments: Any) -> Any:
        """The answer to one command."""
        with self.client() as client:
            return client.execute_command(command, *arguments)

    def start(self) -> None:
        """Start it, and wait until it answers and has loaded its data."""
        command = [str(_PROGRAM), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder), *self._options]
        with (self.folder / "output").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=_die_with_parent)
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start: {(self.folder / 'output').read_text()[-2000:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class RedisCluster:
    """Primaries that share the slots out, each with so many replicas; `port` is that of one of them."""

    def __init__(self, folder: Path, primaries: int = 3, replicas: int = 0) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0", "--cluster-port")
        self.nodes: list[RedisServer] = []
        buses = [free_port() for _ in range(primaries * (1 + replicas))]
        for number, bus in enumerate(buses):
            self.nodes.append(RedisServer(folder / str(number), *options, str(bus)))
        self.primaries, self.port = self.nodes[:primaries], self.nodes[0].port
        for number, node in enumerate(self.primaries):
            first, end = (16384 * n // primaries for n in (number, number + 1))
            node.ask("CLUSTER ADDSLOTSRANGE", first, end - 1)
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for other, bus in zip(self.nodes[1:], buses[1:], strict=True):
            self.nodes[0].ask("CLUSTER MEET", "127.0.0.1", other.port, bus)
        self.wait_until(lambda node: len(node.ask("CLUSTER NODES")) == len(self.nodes))
        for number, node in enumerate(self.nodes[primaries:]):
            node.ask("CLUSTER REPLICATE", self.primaries[number % primaries].ask("CLUSTER MYID"))
        self.wait_until_whole()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait_until_whole(self) -> None:
        """Until all living nodes say that all slots are served, and replicas follow their primaries."""
        self.wait_until(
            lambda node: node.ask("CLUSTER INFO")["cluster_state"] == "ok" and node.ask("INFO").get("master_link_status", "up") == "up"
        )

    def wait_until(self, is_so: Callable[[RedisServer], bool]) -> None:
        """Until all living nodes agree."""
        deadline = time.monotonic() + 60
        while not all(is_so(node) for node in self.nodes if node.process is not None):
            assert time.monotonic() < deadline, "the cluster does not become what it should be"
            time.sleep(0.02)

    def start(self) -> None:
        """Start all nodes again."""
        for node in self.nodes:
            node.start()

    def kill(self) -> None:
        """SIGKILL to all nodes."""
        for node in self.nodes:
            node.kill()
