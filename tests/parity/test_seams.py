"""Seams one by one: where generation, deltas, history and duplicates meet, each with the exact moment that could go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.clocks import ManualClock
from twofold.instants import DAY_US, HOUR_US, MINUTE_US, US_PER_SECOND
from twofold.log.base import Append
from twofold.plan import deltas
from twofold.runtime.opened import Opened
from twofold.testing.modes import history_parity, online_parity

NOW = 1_700_000_000_000_000
HORIZON = 10 * MINUTE_US
Open = Callable[..., Opened]

rides = tw.Events("rides", time="t", id="id", schema={"id": str, "city": str, "fare": float})
FEATURES = {
    "n": tw.count(over=["1m", "1h"]),
    "fare": tw.sum("fare", over=["1h", "7d"]),
    "std": tw.std("fare", over="1h"),
    "last": tw.last("id", over="7d"),
}
hybrid = tw.View("hybrid", rides, by="city", features=FEATURES)
forever = tw.View("forever", rides, by="city", features={**FEATURES, "all": tw.count()})
stream = tw.View("stream", rides, by="city", mode="stream", features=FEATURES)
daily = tw.View("daily", rides, by="city", mode="batch", refresh="0 2 * * *", features=FEATURES)
as_built = tw.View("as_built", rides, by="city", mode="batch", refresh="0 * * * *", as_of="build", features=FEATURES)


class Failure(Exception):
    """A build that dies where the test says."""


def ride(t: int, identity: str | None = None, fare: float | None = 1.5, city: str = "Oslo") -> dict[str, Any]:
    return {"id": identity, "city": city, "fare": fare, "t": t}


def opened(open_home: Open, *views: tw.View, partitions: int = 1, on_disk: bool = False) -> Opened:
    return open_home(tw.Project("seams", views=list(views)), ManualClock(NOW), partitions, on_disk)


def append(home: Opened, *rows: dict[str, Any]) -> None:
    home.append("rides", list(rows))
    home.catch_up()


def value(home: Opened, view: str, feature: str, at: int | None = None, key: str = "Oslo") -> tuple[Any, str]:
    """(value, status) of one feature, online."""
    from twofold.serve.features import FeatureReader

    engines = home.home
    reader = FeatureReader(home.compiled.serving, engines.store, engines.log.uuid, engines.log.partitions, engines.clock)
    read = reader.features(view, [key], at)[0]
    reader.close()
    place = [item.name for item in home.compiled.view(view).plan.features].index(feature)
    return read.values[place], read.statuses[place]


def fails_at(what: str) -> Callable[..., None]:
    def progress(text: str, done: int = 0, total: int | None = None) -> None:
        if text.startswith(what):
            raise Failure

    return progress


# Roll-over


@pytest.mark.parametrize("where", ["reading", "building"])
@pytest.mark.parametrize("partitions", [1, 3])
def test_a_build_that_dies_between_roll_and_flip_loses_nothing_and_goes_on_at_its_cut(where: str, partitions: int, open_home: Open) -> None:
    home = opened(open_home, hybrid, partitions=partitions)
    append(home, *(ride(NOW - i, f"a{i}") for i in range(5)))
    home.build()
    append(home, *(ride(NOW - i, f"b{i}") for i in range(5)))
    for _ in range(3):
        with pytest.raises(Failure):
            home.build(progress=fails_at(where))
        append(home, ride(NOW - 9), ride(NOW - 10))
        assert value(home, "hybrid", "n_1h", NOW + 1)[0] == online_count(home)
    online_parity(home, "hybrid", ["Oslo"], [NOW + 1, None, NOW + HOUR_US]).check(at_least=10)
    built = home.build()[0]
    assert sum(built.cut) == 10
    assert value(home, "hybrid", "n_1h", NOW + 1) == (16, "present")
    assert sum(home.build()[0].cut) == 16
    assert value(home, "hybrid", "n_1h", NOW + 1) == (16, "present")


def online_count(home: Opened) -> int:
    ends = home.home.log.end_offsets(["rides"])
    return sum(ends.values())


def test_events_that_come_while_a_build_runs_belong_to_the_next_delta(open_home: Open) -> None:
    home = opened(open_home, hybrid, forever)
    append(home, ride(NOW - 3), ride(NOW - 2))
    came = []

    def progress(text: str, done: int = 0, total: int | None = None) -> None:
        came.append(text)
        append(home, ride(NOW - 1))

    home.build(progress=progress)
    for view in ("hybrid", "forever"):
        assert value(home, view, "n_1h", NOW + 1) == (2 + len(came), "present")
    assert home.build()[0].cut == (2 + len(came),)


def test_a_view_that_is_added_later_begins_where_it_was_added_and_is_filled_by_its_first_build(open_home: Open) -> None:
    home = opened(open_home, hybrid)
    clock = home.home.clock
    append(home, ride(NOW - 2), ride(NOW - 1))
    home.build()
    more = Opened(open_home(tw.Project("seams", views=[hybrid, forever, stream]), clock).compiled, home.home)
    append(more, ride(NOW - 3))
    more.build()
    assert [value(more, view, "n_1h", NOW + 1)[0] for view in ("hybrid", "forever", "stream")] == [3, 3, 1]
    for view in ("hybrid", "forever", "stream"):
        (online_parity(more, view, ["Oslo"], [NOW + 1, None]) + history_parity(more, view, ["Oslo"], [NOW + 1])).check(at_least=12)


# What `ahead` is for


def test_the_last_ten_seconds_of_a_delta_are_exact_and_what_is_folded_says_ahead(open_home: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "HEAD_EVENTS", 0)
    home = opened(open_home, hybrid)
    clock = home.home.clock
    home.build()
    clock.set(NOW + HOUR_US)
    now = clock.now_us()
    times = [now - second * US_PER_SECOND // 2 for second in range(25)]
    append(home, *(ride(t, f"{t}", fare=0.1 * i) for i, t in enumerate(times)))
    for t in times:
        for at in (t - 1, t, t + 1):
            _, status = value(home, "hybrid", "n_1m", at)
            assert (status == "ahead") == (at <= now - 10 * US_PER_SECOND - US_PER_SECOND // 2), (now - at, status)
    parity = online_parity(home, "hybrid", ["Oslo"], [at for t in times for at in (t - 1, t, t + 1)])
    parity.check(at_least=300)
    # At exactly an event's time it is not counted, a microsecond later it is.
    assert value(home, "hybrid", "n_1m", times[3])[0] + 1 == value(home, "hybrid", "n_1m", times[3] + 1)[0]


def test_no_more_than_64_events_of_a_key_need_stay_raw(open_home: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "HEAD_EVENTS", 0)
    home = opened(open_home, hybrid)
    home.build()
    append(home, *(ride(NOW - i, f"{i}") for i in range(70)))
    assert value(home, "hybrid", "n_1h", NOW - 63)[0] == 6
    assert value(home, "hybrid", "n_1h", NOW - 64) == (None, "ahead")
    online_parity(home, "hybrid", ["Oslo"], [NOW - i for i in range(60)]).check(at_least=300)


def test_up_to_96_events_of_a_key_are_not_folded(open_home: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "HEAD_EVENTS", 96)
    home = opened(open_home, hybrid)
    home.build()
    append(home, *(ride(NOW - i * US_PER_SECOND, f"{i}") for i in range(96)))
    assert value(home, "hybrid", "n_1h", NOW - 90 * US_PER_SECOND) == (5, "present")
    append(home, ride(NOW, "full"))
    assert value(home, "hybrid", "n_1h", NOW - 90 * US_PER_SECOND) == (None, "ahead")
    assert value(home, "hybrid", "n_1h", NOW - 9 * US_PER_SECOND)[1] == "present"
    online_parity(home, "hybrid", ["Oslo"], [NOW - i * US_PER_SECOND for i in range(-1, 96)]).check(at_least=50)


def test_around_the_base_of_a_generation_and_ten_days_after_it(open_home: Open) -> None:
    home = opened(open_home, hybrid)
    clock = home.home.clock
    edges = [NOW - width + delta for width in (MINUTE_US, HOUR_US, 7 * DAY_US) for delta in (-HOUR_US * 6, -MINUTE_US, -1, 0, 1, MINUTE_US)]
    home.load("rides", [ride(t, f"{t}") for t in edges if t < NOW - 20 * MINUTE_US])
    home.build()
    allowed = [NOW, NOW - 1, NOW + 1, NOW - 5 * MINUTE_US, NOW + 10 * DAY_US, NOW + HOUR_US - 1, NOW + 7 * DAY_US]
    parity = online_parity(home, "hybrid", ["Oslo"], allowed)
    parity.check(at_least=6 * len(allowed))
    assert parity.ahead == 0
    for at in (NOW - 5 * MINUTE_US - 1, NOW - 10 * MINUTE_US, NOW - 40 * DAY_US):
        assert value(home, "hybrid", "n_1h", at) == (None, "ahead")
    clock.advance("10d")
    append(home, ride(clock.now_us() - 1), ride(clock.now_us() - 6 * DAY_US))
    online_parity(home, "hybrid", ["Oslo"], [clock.now_us(), None]).check(at_least=12)


def test_a_key_whose_events_were_too_old_to_keep_is_ahead_below_the_base_and_never_silently_empty(open_home: Open) -> None:
    home = opened(open_home, hybrid, forever)
    home.load("rides", [ride(NOW - 40 * DAY_US, "old"), ride(NOW - 1, "young", city="Bergen")])
    home.build()
    then = NOW - 40 * DAY_US + 1
    assert history_parity(home, "hybrid", ["Oslo"], [then]).different == 0
    assert value(home, "hybrid", "n_1h", NOW) == (0, "empty")
    for view in ("hybrid", "forever"):
        assert value(home, view, "n_1h", then) == (None, "ahead")
        assert value(home, view, "n_1h", then, key="nobody") == (None, "ahead")


def test_an_event_too_late_for_a_delta_leaves_its_clock_behind(open_home: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "HEAD_EVENTS", 0)
    home = opened(open_home, stream)
    append(home, ride(NOW - 40 * DAY_US))
    assert value(home, "stream", "n_1h", NOW + 1) == (0, "empty")
    assert value(home, "stream", "n_1h", NOW - 40 * DAY_US + 1) == (None, "ahead")
    online_parity(home, "stream", ["Oslo"], [NOW + 1, NOW - MINUTE_US, None]).check(at_least=12)


def test_all_time_is_exact_at_every_instant_above_the_events(open_home: Open) -> None:
    table = tw.Table("cities", key="city", time="since", schema={"city": str, "people": int})
    fixed = tw.Table("fixed", key="city", schema={"city": str, "people": int})
    model = tw.Model("m", request={"city": str}, views=[table, fixed.on(prefix="fixed_")])
    home = open_home(tw.Project("seams", models=[model]), ManualClock(NOW))
    home.load("cities", [{"city": "Oslo", "people": 5, "since": NOW - 90 * DAY_US}])
    home.load("fixed", [{"city": "Oslo", "people": 7}])
    home.build()
    assert value(home, "cities", "people", NOW - 89 * DAY_US) == (5, "present")
    assert value(home, "cities", "people", NOW - 91 * DAY_US) == (None, "ahead")
    assert value(home, "cities", "people", NOW - 91 * DAY_US, key="nobody") == (None, "empty")
    assert value(home, "fixed", "people", NOW - 91 * DAY_US) == (7, "present")


# Windows that end at the build


def test_windows_that_end_at_the_build_are_exact_whatever_came_at_or_after_it(open_home: Open) -> None:
    home = opened(open_home, as_built)
    append(home, ride(NOW - 1), ride(NOW), ride(NOW + HOUR_US))
    home.build()
    assert value(home, "as_built", "n_1h") == (1, "present")
    online_parity(home, "as_built", ["Oslo"], [None, NOW, NOW + DAY_US]).check(at_least=18)


def test_a_schedule_that_fires_moves_the_end_of_such_windows_without_any_new_event(open_home: Open) -> None:
    home = opened(open_home, as_built, daily, hybrid)
    clock = home.home.clock
    append(home, ride(NOW - 1))
    assert {built.view for built in home.build()} == {"as_built", "daily", "hybrid"}
    assert home.build() == []
    clock.advance("2h")
    assert {built.view for built in home.build()} == {"as_built"}
    assert value(home, "as_built", "n_1h") == (0, "empty")
    history_parity(home, "as_built", ["Oslo"], [NOW, NOW + HOUR_US, NOW + 2 * HOUR_US]).check(at_least=18)


def test_a_view_with_nothing_new_is_not_built_again_and_again(open_home: Open) -> None:
    from twofold.runtime.running import due_views

    home = opened(open_home, daily, hybrid)
    clock = home.home.clock
    append(home, ride(NOW - 1))
    assert due_views(home) == ["daily", "hybrid"]
    home.build(views=due_views(home))
    assert due_views(home) == []
    clock.advance("3d")
    assert due_views(home) == ["daily"]
    home.build(views=due_views(home))
    assert due_views(home) == []
    append(home, ride(NOW))
    assert due_views(home) == ["hybrid"]
    home.build(views=due_views(home))
    assert due_views(home) == []


# Duplicates of loaded history


def test_a_loaded_row_wins_over_a_later_event_of_its_id_within_the_horizon(open_home: Open) -> None:
    home = opened(open_home, hybrid, stream)
    home.load("rides", [ride(NOW - HORIZON + 1, "a"), ride(NOW - HORIZON, "b"), ride(NOW + HOUR_US, "c")])
    append(home, ride(NOW - 1, "a"), ride(NOW - 1, "b"), ride(NOW - 1, "c"))
    home.build()
    assert value(home, "hybrid", "n_1h", NOW + 2 * HOUR_US - 1)[0] == 1
    assert value(home, "hybrid", "n_1h", NOW + MINUTE_US + 1)[1] == "ahead"
    for view in ("hybrid", "stream"):
        parity = online_parity(home, view, ["Oslo"], [None, NOW + 2 * HOUR_US]) + history_parity(home, view, ["Oslo"], [NOW, NOW + 1])
        parity.check(at_least=12)
    assert value(home, "stream", "n_1h", NOW)[0] == 1


def test_an_event_whose_clock_goes_after_the_loaders_repeats_a_loaded_row_as_well(open_home: Open) -> None:
    """Appended while the load went on, on another machine, or after the clock was put right: its arrival is before that of the load."""
    home = opened(open_home, hybrid, stream)
    home.load("rides", [ride(NOW - HORIZON - MINUTE_US, "a")])
    home.build()
    home.home.clock.set(NOW - 2 * MINUTE_US, back=True)
    append(home, ride(NOW - 3 * MINUTE_US, "a"))
    home.home.clock.set(NOW)
    assert value(home, "hybrid", "n_1h", NOW)[0] == 1
    assert value(home, "stream", "n_1h", NOW)[0] == 0
    for view in ("hybrid", "stream"):
        online_parity(home, view, ["Oslo"], [NOW, None]).check(at_least=12)


def test_only_rows_that_count_themselves_make_duplicates(open_home: Open) -> None:
    home = opened(open_home, hybrid)
    home.load("rides", [ride(NOW - HORIZON - 1, "a"), ride(NOW - 2, "a")])  # the second is a duplicate of the first
    append(home, ride(NOW - 1, "a"))
    home.build()
    assert value(home, "hybrid", "n_1h", NOW)[0] == 2
    online_parity(home, "hybrid", ["Oslo"], [NOW, None]).check(at_least=12)


def test_a_later_load_changes_which_rows_count_and_the_index_with_it(open_home: Open) -> None:
    home = opened(open_home, hybrid)
    home.load("rides", [ride(NOW - 2, "a")])
    home.load("rides", [ride(NOW - HORIZON - 1, "a")])  # now the row before is a duplicate of this one
    append(home, ride(NOW - 1, "a"))
    home.build()
    assert value(home, "hybrid", "n_1h", NOW)[0] == 2
    online_parity(home, "hybrid", ["Oslo"], [NOW, None]).check(at_least=12)


def test_a_worker_that_lags_behind_still_knows_the_rows_that_were_young_when_its_events_came(open_home: Open) -> None:
    home = opened(open_home, hybrid)
    clock = home.home.clock
    home.append("rides", [ride(NOW - 1, "a"), ride(NOW - 1, "b")])
    clock.advance("1d")
    home.load("rides", [ride(NOW - 2, "a")])
    home.load("rides", [ride(clock.now_us(), "c")])
    home.catch_up()
    home.build()
    assert value(home, "hybrid", "fare_7d")[0] == 4.5
    online_parity(home, "hybrid", ["Oslo"], [None]).check(at_least=6)


def test_history_that_is_loaded_while_a_failed_build_waits_does_not_count_twice(open_home: Open) -> None:
    """The retried build keeps its history version: the new row's id may have been counted in the delta after its cut."""
    home = opened(open_home, hybrid)
    append(home, ride(NOW - 5, "before"))
    with pytest.raises(Failure):
        home.build(progress=fails_at("building"))
    append(home, ride(NOW - 1, "twice"))
    home.load("rides", [ride(NOW - 1, "twice")])
    assert home.build()[0].history == (0,)
    assert value(home, "hybrid", "n_1h", NOW)[0] == 2
    assert home.build()[0].history == (1,)
    assert value(home, "hybrid", "n_1h", NOW)[0] == 2
    online_parity(home, "hybrid", ["Oslo"], [NOW, None]).check(at_least=12)


