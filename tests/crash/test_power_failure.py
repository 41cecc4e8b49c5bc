"""A machine that fails: of all that was written since the last sync any part may be on the disk, and the store goes back as a whole.

The disk is played: what a file held when a sync began is safe; of the pages written since then each may be there in any of the versions
that it had. Another boot is another id.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from twofold import flocks
from twofold.errors import Corrupt, StoreUnavailable, TwofoldError
from twofold.store import checkpoints, lmdb
from twofold.store.checkpoints import Checkpoints
from twofold.store.lmdb import LmdbStore

PAGE = 4096
Contents = dict[bytes, bytes]


class Machine:
    """Boots, and knows what was written to a store's file of entries since it was last synced, and what it held then."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.boots = folder, 0
        self.safe, self.later, self.expected = b"", list[bytes](), Contents()

    @property
    def boot(self) -> str:
        return f"boot {self.boots}"

    @property
    def _data(self) -> Path:
        return self.folder / "entries" / "data.mdb"

    def booted(self, store: LmdbStore) -> None:
        """What the disk holds now is safe."""
        self.safe, self.later, self.expected = self._data.read_bytes(), [], contents(store)

    @contextlib.contextmanager
    def watching(self, store: LmdbStore) -> Iterator[None]:
        """What is done in the block may write and sync: what was there before is safe if a checkpoint was made."""
        checkpoint = self.folder / "entries" / "checkpoint"
        before, held, known = self._data.read_bytes(), contents(store), checkpoint.read_bytes() if checkpoint.exists() else b""
        yield
        if checkpoint.read_bytes() != known:
            self.safe, self.later, self.expected = before, [], held
        self.later.append(self._data.read_bytes())

    def fail(self, rng: random.Random) -> None:
        """The disk as the next boot finds it, in another folder: any mixture of what was written."""
        self.boots += 1
        folder = self.folder.parent / f"store-{self.boots}"
        shutil.copytree(self.folder, folder)
        versions = [self.safe, *self.later]
        size = rng.choice([len(version) for version in versions])
        pages = (rng.choice([version[at : at + PAGE].ljust(PAGE, b"\0") for version in versions]) for at in range(0, size, PAGE))
        self.folder = folder
        self._data.write_bytes(b"".join(pages)[:size])


def contents(store: LmdbStore) -> Contents:
    with store.snapshot() as snapshot:
        return dict(snapshot.scan(b""))


def change(store: LmdbStore, rng: random.Random) -> None:
    with store.transaction() as txn:
        for _ in range(rng.randrange(1, 30)):
            key = b"%d" % rng.randrange(300)
            if rng.random() < 0.2:
                txn.delete(key)
            else:
                txn.put(key, rng.randbytes(rng.choice([10, 500, 3000, 9000])))


OTHER = """
import random, sys
sys.path.insert(0, sys.argv[3])
from test_power_failure import LmdbStore, change, checkpoints, lmdb
lmdb.boot_id, checkpoints.INTERVAL_S = lambda: sys.argv[2], 3600.0
store, rng = LmdbStore(sys.argv[1]), random.Random(sys.argv[2])
for line in sys.stdin:
    store.sync() if line == "sync\\n" else change(store, rng)
    print("done", flush=True)
"""


class Other:
    """Another process that writes to the store."""

    def __init__(self, machine: Machine) -> None:
        command = [sys.executable, "-c", OTHER, str(machine.folder), machine.boot, str(Path(__file__).parent)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, what: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "store-0")
    monkeypatch.setattr(lmdb, "boot_id", lambda: made.boot)
    monkeypatch.setattr(checkpoints, "INTERVAL_S", 3600.0)
    return made


def look(machine: Machine, rng: random.Random) -> list[str]:
    """What is wrong after a failure of the machine."""
    try:
        with contextlib.closing(LmdbStore(machine.folder)) as store:
            found = contents(store)
            change(store, rng)
    except TwofoldError as error:
        return [f"boot {machine.boots}: {error}"]
    return [] if found == machine.expected else [f"boot {machine.boots}: the store went back to another state"]


