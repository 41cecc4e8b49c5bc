"""Windows and the levels of a pyramid of tiles: which hop holds an event, given the clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twofold.algebra.base import Window
from twofold.instants import BEGIN_US, MINUTE_US, floor_to

SLACK_US = 5 * MINUTE_US
"""A state compacted at the clock `base` answers exactly for every t >= base - SLACK_US."""
RAW_SPAN_US = 10_000_000
"""A delta keeps the events of this last stretch unfolded, so a read inside it is exact too."""
RAW_EVENTS = 64
"""At most so many events of a key stay unfolded."""


def window_at(t_us: int, width_us: int | None, hop_us: int, ago_us: int = 0) -> Window:
    """`[floor(t - width, hop), t)`; all events before t where `width_us` is None.

    With `ago_us` the window ends that long before t, rounded down to the hop: what lies so far back is kept in tiles.
    """
    if width_us is None:
        return Window(None, t_us, None)
    end = t_us if ago_us == 0 else floor_to(t_us - ago_us, hop_us)
    return Window(floor_to(t_us - ago_us - width_us, hop_us), end, width_us)


@dataclass(frozen=True)
class Span:
    """A window: its width (None: all time), hop, and how far its end lies before t."""

    width_us: int | None
    hop_us: int
    ago_us: int = 0

    @property
    def reach_us(self) -> int | None:
        """How far before t its oldest event may lie, the rounding of the tail apart."""
        return None if self.width_us is None else self.width_us + self.ago_us


@dataclass(frozen=True)
class Levels:
    """The hops of a view's windows, finest first, each with the longest window that needs it; `keeps_all` where one is all time."""

    hops_us: tuple[int, ...]
    reaches_us: tuple[int, ...]
    keeps_all: bool

    @classmethod
    def of(cls, windows: Sequence[tuple[int | None, int]]) -> Levels:
        """Levels of windows, each how far it reaches back (None: all time) and its hop."""
        hops = sorted({hop for reach, hop in windows if reach is not None})
        reaches = tuple(max(reach for reach, hop in windows if reach is not None and hop == level) for level in hops)
        return cls(tuple(hops), reaches, any(reach is None for reach, _ in windows))

    def boundaries(self, base_us: int) -> tuple[int, ...]:
        """For each level the oldest start of a tile that it still keeps at the clock `base_us`, a multiple of the next coarser hop.

        Older tiles merge into the next level, beyond the last into one state for all time, or are dropped where no window needs it.
        """
        coarser = (*self.hops_us[1:], *self.hops_us[-1:])
        return tuple(floor_to(base_us - reach - SLACK_US, hop) for reach, hop in zip(self.reaches_us, coarser, strict=True))

    def tile_of(self, event_time: int, base_us: int) -> int | None:
        """Start of the tile that holds an instant; BEGIN_US for the all-time state, None where no window can reach it any more."""
        for hop, boundary in zip(self.hops_us, self.boundaries(base_us), strict=True):
            if floor_to(event_time, hop) >= boundary:
                return floor_to(event_time, hop)
        return BEGIN_US if self.keeps_all else None
