"""Failures of aggregates of one's own in the metrics: what failed where events were folded, and what where they were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import twofold as tw
from twofold.watch.metrics import exposition


class Fussy(tw.Aggregate[int]):
    """A sum that fails at some numbers."""

    accepts = ("int",)
    state_type = int
    result_type = "int"

    def zero(self):
        return 0

    def add(self, state, item):
        if item.value == 4_100_041:
            raise ValueError("not this one")
        return state + item.value

    def merge(self, left, right):
        if left + right == 7_000_123:
            raise ValueError("not this sum")
        return left + right

    def result(self, state, t_us, window):
        if state == 8_000_321:
            raise ValueError("not this result")
        return state


sales = tw.Events("sales", time="at", schema={"shop": str, "number": int})
shops = tw.View("shops", sales, by="shop", features={"fussy": tw.aggregate(Fussy, "number", over=["1d", "7d"]), "sum": tw.sum("number")})
project = tw.Project("failures", views=[shops])

FOLD = 'twofold_own_aggregate_fold_failures_total{view="shops",feature="fussy_1d",call='
READ = 'twofold_own_aggregate_read_failures_total{view="shops",feature="fussy_1d",call='


def failures(opened: Any) -> dict[str, int]:
    """What the metrics of a replica say, without the zeros."""
    lines = exposition(opened.replica.facts()).decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("twofold_own_aggregate"))
    return {name: int(value) for name, value in found.items()}


def test_failures_are_counted_where_they_happen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = tw.ManualClock("2024-05-01T12:00:00Z")
    rows = [("a", 4_100_041), ("a", 4_100_041), ("a", 1), ("b", 7_000_000), ("b", 123), ("c", 8_000_321)]
    with project.open(home=tmp_path, clock=clock) as opened:
        opened.build()
        assert failures(opened) == {}
        opened.append("sales", [{"shop": shop, "number": number, "at": "2024-05-01T11:00:00Z"} for shop, number in rows])
        opened.catch_up()
        folded = {f'{FOLD}"add"}}': 2, f'{FOLD}"merge"}}': 1}
        assert failures(opened) == folded
        answers = opened.replica.reader.features("shops", ["a", "b", "c"])
        assert [answer.statuses for answer in answers] == [("present",) * 3, *[("failed", "failed", "present")] * 2]
        assert failures(opened) == {**folded, f'{READ}"result"}}': 2}
    with project.open(home=tmp_path, clock=clock) as again:
        assert failures(again) == folded
