"""What a view needs of its sources, and its prepared events from theirs: one source at a time, all branches over it together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from twofold.batch.events import SourceEvents, Times
from twofold.plan.compile import CompiledView
from twofold.plan.inputs import all_prepared
from twofold.plan.needed import columns_needed
from twofold.plan.serving import SourcePlan


@dataclass(frozen=True)
class OfSource:
    """The events of one source that a view needs: these `columns`, at these `times`, each taken by all of the `branches`."""

    events: SourceEvents
    branches: tuple[CompiledView, ...]
    columns: tuple[str, ...]
    times: Times

    @property
    def source(self) -> SourcePlan:
        """The source."""
        return self.events.source

    @property
    def size_bytes(self) -> int:
        """What its events take while they are worked on, in every branch."""
        return len(self.branches) * self.events.size_bytes(self.columns, self.times)

    def prepared(self, batch: pl.DataFrame) -> pl.DataFrame:
        """The view's events of a batch of the source's."""
        return all_prepared(self.branches, {self.source.name: batch})

    def none(self) -> pl.DataFrame:
        """No events, as `prepared` gives them."""
        return self.prepared(self.events.none(self.columns))

    def sample(self) -> pl.DataFrame:
        """Some of the view's events."""
        return self.prepared(self.events.sample(self.columns, self.times))


def by_source(view: CompiledView, events: Sequence[SourceEvents], times_of: Callable[[CompiledView, SourcePlan], Times]) -> list[OfSource]:
    """What a view needs of each of its sources; `events` are theirs, in the order of the plan's sources."""
    found = []
    for mine in events:
        branches = view.branches(mine.source.name)
        needed = {name for branch in branches for name in columns_needed(branch, mine.source)}
        columns = tuple(name for name in mine.source.stored if name in needed)
        found.append(OfSource(mine, branches, columns, times_of_all([times_of(branch, mine.source) for branch in branches])))
    return found


def times_of_all(times: Sequence[Times]) -> Times:
    """The stretch that holds all of these."""
    least, end = [mine[0] for mine in times], [mine[1] for mine in times]
    return (
        None if None in least else min(at for at in least if at is not None),
        None if None in end else max(at for at in end if at is not None),
    )
