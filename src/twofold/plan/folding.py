"""Events folded into the blobs of their keys: the one step that batch and speed layer share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from twofold.algebra import tiles
from twofold.algebra.programme import new_areas
from twofold.plan.compile import CompiledView
from twofold.plan.inputs import TIME, KeyedEvents, keyed, prepared
from twofold.plan.merge import programme_of

MultiGet = Callable[[Sequence[bytes]], Sequence[bytes | None]]


def nothing_stored(keys: Sequence[bytes]) -> list[bytes | None]:
    """What a generation begins from."""
    return [None] * len(keys)


class ViewFolder:
    """Folds events of one view version; not to be shared between threads."""

    def __init__(self, view: CompiledView) -> None:
        self.view = view
        self._programme = programme_of(view.plan)
        self._area = new_areas(self._programme, 1)[0]

    def fold(
        self, frame: pl.DataFrame, stored: MultiGet, now_us: int, keeps_raw: bool, before_us: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """(key, new blob) of every key that an event of the frame touches, keys ascending; an empty blob where nothing remains.

        `frame` is a frame of the source's events that count; of these only such with event_time < `before_us` are folded. Each key is
        looked up once in `stored`.
        """
        ready = prepared(self.view, frame)
        events = keyed(self.view.plan, ready if before_us is None else ready.filter(pl.col(TIME) < before_us))
        return self._fold(events, stored(events.keys), now_us, keeps_raw) if events.keys else []

    def _fold(self, events: KeyedEvents, old: Sequence[bytes | None], now_us: int, keeps_raw: bool) -> list[tuple[bytes, bytes]]:
        old_words = np.frombuffer(b"".join(blob or b"" for blob in old), np.int64)
        old_starts = np.array([0, *itertools.accumulate(len(blob or b"") // 8 for blob in old)], np.int64)
        words, starts = tiles.fold(
            old_words, old_starts, events.events, events.starts, events.heap, now_us, keeps_raw, self._programme, self._area
        )
        raw, ends = words.tobytes(), (starts * 8).tolist()
        return [(key, raw[ends[i] : ends[i + 1]]) for i, key in enumerate(events.keys)]
