"""Generations: the states of all keys of a view, from loaded history and the archive up to a cut, published atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from twofold.batch import roll
from twofold.batch.archive import archive_up_to
from twofold.log.base import EventLog
from twofold.plan import layout
from twofold.plan.compile import CompiledProject, CompiledView
from twofold.plan.counting import counted
from twofold.plan.folding import ViewFolder, nothing_stored
from twofold.plan.inputs import all_rows
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
        """Build every view (of those named) whose history or log has moved on since its generation, compacted at the clock `base_us`.

        All views of a source are rolled first, so they share one cut and one reading of the events. A failed or killed build leaves
        the old generation and the closed delta serving; the next one goes on at the same cut.
        """
        self._clean_up()
        chosen = [self.project.view(name) for name in (self.project.views if views is None else views)]
        due = [view for view in chosen if view.plan.mode != "stream" and self._is_due(view)]
        for view in due:
            roll.roll(self.store, view.plan)
        built: list[Built] = []
        frames: dict[tuple[str, int, tuple[int, ...]], pl.DataFrame] = {}
        for view in due:
            with self.store.snapshot() as snapshot:
                pointer = roll.pointer_of(snapshot, view.plan)
            history = self.tables.history_version(view.plan.source)
            place = (view.plan.source, history, pointer.closed_cut)
            if place not in frames:
                progress(f"reading {view.plan.source}")
                frames[place] = events_up_to(self.project, self.log, self.tables, *place)
            progress(f"building {view.plan.name}")
            built.append(self._build_view(view, frames[place], pointer, history, base_us))
        return built

    def _is_due(self, view: CompiledView) -> bool:
        plan = view.plan
        with self.store.snapshot() as snapshot:
            pointer = roll.pointer_of(snapshot, plan)
            applied = tuple(layout.decode_int(snapshot.get(layout.offset_key(plan.source, p))) for p in range(len(pointer.cut)))
        is_built = pointer.generation is not None and pointer.closed is None
        return not is_built or pointer.cut != applied or pointer.history != self.tables.history_version(plan.source)

    def _build_view(self, view: CompiledView, frame: pl.DataFrame, pointer: layout.Pointer, history: int, base_us: int) -> Built:
        """Write the view's generation, flip to it and drop what it replaces."""
        states = ViewFolder(view).fold(frame, nothing_stored, base_us, keeps_raw=False)
        name = layout.generation_name(view.plan.name, view.plan.version, pointer.closed or 0)
        keys = self.store.write_generation(name, ((key, blob) for key, blob in states if blob))
        old = roll.flip(self.store, view.plan, name, history, base_us)
        roll.drop_old(self.store, view.plan, old)
        return Built(view.plan.name, name, keys, frame.height, pointer.closed_cut, history)

    def _clean_up(self) -> None:
        """Drop generations that no pointer names: those of failed flips and of views that are gone."""
        with self.store.snapshot() as snapshot:
            named = {layout.decode_pointer(raw).generation for _, raw in snapshot.scan(layout.pointer_key(""))}
        for name in self.store.generations():
            if name not in named:
                self.store.drop_generation(name)


def events_up_to(project: CompiledProject, log: EventLog, tables: Tables, source: str, history: int, cut: Sequence[int]) -> pl.DataFrame:
    """The events of a source that count: loaded history up to a version and the log below a cut, archived on the way."""
    plan = project.source(source)
    if plan.time is not None:
        archive_up_to(log, tables, source, cut)
    return counted(plan, all_rows(plan.columns, tables.history(source, history), tables.archive_up_to(source, cut)))
