"""What a failure of the machine goes back to: the last synced state of an LMDB file, kept whole while later commits are not synced yet.

LMDB never writes over a page that the last two commits or an open reader need. So a commit need not wait for the disk as long as

- a *pin* holds the pages of the last *checkpoint*: a reader that began at or before it, in every process whose commits are not synced;
- the checkpoint's root is known: a copy of its meta page, which later commits write over, lies in a file of its own, with the id of the
  machine's boot. After another boot the copy is put back before the file is opened, and with it the state of the checkpoint.

Within one boot the kernel has all that was written, whoever was killed. Each process begins its first write with a checkpoint of what
others left unsynced; then a thread makes the next one a moment after each commit, and lets the pin go when there is nothing more to sync.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb
from xxhash import xxh3_64_digest

from twofold import flocks
from twofold.durable import sync_folder
from twofold.errors import Corrupt, StoreUnavailable

Reader = Callable[[], "lmdb.Transaction[bytes]"]

INTERVAL_S = 0.1
"""So long after a commit the next checkpoint begins."""
_MOST_TRIES, _POLL_S, _LOCK_WAIT_S = 10_000, 0.001, 10.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_META = struct.Struct("<8x2xH4xII8xQ96xQQ")  # page header (flags), magic, version, map size, two databases, last page, transaction
_META_FLAG, _MAGIC, _VERSION = 0x08, 0xBEEFC0DE, 1
_TRANSACTION_AT = _META.size - 8
_SLOT = struct.Struct("<8s36sQQI")  # magic, boot, number of the checkpoint, transaction, page size
_SLOT_MAGIC = b"2foldCkp"
_SLOT_BYTES = 512


class _Checkpoint(NamedTuple):
    number: int
    boot: str
    transaction: int
    page_bytes: int
    meta: bytes


def boot_id() -> str | None:
    """Identity of the machine's present boot; None where the system does not tell, and each commit must be synced."""
    try:
        return _BOOT.read_text().strip()[:36]
    except OSError:
        return None


