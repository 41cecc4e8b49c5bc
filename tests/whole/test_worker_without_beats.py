"""A worker that cannot beat any more is dead for the others: it ends, instead of idling unseen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis_server import RedisServer

import twofold as tw
from twofold.errors import Corrupt
from twofold.plan.layout import member_key

seen = tw.Events("seen", time="at", schema={"place": str})
project = tw.Project("beats", views=[tw.View("places", seen, by="place", features={"n": tw.count()})])


def test_a_worker_of_another_version_among_the_members_ends_the_others(tmp_path: Path, redis_server: RedisServer) -> None:
    with project.open(home=tmp_path / "home", store=f"{redis_server.url}?name=beats", partitions=1) as opened:
        deadline_s = time.monotonic() + 20.0
        calls = 0

        def until() -> bool:
            nonlocal calls
            calls += 1
            if calls == 2:
                with opened.home.store.transaction() as txn:
                    txn.put(member_key("stranger"), b'{"of": "another version"}')
            return time.monotonic() > deadline_s

        with pytest.raises(Corrupt, match="another version"):
            opened.stream(until)
