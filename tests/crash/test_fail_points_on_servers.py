"""A process is killed at the named steps that reach a store or a log on servers; what was promised holds afterwards there as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fault_driver import Driver, Homes
from test_fail_points import assert_sound, kill

POINTS = (
    "takeover.epoch_taken",
    "takeover.pointers_made",
    "takeover.registered",
    "apply.read",
    "apply.before_commit",
    "apply.after_commit",
    "roll.number_named",
    "roll.place_closed",
    "archive.after_commit",
    "flip.before",
    "flip.after",
    "drop.place_updated",
    "sweep.amid",
    "drop.before_generation",
)


@pytest.fixture(scope="module", params=["redis", "kafka and redis"])
def on_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Driver, Homes]]:
    engines: dict[str, Any] = {"store": f"{request.getfixturevalue('redis_server').url}?name={tmp_path_factory.mktemp('n').name}-{{home}}"}
    if "kafka" in request.param:
        engines["log"] = f"kafka://{request.getfixturevalue('kafka').servers}?prefix={tmp_path_factory.mktemp('faults').name}-{{home}}."
    driver = Driver(tmp_path_factory.mktemp("servers"), engines)
    yield driver, Homes(driver)
    driver.close()


@pytest.mark.parametrize("points", [POINTS[::2], POINTS[1::2]], ids=["half", "other half"])
def test_killed_at_one_step_after_the_other(on_servers: tuple[Driver, Homes], points: tuple[str, ...]) -> None:
    driver, homes = on_servers
    home = homes.fresh()
    lives = kill(driver, home, points)
    assert_sound(driver, home, lives + 1, f"killed at {' '.join(points)}")
