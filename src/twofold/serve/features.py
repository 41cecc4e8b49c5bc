"""Features online: one snapshot of the store for all views and keys of a call, merged at one instant for each request."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from twofold.errors import DataError, LogMismatch, NotBuilt, StoreUnavailable, did_you_mean, known, of_another_log
from twofold.instants import BEGIN_US, Clock
from twofold.log.base import Position
from twofold.plan import layout
from twofold.plan.answers import Answer
from twofold.plan.counts import Failures
from twofold.plan.served import ViewRead
from twofold.plan.serving import Frozen, ServingPlan
from twofold.serve.generations import Opened, OpenGenerations
from twofold.serve.reads import Heads, ModelReads, Origin, Scope, Seen, ViewAccess
from twofold.serve.requests import Request, RequestCheck
from twofold.store.applied import applied_offsets, lies_within
from twofold.store.base import Snapshot, Store

_ATTEMPTS = 5
"""So often are the pointers read again when a generation that they name is gone."""


class KeyRead(Frozen, frozen=True, gc=False):
    """One key's features, in the order of the view's features, at `at_us`. `generation` is None in stream mode."""

    key: tuple[Any, ...]
    at_us: int
    answer: Answer
    generation: str | None
    position: str

    @property
    def values(self) -> tuple[Any, ...]:
        """Python values, None for null."""
        return self.answer.values

    @property
    def statuses(self) -> tuple[str, ...]:
        """The status of each value."""
        return self.answer.statuses

    @property
    def status(self) -> str:
        """The one word for all of them."""
        return self.answer.status

    @property
    def age_us(self) -> int | None:
        """How long before `at_us` the key's newest event happened; None where it has none."""
        return self.answer.age_us


class Vector(Frozen, frozen=True):
    """The features of one request at `at_us`: `columns` by the model's column (None: null), one of `reads` for each use of a view.

    `offsets` (`source/partition` -> offset after the last applied event) and `position` are those of the snapshot.
    """

    at_us: int
    columns: dict[str, Any]
    reads: tuple[ViewRead, ...]
    offsets: dict[str, int]
    position: str


_Found = dict[bytes, tuple[list[bytes | None], int]]
"""By key its blobs and their greatest event_time."""


