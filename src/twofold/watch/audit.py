"""The audit: every served feature recomputed from history and log, compared bit for bit. A difference is a bug.

A record names the generation and the applied offsets that its vector was read from. What it may hold is decided by position: loaded
history of the generation, and log events below the applied offsets (a batch view: below the generation's cut).
"""

from __future__ import annotations

import itertools
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.algebra.base import LOG_ORDER
from twofold.errors import DataError
from twofold.plan import layout
from twofold.plan.compile import CompiledProject, CompiledView
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, all_prepared
from twofold.plan.layout import Pointer
from twofold.plan.served import Served, ViewRead
from twofold.plan.serving import ViewPlan
from twofold.tables.point_in_time import Visibility, point_in_time
from twofold.tables.visibility import events_in_mode

_SEEN = "__seen"
_NEVER = 2**62
_MOST_EXAMPLES = 20


class Difference(msgspec.Struct):
    """One served value that is not what the recomputation gives."""

    id: str
    column: str
    at_us: int
    key: list[Any]
    served: Any
    recomputed: Any


class Audit(msgspec.Struct):
    """What an audit found. `ahead` values were served as null and said so; they are counted, not compared."""

    records: int = 0
    compared: int = 0
    different: int = 0
    ahead: int = 0
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    examples: list[Difference] = msgspec.field(default_factory=list)


@dataclass
class _Reads:
    """All reads of one use of a view: what was served, and what decides what it may hold."""

    keys: list[tuple[Any, ...]] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    bounds: list[tuple[int, ...]] = field(default_factory=list)
    served: list[Served] = field(default_factory=list)

    def add(self, key: tuple[Any, ...], at_us: int, bound: tuple[int, ...], served: Served) -> None:
        """Note one read."""
        self.keys.append(key)
        self.at.append(at_us)
        self.bounds.append(bound)
        self.served.append(served)

    def chains(self) -> list[_Reads]:
        """The same reads, such together whose bounds have an order: of two that were read at once each may be ahead somewhere."""
        chains: list[_Reads] = []
        for i in sorted(range(len(self.bounds)), key=self.bounds.__getitem__):
            mine = self.bounds[i]
            for chain in chains:
                if all(a <= b for a, b in zip(chain.bounds[-1], mine, strict=True)):
                    break
            else:
                chains.append(chain := _Reads())
            chain.add(self.keys[i], self.at[i], mine, self.served[i])
        return chains


@dataclass(frozen=True)
class Sources:
    """What an audit reads: a source's events that count, where a stream view began, what a generation held (None: not known)."""

    events_of: Callable[[str], pl.DataFrame]
    began_of: Callable[[str], tuple[int, ...]]
    generation_of: Callable[[str], Pointer | None]
    partitions: int


def audit(records: Iterable[Served], project: CompiledProject, sources: Sources) -> Audit:
    """Recompute every feature of the records and compare."""
    report = Audit()
    reads: dict[tuple[str, int], _Reads] = defaultdict(_Reads)
    for record in records:
        report.records += 1
        _collect(record, project, sources, reads, report)
    for (model, place), found in reads.items():
        use = project.model(model).uses[place]
        view = project.view(use.view)
        began = sources.began_of(view.plan.name)
        events = {
            source: events_in_mode(view.plan, sources.events_of(source), layout.of_source(began, view.plan, source))
            for source in view.plan.sources
        }
        for chain in found.chains():
            _compare(view, use.columns, chain, events, report)
    return report


def _skip(report: Audit, why: str) -> None:
    report.skipped[why] = report.skipped.get(why, 0) + 1


def _collect(record: Served, project: CompiledProject, sources: Sources, reads: dict[tuple[str, int], _Reads], report: Audit) -> None:
    """Sort a record's reads by the use of a view, with what each may hold."""
    if record.served_by != "live" or record.model not in project.serving.models:
        _skip(report, f"served by {record.served_by}" if record.served_by != "live" else "unknown model")
        return
    for place, (use, read) in enumerate(zip(project.model(record.model).uses, record.reads, strict=True)):
        plan = project.view(use.view).plan
        bound = _bound(plan, record, read, sources)
        if read.version != plan.version:
            _skip(report, "another version of the view")
        elif read.status == "ahead":
            report.ahead += len(use.columns)
        elif bound is None:
            _skip(report, "generation no longer known")
        else:
            reads[record.model, place].add(read.key, record.at_us, bound, record)


