"""A process is killed at the named steps that reach a store or a log on servers; what was promised holds afterwards there as well."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from fault_driver import Driver, Homes
from test_fail_points import assert_sound, kill

from twofold.fail_points import FAIL_POINTS

OF_SERVERS = tuple(point for point in FAIL_POINTS if point.startswith("redis"))
"""Points that only a store on servers comes to."""

OF_BOTH = (
    "takeover.epoch_taken",
    "takeover.pointers_made",
    "takeover.registered",
    "apply.read",
    "apply.before_commit",
    "apply.after_commit",
    "replay.appended",
    "replay.removed",
    "roll.number_named",
    "roll.place_closed",
    "archive.after_commit",
    "flip.before",
    "flip.after",
    "drop.place_updated",
    "sweep.amid",
    "drop.before_generation",
)


class OnServers:
    """Homes whose store, or store and log, are on servers."""

    def __init__(self, folder: Path, redis_url: str, kafka_servers: str | None) -> None:
        self._redis_url, self._prefix = redis_url, folder.name
        engines = {"store": f"{redis_url}?name={self._prefix}-{{home}}"}
        if kafka_servers is not None:
            engines["log"] = f"kafka://{kafka_servers}?prefix={self._prefix}-{{home}}."
        self.driver = Driver(folder, engines)
        self.homes = Homes(self.driver)

    def kept_for_ever(self, home: Path) -> list[str]:
        """Buckets of generations in the server of which no list of it knows, and what is staged, where they do not expire either."""
        name = f"{self._prefix}-{home.name}"
        with redis.Redis.from_url(self._redis_url) as client:
            lists = f"tw:{name}:{{{name}}}"
            known = b"".join([*client.hvals(f"{lists}:generations"), *client.hkeys(f"{lists}:loose")])
            kept, staged = (
                [key.decode() for key in client.scan_iter(f"tw:{name}:*:{kind}", count=10_000) if client.ttl(key) == -1]
                for kind in ("states", "staged:*")
            )
        assert kept, "no generation is kept"
        return staged + [key for key in kept if bytes.fromhex(key.split("/")[1]) not in known]

    def assert_sound(self, home: Path, number: int, said: str) -> None:
        """What is asserted of every home, and that nothing stays in the server that nobody will remove."""
        assert_sound(self.driver, home, number, said)
        assert self.kept_for_ever(home) == [], said


@pytest.fixture(scope="module", params=["redis", "kafka and redis"])
def on_servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnServers]:
    kafka = request.getfixturevalue("kafka").servers if "kafka" in request.param else None
    found = OnServers(tmp_path_factory.mktemp("servers"), request.getfixturevalue("redis_server").url, kafka)
    yield found
    found.driver.close()


@pytest.fixture(scope="module")
def met(on_servers: OnServers) -> dict[str, int]:
    """How often an undisturbed life comes to each point."""
    found = on_servers.driver.ask("met", on_servers.homes.fresh(), number=1)
    assert isinstance(found, dict)
    return found


def test_every_point_is_met(met: dict[str, int]) -> None:
    assert [point for point in (*OF_SERVERS, *OF_BOTH) if not met.get(point)] == []


@pytest.mark.parametrize("points", [OF_BOTH[::2], OF_BOTH[1::2]], ids=["half", "other half"])
def test_killed_at_one_step_after_the_other(on_servers: OnServers, points: tuple[str, ...]) -> None:
    home = on_servers.homes.fresh()
    lives = kill(on_servers.driver, home, points)
    on_servers.assert_sound(home, lives + 1, f"killed at {' '.join(points)}")


@pytest.mark.parametrize("point", OF_SERVERS)
def test_killed_at_a_step_of_the_store_the_first_and_a_later_time(
    point: str, on_servers: OnServers, met: dict[str, int], request: pytest.FixtureRequest
) -> None:
    rng = random.Random(f"{request.config.option.hypothesis_seed} {point}")
    later = f"{point}:{rng.randint(1, met[point])}"
    home = on_servers.homes.fresh()
    lives = kill(on_servers.driver, home, [point, later])
    on_servers.assert_sound(home, lives + 1, f"killed at {point}, then at {later}")


def test_a_load_that_was_killed_and_never_repeated(on_servers: OnServers) -> None:
    """The store is on servers, the rows on their way on the home: a worker that goes on drops events for rows that are there at last."""
    home = on_servers.homes.fresh()
    assert on_servers.driver.ask("load", home, fail_at="load.ids_remembered", number=1) is None
    found = on_servers.driver.ask("repeat", home, number=2, loaded=1, goes_on=True)
    assert not found["complaints"], "\n".join(found["complaints"])
    assert not found["left_over"], "\n".join(found["left_over"])
