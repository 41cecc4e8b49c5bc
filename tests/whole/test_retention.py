"""Events that a build has archived go from the log: every answer stays, and a store that is behind or lost is told or healed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from shop import project
from whole_data import LIVE, load_history

import twofold as tw
from twofold.errors import DefinitionError, LogMismatch
from twofold.instants import HOUR_US, MINUTE_US
from twofold.settings import Settings

PLACE = ("payments", 0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def opened(home: Path, clock: tw.ManualClock) -> Iterator[Any]:
    """The project with history and an hour of events that no build has archived."""
    with project.open(home=home, clock=clock, retention="10m") as opened:
        load_history(opened)
        opened.build()
        stream_in(opened, clock, LIVE[:80])
        yield opened


def stream_in(opened: Any, clock: tw.ManualClock, rows: list[dict[str, Any]]) -> None:
    for at in range(0, len(rows), 4):
        part = rows[at : at + 4]
        clock.set(part[-1]["paid_at"] + 1)
        opened.append("payments", part)
        opened.catch_up()


def start(opened: Any) -> int:
    return int(opened.home.log.start_offsets(["payments"])[PLACE])


def answers(opened: Any, at: int) -> list[Any]:
    """History of all views, the training set, and how many events count."""
    spine = [{"card": key, "shop": "x", "at": at - back} for key in "abc" for back in (0, HOUR_US, 5 * HOUR_US)]
    found = [opened.history(view, spine) for view in ("card", "shop", "all_payments")]
    return [*found, opened.training_set("risk"), opened.events_of("payments").sort("payment_id").select("payment_id", "amount")]


def all_equal(left: list[Any], right: list[Any]) -> bool:
    return all(a.equals(b, null_equal=True) for a, b in zip(left, right, strict=True))


def test_what_was_dropped_changes_no_answer(opened: Any, home: Path, clock: tw.ManualClock) -> None:
    opened.train("risk", test=None)
    opened.predict("risk", {"payment_id": "p", "card": "a", "shop": "x", "amount": 1.0})
    opened.replica.close()
    now = clock.now_us()
    before, present = answers(opened, now), opened._present("payments")
    online = opened.features("card", ["a", "b"], at=now)
    audited = opened.audit()
    opened.build()
    begins = start(opened)
    held = opened.home.log.read("payments", 0, begins, 1)[0]
    assert 0 < begins < 80
    assert held.arrival_us >= now - 10 * MINUTE_US
    assert all_equal(answers(opened, now), before)
    assert present.frame().sort("payment_id").select("payment_id", "amount").equals(before[-1]), "asked before, read after"
    assert opened.features("card", ["a", "b"], at=now).equals(online)
    again = opened.audit()
    assert (again.compared, again.different) == (audited.compared, 0)
    assert again.compared > 0
    stream_in(opened, clock, LIVE[80:])
    opened.build()
    assert start(opened) > begins
    assert opened.events_of("payments").height == 600 + 120


def test_nothing_goes_that_a_view_a_worker_or_the_archive_lacks(opened: Any, clock: tw.ManualClock) -> None:
    clock.advance("1d")
    opened.build(views=["shop"])
    assert start(opened) == 0, "card's generation lacks them"
    opened.build()
    assert start(opened) == 76, "the last batch stays"


def test_a_store_older_than_the_logs_start_is_told_how_to_heal(opened: Any, home: Path, clock: tw.ManualClock) -> None:
    opened.home.store.close()
    del opened.home.store
    shutil.copytree(home / "store", home / "older")
    stream_in(opened, clock, LIVE[80:])
    clock.advance("1d")
    opened.build()
    assert start(opened) > 80
    opened.close()
    shutil.rmtree(home / "store")
    (home / "older").rename(home / "store")
    with project.open(home=home, clock=clock) as again:
        with pytest.raises(LogMismatch, match=r"up to offset 80, but the log begins at 116.*remove HOME/store and run `twofold build`"):
            again.catch_up()
        with pytest.raises(LogMismatch):
            again.stream(until=lambda: True)


def test_without_its_store_a_home_goes_on_from_the_archive(opened: Any, home: Path, clock: tw.ManualClock) -> None:
    opened.build()
    now, begins = clock.now_us(), start(opened)
    assert begins > 0
    before, online = answers(opened, now), opened.features("card", ["a", "b"], at=now)
    opened.close()
    shutil.rmtree(home / "store")
    with project.open(home=home, clock=clock, retention="10m") as again:
        assert [built.view for built in again.build()][:1] == ["card"]
        assert again.features("card", ["a", "b"], at=now).equals(online)
        after = answers(again, now)
        assert all_equal(after[:2], before[:2])
        of_stream_view = "all_payments_largest_1h"
        assert after[3].drop(of_stream_view).equals(before[3].drop(of_stream_view), null_equal=True)
        assert after[-1].equals(before[-1])
        assert again.began("all_payments") == (begins,), "what a stream view had before is not in the log any more"


def test_ids_are_known_without_the_store_that_knew_them(opened: Any, home: Path, clock: tw.ManualClock) -> None:
    clock.advance("9m")
    late = {**LIVE[80], "paid_at": clock.now_us() - 1}
    opened.append("payments", late)
    clock.advance("2m")
    opened.append("payments", {**LIVE[81], "paid_at": clock.now_us() - 1})
    old = {"payment_id": "loaded late", "card": "a", "shop": "x", "amount": 5.0, "paid_at": clock.now_us() - 1}
    opened.load("payments", [old])
    opened.home.settings.__dict__["retention"] = "1s"
    clock.advance("2s")
    opened.build()
    assert start(opened) == 81
    opened.close()
    shutil.rmtree(home / "store")
    with project.open(home=home, clock=clock) as again:
        again.build()
        before = again.features("card", ["a", "b", "c"])
        for row in (late, old):
            again.append("payments", {**row, "paid_at": clock.now_us()})
        clock.advance("1s")
        again.catch_up()
        assert again.features("card", ["a", "b", "c"]).equals(before, null_equal=True)
        again.append("payments", {**late, "payment_id": "another", "card": "a", "paid_at": clock.now_us()})
        clock.advance("1s")
        again.catch_up()
        assert not again.features("card", ["a", "b", "c"]).equals(before, null_equal=True)


def test_retention_is_a_duration_of_the_embedded_log() -> None:
    assert Settings().retention is None
    with pytest.raises(DefinitionError, match="'soon' is no duration"):
        Settings(retention="soon")
    with pytest.raises(DefinitionError, match=r"retention\.ms"):
        Settings(retention="7d", log="kafka://localhost:9092")


def test_a_log_that_had_lost_its_beginning_before_anything_was_archived_begins_there(home: Path, clock: tw.ManualClock) -> None:
    """As a topic of others does."""
    payments = tw.Events("payments", time="at", schema={"card": str, "amount": float})
    view = tw.View("card", payments, by="card", features={"n": tw.count(over="1h")})
    with tw.Project("late", views=[view]).open(home=home, clock=clock) as opened:
        now = clock.now_us()
        for back in (4, 3, 2, 1):
            opened.append("payments", [{"card": "a", "amount": 1.0, "at": now - back}])
        assert opened.home.log.trim("payments", 0, 2) == 2
        opened.build()
        opened.append("payments", [{"card": "a", "amount": 1.0, "at": now - 5}])
        opened.catch_up()
        assert opened.features("card", ["a"])["n_1h"][0] == 3
        assert opened.history("card", [{"card": "a", "at": now}])["n_1h"][0] == 3
        opened.build()
        assert opened.features("card", ["a"])["n_1h"][0] == 3
