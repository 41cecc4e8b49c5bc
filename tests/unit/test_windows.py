"""Windows, hops and the levels of a pyramid of tiles, compiled and plain."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twofold.algebra import tiles
from twofold.algebra.programme import Span, assemble, levels_of
from twofold.algebra.windows import SLACK_US, Levels, window_at
from twofold.instants import BEGIN_US, DAY_US, HOPS_US, HOUR_US, MINUTE_US, US_PER_SECOND, floor_to, hop_for

INSTANTS = st.one_of(
    st.integers(-(2**60), 2**60),
    st.builds(lambda hop, number: hop * number, st.sampled_from(HOPS_US), st.integers(-(10**6), 10**6)),
    st.builds(lambda hop, number: hop * number - 1, st.sampled_from(HOPS_US), st.integers(-(10**6), 10**6)),
)
WIDTHS = st.one_of(st.integers(1, 400 * DAY_US), st.sampled_from([2 * US_PER_SECOND, MINUTE_US, HOUR_US, DAY_US, 30 * DAY_US]))


@given(INSTANTS, st.sampled_from(HOPS_US))
@example(-1, HOUR_US)
@example(-HOUR_US, HOUR_US)
@example(0, HOUR_US)
def test_floor_is_down_also_before_1970(us: int, hop: int) -> None:
    floor = floor_to(us, hop)
    assert floor <= us < floor + hop
    assert Fraction(floor, hop).denominator == 1


@pytest.mark.parametrize(("us", "floor"), [(-1, -60_000_000), (-60_000_000, -60_000_000), (-60_000_001, -120_000_000), (59_999_999, 0)])
def test_floors_to_the_minute(us: int, floor: int) -> None:
    assert floor_to(us, MINUTE_US) == floor


@given(WIDTHS)
@example(128 * 100_000)
@example(128 * 100_000 + 1)
@example(128 * DAY_US)
@example(128 * DAY_US + 1)
def test_the_hop_is_the_smallest_that_cuts_a_window_into_128(width: int) -> None:
    hop = hop_for(width)
    smaller = [step for step in HOPS_US if step < hop]
    assert hop in HOPS_US
    assert width <= 128 * hop or hop == DAY_US
    assert all(width > 128 * step for step in smaller)


def test_a_window_of_2_s_or_more_is_at_most_5_percent_longer() -> None:
    # Longest at the widths just above where the hop before ended.
    widths = [2 * US_PER_SECOND, *(128 * hop + 1 for hop in HOPS_US), *range(2 * US_PER_SECOND, HOUR_US, 777_777)]
    assert max(Fraction(hop_for(width), width) for width in widths) <= Fraction(5, 100)


def test_each_hop_divides_the_next() -> None:
    assert all(coarser % finer == 0 for finer, coarser in itertools.pairwise(HOPS_US))


@given(INSTANTS, WIDTHS)
def test_a_window_is_as_long_as_asked_and_less_than_a_hop_more(t: int, width: int) -> None:
    hop = hop_for(width)
    window = window_at(t, width, hop)
    assert window.end_us == t
    assert window.start_us is not None
    assert window.start_us % hop == 0
    assert width <= t - window.start_us < width + hop
    assert window_at(t, None, 0) == (None, t, None)


# Levels


@st.composite
def windows(draw: st.DrawFn) -> list[tuple[int | None, int]]:
    """Windows of a view; some with a hop of their own, some over all time."""
    drawn: list[tuple[int | None, int]] = []
    for width in draw(st.lists(WIDTHS, min_size=1, max_size=5)):
        own = [hop for hop in HOPS_US if hop <= width] or [HOPS_US[0]]
        drawn.append((width, draw(st.sampled_from([hop_for(width), *own]))))
    return [*drawn, (None, 0)] if draw(st.booleans()) else drawn


def test_levels_of_windows() -> None:
    levels = Levels.of([(HOUR_US, MINUTE_US), (30 * DAY_US, 6 * HOUR_US), (2 * HOUR_US, MINUTE_US), (None, 0)])
    assert levels == Levels((MINUTE_US, 6 * HOUR_US), (2 * HOUR_US, 30 * DAY_US), True)
    assert Levels.of([(HOUR_US, MINUTE_US)]).keeps_all is False
    assert Levels.of([(None, 0)]) == Levels((), (), True)


@given(windows(), INSTANTS)
def test_a_level_keeps_what_its_longest_window_reaches_and_ends_where_a_coarser_tile_begins(
    drawn: list[tuple[int | None, int]], base: int
) -> None:
    levels = Levels.of(drawn)
    coarser = (*levels.hops_us[1:], levels.hops_us[-1])
    for boundary, reach, next_hop in zip(levels.boundaries(base), levels.reaches_us, coarser, strict=True):
        assert boundary <= base - reach - SLACK_US < boundary + next_hop
        assert boundary % next_hop == 0


@given(windows(), INSTANTS, st.integers(0, 400 * DAY_US), st.integers(-SLACK_US, 40 * DAY_US))
def test_every_window_from_the_base_on_is_a_union_of_whole_tiles(
    drawn: list[tuple[int | None, int]], base: int, age: int, ahead: int
) -> None:
    """The tile of an event lies inside each window that holds the event and outside each that does not, whatever comes later."""
    levels = Levels.of(drawn)
    time, t = base - age, base + ahead
    tile = levels.tile_of(time, base)
    for width, hop in drawn:
        start = BEGIN_US if width is None else floor_to(t - width, hop)
        if tile is None:
            assert time < start, "dropped, and a window reaches it"
        else:
            assert (start <= tile) == (start <= time), "the tile crosses the tail of a window"
            assert tile <= time


@given(windows(), st.lists(INSTANTS, min_size=2, max_size=20), INSTANTS)
def test_tiles_are_in_the_order_of_their_events(drawn: list[tuple[int | None, int]], times: list[int], base: int) -> None:
    levels = Levels.of(drawn)
    starts = [BEGIN_US - 1 if tile is None else tile for tile in (levels.tile_of(time, base) for time in sorted(times))]
    assert starts == sorted(starts)


@given(windows(), INSTANTS, st.integers(-DAY_US, 400 * DAY_US), st.integers(0, 400 * DAY_US))
def test_tiles_compiled_are_the_plain_ones_and_age_as_their_events_do(
    drawn: list[tuple[int | None, int]], base: int, age: int, later: int
) -> None:
    levels = Levels.of(drawn)
    hops, _ = levels_of(assemble([], [], [Span(*window) for window in drawn], []))
    time = base - age

    def compiled(us: int, level: int, at: int) -> tuple[int, int]:
        start, found = tiles.tile_of(us, level, hops, np.array(levels.boundaries(at), np.int64), levels.keeps_all)
        return int(start), int(found)

    def plain(at: int) -> int:
        tile = levels.tile_of(time, at)
        return tiles.DROPPED if tile is None else tile

    start, level = compiled(time, 0, base)
    assert start == plain(base)
    if start != tiles.DROPPED:
        # A tile that was made at an earlier clock goes where its events would go now.
        assert compiled(start, level, base + later)[0] == plain(base + later)
