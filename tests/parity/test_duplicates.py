"""Which events count: plain loops, the batch layer over everything at once, the speed layer in micro-batches; always the same ones."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twofold.algebra.base import LOG_ORDER
from twofold.errors import StoreUnavailable
from twofold.instants import DAY_US, MINUTE_US
from twofold.plan import counting, layout, reference
from twofold.plan.inputs import MAJOR, MINOR, STAMP, frame_schema
from twofold.plan.serving import SourcePlan
from twofold.store import base
from twofold.store.base import Store
from twofold.store.memory import MemoryStore
from twofold.stream import duplicates
from twofold.stream.duplicates import drop_duplicates, take_loaded_ids, write_loaded_ids

HORIZON = 10 * MINUTE_US
SOURCE = SourcePlan("s", {"id": "str", "t": "datetime"}, "t", id="id", dedupe_us=HORIZON)
IDS = st.sampled_from(["a", "b", "c", None])
STEPS = st.sampled_from([0, 0, 1, MINUTE_US, HORIZON - 1, HORIZON, HORIZON + 1, 3 * HORIZON])
History = list[tuple[str | None, int]]
Partition = list[tuple[str | None, int]]
"""(id, time since the arrival before) of each event."""


def frame_of(rows: list[tuple[str | None, int, int, int]]) -> pl.DataFrame:
    """Events `(id, MAJOR, MINOR, stamp)`, which happened at their stamp."""
    columns = {
        "id": [row[0] for row in rows],
        "t": [row[3] for row in rows],
        MAJOR: [row[1] for row in rows],
        MINOR: [row[2] for row in rows],
        STAMP: [row[3] for row in rows],
    }
    schema = frame_schema(SOURCE.columns)
    return pl.DataFrame({name: pl.Series(values, dtype=pl.String if name == "id" else pl.Int64) for name, values in columns.items()}).cast(
        schema  # type: ignore[arg-type]
    )


@given(
    st.lists(st.tuples(IDS, st.integers(-3, 3).map(lambda n: n * HORIZON // 2)), max_size=8),
    st.lists(st.lists(st.tuples(IDS, STEPS), max_size=12), min_size=1, max_size=3),
    st.integers(1, 5),
)
@example([("a", 0), ("a", HORIZON - 1)], [[("a", HORIZON + 1)]], 1)
@example([], [[("a", 0), ("a", HORIZON - 1), ("a", 1)]], 1)
@example([], [[("a", 0), ("b", HORIZON - 1), ("a", 0)]], 1)  # the index may not forget an id one event too early
def test_batch_and_stream_count_what_the_reference_counts(history: History, partitions: list[Partition], size: int) -> None:
    loaded = sorted(((identity, 1, i, stamp) for i, (identity, stamp) in enumerate(history)), key=lambda row: (row[3], row[2]))
    log: list[list[tuple[str | None, int, int, int]]] = []
    for p, partition in enumerate(partitions):
        arrival, rows = 0, []
        for i, (identity, step) in enumerate(partition):
            arrival += step
            rows.append((identity, LOG_ORDER + p, i, arrival))
        log.append(rows)
    events = [*loaded, *(row for rows in log for row in rows)]
    answers = reference.counted(SOURCE, [(row[0], None if row[1] < LOG_ORDER else row[1], row[3]) for row in events])
    expected = {row[1:3] for row, counts in zip(events, answers, strict=True) if counts}

    batch = counting.counted(SOURCE, frame_of(events).sample(fraction=1, shuffle=True, seed=size))
    assert set(batch.select(MAJOR, MINOR).iter_rows()) == expected

    store, kept = MemoryStore(), {row[1:3] for row in loaded} & expected
    ids = write_loaded_ids(store, SOURCE, frame_of(loaded), 0)
    with store.transaction() as txn:
        take_loaded_ids(txn, ids)
    for p, rows in enumerate(log):
        for first in range(0, len(rows), size):
            with store.transaction() as txn:
                kept |= set(drop_duplicates(txn, SOURCE, p, frame_of(rows[first : first + size])).select(MAJOR, MINOR).iter_rows())
    assert kept == expected


def test_ids_of_history_are_not_noted_over_those_that_another_has_noted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped before its first commit, and another took its place."""
    store, rows = MemoryStore(), frame_of([("a", 1, 0, 0)])

    def overtaken(store: Store, work: Any) -> Any:
        monkeypatch.undo()
        ids = write_loaded_ids(store, SOURCE, rows, 0)
        base.commit(store, lambda txn: take_loaded_ids(txn, ids))
        return base.commit(store, work)

    monkeypatch.setattr(duplicates, "commit", overtaken)
    with pytest.raises(StoreUnavailable, match="another process"):
        write_loaded_ids(store, SOURCE, rows, 0)
    with store.transaction() as txn:
        assert drop_duplicates(txn, SOURCE, 0, frame_of([("a", LOG_ORDER, 0, 1)])).is_empty()


def test_the_index_is_no_longer_than_the_horizon() -> None:
    """Ids come once each for ten horizons; what is older than one is gone again."""
    store = MemoryStore()
    for batch in range(100):
        rows = [(f"{batch}-{i}", LOG_ORDER, batch * 10 + i, batch * HORIZON // 10) for i in range(10)]
        with store.transaction() as txn:
            drop_duplicates(txn, SOURCE, 0, frame_of(rows))
    with store.snapshot() as snapshot:
        assert len(list(snapshot.scan(layout.duplicates_prefix(layout.Counted("s", 0))))) == 10
        assert len(list(snapshot.scan(layout.shard(0) + b"i/"))) == 100


def test_too_far_in_the_future_is_a_matter_of_the_log_alone() -> None:
    rows = pl.concat([frame_of([("a", LOG_ORDER, 0, 0)]), frame_of([("b", LOG_ORDER, 1, 0)]), frame_of([("c", 1, 0, 0)])]).with_columns(
        t=pl.Series([DAY_US, DAY_US + 1, 9 * DAY_US]).cast(pl.Datetime("us", "UTC"))
    )
    assert set(counting.counted(SOURCE, rows)["id"]) == {"a", "c"}


def test_the_mark_of_ids_on_their_way_is_no_other_entry_of_the_partition() -> None:
    assert layout.noting_key(layout.Counted("s", 0)) != layout.newest_key("s", 0)
