"""Results against what others compute: `math.fsum`, `statistics`, exact fractions, the builtins; never against ourselves."""

from __future__ import annotations

import math
import random
import statistics
import sys
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twofold.algebra.base import OVERFLOW, Item, registered
from twofold.algebra.decay import power_of_two
from twofold.algebra.windows import window_at
from twofold.instants import US_PER_SECOND, hop_for, to_us
from twofold.testing.laws import same_value, state_of, value_of
from twofold.testing.strategies import LARGEST, SMALLEST, floats, ints, values

FLOATS = st.lists(floats(), max_size=30)
INTS = st.lists(ints(), max_size=30)
LEDGER = [1e15, 0.1, -1e15, 0.2, 1e15, -1e15, 0.3]
SCALES = [1e300, 1e-300, -1e300, 1e-300]
SUBNORMAL = [SMALLEST, SMALLEST, -3 * SMALLEST, 2.2250738585072014e-308]
SECONDS = [1_700_000_000.123456, 1_700_000_000.123457, 1_700_000_000.123458]
BEYOND = [LARGEST, LARGEST, -LARGEST]


def result(name: str, kind: str, drawn: list[Any], **parameters: Any) -> Any:
    aggregate = registered()[name](kind, **parameters)
    return value_of(aggregate, state_of(aggregate, [Item(value, i, (1, i)) for i, value in enumerate(drawn)]))


def nearest(exact: Fraction) -> Any:
    """The float64 nearest to a fraction, by its own conversion; OVERFLOW beyond."""
    try:
        return float(exact) + 0.0
    except OverflowError:
        return OVERFLOW


def agrees(got: Any, expected: Any) -> bool:
    return got is expected or same_value(got, expected)


@given(FLOATS)
@example(LEDGER)
@example(SCALES)
@example(SUBNORMAL)
@example(SECONDS)
@example([1e16, 1.0, -1e16])
def test_sum_is_fsum(drawn: list[float]) -> None:
    try:
        expected = math.fsum(drawn) + 0.0
    except OverflowError:  # of a partial sum: fsum gives up where the whole may still be a float64
        expected = nearest(sum(map(Fraction, drawn), Fraction(0)))
    assert agrees(result("sum", "float", drawn), expected)


@given(FLOATS.filter(bool))
@example(LEDGER)
@example(SCALES)
@example(SUBNORMAL)
@example(SECONDS)
@example(BEYOND)
@example([LARGEST, LARGEST])
@example([SMALLEST, 0.0])
@example([SMALLEST, SMALLEST, 0.0])
def test_mean_is_that_of_statistics(drawn: list[float]) -> None:
    assert same_value(result("mean", "float", drawn), statistics.mean(drawn) + 0.0)


@given(INTS.filter(bool))
@example([2**63 - 1, 2**63 - 1, -(2**63)])
@example([2**53 + 1])
def test_mean_of_integers_is_the_nearest_to_the_fraction(drawn: list[int]) -> None:
    assert same_value(result("mean", "int", drawn), nearest(Fraction(sum(drawn), len(drawn))))


@given(INTS)
@example([2**63 - 1, 1, -1])
@example([2**63 - 1, 1])
@example([-(2**63), -1])
@example([-(2**63)])
def test_sum_of_integers_is_exact_or_beyond(drawn: list[int]) -> None:
    total = sum(drawn)
    assert agrees(result("sum", "int", drawn), total if -(2**63) <= total < 2**63 else OVERFLOW)


@given(st.lists(st.booleans(), min_size=1))
def test_booleans_are_shares(drawn: list[bool]) -> None:
    assert same_value(result("sum", "bool", drawn), drawn.count(True))
    assert same_value(result("mean", "bool", drawn), drawn.count(True) / len(drawn))


