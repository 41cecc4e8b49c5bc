"""Servers of a store that lose one partition's shard: its views say that they are not built, and the next build has everything again."""

from __future__ import annotations

from pathlib import Path

import pytest

import twofold as tw
from twofold.clocks import ManualClock
from twofold.errors import NotBuilt
from twofold.instants import to_us
from twofold.plan.layout import epoch_key
from twofold.runtime.opened import Opened
from twofold.store.base import SHARD_BYTES

seen = tw.Events("seen", time="at", schema={"place": str})
view = tw.View("places", seen, by="place", features={"n": tw.count()})
project = tw.Project("lost", views=[view])


def append(opened: Opened, count: int) -> None:
    for _ in range(count):
        opened.append("seen", {"place": "a", "at": "2024-05-01T00:00:00Z"})


def lose(opened: Opened, partition: int) -> None:
    with opened.home.store.transaction() as txn:
        for key, _ in list(txn.scan(epoch_key(partition)[:SHARD_BYTES])):
            txn.delete(key)


@pytest.mark.parametrize("is_built_twice", [False, True])
def test_a_lost_shard_is_never_read_as_if_nothing_had_come(tmp_path: Path, is_built_twice: bool) -> None:
    clock = ManualClock(to_us("2024-05-01T01:00:00Z"))
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        append(opened, 10)
        opened.build()
        append(opened, 5)
        if is_built_twice:
            opened.build()
            append(opened, 1)
        opened.catch_up()
        total = 15 + is_built_twice
        assert opened.features("places", ["a"])["n_all"].to_list() == [total]
        lose(opened, 0)
        opened.catch_up()
        with pytest.raises(NotBuilt):
            opened.features("places", ["a"])
        append(opened, 1)
        opened.build()
        assert opened.features("places", ["a"])["n_all"].to_list() == [total + 1]