def _bound(plan: ViewPlan, record: Served, read: ViewRead, sources: Sources) -> tuple[int, ...] | None:
    """(history version of each source, offsets as in a pointer) below which the read saw events; None where it is not known any more."""
    generation = None if read.generation is None else sources.generation_of(read.generation)
    if generation is None and plan.mode != "stream":
        return None
    if plan.mode == "batch" and generation is not None:
        return (*generation.history, *generation.cut)
    offsets = (record.offsets.get(f"{source}/{partition}", 0) for source in plan.sources for partition in range(sources.partitions))
    return (*((0,) * len(plan.sources) if generation is None else generation.history), *offsets)


def _compare(view: CompiledView, columns: Mapping[str, str], reads: _Reads, events: Mapping[str, pl.DataFrame], report: Audit) -> None:
    """Recompute one use of a view for all its reads, and compare each value."""
    schema = {f"k{i}": POLARS_TYPES[kind] for i, kind in enumerate(view.plan.by.values())}
    spine = pl.DataFrame([_typed(key, view.plan.by) for key in reads.keys], schema=schema, orient="row")
    at = np.array(reads.at, np.int64)
    ranks, horizon = visible_by_position([events[source] for source in view.plan.sources], reads.bounds)
    ranked = {source: events[source].with_columns(rank.alias(_SEEN)) for source, rank in zip(view.plan.sources, ranks, strict=True)}
    ready = all_prepared(view.branches(), ranked, [_SEEN])
    recomputed = point_in_time(view.plan, ready, spine, at, Visibility(seen=_SEEN, horizon=horizon), status=True)
    for name, column in columns.items():
        for i, value in enumerate(recomputed[name].to_list()):
            report.compared += 1
            served = reads.served[i].columns[column]
            if not same_bits(served, value):
                report.different += 1
                if len(report.examples) < _MOST_EXAMPLES:
                    record = reads.served[i]
                    report.examples.append(Difference(record.id, column, record.at_us, list(reads.keys[i]), served, value))


def _typed(key: Sequence[Any], by: Mapping[str, str]) -> tuple[Any, ...]:
    if len(key) != len(by):
        return (None,) * len(by)
    return tuple(_instant(part) if kind == "datetime" else part for part, kind in zip(key, by.values(), strict=True))


def _instant(value: Any) -> Any:
    """JSON has written an instant as a text."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def visible_by_position(sources: Sequence[pl.DataFrame], bounds: Sequence[tuple[int, ...]]) -> tuple[list[pl.Series], NDArray[np.int64]]:
    """(for each source the rank of its events from which on they are seen, each read's horizon): an event is seen iff rank < horizon.

    A bound is (history version of each source, offsets of each source's partitions in turn). Bounds only grow with time, so they have
    an order, and each event has one first rank that holds it.
    """
    distinct = sorted(set(bounds))
    for earlier, later in itertools.pairwise(distinct):
        if any(a > b for a, b in zip(earlier, later, strict=True)):
            raise DataError("the offsets of two reads have no order; audit the served logs of one home at a time")
    rank = {bound: i for i, bound in enumerate(distinct)}
    ends = np.array(distinct, np.int64).reshape(len(distinct), -1)
    count = len(sources)
    partitions = (ends.shape[1] - count) // count
    ranks = []
    for i, events in enumerate(sources):
        offsets = ends[:, count + i * partitions : count + (i + 1) * partitions]
        ranks.append(_ranks(events, ends[:, i], offsets))
    return ranks, np.array([rank[bound] + 1 for bound in bounds], np.int64)


def _ranks(events: pl.DataFrame, history: NDArray[np.int64], offsets: NDArray[np.int64]) -> pl.Series:
    """For each event of a source the first rank whose history version [ranks] or offsets [ranks, partitions] hold it."""
    major, minor = events[MAJOR].to_numpy(), events[MINOR].to_numpy()
    seen = np.full(events.height, _NEVER, np.int64)
    for column in range(-1, offsets.shape[1]):
        is_mine = major < LOG_ORDER if column < 0 else major == LOG_ORDER + column
        # A history version is held from its own number on, an offset from the one after it on.
        first = np.searchsorted(history, major[is_mine]) if column < 0 else np.searchsorted(offsets[:, column], minor[is_mine] + 1)
        seen[is_mine] = np.where(first < history.size, first, _NEVER)
    return pl.Series(seen)


def same_bits(served: Any, recomputed: Any) -> bool:
    """Whether two values are the same, floats bit for bit. JSON has written 1.0 and 1 as they are, and instants as texts."""
    if isinstance(recomputed, datetime):
        return bool(_instant(served) == recomputed)
    if isinstance(served, float) and isinstance(recomputed, float):
        return struct.pack("<d", served) == struct.pack("<d", recomputed)
    return type(served) is type(recomputed) and bool(served == recomputed)