def check_deviation(got: Any, drawn: list[Any]) -> None:
    """The root of the true variance rounded once; within one unit in the last place of the correctly rounded deviation."""
    variance = statistics.variance(map(Fraction, drawn))
    if variance == 0:
        assert same_value(got, 0.0)
        return
    if sys.float_info.min <= variance <= sys.float_info.max:
        assert same_value(got, math.sqrt(float(variance)))
        return
    # Beyond float64 the variance, not the deviation: both scaled by a power of two into the middle.
    power = (variance.numerator.bit_length() - variance.denominator.bit_length()) // 2
    root = math.sqrt(float(variance / Fraction(4) ** power))
    assert agrees(got, OVERFLOW if math.frexp(root)[1] + power > 1024 else math.ldexp(root, power))


@given(st.lists(floats(), min_size=2, max_size=30))
@example(LEDGER)
@example(SCALES)
@example(SUBNORMAL)
@example(SECONDS)
@example([1_700_000_000.123456] * 100)
@example([LARGEST, -LARGEST])
@example([LARGEST, LARGEST, -LARGEST, -LARGEST])
@example([SMALLEST, 0.0])
@example([SMALLEST, -SMALLEST])
def test_std_is_the_root_of_the_true_variance(drawn: list[float]) -> None:
    check_deviation(result("std", "float", drawn), drawn)


@given(st.lists(ints(), min_size=2, max_size=30))
@example([2**63 - 1, -(2**63)])
@example([2**63 - 1] * 7)
def test_std_of_integers_is_the_root_of_the_true_variance(drawn: list[int]) -> None:
    check_deviation(result("std", "int", drawn), drawn)


@given(st.lists(floats(), min_size=2, max_size=30))
@example(LEDGER)
@example(SCALES)
@example(SUBNORMAL)
@example(SECONDS)
@example([LARGEST, -LARGEST])
@example([SMALLEST, 0.0])
def test_var_is_the_true_variance_rounded_once(drawn: list[float]) -> None:
    got, variance = result("var", "float", drawn), statistics.variance(map(Fraction, drawn))
    try:
        assert same_value(got, float(variance))
    except OverflowError:
        assert got is OVERFLOW


@given(st.lists(st.booleans(), min_size=1))
def test_any_all_and_share_are_the_builtins(drawn: list[bool]) -> None:
    assert result("any", "bool", drawn) is any(drawn)
    assert result("all", "bool", drawn) is all(drawn)
    assert same_value(result("share", "bool", drawn), drawn.count(True) / len(drawn))


@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), min_size=1), st.timedeltas(timedelta(0)))
def test_time_since_last_is_the_difference_of_datetimes(drawn: list[datetime], wait: timedelta) -> None:
    wait %= timedelta(days=36500)
    aggregate, t = registered()["time_since_last"]("event"), max(drawn) + wait
    state = state_of(aggregate, [Item(True, to_us(moment), (1, i)) for i, moment in enumerate(drawn)])
    assert same_value(aggregate.result(state, to_us(t), window_at(to_us(t), None, 0)), wait.total_seconds())


@given(st.integers(0, 10**6), st.integers(1, 10**8))
@example(3, 3600)
def test_rate_is_the_count_divided_by_the_seconds_of_the_window(count: int, seconds: int) -> None:
    rate, width = registered()["rate"]("event"), seconds * US_PER_SECOND
    assert same_value(rate.result(count, 0, window_at(0, width, hop_for(width))), count / seconds)


@given(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=30))
def test_std_lies_next_to_that_of_statistics(drawn: list[float]) -> None:
    got, expected = result("std", "float", drawn), statistics.stdev(drawn)
    assert abs(got - expected) <= math.ulp(expected)


@given(floats(), st.integers(2, 1000))
@example(0.1, 1000)
@example(LARGEST, 3)
@example(SMALLEST, 3)
def test_a_constant_column_has_no_deviation_and_its_own_mean(value: float, count: int) -> None:
    assert same_value(result("std", "float", [value] * count), 0.0)
    assert same_value(result("mean", "float", [value] * count), value)


@pytest.mark.parametrize("kind", ["float", "int", "bool", "datetime", "str", "category"])
def test_min_and_max_are_the_builtins(kind: str) -> None:
    @given(st.lists(values(kind), min_size=1))
    def holds(drawn: list[Any]) -> None:
        assert same_value(result("min", kind, drawn), min(drawn))
        assert same_value(result("max", kind, drawn), max(drawn))
        assert result("count", kind, drawn) == len(drawn)

    holds()


