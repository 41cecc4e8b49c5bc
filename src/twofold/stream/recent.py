"""Blobs that a worker has written last, so that it need not read them again; whether they still stand is its caller's to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_MOST_BYTES = 256 << 20
_ENTRY_BYTES = 200
"""What an entry takes beside its blob, about."""


class RecentBlobs:
    """Key -> blob as it was written last, in about `most_bytes` of memory: the half that has not been needed for longest goes at once."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self.forget()

    def forget(self) -> None:
        """Know nothing."""
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def read(self, keys: Sequence[bytes], stored: Callable[[Sequence[bytes]], Sequence[bytes | None]]) -> list[bytes | None]:
        """The blobs under `keys`, in their order; those that are not known from `stored`."""
        found: list[bytes | None] = list(map(self._young.get, keys))
        if None not in found:
            return found
        if self._old:
            found = [self._old.get(key) if blob is None else blob for key, blob in zip(keys, found, strict=True)]
        if missing := [i for i, blob in enumerate(found) if blob is None]:
            for i, blob in zip(missing, stored([keys[i] for i in missing]), strict=True):
                found[i] = blob
        return found

    def note(self, keys: Sequence[bytes], blobs: Sequence[bytes]) -> None:
        """These are written; an empty blob is none."""
        self._young.update(zip(keys, blobs, strict=True))
        about = len(self._young) * (_ENTRY_BYTES + sum(map(len, blobs)) // len(blobs))
        if about > self._most_bytes // 2:
            self._young, self._old = {}, self._young
