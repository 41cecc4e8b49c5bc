"""Processes for the crash tests of the store: `python store_process.py WHAT PATH ...`; each says on a line what it has reached."""

from __future__ import annotations

import itertools
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dialogue import say, wait

from twofold.errors import TwofoldError
from twofold.store.lmdb import LmdbStore


def pairs(path: Path) -> None:
    """Counts in two entries for ever, acknowledging each commit."""
    store = LmdbStore(path)
    while True:
        with store.transaction() as transaction:
            count = int(transaction.get(b"a") or b"0") + 1
            transaction.put(b"a", b"%d" % count)
            transaction.put(b"ballast", os.urandom(20_000))
            transaction.put(b"b", b"%d" % count)
        say(count)


def busy(path: Path) -> None:
    """Counts for ever, hardly ever outside a transaction."""
    store = LmdbStore(path)
    count = 0
    while True:
        with store.transaction() as transaction:
            count += 1
            transaction.put(b"commits", b"%d" % count)
            time.sleep(0.01)
        if count == 1:
            say("busy")


def hold(path: Path) -> None:
    """Stays inside a transaction until it is told to go on."""
    with LmdbStore(path).transaction() as transaction:
        transaction.put(b"held", b"1")
        say("holding")
        wait()
    say("done")
    wait()


def queue(path: Path) -> None:
    """Waits for its turn to write."""
    store = LmdbStore(path, timeout_s=60.0)
    say("waiting")
    with store.transaction() as transaction:
        transaction.put(b"queued", b"1")
    say("done")


def generation(path: Path, name: str) -> None:
    """Writes a generation until it is told to end it."""
    store = LmdbStore(path)

    def states():
        for i in itertools.count():
            if i == 40:  # MB: the first chunks are in the file by now
                say("writing")
                wait()
            if i == 50:
                return
            yield b"%04d" % i, os.urandom(1_000_000)

    store.write_generation(name, states())
    say("done")
    wait()


def look(path: Path) -> None:
    """Stays inside a snapshot."""
    with LmdbStore(path).snapshot() as snapshot:
        snapshot.get(b"a")
        say("looking")
        wait()


def check_pairs(path: Path, count: str) -> None:
    """Reads the two entries in many snapshots; they must be equal and never go back."""
    store = LmdbStore(path)
    latest = 0
    for _ in range(int(count)):
        with store.snapshot() as snapshot:
            first, second = snapshot.multi_get([b"a", b"b"])
            assert first == second
            assert dict(snapshot.scan(b""))[b"a"] == first
        assert int(first or b"0") >= latest
        latest = int(first or b"0")
    say("consistent", latest)


def fork(path: Path) -> None:
    """Uses in a forked child what its parent had opened."""
    store = LmdbStore(path)
    store.write_generation("g", [(b"a", b"1")])
    opened = store.generation("g")
    assert opened is not None

    def enter(context) -> None:
        with context:
            pass

    attempts: list[Callable[[], object]] = [
        lambda: enter(store.snapshot()),
        lambda: enter(store.transaction()),
        lambda: store.generation("g"),
        lambda: opened.multi_get([b"a"]),
        lambda: LmdbStore(path),
        lambda: store.drop_generation("g"),
    ]
    child = os.fork()
    if not child:
        for attempt in attempts:
            try:
                attempt()
                say("no error")
            except TwofoldError as error:
                say(type(error).__name__, "fork" in str(error))
        opened.close()
        store.close()
        os._exit(0)
    os.waitpid(child, 0)
    with store.transaction() as transaction:
        transaction.put(b"a", b"the parent goes on")
    say("parent", opened.multi_get([b"a"]))


def fork_in_transaction(path: Path) -> None:
    """Leaves a forked child behind that was born inside a transaction."""
    with LmdbStore(path).transaction() as transaction:
        transaction.put(b"held", b"1")
        child = os.fork()
        if not child:
            say("child", os.getpid())
            wait()
            os._exit(0)
        os.waitpid(child, 0)


def full_disk(path: Path) -> None:
    """Meets the end of the disk (here the largest file allowed) in transactions and generations, then gets space again."""
    store = LmdbStore(path)
    with store.transaction() as transaction:
        transaction.put(b"a", b"1")
    size = (path / "entries" / "data.mdb").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, resource.RLIM_INFINITY))
    try:
        with store.transaction() as transaction:
            transaction.put(b"a", b"2")
            transaction.put(b"b", bytes(1_000_000))
    except TwofoldError as error:
        say(type(error).__name__, "disk is full or fails" in str(error))
    try:
        store.write_generation("g", ((b"%04d" % i, bytes(1_000_000)) for i in range(20)))
    except TwofoldError as error:
        say(type(error).__name__, "disk is full or fails" in str(error), os.listdir(path / "generations"))
    with store.snapshot() as snapshot:
        say(snapshot.multi_get([b"a", b"b"]), store.generations())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with store.transaction() as transaction:
        transaction.put(b"a", b"3")
        transaction.put(b"b", bytes(1_000_000))
    store.write_generation("g", ((b"%04d" % i, bytes(1_000_000)) for i in range(20)))
    with store.snapshot() as snapshot:
        say(snapshot.get(b"a"), store.generations())


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
