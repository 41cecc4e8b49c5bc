"""The engines of a home: the only file that names concrete logs, stores, tables and registries."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twofold.bell import Bell
from twofold.clocks import ReplayClock, SystemClock
from twofold.errors import DefinitionError, LogMismatch, Unavailable
from twofold.fail_points import fail_point
from twofold.home_lock import HomeLock
from twofold.instants import Clock
from twofold.log.base import Append, EventLog, Position
from twofold.plan.serving import SourcePlan
from twofold.settings import Settings

if TYPE_CHECKING:
    from twofold.batch.spill import Scratch
    from twofold.registry.sqlite import SqliteRegistry
    from twofold.store.base import Store
    from twofold.tables.deltalake import DeltaTables

APPENDED, APPLIED, PLAN = "appended", "applied", "plan"
"""Bell channels: the log has grown; the store has applied more of it; another plan or model is live."""


def clock_of(settings: Settings) -> Clock:
    """The project's clock."""
    return ReplayClock(settings.home / "clock") if settings.clock == "replay" else SystemClock()


class Home:
    """The engines of a home, each opened when it is first needed."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        if isinstance(clock, str):
            raise DefinitionError(f"clock = {clock!r} is no clock; give a tw.ManualClock, or tw.ReplayClock(path), or leave it out")
        self.clock = clock or clock_of(settings)
        self._is_closed = False
        try:
            self.settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"home {self.settings.home} cannot be made: {error.strerror}; take another --home") from None

    @functools.cached_property
    def bell(self) -> Bell:
        """Wakes the other processes of the home."""
        return Bell(self.settings.run)

    @functools.cached_property
    def log(self) -> EventLog:
        """The event log. Raises LogMismatch where it has another number of partitions than the settings say."""
        self._refuse_closed()
        found, wanted = self._opened_log(), self.settings.partitions
        if wanted not in (None, found.partitions):
            number = found.partitions
            found.close()
            raise LogMismatch(
                f"partitions = {wanted}, but the log was made with {number}, and that is fixed: set {number}, or leave it out; for another "
                "number begin another home, or another prefix= on Kafka"
            )
        return found

    def _opened_log(self) -> EventLog:
        if self.settings.log.startswith("kafka:"):
            from twofold.log.kafka import KafkaLog
            from twofold.log.kafka_settings import kafka_settings

            found = kafka_settings(self.settings.log, self.settings.kafka, self.settings.sources)
            return KafkaLog(found, self.settings.partitions)
        from twofold.log.sqlite import SqliteLog

        return SqliteLog(self.settings.home / "log.sqlite", self.settings.partitions)

    @functools.cached_property
    def store(self) -> Store:
        """The online store."""
        self._refuse_closed()
        if self.settings.store != "lmdb:":
            from twofold.store.redis import RedisStore

            return RedisStore(self.settings.store)
        from twofold.store.lmdb import LmdbStore

        return LmdbStore(self.settings.home / "store")

    @functools.cached_property
    def tables(self) -> DeltaTables:
        """History and archive."""
        from twofold.tables.deltalake import DeltaTables

        return DeltaTables(self.settings.tables_folder)

    @functools.cached_property
    def scratch(self) -> Scratch:
        """How much memory long work may take for events, and the folder for what does not fit."""
        from twofold.batch.spill import Scratch

        return Scratch(self.settings.home / "tmp", self.settings.memory_mb << 20)

    @functools.cached_property
    def registry(self) -> SqliteRegistry:
        """Models, serving plans and what is live."""
        self._refuse_closed()
        from twofold.registry.sqlite import SqliteRegistry

        return SqliteRegistry(self.settings.home / "registry")

    def lock(self, task: str, wait_s: float = 0.0) -> HomeLock:
        """The exclusive right to a task of the home."""
        return HomeLock(self.settings.run, task, wait_s)

    def append_columns(self, source: SourcePlan, columns: Mapping[str, list[Any]]) -> Position:
        """Append checked columns (see `plan.ingest.check_rows`); durable when it returns. Needs no Polars."""
        from twofold.log.records import appends

        return self.append_batches(appends(source, columns, self.log.partitions, self.log.encoding))

    def append_batches(self, batches: Sequence[Append]) -> Position:
        """Append record batches in one commit and wake the worker."""
        if not batches:
            return Position(self.log.uuid, {})
        fail_point("ingest.encoded")
        position = self.log.append(batches, self.clock.now_us())
        fail_point("ingest.appended")
        self.bell.ring(APPENDED)
        return position

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise Unavailable(f"home {self.settings.home} was closed; open the project again")

    def close(self) -> None:
        """Close what was opened; nothing is opened any more."""
        self._is_closed = True
        for name in ("log", "store", "registry"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
