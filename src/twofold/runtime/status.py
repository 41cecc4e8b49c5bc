"""The state of a home in one value: processes, workers, log and lag, views, models, freshness."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from twofold.home_lock import holder_of
from twofold.plan import layout
from twofold.plan.counts import Counts
from twofold.registry.base import live_alias
from twofold.runtime.facts import PartFacts, facts_of
from twofold.runtime.home import Home
from twofold.runtime.life import living
from twofold.runtime.supervisor import processes_of
from twofold.stream.dead_letters import dead_letters
from twofold.stream.freshness import quantile_ms
from twofold.stream.shares import members

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened


class SourceStatus(msgspec.Struct):
    """Events of a source in the log, how many of them are applied, and its history version.

    `counts` by partition are what became of the events: events = applied + duplicates + dead letters (see `plan.counts`).
    """

    source: str
    end: int
    applied: int
    history: int
    lag: int
    counts: list[Counts]

    @property
    def latest_us(self) -> int | None:
        """The greatest event_time that was applied; None where none was."""
        return max((part.latest_us for part in self.counts if part.latest_us is not None), default=None)


class ViewStatus(msgspec.Struct):
    """What a view serves: its generation (None: never built), the clock of that build, the delta that is open."""

    view: str
    version: str
    mode: str
    generation: str | None
    base_us: int
    open: int
    is_building: bool


class ModelStatus(msgspec.Struct):
    """Live version of a model (None: none), and how many there are."""

    model: str
    live: str | None
    versions: int


class WorkerStatus(msgspec.Struct):
    """A worker: where it runs, which partitions it applies, how many events of them are not applied yet.

    On the embedded store one is active, and the others of the home stand by: they apply none.
    """

    host: str
    process: int
    partitions: list[int]
    lag: int


class Status(msgspec.Struct):
    """All of it. `freshness_ms` is from accepted to visible, over the life of the store."""

    processes: dict[str, dict[str, int | None]]
    workers: list[WorkerStatus]
    sources: list[SourceStatus]
    views: list[ViewStatus]
    models: list[ModelStatus]
    freshness_ms: dict[str, float | None]
    dead_letters: int


def status_of(project: Opened) -> Status:
    """The present state of a project's home."""
    home, compiled = project.home, project.compiled
    parts = range(home.log.partitions)
    found, counts = facts_of(home, compiled.sources)
    by_source = {name: [part for part in found if part.source == name] for name in compiled.sources}
    with home.store.snapshot() as snapshot:
        sources = [
            SourceStatus(
                name,
                sum(part.end for part in mine),
                sum(part.applied for part in mine),
                home.tables.history_version(name),
                sum(part.lag for part in mine),
                [part.counts for part in mine],
            )
            for name, mine in by_source.items()
        ]
        pointers = {name: snapshot.get(layout.pointer_key(view.plan.version)) for name, view in compiled.views.items()}
        places = {name: snapshot.get(layout.place_key(view.plan.version, 0)) for name, view in compiled.views.items()}
        letters = sum(letter.count for letter in dead_letters(snapshot, len(parts)))
    views = []
    for name, raw in pointers.items():
        plan = compiled.view(name).plan
        pointer = layout.decode_pointer(raw) if raw else layout.Pointer(None, 0, (), (), 0)
        opened = layout.decode_place(place).open if (place := places[name]) else 0
        building = pointer.closing is not None
        views.append(ViewStatus(name, plan.version, plan.mode, pointer.generation, pointer.base_us, opened, building))
    models = [
        ModelStatus(name, home.registry.alias(live_alias(name)), len(home.registry.versions(name))) for name in compiled.serving.models
    ]
    freshness = {name: quantile_ms(counts, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
    return Status(processes_of(home.settings), _workers(home, found), sources, views, models, freshness, letters)


def _workers(home: Home, found: Sequence[PartFacts]) -> list[WorkerStatus]:
    """Those that are entered in a store with many writers (one that died elsewhere is for two seconds); else those of the home."""
    if home.store.has_many_writers:
        with home.store.snapshot() as snapshot:
            entered = sorted(members(snapshot).values(), key=lambda member: (member.host, member.process))
        places = [(member.host, member.process, list(member.partitions)) for member in entered]
    else:
        active, everything = holder_of(home.settings.run, "worker"), list(range(home.log.partitions))
        processes = dict.fromkeys([*([active] if active else []), *living(home.settings.run)])
        places = [(socket.gethostname(), process, everything if process == active else []) for process in processes]
    return [WorkerStatus(*place, sum(part.lag for part in found if part.partition in place[2])) for place in places]
