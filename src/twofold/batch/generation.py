"""Generations: the states of all keys of a view, from loaded history and the archive up to a cut, published atomically."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twofold.batch import roll
from twofold.batch.branches import times_of_all
from twofold.batch.events import SourceEvents, archived_events
from twofold.batch.gathering import Gathering, gathering
from twofold.batch.joining import loaded_joins
from twofold.batch.spill import Scratch
from twofold.fail_points import fail_point
from twofold.log.base import EventLog
from twofold.plan import layout
from twofold.plan.compile import CompiledProject, CompiledView
from twofold.progress import Progress, silent
from twofold.store.base import Store
from twofold.tables.base import Tables


@dataclass(frozen=True)
class Built:
    """What a build did for one view; `cut` and `history` are as in its pointer, `events` so many were read."""

    view: str
    generation: str
    keys: int
    events: int
    cut: tuple[int, ...]
    history: tuple[int, ...]


@dataclass(frozen=True)
class Builder:
    """Builds generations; several builders of one home must take turns (the caller holds the build lock)."""

    project: CompiledProject
    log: EventLog
    store: Store
    tables: Tables
    scratch: Scratch

    def build(self, base_us: int, views: Iterable[str] | None = None, progress: Progress = silent) -> list[Built]:
        """Build every view (of those named) that has something new (see `roll.has_moved_on`), compacted at the clock `base_us`.

        All views are rolled first, so those of the same sources share one cut and one reading of the events. A failed or killed build
        leaves the old generation and the closed delta serving; the next one goes on at the same cut.
        """
        self._clean_up()
        self.scratch.clean()
        fail_point("build.cleaned_up")
        chosen = [self.project.view(name) for name in (self.project.views if views is None else views)]
        due = [view for view in chosen if view.plan.mode != "stream" and self._is_due(view, base_us)]
        for name in dict.fromkeys(source for view in due for source in view.plan.sources):
            loaded_joins(self.project, name, self.tables, self.tables.history_version(name))  # what keeps it from being built, told first
        places: dict[tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]], list[tuple[CompiledView, int]]] = {}
        for view in due:
            history = roll.history_versions(self.tables, view.plan)
            closing, cut = roll.roll(self.store, view.plan, self.log.partitions, history)
            places.setdefault((view.plan.sources, closing.history, cut), []).append((view, closing.number))
        built: list[Built] = []
        for (sources, histories, cut), together in places.items():
            events = []
            for name, version in zip(sources, histories, strict=True):
                progress(f"reading {name}")
                mine = layout.of_source(cut, together[0][0].plan, name)
                joined = loaded_joins(self.project, name, self.tables, version)
                events.append(archived_events(self.project.source(name), self.log, self.tables, version, mine, self.scratch, joined))
            built += self._build_together(together, events, base_us, progress)
        return built

    def _is_due(self, view: CompiledView, base_us: int) -> bool:
        with self.store.snapshot() as snapshot:
            history = roll.history_versions(self.tables, view.plan)
            return roll.has_moved_on(snapshot, view.plan, self.log.partitions, history, base_us)

    def _build_together(
        self, views: Sequence[tuple[CompiledView, int]], events: Sequence[SourceEvents], base_us: int, progress: Progress
    ) -> list[Built]:
        """Read the events that views of the same sources need once, then write each view's generation, flip to it, drop the replaced."""
        with contextlib.ExitStack() as open_spills:
            gathered = [open_spills.enter_context(gathering(view, events, base_us, len(views))) for view, _ in views]
            read = sum(_read(number, mine, gathered, progress) for number, mine in enumerate(events))
            return [self._publish(view, number, events, read, base_us, progress) for view, (_, number) in zip(gathered, views, strict=True)]

    def _publish(
        self, gathered: Gathering, number: int, events: Sequence[SourceEvents], read: int, base_us: int, progress: Progress
    ) -> Built:
        plan = gathered.view.plan
        name = layout.generation_name(plan.name, plan.version, number)
        cut = tuple(offset for mine in events for offset in mine.cut or (0,) * self.log.partitions)
        keys = self.store.write_generation(name, gathered.states(base_us, progress))
        fail_point("flip.before")
        progress(f"switching {plan.name} over")
        old = roll.flip(self.store, plan, name, cut, base_us)
        fail_point("flip.after")
        roll.drop_closed(self.store, plan, self.log.partitions)
        fail_point("drop.before_generation")
        if old.generation is not None and old.generation != name:
            self.store.drop_generation(old.generation)
        return Built(plan.name, name, keys, read, cut, tuple(mine.history for mine in events))

    def _clean_up(self) -> None:
        """Drop what killed builds left: generations that no pointer names, closed deltas that a flip has replaced."""
        with self.store.snapshot() as snapshot:
            pointers = {key: layout.decode_pointer(raw) for key, raw in snapshot.scan(layout.pointer_key(""))}
        named = {pointer.generation for pointer in pointers.values()}
        for view in self.project.views.values():
            if layout.pointer_key(view.plan.version) in pointers:
                roll.drop_closed(self.store, view.plan, self.log.partitions)
        for name in self.store.generations():
            if name not in named:
                self.store.drop_generation(name)


def _read(number: int, events: SourceEvents, gathered: Sequence[Gathering], progress: Progress) -> int:
    """Read one of the views' sources, once for all of them; returns how many events there were."""
    needed = [view.sources[number] for view in gathered]
    times = times_of_all([mine.times for mine in needed])
    columns = [name for name in events.source.stored if any(name in mine.columns for mine in needed)]
    read, most = 0, events.most_rows(times)
    for batch in events.batches(columns, times):
        progress(f"reading {events.source.name}", read, most)
        read += batch.height
        for view in gathered:
            view.add(number, batch)
    return read
