"""Loads that did not come to their end, and ids that the store has lost: whoever comes next puts it right before it counts anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from test_seams import NOW, Failure, Open, append, daily, fails_at, hybrid, opened, ride, stream, value

from twofold.errors import Corrupt
from twofold.instants import HOUR_US
from twofold.plan import layout
from twofold.runtime.opened import Opened
from twofold.stream.duplicates import loaded_ids
from twofold.testing.faults import broken_promises, left_over
from twofold.testing.modes import history_parity, online_parity

VIEWS = (hybrid, stream, daily)
ROWS = [ride(NOW - 10 - i, f"h{i}") for i in range(4)]
OTHERS = [ride(NOW - 20, "other")]
NEXT: dict[str, Callable[[Opened], object]] = {
    "a build": lambda home: home.build(),
    "a build beside a worker": lambda home: build_beside_a_worker(home),
    "the same load": lambda home: home.load("rides", ROWS),
    "another load": lambda home: home.load("rides", OTHERS),
    "a look at history": lambda home: home.events_of("rides"),
}


def build_beside_a_worker(home: Opened) -> None:
    with home.home.lock("worker"):
        home.build()


def set_up(open_home: Open) -> Opened:
    home = opened(open_home, *VIEWS, on_disk=True)
    append(home, ride(NOW - 100, "before"))
    home.build()
    return home


def half_loaded(open_home: Open) -> Opened:
    """A load that ended when the store had its ids and the table none of its rows."""
    home = set_up(open_home)
    with pytest.raises(Failure):
        home.load("rides", ROWS, progress=fails_at("writing"))
    assert home.home.tables.history_version("rides") == 0
    assert knows_ids(home)
    return home


def knows_ids(home: Opened) -> bool:
    with home.home.store.snapshot() as snapshot:
        return loaded_ids(snapshot, "rides") is not None


def assert_counted_once(home: Opened) -> None:
    """Live events come, one of each loaded id and a new one: before and after a build each view is what the reference says."""
    append(home, *(ride(NOW - 1, str(row["id"])) for row in ROWS), ride(NOW - 1, "new"))
    assert value(home, "stream", "n_1h", NOW + 1)[0] == 2
    for _ in range(2):
        for view in VIEWS:
            online_parity(home, view.name, ["Oslo"], [None, NOW + HOUR_US]).check(at_least=8)
            history_parity(home, view.name, ["Oslo"], [NOW, NOW + HOUR_US]).check(at_least=8)
        home.build()
    assert broken_promises(home, []) == []
    assert left_over(home) == []


@pytest.mark.parametrize("comes", NEXT)
def test_a_decided_load_is_finished_by_whoever_comes_next(comes: str, open_home: Open) -> None:
    home = half_loaded(open_home)
    NEXT[comes](home)
    assert home.home.tables.history_version("rides") == (2 if comes == "another load" else 1)
    assert home.load("rides", ROWS) == 1
    assert_counted_once(home)


def test_a_worker_leaves_a_decided_load_to_others(open_home: Open) -> None:
    home = half_loaded(open_home)
    home.catch_up()
    assert home.home.tables.history_version("rides") == 0
    assert_counted_once(home)


@pytest.mark.parametrize("comes", [*NEXT, "a worker"])
def test_ids_that_servers_lost_in_a_failover_are_known_again(comes: str, open_home: Open) -> None:
    home = set_up(open_home)
    home.load("rides", ROWS)
    with home.home.store.transaction() as txn:
        ids = loaded_ids(txn, "rides")
        assert ids is not None
        for prefix in (layout.duplicate_key(ids, b""), layout.duplicates_prefix(ids)):
            for key, _ in list(txn.scan(prefix)):
                txn.delete(key)
        txn.delete(layout.history_edition_key("rides"))
        txn.delete(layout.known_history_key("rides"))
    assert not knows_ids(home)
    if comes == "a worker":
        home.catch_up()
    else:
        NEXT[comes](home)
    assert knows_ids(home)
    assert_counted_once(home)


def test_who_looks_or_builds_while_a_load_goes_on_does_not_wait_for_it(open_home: Open) -> None:
    home = half_loaded(open_home)
    with home.home.lock("load"):
        append(home, ride(NOW - 1, "h0"))
        home.build()
        assert sorted(home.events_of("rides")["id"]) == ["before", "h0"]
        assert home.home.tables.history_version("rides") == 0
        assert value(home, "stream", "n_1h", NOW + 1)[0] == 1
        assert value(home, "hybrid", "n_1h", NOW + 1)[0] == 2, "counted until its row is"
    home.build()
    assert_counted_once(home)


def test_a_store_that_is_lost_takes_a_decided_load_along(open_home: Open) -> None:
    """Nobody knows of it any more: its events count, and its rows are not left over."""
    home = half_loaded(open_home)
    home.home.store.close()
    del home.home.store
    shutil.rmtree(home.home.settings.home / "store")
    home.build()
    assert home.home.tables.history_version("rides") == 0
    append(home, ride(NOW - 1, "h0"))
    assert value(home, "hybrid", "n_1h", NOW + 1)[0] == 2
    assert left_over(home) == []


def test_rows_of_a_decided_load_that_are_gone_are_asked_for(open_home: Open) -> None:
    home = half_loaded(open_home)
    shutil.rmtree(home.home.settings.tables_folder / "loading")
    for comes in ("a build", "another load", "a look at history"):
        with pytest.raises(Corrupt, match=r"load into 'rides' was decided and its rows are gone.*load the same rows again"):
            NEXT[comes](home)
    home.catch_up()  # a worker on another machine has no tables at all
    assert home.load("rides", ROWS) == 1
    assert_counted_once(home)
