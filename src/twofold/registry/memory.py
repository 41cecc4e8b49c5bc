"""The registry in memory, for tests and notebooks: gone with the process."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.errors import UnknownName
from twofold.registry.base import (
    AliasMove,
    Expect,
    Registration,
    artifact_name,
    check_expected,
    check_same,
    checked_name,
    now_or,
    record_text,
    unknown_version,
)


class MemoryRegistry:
    """A Registry of dicts; several threads may use it. Only `artifact_path` writes files, into a temporary folder."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._artifacts: dict[str, bytes] = {}
        self._versions: dict[str, dict[str, tuple[int, str]]] = {}
        self._moves: dict[str, list[AliasMove]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def put_artifact(self, content: bytes) -> str:
        name = artifact_name(content)
        self._artifacts[name] = bytes(content)
        return name

    def get_artifact(self, name: str) -> bytes:
        try:
            return self._artifacts[checked_name(name)]
        except KeyError:
            raise UnknownName(f"artifact {name} is not in this registry") from None

    def artifact_path(self, name: str) -> Path:
        content = self.get_artifact(name)
        with self._lock:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="twofold-registry-")
            path = Path(self._folder.name) / name
            if not path.exists():
                path.write_bytes(content)
        return path

    def register(self, model: str, version: str, record: Mapping[str, Any], *, now_us: int | None = None) -> Registration:
        text = record_text(model, version, record)
        with self._lock:
            created_us, stored = self._versions.setdefault(model, {}).setdefault(version, (now_or(now_us), text))
        check_same(model, version, stored, text)
        return Registration(model, version, created_us, json.loads(stored))

    def get(self, model: str, version: str) -> Registration:
        known = self._versions.get(model, {})
        if version not in known:
            raise unknown_version(model, version, known)
        created_us, stored = known[version]
        return Registration(model, version, created_us, json.loads(stored))

    def versions(self, model: str) -> list[Registration]:
        return [self.get(model, version) for version in list(self._versions.get(model, ()))]

    def alias(self, name: str) -> str | None:
        moves = self._moves.get(name)
        return moves[-1].value if moves else None

    def move_alias(self, name: str, value: str, expect: str | Expect | None = Expect.ANY, *, now_us: int | None = None) -> None:
        self.move_aliases({name: value}, None if isinstance(expect, Expect) else {name: expect}, now_us=now_us)

    def move_aliases(self, moves: Mapping[str, str], expect: Mapping[str, str | None] | None = None, *, now_us: int | None = None) -> None:
        with self._lock:
            for name, expected in (expect or {}).items():
                check_expected(name, self.alias(name), expected)
            for name, value in moves.items():
                if self.alias(name) != value:
                    self._moves.setdefault(name, []).append(AliasMove(value, now_or(now_us)))

    def alias_history(self, name: str) -> list[AliasMove]:
        return list(self._moves.get(name, ()))

    def move_count(self) -> int:
        with self._lock:
            return sum(map(len, self._moves.values()))

    def close(self) -> None:
        if self._folder:
            self._folder.cleanup()
