"""Every way of computing a value against the plain reference, bit for bit: what a home at hand answers, online and from history.

On an opened project, after any loads, appends and builds: `(online_parity(...) + history_parity(...)).check(at_least=1000)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from twofold.algebra.base import LOG_ORDER, OVERFLOW
from twofold.algebra.kinds import ZERO_IF_EMPTY
from twofold.algebra.windows import RAW_EVENTS, RAW_SPAN_US, SLACK_US
from twofold.definitions.table import DELETED
from twofold.instants import DAY_US, to_us
from twofold.keys import Key
from twofold.plan import layout, reference
from twofold.plan.compile import CompiledView
from twofold.plan.inputs import MAJOR, MINOR, POLARS_TYPES, STAMP, TIME, all_rows, prepared
from twofold.plan.layout import Pointer
from twofold.plan.own import is_opaque
from twofold.plan.reference import Event
from twofold.plan.schedule import previous_fire
from twofold.plan.serving import FeaturePlan, SourcePlan, ViewPlan
from twofold.runtime.loading import finish_loads
from twofold.runtime.opened import Opened
from twofold.serve.features import FeatureReader, KeyRead
from twofold.testing.appended import appended
from twofold.testing.laws import same_value

_MOST_DIFFERENCES = 20
_ZERO_OF_SOME = frozenset({"sum", "decayed_sum", "histogram"})
"""Aggregates that may be 0 though there are values."""
_POSITION = ("__position_major", "__position_minor")


@dataclass
class Parity:
    """How many values were compared, how many said `ahead` instead, and what was different."""

    compared: int = 0
    ahead: int = 0
    different: int = 0
    examples: list[str] = field(default_factory=list)

    def __add__(self, other: Parity) -> Parity:
        examples = [*self.examples, *other.examples][:_MOST_DIFFERENCES]
        return Parity(self.compared + other.compared, self.ahead + other.ahead, self.different + other.different, examples)

    def differs(self, what: str) -> None:
        """Note a difference."""
        self.different += 1
        if len(self.examples) < _MOST_DIFFERENCES:
            self.examples.append(what)

    def check(self, at_least: int = 1) -> None:
        """Raise AssertionError where anything differed, or where too little was compared to say so."""
        assert not self.different, f"{self.different} of {self.compared} values are different:\n" + "\n".join(self.examples)
        assert self.compared >= at_least, f"only {self.compared} values were compared, {self.ahead} were ahead"


class Truth:
    """What history and log say about one view, from the log itself and in plain loops: no store, no index of duplicates.

    `events` are those that count, in the form of the reference. Only what retention has dropped from the log is read from the archive.
    Loads that were decided are finished first, as for all who look.
    """

    def __init__(self, opened: Opened, view: str) -> None:
        self.view: CompiledView = opened.compiled.view(view)
        finish_loads(opened, self.view.plan.sources)
        self.events = [
            event
            for number, source in enumerate(self.view.plan.sources)
            for branch in self.view.branches(source)
            for event in _events(branch, number, _counted(opened, opened.compiled.source(source)))
        ]
        self._of_key: dict[Key, list[Event]] = {}
        for event in self.events:
            self._of_key.setdefault(event.key, []).append(event)

    def of_key(self, key: Key) -> list[Event]:
        """The counted events of a key."""
        return self._of_key.get(key, [])


def _counted(opened: Opened, source: SourcePlan) -> pl.DataFrame:
    """The events of a source that count."""
    tables = opened.home.tables
    frames = [tables.history(source.name, tables.history_version(source.name))]
    if source.time is not None:
        frames.append(appended(opened, source))
    frame = _joined(opened, source, all_rows(source.stored, *frames))
    if source.time is not None:
        is_log, ahead = pl.col(MAJOR) >= LOG_ORDER, pl.col(source.time).to_physical() - pl.col(STAMP)
        frame = frame.filter(~(is_log & (ahead > DAY_US)))
    in_order = frame.sort(pl.col(MAJOR) >= LOG_ORDER, pl.when(pl.col(MAJOR) < LOG_ORDER).then(STAMP), MAJOR, MINOR)
    identities = in_order[source.id].to_list() if source.id is not None else [None] * in_order.height
    partitions = [None if major < LOG_ORDER else major for major in in_order[MAJOR]]
    keep = reference.counted(source, list(zip(identities, partitions, in_order[STAMP].to_list(), strict=True)))
    return in_order.filter(pl.Series(keep, dtype=pl.Boolean))


def _joined(opened: Opened, source: SourcePlan, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows, those of loaded history with what they join."""
    for join in source.joins:
        table, tables = opened.compiled.view(join.table), opened.home.tables
        pins = tables.pinned(source.name, join.table, tables.history_version(source.name))
        plan = opened.compiled.source(join.table)
        rows = {pin: list(_events(table, 0, all_rows(plan.columns, tables.history(join.table, pin)))) for pin in set(pins) if pin}
        found: dict[str, list[Any]] = {stored: frame[stored].to_list() for stored in join.types}
        times = frame[str(source.time)].to_physical().to_list()
        for number, (major, *key) in enumerate(frame.select(MAJOR, *join.keys).iter_rows()):
            if major < LOG_ORDER:
                row = reference.joined_row(table.plan, rows[pins[major - 1]], key, times[number])
                for column, stored in join.stored.items():
                    found[stored][number] = row[column]
        frame = frame.with_columns(pl.Series(name, found[name], POLARS_TYPES[kind]) for name, kind in join.types.items())
    return frame


