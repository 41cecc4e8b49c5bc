"""Generations: the states of all keys of a view, from loaded history and the archive up to a cut, published atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

from twofold.batch import roll
from twofold.batch.events import archived_events
from twofold.log.base import EventLog
from twofold.plan import layout
from twofold.plan.compile import CompiledProject, CompiledView
from twofold.plan.folding import ViewFolder, nothing_stored
from twofold.plan.merge import oldest_reached
from twofold.store.base import Store
from twofold.tables.base import Tables

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """What a build did for one view."""

    view: str
    generation: str
    keys: int
    events: int
    cut: tuple[int, ...]
    history: int


@dataclass(frozen=True)
class Builder:
    """Builds generations; several builders of one home must take turns (the caller holds the build lock)."""

    project: CompiledProject
    log: EventLog
    store: Store
    tables: Tables

    def build(self, base_us: int, views: Iterable[str] | None = None, progress: Progress = lambda text: None) -> list[Built]:
        """Build every view (of those named) that has something new (see `roll.has_moved_on`), compacted at the clock `base_us`.

        All views of a source are rolled first, so they share one cut and one reading of the events. A failed or killed build leaves
        the old generation and the closed delta serving; the next one goes on at the same cut.
        """
        self._clean_up()
        chosen = [self.project.view(name) for name in (self.project.views if views is None else views)]
        due = [view for view in chosen if view.plan.mode != "stream" and self._is_due(view, base_us)]
        for view in due:
            roll.roll(self.store, view.plan, self.tables.history_version(view.plan.source))
        built: list[Built] = []
        frames: dict[tuple[str, int, tuple[int, ...]], pl.DataFrame] = {}
        for view in due:
            with self.store.snapshot() as snapshot:
                pointer = roll.pointer_of(snapshot, view.plan)
            place = (view.plan.source, pointer.closed_history, pointer.closed_cut)
            if place not in frames:
                progress(f"reading {view.plan.source}")
                frames[place] = archived_events(self.project.source(view.plan.source), self.log, self.tables, *place[1:])
            progress(f"building {view.plan.name}")
            built.append(self._build_view(view, frames[place], pointer, base_us))
        return built

    def _is_due(self, view: CompiledView, base_us: int) -> bool:
        with self.store.snapshot() as snapshot:
            return roll.has_moved_on(snapshot, view.plan, self.tables.history_version(view.plan.source), base_us)

    def _build_view(self, view: CompiledView, frame: pl.DataFrame, pointer: layout.Pointer, base_us: int) -> Built:
        """Write the view's generation, flip to it and drop what it replaces."""
        events, oldest = frame.height, oldest_reached(view.plan, base_us)
        if oldest is not None and not view.steps:  # a step could give the time column another value
            frame = frame.filter(pl.col(view.time or "").to_physical() >= oldest)
        # Where every window ends at the build, later events would only make it `ahead`.
        before_us = base_us if view.plan.as_of == "build" else None
        states = ViewFolder(view).fold(frame, nothing_stored, base_us, keeps_raw=False, before_us=before_us)
        name = layout.generation_name(view.plan.name, view.plan.version, pointer.closed or 0)
        keys = self.store.write_generation(name, ((key, blob) for key, blob in states if blob))
        old = roll.flip(self.store, view.plan, name, base_us)
        roll.drop_old(self.store, view.plan, old)
        return Built(view.plan.name, name, keys, events, pointer.closed_cut, pointer.closed_history)

    def _clean_up(self) -> None:
        """Drop what killed builds left: generations that no pointer names, closed deltas that a flip has replaced."""
        with self.store.snapshot() as snapshot:
            pointers = {key: layout.decode_pointer(raw) for key, raw in snapshot.scan(layout.pointer_key(""))}
            named = {pointer.generation for pointer in pointers.values()}
            left = [
                (view.plan, pointer.open - 1)
                for view in self.project.views.values()
                if (pointer := pointers.get(layout.pointer_key(view.plan.version))) is not None and pointer.closed is None
                if next(iter(snapshot.scan(layout.delta_prefix(view.plan.version, pointer.open - 1), 1)), None) is not None
            ]
        for plan, delta in left:
            roll.drop_delta(self.store, plan, delta)
        for name in self.store.generations():
            if name not in named:
                self.store.drop_generation(name)
