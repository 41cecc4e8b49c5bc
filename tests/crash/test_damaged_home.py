"""A home whose bytes change, whose events are poison, whose log lost its tail, whose builds fail, whose clock jumps, whose disk is full."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fault_driver import CARDS, SHOPS, Driver, Homes, history
from shop_project import project
from small_disk import mounted

from twofold.clocks import ManualClock
from twofold.errors import Corrupt, LogMismatch, Unavailable
from twofold.instants import DAY_US, HOUR_US, to_us
from twofold.log.base import Append
from twofold.plan import layout
from twofold.runtime.opened import Opened
from twofold.testing.faults import broken_promises, left_over
from twofold.testing.modes import history_parity, online_parity

NOW = to_us("2024-05-01T01:00:00Z")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def home(tmp_path: Path, clock: ManualClock) -> Iterator[Any]:
    """The project with history, built and following its log."""
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        opened.load("payments", history(0, 60))
        opened.load("limits", [{"card": "a", "limit": 100.0, "set_at": NOW - DAY_US}])
        opened.build()
        yield opened


def payments(count: int, prefix: str, seed: int = 1) -> list[dict[str, Any]]:
    rng = random.Random(f"{prefix} {seed}")
    return [
        {
            "payment_id": f"{prefix}{i}",
            "card": rng.choice(CARDS),
            "amount": rng.choice([None, 0.5, 1e15, float(rng.randint(1, 500))]),
            "shop": rng.choice(SHOPS),
            "paid_at": NOW - rng.choice([0, HOUR_US, 3 * DAY_US]) - rng.randint(0, 60_000_000),
        }
        for i in range(count)
    ]


def check(opened: Opened) -> None:
    """Values are right before and after a build, and no promise is broken."""
    opened.catch_up()
    for is_built in (False, True):
        now = opened.home.clock.now_us()
        assert broken_promises(opened, []) == []
        for view, keys in (("card", CARDS[:3]), ("shop", SHOPS), ("everything", [()]), ("limits", ["a", "b"])):
            parity = online_parity(opened, view, keys, [None, now + DAY_US]) + history_parity(opened, view, keys, [now, now + DAY_US])
            parity.check(at_least=2)
        if not is_built:
            opened.build()
    assert left_over(opened) == []


# Changed bytes


def is_refusal(answer: Any) -> bool:
    return isinstance(answer, str) and answer.startswith("twofold.errors.")


def test_wherever_bits_of_the_log_flip_an_answer_is_right_or_refused(driver: Driver, homes: Homes, request: pytest.FixtureRequest) -> None:
    rng = random.Random(request.config.option.hypothesis_seed)
    home = homes.fresh()
    driver.ask("live", home, number=1)
    assert driver.ask("send", home, number=2) == "sent"
    assert driver.ask("work", home, number=2) == "applied"
    right, counts = driver.ask("answers", home, number=3), {"right": 0, "refused": 0}
    path = home / "log.sqlite"
    for _ in range(20):
        raw = path.read_bytes()
        damaged = bytearray(raw)
        for _ in range(rng.choice([1, 1, 8])):
            damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged if rng.random() < 0.8 else damaged[: rng.randrange(len(raw))])
        found = driver.ask("answers", home, number=3)
        assert found == right or is_refusal(found), f"{path}: {found} instead of {right}"
        counts["refused" if is_refusal(found) else "right"] += 1
        path.write_bytes(raw)
    assert driver.ask("answers", home, number=3) == right
    assert counts["refused"], counts


# Poison


def stream_of(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_ipc_stream(out, compat_level=pl.CompatLevel.oldest())
    return out.getvalue()


def good() -> pl.DataFrame:
    """Two events in the form that the log has them."""
    at = pl.Series("paid_at", [NOW, NOW], pl.Int64).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame({"payment_id": ["p1", "p2"], "card": ["a", "b"], "amount": [1.0, 2.0], "shop": ["x", "y"], "paid_at": at})


def invalid_text() -> bytes:
    return stream_of(good().with_columns(shop=pl.Series(["@@@@@@@@@@@@@@@@@", "y"]))).replace(b"@" * 17, b"\xff\xfe" * 8 + b"\xff")


POISON: dict[str, Callable[[], bytes]] = {
    "no Arrow": lambda: b"\x00" * 40,
    "nothing at all": lambda: b"",
    "cut short": lambda: stream_of(good())[:-60],
    "wrong types": lambda: stream_of(good().with_columns(amount=pl.lit("much"))),
    "another schema": lambda: stream_of(pl.DataFrame({"k": [1, 2]})),
    "a column is missing": lambda: stream_of(good().drop("card")),
    "the time is missing": lambda: stream_of(good().drop("paid_at")),
    "the time is null": lambda: stream_of(good().with_columns(paid_at=pl.lit(None, pl.Datetime("us", "UTC")))),
    "no rows": lambda: stream_of(good().clear()),
    "more rows than said": lambda: stream_of(pl.concat([good(), good()])),
    "not a number": lambda: stream_of(good().with_columns(amount=pl.lit(float("nan")))),
    "infinite": lambda: stream_of(good().with_columns(amount=pl.lit(float("inf")))),
    "huge": lambda: stream_of(good().with_columns(amount=pl.lit(1.7976931348623157e308), card=pl.lit("c" * 100_000))),
    "in a thousand years": lambda: stream_of(good().with_columns(pl.col("paid_at") + pl.duration(days=365_000))),
    "long ago": lambda: stream_of(good().with_columns(pl.col("paid_at") - pl.duration(days=365_000))),
    "invalid UTF-8": invalid_text,
    "the same id twice": lambda: stream_of(good().with_columns(payment_id=pl.lit("p1"))),
}
"""Payloads that say they are two events."""


@pytest.mark.parametrize("kind", POISON)
def test_poison_in_the_log_is_counted_or_a_dead_letter_and_stops_nobody(kind: str, home: Any) -> None:
    home.append("payments", payments(8, "before"))
    home.home.append_batches([Append("payments", 0, 2, POISON[kind]())])
    home.append("payments", payments(8, "after"))
    check(home)
    assert home.status().sources[0].applied == home.status().sources[0].end


def test_duplicates_disorder_and_late_events_count_once(home: Any, clock: ManualClock) -> None:
    rows = payments(40, "p")
    rng = random.Random(3)
    for _ in range(3):
        rng.shuffle(rows)
        for begin in range(0, len(rows), 7):
            home.append("payments", rows[begin : begin + 7])
            home.catch_up()
        clock.advance("1h")
    check(home)
    assert home.features("everything", [()])["n_all"].to_list() == [40]


def test_a_clock_that_jumps_a_year_ahead_and_back(home: Any, clock: ManualClock) -> None:
    home.append("payments", payments(10, "p"))
    check(home)
    clock.advance("365d")
    home.append("payments", payments(10, "q"))
    check(home)
    clock.set(NOW, back=True)
    home.append("payments", payments(10, "r"))
    home.catch_up()
    home.build()
    assert broken_promises(home, []) == []
    truth = home.history("card", [{"card": card, "at": NOW + 366 * DAY_US} for card in CARDS[:3]])
    online = home.features("card", CARDS[:3], at=NOW + 366 * DAY_US)
    assert online.drop("card").rows() == truth.drop("card", "at").rows()
    clock.set(NOW + 366 * DAY_US)
    check(home)


# The log is shorter than what was applied


def test_a_log_that_lost_its_tail_is_refused_until_the_store_is_built_anew(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "home"
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.append("payments", payments(20, "kept"))
        opened.build()
    shutil.copy(folder / "log.sqlite", tmp_path / "older")
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.append("payments", payments(20, "lost"))
        opened.catch_up()
    shutil.copy(tmp_path / "older", folder / "log.sqlite")
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        for attempt in (opened.catch_up, opened.build, lambda: opened.history("card", [{"card": "a", "at": NOW + DAY_US}])):
            with pytest.raises(LogMismatch, match=r"remove HOME/store and run `twofold build`"):
                attempt()
    shutil.rmtree(folder / "store")
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.build()
        opened.append("payments", payments(20, "after"))
        check(opened)


@pytest.mark.parametrize(
    ("is_cut", "count", "text"),
    [
        (True, 2, r"the archive has payments/\d up to offset \d+, but the log ends at \d+"),
        (False, 2, "the archive of 'payments' comes from another log"),
        (False, 90, "the archive of 'payments' comes from another log"),
    ],
    ids=["cut", "gone", "gone and grown"],
)
def test_a_log_that_ends_before_the_archive_gives_no_offset_twice(
    tmp_path: Path, clock: ManualClock, is_cut: bool, count: int, text: str
) -> None:
    folder = tmp_path / "home"
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.append("payments", payments(20, "kept"))
        opened.catch_up()
    shutil.copy(folder / "log.sqlite", tmp_path / "older")
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.append("payments", payments(20, "archived"))
        opened.build()
    for path in folder.glob("log.sqlite*"):
        path.unlink()
    if is_cut:
        shutil.copy(tmp_path / "older", folder / "log.sqlite")
    shutil.rmtree(folder / "store")
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.append("payments", payments(count, "new"))
        for attempt in (opened.catch_up, opened.build, lambda: opened.history("card", [{"card": "a", "at": NOW + DAY_US}])):
            with pytest.raises(LogMismatch, match=text):
                attempt()


def test_a_store_of_another_format_is_refused_and_made_anew(tmp_path: Path, clock: ManualClock) -> None:
    folder = tmp_path / "home"
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.append("payments", payments(20, "before"))
        opened.build()
        with opened.home.store.transaction() as txn:
            txn.put(layout.FORMAT, layout.encode_int(layout.THIS_FORMAT - 1))
        for attempt in (opened.catch_up, opened.build):
            with pytest.raises(Corrupt, match=r"this version of Twofold has .*remove it"):
                attempt()
    shutil.rmtree(folder / "store")
    with project.open(home=folder, clock=clock, partitions=2) as opened:
        opened.build()
        check(opened)


# Builds that fail


def test_three_builds_fail_one_after_another_and_the_fourth_does_not(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from twofold.store.lmdb import LmdbStore

    write = LmdbStore.write_generation

    def failing(self: Any, name: str, states: Any) -> int:
        write(self, name, states)
        raise Unavailable("planted")

    for number in range(3):
        home.append("payments", payments(10, f"p{number}"))
        home.catch_up()
        before = home.features("card", CARDS[:3]).rows()
        with monkeypatch.context() as patch:
            patch.setattr(LmdbStore, "write_generation", failing)
            with pytest.raises(Unavailable, match="planted"):
                home.build()
        assert home.features("card", CARDS[:3]).rows() == before
    check(home)
    home.append("payments", payments(10, "last"))
    check(home)


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB of its own."""
    with mounted(tmp_path / "disk", 40) as place:
        yield place