def test_what_lies_beyond_float64_says_so() -> None:
    assert result("sum", "float", [LARGEST, LARGEST]) is OVERFLOW
    assert same_value(result("sum", "float", BEYOND), LARGEST)
    assert same_value(result("mean", "float", [LARGEST, LARGEST]), LARGEST)
    assert result("std", "float", [LARGEST, -LARGEST]) is OVERFLOW
    # Half a unit in the last place above the largest rounds to beyond, anything less does not.
    half = 2.0**970
    assert result("sum", "float", [LARGEST, half]) is OVERFLOW
    assert same_value(result("sum", "float", [LARGEST, half, -SMALLEST]), LARGEST)


# Sketches: within their declared error of the exact answer

SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0, 0.5, 0.9, 0.99, 1]))
ERRORS = st.sampled_from([0.1, 0.02, 0.01, 0.005, 0.002])
NEAR = st.lists(st.one_of(st.floats(-1e6, 1e6), st.integers(-100, 100).map(float)), min_size=1, max_size=60)


@given(NEAR, SHARES, ERRORS)
@example(SECONDS, 0.5, 0.01)
@example([5.0] * 7, 0.3, 0.002)
def test_a_quantile_is_within_its_error_of_the_value_at_that_rank(drawn: list[float], q: float, error: float) -> None:
    expected = sorted(drawn)[math.floor(q * (len(drawn) - 1))]
    top = max(map(abs, drawn))
    if abs(expected) > max(top / 2**63, 2.0**-1022):
        assert abs(result("quantile", "float", drawn, q=q, error=error) - expected) <= error * abs(expected)
    elif abs(expected) <= top / 2**65:
        assert result("quantile", "float", drawn, q=q, error=error) == 0


@given(st.lists(ints(), min_size=1, max_size=30), SHARES)
def test_a_quantile_of_integers_and_of_booleans(drawn: list[int], q: float) -> None:
    expected = sorted(drawn)[math.floor(q * (len(drawn) - 1))]
    if abs(expected) >= max(map(abs, drawn)) / 2**63:
        assert abs(result("quantile", "int", drawn, q=q) - expected) <= 0.01 * abs(expected)
    rank = math.floor(q * (len(drawn) - 1))
    bits = [value > 0 for value in drawn]
    assert abs(result("quantile", "bool", bits, q=q) - sorted(bits)[rank]) <= 0.01


def test_tiny_magnitudes_beside_huge_ones_count_as_zero_and_only_then() -> None:
    assert result("quantile", "float", [1e-300, 2e-300, 3e-300], q=0.5) == pytest.approx(2e-300, rel=0.01)
    assert result("quantile", "float", [1e-300, 2e-300, 1e300], q=0.5) == 0
    assert result("quantile", "float", [-1e300, 1e-300, 1e300], q=0.5) == 0
    assert result("quantile", "float", [SMALLEST, SMALLEST], q=0.5) == 0
    assert result("quantile", "float", [LARGEST, LARGEST], q=0.5) == pytest.approx(LARGEST, rel=0.01)


@given(st.lists(st.integers(-2, 7), max_size=30))
def test_a_histogram_counts_each_bin(drawn: list[int]) -> None:
    assert [result("histogram", "int", drawn, bin=i, bins=6) for i in range(6)] == [drawn.count(i) for i in range(6)]


# Shapes: the textbook's formulas in exact fractions


def near(got: Any, expected: Fraction, units: int = 8) -> bool:
    """Within some units in the last place, or both below what a float64 holds."""
    return abs(Fraction(got) - expected) <= max(abs(expected) * Fraction(units, 2**53), Fraction(1, 2**1074))


def central(drawn: list[Any], power: int) -> Fraction:
    numbers = [Fraction(value) for value in drawn]
    mean = sum(numbers, Fraction(0)) / len(numbers)
    return sum((number - mean) ** power for number in numbers) / len(numbers)


