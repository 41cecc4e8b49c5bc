"""Events folded into the deltas of a view: each key's head and body, of which a commit writes only what changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from twofold.algebra import heads, tiles
from twofold.algebra.heads import HEAD_EVENTS
from twofold.algebra.programme import new_areas
from twofold.plan.compile import CompiledView
from twofold.plan.counts import Failures
from twofold.plan.folding import ViewFolder, blobs_of, joined
from twofold.plan.inputs import all_prepared
from twofold.plan.key_order import keyed
from twofold.plan.layout import BODY, HEAD
from twofold.plan.merge import programme_of

MultiGet = Callable[[bytes, Sequence[bytes]], Sequence[bytes | None]]
"""(HEAD or BODY, keys) -> their blobs."""


class DeltaFolder:
    """Folds events of one source of a view version into its deltas; not to be shared between threads."""

    def __init__(self, view: CompiledView, source: str) -> None:
        self.view, self.source = view, source
        self._branches = view.branches(source)
        self._programme = programme_of(view.plan)
        self._area = new_areas(self._programme, 1)[0]
        self._whole = ViewFolder(view, source) if view.plan.aggregates else None

    def warm(self) -> None:
        """Have the compiled code of `fold` in memory: whoever first needs it compiles it, for half a minute."""
        if self._whole is not None:
            return
        inputs, none = len(self.view.plan.inputs), joined([])
        events, starts = np.empty((tiles.EVENT + inputs, 0), np.int64), np.zeros(1, np.int64)
        heads.append(*none, events, starts, np.zeros(1, np.int64), self._programme)
        heads.seal(*none, *none, 0, self._programme, self._area)

    def fold(self, frame: pl.DataFrame, stored: MultiGet, now_us: int) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        """(HEAD or BODY, new blobs) of the keys that `stored` was asked for, when the frame's events come in; empty: nothing remains.

        `frame` is a frame of the source's events that count. A view with opaque features has bodies only, folded as a generation's
        blobs are.
        """
        if self._whole is not None:
            if changes := self._whole.fold(frame, lambda keys: stored(BODY, keys), now_us, keeps_raw=True):
                yield BODY, [blob for _, blob in changes]
            return
        events = keyed(self.view.plan, all_prepared(self._branches, {branch.source: frame for branch in self._branches}))
        if not events.keys:
            return
        words, starts = heads.append(*joined(stored(HEAD, events.keys)), events.events, events.starts, events.heap, self._programme)
        blobs = blobs_of(words, starts)
        full = np.flatnonzero(words[starts[:-1] + tiles.RAW] > HEAD_EVENTS).tolist()
        if full:
            bodies, left = self._sealed(stored(BODY, [events.keys[i] for i in full]), [blobs[i] for i in full], now_us)
            for i, head in zip(full, left, strict=True):
                blobs[i] = head
            yield BODY, bodies
        yield HEAD, blobs

    def failures(self) -> Failures:
        """How many calls of a person's code have failed here."""
        return Failures() if self._whole is None else self._whole.failures()

    def _sealed(self, bodies: Sequence[bytes | None], full: Sequence[bytes], now_us: int) -> tuple[list[bytes], list[bytes]]:
        """The new bodies, and what stays in the heads, of keys whose heads are full."""
        found = heads.seal(*joined(bodies), *joined(full), now_us, self._programme, self._area)
        return blobs_of(*found[:2]), blobs_of(*found[2:])