class _CheckpointFile:
    """The file with the last checkpoint: two slots that are written in turn, so that a torn one leaves the other.

    Behind them stands the boot in which a sync has failed: the kernel tells whoever had the file open then, and nobody later.
    """

    def __init__(self, path: Path):
        self._path, is_new = path, not path.exists()
        self._durable: int | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if is_new:
            os.posix_fallocate(self._fd, 0, 3 * _SLOT_BYTES)
            os.fsync(self._fd)
            for folder in (path.parent, path.parent.parent):
                sync_folder(folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from reading and writing it; raises StoreUnavailable where one does for too long."""
        if not flocks.lock(self._fd, time.monotonic() + _LOCK_WAIT_S, lambda _: _POLL_S):
            raise StoreUnavailable(f"another process has held {self._path} for {_LOCK_WAIT_S:g} s: if it is stopped or hangs, end it")
        try:
            yield
        finally:
            flocks.unlock(self._fd)

    def read(self) -> _Checkpoint | None:
        """The last whole checkpoint, durable: whoever wrote it may have been killed before it was; None where there is none."""
        found = [self._read_slot(slot) for slot in range(2)]
        last = max((one for one in found if one is not None), default=None)
        if last is not None and last.number != self._durable:
            os.fdatasync(self._fd)
            self._durable = last.number
        return last

    def _read_slot(self, slot: int) -> _Checkpoint | None:
        raw = os.pread(self._fd, _SLOT.size + _META.size + 8, slot * _SLOT_BYTES)
        content = raw[:-8]
        if not raw.startswith(_SLOT_MAGIC) or xxh3_64_digest(content) != raw[-8:]:
            return None
        _, boot, number, transaction, page_bytes = _SLOT.unpack(content[: _SLOT.size])
        return _Checkpoint(number, boot.rstrip(b"\0").decode(), transaction, page_bytes, content[_SLOT.size :])

    def write(self, one: _Checkpoint) -> None:
        """Durable when it returns."""
        content = _SLOT.pack(_SLOT_MAGIC, one.boot.encode(), one.number, one.transaction, one.page_bytes) + one.meta
        os.pwrite(self._fd, content + xxh3_64_digest(content), one.number % 2 * _SLOT_BYTES)
        os.fdatasync(self._fd)
        self._durable = one.number

    def forget(self) -> None:
        """Hold no checkpoint."""
        os.pwrite(self._fd, bytes(3 * _SLOT_BYTES), 0)
        os.fdatasync(self._fd)

    def note_failure(self, boot: str) -> None:
        """A sync has failed in this boot. What was not synced may be gone, though it can still be read until the machine starts anew."""
        os.pwrite(self._fd, boot.encode(), 2 * _SLOT_BYTES)

    def has_failed(self, boot: str) -> bool:
        """Whether a sync of any process has failed in this boot."""
        return os.pread(self._fd, len(boot.encode()), 2 * _SLOT_BYTES) == boot.encode()

    def close(self) -> None:
        os.close(self._fd)


def restore(data_file: Path, checkpoint_file: Path, boot: str | None) -> None:
    """Put the last checkpoint back where the machine has started anew since. To be called before each opening of the file.

    Where the system does not tell its boot, it may have: the last checkpoint is put back and forgotten, for each commit is synced then.
    """
    if not checkpoint_file.exists() and (boot is None or not data_file.exists()):
        return
    file = _CheckpointFile(checkpoint_file)
    try:
        with file.locked():  # under which no other process, whose file of data is new, can have made a checkpoint of it unseen
            if not data_file.exists():
                file.forget()
                return
            last = file.read()
            if last is None or last.boot == boot:
                return
            with open(data_file, "r+b") as data:
                for page in range(2):  # LMDB takes the later one, and writes over the other
                    is_later = page == last.transaction % 2
                    data.seek(page * last.page_bytes)
                    data.write(_meta_page(last.meta, page, last.transaction if is_later else max(last.transaction - 1, 0)))
                data.flush()
                os.fsync(data.fileno())
            if boot is None:
                file.forget()
            else:
                file.write(last._replace(number=last.number + 1, boot=boot))
    finally:
        file.close()


def _meta_page(meta: bytes, page: int, transaction: int) -> bytes:
    """The page's beginning, with its own number in front and the transaction at its end."""
    return page.to_bytes(8, "little") + meta[8:_TRANSACTION_AT] + transaction.to_bytes(8, "little")


class Checkpoints:
    """The checkpoints of one open environment, whose commits are not synced (`sync=False`), by this process. Threads share it.

    `begin` and `ended` enclose each write transaction, whose turn the caller has.
    """

    def __init__(self, inner: lmdb.Environment, read: Reader, files: tuple[Path, Path], boot: str):
        data_file, checkpoint_file = files
        self._inner, self._read, self._boot, self._folder = inner, read, boot, data_file.parent
        self._data = os.open(data_file, os.O_RDONLY | os.O_CLOEXEC)
        self._file = _CheckpointFile(checkpoint_file)
        self._page_bytes = int(inner.stat()["psize"])
        self._pin: lmdb.Transaction[bytes] | None = None
        self._is_writing = self._is_dirty = False
        self._failure: Corrupt | None = None
        self._state, self._making, self._wake = threading.Lock(), threading.Lock(), threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Before a write transaction. Raises Corrupt once a sync has failed: what the disk did not take may be gone."""
        if self._failure is not None:
            raise self._failure
        with self._state:
            self._is_writing = True
            if self._pin is not None:
                return
        try:
            self._make()
        except BaseException:
            self._is_writing = False
            raise

    def ended(self, is_committed: bool) -> None:
        """After a write transaction."""
        with self._state:
            self._is_writing = False
            self._is_dirty |= is_committed
        if not is_committed:
            return
        self._wake.set()
        if self._thread is None:
            thread = threading.Thread(target=self._keep_making, name="checkpoints", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be begun now; the next commit tries again
                thread.start()
                self._thread = thread

    def sync(self) -> None:
        """All commits so far survive a failure of the machine when it returns."""
        if self._failure is not None:
            raise self._failure
        self._make()
        self._rest()

    def close(self) -> None:
        """Make the last checkpoint and end; no transaction of this process may be open."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        try:
            if self._is_dirty and self._failure is None:
                self._make()
        finally:
            if self._pin is not None:
                self._pin.abort()
            os.close(self._data)
            self._file.close()

    def _keep_making(self) -> None:
        while self._wake.wait():
            self._wake.clear()
            if self._closing.wait(INTERVAL_S):
                return
            try:
                self._make()
                self._rest()
            except (lmdb.Error, OSError, StoreUnavailable, Corrupt):
                if self._failure is not None:
                    return  # the next `begin` tells
                self._wake.set()

    def _make(self) -> None:
        """Sync what is committed now, whoever did, and make it the checkpoint unless a later one is there; pin it."""
        with self._making:
            with self._state:
                self._is_dirty = False
            pin, meta = self._moment()
            try:
                self._save(pin.id(), meta)
            except (lmdb.Error, OSError) as error:
                pin.abort()
                with contextlib.suppress(OSError):
                    self._file.note_failure(self._boot)
                self._failure = Corrupt(
                    f"the disk under {self._folder} failed when it was to keep what was written: {error}; what is lost is not known: "
                    "look at the disk, then remove HOME/store and run `twofold build`"
                )
                raise self._failure from error
            except BaseException:
                pin.abort()
                raise
            with self._state:
                old, self._pin = self._pin, pin
            if old is not None:
                old.abort()

    def _moment(self) -> tuple[lmdb.Transaction[bytes], bytes]:
        """A reader of the last commit, and its meta page: nobody writes into that before the commit after the next."""
        for _ in range(_MOST_TRIES):
            pin = self._read()
            transaction = pin.id()
            meta = os.pread(self._data, _META.size, transaction % 2 * self._page_bytes)
            if self._inner.info()["last_txnid"] == transaction:
                _check(meta, transaction)
                return pin, meta
            pin.abort()
        raise lmdb.InvalidError("its meta pages are not those of its last commit")

    def _save(self, transaction: int, meta: bytes) -> None:
        with self._file.locked():
            if self._file.has_failed(self._boot):
                raise OSError(errno.EIO, "a sync has failed since the machine was started")
            last = self._file.read()
            is_there = last is not None and last.boot == self._boot and last.transaction >= transaction
        if is_there:
            return
        self._inner.sync(True)
        with self._file.locked():
            last = self._file.read()
            if last is None or last.boot != self._boot or last.transaction < transaction:
                number = 0 if last is None else last.number + 1
                self._file.write(_Checkpoint(number, self._boot, transaction, self._page_bytes, meta))

    def _rest(self) -> None:
        """Let the pin go where nothing is to be synced, so that it keeps no pages from being used again."""
        with self._state:
            if self._is_writing or self._is_dirty or self._pin is None:
                return
            pin, self._pin = self._pin, None
        pin.abort()


def _check(meta: bytes, transaction: int) -> None:
    flags, magic, version, _, _, written = _META.unpack(meta)
    if (flags, magic, version, written) != (_META_FLAG, _MAGIC, _VERSION, transaction):
        raise lmdb.InvalidError(f"the meta page of transaction {transaction} is not as LMDB 0.9 writes it")