def check_skew(got: Any, drawn: list[Any]) -> None:
    """scipy.stats.skew(bias=False), pandas.Series.skew: sqrt(n (n - 1)) / (n - 2) * m3 / m2^1.5, here squared."""
    n = len(drawn)
    if n < 3 or len(set(drawn)) == 1:
        assert got is None
        return
    third = central(drawn, 3)
    squared = Fraction(n * (n - 1), (n - 2) ** 2) * third**2 / central(drawn, 2) ** 3
    assert got == 0 or (got > 0) == (third > 0)
    assert (abs(got) < 1e-300 and squared < Fraction(1, 10**599)) or near(Fraction(got) ** 2, squared, 16)


def check_kurtosis(got: Any, drawn: list[Any]) -> None:
    """scipy.stats.kurtosis(bias=False), pandas.Series.kurt: (n - 1) / ((n - 2) (n - 3)) * ((n + 1) m4 / m2^2 - 3 (n - 1))."""
    n = len(drawn)
    if n < 4 or len(set(drawn)) == 1:
        assert got is None
        return
    expected = Fraction(n - 1, (n - 2) * (n - 3)) * ((n + 1) * central(drawn, 4) / central(drawn, 2) ** 2 - 3 * (n - 1))
    assert near(got, expected)


@given(st.lists(floats(), max_size=12))
@example(LEDGER)
@example(SCALES)
@example([*SCALES, 1.0])
@example(SUBNORMAL)
@example([*SECONDS, 1_700_000_000.1])
@example([1_700_000_000.123456] * 99 + [1_700_000_000.123457])
@example([LARGEST, -LARGEST, LARGEST, SMALLEST])
@example([SMALLEST, 0.0, 0.0, 0.0])
@example([1.0, 2.0, 3.0, 4.0])
@example([0.1] * 5)
def test_shapes_are_those_of_exact_fractions(drawn: list[float]) -> None:
    check_skew(result("skew", "float", drawn), drawn)
    check_kurtosis(result("kurtosis", "float", drawn), drawn)


@given(st.lists(ints(), max_size=12))
@example([2**63 - 1, -(2**63), 2**63 - 2, 0])
@example([-(2**63)] * 4)
@example([2**62, 2**62 + 1, 2**62 + 1, 2**62 + 1, 2**62 + 3])
def test_shapes_of_integers_are_those_of_exact_fractions(drawn: list[int]) -> None:
    check_skew(result("skew", "int", drawn), drawn)
    check_kurtosis(result("kurtosis", "int", drawn), drawn)


def test_shapes_are_those_of_scipy() -> None:
    from scipy import stats

    rng = random.Random(5)
    for draw in (rng.random, lambda: rng.lognormvariate(0, 1), lambda: rng.gauss(100, 1), lambda: rng.random() < 0.2):
        drawn = [draw() for _ in range(500)]
        kind = "bool" if isinstance(drawn[0], bool) else "float"
        numbers = [float(value) for value in drawn]
        assert result("skew", kind, drawn) == pytest.approx(float(stats.skew(numbers, bias=False)), rel=1e-9, abs=1e-9)
        assert result("kurtosis", kind, drawn) == pytest.approx(float(stats.kurtosis(numbers, bias=False)), rel=1e-9, abs=1e-9)


# Decay: weights by `math.exp2`, sums by `math.fsum`

MOMENTS = st.lists(st.tuples(floats(), st.integers(0, 5000)), max_size=20)


