"""The state of a home in one value: processes, log and lag, views, models, freshness."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from twofold.plan import layout
from twofold.registry.base import live_alias
from twofold.runtime.supervisor import processes_of
from twofold.stream.dead_letters import dead_letters
from twofold.stream.freshness import decode_counts, quantile_ms

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened


class SourceStatus(msgspec.Struct):
    """Events of a source in the log, how many of them are applied, and its history version."""

    source: str
    end: int
    applied: int
    history: int


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
    ends = home.log.end_offsets(compiled.sources)
    parts = range(home.log.partitions)
    with home.store.snapshot() as snapshot:
        sources = [
            SourceStatus(
                name,
                sum(ends[name, p] for p in parts),
                sum(layout.decode_int(snapshot.get(layout.offset_key(name, p))) for p in parts),
                home.tables.history_version(name),
            )
            for name in compiled.sources
        ]
        pointers = {name: snapshot.get(layout.pointer_key(view.plan.version)) for name, view in compiled.views.items()}
        places = {name: snapshot.get(layout.place_key(view.plan.version, 0)) for name, view in compiled.views.items()}
        counts = Counter[int]()
        for partition in parts:
            counts.update(decode_counts(snapshot.get(layout.freshness_key(partition))))
        letters = sum(letter.count for letter in dead_letters(snapshot, home.log.partitions))
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
