"""The Python surface, embedded: what goes in comes out, online and from history, with the same bits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from whole_data import FRAUDS, HISTORY, LIVE, START_US, load_history

import twofold as tw
from twofold.errors import Busy, DataError, DefinitionError, NotBuilt, SchemaMismatch, Unavailable, UnknownName
from twofold.instants import DAY_US, HOUR_US, MINUTE_US
from twofold.runtime.home import Home
from twofold.runtime.restoring import new_worker
from twofold.settings import Settings


def stream_in(opened: Any, clock: tw.ManualClock, rows: list[dict[str, Any]], step: int = 7) -> None:
    """Append in small batches, the clock just after each, and apply."""
    for at in range(0, len(rows), step):
        part = rows[at : at + step]
        clock.set(part[-1]["paid_at"] + 1)
        opened.append("payments", part)
        opened.catch_up()


def test_online_equals_history_before_and_after_a_build(loaded: Any, clock: tw.ManualClock) -> None:
    keys = ["a", "b", "c", "never seen"]
    for rows in (LIVE[:60], LIVE[60:]):
        stream_in(loaded, clock, rows)
        online = loaded.features("card", keys, at=clock.now_us())
        history = loaded.history("card", [{"card": key, "at": clock.now_us()} for key in keys])
        assert online.equals(history.drop("at"), null_equal=True)
        assert online["n_1d"].sum() > 20
        loaded.build()
        assert loaded.features("card", keys, at=clock.now_us()).equals(online, null_equal=True)


def test_events_that_are_appended_while_the_worker_reads_are_no_mismatch(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = loaded.home.log
    ends_of = log.end_offsets

    def ends_just_before_another_append(sources: Any) -> Any:
        ends = ends_of(sources)
        monkeypatch.undo()
        loaded.append("payments", LIVE[1])
        return ends

    loaded.append("payments", LIVE[0])
    monkeypatch.setattr(log, "end_offsets", ends_just_before_another_append)
    assert loaded.catch_up() == 2


def test_a_replica_knows_how_far_the_speed_layer_lags(loaded: Any) -> None:
    for row in LIVE[:5]:
        loaded.append("payments", row)
    loaded.append("limits", {"card": "a", "limit": 7.0, "ended": False, "set_at": START_US})
    assert loaded.replica.lag() == 6
    loaded.catch_up()
    assert loaded.replica.lag() == 0
    loaded.replica.close()


def test_a_batch_view_changes_only_with_a_build(loaded: Any, clock: tw.ManualClock) -> None:
    before = loaded.features("shop", ["x", "y"], at=START_US + HOUR_US)
    stream_in(loaded, clock, LIVE[:60])
    assert loaded.features("shop", ["x", "y"], at=START_US + HOUR_US).equals(before)
    loaded.build()
    assert not loaded.features("shop", ["x", "y"], at=clock.now_us()).equals(before)


def test_a_stream_view_holds_only_what_came_since(loaded: Any, clock: tw.ManualClock) -> None:
    assert loaded.features("all_payments", [()])["largest_1h"].to_list() == [None]
    stream_in(loaded, clock, LIVE)
    now = clock.now_us()
    recent = [row["amount"] for row in LIVE if row["paid_at"] >= now - HOUR_US - MINUTE_US and row["amount"] is not None]
    assert loaded.features("all_payments", [()], at=now)["largest_1h"].to_list() == [max(recent)]
    assert loaded.history("all_payments", [{"at": now}, {"at": START_US}])["largest_1h"].to_list() == [max(recent), None]


def test_statuses_and_ages(loaded: Any) -> None:
    shown = loaded.features("card", ["a", "never seen"], at=START_US + 1, status=True)
    assert shown["status"].to_list() == ["present", "empty"]
    assert shown["age_s"][0] > 0
    assert shown["age_s"][1] is None
    early = loaded.features("card", ["a"], at=START_US - DAY_US, status=True)
    assert early["status"].to_list() == ["ahead"]
    assert early["n_1d"].to_list() == [None]


def test_duplicates_count_once_in_batch_and_stream(loaded: Any, clock: tw.ManualClock) -> None:
    clock.set(LIVE[0]["paid_at"] + 1)
    loaded.append("payments", LIVE[:10])
    loaded.append("payments", LIVE[:10])
    loaded.catch_up()
    online = loaded.features("card", ["a", "b", "c"], at=clock.now_us() + HOUR_US)
    once = loaded.history("card", [{"card": key, "at": clock.now_us() + HOUR_US} for key in "abc"])
    assert online.equals(once.drop("at"), null_equal=True)
    assert loaded.events_of("payments").height == len(HISTORY) + 10


def test_load_again_changes_nothing_and_more_is_seen_after_a_build(loaded: Any) -> None:
    assert loaded.load("payments", HISTORY) == 1
    before = loaded.features("card", ["a"], at=START_US + 1)
    more = [{"payment_id": "more", "card": "a", "shop": "x", "amount": 5.0, "paid_at": START_US - MINUTE_US}]
    assert loaded.load("payments", more) == 2
    assert loaded.features("card", ["a"], at=START_US + 1).equals(before)
    loaded.build()
    assert loaded.features("card", ["a"], at=START_US + 1)["n_1d"].item() == before["n_1d"].item() + 1


def test_what_was_never_built_is_not_zero(tmp_path: Path, clock: tw.ManualClock) -> None:
    from shop import project

    with project.open(home=tmp_path, clock=clock) as opened:
        opened.append("payments", LIVE[:3])
        opened.catch_up()
        with pytest.raises(NotBuilt, match=r"card.*twofold build"):
            opened.features("card", ["a"])
        with pytest.raises(NotBuilt):
            opened.predict("risk", {"payment_id": "p", "card": "a", "shop": "x", "amount": 1.0})


def test_training_sees_what_serving_sees(loaded: Any, clock: tw.ManualClock) -> None:
    stream_in(loaded, clock, LIVE[:40])
    requests = [{"payment_id": f"q{i}", "card": card, "shop": "x", "amount": 10.0} for i, card in enumerate(["a", "b", None])]
    loaded.build()
    online = loaded.vectors("risk", requests, at=clock.now_us())
    rows = pl.DataFrame(requests).with_columns(at=pl.lit(clock.now_us()).cast(pl.Datetime("us", "UTC")))
    clock.advance("2d")
    loaded.append("frauds", {"payment_id": "other", "reported_at": clock.now_us()})  # the label's source has arrived that far
    offline = loaded.training_set("risk", rows=rows)
    hybrid = [column for column in online.columns if not column.startswith("shop_")]
    assert online.select(hybrid).equals(offline.select(hybrid), null_equal=True)
    assert offline["label"].to_list() == [False, False, False]


def test_labels_come_from_the_future_and_rows_whose_horizon_is_open_are_left_out(loaded: Any) -> None:
    training = loaded.training_set("risk")
    reported = {row["payment_id"] for row in FRAUDS}
    last_report = max(row["reported_at"] for row in FRAUDS)
    over = [row for row in HISTORY if row["paid_at"] + DAY_US <= last_report]
    assert training.height == len(over)
    assert dict(zip(training["payment_id"], training["label"], strict=True)) == {
        row["payment_id"]: row["payment_id"] in reported for row in over
    }


def test_train_promote_roll_back_predict(loaded: Any) -> None:
    request = {"payment_id": "p", "card": "a", "shop": "x", "amount": 10.0}
    first = loaded.train("risk", test="5d")
    answer = loaded.predict("risk", request)
    assert answer["served_by"] == "live"
    assert answer["model"] == f"risk@{first.version[:8]}"
    frame = loaded.vectors("risk", [request])
    assert np.isclose(loaded.score("risk", frame)[0], answer["prediction"], rtol=0, atol=0)
    second = loaded.train("risk", test="4d", until=START_US - DAY_US)
    assert loaded.predict("risk", request)["model"].endswith(first.version[:8])
    assert loaded.promote("risk") == second.version
    assert loaded.predict("risk", request)["model"].endswith(second.version[:8])
    assert loaded.rollback("risk") == first.version
    assert loaded.predict("risk", request)["model"].endswith(first.version[:8])
    audit = loaded.audit()
    assert (audit.records, audit.different, audit.ahead) == (4, 0, 0)
    assert audit.compared == 4 * 10


def test_names_that_do_not_exist_say_what_does(loaded: Any) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'card'"):
        loaded.features("crad", ["a"])
    with pytest.raises(UnknownName, match="Did you mean 'payments'"):
        loaded.append("payment", [])
    with pytest.raises(UnknownName, match="Did you mean 'risk'"):
        loaded.predict("rsk", {})


def test_bad_rows_are_refused_whole(loaded: Any) -> None:
    with pytest.raises(SchemaMismatch, match="amount"):
        loaded.append("payments", [LIVE[0], {**LIVE[1], "amount": "12"}])
    with pytest.raises(DataError, match="shops"):
        loaded.append("shops", SHOP_ROW)
    assert loaded.home.log.end_offsets(["payments"])["payments", 0] == 0


SHOP_ROW = {"shop": "z", "kind": "books", "floor_m2": 1}


def test_one_worker_a_home(loaded: Any) -> None:
    with loaded.home.lock("worker"):
        other = Home(Settings(home=loaded.home.settings.home), loaded.home.clock)
        with pytest.raises(Busy, match="only one"), other.lock("worker"):
            pass
        other.close()


def test_partitions_give_the_same_bits(tmp_path: Path, clock: tw.ManualClock) -> None:
    from shop import project

    seen = []
    for partitions in (1, 3):
        clock.set(START_US, back=True)
        with project.open(home=tmp_path / str(partitions), clock=clock, partitions=partitions) as opened:
            load_history(opened)
            opened.build()
            stream_in(opened, clock, LIVE)
            opened.build()
            seen.append(opened.features("card", ["a", "b", "c"], at=clock.now_us()))
            assert opened.home.log.partitions == partitions
    assert seen[0].equals(seen[1], null_equal=True)


@pytest.mark.parametrize("given", [3, None, "a", b"a", [3], Path("nowhere.parquet")])
def test_what_is_no_request_is_refused(loaded: Any, given: Any) -> None:
    for ask in (loaded.predict, loaded.vectors):
        with pytest.raises(DataError, match=r"the table of requests is|give an object with the fields"):
            ask("risk", given)
    with pytest.raises(DataError, match="3 is no position"):
        loaded.predict("risk", [], after=3)


@pytest.mark.parametrize("given", [1.5, None, {"crad": "a"}, Path("nowhere.parquet")])
def test_what_is_no_table_of_keys_is_refused(loaded: Any, given: Any) -> None:
    with pytest.raises(DataError, match=r"the table of keys is|the key column 'card' is missing"):
        loaded.features("card", given)


def test_requests_and_keys_come_as_any_table(loaded: Any, tmp_path: Path) -> None:
    keys = pl.DataFrame({"card": ["a", None], "more": [1, 2]})
    keys.write_parquet(tmp_path / "keys.parquet")
    expected = loaded.features("card", ["a", None])
    for table in (keys, keys.lazy(), keys.to_arrow(), keys.to_pandas(), tmp_path / "keys.parquet"):
        assert loaded.features("card", table).equals(expected)
    requests = pl.DataFrame({"payment_id": ["x"], "card": ["a"], "shop": ["s"], "amount": [None]}, schema_overrides={"amount": pl.Float64})
    expected = loaded.vectors("risk", requests.to_dicts()).drop("at")
    for table in (requests, requests.lazy(), requests.to_arrow(), requests.to_pandas()):
        assert loaded.vectors("risk", table).drop("at").equals(expected)


def test_history_takes_no_other_visibility_and_no_column_that_it_adds(loaded: Any) -> None:
    spine = pl.DataFrame({"card": ["a"], "at": [START_US], "n_1d": [1]})
    with pytest.raises(DataError, match="visibility = 'arival'; it is 'ideal' or 'arrival'"):
        loaded.history("card", spine.drop("n_1d"), visibility="arival")
    with pytest.raises(SchemaMismatch, match="the spine has n_1d already, which view 'card' adds"):
        loaded.history("card", spine)


def test_status_and_age_stand_beside_columns_of_the_same_name(tmp_path: Path, clock: tw.ManualClock) -> None:
    orders = tw.Table("orders", key="order", time="at", schema={"order": str, "status": str, "age_s": float})
    with tw.Project("orders", views=[orders]).open(home=tmp_path, clock=clock) as opened:
        opened.build()
        opened.append("orders", {"order": "a", "status": "sent", "age_s": 2.0, "at": START_US - 3_000_000})
        opened.catch_up()
        found = opened.features("orders", ["a"], status=True).row(0, named=True)
    assert found == {"order": "a", "status": "sent", "age_s": 2.0, "__status": "present", "__age_s": 3.0}


def test_a_closed_home_opens_nothing_again(loaded: Any) -> None:
    loaded.close()
    for call in (lambda: loaded.append("payments", LIVE[0]), loaded.build, loaded.dead_letters, lambda: loaded.promote("risk")):
        with pytest.raises(Unavailable, match="was closed; open"):
            call()
    loaded.close()


def test_a_clock_that_is_a_text_is_refused(tmp_path: Path) -> None:
    from shop import project

    with pytest.raises(DefinitionError, match=r"clock = 'replay' is no clock; give .*tw.ReplayClock\(path\)"):
        project.open(home=tmp_path, clock="replay")


def test_one_name_is_no_list_of_views_to_build(loaded: Any) -> None:
    with pytest.raises(DataError, match=r"views = 'card' is one name; give a list of them, as in \['card'\]"):
        loaded.build(views="card")


def test_views_to_build_beside_a_worker_may_come_from_an_iterator(loaded: Any) -> None:
    loaded.append("payments", LIVE[0])
    loaded.catch_up()
    with loaded.home.lock("worker"):
        built = loaded.build(views=iter(["card"]))
    assert [one.view for one in built] == ["card"]


def test_a_spine_of_no_rows_has_no_features(loaded: Any) -> None:
    found = loaded.history("card", [])
    assert found.equals(loaded.history("card", [{"card": "a", "at": START_US}]).clear())


@pytest.mark.parametrize("letter", ["v", "V"])
def test_the_longest_names_can_be_built_and_served(tmp_path: Path, clock: tw.ManualClock, letter: str) -> None:
    name = letter * 128
    source = tw.Events(name, time="at", schema={"k": str})
    views = [
        tw.View(name, source, by="k", features={name: tw.count(over="1h")}),
        tw.Table(f"T{name[1:]}", key="k", schema={"k": str, "x": int}),
    ]
    with tw.Project(name, views=views).open(home=tmp_path, clock=clock) as opened:
        opened.load(name, [{"k": "a", "at": START_US - 60_000_000}])
        opened.build()
        opened.append(name, {"k": "a", "at": START_US - 30_000_000})
        opened.catch_up()
        assert opened.features(name, ["a"])[f"{name}_1h"].to_list() == [2]
        opened.build()
        assert opened.features(name, ["a"])[f"{name}_1h"].to_list() == [2]


def test_a_first_build_waits_for_what_the_log_holds(tmp_path: Path, clock: tw.ManualClock) -> None:
    """Where a store was lost, a table built on a part of its rows would give events old ones for ever."""
    prices = tw.Table("prices", key="item", time="since", schema={"item": str, "price": float})
    with tw.Project("shop", views=[prices]).open(home=tmp_path, clock=clock) as opened:
        opened.load("prices", [{"item": "a", "price": 1.0, "since": START_US - 2}])
        opened.append("prices", {"item": "a", "price": 2.0, "since": START_US - 1})
        worker = new_worker(opened)
        worker.take_over()

        def work() -> None:
            worker.catch_up()
            worker.close()

        with opened.home.lock("worker"):
            late = threading.Timer(0.5, work)
            late.start()
            opened.build()
            assert opened.features("prices", ["a"])["price"].to_list() == [2.0]
            late.join()