@given(MOMENTS, st.integers(1, 2000), st.sampled_from([0, -(10**15), 1_700_000_000_000_000]))
@example([(1e15, 3), (-1e15, 3), (0.125, 5)], 7, 0)
@example([(1e300, 0), (1e-300, 4999)], 3, 0)
@example([(LARGEST, 0), (LARGEST, 1)], 1000, 0)
@example([(SMALLEST, 0), (SMALLEST, 5000)], 2000, -1)
@example([(1.0, 0), (1.0, 2047), (1.0, 2048), (1.0, 4096)], 1, 0)
def test_decayed_sum_and_mean_are_those_of_exp2_and_fsum(drawn: list[tuple[float, int]], half_life: int, start: int) -> None:
    items = [Item(value, start + time, (1, i)) for i, (value, time) in enumerate(drawn)]
    t = start + max((time for _, time in drawn), default=0) + 1
    # In fractions, for neither weight nor product nor sum may leave float64 where the true result lies within.
    ages = [divmod(t - item.event_time, half_life) for item in items]
    weights = [Fraction(math.exp2(-rest / half_life)) / 2**whole for whole, rest in ages]
    terms = [weight * Fraction(item.value) for weight, item in zip(weights, items, strict=True)]
    magnitude = sum(map(abs, terms), Fraction(0))
    total, mean = (registered()[name]("float", half_life=f"{half_life}us") for name in ("decayed_sum", "decayed_mean"))
    got = total.result(state_of(total, items), t, window_at(t, None, 0))
    expected = nearest(sum(terms, Fraction(0)))
    if expected is OVERFLOW or got is OVERFLOW:
        assert magnitude > Fraction(LARGEST) * Fraction(1 - 1e-12)
    else:
        assert abs(Fraction(got) - sum(terms, Fraction(0))) <= magnitude * Fraction(1, 10**12) + Fraction(1, 2**1018)
    got = mean.result(state_of(mean, items), t, window_at(t, None, 0))
    if not items:
        assert got is None
    else:
        whole = sum(weights, Fraction(0))
        assert abs(Fraction(got) - sum(terms, Fraction(0)) / whole) <= magnitude / whole * Fraction(1, 10**12) + Fraction(1, 2**1018)


def test_decay_of_plain_numbers_is_fsum() -> None:
    rng = random.Random(7)
    hour, t = 3_600_000_000, 1_700_000_000_000_000
    items = [Item(rng.uniform(0, 100), t - rng.randint(1, 100 * hour), (1, i)) for i in range(300)]
    weights = [math.exp2((item.event_time - t) / (6 * hour)) for item in items]
    expected = math.fsum(weight * item.value for weight, item in zip(weights, items, strict=True))
    total, mean = (registered()[name]("float", half_life="6h") for name in ("decayed_sum", "decayed_mean"))
    assert total.result(state_of(total, items), t, window_at(t, None, 0)) == pytest.approx(expected, rel=1e-13)
    assert mean.result(state_of(mean, items), t, window_at(t, None, 0)) == pytest.approx(expected / math.fsum(weights), rel=1e-13)


def test_what_decays_overflows_or_vanishes_and_says_so() -> None:
    total, mean = (registered()[name]("float", half_life="1h") for name in ("decayed_sum", "decayed_mean"))
    twice = [Item(LARGEST, 0, (1, i)) for i in range(2)]
    hour = 3_600_000_000
    window = window_at(1, None, 0)
    assert total.result(state_of(total, twice), 1, window) is OVERFLOW
    assert total.result(state_of(total, twice), hour, window) == LARGEST
    assert total.result(state_of(total, twice), 4000 * hour, window) == 0
    assert mean.result(state_of(mean, twice), 4000 * hour, window) == LARGEST
    assert same_value(total.result(state_of(total, [Item(-1.0, 0, (1, 0))]), 4000 * hour, window), 0.0)
    big = registered()["decayed_mean"]("int", half_life="1h")
    assert big.result(state_of(big, [Item(2**63 - 1, 0, (1, 0))]), 1, window) == 2.0**63


@pytest.mark.parametrize("start", [0, -3, -5 * 2048, 2**61, 12345])
def test_one_half_life_halves_and_a_power_of_two_never_fails_by_much(start: int) -> None:
    total = registered()["decayed_sum"]("float", half_life="1us")
    state = state_of(total, [Item(3.0, start, (1, 0))])
    assert [total.result(state, start + i, window_at(start + i, None, 0)) for i in (0, 1, 2, 1000)] == [3.0, 1.5, 0.75, 3.0 * 2.0**-1000]
    for i in range(1001):
        assert abs(power_of_two(i / 1000) - math.exp2(i / 1000)) <= 2 * math.ulp(1.0)
