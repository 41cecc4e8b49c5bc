"""Microseconds of one `multi_get` of 1, 10 and 40 keys of 2 KB: from the entries (its own snapshot each) and from a generation.

Once of 500 keys, which stay in the caches of the processor, and once of 50,000 (100 MB), which do not. Beside each stands the
floor: the same look-ups in a dict, which copy nothing and check nothing. Run `python bench/store_read.py`.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twofold.store.lmdb import LmdbStore

ENTRIES, VALUE_BYTES, CALLS, ROUNDS = 50_000, 2_000, 1_000, 9
Read = Callable[[Sequence[bytes]], list[bytes | None]]


def best_us(read: Read, asked: list[list[bytes]]) -> float:
    """Microseconds a call, the best of some rounds: others use this machine too."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for keys in asked:
            read(keys)
        best = min(best, time.perf_counter() - start)
    return best / len(asked) * 1e6


def main() -> None:
    keys = [b"view/%012d" % i for i in range(ENTRIES)]
    values = {key: os.urandom(VALUE_BYTES) for key in keys}
    with tempfile.TemporaryDirectory() as home:
        store = LmdbStore(Path(home))
        start = time.perf_counter()
        with store.transaction() as transaction:
            for key, value in values.items():
                transaction.put(key, value)
        print(f"{ENTRIES} entries of {VALUE_BYTES} B in one transaction: {time.perf_counter() - start:.2f} s")
        start = time.perf_counter()
        store.write_generation("g", values.items())
        print(f"the same as a generation, published: {time.perf_counter() - start:.2f} s")
        generation = store.generation("g")
        assert generation is not None

        def from_entries(keys: Sequence[bytes]) -> list[bytes | None]:
            with store.snapshot() as snapshot:
                return snapshot.multi_get(keys)

        print(f"{'of':>6} {'keys':>5} {'entries':>8} {'generation':>11} {'dict':>7}   us per multi_get")
        for among in (500, ENTRIES):
            for count in (1, 10, 40):
                asked = [random.choices(keys[:among], k=count) for _ in range(CALLS)]
                readers: list[Read] = [from_entries, generation.multi_get, lambda keys: [values.get(key) for key in keys]]
                entries_us, generation_us, dict_us = (best_us(read, asked) for read in readers)
                print(f"{among:>6} {count:>5} {entries_us:>8.2f} {generation_us:>11.2f} {dict_us:>7.2f}")
        generation.close()
        store.close()


if __name__ == "__main__":
    main()
