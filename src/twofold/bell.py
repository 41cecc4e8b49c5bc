"""Wakes processes that wait for something, over datagram sockets in a directory; it carries no data and keeps no rings."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import select
import socket
import tempfile
from pathlib import Path
from types import TracebackType

from twofold.errors import Unavailable

_MAX_ADDRESS_BYTES = 103
"""The shortest limit of a socket's address on the systems we know (Linux 107, macOS 103)."""

_MAX_NAME_BYTES = 32


class Bell:
    """A cross-process wake-up: whoever rings a channel wakes all who listen to it, in any process that uses the same directory."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = _short_enough(Path(directory).resolve())

    def ring(self, channel: str) -> int:
        """Wake every listener of `channel`; the number that was reached, those that have not yet answered an earlier ring included.

        Never blocks and never raises: whoever rings has finished its own work and must not fail because a listener did.
        """
        prefix = _prefix(channel)
        try:
            names = [name for name in os.listdir(self._directory) if name.startswith(prefix)]
        except OSError:
            return 0  # no directory: nobody ever listened
        return sum(_wake(f"{self._directory}/{name}") for name in names)

    def listen(self, channel: str) -> Listener:
        """A listener that every later ring of `channel` wakes. Raises Unavailable where no socket can be made in the directory."""
        name = f"{_prefix(channel)}{os.getpid()}.{secrets.token_hex(4)}"
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            receiver.setblocking(False)
            # A socket file exists a moment before it answers, and who rings then would take it for dead: it gets its name when it is ready.
            receiver.bind(f"{self._directory}/.{name}")
            os.rename(f"{self._directory}/.{name}", f"{self._directory}/{name}")
        except OSError as error:
            receiver.close()
            raise Unavailable(
                f"cannot listen in {self._directory}: {error}; the directory must be writable and its file system must hold sockets"
            ) from None
        return Listener(receiver, self._directory / name)


class Listener:
    """Hears the rings of one channel from its creation on; a context manager. One thread at a time may wait."""

    def __init__(self, receiver: socket.socket, path: Path) -> None:
        self._receiver = receiver
        self._path = path

    def wait(self, timeout_s: float) -> bool:
        """True as soon as the channel was rung since the last `wait` or `drain`, however often; False after `timeout_s`."""
        poll = select.poll()
        poll.register(self._receiver, select.POLLIN)
        return bool(poll.poll(max(timeout_s, 0) * 1000)) and self.drain()

    def drain(self) -> bool:
        """Forget all rings so far, at once; True if there were any. Look for what happened after this call, not before."""
        was_rung = False
        with contextlib.suppress(BlockingIOError):
            while True:
                self._receiver.recv(16)
                was_rung = True
        return was_rung

    def fileno(self) -> int:
        """Readable while there are rings to drain; for `select` and `asyncio`'s `add_reader`."""
        return self._receiver.fileno()

    def close(self) -> None:
        """Stop listening; nothing happens the second time."""
        self._path.unlink(missing_ok=True)
        self._receiver.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _wake(address: str) -> bool:
    """Send one ring to one socket, from a socket of its own.

    What a stopped listener has not read counts against the sender's buffer; with one sender for all, its backlog would silence the others.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(b"\0", address)
    except BlockingIOError:
        return True  # its queue is full of rings that it has not heard yet
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            os.unlink(address)  # nobody is bound to it and nobody ever will be: names are never used twice
        return False
    except OSError:
        return False  # it closed in this moment, or belongs to another user
    return True


def _prefix(channel: str) -> str:
    return hashlib.blake2b(channel.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest() + "."


def _short_enough(directory: Path) -> Path:
    """The directory itself; where addresses in it would be too long, one named by its hash in the system's temporary directory."""
    longest = _MAX_ADDRESS_BYTES - _MAX_NAME_BYTES
    if len(os.fsencode(directory)) <= longest:
        return directory
    digest = hashlib.blake2b(os.fsencode(directory), digest_size=8).hexdigest()
    short = Path(tempfile.gettempdir()) / f"twofold-{digest}"
    if len(os.fsencode(short)) > longest:
        raise Unavailable(
            f"no directory for sockets: {directory} and {short} are too long; set TMPDIR to a directory of at most {longest - 25} bytes"
        )
    short.mkdir(mode=0o700, exist_ok=True)
    if short.lstat().st_uid != os.getuid() or short.is_symlink():
        raise Unavailable(f"{short} was made by another user; remove it, or move {directory} to a path of at most {longest} bytes")
    return short
