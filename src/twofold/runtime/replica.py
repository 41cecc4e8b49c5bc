"""What a serving process holds: plan, readers, predictors, ingest. It never runs the project file and never imports Polars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.errors import LogUnavailable, NotBuilt, known
from twofold.log.base import Position
from twofold.plan import layout
from twofold.plan.ingest import check_rows
from twofold.plan.serving import PredictorPlan, ServingPlan, decode_plan
from twofold.predictors.base import Predictor, load_predictor
from twofold.registry.base import PLAN_ALIAS
from twofold.runtime.facts import failed_calls, metrics_of
from twofold.runtime.home import Home
from twofold.serve.cache import PredictionCache
from twofold.serve.deadline import InThreads
from twofold.serve.features import FeatureReader
from twofold.serve.joined import joined_values
from twofold.serve.predict import ModelServer
from twofold.store.applied import applied_offsets
from twofold.watch.metrics import Facts
from twofold.watch.served_log import ServedLog


class Replica:
    """Serves the plan that is live in the registry of a home, and takes events in. A new plan replaces the old one as a whole.

    Raises NotBuilt where no plan was ever published.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._served_log = ServedLog(home.settings.home / "served")
        self._cache = PredictionCache()
        self._isolation = InThreads() if home.store.has_many_writers else None
        self._moves = -1
        self.server = self._load()

    @property
    def plan(self) -> ServingPlan:
        """The plan that is served now."""
        return self.server.plan

    @property
    def reader(self) -> FeatureReader:
        """Reads the plan's views."""
        return self.server.reader

    def refresh(self) -> bool:
        """Serve the plan that is live now; returns whether it is another. Calls under way keep the server that they began with."""
        if self._home.registry.move_count() == self._moves:
            return False
        self.server = self._load()
        return True

    def _load(self) -> ModelServer:
        home = self._home
        moves = home.registry.move_count()
        artifact = home.registry.alias(PLAN_ALIAS)
        if artifact is None:
            raise NotBuilt(
                f"home {home.settings.home} has no serving plan; run `twofold build` or `twofold up` with the project file first"
            )
        plan = decode_plan(home.registry.get_artifact(artifact))
        reader = FeatureReader(plan, home.store, *self._log(), home.clock)
        reader.warm()
        server = ModelServer(plan, reader, self._predictor, self._served_log.record, home.bell, self._cache, self._isolation)
        self._moves = moves  # only now: a load that fails is tried again
        return server

    def _log(self) -> tuple[str, int]:
        """UUID and partitions of the log; where it does not answer, those of the log that the store was made for."""
        try:
            return self._home.log.uuid, self._home.log.partitions
        except LogUnavailable:
            with self._home.store.snapshot() as snapshot:
                uuid, partitions = snapshot.multi_get([layout.LOG_UUID, layout.PARTITIONS])
            if uuid is None or partitions is None:
                raise
            return uuid.decode(), layout.decode_int(partitions)

    def _predictor(self, plan: PredictorPlan) -> Predictor:
        return load_predictor(plan.format, self._home.registry.artifact_path(plan.artifact), plan.columns)

    def ingest(self, source: str, rows: Sequence[Mapping[str, Any]]) -> Position:
        """Append events, all or none; durable when it returns. Raises SchemaMismatch, UnknownName, LogUnavailable.

        NotBuilt where the source joins a table that was never built.
        """
        server = self.server  # one plan for all of the call
        plan = known(server.plan.sources, source, "source")
        columns = check_rows(plan, rows)
        return self._home.append_columns(plan, columns | joined_values(plan, columns, server.reader) if plan.joins else columns)

    def facts(self) -> list[Facts]:
        """What log and store say of the speed layer, and what has failed in reads since the plan was taken up, as metrics."""
        facts = metrics_of(self._home, [name for name, source in self.plan.sources.items() if source.takes_events])
        return [*facts, failed_calls("read", "Calls of own aggregates that failed in reads of this process.", self.reader.failures())]

    def lag(self) -> int:
        """How many events of the plan's sources are in the log and not applied."""
        ends = self._home.log.end_offsets([name for name, source in self.plan.sources.items() if source.takes_events])
        with self._home.store.snapshot() as snapshot:
            applied = applied_offsets(snapshot, ends)
        return sum(max(0, end - applied[place]) for place, end in ends.items())

    def close(self) -> None:
        """Give back what the replica opened of its own."""
        self._served_log.close()
