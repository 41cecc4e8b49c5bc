"""Tables of whole snapshots against their meaning in plain words: at t a key has its row of the latest snapshot before t, or none."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import twofold as tw
from twofold.clocks import ManualClock
from twofold.errors import DataError, SchemaMismatch
from twofold.instants import DAY_US, HOUR_US, to_datetime
from twofold.runtime.opened import Opened
from twofold.testing.modes import history_parity, online_parity

Open = Callable[..., Opened]
Row = dict[str, Any]
Snapshots = dict[int, list[Row]]

T = 1_700_000_000_000_000
KEYS = [(name, number) for name in ("a", "", "é") for number in (1, 11)]
SOME: Row = {"tail": "a", "leg": 1, "seats": 1, "note": "y", "gone": False}
planes = tw.Table(
    "planes", key=("tail", "leg"), time="taken_at", snapshots=True, schema={"tail": str, "leg": int, "seats": int, "note": str}
)
marked = tw.Table(
    "marked", key=("tail", "leg"), time="taken_at", snapshots=True, deleted="gone",
    schema={"tail": str, "leg": int, "gone": bool, "seats": int, "note": str},
)  # fmt: skip


def opened(open_home: Open, table: tw.Table, on_disk: bool = False) -> Opened:
    model = tw.Model("m", request={"tail": str, "leg": int}, views=[table])
    return open_home(tw.Project("snapshots", models=[model]), ManualClock(T), on_disk=on_disk)


def row_at(snapshots: Snapshots, key: tuple[str, int], t: int) -> Row | None:
    """The meaning: of several rows of a key in one snapshot the last one holds."""
    before = [instant for instant in snapshots if instant < t]
    found = [row for row in snapshots[max(before)] if (row["tail"], row["leg"]) == key] if before else []
    return found[-1] if found and not found[-1].get("gone") else None


def check(home: Opened, table: tw.Table, snapshots: Snapshots, instants: list[int]) -> int:
    """History at the instants and online now, value by value and status by status; the number of compared rows."""
    spine = [{"tail": tail, "leg": leg, "at": to_datetime(t)} for t in instants for tail, leg in KEYS]
    found = home.history(table.name, spine, status=True).to_dicts()
    now = home.home.clock.now_us()
    online = home.features(table.name, KEYS, status=True).to_dicts()
    asked = [*((t, key) for t in instants for key in KEYS), *((now, key) for key in KEYS)]
    for (t, key), got in zip(asked, [*found, *online], strict=True):
        want = row_at(snapshots, key, t)
        status = got["status"] if "status" in got else got["seats__status"]
        assert (got["seats"], got["note"]) == ((None, None) if want is None else (want["seats"], want["note"])), (key, t, want)
        assert status == ("empty" if want is None else "present"), (key, t, want)
    return len(asked)


def drawn(rng: random.Random, table: tw.Table) -> list[Row]:
    """A snapshot of some keys, none now and then; some keys twice, some rows of no key."""
    rows: list[Row] = []
    for tail, leg in rng.sample(KEYS, rng.randint(0, len(KEYS))):
        for _ in range(rng.choice([1, 1, 1, 2])):
            row = {"tail": tail, "leg": leg, "seats": rng.choice([None, 1, 2]), "note": rng.choice([None, "x"])}
            rows.append(row if table.deleted is None else {**row, "gone": rng.choice([None, False, True])})
    nobody = {"tail": None, "leg": 1, "seats": 1, "note": "x"}
    return rows + ([] if rng.random() < 0.8 else [nobody if table.deleted is None else {**nobody, "gone": False}])


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("table", [planes, marked], ids=lambda table: table.name)
def test_loads_in_any_order_are_what_the_snapshots_say(table: tw.Table, on_disk: bool, open_home: Open, rng: random.Random) -> None:
    """Older snapshots later, several in one load, one again with other rows, empty ones, the same content twice, builds in between."""
    compared = 0
    for _ in range(2 if on_disk else 12):
        home, snapshots = opened(open_home, table, on_disk), dict[int, list[Row]]()
        for _ in range(rng.randint(1, 6)):
            instants = rng.sample(range(T - 6 * DAY_US, T, DAY_US), rng.choice([1, 1, 2, 4]))
            fresh = {instant: drawn(rng, table) for instant in instants}
            if len(fresh) > 1:
                fresh = {instant: rows for instant, rows in fresh.items() if rows} or {instants[0]: [SOME]}
                given: Any = [{**row, "taken_at": instant} for instant, rows in fresh.items() for row in rows]
                versions = [home.load(table.name, given) for _ in range(2)]
            else:
                ((instant, rows),) = fresh.items()
                given = pl.DataFrame(rows, schema=dict(table.schema), infer_schema_length=None)
                versions = [home.load(table.name, given, at=instant) for _ in range(2)]
            assert len(set(versions)) == 1
            snapshots |= fresh
            if rng.random() < 0.5:
                home.build()
        home.build()
        steps = [T - days * DAY_US for days in range(8)]
        compared += check(home, table, snapshots, [*steps, *(t + 1 for t in steps), T - HOUR_US])
        (online_parity(home, table.name, KEYS, [None, T]) + history_parity(home, table.name, KEYS, [*steps, T - HOUR_US])).check(
            at_least=100
        )
    assert compared >= 100


def rows(*tails: str, seats: int = 1) -> list[Row]:
    return [{"tail": tail, "leg": 1, "seats": seats, "note": "n"} for tail in tails]


def test_a_key_comes_goes_and_comes_back(open_home: Open) -> None:
    home = opened(open_home, planes)
    for days, tails in ((3, "ab"), (2, "b"), (1, "ac")):
        home.load("planes", rows(*tails), at=T - days * DAY_US)
    home.build()
    found = home.features("planes", [("a", 1), ("b", 1), ("c", 1)], status=True)
    assert found["status"].to_list() == ["present", "empty", "present"]
    assert found["age_s"].to_list() == [86400.0] * 3
    seats = [home.history("planes", [{"tail": "a", "leg": 1, "at": to_datetime(T - days * DAY_US + 1)}])["seats"][0] for days in (3, 2, 1)]
    assert seats == [1, None, 1]


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_the_last_load_of_an_instant_holds_and_again_changes_nothing(open_home: Open, on_disk: bool) -> None:
    home = opened(open_home, planes, on_disk)
    loads = [rows("a"), rows("b"), rows("a"), rows("a"), [], rows("a", "b"), rows("a")]
    versions = [home.load("planes", given if given else pl.DataFrame(schema=dict(planes.schema)), at=T - DAY_US) for given in loads]
    assert versions == [1, 2, 3, 3, 4, 5, 6]
    home.build()
    assert home.features("planes", [("a", 1), ("b", 1)], status=True)["status"].to_list() == ["present", "empty"]


def test_compute_gives_the_same_from_one_table_of_several_snapshots() -> None:
    given = [{**row, "taken_at": T - days * DAY_US} for days, tails in ((2, "ab"), (1, "b")) for row in rows(*tails)]
    spine = [{"tail": tail, "leg": 1, "at": to_datetime(t)} for tail in "ab" for t in (T - DAY_US, T - DAY_US + 1)]
    assert tw.compute(planes, {planes: given}, spine)["seats"].to_list() == [1, None, 1, 1]


def test_what_is_no_whole_snapshot_is_refused(open_home: Open) -> None:
    home = opened(open_home, planes)
    with pytest.raises(DataError, match="takes no single rows; load the next snapshot"):
        home.append("planes", {**rows("a")[0], "taken_at": T})
    with pytest.raises(DataError, match="takes no single rows; load the next snapshot"):
        home.append("planes", pl.DataFrame({**rows("a")[0], "taken_at": T}))
    with pytest.raises(DataError, match="has the column 'taken_at', and at= says when it was taken too"):
        home.load("planes", [{**rows("a")[0], "taken_at": T}], at=T)
    with pytest.raises(SchemaMismatch, match=r"(?s)taken_at is absent.*do not say when the snapshot was taken, give at="):
        home.load("planes", rows("a"))
    with pytest.raises(DataError, match="nothing says when it was taken; if every key is to be deleted, give at="):
        home.load("planes", [])
    assert home.home.tables.history_version("planes") == 0


def test_at_is_refused_where_there_are_no_snapshots(open_home: Open) -> None:
    plain = tw.Table("plain", key="tail", time="since", schema={"tail": str, "seats": int})
    home = open_home(tw.Project("p", models=[tw.Model("m", request={"tail": str}, views=[plain])]), ManualClock(T))
    with pytest.raises(DataError, match="'plain' is no table with snapshots=True"):
        home.load("plain", [{"tail": "a", "seats": 1, "since": T}], at=T)
