"""Skewness, kurtosis and decay as users declare them: states that are shared, half-lives in one form, what check refuses."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import twofold as tw
from twofold.definitions.check import check_or_raise
from twofold.errors import DefinitionError
from twofold.plan.compile import compile_view

events = tw.Events("events", time="t", schema={"k": str, "x": float, "i": int})


def view(**features: Any) -> tw.View:
    return tw.View("view", events, by="k", features=features)


def test_one_state_serves_all_moments_of_an_input() -> None:
    plan = compile_view(
        view(n=tw.count("x"), sum=tw.sum("x"), std=tw.std("x"), skew=tw.skew("x"), other=tw.std("i"), kurtosis=tw.kurtosis("x", over="1d"))
    ).plan
    assert [(slot.state, slot.input) for slot in plan.slots] == [("moments4", 0), ("moments2", 1)]
    assert [feature.slot for feature in plan.features] == [0, 0, 0, 0, 1, 0]
    alone = compile_view(view(std=tw.std("x"))).plan
    assert alone.features[0].version == plan.features[2].version, "another feature of the view changed the meaning of std"


def test_sums_and_means_of_one_half_life_share_a_state() -> None:
    plan = compile_view(view(a=tw.decayed_sum("x", "1h"), b=tw.decayed_mean("x", "60m", over="1d"), c=tw.decayed_sum("x", "2h"))).plan
    assert [(slot.state, slot.size) for slot in plan.slots] == [("decayed", 3_600_000_000), ("decayed", 7_200_000_000)]


def test_equal_half_lives_are_one_meaning() -> None:
    versions = {
        compile_view(view(a=tw.decayed_sum("x", half_life))).plan.features[0].version
        for half_life in ("1h", "60m", timedelta(hours=1), timedelta(minutes=60))
    }
    assert len(versions) == 1
    assert versions != {compile_view(view(a=tw.decayed_sum("x", "61m"))).plan.features[0].version}


@pytest.mark.parametrize("half_life", ["soon", "", "0s", 0, 3600, None, True, timedelta(0), timedelta(-1), "99999999999w", ["1h"]], ids=str)
def test_what_is_no_half_life_is_refused(half_life: Any) -> None:
    for word in (tw.decayed_sum, tw.decayed_mean):
        with pytest.raises(DefinitionError, match=r"half_life is .*; give how long it takes until an event weighs half"):
            check_or_raise(tw.Project("project", views=[view(a=word("x", half_life))]))


@pytest.mark.parametrize(
    "word", [tw.skew, tw.kurtosis, lambda value: tw.decayed_sum(value, "1h"), lambda value: tw.decayed_mean(value, "1h")]
)
def test_texts_have_no_shape_and_do_not_decay(word: Any) -> None:
    with pytest.raises(DefinitionError, match="of a str has no meaning; it takes bool, float, int"):
        check_or_raise(tw.Project("project", views=[view(a=word("k"))]))


def test_the_same_result_from_a_window_that_slides_over_blocks_and_from_one_row() -> None:
    """Of one half-life many blocks pass, and events of those left out leave the window later; of the other all stay in one."""
    rows = [{"k": "k", "x": 1.0 + i, "i": i, "t": i * i * 60_000_000} for i in range(60)]
    shaped = view(heat=tw.decayed_sum("x", "1s", over="1d"), warm=tw.decayed_mean("i", "3h", over="7h"), skew=tw.skew("x", over="7h"))
    spine = [{"k": "k", "at": i * i * 60_000_000 + 1} for i in range(70)]
    together = tw.compute(shaped, {events: rows}, spine)
    for i in range(0, 70, 7):
        assert tw.compute(shaped, {events: rows}, [spine[i]]).rows() == [together.row(i)]