def test_between_load_and_flip_an_event_of_a_loaded_id_waits_with_its_row(open_home: Open) -> None:
    home = opened(open_home, hybrid)
    append(home, ride(NOW - 5, "x"))
    home.build()
    home.load("rides", [ride(NOW - 2, "later")])
    append(home, ride(NOW - 1, "later"))
    assert value(home, "hybrid", "n_1h", NOW)[0] == 1
    home.build()
    assert value(home, "hybrid", "n_1h", NOW)[0] == 2


# What cannot be read, and what depends on nothing beside its row


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_payload_that_cannot_be_decoded_is_a_dead_letter_in_every_way_of_reading(partitions: int, open_home: Open) -> None:
    from twofold.stream.dead_letters import dead_letters

    home = opened(open_home, hybrid, stream, partitions=partitions)
    for partition in range(partitions):
        home.home.log.append([Append("rides", partition, 3, b"no arrow")], NOW)
    append(home, ride(NOW - 1), ride(NOW - 2))
    home.home.log.append([Append("rides", 0, 2, b"no arrow")], NOW)
    home.build()
    append(home, ride(NOW - 3))
    with home.home.store.snapshot() as snapshot:
        assert sum(letter.count for letter in dead_letters(snapshot, partitions)) == 3 * partitions + 2
    assert value(home, "hybrid", "n_1h", NOW)[0] == value(home, "stream", "n_1h", NOW)[0] == 3
    for view in ("hybrid", "stream"):
        (online_parity(home, view, ["Oslo"], [NOW, None]) + history_parity(home, view, ["Oslo"], [NOW])).check(at_least=12)