def _events(view: CompiledView, source: int, frame: pl.DataFrame) -> Iterable[Event]:
    """One branch's events; `source` is the number of its source."""
    plan = view.plan
    frame = frame.with_columns(pl.col(MAJOR).alias(_POSITION[0]), pl.col(MINOR).alias(_POSITION[1]))
    for row in prepared(view, frame, _POSITION).iter_rows(named=True):
        values = (row[f"in{i}"] for i in range(len(plan.inputs)))
        inputs = tuple(_row_values(value) if isinstance(value, dict) else value for value in values)
        key, position = tuple(row[f"k{i}"] for i in range(len(plan.by))), (source, row[_POSITION[0]], row[_POSITION[1]])
        yield Event(key, row[TIME], (row[MAJOR], row[MINOR]), row[STAMP], inputs, position)


def _row_values(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row's values; none of a deleted row of a table."""
    return () if row.pop(DELETED, False) else tuple(row.values())


# Online


def online_parity(opened: Opened, view: str, keys: Sequence[Any], instants: Sequence[int | None]) -> Parity:
    """Every key read online at every instant (None: now), compared with the reference over the positions that the store has applied.

    A value may be `ahead` only where a state could not be exact: at or before the greatest event_time that may be folded, or more
    than 5 min before the clock of a generation or delta.
    """
    parity, truth = Parity(), Truth(opened, view)
    home = opened.home
    reader = FeatureReader(opened.compiled.serving, home.store, home.log.uuid, home.log.partitions, home.clock)
    with home.store.snapshot() as snapshot:
        raw = snapshot.get(layout.pointer_key(truth.view.plan.version))
        entries = [layout.offset_key(source, p) for source in truth.view.plan.sources for p in range(home.log.partitions)]
        applied = [layout.decode_int(offset) for offset in snapshot.multi_get(entries)]
    assert raw is not None, f"{view} has no pointer; catch up or build first"
    held = _Held(truth.view.plan, layout.decode_pointer(raw), opened.began(view), applied)
    clock = home.clock.now_us()
    try:
        for instant in instants:
            for read in reader.features(view, list(keys), instant):
                _compare_online(parity, truth, held, read, clock, instant is None)
    finally:
        reader.close()
    return parity


@dataclass(frozen=True)
class _Held:
    """Which events the store holds for a view, by their positions alone."""

    plan: ViewPlan
    pointer: Pointer
    began: Sequence[int]
    applied: Sequence[int]

    def in_generation(self, event: Event) -> bool:
        if self.plan.mode == "stream" or (self.plan.as_of == "build" and event.event_time >= self.pointer.base_us):
            return False
        source, major, minor = event.position
        if major < LOG_ORDER:
            return major <= self.pointer.history[source]
        return minor < _offset(self.plan, self.pointer.cut, event)

    def in_deltas(self, event: Event) -> bool:
        _, major, minor = event.position
        if self.plan.mode == "batch" or major < LOG_ORDER:
            return False
        begin = self.began if self.plan.mode == "stream" else self.pointer.cut
        return _offset(self.plan, begin, event) <= minor < _offset(self.plan, self.applied, event)


def _offset(plan: ViewPlan, offsets: Sequence[int], event: Event) -> int:
    """Of offsets by source and partition, the one of a log event's own."""
    source, major, _ = event.position
    return offsets[source * (len(offsets) // len(plan.sources)) + major - LOG_ORDER]


def _compare_online(parity: Parity, truth: Truth, held: _Held, read: KeyRead, clock: int, is_now: bool) -> None:
    plan = held.plan
    key = _as_key(read.key, plan)
    events = truth.of_key(key)
    mine = [event for event in events if held.in_generation(event) or held.in_deltas(event)]
    t_us = held.pointer.base_us if plan.as_of == "build" else read.at_us
    where = f"{plan.name}{read.key} online at {read.at_us}"
    if is_now and read.at_us != max([clock, *(event.event_time + 1 for event in mine)]):
        parity.differs(f"{where}: t is neither the clock {clock} nor just after the newest event")
    if "ahead" in read.statuses:
        if is_now or _must_be_exact(held, events, t_us, clock):
            parity.differs(f"{where}: ahead, where the state is exact")
        parity.ahead += len(read.values)
        assert set(read.statuses) == {"ahead"}, read.statuses
        assert set(read.values) == {None}, read.values
        return
    expected = reference.features_at(plan, mine, key, t_us)
    is_row = None if plan.row is None else reference.has_row(plan, mine, key, t_us)
    for feature, value, status in zip(plan.features, read.values, read.statuses, strict=True):
        _compare(parity, f"{where}.{feature.name}", plan, feature, value, status, expected[feature.name], is_row)


def _must_be_exact(held: _Held, events: Sequence[Event], t_us: int, clock: int) -> bool:
    """Whether t lies above all that may be folded and, where there are windows, at or after every base - 5 min."""
    plan = held.plan
    folded = [event.event_time for event in events if held.in_generation(event)]
    unfolded = [event for event in events if held.in_deltas(event)]
    newest = sorted(unfolded, key=lambda event: (event.event_time, event.order))[-RAW_EVENTS:]
    folded += [event.event_time for event in unfolded if event.event_time < clock - RAW_SPAN_US or event not in newest]
    bases = [] if plan.mode == "stream" else [held.pointer.base_us]
    bases += [clock] if plan.mode != "batch" else []
    has_windows = any(window.width_us is not None for window in plan.windows)
    return t_us > max(folded, default=t_us - 1) and (not has_windows or t_us >= max(bases) - SLACK_US)


# History


def history_parity(
    opened: Opened, view: str, keys: Sequence[Any], instants: Sequence[int], visibility: Literal["ideal", "arrival"] = "ideal"
) -> Parity:
    """Every key at every instant from history and log, compared with the reference over the events that were visible then."""
    parity, truth = Parity(), Truth(opened, view)
    plan = truth.view.plan
    schema = {**{name: POLARS_TYPES[kind] for name, kind in plan.by.items()}, "at": pl.Int64()}
    spine = pl.DataFrame([(*_as_key(key, plan), t) for t in instants for key in keys], schema=schema, orient="row")
    spine = spine.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    began = opened.began(view)
    answers = opened.history(view, spine, visibility, status=True)
    assert answers.height == spine.height
    for row in answers.iter_rows(named=True):
        key, at = tuple(row[name] for name in plan.by), to_us(row["at"])
        seen = _Seen(plan, at, visibility, began)
        events = [event for event in truth.of_key(key) if seen(event)]
        expected = reference.features_at(plan, events, key, seen.window_end)
        is_row = None if plan.row is None else reference.has_row(plan, events, key, seen.window_end)
        for feature in plan.features:
            where = f"{plan.name}{key}.{feature.name} from history ({visibility}) at {at}"
            value, status = row[feature.name], row[f"{feature.name}__status"]
            _compare(parity, where, plan, feature, value, status, expected[feature.name], is_row)
    return parity


class _Seen:
    """Whether serving would have seen an event at an instant, by the semantics' own words."""

    def __init__(self, plan: ViewPlan, at: int, visibility: str, began: tuple[int, ...]) -> None:
        fire = previous_fire(plan.refresh, at) if plan.mode == "batch" and plan.refresh is not None else None
        self.window_end = fire if fire is not None and plan.as_of == "build" else at
        self._plan, self._at, self._fire, self._visibility, self._began = plan, at, fire, visibility, began

    def __call__(self, event: Event) -> bool:
        _, major, minor = event.position
        if self._plan.mode == "stream" and (major < LOG_ORDER or not self._began or minor < _offset(self._plan, self._began, event)):
            return False
        if self._fire is not None and event.event_time >= self._fire:
            return False
        if self._visibility == "ideal":
            arrival = event.event_time + self._plan.delay_us
            return arrival <= self._at if self._fire is None else arrival < self._fire
        return event.stamp <= self._at if self._fire is None else event.stamp < self._fire


def _as_key(key: Any, plan: ViewPlan) -> tuple[Any, ...]:
    return tuple(key) if isinstance(key, tuple | list) else (key,) if plan.by else ()


def _compare(
    parity: Parity, where: str, plan: ViewPlan, feature: FeaturePlan, value: Any, status: str, expected: Any, is_row: bool | None
) -> None:
    parity.compared += 1
    if not same_value(value, None if expected is OVERFLOW else expected):
        parity.differs(f"{where}: {value!r}, not {expected!r}")
    elif status not in _statuses(plan, feature, expected, is_row):
        parity.differs(f"{where}: {value!r} is {status}")


def _statuses(plan: ViewPlan, feature: FeaturePlan, expected: Any, is_row: bool | None) -> tuple[str, ...]:
    """The statuses that a value may have; a sum of 0 may be both. `is_row` (of a table): its nulls are present."""
    present = ("present",) if plan.max_age_us is None else ("present", "stale")
    if expected is OVERFLOW:
        return ("overflow",)
    if is_opaque(plan, feature):
        return ("empty", "failed") if expected is None else ("empty", *present)
    if expected is None:
        if is_row is not None:
            return present if is_row else ("empty",)
        return ("empty", *present) if "column" in feature.parameters else ("empty",)
    if expected == 0 and feature.aggregate in ZERO_IF_EMPTY:
        return ("empty", *present) if feature.aggregate in _ZERO_OF_SOME else ("empty",)
    return present
