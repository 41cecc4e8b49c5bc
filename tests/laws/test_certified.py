"""Results without long arithmetic: certain only where they are those of long arithmetic, and certain of ordinary numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twofold.algebra import certified, exact, powers
from twofold.algebra.base import registered
from twofold.algebra.kinds import FLOAT, KINDS
from twofold.algebra.programme import new_areas
from twofold.plan.merge import single_slot_programme
from twofold.testing.strategies import floats

STD = registered()["std"]("float")


def area_of(values: list[float]) -> Any:
    """The normalised area of power sums."""
    area = new_areas(single_slot_programme(STD.state, "float"), 1)[0]
    for value in values:
        area[0] += 1
        powers.add(area, 0, KINDS[STD.state], FLOAT, int(np.float64(value).view(np.int64)), 1)
    exact.normalise(area, powers.FIRST, exact.BINS_1)
    exact.normalise(area, powers.SECOND, exact.BINS_2)
    return area


def certain(values: list[float]) -> int:
    """How many of sum, mean and variance are certain; each of those must be what long arithmetic says."""
    area, found = area_of(values), 0
    high, low = certified.double_double(area, powers.FIRST)
    for divisor in (1, len(values)):
        exponent = 32 * (int(area[powers.FIRST + exact.HI]) - exact.OFFSET_1)
        value, is_certain = certified.quotient(high, low, exponent, divisor)
        if is_certain:
            assert (value, False) == exact.rounded_quotient(area, powers.FIRST, exact.BINS_1, exact.OFFSET_1, divisor)
        found += is_certain
    if len(values) > 1:
        value, is_certain = certified.variance(area, powers.FIRST, powers.SECOND, len(values), exact.OFFSET_2, high, low)
        if is_certain:
            assert (value, False) == exact.variance(area, powers.FIRST, powers.SECOND, len(values))
        found += is_certain
    return found


@settings(max_examples=500)
@given(st.lists(floats(), min_size=1, max_size=30))
@example([2.0**53, 1.0])
@example([2.0**53, 1.0, 2.0**-60])
@example([2.0**53, 1.0, -(2.0**-1000)])
@example([1e15, 0.1, -1e15])
@example([1.0, 1.0 + 2.0**-52])
@example([1.7e9 + 0.123456, 1.7e9 + 0.123457])
def test_what_is_certain_is_right(values: list[float]) -> None:
    certain(values)


@given(st.integers(2**52, 2**53 - 1), st.sampled_from([0.0, 2.0**-45, -(2.0**-45), 2.0**-70, -(2.0**-70), 2.0**-200, -(2.0**-200)]))
def test_sums_beside_the_middle_between_two_floats(whole: int, beside: float) -> None:
    certain([float(whole), 0.5, beside])
    certain([float(whole), float(whole), 1.0, beside])


@pytest.mark.parametrize("seed", range(5))
def test_ordinary_numbers_are_certain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [np.round(rng.lognormal(3, 1, int(rng.integers(2, 200))), 2).tolist() for _ in range(200)]
    assert sum(map(certain, drawn)) >= 0.97 * 3 * 200