class FeatureReader:
    """Reads the views of one serving plan from a store. Threads may share it.

    t is `at_us` where it is given; else the larger of the clock, read after the snapshot, and the greatest event_time among the
    blobs of that request + 1 us. Raises NotBuilt for a view that was never built, StoreUnavailable, Corrupt.
    """

    def __init__(self, plan: ServingPlan, store: Store, log_uuid: str, partitions: int, clock: Clock) -> None:
        self.plan, self.log_uuid, self.clock = plan, log_uuid, clock
        self._store, self._partitions = store, partitions
        self._generations = OpenGenerations(store)
        self._views = {name: ViewAccess(view, partitions) for name, view in plan.views.items()}
        self._scopes = {name: Scope([view], plan, log_uuid, partitions) for name, view in self._views.items()}
        self._models = {name: ModelReads(model, plan, self._views, log_uuid, partitions) for name, model in plan.models.items()}
        self._checks = {name: RequestCheck(model) for name, model in plan.models.items()}
        self._warm = threading.Lock()

    def failures(self) -> Failures:
        """How many calls of aggregates of people's own have failed in reads."""
        return sum((view.reader.failures() for view in self._views.values()), Failures())

    # --- what is asked for ---

    def check(self, model: str) -> RequestCheck:
        """The check of a model's requests. Raises UnknownName."""
        return known(self._checks, model, "model")

    def reads(self, model: str) -> ModelReads:
        """What a model reads. Raises UnknownName."""
        return known(self._models, model, "model")

    def features(self, view: str, keys: Sequence[Any], at_us: int | None = None) -> list[KeyRead]:
        """One answer a key, in order. A key is a value (one key column), a list of parts in order, or an object by key column.

        A key with a null part is `empty`. Raises SchemaMismatch for a part of another type, UnknownName.
        """
        access = known(self._views, view, "view")
        wanted: list[tuple[tuple[Any, ...], bytes | None]] = []
        distinct: dict[bytes, None] = {}
        for number, key in enumerate(keys):
            parts, encoded = pair = access.keys.encoded(number, key)
            wanted.append(pair)
            if encoded is not None:
                distinct[encoded] = None
        seen, [found] = self._moment(self._scopes[view], [distinct])
        [origin], position = seen.origins, seen.offsets.position
        now_us = self.clock.now_us() if at_us is None else at_us
        answers = []
        for parts, encoded in wanted:
            blobs, greatest = _NOTHING if encoded is None else found[encoded]
            t_us = greatest + 1 if at_us is None and greatest >= now_us else now_us
            answers.append(KeyRead(parts, t_us, _merged(access, origin, blobs, t_us, greatest), origin.generation, position))
        return answers

    def vectors(self, model: str, requests: Sequence[Mapping[str, Any]], at_us: int | None = None) -> list[Vector]:
        """The features of each request, in order. Raises SchemaMismatch for a request that does not fit the model, UnknownName."""
        return self.read(model, self.check(model).rows(requests), at_us)

    def read(self, model: str, requests: Sequence[Request], at_us: int | None = None) -> list[Vector]:
        """`vectors` of requests that were checked."""
        reads = self.reads(model)
        wanted = [[use.key(request) for use in reads.uses] for request in requests]
        keys: list[dict[bytes, None]] = [{} for _ in reads.scope.views]
        for row in wanted:
            for use, (_, encoded) in zip(reads.uses, row, strict=True):
                if encoded is not None:
                    keys[use.place][encoded] = None
        seen, found = self._moment(reads.scope, keys)
        now_us = self.clock.now_us() if at_us is None else at_us
        known_answers: dict[Any, tuple[Answer, ViewRead]] = {}
        return [_vector(reads, row, seen, found, now_us, at_us is None, known_answers) for row in wanted]

    # --- the store ---

    def _moment(self, scope: Scope, keys: Sequence[Mapping[bytes, None]]) -> tuple[Seen, list[_Found]]:
        """All that a call needs, from one snapshot, by view; from a new one where a generation has just been dropped."""
        missing: list[str] = []
        for _ in range(_ATTEMPTS):
            with self._store.snapshot() as snapshot:
                seen, deltas = self._read(scope, snapshot, keys)
                names = seen.heads.generations
                taken = self._generations.take(names)
                try:
                    missing = [] if len(taken) == len(names) else [name for name in names.values() if name not in taken]
                    if not missing and not seen.heads.is_outdated:
                        return seen, _by_key(scope.views, seen.origins, keys, taken, deltas)
                finally:
                    self._generations.give_back(taken)
        raise StoreUnavailable(
            f"the pointers of the store name generations that are not there: {', '.join(missing)}; if it stays so, run `twofold build`"
            if missing
            else "deltas do not begin where the store's generation ends, as after a failover that lost one of both; run `twofold build`"
        )

    def _read(self, scope: Scope, snapshot: Snapshot, keys: Sequence[Mapping[bytes, None]]) -> tuple[Seen, list[bytes | None]]:
        """(what the entries say, the delta entries of the views' keys in turn, those of one key together).

        All of it is asked for in one call, which sees one moment of each shard: where the views lay at the last call is a guess, which
        the answer confirms; if it does not, the answer is the next guess. In a store of the same version as then nothing has changed,
        and no more than the deltas is asked for. Raises NotBuilt with all views that have nothing to read.
        """
        seen, version = scope.latest, snapshot.version
        if seen is not None and seen.version == version is not None:
            return seen, snapshot.multi_get(_deltas(seen.origins, keys))
        heads = scope.decoded(snapshot.multi_get(scope.entries)[: scope.heads]) if seen is None else seen.heads
        for _ in range(_ATTEMPTS):
            origins = self._all_there(scope, heads)
            found = snapshot.multi_get([*scope.entries, *_deltas(origins, keys)])
            if found[: scope.heads] == heads.raw:
                seen = scope.latest = Seen(version, heads, origins, scope.offsets(found[scope.heads : len(scope.entries)]))
                return seen, found[len(scope.entries) :]
            heads = scope.decoded(found[: scope.heads])
        raise StoreUnavailable("the pointers of the store change faster than they can be read; if it stays so, look at who builds")

    def _all_there(self, scope: Scope, heads: Heads) -> Sequence[Origin]:
        """Raises NotBuilt with all views that have nothing to read, StoreUnavailable for another log's store."""
        if heads.log is not None and heads.log != self.log_uuid:
            raise StoreUnavailable(of_another_log(heads.log, self.log_uuid))
        if None in heads.origins:
            raise NotBuilt("; ".join(_unbuilt(view) for view, origin in zip(scope.views, heads.origins, strict=True) if origin is None))
        return heads.origins  # type: ignore[return-value]

    @property
    def is_shared(self) -> bool:
        """Whether workers on other machines may write the store: then nobody rings here, and each look is a round trip."""
        return self._store.has_many_writers

    def covers(self, position: Position) -> bool:
        """Whether all of a position has been applied, and so is seen by the next read.

        Raises LogMismatch for another log's position, DataError where it names a source or partition that is not there.
        """
        self.check_position(position)
        return lies_within(position.offsets, self.applied(position.offsets))

    def check_position(self, position: Position) -> None:
        """Raises as `covers`."""
        if position.log != self.log_uuid:
            raise LogMismatch(f"the position belongs to the log {position.log}; the one served here is {self.log_uuid}")
        for source, partition in position.offsets:
            if source not in self.plan.sources:
                raise DataError(f"the position names the source {source!r}, which is not there.{did_you_mean(source, self.plan.sources)}")
            if partition >= self._partitions:
                raise DataError(f"the position names partition {partition} of {source!r}; there are {self._partitions}")

    def applied(self, places: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The offset after the last applied event of each (source, partition), in one round trip."""
        with self._store.snapshot() as snapshot:
            return applied_offsets(snapshot, places)

    def not_ready(self) -> list[str]:
        """What keeps this reader from answering: views that were never built, a store that does not answer; empty when it is ready."""
        try:
            with self._store.snapshot() as snapshot:
                log = snapshot.get(layout.LOG_UUID)
                raws = {view: snapshot.multi_get(view.entries) for view in self._views.values()}
        except Exception as error:
            return [f"store: {type(error).__name__}: {error}"]
        if log is not None and log.decode() != self.log_uuid:
            return [of_another_log(log.decode(), self.log_uuid)]
        return [_unbuilt(view) for view, raw in raws.items() if view.origin(raw) is None]

    def warm(self) -> None:
        """Have the merge's kernels in memory before the first request."""
        with self._warm:
            for view in self._views.values():
                view.reader.read([], 0)

    def close(self) -> None:
        """Give the generations back, each when the calls that read in it have ended; the store stays open."""
        self._generations.close()


_NOTHING: tuple[list[bytes | None], int] = ([], -(2**62) - 1)


def _unbuilt(view: ViewAccess) -> str:
    what = "table" if view.plan.row is not None else "view"
    todo = "`twofold stream` begins it" if view.plan.mode == "stream" else "run `twofold build`"
    return f"{what} {view.plan.name!r} (version {view.plan.version}) has never been built; {todo}"


def _deltas(origins: Sequence[Origin], keys: Sequence[Mapping[bytes, None]]) -> list[bytes]:
    """The delta entries of the views' keys in turn, those of one key together."""
    return [prefix + key for view, origin in enumerate(origins) for key in keys[view] for prefix in origin.prefixes]


def _by_key(
    views: Sequence[ViewAccess],
    origins: Sequence[Origin],
    keys: Sequence[Mapping[bytes, None]],
    generations: Mapping[str, Opened],
    deltas: list[bytes | None],
) -> list[_Found]:
    """What was found of each view's keys; `deltas` as `_deltas` asks for them."""
    by_view, at = [], 0
    for number, origin in enumerate(origins):
        mine, greatest, width = keys[number], views[number].reader.greatest, len(origin.prefixes)
        wholes = None if origin.generation is None else generations[origin.generation].multi_get(list(mine))
        found: _Found = {}
        for place, key in enumerate(mine):
            blobs = deltas[at : at + width]
            at += width
            if wholes is not None:
                blobs.append(wholes[place])
            found[key] = blobs, greatest(blobs)
        by_view.append(found)
    return by_view


def _merged(view: ViewAccess, origin: Origin, blobs: Sequence[bytes | None], t_us: int, greatest: int) -> Answer:
    """A key's answer at t. A view whose window ends at its build is merged there; its age is counted to t all the same.

    A key with a null part has no blobs at all, not even absent ones: it is empty at every t.
    """
    if view.ends_at_build:
        return view.reader.read(blobs, origin.pointer.base_us, t_us, greatest=greatest)
    return view.reader.read(blobs, t_us, exact_from_us=origin.exact_from_us if blobs else BEGIN_US, greatest=greatest)


def _vector(
    reads: ModelReads,
    row: Sequence[tuple[tuple[Any, ...], bytes | None]],
    seen: Seen,
    by_view: Sequence[_Found],
    now_us: int,
    is_present: bool,
    known_answers: dict[Any, tuple[Answer, ViewRead]],
) -> Vector:
    """One request's features; answers that another request of the call has had already are taken from there."""
    parts = [_NOTHING if key is None else by_view[use.place][key] for use, (_, key) in zip(reads.uses, row, strict=True)]
    t_us = now_us
    if is_present:
        for _, greatest in parts:
            if greatest >= t_us:
                t_us = greatest + 1
    columns: dict[str, Any] = {}
    found = []
    for number, (use, (key, encoded), (blobs, greatest)) in enumerate(zip(reads.uses, row, parts, strict=True)):
        place = (number, encoded, t_us)
        pair = known_answers.get(place) if encoded is not None else None
        if pair is None:
            origin = seen.origins[use.place]
            answer = use.chosen(_merged(use.view, origin, blobs, t_us, greatest))
            plan = use.view.plan
            pair = known_answers[place] = (
                answer,
                ViewRead(plan.name, plan.version, origin.generation, key, answer.status, answer.age_us),
            )
        columns.update(zip(use.columns, pair[0].values, strict=True))
        found.append(pair[1])
    return Vector(t_us, columns, tuple(found), seen.offsets.by_place, seen.offsets.position)