def test_an_expression_gives_a_row_the_same_bits_alone_and_among_many(open_home: Open) -> None:
    """Polars multiplies a column by the reciprocal of a literal divisor, but divides one value exactly."""
    thirds = tw.View(
        "thirds",
        rides.filter(pl.col("fare") / 3 > 0.1).with_columns(part=pl.col("fare") / 7),
        by="city",
        features={"third": tw.sum(pl.col("fare") / 3), "part": tw.max("part")},
    )
    home = opened(open_home, thirds)
    home.build()
    for i in range(40):
        append(home, ride(NOW - i, fare=0.01 * i, city=f"{i}"))
    keys = [f"{i}" for i in range(40)]
    online_parity(home, "thirds", keys, [NOW + 1]).check(at_least=80)
    home.build()
    online_parity(home, "thirds", keys, [NOW + 1]).check(at_least=80)
    history_parity(home, "thirds", keys, [NOW + 1]).check(at_least=80)


def test_a_step_or_an_input_that_fails_on_a_row_is_null_there_and_nowhere_else(open_home: Open) -> None:
    numbered = rides.with_columns(number=pl.col("id").cast(pl.Int64))
    view = tw.View(
        "numbered", numbered, by="city", features={"sum": tw.sum("number"), "n": tw.count(), "twice": tw.sum(pl.col("id").cast(int) * 2)}
    )
    home = opened(open_home, view)
    append(home, ride(NOW - 1, "1"), ride(NOW - 2, "one"), ride(NOW - 3, "20"))
    home.build()
    append(home, ride(NOW - 4, "three"))
    assert [value(home, "numbered", name)[0] for name in ("sum_all", "n_all", "twice_all")] == [21, 4, 42]
    (online_parity(home, "numbered", ["Oslo"], [None]) + history_parity(home, "numbered", ["Oslo"], [NOW])).check(at_least=6)
