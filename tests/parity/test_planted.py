"""Bugs that others have had, each planted once to see that the stories see it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import polars as pl
import pytest

from twofold.algebra import opaque, reading
from twofold.algebra.programme import windows_of
from twofold.batch import generation, roll
from twofold.batch import history as batch_history
from twofold.batch.gathering import Gathering
from twofold.instants import DAY_US
from twofold.plan import deltas, layout, merge
from twofold.plan.merge import ViewReader
from twofold.plan.serving import ViewPlan
from twofold.serve.reads import Origin
from twofold.stream import worker
from twofold.tables.point_in_time import Visibility

Plant = Callable[[pytest.MonkeyPatch], None]


def _offset_without_delta(patch: pytest.MonkeyPatch) -> None:
    """Every third micro-batch commits its offset but not what it folded."""
    fold, calls = worker.Worker._fold, itertools.count()
    patch.setattr(worker.Worker, "_fold", lambda *args: None if next(calls) % 3 == 2 else fold(*args))


def _head_is_closed(patch: pytest.MonkeyPatch) -> None:
    """Online `event_time <= t`."""
    read = ViewReader.read
    patch.setattr(ViewReader, "read", lambda self, blobs, t, *rest, **named: read(self, blobs, t + 1, *rest, **named))


def _head_is_closed_in_history(patch: pytest.MonkeyPatch) -> None:
    original = batch_history.point_in_time
    patch.setattr(batch_history, "point_in_time", lambda plan, ready, keys, at, *rest: original(plan, ready, keys, at + 1, *rest))


def _tail_is_not_floored(patch: pytest.MonkeyPatch) -> None:
    """Online the window begins at t - width, as if there were no hops."""
    original = merge.programme_of

    def without_hops(plan: ViewPlan) -> Any:
        words = original(plan)
        windows_of(words)[1][:] = 1
        return words

    patch.setattr(merge, "programme_of", without_hops)


def _tail_is_not_floored_in_history(patch: pytest.MonkeyPatch) -> None:
    original = batch_history.point_in_time

    def without_hops(plan: ViewPlan, *rest: Any) -> pl.DataFrame:
        windows = tuple(msgspec.structs.replace(window, hop_us=1) for window in plan.windows)
        return original(msgspec.structs.replace(plan, windows=windows), *rest)

    patch.setattr(batch_history, "point_in_time", without_hops)


def _closed_delta_is_not_read(patch: pytest.MonkeyPatch) -> None:
    original = Origin.__init__

    def only_open(self: Origin, plan: ViewPlan, pointer: layout.Pointer, places: Sequence[layout.Place]) -> None:
        original(self, plan, pointer, [msgspec.structs.replace(place, closed=None) for place in places])

    patch.setattr(layout, "is_seamless", lambda *args: True)  # a reader would refuse it
    patch.setattr(Origin, "__init__", only_open)


def _closed_delta_is_read_after_the_flip(patch: pytest.MonkeyPatch) -> None:
    """Counted twice: in the generation and in the delta that it replaces."""
    original = Origin.__init__

    def always_two(self: Origin, plan: ViewPlan, pointer: layout.Pointer, places: Sequence[layout.Place]) -> None:
        original(self, plan, msgspec.structs.replace(pointer, number=pointer.number - 1), places)

    patch.setattr(layout, "is_seamless", lambda *args: True)
    patch.setattr(roll, "drop_closed", lambda *args: None)
    patch.setattr(Origin, "__init__", always_two)


def _generation_of_the_newest_instead_of_the_cut(patch: pytest.MonkeyPatch) -> None:
    original = generation.archived_events

    def newest(source: Any, log: Any, tables: Any, history: int, cut: Any, *rest: Any) -> Any:
        ends = log.end_offsets([source.name])
        return original(source, log, tables, history, [ends[source.name, partition] for partition in range(log.partitions)], *rest)

    patch.setattr(layout, "is_seamless", lambda *args: True)
    patch.setattr(generation, "archived_events", newest)


def _a_read_changes_a_state(patch: pytest.MonkeyPatch) -> None:
    """What a mutable merge does: the next read begins with a state that is not zero."""
    original = reading.read

    def read(words: Any, end: int, t: int, exact_from: int, p: Any, areas: Any, *rest: Any) -> int:
        unlike_present = original(words, end, t, exact_from, p, areas, *rest)
        areas[-1][0] += 1
        return int(unlike_present)

    patch.setattr(reading, "read", read)


def _late_events_are_dropped(patch: pytest.MonkeyPatch) -> None:
    original = deltas.keyed
    patch.setattr(deltas, "keyed", lambda plan, ready: original(plan, ready.filter(pl.col("__time") > pl.col("__stamp") - DAY_US)))


def _duplicates_are_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(worker, "drop_duplicates", lambda txn, source, partition, frame: frame)


def _a_batch_view_sees_what_its_build_had_not(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch_history, "visibility_of", lambda plan, at, kind: Visibility())


def _loaded_history_is_in_a_stream_view(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(batch_history, "events_in_mode", lambda plan, frame, began: frame)


def _the_second_source_is_not_read(patch: pytest.MonkeyPatch) -> None:
    fold = worker.Worker._fold

    def first_only(self: Any, txn: Any, folder: Any, *rest: Any) -> None:
        if folder.source == folder.view.plan.sources[0]:
            fold(self, txn, folder, *rest)

    patch.setattr(worker.Worker, "_fold", first_only)


def _a_generation_lacks_the_second_source(patch: pytest.MonkeyPatch) -> None:
    add = Gathering.add
    patch.setattr(Gathering, "add", lambda self, source, batch: add(self, source, batch.clear() if source else batch))


def _the_order_of_elements_is_lost_online(patch: pytest.MonkeyPatch) -> None:
    """Only where a micro-batch is folded: every element has the order of its event."""
    original = deltas.all_prepared

    def without_numbers(*args: Any) -> pl.DataFrame:
        return original(*args).with_columns(pl.col("__minor") // 2**20)

    patch.setattr(deltas, "all_prepared", without_numbers)


def _an_opaque_tile_grown_old_is_lost(patch: pytest.MonkeyPatch) -> None:
    """The state that moves into a coarser tile takes the place of what is there."""
    patch.setattr(opaque, "_merged", lambda programme, left, right: right)


def _opaque_raw_events_are_read_beyond_t(patch: pytest.MonkeyPatch) -> None:
    original = opaque._holds
    patch.setattr(opaque, "_holds", lambda window, time: original(window._replace(end_us=window.end_us + 1), time))


def _opaque_windows_slide_without_their_newer_events(patch: pytest.MonkeyPatch) -> None:
    original = opaque.slide
    patch.setattr(
        opaque, "slide", lambda aggregate, states, spans: original(aggregate, states, [(low, max(low, high - 1)) for low, high in spans])
    )


PLANTED: list[tuple[Plant, list[str]]] = [
    (_offset_without_delta, ["short"]),
    (_head_is_closed, ["hybrid"]),
    (_head_is_closed_in_history, ["hybrid"]),
    (_tail_is_not_floored, ["short", "all"]),
    (_tail_is_not_floored_in_history, ["all"]),
    (_closed_delta_is_not_read, ["short", "all"]),
    (_closed_delta_is_read_after_the_flip, ["short"]),
    (_generation_of_the_newest_instead_of_the_cut, ["all"]),
    (_a_read_changes_a_state, ["short"]),
    (_late_events_are_dropped, ["all"]),
    (_duplicates_are_counted, ["all", "stream"]),
    (_a_batch_view_sees_what_its_build_had_not, ["batch"]),
    (_loaded_history_is_in_a_stream_view, ["stream"]),
    (_an_opaque_tile_grown_old_is_lost, ["own"]),
    (_opaque_raw_events_are_read_beyond_t, ["own"]),
    (_opaque_windows_slide_without_their_newer_events, ["own"]),
    (_the_second_source_is_not_read, ["both"]),
    (_a_generation_lacks_the_second_source, ["both"]),
    (_the_order_of_elements_is_lost_online, ["exploded"]),
]


@pytest.mark.parametrize(("plant", "views"), PLANTED, ids=lambda item: item.__name__ if callable(item) else "+".join(item))
def test_a_planted_bug_is_seen(
    plant: Plant, views: list[str], story: Callable[..., Any], rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    def tell() -> None:
        for _ in range(60):
            story(views, rng.choice([1, 3])).run(12)

    with pytest.raises(AssertionError, match=r": .*(, not |is present|is empty|neither|ahead, where)"):
        tell()
