"""LMDB environments of this process: opened once a file, shared by its users, refused after a fork; their content is not known here."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

from twofold.errors import Corrupt, StoreUnavailable, TwofoldError
from twofold.store.checkpoints import Checkpoints

Inode = tuple[int, int]

_DAMAGED = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.VersionMismatchError)
_WRITES_PER_READER_CHECK = 256
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # LMDB says EIO where a write ended early

_open: dict[Inode, Environment] = {}
_lock = threading.Lock()


class Environment:
    """An open LMDB environment that counts its users; the last one to release it closes it."""

    def __init__(self, what: str, inner: lmdb.Environment):
        self.what = what
        self.inner = inner
        self.checkpoints: Checkpoints | None = None
        self._users = 0
        self.is_inherited = False
        self._refusal = ""
        self._writes = 0

    def check(self) -> None:
        """Raises StoreUnavailable after a fork or the last release."""
        if self._refusal:
            raise StoreUnavailable(self._refusal)

    def read(self) -> lmdb.Transaction[bytes]:
        """A read transaction. Raises StoreUnavailable where living processes have all reader slots, or where `check` does."""
        if self._refusal:
            raise StoreUnavailable(self._refusal)
        try:
            return self.inner.begin()
        except lmdb.ReadersFullError:
            self.inner.reader_check()  # frees the slots of dead processes
        except lmdb.Error as error:
            raise translated(error, self.what) from error
        with lmdb_errors(self.what):
            return self.inner.begin()

    def write(self) -> lmdb.Transaction[bytes]:
        """The write transaction, after which `ended` is due. Dead readers, whose snapshots would keep the file growing, are looked for."""
        self.check()
        self._writes += 1
        with lmdb_errors(self.what):
            if self._writes % _WRITES_PER_READER_CHECK == 0:
                self.inner.reader_check()
            if self.checkpoints is None:
                return self.inner.begin(write=True)
            self.checkpoints.begin()
            try:
                return self.inner.begin(write=True)
            except BaseException:
                self.checkpoints.ended(is_committed=False)
                raise

    def ended(self, is_committed: bool) -> None:
        """A write transaction has ended."""
        if self.checkpoints is not None:
            self.checkpoints.ended(is_committed)

    def sync(self) -> None:
        """All commits so far are durable when it returns."""
        self.check()
        with lmdb_errors(self.what):
            if self.checkpoints is None:
                self.inner.sync(True)
            else:
                self.checkpoints.sync()

    def share(self) -> Environment:
        """One user more."""
        self.check()
        self._users += 1
        return self

    def release(self) -> None:
        """One user less."""
        with _lock:
            self._users -= 1
            if self._users or self._refusal:
                return
            for inode in [inode for inode, known in _open.items() if known is self]:
                del _open[inode]
            try:
                if self.checkpoints is not None:
                    self.checkpoints.close()
            finally:
                self._refusal = f"{self.what} is closed"
                self.inner.close()

    def refuse_after_fork(self) -> None:
        """The maps and locks of LMDB belong to the process that opened them."""
        self.is_inherited = True
        self._refusal = (
            f"{self.what} was open when process {os.getpid()} was forked from {os.getppid()}, and LMDB does not survive a fork; "
            "start processes with spawn, or fork before opening the store"
        )


def open_environment(
    what: str, data_file: Path, opener: Callable[[], lmdb.Environment], keeper: Callable[[Environment], Checkpoints] | None = None
) -> Environment:
    """The environment of `data_file`, opened with `opener` unless this process has it open already; `keeper` makes its checkpoints.

    LMDB must not have one file open twice in a process. Files are told apart by inode, so a file that was replaced
    under the same name is another one. Raises what `translated` makes of LMDB's errors.
    """
    with _lock:
        while True:
            before = _inode(data_file)
            if before is not None and before in _open:
                return _open[before].share()
            with lmdb_errors(what):
                inner = opener()
            if before is not None and before == _inode(data_file):
                made = Environment(what, inner)
                if keeper is not None:
                    with lmdb_errors(what):
                        made.checkpoints = keeper(made)
                _open[before] = made
                return made.share()
            inner.close()  # the file was made or replaced just now, and it is not known which one was opened


def used_bytes(inner: lmdb.Environment) -> int:
    """Size of the file up to its last page."""
    return int((inner.info()["last_pgno"] + 1) * inner.stat()["psize"])


def fill_up(inner: lmdb.Environment, data_file: Path) -> None:
    """Have the file reach its last page: to read a mapped page beyond its end would kill the process, one of zeros is Corrupt.

    Last pages that are free were perhaps never written, so a short file need not be a damaged one.
    """
    size, used = data_file.stat().st_size, used_bytes(inner)
    if size < used:
        with contextlib.suppress(OSError), open(data_file, "r+b") as file:
            os.posix_fallocate(file.fileno(), size, used - size)  # changes nothing that another process has written meanwhile


def open_unshared(what: str, opener: Callable[[], lmdb.Environment]) -> lmdb.Environment:
    """A new file's environment, which its caller closes.

    Not while another is being closed: LMDB's binding forgets a closed file a moment after its inode is free for a new one.
    """
    with _lock, lmdb_errors(what):
        return opener()


def _inode(path: Path) -> Inode | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def lmdb_errors(what: str) -> Iterator[None]:
    """Raises the project's errors for those of LMDB and the file system."""
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise translated(error, what) from error


def translated(error: lmdb.Error | OSError, what: str) -> TwofoldError:
    """The project's error for one of LMDB or the file system; `what` says where."""
    code = error.code if isinstance(error, lmdb.Error) else error.errno
    if isinstance(error, _DAMAGED):
        return Corrupt(f"{what} is damaged: {error}; do not use it, rebuild it from the log")
    if isinstance(error, lmdb.MapFullError):
        return StoreUnavailable(f"{what} has reached its largest size; nothing was written; open it with a larger map_size= ({error})")
    if code in _NO_SPACE:
        return StoreUnavailable(f"{what}: the disk is full or fails; nothing was written; look at its free space, then try again ({error})")
    if isinstance(error, lmdb.ReadersFullError):
        return StoreUnavailable(f"{what}: all reader slots are taken by living processes; end some, or open it with larger max_readers=")
    if isinstance(error, lmdb.MapResizedError):
        return StoreUnavailable(f"{what} has grown beyond the map_size= it was opened with; open it with that of its other users")
    if isinstance(error, lmdb.PanicError):
        return StoreUnavailable(f"{what} met an error of the disk and must be opened anew ({error})")
    return StoreUnavailable(f"{what} does not answer: {error}")


def _refuse_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    for environment in _open.values():
        environment.refuse_after_fork()


os.register_at_fork(after_in_child=_refuse_in_child)
