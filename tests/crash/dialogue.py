"""A test and a process of its own that speak in lines: the process says what it has reached, the test tells it to go on, or kills it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def process(script: Path, what: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """`script WHAT ...`, killed at the end of the block."""
    command = [sys.executable, str(script), what, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def line(started: subprocess.Popen[str]) -> str:
    """What the process says next; "" where it has ended."""
    assert started.stdout is not None
    return started.stdout.readline().strip()


def go_on(started: subprocess.Popen[str]) -> None:
    """End the process's `wait`."""
    assert started.stdin is not None
    started.stdin.write("\n")
    started.stdin.flush()


def kill(started: subprocess.Popen[str]) -> None:
    """SIGKILL; returns when the process is gone."""
    started.send_signal(signal.SIGKILL)
    started.wait()


# In the process.


def say(*words: object) -> None:
    """A line for the test."""
    print(*words, flush=True)


def wait() -> None:
    """Until the test says go on."""
    sys.stdin.readline()
