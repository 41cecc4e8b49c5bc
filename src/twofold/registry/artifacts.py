"""Content-addressed files: a name is the SHA-256 of its bytes; what they mean lives elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from twofold.durable import sync_folder
from twofold.errors import Corrupt, Unavailable, UnknownName
from twofold.registry.base import artifact_name, checked_name

_UNFINISHED = ".unfinished-"


class FileArtifacts:
    """Artifacts in one folder, a file each. Several processes may write at once: they take turns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put_artifact(self, content: bytes) -> str:
        """Store the bytes durably under their name; a file of that name that is damaged is replaced."""
        name = artifact_name(content)
        with exclusive(self._folder / ".lock"):
            self._sweep()
            if self._read(name) != content:
                self._write(name, content)
        return name

    def get_artifact(self, name: str) -> bytes:
        """The bytes of that name, their checksum verified. Raises UnknownName, Corrupt."""
        content = self._read(checked_name(name))
        if content is None:
            raise UnknownName(f"artifact {name} is not in {self._folder}; was the folder copied whole?")
        if artifact_name(content) != name:
            raise Corrupt(
                f"{self._folder / name} no longer holds what was stored: its SHA-256 is {artifact_name(content)}; "
                "restore the file from a copy, or train again"
            )
        return content

    def artifact_path(self, name: str) -> Path:
        """The file of that name, its checksum verified now. Raises UnknownName, Corrupt."""
        self.get_artifact(name)
        return self._folder / name

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        """Appear whole or not at all: the bytes are on disk before the name is, and the name before this returns."""
        unfinished = self._folder / (_UNFINISHED + name)
        try:
            with open(unfinished, "xb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            os.replace(unfinished, self._folder / name)
            sync_folder(self._folder)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise Unavailable(f"{unfinished} cannot be written: {error}; make room there and retry") from error

    def _sweep(self) -> None:
        """Remove what killed writers left: the lock's holder is the only writer, so any unfinished file is theirs."""
        for left in self._folder.glob(_UNFINISHED + "*"):
            left.unlink()


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold an advisory lock that threads and processes wait for; the kernel frees it when its holder dies."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
