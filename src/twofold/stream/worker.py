"""The worker: applies the log to the deltas. Deltas, duplicates, dead letters and the offset commit as one, so a kill loses nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from twofold.bell import Bell
from twofold.errors import Fenced, LogMismatch
from twofold.log.base import EventLog, RecordBatch
from twofold.log.records import decoded
from twofold.plan import layout
from twofold.plan.compile import CompiledProject
from twofold.plan.counting import too_far_in_the_future
from twofold.plan.folding import ViewFolder
from twofold.plan.inputs import MINOR
from twofold.plan.serving import SourcePlan, ViewPlan
from twofold.store.base import Store, Transaction
from twofold.stream.dead_letters import DeadLetter, bury_payload, bury_rows
from twofold.stream.duplicates import drop_duplicates
from twofold.stream.freshness import bucket_of, decode_counts, encode_counts

APPENDED, APPLIED = "appended", "applied"
"""Bell channels: the log has grown; the store has."""


@dataclass(frozen=True)
class _Pending:
    """The next record batches of a partition, from its applied offset on."""

    source: SourcePlan
    partition: int
    offset: int
    batches: Sequence[RecordBatch]

    @property
    def end(self) -> int:
        """The offset after the last of them."""
        return self.batches[-1].end_offset


class Worker:
    """Applies every source's log to the deltas of its views.

    The caller holds the worker's lock of the home. Each transaction checks the epoch, so a worker that was stopped and replaced
    raises Fenced instead of writing.
    """

    def __init__(self, project: CompiledProject, log: EventLog, store: Store, bell: Bell, max_events: int = 10_000) -> None:
        self._project, self._log, self._store, self._bell, self._max_events = project, log, store, bell, max_events
        self._sources = [source for source in project.sources.values() if source.time is not None]
        self._folders = {source.name: [ViewFolder(view, source.name) for view in project.views_of(source.name)] for source in self._sources}
        self._fresh: dict[int, int] = {}
        self._epoch = self._take_over()

    def _take_over(self) -> int:
        """Begin a new epoch and register exactly the views that this worker folds."""
        with self._store.transaction() as txn:
            _same_log(txn, self._log)
            epoch = layout.decode_int(txn.get(layout.EPOCH)) + 1
            txn.put(layout.EPOCH, layout.encode_int(epoch))
            register_views(txn, [view.plan for view in self._project.views.values()], self._log.partitions)
        return epoch

    def catch_up(self) -> int:
        """Apply all that the log holds now; returns the number of events."""
        applied = 0
        ends = self._log.end_offsets([source.name for source in self._sources])
        while pending := self._pending(ends):
            applied += self._apply(pending)
        return applied

    def _pending(self, ends: Mapping[tuple[str, int], int]) -> list[_Pending]:
        """What is next in every partition whose log is longer than what is applied."""
        places = [(source, partition) for source in self._sources for partition in range(self._log.partitions)]
        with self._store.snapshot() as snapshot:
            stored = snapshot.multi_get([layout.offset_key(source.name, partition) for source, partition in places])
        found = []
        for (source, partition), raw in zip(places, stored, strict=True):
            offset, end = layout.decode_int(raw), ends[source.name, partition]
            if offset > end:
                raise LogMismatch(
                    f"the store has applied {source.name}/{partition} up to offset {offset}, but the log ends at {end}: it lost its tail "
                    "or is another log; take the log that belongs to this home, or remove HOME/store and run `twofold build`"
                )
            if offset < end:
                found.append(_Pending(source, partition, offset, self._log.read(source.name, partition, offset, self._max_events)))
        return found

    def _apply(self, pending: Sequence[_Pending]) -> int:
        """Apply record batches in one transaction; returns the number of events."""
        with self._store.transaction() as txn:
            self._check_epoch(txn)
            for part in pending:
                self._apply_part(txn, part)
            self._flush_freshness(txn)
        self._bell.ring(APPLIED)
        visible_us = time.time_ns() // 1000
        for batch in (batch for part in pending for batch in part.batches):
            bucket = bucket_of(visible_us - batch.accepted_us)
            self._fresh[bucket] = self._fresh.get(bucket, 0) + batch.count
        return sum(part.end - part.offset for part in pending)

    def _apply_part(self, txn: Transaction, part: _Pending) -> None:
        """Fold one partition's batches into the deltas of its source's views, and move its offset past them."""
        source, partition, arrival_us = part.source, part.partition, part.batches[-1].arrival_us
        frame = _decoded(txn, part)
        is_far = frame.select(too_far_in_the_future(source)).to_series()
        if is_far.any():
            bury_rows(txn, source.name, partition, frame.filter(is_far), "event_time lies too far beyond its arrival", arrival_us)
            frame = frame.filter(~is_far)
        frame = drop_duplicates(txn, source, partition, frame)
        for folder in self._folders[source.name]:
            place = folder.view.plan.sources.index(source.name) * self._log.partitions + partition
            _fold(txn, folder, place, frame, arrival_us)
        txn.put(layout.offset_key(source.name, partition), layout.encode_int(part.end))

    def _check_epoch(self, txn: Transaction) -> None:
        epoch = layout.decode_int(txn.get(layout.EPOCH))
        if epoch != self._epoch:
            raise Fenced(f"this worker has epoch {self._epoch}, the store {epoch}: another worker has taken over; this one stops")

    def _flush_freshness(self, txn: Transaction) -> None:
        """Add the times of earlier commits; those of the last one go with the next."""
        if self._fresh:
            counts = decode_counts(txn.get(layout.FRESHNESS))
            for bucket, count in self._fresh.items():
                counts[bucket] = counts.get(bucket, 0) + count
            txn.put(layout.FRESHNESS, encode_counts(counts))
            self._fresh = {}

    def close(self) -> None:
        """Commit what is only in memory: the last commit's freshness."""
        if self._fresh:
            with self._store.transaction() as txn:
                self._check_epoch(txn)
                self._flush_freshness(txn)


