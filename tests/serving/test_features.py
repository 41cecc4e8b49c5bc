"""Features online: the right values at the right instant, out of one snapshot, whatever the batch layer does meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from twofold.algebra.base import OVERFLOW
from twofold.batch.events import present_events
from twofold.batch.spill import Scratch
from twofold.errors import DataError, LogMismatch, NotBuilt, SchemaMismatch, StoreUnavailable, UnknownName
from twofold.instants import to_datetime, to_us
from twofold.log.base import Position
from twofold.plan import layout
from twofold.plan.inputs import MAJOR, MINOR, STAMP, TIME, prepared
from twofold.plan.reference import Event, features_at
from twofold.serve.generations import OpenGenerations
from twofold.serve.reads import Origin
from twofold.store.base import Generation, Snapshot, Store
from twofold.store.memory import MemoryStore

NOON = to_us("2024-05-01T12:00:00Z")


class Around:
    """A real store, with something happening at certain moments of a read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.on_snapshot: Callable[[], None] = lambda: None
        self.on_generation: Callable[[], None] = lambda: None
        self.after_pointers: Callable[[], None] = lambda: None
        self.snapshots = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        self.snapshots += 1
        self.on_snapshot()
        return _AroundSnapshot(self, self.store.snapshot())

    def generation(self, name: str) -> Generation | None:
        self.on_generation()
        return self.store.generation(name)


class _AroundSnapshot:
    def __init__(self, owner: Around, inner: AbstractContextManager[Snapshot]) -> None:
        self.owner, self.inner = owner, inner

    def __enter__(self) -> _AroundSnapshot:
        self.snapshot = self.inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.inner.__exit__(*error)

    @property
    def version(self) -> int | None:
        return self.snapshot.version

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        found = self.snapshot.multi_get(keys)
        action, self.owner.after_pointers = self.owner.after_pointers, lambda: None
        action()
        return found


def by_name(shop: Any, view: str, key: Any, at_us: int | None = None, **options: Any) -> dict[str, Any]:
    [read] = shop.reader(**options).features(view, [key], at_us)
    return dict(zip([feature.name for feature in shop.plan.views[view].features], read.values, strict=True))


def test_generation_and_deltas_are_merged(lively: Any) -> None:
    assert by_name(lively, "shop", "north") == {
        "sales_10m": 1,
        "sales_1d": 3,
        "amount_1h": 15.0,
        "amount_1d": 20.0,
        "kind_all": "b",
        "paid_at_all": None,
    }


def test_a_stream_view_has_no_history_and_a_batch_view_no_delta(lively: Any) -> None:
    assert by_name(lively, "item", ("north", 1)) == {"sold_1d": 2}
    assert by_name(lively, "nightly", "north") == {"total_all": 50.0}


def test_each_mode_reads_no_more_than_it_needs(lively: Any) -> None:
    pointer, place = layout.Pointer("g", 1, (1,), (1, 1), NOON), layout.Place(3, (1,), closed=2, closed_cut=(1,))
    origins = {view: Origin(lively.plan.views[view], pointer, [place, place]) for view in ("shop", "item", "nightly")}
    assert [len(origin.prefixes) for origin in origins.values()] == [8, 8, 0], "a head and a body of each delta in each partition"
    served = Origin(lively.plan.views["shop"], msgspec.structs.replace(pointer, number=2), [place, place])
    assert len(served.prefixes) == 4, "the generation holds the closed deltas"
    gone = msgspec.structs.replace(place, closed=None, closed_cut=(), dropped=2)
    assert Origin(lively.plan.views["shop"], pointer, [place, gone]).is_outdated
    assert [origin.generation for origin in origins.values()] == ["g", None, "g"]


def test_a_window_that_ends_at_the_build_stays_there_and_its_age_grows(lively: Any) -> None:
    later = NOON + 7_200_000_000
    [read] = lively.reader().features("frozen", ["north"], later)
    assert read.values == (1,), "the sale of 11:00 lies in the hour before the build of noon"
    assert (read.at_us, read.age_us) == (later, later - to_us("2024-05-01T11:00:00Z"))


