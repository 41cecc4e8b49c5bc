"""Instants, durations and the ladder of hops."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import DefinitionError, SchemaMismatch
from twofold.instants import (
    BEGIN_US,
    DAY_US,
    HOPS_US,
    HOUR_US,
    MAX_TILES,
    MINUTE_US,
    US_PER_SECOND,
    duration_text,
    duration_us,
    floor_to,
    hop_for,
    timedelta_us,
    to_datetime,
    to_iso,
    to_us,
)

DURATIONS = {
    "1us": 1,
    "3ms": 3_000,
    "90s": 90 * US_PER_SECOND,
    "15m": 15 * MINUTE_US,
    "15min": 15 * MINUTE_US,
    "1h30m": 90 * MINUTE_US,
    "7d": 7 * DAY_US,
    "2w": 14 * DAY_US,
    "1d1h1m1s1ms1us": DAY_US + HOUR_US + MINUTE_US + US_PER_SECOND + 1_001,
}


@pytest.mark.parametrize(("text", "us"), DURATIONS.items())
def test_a_duration_in_microseconds(text: str, us: int) -> None:
    assert duration_us(text) == us


@pytest.mark.parametrize(
    "bad", ["", "h", "1", "1 h", "-1h", "1.5h", "0s", "1x", "1h 30m", "h1", "1mo", None, 5, "soon", timedelta(0), timedelta(-1)]
)
def test_what_is_no_duration(bad: object) -> None:
    with pytest.raises(DefinitionError, match="no duration"):
        duration_us(bad)  # type: ignore[arg-type]


def test_a_duration_longer_than_time_is_refused() -> None:
    with pytest.raises(DefinitionError, match="leave `over` out"):
        duration_us("99999999999d")


@given(st.integers(1, 2**60))
def test_the_text_of_a_duration_reads_back(us: int) -> None:
    assert duration_us(duration_text(us)) == us


@pytest.mark.parametrize(
    ("us", "text"), [(60 * MINUTE_US, "1h"), (90 * MINUTE_US, "90m"), (7 * DAY_US, "7d"), (1_500_000, "1500ms"), (36 * HOUR_US, "36h")]
)
def test_the_shortest_text_of_a_duration(us: int, text: str) -> None:
    assert duration_text(us) == text


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=100_000)))
def test_a_timedelta_is_exact(delta: timedelta) -> None:
    assert duration_us(delta) == timedelta_us(delta) == delta // timedelta(microseconds=1)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30)), ZoneInfo("America/New_York")])))
def test_an_instant_reads_back(instant: datetime) -> None:
    try:
        expected = instant.astimezone(UTC)
    except OverflowError:  # the first and last hours of the calendar, in another zone
        return
    assert to_datetime(to_us(instant)) == expected


def test_texts_ints_and_datetimes_of_one_instant_are_one() -> None:
    noon = datetime(2013, 10, 1, 16, 15, tzinfo=UTC)
    same = ["2013-10-01T16:15:00Z", "2013-10-01T12:15:00-04:00", noon, datetime(2013, 10, 1, 12, 15, tzinfo=ZoneInfo("America/New_York"))]
    assert {to_us(instant) for instant in same} == {1_380_644_100_000_000}
    assert to_us(1_380_644_100_000_000) == 1_380_644_100_000_000
    assert to_iso(1_380_644_100_000_000) == "2013-10-01T16:15:00Z"


def test_daylight_saving_is_told_apart_by_fold() -> None:
    zone = ZoneInfo("America/New_York")
    first, second = (datetime(2013, 11, 3, 1, 30, tzinfo=zone, fold=fold) for fold in (0, 1))
    assert to_us(second) - to_us(first) == HOUR_US


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (datetime(2013, 10, 1), "has no zone"),
        ("2013-10-01T05:15:00", "has no zone"),
        ("yesterday", "is no instant"),
        (True, "is no instant"),
        (1.5, "is no instant"),
        (None, "is no instant"),
        (2**62, "outside"),
        (BEGIN_US - 1, "outside"),
    ],
)
def test_what_is_no_instant(bad: object, text: str) -> None:
    with pytest.raises(SchemaMismatch, match=text):
        to_us(bad)  # type: ignore[arg-type]


def test_an_instant_beyond_the_calendar_is_written_as_its_number() -> None:
    assert to_iso(BEGIN_US) == str(BEGIN_US)


@given(st.integers(-(2**62), 2**62), st.sampled_from(HOPS_US))
def test_the_floor_is_the_last_multiple_also_before_1970(us: int, hop: int) -> None:
    floor = floor_to(us, hop)
    assert floor % hop == 0
    assert floor <= us < floor + hop


def test_each_hop_divides_the_next() -> None:
    assert all(coarse % fine == 0 for fine, coarse in pairwise(HOPS_US))


@given(st.integers(1, 400 * DAY_US))
def test_the_hop_of_a_window_is_the_smallest_that_fits(width: int) -> None:
    hop = hop_for(width)
    finer = [step for step in HOPS_US if step < hop]
    assert all(width / step > MAX_TILES for step in finer)
    assert width / hop <= MAX_TILES or hop == DAY_US


@given(st.integers(2 * US_PER_SECOND, 128 * DAY_US))
def test_a_window_of_two_seconds_or_more_is_at_most_five_percent_longer(width: int) -> None:
    assert hop_for(width) <= width * 0.05


@pytest.mark.parametrize(("window", "hop"), [("2s", "100ms"), ("1h", "1m"), ("6h", "5m"), ("7d", "6h"), ("30d", "6h"), ("365d", "1d")])
def test_hops_of_usual_windows(window: str, hop: str) -> None:
    assert duration_text(hop_for(duration_us(window))) == hop