def test_a_load_that_the_disk_had_no_room_for_comes_when_there_is(tmp_path: Path, clock: ManualClock) -> None:
    """Its ids are known by then: events that repeat them are dropped, by a worker that begins while the disk is full."""
    with project.open(home=tmp_path / "home", clock=clock, partitions=2) as opened:
        folder = opened.home.settings.tables_folder
        folder.mkdir()
        with mounted(folder / "history", 1) as disk:
            opened.load("payments", history(0, 60))
            opened.build()
            ballast = disk / "ballast"
            fill(ballast)
            with pytest.raises(
                Unavailable, match=r"disk's space.*its rows are kept, and the next load, build or look at this history adds"
            ):
                opened.load("payments", history(1, 60))
            opened.append("payments", history(1, 60))
            opened.catch_up()
            assert opened.features("everything", [()])["n_all"].to_list() == [0]
            with pytest.raises(Unavailable, match="disk's space"):
                opened.build()
            ballast.unlink()
            check(opened)
            assert opened.home.tables.history_version("payments") == 2


def fill(ballast: Path) -> None:
    """A file that leaves its disk no room."""
    with open(ballast, "wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    out.write(bytes(size))


def test_on_a_full_disk_everything_is_refused_in_words_and_goes_on_when_there_is_space(small_disk: Path, clock: ManualClock) -> None:
    with project.open(home=small_disk / "home", clock=clock, partitions=2) as opened:
        opened.load("payments", history(0, 60))
        opened.build()
        opened.append("payments", payments(200, "p"))
        opened.catch_up()
        opened.append("payments", payments(2000, "q"))
        ballast = small_disk / "ballast"
        fill(ballast)
        refused = []
        for attempt in (lambda: opened.append("payments", payments(3000, "r")), opened.catch_up, opened.build):
            try:
                attempt()
            except Unavailable as error:
                refused.append(str(error))
        assert len(refused) >= 2, refused  # the store may have come by pages that it can use again
        assert all("disk" in text for text in refused), refused
        ballast.unlink()
        opened.append("payments", payments(20, "s"))
        check(opened)
