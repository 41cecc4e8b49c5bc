"""A project opened on its home: what a person calls; each method hands on to the rooms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from twofold.errors import DataError
from twofold.instants import Duration, Instant, duration_us, to_us
from twofold.log.base import Position, TrimmableLog
from twofold.plan.serving import SourcePlan
from twofold.progress import Progress, silent
from twofold.runtime.home import Home

if TYPE_CHECKING:
    import polars as pl

    from twofold.batch.events import SourceEvents
    from twofold.batch.generation import Built
    from twofold.learn.train import Trained
    from twofold.plan.compile import CompiledProject
    from twofold.runtime.replaying import Replayed
    from twofold.runtime.replica import Replica
    from twofold.runtime.status import Status
    from twofold.serve.features import FeatureReader
    from twofold.watch.audit import Audit

_KEPT_PER_MEMORY = 8
"""A source's events are kept for the next call where they take at most this part of the memory setting."""


class Opened:
    """A project with its home: everything a person calls. A context manager; calls of several processes may run beside each other."""

    def __init__(self, compiled: CompiledProject, home: Home) -> None:
        self.compiled, self.home = compiled, home
        self._events: dict[str, tuple[Any, pl.DataFrame]] = {}
        self._present_events: dict[str, SourceEvents] = {}

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Release files; all state stays under the home."""
        self.home.close()

    # --- events in ---

    def load(self, source: str, table: Any, at: Instant | None = None, progress: Progress = silent) -> int:
        """Load history into a source or table; returns its history version.

        Takes Polars, Arrow or pandas tables, LazyFrames, lists of dicts, paths of Parquet or CSV. Integers fit float columns, NaN is
        null, extra columns are left out. The same content again changes nothing. Reads see it once a generation is built on it.
        All of it is loaded or nothing, also where the process is killed: what was decided by then, the next load or build finishes.
        `at` is when the snapshot was taken, for a table with `snapshots=True` whose rows do not say it.
        """
        from twofold.runtime.loading import load

        return load(self, source, table, None if at is None else to_us(at), progress)

    def append(self, source: str, rows: Any) -> Position:
        """Append events to the log, all or none of them; durable when it returns. Takes a dict, a list of dicts or a table.

        Where the source joins tables, each event takes the rows of its keys along (see `Events.join`); NotBuilt before they are built.
        """
        from twofold.plan.ingest import check_rows, require_takes_events

        plan = self.compiled.source(source)
        require_takes_events(plan)
        if isinstance(rows, Mapping):
            rows = [rows]
        if isinstance(rows, Sequence) and not isinstance(rows, str):
            columns = check_rows(plan, rows)
            return self.home.append_columns(plan, columns | self._joined(plan, columns) if plan.joins else columns)
        return self._append_frame(plan, rows)

    def _append_frame(self, plan: SourcePlan, table: Any) -> Position:
        from twofold.log.records import frame_appends
        from twofold.plan.inputs import with_stored
        from twofold.tables.frames import conform

        frame = conform(plan, table, strict=True).frame
        if plan.joins:
            keys = {name: frame[name].to_list() for join in plan.joins for name in join.keys}
            frame = with_stored(plan, frame, self._joined(plan, keys))
        return self.home.append_batches(frame_appends(plan, frame, self.home.log.partitions, self.home.log.encoding))

    def _joined(self, plan: SourcePlan, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """What events take along of the tables that their source joins."""
        from twofold.serve.joined import joined_values

        return joined_values(plan, columns, self._reader)

    def catch_up(self) -> int:
        """Apply all that the log holds now; returns the number of events applied here.

        Where a worker runs, on this home or elsewhere on a store with many writers, waits until that has done it (and returns 0).
        """
        from twofold.runtime.running import catch_up

        return catch_up(self)

    # --- the batch layer ---

    def build(self, at: Instant | None = None, views: Iterable[str] | None = None, progress: Progress = silent) -> list[Built]:
        """Archive the log and publish a new generation of every view that needs one, compacted at the clock `at`.

        Makes the speed layer follow the project's views first, unless a worker process does so already. Before a view is built for the
        first time, or anew after servers have lost it, the worker has applied what the log holds now.
        """
        from twofold.batch.generation import Builder
        from twofold.runtime.loading import finish_loads
        from twofold.runtime.running import has_worker, wait_for_all_of_new
        from twofold.runtime.tasks import TASK_WAIT_S, alone

        if isinstance(views, str):
            raise DataError(f"views = {views!r} is one name; give a list of them, as in [{views!r}]")
        names = None if views is None else list(views)
        with alone(self.home, "build", TASK_WAIT_S, progress) as progress:
            finish_loads(self)
            if has_worker(self.home):
                wait_for_all_of_new(self, names)
            else:
                self.catch_up()
            base_us = self.home.clock.now_us() if at is None else to_us(at)
            builder = Builder(self.compiled, self.home.log, self.home.store, self.home.tables, self.home.scratch)
            built = builder.build(base_us, names, progress)
            self._drop_archived(base_us)
        self.publish_plan()
        return built

    def _drop_archived(self, now_us: int) -> None:
        """Drop from the log what is archived and older than the setting `retention`, where it is set."""
        from twofold.batch.retention import drop_archived

        retention, log = self.home.settings.retention, self.home.log
        if retention is not None and isinstance(log, TrimmableLog):
            before_us = min(now_us, self.home.clock.now_us()) - duration_us(retention)
            drop_archived(self.compiled, log, self.home.store, self.home.tables, before_us)

    # --- features ---

    def features(self, view: str, keys: Any, at: Instant | None = None, status: bool = False) -> pl.DataFrame:
        """Online features of a view or table: key columns, then features; one row a key, in order.

        `keys` is a list of values (one key column), of tuples or dicts, or a table. `status` adds `status` and `age_s`,
        called `__status` and `__age_s` where the view has a column of that name.
        """
        from twofold.runtime.answers import feature_frame
        from twofold.tables.spines import keys_of

        plan = self.compiled.view(view).plan
        wanted = keys_of(plan.by, keys)
        answers = self._reader.features(view, wanted, None if at is None else to_us(at))
        return feature_frame(plan, wanted, answers, status)

    def vectors(self, model: str, requests: Any, at: Instant | None = None) -> pl.DataFrame:
        """A model's whole input, online: the request's fields, `at`, features and derived columns; one row a request, in order."""
        from twofold.runtime.answers import vector_frame
        from twofold.tables.spines import rows_of

        rows = rows_of(requests)
        vectors = self._reader.vectors(model, rows, None if at is None else to_us(at))
        return vector_frame(self.compiled, model, rows, vectors)

    @functools.cached_property
    def _reader(self) -> FeatureReader:
        from twofold.serve.features import FeatureReader

        return FeatureReader(self.compiled.serving, self.home.store, self.home.log.uuid, self.home.log.partitions, self.home.clock)

    def history(
        self,
        view: str,
        spine: Any,
        visibility: Literal["ideal", "arrival"] = "ideal",
        status: bool = False,
        progress: Progress = silent,
    ) -> pl.DataFrame:
        """Features at points in time: `spine` (key columns and `at`) in its order, with the columns of `features` added.

        Each row sees what serving would have seen at its `at`, the view's mode and schedule included. Events that take more than the
        setting `memory_mb` are worked on key range by key range, with files under the home.
        """
        from twofold.batch.history import history

        events = [self._present(source) for source in self.compiled.view(view).plan.sources]
        return history(self.compiled.view(view), events, spine, visibility, status, self.began(view), progress)

    def began(self, view: str) -> tuple[int, ...]:
        """The offsets at which a stream view's only delta begins, in each partition of each of its sources."""
        from twofold.plan import layout

        plan = self.compiled.view(view).plan
        if plan.mode != "stream":
            return ()
        with self.home.store.snapshot() as snapshot:
            raws = snapshot.multi_get([layout.place_key(plan.version, partition) for partition in range(self.home.log.partitions)])
        return () if None in raws else layout.by_source([layout.decode_place(raw).began for raw in raws if raw is not None])

    def events_of(self, source: str) -> pl.DataFrame:
        """All events of a source that count, loaded and appended, as a frame of `plan.inputs`; read again only where there are new ones."""
        events = self._present(source)
        place = (events.history, events.cut)
        if self._events.get(source, (None,))[0] == place:
            return self._events[source][1]
        frame = events.frame()
        if frame.estimated_size() <= self.home.scratch.memory_bytes // _KEPT_PER_MEMORY:
            self._events[source] = (place, frame)
        return frame

    def _present(self, source: str) -> SourceEvents:
        """All events of a source that count, as they are now; which are duplicates is decided again only where there are new ones."""
        from twofold.batch.events import present_events
        from twofold.batch.joining import loaded_joins
        from twofold.runtime.loading import finish_loads
        from twofold.runtime.lost_tail import refuse_lost_tail

        plan = self.compiled.source(source)
        finish_loads(self, [source])
        history = self.home.tables.history_version(source)
        ends = self.home.log.end_offsets([source])
        cut = tuple(ends[source, partition] for partition in range(self.home.log.partitions))
        refuse_lost_tail(self.home, source, cut)
        known = self._present_events.get(source)
        if known is None or (known.history, known.cut) != (history, cut if plan.time is not None else ()):
            joined = loaded_joins(self.compiled, source, self.home.tables, history)
            known = present_events(plan, self.home.log, self.home.tables, history, cut, self.home.scratch, joined)
            self._present_events[source] = known
        return known

    # --- models ---

    def training_set(self, model: str, rows: Any = None, until: Instant | None = None, progress: Progress = silent) -> pl.DataFrame:
        """Rows with `at`, the request's fields, all features at that instant, derived columns, group and weight, and the label.

        Several labels are columns `label_<name>`. `rows` (a table of `at` and the request's fields, and of `weight`, group and the
        columns that labels are tied by, where the model has some) takes the place of the model's Rows. Rows whose labels' horizons
        are not over (by `until`, by what has arrived) are left out.
        """
        from twofold.learn.dataset import model_named, training_set

        definition, plan = model_named(self.compiled, model)
        history = functools.partial(self.history, progress=progress)
        horizon = None if until is None else to_us(until)
        return training_set(definition, plan, self.compiled, self.events_of, history, rows, horizon)

    def train(
        self,
        model: str,
        until: Instant | None = None,
        test: Duration | None = "30d",
        frame: pl.DataFrame | None = None,
        progress: Progress = silent,
    ) -> Trained:
        """Train a model on its training set, judge it by the last `test` of time, register it; the first version goes live.

        `frame` is a training set at hand (from `training_set`), to be used instead of a new one.
        """
        from twofold.runtime.learning import train

        return train(self, model, until, test, frame, progress)

    def score(self, model: str, frame: pl.DataFrame) -> pl.Series:
        """The live version's prediction for every row of a table with the model's columns (as `training_set` and `vectors` give).

        Of several labels a struct of one each.
        """
        from twofold.runtime.learning import score

        return score(self, model, frame)

    def promote(self, model: str, version: str | None = None) -> str:
        """Let a registered version (default: the newest; a beginning of its name is enough) answer; returns the version."""
        from twofold.runtime.learning import promote

        return promote(self, model, version)

    def rollback(self, model: str) -> str:
        """Let the version that answered before answer again; returns it."""
        from twofold.runtime.learning import rollback

        return rollback(self, model)

    def publish_plan(self) -> None:
        """Let replicas serve the project as it stands now, with the versions that are live."""
        from twofold.runtime.learning import go_live

        go_live(self, {})

    def predict(self, model: str, request: Any, at: Instant | None = None, after: Position | str | None = None) -> Any:
        """Answer as the server would: a dict for one request, a list for several."""
        from twofold.tables.spines import rows_of

        self.replica.refresh()
        position = after if isinstance(after, Position | None) else Position.parse(after)
        rows = rows_of(request)
        answers = self.replica.server.predict(model, rows, None if at is None else to_us(at), position)
        return answers[0] if isinstance(request, Mapping) else answers

    @functools.cached_property
    def replica(self) -> Replica:
        """What a serving process holds, inside this one."""
        from twofold.runtime.replica import Replica

        return Replica(self.home)

    # --- running and watching ---

    def build_missing(self, progress: Progress = silent) -> list[Built]:
        """Build the views that have never been built, so that everything can be read."""
        from twofold.plan import layout

        missing = []
        with self.home.store.snapshot() as snapshot:
            for view in self.compiled.views.values():
                raw = snapshot.get(layout.pointer_key(view.plan.version))
                if raw is None or layout.decode_pointer(raw).generation is None:
                    missing.append(view.plan.name)
        return self.build(views=missing, progress=progress)

    def stream(self, until: Callable[[], bool]) -> None:
        """Apply the log as it grows, until `until()` is true.

        On a store with many writers the workers of all processes share the partitions out. Else one is active; others stand by, and
        take over when it ends.
        """
        from twofold.runtime.running import stream

        stream(self, until)

    def keep_schedule(self, until: Callable[[], bool]) -> None:
        """Build views when their schedule says so, until `until()` is true."""
        from twofold.runtime.running import keep_schedule

        keep_schedule(self, until)

    def status(self) -> Status:
        """Processes, log and lag, views and generations, models, freshness, dead letters."""
        from twofold.runtime.status import status_of

        return status_of(self)

    def dead_letters(self, source: str | None = None) -> pl.DataFrame:
        """Events that could not be applied: source, partition, offset, count, reason, arrival, and content (JSON, or base64)."""
        from twofold.runtime.replaying import letter_table, letters_of

        return letter_table(letters_of(self, source))

    def replay(
        self,
        source: str,
        letters: Collection[tuple[int, int]] | None = None,
        rows: Mapping[tuple[int, int], Mapping[str, Any]] | None = None,
    ) -> Replayed:
        """Append dead letters again, each a new event at a new position, and remove them; those refused again stay, with the reason.

        `letters` are (partition, offset); None: all of the source, or those in `rows`, which are corrected rows by (partition, offset).
        A letter goes after its event is durable: a process killed in between appends it once more, which the source's id makes harmless.
        """
        from twofold.runtime.replaying import replay

        return replay(self, source, letters, rows or {})

    def drop_dead_letters(self, source: str, letters: Collection[tuple[int, int]] | None = None) -> int:
        """Remove dead letters (None: all of the source) for good; returns how many."""
        from twofold.runtime.replaying import drop

        return drop(self, source, letters)

    def audit(self) -> Audit:
        """Recompute every served feature from history and log, and compare bit for bit."""
        from twofold.runtime.auditing import audit_of

        return audit_of(self)
