"""Producers, a worker, builds and a replica, killed at random moments again and again while all of them are at work."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from fault_driver import Driver, Homes
from test_fail_points import assert_sound

KINDS = ("ingest_for_ever", "ingest_for_ever", "stream_for_ever", "build_for_ever", "serve_for_ever")


def applied_lines(home: Path) -> int:
    path = home.with_suffix(".producer") / "acknowledged"
    return path.read_bytes().count(b"\n") if path.exists() else 0


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
            acknowledged, patience = applied_lines(home) + rng.randint(0, 4), time.monotonic() + rng.uniform(0.05, 0.6)
            while applied_lines(home) < acknowledged and time.monotonic() < patience:
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
    assert applied_lines(home) > 20
    assert assert_sound(driver, home, lives + 1, f"a storm of {lives} lives")["applied"] > 20
