"""The part of a key's blob that compiled code does not understand: a pyramid of tiles and raw events of opaque states, in plain Python.

By the same rules as `tiles.fold` and `reading.read`, which are tested against it. What an aggregate's code does is `guarded`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from twofold.algebra.base import Item, Window
from twofold.algebra.guarded import Guarded, Held
from twofold.algebra.windows import RAW_EVENTS, RAW_SPAN_US, SLACK_US, Levels, Span, window_at
from twofold.algebra.words import decode_value, encode_value
from twofold.instants import BEGIN_US

NEVER = BEGIN_US - 1
_WORDS = frozenset({"float", "int", "bool", "datetime"})


class Event(NamedTuple):
    """An event of a key: its time, its order, and the value of each input by its number (null: not there)."""

    time: int
    order: tuple[int, int]
    values: Mapping[int, Any]


class Slot(NamedTuple):
    """One opaque state of a tile: an aggregate over one input (-1: the event itself)."""

    aggregate: Guarded
    input: int


@dataclass(frozen=True)
class Part:
    """What is kept of a key: tiles by their start, events that are not folded yet, in order; the rest as in `tiles`."""

    base: int
    folded_max: int
    greatest: int
    tiles: Mapping[int, Sequence[Held]]
    raw: Sequence[Event]


class Programme:
    """The slots of a view and the windows that they are read over; `wanted` are (slot, window) of each feature."""

    def __init__(
        self, slots: Sequence[Slot], input_types: Mapping[int, str], windows: Sequence[Span], wanted: Sequence[tuple[int, int]]
    ) -> None:
        self.slots, self.input_types, self.windows, self.wanted = slots, input_types, windows, wanted
        self.levels = Levels.of([(window.reach_us, window.hop_us) for window in windows])

    def window_at(self, window: int, t_us: int) -> Window:
        """A window that ends at t (or `ago` before)."""
        span = self.windows[window]
        return window_at(t_us, span.width_us, span.hop_us, span.ago_us)


# Folding


def fold(programme: Programme, part: Part | None, events: Sequence[Event], now_us: int, keeps_raw: bool) -> Part | None:
    """A key's part with more events in it, compacted at the clock `now_us`; None where nothing remains of what is all folded."""
    base = now_us if part is None else max(now_us, part.base)
    old = () if part is None else part.raw
    pending = sorted([*old, *events], key=lambda event: (event.time, event.order))
    folding = _folding(pending, base) if keeps_raw else len(pending)
    tiles = {} if part is None else _compacted(programme, part, base)
    for event in pending[:folding]:
        start = programme.levels.tile_of(event.time, base)
        if start is not None:
            tiles[start] = _with_event(programme, tiles.get(start, _nothing(programme)), event)
    if not tiles and folding == len(pending) and not keeps_raw:
        return None
    folded_max = max([NEVER if part is None else part.folded_max, *(event.time for event in pending[:folding])])
    greatest = max([NEVER if part is None else part.greatest, *(event.time for event in pending)])
    return Part(base, folded_max, greatest, dict(sorted(tiles.items())), pending[folding:])


def _folding(pending: Sequence[Event], base: int) -> int:
    """How many events are folded: those of more than `RAW_SPAN_US` ago, and those above `RAW_EVENTS` of them."""
    folding = max(len(pending) - RAW_EVENTS, 0)
    while folding < len(pending) and pending[folding].time < base - RAW_SPAN_US:
        folding += 1
    return folding


def _compacted(programme: Programme, part: Part, base: int) -> dict[int, Sequence[Held]]:
    """The tiles of a part as the clock `base` has them: some in the next coarser, some dropped."""
    tiles: dict[int, Sequence[Held]] = {}
    for start, states in part.tiles.items():
        target = programme.levels.tile_of(start, base)
        if target is not None:
            tiles[target] = _merged(programme, tiles[target], states) if target in tiles else states
    return tiles


def _nothing(programme: Programme) -> list[Held]:
    return [slot.aggregate.zero for slot in programme.slots]


def _merged(programme: Programme, left: Sequence[Held], right: Sequence[Held]) -> list[Held]:
    return [slot.aggregate.merged(a, b) for slot, a, b in zip(programme.slots, left, right, strict=True)]


