"""Random stories of a home - events, micro-batches, loads, builds that fail, roll-overs in between - against the reference, bit for bit."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from kafka_broker import KafkaBroker
from redis_server import RedisServer

from twofold.testing.modes import Parity

Stories = Callable[..., Any]
MANY = int(os.environ.get("PARITY_VALUES") or (1_000_000 if os.environ.get("CI") else 300_000))
"""Values to compare in the long story; `PARITY_VALUES=10000000 make test` takes an hour more."""
SETS = (
    ["hybrid"],
    ["short", "stream", "rows"],
    ["batch", "changed", "typed"],
    ["all", "as_built", "fixed"],
    ["sets", "sets_stream"],
    ["shapes", "shapes_stream"],
    ["shifted", "lists", "buckets", "delayed", "delayed_batch"],
    ["exploded", "tagged", "exploded_stream", "exploded_batch"],
    ["own", "own_stream", "own_built"],
    ["both", "both_stream", "both_built", "twice", "itself"],
)


@pytest.mark.parametrize("partitions", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("views", SETS, ids="+".join)
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_mode_is_the_reference(views: list[str], partitions: int, number: int, story: Stories) -> None:
    story(views, partitions).run(12).check(at_least=1000)


@pytest.mark.parametrize("partitions", [1, 3])
def test_every_mode_is_the_reference_on_disk(partitions: int, story: Stories) -> None:
    """SQLite, LMDB and Delta Lake, as users have them."""
    story(["hybrid", "stream", "as_built", "rows", "exploded", "both"], partitions, on_disk=True).run(5).check(at_least=1000)


@pytest.mark.slow
@pytest.mark.parametrize("views", [["hybrid", "stream", "as_built", "rows"], ["exploded", "both", "own", "sets_stream"]], ids="+".join)
def test_every_mode_is_the_reference_on_kafka_and_redis(
    views: list[str], story: Stories, kafka: KafkaBroker, redis_server: RedisServer, rng: random.Random
) -> None:
    name = f"parity{rng.getrandbits(64):x}"
    engines = {"log": f"kafka://{kafka.servers}?prefix={name}.", "store": f"{redis_server.url}?name={name}"}
    story(views, 2, engines=engines).run(5).check(at_least=1000)


@pytest.mark.slow
def test_very_many_values_are_the_reference(story: Stories, rng: random.Random, capsys: pytest.CaptureFixture[str]) -> None:
    total = Parity()
    for number in itertools.count():
        one = story(SETS[number % len(SETS)], rng.choice([1, 3]))
        one.reads = 6
        total += one.run(15)
        one.home.close()
        if total.compared >= MANY:
            break
    with capsys.disabled():
        print(f"\n{total.compared} values in {number + 1} stories are the reference, {total.ahead} were ahead")
    total.check(at_least=MANY)
    assert total.ahead < total.compared / 5