def differences(machine: Machine, rng: random.Random, failures: int, has_other: bool = False) -> list[str]:
    """What is wrong after failures of the machine, each after commits and syncs of one process or two, one of which may be killed."""
    found: list[str] = []
    with contextlib.ExitStack() as stack:
        for _ in range(failures):
            store = stack.enter_context(contextlib.closing(LmdbStore(machine.folder)))
            machine.booted(store)
            other = Other(machine) if has_other else None
            alone_until = rng.randrange(30)  # then this process writes too
            for step in range(rng.randrange(3, 60)):
                with machine.watching(store):
                    if other is not None and rng.random() < 0.1:
                        other.kill()
                        other = Other(machine)  # whose opening finds the dead reader
                    what = rng.choice(["change"] * 8 + ["sync"])
                    if other is not None and (step < alone_until or rng.random() < 0.5):
                        other(what)
                    elif what == "sync":
                        store.sync()
                    else:
                        change(store, rng)
            if other is not None:
                other.kill()
            machine.fail(rng)
            found += look(machine, rng)
            if found:
                break
    return found


def difference_after_a_dead_writer(machine: Machine, rng: random.Random) -> list[str]:
    """What is wrong after one process was killed, its successor wrote, and then the machine failed."""
    with contextlib.closing(LmdbStore(machine.folder)) as store:
        machine.booted(store)
        first = Other(machine)
        for _ in range(10):
            with machine.watching(store):
                first("change")
        first.kill()
        store._environment.inner.reader_check()  # as whoever opens the store next does
        for _ in range(10):
            with machine.watching(store):
                change(store, rng)
        machine.fail(rng)
    return look(machine, rng)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("has_other", [False, True])
def test_the_store_goes_back_to_its_last_checkpoint_as_a_whole(machine: Machine, seed: int, has_other: bool) -> None:
    assert differences(machine, random.Random(seed), 3 if has_other else 12, has_other) == []
    assert difference_after_a_dead_writer(machine, random.Random(seed)) == []


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_a_store_that_was_never_synced_is_empty_again(machine: Machine, changes: int) -> None:
    for seed in range(20):
        with contextlib.closing(LmdbStore(machine.folder)) as store:
            machine.booted(store)
            for _ in range(changes):
                with machine.watching(store):
                    change(store, random.Random(seed))
            machine.fail(random.Random(seed))
        assert look(machine, random.Random(seed)) == []
        machine.folder = machine.folder.parent / f"new-{seed}"


def test_a_sync_that_fails_is_told_by_every_write_from_then_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "planted")

    store = LmdbStore(machine.folder)
    change(store, random.Random(1))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._CheckpointFile, "write", failing)
        with pytest.raises(Corrupt, match=r"failed when it was to keep.*planted.*remove HOME/store"):
            store.sync()
    held = contents(store)
    for _ in range(2):
        with pytest.raises(Corrupt, match="planted"):
            change(store, random.Random(2))
    assert contents(store) == held
    with pytest.raises(Corrupt, match="planted"):
        store.close()


def test_a_sync_that_failed_is_told_to_processes_that_come_later_too(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "planted")

    store = LmdbStore(machine.folder)
    change(store, random.Random(1))
    store.sync()
    machine.booted(store)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._CheckpointFile, "write", failing)
        change(store, random.Random(2))
        with pytest.raises(Corrupt, match="planted"):
            store.close()
    later = LmdbStore(machine.folder)
    with pytest.raises(Corrupt, match="a sync has failed since the machine was started"):
        change(later, random.Random(3))
    with pytest.raises(Corrupt):
        later.close()
    machine.fail(random.Random(4))
    assert look(machine, random.Random(5)) == []


