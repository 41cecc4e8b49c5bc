"""Producers, a worker, builds and a replica, killed at random moments again and again while all of them are at work."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from fault_driver import Driver, Homes
from test_fail_points import assert_sound

KINDS = ("ingest_for_ever", "ingest_for_ever", "stream_for_ever", "build_for_ever", "serve_for_ever")
PATIENCE = 20
"""Seconds to wait for work to go on before somebody is killed all the same."""


def acknowledged(home: Path) -> int:
    """How many appends were answered."""
    return len(lines(home, "acknowledged"))


def applied(home: Path) -> int:
    """How many events are applied, as the workers saw it."""
    return max((sum(offset for *_, offset in json.loads(line)) for line in lines(home, "applied")), default=0)


def lines(home: Path, file: str) -> list[bytes]:
    path = home.with_suffix(".producer") / file
    return path.read_bytes().splitlines() if path.exists() else []


@pytest.mark.parametrize("storm", range(2))
def test_a_storm_of_kills(storm: int, driver: Driver, homes: Homes, request: pytest.FixtureRequest) -> None:
    rng = random.Random(f"{request.config.option.hypothesis_seed} {storm}")
    home, lives = homes.fresh(), 0
    running: dict[int, tuple[str, int]] = {}

    def start(kind: str) -> None:
        nonlocal lives
        lives += 1
        running[lives] = (kind, driver.begin(kind, home, number=lives))

    try:
        for kind in KINDS:
            start(kind)
        for _ in range(20):
            grows, by = rng.choice([(acknowledged, 4), (applied, 12)])
            enough, patience = grows(home) + rng.randint(0, by), time.monotonic() + PATIENCE
            while grows(home) < enough and time.monotonic() < patience:
                time.sleep(0.005)
            for life in rng.sample(sorted(running), rng.choice([1, 1, 1, 2, len(running)])):
                kind, process = running.pop(life)
                os.kill(process, signal.SIGKILL)
                assert driver.end(process) is None
                start(kind)
        for life in list(running):
            _, process = running.pop(life)
            os.kill(process, signal.SIGKILL)
            assert driver.end(process) is None
    finally:
        for _, process in running.values():  # what goes on for ever would starve every later test
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    assert acknowledged(home) > 20
    assert assert_sound(driver, home, lives + 1, f"a storm of {lives} lives")["applied"] > 20