def test_a_table_answers_its_row_and_a_static_one_has_no_age(lively: Any) -> None:
    found, missing = lively.reader().features("owners", ["north", "south"])
    assert (found.values, found.status, found.age_us) == (("Ann", 1990, 0.5), "present", None)
    assert (missing.values, missing.status) == ((None, None, None), "empty")


def test_keys_of_every_shape(lively: Any) -> None:
    reader = lively.reader()
    shapes = [("north", 1), ["north", 1], {"item": 1, "shop": "north"}]
    assert [read.values for read in reader.features("item", shapes)] == [(2,)] * 3
    assert [read.key for read in reader.features("item", shapes)] == [("north", 1)] * 3
    assert reader.features("everybody", [(), [], {}])[2].values == (1,)
    assert reader.features("by_day", ["2024-05-01T12:00:00Z", NOON, to_datetime(NOON)])[0].values == (1,)
    assert reader.features("shop", []) == []


@pytest.mark.parametrize("key", [(None, 1), ("north", None), (None, None), {"shop": None, "item": 1}])
def test_a_null_in_a_key_is_an_empty_window(lively: Any, key: Any) -> None:
    [read] = lively.reader().features("item", [key])
    assert (read.values, read.status, read.age_us) == ((0,), "empty", None)


@pytest.mark.parametrize(
    ("view", "key", "told"),
    [
        ("item", ("north", "1"), "item is '1', not an int"),
        ("item", ("north", True), "item is True, not an int"),
        ("item", (7, 1), "shop is 7, not a text"),
        ("item", ("north",), "it has 1 parts"),
        ("item", {"shop": "north", "itm": 1}, "item is absent; its key columns are shop, item. Did you mean 'itm'?"),
        ("item", {"shop": "north", "item": 1, "x": 2}, "x is no key column"),
        ("item", ("north", 2**63), "does not fit 64 bits"),
        ("by_day", "2024-05-01T12:00:00", "day is 2024-05-01T12:00:00, which has no zone"),
    ],
)
def test_a_key_of_another_type_is_refused(lively: Any, view: str, key: Any, told: str) -> None:
    with pytest.raises(SchemaMismatch) as refused:
        lively.reader().features(view, [("north", 1) if view == "item" else NOON, key])
    assert told in str(refused.value)
    assert f"view '{view}' refuses key 1" in str(refused.value)


def test_an_unknown_view_and_model_are_named_with_the_nearest(lively: Any) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'shop'"):
        lively.reader().features("shp", ["north"])
    with pytest.raises(UnknownName, match="Did you mean 'buy'"):
        lively.reader().vectors("by", [])


# The instant


def test_t_is_the_clock_read_after_the_snapshot(lively: Any) -> None:
    store = Around(lively.store)
    store.on_snapshot = lambda: lively.clock.advance("1s")
    assert lively.reader(store).features("shop", ["north"])[0].at_us == NOON + 1_000_000
    assert lively.reader(store).vectors("empty", [{"x": 1.0}])[0].at_us == NOON + 2_000_000


def test_t_is_above_every_event_of_the_request(lively: Any, helpers: Any) -> None:
    lively.append("sales", helpers.sale(at="12:00:05"))
    lively.worker.catch_up()
    north, south = lively.reader().features("shop", ["north", "south"])
    assert (north.at_us, south.at_us) == (NOON + 5_000_001, NOON)
    assert north.values[0] == 2, "the event that lies after the clock is counted"
    a, b = lively.reader().vectors("buy", [helpers.request(), helpers.request(shop="south", rival="south")])
    assert (a.at_us, b.at_us) == (NOON + 5_000_001, NOON)
    assert [read.age_us for read in a.reads[:2]] == [1, NOON + 5_000_001 - to_us("2024-05-01T11:10:00Z")]


