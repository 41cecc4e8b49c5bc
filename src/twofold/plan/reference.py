"""The meaning in plain loops: a feature is the merge of the states of the key's events in the window. Every engine is tested against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twofold.algebra.base import OVERFLOW, Aggregate, Item, Window
from twofold.algebra.guarded import Guarded
from twofold.algebra.kinds import OVERFLOW as OVERFLOWN
from twofold.algebra.windows import window_at
from twofold.keys import Key
from twofold.plan.own import guarded, is_opaque, meaning_of
from twofold.plan.serving import FeaturePlan, SourcePlan, ViewPlan


class Event(NamedTuple):
    """A counted event of a view: its key, time, order, and the value of each input (None: null).

    `stamp` is the arrival_time of a log event, the event_time of loaded history. An input of type "row" is a tuple, a
    deleted row of a table an empty one.
    `position` is where history and log have it, (number of the source, history version, row) or (number of the source, `LOG_ORDER` +
    partition, offset): its `order` differs where an event was exploded or is one branch's of several.
    """

    key: Key
    event_time: int
    order: tuple[int, int]
    stamp: int
    inputs: tuple[Any, ...]
    position: tuple[int, int, int] = (0, 0, 0)


Visible = Callable[[Event], bool]


def features_at(view: ViewPlan, events: Sequence[Event], key: Key, t_us: int, visible: Visible = lambda event: True) -> dict[str, Any]:
    """Every feature of a key at t over the events that are visible; None is null, OVERFLOW beyond the type's range."""
    mine = [event for event in events if event.key == key and visible(event)]
    return {feature.name: _feature_at(view, feature, mine, t_us) for feature in view.features}


def _feature_at(view: ViewPlan, feature: FeaturePlan, events: Sequence[Event], t_us: int) -> Any:
    plan = view.windows[feature.window]
    window = window_at(t_us, plan.width_us, plan.hop_us, plan.ago_us)
    source = view.slots[feature.slot].input
    values = ((event, True if source < 0 else event.inputs[source]) for event in events if _holds(window, event.event_time))
    items = [Item(value, event.event_time, event.order) for event, value in values if value is not None]
    if is_opaque(view, feature):
        return _own_value(guarded(view, feature), items, t_us, window)
    meaning = meaning_of(view, feature)
    state = meaning.zero()
    for item in items:
        state = meaning.add(state, item)
    value = meaning.result(state, t_us, window)
    columns = None if source < 0 else view.inputs[source].columns
    if columns is not None and value is not None:
        return value[list(columns).index(feature.parameters["column"])] if value else None
    return value


def _own_value(aggregate: Guarded, items: Sequence[Item], t_us: int, window: Window) -> Any:
    """The value of a person's own aggregate, by `add` alone."""
    held = aggregate.zero
    for item in items:
        held = aggregate.added(held, item)
    value, status = aggregate.result(held, t_us, window)
    return OVERFLOW if status == OVERFLOWN else value


def has_row(view: ViewPlan, events: Sequence[Event], key: Key, t_us: int) -> bool:
    """Whether a table has a row for a key at t: the latest before t is there, and no delete."""
    rows = [event for event in events if event.key == key and event.event_time < t_us]
    return bool(rows) and max(rows, key=lambda event: (event.event_time, event.order)).inputs != ((),)


def joined_row(table: ViewPlan, rows: Sequence[Event], key: Sequence[Any], event_time: int) -> dict[str, Any]:
    """The columns that an event of loaded history joins: those of the table's latest row of the key before the event's time.

    Each is None where there is no such row, where it deletes the key, and where a part of the key is null. `rows` are the table's
    loaded ones. An event of the log is joined with nothing here: its record holds the row that had been applied when it was appended.
    """
    return features_at(table, [] if None in key else rows, tuple(key), event_time)


def _holds(window: Window, event_time: int) -> bool:
    return (window.start_us is None or window.start_us <= event_time) and event_time < window.end_us


def counted(source: SourcePlan, events: Sequence[tuple[Any, int | None, int]]) -> list[bool]:
    """Which events count, by the rule of duplicates, for `(id, partition, stamp)` in order: loaded history (partition None) first.

    An event is dropped iff a counted event of the same id precedes it in its partition (history precedes every partition) with a
    stamp less than the horizon before its own.
    """
    if source.dedupe_us is None:
        return [True] * len(events)
    answers: list[bool] = []
    for at, (identity, partition, stamp) in enumerate(events):
        is_duplicate = identity is not None and any(
            answers[i] and other == identity and earlier in (None, partition) and stamp - before < source.dedupe_us
            for i, (other, earlier, before) in enumerate(events[:at])
        )
        answers.append(not is_duplicate)
    return answers


__all__ = ["OVERFLOW", "Aggregate", "Event", "counted", "features_at"]
