"""Generations as files: each an LMDB file of its own, written beside the others and renamed into place; entries are not known here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import lmdb

from twofold.durable import sync_folder
from twofold.errors import Corrupt, DataError, StoreUnavailable
from twofold.fail_points import fail_point
from twofold.store.environments import Environment, lmdb_errors, open_environment, open_unshared, translated, used_bytes
from twofold.store.records import GENERATION_SUFFIX, ascending, file_name_of, generation_of, read_many, record_of, slot_of
from twofold.store.turns import FileLock

_TEMPORARY_SUFFIX = ".tmp"
_CHUNK_BYTES = 8 << 20
_FIRST_MAP_BYTES = 64 << 20

Put = tuple[bytes, bytes, bool]
"""Slot, record, and whether the slot is above all before it."""


class LmdbGeneration:
    """An open generation; threads may share it."""

    def __init__(self, environment: Environment):
        self._environment = environment
        self._is_open = True
        self._of_thread = threading.local()

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Generation`; about 0.6 us a key of 2 KB. The file never changes, so each thread keeps its read transaction."""
        if not self._is_open:
            raise StoreUnavailable(f"{self._environment.what} is closed; open it again")
        self._environment.check()
        try:
            get = self._of_thread.get
        except AttributeError:
            get = self._of_thread.get = self._environment.read().get
        try:
            return read_many(get, keys)
        except lmdb.Error as error:
            del self._of_thread.get  # LMDB takes nothing more in a transaction that has met a damaged page
            raise translated(error, self._environment.what) from error

    def close(self) -> None:
        """See `Generation`; a second close does nothing."""
        if self._is_open:
            self._is_open = False
            self._environment.release()


class GenerationFiles:
    """The directory of generations: NAME.gen is published, NAME.PID-RANDOM.tmp is being written or was left by a dead writer.

    A living writer holds a lock on its temporary file, so what can be locked is left over; the process in the name is for people.
    """

    def __init__(self, directory: Path, timeout_s: float):
        self._directory = directory
        self._timeout_s = timeout_s
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, states: Iterable[tuple[bytes, bytes]]) -> int:
        """See `Store.write_generation`; what `states` raises comes through, and nothing of it stays."""
        published = self._directory / file_name_of(name)
        with self._temporary(published) as (path, descriptor):
            count = _fill(path, states)
            with lmdb_errors(f"generation {name!r}"):
                os.fsync(descriptor)
                fail_point("generation.before_publish")
                path.replace(published)
                fail_point("generation.after_publish")
                sync_folder(self._directory)
        return count

    @contextlib.contextmanager
    def _temporary(self, published: Path) -> Iterator[tuple[Path, int]]:
        path = published.with_name(f"{published.stem}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_TEMPORARY_SUFFIX}")
        descriptor = self._create(path)
        try:
            yield path, descriptor
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _create(self, path: Path) -> int:
        """An empty locked file; left-overs are cleaned under the same lock, so that no new file looks like one."""
        with lmdb_errors(f"generations in {self._directory}"):
            lock = FileLock(self._directory / "writers.lock")
            try:
                if not lock.acquire(time.monotonic() + self._timeout_s):
                    raise StoreUnavailable(
                        f"generations in {self._directory}: waited {self._timeout_s:g} s for process {lock.holder()} to begin writing; "
                        "if it is stopped or hangs, end it, then try again"
                    )
                self._remove_left_over()
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            finally:
                lock.close()

    def _remove_left_over(self) -> None:
        for path in self._directory.glob(f"*{_TEMPORARY_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                except BlockingIOError:
                    pass  # its writer lives
                finally:
                    os.close(descriptor)

    def open(self, name: str) -> LmdbGeneration | None:
        """See `Store.generation`."""
        path = self._directory / file_name_of(name)

        what = f"generation {name!r}"

        def opened() -> lmdb.Environment:
            inner = lmdb.open(str(path), map_size=1, subdir=False, readonly=True, lock=False, max_spare_txns=1)
            if path.stat().st_size < used_bytes(inner):
                inner.close()  # reading beyond the end of a mapped file would kill the process
                raise Corrupt(f"{what} is damaged: its file {path} is cut short; build it again")
            return inner

        try:
            return LmdbGeneration(open_environment(what, path, opened))
        except StoreUnavailable as error:
            if _is_absence(error.__cause__):
                return None
            raise

    def names(self) -> list[str]:
        """See `Store.generations`; sorted."""
        found = (generation_of(path.name) for path in self._directory.glob(f"*{GENERATION_SUFFIX}"))
        return sorted(name for name in found if name is not None)

    def drop(self, name: str) -> None:
        """See `Store.drop_generation`."""
        with lmdb_errors(f"generation {name!r}"):
            (self._directory / file_name_of(name)).unlink(missing_ok=True)


def _is_absence(error: BaseException | None) -> bool:
    if isinstance(error, lmdb.Error):
        return error.code == errno.ENOENT
    return isinstance(error, FileNotFoundError)


def _fill(path: Path, states: Iterable[tuple[bytes, bytes]]) -> int:
    """Write all states into the empty file, which is not synced."""
    what = f"generation file {path.name}"
    inner = open_unshared(what, lambda: lmdb.open(str(path), map_size=_FIRST_MAP_BYTES, subdir=False, lock=False, sync=False))
    count = 0
    try:
        for chunk in _chunks(states):
            with lmdb_errors(what):
                _put_chunk(inner, chunk)
            count += len(chunk)
            fail_point("generation.writing")
        with lmdb_errors(what):
            os.truncate(path, used_bytes(inner))  # the last pages may be free ones that were never written
    finally:
        inner.close()
    return count


def _chunks(states: Iterable[tuple[bytes, bytes]]) -> Iterator[list[Put]]:
    chunk: list[Put] = []
    size_bytes = 0
    highest = b""
    for key, state in ascending(states):
        slot = slot_of(key)
        is_highest = slot > highest  # not so among keys that share their first 479 bytes
        highest = max(highest, slot)
        record = record_of(slot, key, state)
        chunk.append((slot, record, is_highest))
        size_bytes += len(slot) + len(record)
        if size_bytes >= _CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    yield chunk


def _put_chunk(inner: lmdb.Environment, chunk: list[Put]) -> None:
    """One transaction; where the map is full it is undone, the map doubled, and all done again."""
    while True:
        try:
            with inner.begin(write=True) as transaction:
                for slot, record, is_highest in chunk:
                    if not transaction.put(slot, record, overwrite=False, append=is_highest):
                        raise DataError(f"two keys of one generation share the slot {slot.hex()} (hex); change one of them")
                return
        except lmdb.MapFullError:
            inner.set_mapsize(2 * inner.info()["map_size"])