def test_at_below_what_can_be_told_apart_is_ahead_and_null(lively: Any) -> None:
    lively.clock.advance("1h")
    lively.build(at="2024-05-01T13:00:00Z")
    [read] = lively.reader().features("shop", ["north"], to_us("2024-05-01T11:00:00Z"))
    assert (read.status, set(read.values), read.at_us) == ("ahead", {None}, to_us("2024-05-01T11:00:00Z"))
    assert lively.reader().features("shop", ["north"], to_us("2024-05-01T12:56:00Z"))[0].status == "present"


def test_values_older_than_max_age_are_stale(lively: Any) -> None:
    lively.clock.advance("3h")
    [read] = lively.reader().features("shop", ["north"])
    assert (read.status, read.statuses[0]) == ("stale", "empty")


# The snapshot


def test_one_snapshot_serves_all_views_and_keys(lively: Any, helpers: Any) -> None:
    store = Around(lively.store)
    reader = lively.reader(store)
    reader.vectors("buy", [helpers.request(), helpers.request(shop="south")])
    assert store.snapshots == 1


def test_what_commits_during_a_read_is_not_seen(lively: Any, helpers: Any) -> None:
    store = Around(lively.store)
    before = lively.reader().vectors("buy", [helpers.request()])

    def commit() -> None:
        lively.append("sales", helpers.sale(at="11:59:00"), helpers.sale("south", at="11:59:30"))
        lively.worker.catch_up()

    store.after_pointers = commit
    reader = lively.reader(store)
    assert reader.vectors("buy", [helpers.request()]) == before
    after = reader.vectors("buy", [helpers.request()])
    assert sum(after[0].offsets.values()) == sum(before[0].offsets.values()) + 2
    assert after[0].columns["shop_sales_10m"] == before[0].columns["shop_sales_10m"] + 1


def test_a_vector_says_what_it_was_read_from(lively: Any, helpers: Any) -> None:
    [vector] = lively.reader().vectors("buy", [helpers.request()])
    uses = lively.plan.models["buy"].uses
    assert [read.view for read in vector.reads] == [use.view for use in uses], "the audit needs one a use, in their order"
    assert [read.key for read in vector.reads] == [("north",), ("south",), ("north", 1), ("north",), (), ("north",)]
    assert vector.reads[2].generation is None
    assert vector.reads[0].generation in lively.store.generations()
    ends = lively.log.end_offsets(["sales", "visits"])
    assert vector.offsets == {f"{source}/{partition}": end for (source, partition), end in ends.items()}
    assert Position.parse(vector.position) == Position(lively.log.uuid, ends)
    assert list(vector.columns) == [column for use in uses for column in use.columns.values()]
    assert "everybody_visits_1h" in vector.columns
    assert vector.columns["rival_amount_1d"] == 5.0


# Builds meanwhile


def test_between_roll_over_and_flip_nothing_is_lost_or_twice(lively: Any, helpers: Any) -> None:
    before = by_name(lively, "shop", "north")
    lively.roll("shop")
    assert by_name(lively, "shop", "north") == before
    lively.append("sales", helpers.sale(at="11:58:00"))
    lively.worker.catch_up()
    during = by_name(lively, "shop", "north")
    assert during["sales_1d"] == before["sales_1d"] + 1
    lively.build()
    assert by_name(lively, "shop", "north") == during


def test_a_generation_that_is_dropped_under_a_read_is_read_anew(lively: Any, helpers: Any) -> None:
    store = Around(lively.store)
    reader = lively.reader(store)
    dropped = []

    def build() -> None:
        if not dropped:
            dropped.append(lively.store.generations())
            lively.append("sales", helpers.sale(at="11:58:00"))
            lively.build("shop")

    store.on_generation = build
    [read] = reader.features("shop", ["north"])
    assert (read.values[1], store.snapshots) == (4, 2)
    assert read.generation not in dropped[0]


