"""The merge programme: a view's slots, windows, levels and features as one array of words, cheap to hand to a compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from twofold.algebra import states
from twofold.algebra.windows import Levels
from twofold.algebra.words import WIDE_TYPES

Words = NDArray[np.int64]

SLOTS, INPUTS, WINDOWS, LEVELS, FEATURES, AREA_SIZE, KEEPS_ALL = range(7)
_HEADER = 8


@dataclass(frozen=True)
class Slot:
    """Kind of state (`"moments1"`), type name of its input, index of the input (-1: the event itself)."""

    state: str
    input_type: str
    input: int


def value_kind(type_name: str) -> int:
    """How a value of a type lies in a word."""
    if type_name in WIDE_TYPES:
        return states.WIDE
    return states.FLOAT if type_name == "float" else states.INT


def assemble(
    slots: Sequence[Slot],
    input_types: Sequence[str],
    windows: Sequence[tuple[int | None, int]],
    features: Sequence[tuple[int, int, str]],
) -> Words:
    """The programme of slots, inputs, windows `(width_us, hop_us)` and features `(slot, window, aggregate's name)`."""
    kinds = [states.KINDS[slot.state] for slot in slots]
    sizes = [states.SIZES[kind] for kind in kinds]
    bases = [sum(sizes[:i]) for i in range(len(sizes))]
    levels = Levels.of(windows)
    header = [len(slots), len(input_types), len(windows), len(levels.hops_us), len(features), sum(sizes), int(levels.keeps_all), 0]
    parts: list[Sequence[int]] = [
        kinds,
        [value_kind(slot.input_type) for slot in slots],
        [slot.input for slot in slots],
        bases,
        [value_kind(name) for name in input_types],
        [-1 if width is None else width for width, _ in windows],
        [hop for _, hop in windows],
        levels.hops_us,
        levels.reaches_us,
        [slot for slot, _, _ in features],
        [window for _, window, _ in features],
        [states.OPS[name] for _, _, name in features],
    ]
    return np.array([*header, *(word for part in parts for word in part)], np.int64)


@njit(cache=True)
def slots_of(p):
    """(kinds, value kinds, inputs, area bases) of the slots."""
    n, at = p[SLOTS], _HEADER
    return p[at : at + n], p[at + n : at + 2 * n], p[at + 2 * n : at + 3 * n], p[at + 3 * n : at + 4 * n]


@njit(cache=True)
def input_kinds_of(p):
    """Value kinds of the inputs."""
    at = _HEADER + 4 * p[SLOTS]
    return p[at : at + p[INPUTS]]


@njit(cache=True)
def windows_of(p):
    """(widths, hops) of the windows; width -1 is all time."""
    n, at = p[WINDOWS], _HEADER + 4 * p[SLOTS] + p[INPUTS]
    return p[at : at + n], p[at + n : at + 2 * n]


@njit(cache=True)
def levels_of(p):
    """(hops, reaches) of the levels, finest first."""
    n, at = p[LEVELS], _HEADER + 4 * p[SLOTS] + p[INPUTS] + 2 * p[WINDOWS]
    return p[at : at + n], p[at + n : at + 2 * n]


@njit(cache=True)
def features_of(p):
    """(slots, windows, operations) of the features."""
    n, at = p[FEATURES], _HEADER + 4 * p[SLOTS] + p[INPUTS] + 2 * p[WINDOWS] + 2 * p[LEVELS]
    return p[at : at + n], p[at + n : at + 2 * n], p[at + 2 * n : at + 3 * n]


def new_areas(programme: Words, rows: int) -> Words:
    """Scratch of `rows` areas, each the zero of every slot; kernels leave it zero."""
    areas = np.zeros((rows, int(programme[AREA_SIZE])), np.int64)
    kinds, _, _, bases = slots_of(programme)
    for row in areas:
        states.prepare(row, kinds, bases)
    return areas
