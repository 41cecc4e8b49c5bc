"""The protocol of a registry: artifacts, model versions and aliases; no implementation lives here.

A project keeps the alias `plan` (name of the artifact with the serving plan) and `live/<model>` (version of the model
that answers). What an alias names is stored before the alias moves, so a reader never finds an alias without it.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from twofold.clocks import SystemClock
from twofold.errors import DataError, Fenced, UnknownName, VersionError, did_you_mean

PLAN_ALIAS = "plan"


def live_alias(model: str) -> str:
    """Name of the alias whose value is the version of `model` that answers."""
    return f"live/{model}"


@dataclass(frozen=True)
class Registration:
    """A registered model version. `record` is JSON: what it was trained on, how good it is, which artifact holds it."""

    model: str
    version: str
    created_us: int
    record: dict[str, Any]


@dataclass(frozen=True)
class AliasMove:
    """One move of an alias: the value it has had since `moved_us`."""

    value: str
    moved_us: int


class Expect(enum.Enum):
    """Stands for "whatever value the alias has now"."""

    ANY = enum.auto()


class Artifacts(Protocol):
    """Immutable bytes, named by their content."""

    def put_artifact(self, content: bytes) -> str:
        """Store `content`; its name is the SHA-256 of it in hexadecimal, the same for the same bytes.

        Durable when it returns; after a crash it is there whole or not at all. Raises Unavailable (disk full).
        """
        ...

    def get_artifact(self, name: str) -> bytes:
        """The bytes of that name. Raises UnknownName where there are none, Corrupt where they have changed since."""
        ...

    def artifact_path(self, name: str) -> Path:
        """A file with the bytes of that name, checked as by `get_artifact`; to be read, never written."""
        ...


class Aliases(Protocol):
    """Names for what changes: a value each, with all values it ever had. Several aliases move as one."""

    def alias(self, name: str) -> str | None:
        """The present value; None where the alias was never set."""
        ...

    def move_alias(self, name: str, value: str, expect: str | Expect | None = Expect.ANY, *, now_us: int | None = None) -> None:
        """Set the alias, if its value is `expect` (None: never set). Nothing happens where it is `value` already.

        Durable when it returns. Raises Fenced where the value is another than expected; then nothing has changed.
        `now_us` is for the history; left out, it is this machine's clock.
        """
        ...

    def move_aliases(self, moves: Mapping[str, str], expect: Mapping[str, str | None] | None = None, *, now_us: int | None = None) -> None:
        """`move_alias` for several: readers and crashes see all of the moves or none. `expect` may name any aliases."""
        ...

    def alias_history(self, name: str) -> list[AliasMove]:
        """All values the alias had, oldest first, the present one last; a roll-back is a move like any other."""
        ...

    def move_count(self) -> int:
        """How many moves of aliases there ever were: while it is the same, no alias has moved. Cheap enough to poll."""
        ...


class Registry(Artifacts, Aliases, Protocol):
    """What was trained and what is live. Several processes and threads may use it at once."""

    def register(self, model: str, version: str, record: Mapping[str, Any], *, now_us: int | None = None) -> Registration:
        """Store a version; again with the same record it changes nothing and returns the first registration.

        Durable when it returns. Raises VersionError where the version exists with another record, DataError where the
        record is no JSON (NaN is none). `now_us` becomes `created_us`; left out, it is this machine's clock.
        """
        ...

    def get(self, model: str, version: str) -> Registration:
        """One version. Raises UnknownName where there is none."""
        ...

    def versions(self, model: str) -> list[Registration]:
        """All versions of a model in the order of their registration, the newest last; empty where there is none."""
        ...

    def close(self) -> None:
        """Release files; no call may follow."""
        ...


def artifact_name(content: bytes) -> str:
    """SHA-256 of the content in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def checked_name(name: str) -> str:
    """`name`, if it can be an artifact's; never a path that leads elsewhere."""
    if not re.fullmatch(r"[0-9a-f]{64}", name):
        raise UnknownName(f"{name!r} is no artifact; names are the 64 hexadecimal digits that put_artifact returned")
    return name


def record_text(model: str, version: str, record: Mapping[str, Any]) -> str:
    """Canonical JSON of a record, the same for mappings in any order; raises DataError where it is no JSON."""
    try:
        return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the record of {model}@{version} cannot be written as JSON: {error}; "
            "give text, numbers that are finite, booleans, None, lists and dicts"
        ) from None


def check_same(model: str, version: str, stored: str, offered: str) -> None:
    """Raises VersionError where a version is registered again with another record."""
    if stored != offered:
        old, new = json.loads(stored), json.loads(offered)
        fields = sorted(field for field in old.keys() | new.keys() if old.get(field) != new.get(field))
        raise VersionError(
            f"{model}@{version} is registered already with another record (they differ in {', '.join(fields)}); "
            "a version never changes: register this one under a version of its own"
        )


def check_expected(name: str, actual: str | None, expected: str | None) -> None:
    """Raises Fenced where an alias has another value than the caller saw."""
    if actual != expected:
        raise Fenced(f"alias {name!r} is {actual!r}, not {expected!r} as expected: it was moved in between; read it again and decide anew")


def unknown_version(model: str, version: str, known: Iterable[str]) -> UnknownName:
    """The error for a version that is not there."""
    names = list(known)
    has = f"it has {', '.join(names[-5:])}" if names else "it has none: train it first"
    return UnknownName(f"model {model!r} has no version {version!r}; {has}.{did_you_mean(version, names)}")


def now_or(now_us: int | None) -> int:
    """The given instant, or this machine's clock."""
    return SystemClock().now_us() if now_us is None else now_us
