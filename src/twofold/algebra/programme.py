"""The merge programme: a view's slots, windows, levels and features as one array of words, cheap to hand to a compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twofold.algebra import kinds, states
from twofold.algebra.windows import Levels, Span
from twofold.algebra.words import WIDE_TYPES

Words = NDArray[np.int64]

SLOTS, INPUTS, WINDOWS, LEVELS, FEATURES, AREA_SIZE, KEEPS_ALL = range(7)
_HEADER = 8


@dataclass(frozen=True)
class Slot:
    """Kind of state (`"moments1"`), type name of its input, index of the input (-1: the event itself), the size of kinds that have one."""

    state: str
    input_type: str
    input: int
    size: int = 0


@dataclass(frozen=True)
class Wanted:
    """A feature as the programme has it: its slot, its window, its aggregate's name and argument, how many words its result takes."""

    slot: int
    window: int
    aggregate: str
    argument: int = 0
    words: int = 1


def value_kind(type_name: str) -> int:
    """How a value of a type lies in a word."""
    if type_name in WIDE_TYPES:
        return kinds.WIDE
    return kinds.FLOAT if type_name == "float" else kinds.INT


def assemble(slots: Sequence[Slot], input_types: Sequence[str], windows: Sequence[Span], features: Sequence[Wanted]) -> Words:
    """The programme of a view: its slots, the types of its inputs, its windows and its features."""
    slot_kinds = [kinds.KINDS[slot.state] for slot in slots]
    sizes = [states.area_size(kind, slot.size) for kind, slot in zip(slot_kinds, slots, strict=True)]
    levels = Levels.of([(window.reach_us, window.hop_us) for window in windows])
    header = [len(slots), len(input_types), len(windows), len(levels.hops_us), len(features), sum(sizes), int(levels.keeps_all), 0]
    parts: list[Sequence[int]] = [
        slot_kinds,
        [value_kind(slot.input_type) for slot in slots],
        [slot.input for slot in slots],
        [sum(sizes[:i]) for i in range(len(sizes))],
        [slot.size for slot in slots],
        [value_kind(name) for name in input_types],
        [-1 if window.width_us is None else window.width_us for window in windows],
        [window.hop_us for window in windows],
        [window.ago_us for window in windows],
        levels.hops_us,
        levels.reaches_us,
        [feature.slot for feature in features],
        [feature.window for feature in features],
        [kinds.OPS[feature.aggregate] for feature in features],
        [feature.argument for feature in features],
        [sum(feature.words for feature in features[:i]) for i in range(len(features))],
    ]
    return np.array([*header, *(word for part in parts for word in part)], np.int64)


@njit(cache=True)
def slots_of(p):
    """(kinds, value kinds, inputs, area bases) of the slots."""
    n, at = p[SLOTS], _HEADER
    return p[at : at + n], p[at + n : at + 2 * n], p[at + 2 * n : at + 3 * n], p[at + 3 * n : at + 4 * n]


@njit(cache=True)
def sizes_of(p):
    """The sizes of the slots' kinds, 0 of those that have none."""
    n, at = p[SLOTS], _HEADER + 4 * p[SLOTS]
    return p[at : at + n]


@njit(cache=True)
def input_kinds_of(p):
    """Value kinds of the inputs."""
    at = _HEADER + 5 * p[SLOTS]
    return p[at : at + p[INPUTS]]


@njit(cache=True)
def windows_of(p):
    """(widths, hops, agos) of the windows; width -1 is all time."""
    n, at = p[WINDOWS], _HEADER + 5 * p[SLOTS] + p[INPUTS]
    return p[at : at + n], p[at + n : at + 2 * n], p[at + 2 * n : at + 3 * n]


@njit(cache=True)
def levels_of(p):
    """(hops, reaches) of the levels, finest first."""
    n, at = p[LEVELS], _HEADER + 5 * p[SLOTS] + p[INPUTS] + 3 * p[WINDOWS]
    return p[at : at + n], p[at + n : at + 2 * n]


@njit(cache=True)
def features_of(p):
    """(slots, windows, operations, arguments, places of the results among the words written) of the features."""
    n, at = p[FEATURES], _HEADER + 5 * p[SLOTS] + p[INPUTS] + 3 * p[WINDOWS] + 2 * p[LEVELS]
    return p[at : at + n], p[at + n : at + 2 * n], p[at + 2 * n : at + 3 * n], p[at + 3 * n : at + 4 * n], p[at + 4 * n : at + 5 * n]


def new_areas(programme: Words, rows: int) -> Words:
    """Scratch of `rows` areas, each the zero of every slot; kernels leave it zero."""
    areas = np.zeros((rows, int(programme[AREA_SIZE])), np.int64)
    slot_kinds, _, _, bases = slots_of(programme)
    for row in areas:
        states.prepare(row, slot_kinds, bases, sizes_of(programme))
    return areas