def _same_log(txn: Transaction, log: EventLog) -> None:
    """Bind a new store to its log; refuse another log's store."""
    known = txn.get(layout.LOG_UUID)
    if known is not None and known.decode() != log.uuid:
        raise LogMismatch(
            f"the store belongs to the log {known.decode()}, this log is {log.uuid}; open the home that both come from, "
            "or remove its store and run `twofold build`"
        )
    txn.put(layout.LOG_UUID, log.uuid.encode())
    txn.put(layout.PARTITIONS, layout.encode_int(log.partitions))


def register_views(txn: Transaction, views: Sequence[ViewPlan], partitions: int) -> None:
    """Give every view a pointer whose delta begins at the applied offsets, and drop the views that nobody folds any more.

    A view that has a pointer misses no event since its delta began: that is what its reader relies on.
    """
    wanted = {view.version: view for view in views}
    for key, raw in list(txn.scan(layout.pointer_key(""))):
        version, pointer = key[len(layout.pointer_key("")) :].decode(), layout.decode_pointer(raw)
        if version not in wanted:
            _forget(txn, version, pointer)
    for version, view in wanted.items():
        if txn.get(layout.pointer_key(version)) is None:
            began = applied_offsets(txn, view, partitions)
            new = layout.Pointer(None, (0,) * len(view.sources), cut=(0,) * len(began), base_us=0, open=1, began=began)
            txn.put(layout.pointer_key(version), layout.encode_pointer(new))


def applied_offsets(txn: Transaction, view: ViewPlan, partitions: int) -> tuple[int, ...]:
    """The offset after the last applied event of every partition of every source of a view."""
    return tuple(layout.decode_int(raw) for raw in txn.multi_get(layout.offset_keys(view, partitions)))


def _forget(txn: Transaction, version: str, pointer: layout.Pointer) -> None:
    txn.delete(layout.pointer_key(version))
    for delta in filter(None, (pointer.open, pointer.closed)):
        for key, _ in list(txn.scan(layout.delta_prefix(version, delta))):
            txn.delete(key)


def _decoded(txn: Transaction, part: _Pending) -> pl.DataFrame:
    """The events from the applied offset on; batches that cannot be decoded become dead letters."""
    frame, broken = decoded(part.batches, part.source.columns)
    for batch in broken:
        letter = DeadLetter(
            part.source.name, part.partition, batch.first_offset, batch.count, "payload cannot be decoded", batch.arrival_us
        )
        bury_payload(txn, letter, batch.payload)
    return frame.filter(pl.col(MINOR) >= part.offset) if part.batches[0].first_offset < part.offset else frame


def _fold(txn: Transaction, folder: ViewFolder, partition: int, frame: pl.DataFrame, arrival_us: int) -> None:
    """Fold a frame into the view's open delta. The pointer is read here, so a roll-over can never be missed."""
    plan = folder.view.plan
    raw = txn.get(layout.pointer_key(plan.version))
    if plan.mode == "batch" or frame.is_empty() or raw is None:
        return
    delta = layout.decode_pointer(raw).open

    def stored(keys: Sequence[bytes]) -> list[bytes | None]:
        return txn.multi_get([layout.delta_key(plan.version, delta, partition, key) for key in keys])

    for key, blob in folder.fold(frame, stored, arrival_us, keeps_raw=True):
        entry = layout.delta_key(plan.version, delta, partition, key)
        if blob:
            txn.put(entry, blob)
        else:
            txn.delete(entry)
