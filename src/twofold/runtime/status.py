"""The state of a home in one value: processes, log and lag, views, models, freshness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from twofold.plan import layout
from twofold.plan.counts import Counts
from twofold.registry.base import live_alias
from twofold.runtime.facts import facts_of
from twofold.runtime.supervisor import processes_of
from twofold.stream.dead_letters import dead_letters
from twofold.stream.freshness import quantile_ms

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


class Status(msgspec.Struct):
    """All of it. `freshness_ms` is from accepted to visible, over the life of the store."""

    processes: dict[str, dict[str, int | None]]
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
    return Status(processes_of(home.settings), sources, views, models, freshness, letters)
