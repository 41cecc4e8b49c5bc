"""An event log in the memory of one process, for tests and `tw.compute`; gone when the process ends."""

from __future__ import annotations

import bisect
import threading
import uuid
from collections.abc import Iterable, Sequence

from twofold.clocks import SystemClock
from twofold.log.base import Append, Position, RecordBatch
from twofold.log.limits import check_append, check_offset, check_partitions, check_place, check_source


class MemoryLog:
    """Record batches in lists; keeps every promise of `EventLog` but that of lasting longer than its process."""

    encoding = "arrow"

    def __init__(self, partitions: int = 1) -> None:
        self._uuid = str(uuid.uuid4())
        self._partitions = check_partitions(partitions)
        self._batches: dict[tuple[str, int], list[RecordBatch]] = {}
        self._turn = threading.Lock()

    @property
    def uuid(self) -> str:
        """Identity of this log, made at creation."""
        return self._uuid

    @property
    def partitions(self) -> int:
        """Number of partitions of every source."""
        return self._partitions

    def append(self, batches: Sequence[Append], now_us: int) -> Position:
        """Append all batches at once; see `EventLog.append`. Raises DataError for a batch that no log can hold."""
        check_append(batches, now_us, self._partitions)
        accepted_us = SystemClock().now_us()
        with self._turn:
            offsets = {}
            for batch in batches:
                place = batch.source, batch.partition
                held = self._batches.setdefault(place, [])
                first_offset = held[-1].end_offset if held else 0
                arrival_us = max(now_us, held[-1].arrival_us) if held else now_us
                held.append(RecordBatch(*place, first_offset, batch.count, arrival_us, accepted_us, batch.payload))
                offsets[place] = held[-1].end_offset
        return Position(self._uuid, offsets)

    def read(self, source: str, partition: int, offset: int, max_events: int) -> list[RecordBatch]:
        """Whole batches that hold the events from `offset` on; see `EventLog.read`."""
        check_place(source, partition, self._partitions)
        with self._turn:
            held = self._batches.get((source, partition), [])
            end, start = (held[-1].end_offset, held[0].first_offset) if held else (0, 0)
            check_offset(self._uuid, source, partition, offset, end, start)
            begin = bisect.bisect_right(held, offset, key=lambda batch: batch.end_offset)
            end = bisect.bisect_right(held, offset + max_events, key=lambda batch: batch.end_offset)
            return held[begin : max(begin + 1, end)]

    def end_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset after the last event for every partition of the sources; 0 where nothing was appended."""
        with self._turn:
            ends = {}
            for source in map(check_source, sources):
                for partition in range(self._partitions):
                    held = self._batches.get((source, partition))
                    ends[source, partition] = held[-1].end_offset if held else 0
            return ends

    def start_offsets(self, sources: Iterable[str]) -> dict[tuple[str, int], int]:
        """The offset of the first event that is still there, for every partition of the sources; 0 where nothing was dropped."""
        with self._turn:
            places = [(check_source(source), partition) for source in sources for partition in range(self._partitions)]
            return {place: held[0].first_offset if (held := self._batches.get(place)) else 0 for place in places}

    def trim(self, source: str, partition: int, before_offset: int) -> int:
        """Drop whole batches below an offset, but the last; see `TrimmableLog.trim`."""
        check_place(source, partition, self._partitions)
        with self._turn:
            held = self._batches.get((source, partition), [])
            check_offset(self._uuid, source, partition, before_offset, held[-1].end_offset if held else 0)
            stays = bisect.bisect_right(held, before_offset, key=lambda batch: batch.end_offset)
            del held[: min(stays, len(held) - 1)]
            return held[0].first_offset if held else 0

    def close(self) -> None:
        """Nothing to release."""
