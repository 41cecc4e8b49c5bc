"""Where things live: `twofold.toml`, `TWOFOLD_*` variables and options, the later ones first."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from twofold.errors import DefinitionError, NotYet, did_you_mean
from twofold.instants import duration_us

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
"""What the URL of a store on Redis or Valkey begins with."""


@dataclass(frozen=True)
class Settings:
    """One URL or path each. Everything embedded lies under `home`.

    `clock` "system", or "replay": the instant that a driver sets in `home/clock`. `partitions` of every source's log are fixed when
    the log is made. `replicas` is the number of serving processes of `twofold up`, `workers` that of workers. `memory_mb` is what history
    and builds may hold of a source's events at once, by estimate; the rest waits in files under the home. `kafka` are options of its
    client, `sources` the topics that hold the events of a source already (see `log.kafka_settings`). `retention` is how long the embedded
    log keeps events that a build has archived, as in "7d"; None keeps all. While more than `max_lag_events` are not applied, or less than
    `min_free_mb` of the home's disk is free, replicas take no events; a worker that has done nothing for `max_stall_s` seconds counts as
    dead. 0 turns a bound off.
    """

    home: Path = field(default=Path(".twofold"))
    project: str | None = None
    log: str = "sqlite:"
    store: str = "lmdb:"
    tables: str = "data"
    compute: str = "local"
    clock: str = "system"
    partitions: int | None = None
    replicas: int = 2
    workers: int = 1
    memory_mb: int = 1536
    retention: str | None = None
    max_lag_events: int = 5_000_000
    min_free_mb: int = 256
    max_stall_s: int = 60
    host: str = "127.0.0.1"
    port: int = 8000
    kafka: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.log != "sqlite:" and not self.log.startswith("kafka:"):
            raise DefinitionError(f"log = {self.log!r}; it is 'sqlite:', or 'kafka://host:port?prefix=name.'")
        if self.store != "lmdb:" and self.store.partition("://")[0] not in REDIS_SCHEMES:
            raise DefinitionError(
                f"store = {self.store.rpartition('@')[2]!r}; it is 'lmdb:', or 'redis://host:port/db?name=...' "
                f"(also {', '.join(REDIS_SCHEMES[1:])})"
            )
        if self.compute != "local":
            raise NotYet(f"compute = {self.compute!r} is not carried out by this version; use 'local'")
        if "://" in self.tables:
            raise NotYet(f"tables = {self.tables!r} is not carried out by this version; use a folder")
        if self.clock not in ("system", "replay"):
            raise DefinitionError(f"clock = {self.clock!r}; it is 'system' or 'replay'")
        if self.retention is not None:
            duration_us(self.retention)
            if self.log != "sqlite:":
                raise DefinitionError("retention is of the embedded log; how long Kafka keeps events is retention.ms of its topics")
        for name in _OF_KAFKA:
            if getattr(self, name) and self.log == "sqlite:":
                raise DefinitionError(
                    f"[{name}] has no effect with log = 'sqlite:': set log = \"kafka://...\", or leave it out; one that belongs to "
                    f"some environments stands in theirs, as in [env.prod.{name}], and {name} = {{}} in an environment takes it away"
                )
        if self.memory_mb < 1:
            raise DefinitionError(f"memory_mb = {self.memory_mb}; it is at least 1")
        if min(self.max_lag_events, self.min_free_mb, self.max_stall_s) < 0:
            raise DefinitionError("max_lag_events, min_free_mb and max_stall_s are at least 0, which turns the bound off")
        if not 0 <= self.port <= 65535:
            raise DefinitionError(f"port = {self.port}; it is from 0 to 65535")
        if min(self.replicas, self.workers) < 1 or (self.partitions is not None and not 1 <= self.partitions <= 1024):
            raise DefinitionError("replicas and workers are at least 1, partitions from 1 to 1024")

    @property
    def run(self) -> Path:
        """Locks and bells of the running processes."""
        return self.home / "run"

    @property
    def tables_folder(self) -> Path:
        """Folder of the tables: under the home unless it is an absolute path."""
        return self.home / self.tables


def read_settings(
    options: Mapping[str, Any], folder: Path = Path(), environment: Mapping[str, str] = os.environ, env: str | None = None
) -> Settings:
    """Settings from `folder/twofold.toml` (its `[env.<env>]` over the rest), `TWOFOLD_<NAME>` and options that are not None.

    Where `env` is None, `TWOFOLD_ENV` names it. Raises DefinitionError for a setting that does not exist, with the nearest name.
    """
    known = {item.name for item in fields(Settings)}
    path = folder / "twofold.toml"
    values = _of_file(path, env or environment.get("TWOFOLD_ENV") or None)
    for name in values:
        if name not in known:
            raise DefinitionError(f"{path}: there is no setting {name!r}.{did_you_mean(name, known)}")
    if isinstance(values.get("home"), str):
        values["home"] = folder / values["home"]
    values |= {name: environment[f"TWOFOLD_{name.upper()}"] for name in known if f"TWOFOLD_{name.upper()}" in environment}
    for name, value in options.items():
        if name not in known:
            raise DefinitionError(f"there is no setting {name!r}.{did_you_mean(name, known)}")
        if value is not None:
            values[name] = value
    return Settings(**{name: _typed(name, value) for name, value in values.items()})


def _of_file(path: Path, env: str | None) -> dict[str, Any]:
    """What `twofold.toml` says, for `env`; nothing where there is no such file. Raises DefinitionError."""
    if env is not None and not path.exists():
        raise DefinitionError(f"there is no {path}, which [env.{env}] could stand in")
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text()) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path} is no TOML: {error}") from None
    environments: Any = content.pop("env", {})
    if not isinstance(environments, dict) or not all(isinstance(section, dict) for section in environments.values()):
        raise DefinitionError(f"{path}: env = {environments!r}; write sections, as in [env.prod]")
    if env is not None and env not in environments:
        raise DefinitionError(f"{path} has no [env.{env}]; it has {', '.join(environments) or 'none'}")
    return {**content, **environments.get(env, {})}


def _typed(name: str, value: Any) -> Any:
    if name in _NUMBERS:
        if type(value) is int:
            return value
        try:
            return int(value if isinstance(value, str) else "")
        except ValueError:
            raise DefinitionError(f"{name} = {value!r} is no whole number") from None
    if name in _TABLES:
        try:
            return dict(json.loads(value) if isinstance(value, str) else value)
        except (TypeError, ValueError):
            raise DefinitionError(f"{name} = {value!r} is no table; write a section [{name}], or as a variable a JSON object") from None
    if not isinstance(value, str | Path):
        raise DefinitionError(f"{name} = {value!r} is no text; write it in quotes")
    if value == "":
        raise DefinitionError(f"{name} is empty; give it a value, or leave it out (also the variable TWOFOLD_{name.upper()})")
    return Path(value) if name == "home" else value


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that give another process the same settings."""
    values = {item.name: getattr(settings, item.name) for item in fields(Settings)}
    return {
        f"TWOFOLD_{name.upper()}": json.dumps(dict(value)) if name in _TABLES else str(value)
        for name, value in values.items()
        if value is not None
    }


_NUMBERS = ("partitions", "replicas", "workers", "memory_mb", "port", "max_lag_events", "min_free_mb", "max_stall_s")
_OF_KAFKA = ("kafka", "sources")
"""Settings that say something only where the log is Kafka."""
_TABLES = _OF_KAFKA
"""Settings that are tables; as a variable each is a JSON object."""