def test_a_stopped_process_does_not_keep_others_waiting_for_ever(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_LOCK_WAIT_S", 0.1)
    with contextlib.closing(LmdbStore(machine.folder)) as store:
        change(store, random.Random(1))
        with open(machine.folder / "entries" / "checkpoint", "rb") as held:
            assert flocks.try_lock(held.fileno())
            with pytest.raises(StoreUnavailable, match="another process has held"):
                store.sync()
        store.sync()


def test_a_checkpoint_that_had_to_wait_comes_without_another_commit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_LOCK_WAIT_S", 0.01)
    monkeypatch.setattr(checkpoints, "INTERVAL_S", 0.01)
    checkpoint = machine.folder / "entries" / "checkpoint"
    with contextlib.closing(LmdbStore(machine.folder)) as store:
        change(store, random.Random(1))
        store.sync()
        with open(checkpoint, "rb") as held:
            with store.transaction() as txn:
                assert flocks.lock(held.fileno(), time.monotonic() + 10.0, lambda _: 0.001)
                txn.put(b"more", b"1")
            before = checkpoint.read_bytes()
            time.sleep(0.1)
        deadline_s = time.monotonic() + 10.0
        while checkpoint.read_bytes() == before:
            assert time.monotonic() < deadline_s, "no checkpoint comes"
            time.sleep(0.01)


def test_a_commit_that_no_thread_can_follow_up_counts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with contextlib.closing(LmdbStore(machine.folder, timeout_s=0.1)) as store:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", cannot)
            change(store, random.Random(1))
        change(store, random.Random(2))


DIES_IN_SYNC = """
import os, random, signal, sys
sys.path.insert(0, sys.argv[3])
from test_power_failure import LmdbStore, change, checkpoints, lmdb
lmdb.boot_id, checkpoints.INTERVAL_S = lambda: sys.argv[2], 3600.0
store, rng = LmdbStore(sys.argv[1]), random.Random(1)
for _ in range(10):
    change(store, rng)
os.fdatasync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
store.sync()
"""


def test_a_checkpoint_whose_writer_died_before_it_was_durable_is_made_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = machine.folder / "entries" / "checkpoint"
    with contextlib.closing(LmdbStore(machine.folder)) as store:
        for seed in range(10):
            change(store, random.Random(seed))
    held, real = [checkpoint.read_bytes()], os.fdatasync

    def fdatasync(file: int) -> None:
        real(file)
        held[:] = [checkpoint.read_bytes()]

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    command = [sys.executable, "-c", DIES_IN_SYNC, str(machine.folder), machine.boot, str(Path(__file__).parent)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    rng = random.Random(2)
    with contextlib.closing(LmdbStore(machine.folder)) as store:
        machine.booted(store)
        for _ in range(10):
            change(store, rng)
        machine.fail(rng)
        (machine.folder / "entries" / "checkpoint").write_bytes(held[0])
    assert look(machine, rng) == []


BEGINS = """
import os, random, sys
sys.path.insert(0, sys.argv[3])
from test_power_failure import LmdbStore, change, checkpoints, lmdb
lmdb.boot_id = lambda: sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
store = LmdbStore(sys.argv[1])
change(store, random.Random(1))
store.sync()
print(os.fstat(store._environment.checkpoints._file._fd).st_ino, flush=True)
sys.stdin.readline()
"""


def test_two_processes_that_begin_a_store_at_once_keep_one_checkpoint(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.folder / "entries").mkdir(parents=True)
    checkpoint = machine.folder / "entries" / "checkpoint"
    checkpoint.touch()  # its data were removed
    command = [sys.executable, "-c", BEGINS, str(machine.folder), machine.boot, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        stdin, stdout = other.stdin, other.stdout
        assert stdin is not None
        assert stdout is not None
        assert stdout.readline() == b"ready\n"
        real, waiting = Path.exists, [b"go\n"]

        def exists(path: Path) -> bool:
            found = real(path)
            if path.name == "data.mdb" and waiting:
                stdin.write(waiting.pop())
                stdin.flush()
                select.select([stdout], [], [], 5.0)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Path, "exists", exists)
            store = LmdbStore(machine.folder)
        change(store, random.Random(2))
        assert int(stdout.readline()) == checkpoint.stat().st_ino
        other.kill()
    store.close()


def test_a_system_that_tells_its_boot_only_sometimes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the boot's id each commit is synced, and no checkpoint of a boot before may come back over its pages."""
    rng = random.Random(3)
    for boot in ("boot 1", None, "boot 2", None, None, "boot 3"):
        monkeypatch.setattr(lmdb, "boot_id", lambda boot=boot: boot)
        store = LmdbStore(machine.folder)
        assert contents(store) == machine.expected
        for _ in range(30):
            change(store, rng)
        machine.expected = contents(store)
        store.close()


def no_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Checkpoints.begin

    def begin(self: Checkpoints) -> None:
        real(self)
        assert self._pin is not None
        self._pin.abort()

    monkeypatch.setattr(Checkpoints, "begin", begin)


def no_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb, "restore", lambda *_: None)


def nothing_of_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that begins to write takes what others left as if it were synced."""

    def begin(self: Checkpoints) -> None:
        if self._pin is None:
            self._pin = self._read()

    monkeypatch.setattr(Checkpoints, "begin", begin)


@pytest.mark.parametrize("fault", [no_pin, no_restore])
def test_planted_faults_are_seen(machine: Machine, fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    assert any(differences(machine, random.Random(seed), 12) for seed in range(3))


def test_a_planted_successor_that_syncs_nothing_is_seen(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_of_the_dead(monkeypatch)
    assert any(difference_after_a_dead_writer(machine, random.Random(seed)) for seed in range(3))
