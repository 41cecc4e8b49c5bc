"""Events folded into the blobs of their keys: the one step that batch and speed layer share."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import polars as pl

from twofold.algebra import tiles
from twofold.algebra.programme import new_areas
from twofold.plan.compile import CompiledView
from twofold.plan.counts import Failures
from twofold.plan.inputs import TIME, Words, all_prepared, event_words
from twofold.plan.key_order import KeyedEvents, KeyOrder, encoded_keys, in_key_order, keyed
from twofold.plan.merge import programme_of
from twofold.plan.own import OpaquePart, opaque_part
from twofold.plan.serving import ViewPlan

_EVENTS_AT_ONCE, _KEYS_AT_ONCE = 200_000, 10_000
"""About so much is folded by one call: enough to be worth a thread's while, little enough that what waits to be written stays small."""

MultiGet = Callable[[Sequence[bytes]], Sequence[bytes | None]]


def nothing_stored(keys: Sequence[bytes]) -> list[bytes | None]:
    """What a generation begins from."""
    return [None] * len(keys)


class ViewFolder:
    """Folds events of one view version, of one source of it (None: of its only one); not to be shared between threads."""

    def __init__(self, view: CompiledView, source: str | None = None) -> None:
        self.view, self.source, self._opaque = view, source or view.plan.sources[0], opaque_part(view.plan)
        self._branches = view.branches(source)
        self._programme = programme_of(view.plan)
        self._area = new_areas(self._programme, 1)[0]

    def fold(
        self, frame: pl.DataFrame, stored: MultiGet, now_us: int, keeps_raw: bool, before_us: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """(key, new blob) of every key that an event of the frame touches, keys ascending; an empty blob where nothing remains.

        `frame` is a frame of the source's events that count; of these only such with event_time < `before_us` are folded. Each key is
        looked up once in `stored`.
        """
        ready = all_prepared(self._branches, {branch.source: frame for branch in self._branches})
        events = keyed(self.view.plan, ready if before_us is None else ready.filter(pl.col(TIME) < before_us))
        return self._fold(events, stored(events.keys), now_us, keeps_raw) if events.keys else []

    def failures(self) -> Failures:
        """How many calls of a person's code have failed here."""
        return Failures() if self._opaque is None else self._opaque.failures()

    def _fold(self, events: KeyedEvents, old: Sequence[bytes | None], now_us: int, keeps_raw: bool) -> list[tuple[bytes, bytes]]:
        old_words, old_starts = joined(old)
        words, starts = tiles.fold(
            old_words, old_starts, events.events, events.starts, events.heap, now_us, keeps_raw, self._programme, self._area
        )
        blobs = blobs_of(words, starts)
        if self._opaque is not None:
            blobs = self._opaque.fold(blobs, old, events.events, events.starts, events.heap, now_us, keeps_raw)
        return list(zip(events.keys, blobs, strict=True))


def joined(blobs: Sequence[bytes | None]) -> tuple[Words, Words]:
    """(words, starts) of blobs, as the kernels take them: an absent one is empty."""
    present = [blob or b"" for blob in blobs]
    starts = np.zeros(len(present) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, present), np.int64, len(present)) // 8, out=starts[1:])
    # Writable, as the words that are read: compiled code knows one type of array then, not two.
    return np.frombuffer(bytearray().join(present), np.int64), starts


def blobs_of(words: Words, starts: Words) -> list[bytes]:
    """The blobs that the kernels give back."""
    raw, at = words.tobytes(), (starts * 8).tolist()
    return [raw[begin:end] for begin, end in itertools.pairwise(at)]


def folded(plan: ViewPlan, ready: pl.DataFrame, now_us: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, blob) of all keys of prepared events of which something remains at the clock `now_us`, keys ascending; on all cores.

    Few blobs are in memory at once: the next are folded while those before are taken.
    """
    groups, opaque = in_key_order(ready, [f"k{i}" for i in range(len(plan.by))]), opaque_part(plan)
    threads = os.cpu_count() or 1
    waiting: deque[Future[list[tuple[bytes, bytes]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for first, last in _chunks(groups):
                waiting.append(pool.submit(_fold_keys, plan, opaque, ready, groups, first, last, now_us))
                if len(waiting) > threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _chunks(groups: KeyOrder) -> Iterator[tuple[int, int]]:
    """Numbers of the keys first..last of which about as many events are folded at once."""
    first = 0
    while first < groups.count:
        last = int(np.searchsorted(groups.starts, groups.starts[first] + _EVENTS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), first + _KEYS_AT_ONCE, groups.count)
        yield first, last
        first = last


def _fold_keys(
    plan: ViewPlan, opaque: OpaquePart | None, ready: pl.DataFrame, groups: KeyOrder, first: int, last: int, now_us: int
) -> list[tuple[bytes, bytes]]:
    """(key, blob) of the keys first..last."""
    programme = programme_of(plan)
    starts = groups.starts[first : last + 1]
    events, heap = event_words(plan, ready[groups.order[starts[0] : starts[-1]]])
    nothing, area = np.zeros(last - first + 1, np.int64), new_areas(programme, 1)[0]
    words, ends = tiles.fold(nothing[:0], nothing, events, starts - starts[0], heap, now_us, False, programme, area)
    blobs = blobs_of(words, ends)
    if opaque is not None:
        blobs = opaque.fold(blobs, [None] * len(blobs), events, starts - starts[0], heap, now_us, False)
    return [(key, blob) for key, blob in zip(encoded_keys(groups.keys[first:last]), blobs, strict=True) if blob]
