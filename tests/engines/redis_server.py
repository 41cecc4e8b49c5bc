"""A real Redis (or Valkey) server for tests, on a free loopback port or a socket; its data live in a folder of the caller's."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_ENGINES = Path(os.environ.get("TWOFOLD_ENGINES", Path(sys.prefix) / "engines"))
_PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server") or shutil.which("redis-server", path=str(_ENGINES))


def why_no_redis() -> str:
    """Why no server can be started; empty where one can."""
    return "" if _PROGRAM else "there is no redis-server (on Debian: apt install redis-server)"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _die_with_parent() -> None:
    """In the child: a killed test run leaves no server behind (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class RedisServer:
    """A server with its data in a folder. It can be killed and started again, on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self._options = folder, _free_port(), options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @classmethod
    def cluster(cls, folder: Path) -> Self:
        """A cluster of one, with all slots."""
        server = cls(folder, "--cluster-enabled", "yes", "--cluster-port", str(_free_port()))
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            deadline = time.monotonic() + 30
            while client.cluster("INFO")["cluster_state"] != "ok":
                assert time.monotonic() < deadline, "the cluster does not become whole"
                time.sleep(0.01)
        return server

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