def test_a_generation_that_stays_away_is_an_error_and_never_empty(lively: Any) -> None:
    store = Around(lively.store)
    store.generation = lambda name: None  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="name generations that are not there: shop-"):
        lively.reader(store).features("shop", ["north"])


def test_a_replaced_generation_is_closed_once_nobody_reads_in_it() -> None:
    store = MemoryStore()
    store.write_generation("g1", [(b"k", b"1")])
    store.write_generation("g2", [(b"k", b"2")])
    generations = OpenGenerations(store)
    old = generations.take({"v": "g1"})
    first = old["g1"]
    new = generations.take({"v": "g2"})
    assert new["g2"].multi_get([b"k"]) == [b"2"]
    generations.give_back(new)
    assert generations.names() == ["g2"]
    assert first.multi_get([b"k"]) == [b"1"], "a call is still reading in it"
    generations.give_back(old)
    with pytest.raises(StoreUnavailable, match="closed"):
        first.multi_get([b"k"])


def test_generations_are_closed_with_their_reader() -> None:
    store = MemoryStore()
    store.write_generation("g", [(b"k", b"1")])
    generations = OpenGenerations(store)
    taken = generations.take({"v": "g", "w": "g"})
    found = taken["g"]
    generations.give_back(taken)
    assert generations.names() == ["g"]
    del taken, generations
    with pytest.raises(StoreUnavailable, match="closed"):
        found.multi_get([b"k"])


def test_threads_read_while_generations_come_and_go(lively: Any, helpers: Any) -> None:
    reader = lively.reader()
    is_over = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        seen = 0
        try:
            while not is_over.is_set():
                [vector] = reader.vectors("buy", [helpers.request()])
                assert vector.columns["shop_sales_1d"] >= seen, "what was seen once is seen for ever"
                seen = vector.columns["shop_sales_1d"]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        lively.append("sales", helpers.sale(at="11:58:00"))
        lively.build()
    is_over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert by_name(lively, "shop", "north")["sales_1d"] == 9


# What cannot be read


def test_views_that_were_never_built_are_named_all(make_shop: Any, bell: Any, helpers: Any) -> None:
    from_scratch = type(make_shop())(MemoryStore(), bell)
    reader = from_scratch.reader()
    with pytest.raises(NotBuilt, match=r"'shop' .*never been built; run `twofold build`.*'nightly'.*table 'owners'") as unbuilt:
        reader.vectors("buy", [helpers.request()])
    assert "'item'" not in str(unbuilt.value), "a stream view can be read from its first event on"
    assert reader.features("item", [("north", 1)])[0].values == (0,)
    assert len(reader.not_ready()) == 6
    with pytest.raises(NotBuilt, match="'nightly'"):
        reader.features("nightly", ["north"])
    from_scratch.build()
    assert reader.not_ready() == []


def test_a_stream_view_that_no_worker_has_begun_is_not_built(lively: Any) -> None:
    with lively.store.transaction() as txn:
        txn.delete(layout.pointer_key(lively.plan.views["item"].version))
    with pytest.raises(NotBuilt, match=r"'item' .*`twofold stream` begins it"):
        lively.reader().features("item", [("north", 1)])


def test_the_store_of_another_log_is_refused(lively: Any) -> None:
    with lively.store.transaction() as txn:
        txn.put(layout.LOG_UUID, b"another")
    with pytest.raises(StoreUnavailable, match="belongs to the log another"):
        lively.reader().features("shop", ["north"])
    (told,) = lively.reader().not_ready()
    assert "belongs to the log another" in told


