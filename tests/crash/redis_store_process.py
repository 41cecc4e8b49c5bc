"""Processes for the crash tests of the store on Redis, `redis_store_process.py WHAT URL ...`; each says on a line what it has reached."""

from __future__ import annotations

import itertools
import os
import sys

from dialogue import say, wait

from twofold.store import redis
from twofold.store.base import Transaction, commit
from twofold.store.redis import RedisStore


def count(url: str, shard: str, times: str) -> None:
    """Counts up two entries of a shard, with ballast, beginning when it is told to; says how often it had to begin anew."""
    store = RedisStore(url)
    tries = 0

    def increment(txn: Transaction) -> None:
        nonlocal tries
        tries += 1
        first, second = (shard.encode() + name for name in (b"-first", b"-second"))
        a, b = txn.multi_get([first, second])
        assert a == b
        value = b"%d" % (int(a or b"0") + 1)
        txn.put(first, value)
        txn.put(shard.encode() + b"-ballast%d" % (tries % 50), os.urandom(1000))
        txn.put(second, value)

    say("ready")
    wait()
    for _ in range(int(times)):
        commit(store, increment)
    say("done", tries)


def generation(url: str, name: str) -> None:
    """Writes a generation until it is told to end it."""
    store = RedisStore(url)

    def states():
        for i in itertools.count():
            if i == 25_000:  # the first part has been sent by now
                say("writing")
                wait()
            if i == 26_000:
                return
            yield b"%08d" % i, b"state"

    store.write_generation(name, states())
    say("done")


def shards(url: str) -> None:
    """Writes to three shards in one transaction."""
    store = RedisStore(url)
    say("ready")
    with store.transaction() as txn:
        for shard in (b"aa", b"bb", b"cc"):
            txn.put(shard + b"1", b"new")
    say("done")


def large(url: str) -> None:
    """Commits twenty entries, of which a call takes three, when it is told to."""
    store = RedisStore(url)
    redis._MOST_CHANGES, redis._PART = 10, 7
    say("ready")
    wait()
    with store.transaction() as txn:
        txn.put_many((b"aa%02d" % i, b"new") for i in range(20))
    say("done")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
