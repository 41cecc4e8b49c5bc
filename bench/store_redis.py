"""What the store on Redis costs: commits of 1,000 and 10,000 entries of 2 KB, reads of 5 keys, a generation of 100,000 states of 1 KB.

A server of its own is started on loopback, without persistence. Run `python bench/store_redis.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "engines"))

from redis_server import RedisServer, why_no_redis

from twofold.store.redis import RedisStore

ROUNDS, READS = 5, 2_000


def best_s(work: Callable[[], object]) -> float:
    """Seconds of the best of some rounds: others use this machine too."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def median_us(work: Callable[[], object]) -> float:
    times = []
    for _ in range(READS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[READS // 2] * 1e6


def main() -> None:
    if reason := why_no_redis():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        store = RedisStore(server.url)
        for count in (1_000, 10_000):
            values = {b"\x00\x01%06d" % i: os.urandom(2_000) for i in range(count)}

            def commit(values: dict[bytes, bytes] = values) -> None:
                with store.transaction() as txn:
                    for key, value in values.items():
                        txn.put(key, value)

            took = best_s(commit)
            print(f"commit of {count:>6,} entries of 2 KB {took * 1e3:>8.1f} ms {took / count * 1e6:>7.1f} us an entry")
        with store.transaction() as txn:
            for shard in range(2, 6):
                txn.put(bytes([0, shard]), os.urandom(2_000))
        for what, keys in (
            ("one shard", list(values)[:5]),
            ("five shards", [*list(values)[:1], *(bytes([0, shard]) for shard in range(2, 6))]),
        ):
            with store.snapshot() as snapshot:
                print(f"multi_get of 5 keys, {what:<16} {median_us(lambda keys=keys: snapshot.multi_get(keys)):>7.1f} us p50")  # type: ignore[misc]
        start = time.perf_counter()
        store.write_generation("g", ((b"%08d" % i, bytes(1_000)) for i in range(100_000)))
        print(f"generation of 100,000 states of 1 KB {time.perf_counter() - start:>6.2f} s")
        generation = store.generation("g")
        assert generation is not None
        keys = [b"%08d" % i for i in range(0, 100_000, 20_000)]
        print(f"multi_get of 5 states of it          {median_us(lambda: generation.multi_get(keys)):>7.1f} us p50")
        store.close()


if __name__ == "__main__":
    main()