def _with_event(programme: Programme, states: Sequence[Held], event: Event) -> list[Held]:
    found = (lifted(slot, event) for slot in programme.slots)
    return [
        state if mine is None else slot.aggregate.merged(state, mine)
        for slot, state, mine in zip(programme.slots, states, found, strict=True)
    ]


def lifted(slot: Slot, event: Event) -> Held | None:
    """The state of one event in a slot; None where it has none there."""
    value = True if slot.input < 0 else event.values.get(slot.input)
    return None if value is None else slot.aggregate.lifted(Item(value, event.time, event.order))


# Reading


def read(programme: Programme, parts: Sequence[Part], t_us: int) -> list[tuple[Any, int]]:
    """(value, status code) of each feature at t from a key's parts."""
    return [_read_feature(programme, parts, slot, window, t_us) for slot, window in programme.wanted]


def is_exact(programme: Programme, parts: Sequence[Part], t_us: int) -> bool:
    """Whether t lies above all that is folded and, where there are windows, at or above every base - SLACK_US."""
    return all(t_us > part.folded_max and (not programme.levels.hops_us or t_us >= part.base - SLACK_US) for part in parts)


def _read_feature(programme: Programme, parts: Sequence[Part], number: int, window: int, t_us: int) -> tuple[Any, int]:
    slot, bounds = programme.slots[number], programme.window_at(window, t_us)
    total = slot.aggregate.zero
    for part in parts:
        for start, states in part.tiles.items():
            if _holds(bounds, start):
                total = slot.aggregate.merged(total, states[number])
        for event in part.raw:
            if _holds(bounds, event.time) and (mine := lifted(slot, event)) is not None:
                total = slot.aggregate.merged(total, mine)
    return slot.aggregate.result(total, t_us, bounds)


def _holds(window: Window, time: int) -> bool:
    return (window.start_us is None or window.start_us <= time) and time < window.end_us


def slide(aggregate: Guarded, states: Sequence[Held | None], spans: Iterable[tuple[int, int]]) -> Iterator[Held]:
    """The merged states of each span `[low, high)` of events; both ends only ever grow. About three merges an event.

    Two stacks: of the older events the merge of each with all that follow it, of the newer ones one merge.
    """
    older: list[Held] = []
    newer, split, end = aggregate.zero, 0, 0
    for low, high in spans:
        if low >= split:
            older, newer, split, end = [], aggregate.zero, high, high
            for i in range(high - 1, low - 1, -1):
                older.append(_and(aggregate, states[i], older[-1] if older else aggregate.zero))
        for i in range(end, high):
            newer = _and(aggregate, states[i], newer)
        end = max(end, high)
        del older[max(split - low, 0) :]
        yield aggregate.merged(older[-1], newer) if older else newer


def _and(aggregate: Guarded, one: Held | None, others: Held) -> Held:
    return others if one is None else aggregate.merged(one, others)


# Bytes


def encode_part(programme: Programme, part: Part) -> bytes:
    """A part as bytes, the same for equal parts."""
    words = [slot.aggregate.words for slot in programme.slots]
    tiles = [
        (start, [(held.n, words_of(held)) for words_of, held in zip(words, states, strict=True)]) for start, states in part.tiles.items()
    ]
    raw = [
        (event.time, *event.order, [(i, _encoded(event.values[i], programme.input_types[i])) for i in sorted(event.values)])
        for event in part.raw
    ]
    return msgspec.msgpack.encode((part.base, part.folded_max, part.greatest, tiles, raw))


def decode_part(programme: Programme, raw: bytes) -> Part:
    """The part that `encode_part` wrote."""
    base, folded_max, greatest, tiles, events = msgspec.msgpack.decode(raw)
    kinds = programme.input_types
    return Part(
        base,
        folded_max,
        greatest,
        {
            start: [
                slot.aggregate.held(n, None if words is None else tuple(words))
                for slot, (n, words) in zip(programme.slots, states, strict=True)
            ]
            for start, states in tiles
        },
        [
            Event(time, (major, minor), {i: decode_value(value, kinds[i]) if kinds[i] in _WORDS else value for i, value in values})
            for time, major, minor, values in events
        ],
    )


def _encoded(value: Any, kind: str) -> Any:
    return encode_value(value, kind) if kind in _WORDS else value