def test_a_position_is_covered_when_all_of_it_is_applied(lively: Any, helpers: Any) -> None:
    reader = lively.reader()
    position = lively.append("sales", helpers.sale(), helpers.sale("south"), helpers.sale("west")) | lively.append(
        "visits", {"shop": "north", "day": NOON, "seen_at": NOON}
    )
    assert len(position.offsets) > 1
    assert not reader.covers(position)
    lively.worker.catch_up()
    assert reader.covers(position)
    ahead = Position(position.log, {place: end + (place[0] == "visits") for place, end in position.offsets.items()})
    assert not reader.covers(ahead)
    with pytest.raises(LogMismatch, match="belongs to the log other"):
        reader.covers(Position("other", {}))
    with pytest.raises(DataError, match="Did you mean 'sales'"):
        reader.covers(Position(position.log, {("sale", 0): 1}))
    with pytest.raises(DataError, match="partition 9"):
        reader.covers(Position(position.log, {("sales", 9): 1}))


# The reference


@pytest.mark.parametrize("partitions", [1, 3])
def test_every_view_answers_as_the_reference(make_shop: Any, helpers: Any, pytestconfig: pytest.Config, partitions: int) -> None:
    rng = random.Random(f"{pytestconfig.option.hypothesis_seed}-{partitions}")
    shop = make_shop(partitions=partitions)
    for number in range(3):
        shop.append("sales", *(_random_sale(rng, helpers) for _ in range(40)))
        shop.worker.catch_up()
        if number == 0:
            shop.load("sales", *(_random_sale(rng, helpers) for _ in range(40)))
            shop.build()
        if number == 1:
            shop.roll("shop")
    reader = shop.reader()
    for view in ("shop", "item"):
        events = _events(shop, view)
        keys = [*sorted({event.key for event in events}), ("nobody", 1)[: len(shop.plan.views[view].by)]]
        for at_us in (NOON, NOON + 1, NOON + 3_600_000_000, NOON + 86_400_000_000):
            for read in reader.features(view, keys, at_us):
                wanted = features_at(shop.plan.views[view], events, read.key, at_us)
                if read.status != "ahead":
                    assert read.values == tuple(None if value is OVERFLOW else value for value in wanted.values()), (view, read)
        assert all(read.status != "ahead" for read in reader.features(view, keys, NOON + 1))


def _random_sale(rng: random.Random, helpers: Any) -> dict[str, Any]:
    seconds = rng.randrange(12 * 3600)
    at = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    amount = rng.choice([None, 0.1, 1e300, -1e300, 1e16, -1e16, rng.uniform(-5, 5)])
    return helpers.sale(rng.choice(["north", "south", ""]), at, amount, rng.choice([1, -(2**63)]), rng.choice(["a", "é", ""]))


def _events(shop: Any, view: str) -> list[Event]:
    """The view's events as the reference takes them: history only where the view is no stream view."""
    plan = shop.plan.views[view]
    source = shop.project.source(plan.sources[0])
    history = 0 if plan.mode == "stream" else shop.tables.history_version(source.name)
    ends = shop.log.end_offsets([source.name])
    cut = tuple(ends[source.name, p] for p in range(shop.log.partitions))
    frame = present_events(source, shop.log, shop.tables, history, cut, Scratch(Path("unused"), 1 << 40))
    rows = prepared(shop.project.view(view), frame.frame()).iter_rows(named=True)
    keys, inputs = [f"k{i}" for i in range(len(plan.by))], [f"in{i}" for i in range(len(plan.inputs))]
    return [
        Event(
            tuple(row[name] for name in keys),
            row[TIME],
            (row[MAJOR], row[MINOR]),
            row[STAMP],
            tuple(row[name] for name in inputs),
        )
        for row in rows
    ]


def test_many_requests_share_what_they_have_in_common(lively: Any, helpers: Any) -> None:
    vectors = lively.reader().vectors("buy", [helpers.request(item=number % 2) for number in range(50)])
    assert [vector.columns["item_sold_1d"] for vector in vectors] == [0, 2] * 25
    assert len({id(vector.reads[0]) for vector in vectors}) == 1
    assert not np.isnan(vectors[0].columns["shop_amount_1d"])
