"""The worker: applies partitions of the log to the deltas. Deltas, duplicates, dead letters and the offset of a partition commit as one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import polars as pl

from twofold.bell import Bell
from twofold.errors import Conflict, Fenced, LogMismatch
from twofold.fail_points import fail_point
from twofold.log.base import EventLog, RecordBatch
from twofold.log.records import decoded
from twofold.plan import layout
from twofold.plan.compile import CompiledProject
from twofold.plan.counting import far_rows
from twofold.plan.deltas import DeltaFolder
from twofold.plan.inputs import MINOR
from twofold.plan.serving import SourcePlan
from twofold.store.base import Store, Transaction, commit
from twofold.stream.counting import count, count_failures
from twofold.stream.dead_letters import DeadLetter, bury_payload, bury_rows
from twofold.stream.duplicates import drop_duplicates
from twofold.stream.freshness import bucket_of, decode_counts, encode_counts
from twofold.stream.recent import RecentBlobs
from twofold.stream.registration import bind, refuse_another_tail, refuse_gap, register_views, same_epoch

_MOST_CHANGES = 100_000
"""About so many keys are changed by one commit: the further behind, the fewer commits, and none takes much memory or long."""
APPENDED, APPLIED = "appended", "applied"
"""Bell channels: the log has grown; the store has."""


@dataclass(frozen=True)
class _Behind:
    """A partition of which less is applied than the log holds: up to `offset` of `end`."""

    source: SourcePlan
    partition: int
    offset: int
    end: int


@dataclass(frozen=True)
class _Pending:
    """The next record batches of a partition, from its applied offset on up to `end`; none where only missing offsets lie between."""

    source: SourcePlan
    partition: int
    offset: int
    batches: Sequence[RecordBatch]
    end: int

    @property
    def events(self) -> int:
        """How many events are due; the first batch may begin before the applied offset."""
        before = max(0, self.offset - self.batches[0].first_offset) if self.batches else 0
        return sum(batch.count for batch in self.batches) - before


class Worker:
    """Applies the partitions that it has taken over to the deltas of all views.

    Each commit of a partition checks its epoch, so a worker whose partition another has taken over writes nothing. On a store with one
    writer it raises Fenced then: there is one worker. On a store with many writers it leaves that partition, of which each commits by
    itself, and goes on with the others.

    Nothing is remembered between commits but what the store has: after a kill, a failover or a conflict it goes on from the store's
    offset. Heads that it has written are not read again as long as the store's offsets are those of its own last commit.

    `max_events` are about so many that one commit applies, of all sources and partitions; None leaves it to the number of views.
    """

    def __init__(self, project: CompiledProject, log: EventLog, store: Store, bell: Bell, max_events: int | None = None) -> None:
        self._project, self._log, self._store, self._bell = project, log, store, bell
        self._sources = [source for source in project.sources.values() if source.time is not None]
        self._folders = {
            source.name: [DeltaFolder(view, source.name) for view in project.views_of(source.name)] for source in self._sources
        }
        changes = max((len(self._folders[source.name]) + (source.id is not None) for source in self._sources), default=1)
        self._max_events = max_events or _MOST_CHANGES // max(1, changes)
        self.steps = 0
        """Grows with every look at the log, each part of a transaction's work, and its end: where it stays the same for long, the worker
        hangs."""
        self._fresh: dict[int, dict[int, int]] = {}
        self._epochs: dict[int, int] = {}
        self._heads, self._offsets = RecentBlobs(), dict[int, dict[str, int]]()
        for folder in itertools.chain(*self._folders.values()):
            folder.warm()  # not inside a transaction, for which others wait
        bind(store, log)

    @property
    def partitions(self) -> Collection[int]:
        """The partitions that this worker applies."""
        return self._epochs.keys()

    def take_over(self, partitions: Collection[int] | None = None) -> None:
        """Begin a new epoch of these partitions (None: of all) and follow exactly the views of the project in them."""
        taken = list(range(self._log.partitions)) if partitions is None else sorted(partitions)
        sources = [source.name for source in self._sources]
        refuse_gap(self._store, self._log, sources, taken)
        refuse_another_tail(self._store, self._log, sources, taken)
        if not self._store.has_many_writers:
            self._take(taken)
            return
        for partition in taken:
            try:
                self._take([partition])
            except Fenced:
                self.leave([partition])

    def _take(self, partitions: Sequence[int]) -> None:
        self._epochs |= commit(self._store, lambda txn: {partition: _next_epoch(txn, partition) for partition in partitions})
        fail_point("takeover.epoch_taken")
        mine = {partition: self._epochs[partition] for partition in partitions}
        register_views(self._store, [view.plan for view in self._project.views.values()], mine)
        fail_point("takeover.registered")
        self.steps += 1

    def leave(self, partitions: Collection[int]) -> None:
        """Apply these partitions no more."""
        for partition in partitions:
            self._epochs.pop(partition, None)
            self._fresh.pop(partition, None)
            self._offsets.pop(partition, None)

    def catch_up(self) -> int:
        """Apply all that the log holds now of the partitions taken over; returns the number of events.

        Raises Fenced (see the class), LogMismatch where the store's offset lies outside the log.
        """
        applied = 0
        ends = self._ends()
        while behind := self._behind(ends):
            applied += self._apply_all(behind)
        return applied

    def apply_some(self) -> int:
        """Apply what is next in each partition, in one commit for each that must be one; returns the number of events.

        Raises as `catch_up`.
        """
        return self._apply_all(self._behind(self._ends()))

    def _ends(self) -> dict[tuple[str, int], int]:
        self.steps += 1
        return self._log.end_offsets([source.name for source in self._sources])

    def _apply_all(self, behind: Sequence[_Behind]) -> int:
        """Apply what is next; returns the number of events. What another worker came between is left for the next time."""
        applied = 0
        for together in self._transactions(behind):
            partitions = {part.partition for part in together}
            try:
                applied += self._apply(self._read(together))
            except Conflict:
                self._check_epochs(partitions)
            except Fenced:
                if not self._store.has_many_writers:
                    raise
                self.leave(partitions)
            self.steps += 1
        return applied

    def _transactions(self, behind: Sequence[_Behind]) -> list[list[_Behind]]:
        """What is committed together: all, or on a store with many writers what belongs to one partition."""
        if not behind or not self._store.has_many_writers:
            return [list(behind)] if behind else []
        groups: dict[int, list[_Behind]] = {}
        for part in behind:
            groups.setdefault(part.partition, []).append(part)
        return list(groups.values())

    def _behind(self, ends: Mapping[tuple[str, int], int]) -> list[_Behind]:
        """Every partition whose log is longer than what is applied."""
        places = [(source, partition) for source in self._sources for partition in self._epochs]
        with self._store.snapshot() as snapshot:
            stored = snapshot.multi_get([layout.offset_key(source.name, partition) for source, partition in places])
        found = []
        for (source, partition), raw in zip(places, stored, strict=True):
            offset, end = layout.decode_int(raw), ends[source.name, partition]
            # A read, or another worker, may have gone beyond `ends` in the meantime: what counts is where the log ends now.
            if offset > end and offset > (now := self._log.end_offsets([source.name])[source.name, partition]):
                raise LogMismatch(
                    f"the store has applied {source.name}/{partition} up to offset {offset}, but the log ends at {now}: it lost its tail "
                    "or is another log; take the log that belongs to this home, or remove HOME/store and run `twofold build`"
                )
            if offset < end:
                found.append(_Behind(source, partition, offset, end))
        return found

    def _read(self, together: Sequence[_Behind]) -> list[_Pending]:
        """What is next in each, up to about `max_events` in all."""
        most = max(1, self._max_events // len(together))
        found = []
        for part in together:
            batches = self._log.read(part.source.name, part.partition, part.offset, most)
            self.steps += 1
            end = batches[-1].end_offset if batches else part.end
            found.append(_Pending(part.source, part.partition, part.offset, batches, end))
        return found

    def _apply(self, pending: Sequence[_Pending]) -> int:
        """Apply record batches in one transaction; returns the number of events."""
        fail_point("apply.read")
        partitions = {part.partition for part in pending}
        # Heads are noted as they are written; where the commit fails, no offsets are known, and the next time begins by forgetting them.
        expected = {partition: self._offsets.pop(partition, None) for partition in partitions}
        offsets: dict[int, dict[str, int]] = {}
        with self._store.transaction() as txn:
            for partition in partitions:
                offsets[partition] = self._begin(txn, partition)
                if offsets[partition] != expected[partition]:
                    self._heads.forget()
                self._flush_freshness(txn, partition)
            for part in pending:
                self._apply_part(txn, part, offsets[part.partition])
            fail_point("apply.before_commit")
        fail_point("apply.after_commit")
        self._offsets |= offsets
        for partition in partitions:
            self._fresh.pop(partition, None)
        self._bell.ring(APPLIED)
        self._note_freshness(pending)
        return sum(part.events for part in pending)

    def _begin(self, txn: Transaction, partition: int) -> dict[str, int]:
        """The offsets up to which a partition of each source is applied. Raises Fenced where another worker has taken it over."""
        keys = [layout.epoch_key(partition), *(layout.offset_key(source.name, partition) for source in self._sources)]
        epoch, *offsets = txn.multi_get(keys)
        same_epoch(partition, self._epochs[partition], epoch)
        return {source.name: layout.decode_int(raw) for source, raw in zip(self._sources, offsets, strict=True)}

    def _apply_part(self, txn: Transaction, part: _Pending, offsets: dict[str, int]) -> None:
        """Fold one partition's batches into the deltas of its source's views, and move its offset past them."""
        source, partition, offset = part.source, part.partition, offsets[part.source.name]
        if offset != part.offset:
            raise Conflict(f"{source.name}/{partition} was applied up to {part.offset} and is now up to {offset}")
        txn.put(layout.offset_key(source.name, partition), layout.encode_int(part.end))
        offsets[source.name] = part.end
        if not part.batches:
            return
        newest = part.batches[-1]
        if newest.term is not None:
            txn.put(layout.newest_key(source.name, partition), layout.encode_pointer(layout.Newest(part.end - 1, newest.term)))
        arrival_us = newest.arrival_us
        frame = _decoded(txn, part)
        self.steps += 1
        decoded_events = frame.height
        is_far = far_rows(source, frame)
        if is_far is not None:
            bury_rows(txn, source.name, partition, frame.filter(is_far), "event_time lies too far beyond its arrival", arrival_us)
            frame = frame.filter(~is_far)
        in_time = frame.height
        frame = drop_duplicates(txn, source, partition, frame)
        count(txn, source, partition, offset, part.events, decoded_events, in_time, frame)
        for folder in self._folders[source.name]:
            self._fold(txn, folder, partition, frame, arrival_us)
            self.steps += 1

    def _fold(self, txn: Transaction, folder: DeltaFolder, partition: int, frame: pl.DataFrame, arrival_us: int) -> None:
        """Fold a frame into the view's open delta. The place is read here, so a roll-over can never be missed."""
        plan = folder.view.plan
        if plan.mode == "batch" or frame.is_empty():
            return
        raw = txn.get(layout.place_key(plan.version, partition))
        if raw is None:
            return
        delta = layout.decode_place(raw).open
        prefixes = {part: layout.delta_prefix(plan.version, delta, partition, part) for part in (layout.HEAD, layout.BODY)}

        whole: dict[bytes, list[bytes]] = {}

        def stored(part: bytes, keys: Sequence[bytes]) -> Sequence[bytes | None]:
            whole[part] = [prefixes[part] + key for key in keys]
            return self._heads.read(whole[part], txn.multi_get) if part == layout.HEAD else txn.multi_get(whole[part])

        failures = folder.failures()
        for part, blobs in folder.fold(frame, stored, arrival_us):
            _write(txn, whole[part], blobs)
            if part == layout.HEAD:
                self._heads.note(whole[part], blobs)
        count_failures(txn, partition, folder.failures() - failures)

    def _check_epochs(self, partitions: Collection[int]) -> None:
        """Raises Fenced where another worker has taken one over; on a store with many writers leaves it."""
        with self._store.snapshot() as snapshot:
            stored = snapshot.multi_get([layout.epoch_key(partition) for partition in partitions])
        for partition, raw in zip(partitions, stored, strict=True):
            try:
                same_epoch(partition, self._epochs[partition], raw)
            except Fenced:
                if not self._store.has_many_writers:
                    raise
                self.leave([partition])

    def _check_epoch(self, txn: Transaction, partition: int) -> None:
        same_epoch(partition, self._epochs[partition], txn.get(layout.epoch_key(partition)))

    def _note_freshness(self, pending: Sequence[_Pending]) -> None:
        visible_us = time.time_ns() // 1000
        for part in pending:
            counts = self._fresh.setdefault(part.partition, {})
            for batch in part.batches:
                bucket = bucket_of(visible_us - batch.accepted_us)
                counts[bucket] = counts.get(bucket, 0) + batch.count

    def _flush_freshness(self, txn: Transaction, partition: int) -> None:
        """Add the times of earlier commits; those of the last one go with the next."""
        if fresh := self._fresh.get(partition):
            counts = decode_counts(txn.get(layout.freshness_key(partition)))
            for bucket, count in fresh.items():
                counts[bucket] = counts.get(bucket, 0) + count
            txn.put(layout.freshness_key(partition), encode_counts(counts))

    def close(self) -> None:
        """Commit what is only in memory: the last commit's freshness. Raises Fenced as `catch_up`."""
        for partition in list(self._fresh):
            fail_point("freshness.before_flush")
            try:
                with self._store.transaction() as txn:
                    self._check_epoch(txn, partition)
                    self._flush_freshness(txn, partition)
            except Conflict:
                continue  # whoever came between may have taken over; the next call sees
            except Fenced:
                if not self._store.has_many_writers:
                    raise
                self.leave([partition])
                continue
            del self._fresh[partition]


def _next_epoch(txn: Transaction, partition: int) -> int:
    epoch = layout.decode_int(txn.get(layout.epoch_key(partition))) + 1
    txn.put(layout.epoch_key(partition), layout.encode_int(epoch))
    return epoch


def _decoded(txn: Transaction, part: _Pending) -> pl.DataFrame:
    """The events from the applied offset on; batches that cannot be decoded become dead letters."""
    frame, undecodable = decoded(part.batches, part.source)
    for batch, reason in ((letter.batch, f"cannot be decoded: {letter.reason}") for letter in undecodable):
        letter = DeadLetter(part.source.name, part.partition, batch.first_offset, batch.count, reason, batch.arrival_us)
        bury_payload(txn, letter, batch.payload)
    return frame.filter(pl.col(MINOR) >= part.offset) if part.batches[0].first_offset < part.offset else frame


def _write(txn: Transaction, keys: Sequence[bytes], blobs: Sequence[bytes]) -> None:
    """Put the blobs; delete where they are empty."""
    txn.put_many(compress(zip(keys, blobs, strict=True), blobs))
    if b"" in blobs:
        for key in [key for key, blob in zip(keys, blobs, strict=True) if not blob]:
            txn.delete(key)
