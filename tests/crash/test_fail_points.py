"""A process is killed at every named step of what happens to a home, then at every pair of them; what was promised holds afterwards."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fault_driver import Driver, Homes

from twofold.fail_points import FAIL_POINTS

POINTS = tuple(point for point in FAIL_POINTS if not point.startswith("redis"))
"""Those on embedded engines; the others, and again some of these, are in `test_fail_points_on_servers`."""
LOAD_POINTS = ("load.staged", "load.ids_written", "load.ids_remembered", "archive.writing", "load.rows_written")
_LIVES_PER_HOME = 16


@pytest.fixture(scope="module")
def met(driver: Driver, homes: Homes) -> dict[str, int]:
    """How often an undisturbed life comes to each point."""
    found = driver.ask("met", homes.fresh(), number=1)
    assert isinstance(found, dict)
    return found


def assert_sound(driver: Driver, home: Path, number: int, said: str) -> dict[str, Any]:
    """Restart, finish, and compare; returns what was found, `applied` being the events applied before the restart."""
    found: dict[str, Any] = driver.ask("check", home, number=number)
    assert not found["complaints"], "\n".join([said, *found["complaints"]])
    assert not found["left_over"], "\n".join([said, *found["left_over"]])
    assert found["audited"] > 0
    return found


def kill(driver: Driver, home: Path, points: Sequence[str]) -> int:
    """One life after another, each killed at its point; returns how many there were."""
    for number, point in enumerate(points, 1):
        assert driver.ask("live", home, fail_at=point, number=number) is None, f"life {number} never came to {point}"
    return len(points)


def test_every_point_is_met(met: dict[str, int]) -> None:
    assert [point for point in POINTS if not met.get(point)] == []


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_step_the_first_and_a_later_time(
    point: str, driver: Driver, homes: Homes, met: dict[str, int], request: pytest.FixtureRequest
) -> None:
    rng = random.Random(f"{request.config.option.hypothesis_seed} {point}")
    later = f"{point}:{rng.randint(1, met[point])}"
    home = homes.fresh()
    lives = kill(driver, home, [point, later])
    assert_sound(driver, home, lives + 1, f"killed at {point}, then at {later}")


@pytest.mark.parametrize("goes_on", [True, False], ids=["a worker that goes on", "the next worker"])
@pytest.mark.parametrize("point", LOAD_POINTS)
def test_a_load_that_was_killed_and_never_repeated(point: str, goes_on: bool, driver: Driver, homes: Homes) -> None:
    """Live events of its ids come: they are dropped for rows that are there, or counted."""
    home = homes.fresh()
    assert driver.ask("load", home, fail_at=point, number=1) is None
    found = driver.ask("repeat", home, number=2, loaded=1, goes_on=goes_on)
    assert not found["complaints"], "\n".join(found["complaints"])
    assert not found["left_over"], "\n".join(found["left_over"])
    assert found["audited"] > 0


def walk_of_all_pairs(points: Sequence[str], rng: random.Random) -> list[str]:
    """A sequence in which every point is followed by every point, itself included, once (an Eulerian circuit, by Hierholzer)."""
    left = {point: rng.sample(list(points), len(points)) for point in points}
    walk, waiting = [], [points[0]]
    while waiting:
        if left[waiting[-1]]:
            waiting.append(left[waiting[-1]].pop())
        else:
            walk.append(waiting.pop())
    return walk[::-1]


def test_the_walk_has_every_pair() -> None:
    walk = walk_of_all_pairs(POINTS, random.Random(1))
    pairs = list(itertools.pairwise(walk))
    assert len(pairs) == len(set(pairs)) == len(POINTS) ** 2


def test_killed_at_two_steps_one_after_the_other(driver: Driver, homes: Homes, request: pytest.FixtureRequest) -> None:
    """Each life is killed at the point after that of the life before. Some pairs, others each time; all with TWOFOLD_ALL_PAIRS."""
    rng = random.Random(request.config.option.hypothesis_seed)
    walk = walk_of_all_pairs(POINTS, rng)
    begins = list(range(0, len(walk) - 1, _LIVES_PER_HOME))
    for begin in begins if os.environ.get("TWOFOLD_ALL_PAIRS") else begins[: len(begins) // 12]:
        points = walk[begin : begin + _LIVES_PER_HOME + 1]
        home = homes.fresh()
        lives = kill(driver, home, points)
        assert_sound(driver, home, lives + 1, f"killed at {' '.join(points)}")
