"""What a new store must know before its worker begins, when a home goes on without the store that it had.

The log may not hold its beginning any more: the archive does, and the next build folds it. And ids of loaded history, and of events that
were dropped from the log, may come again: the index of duplicates has them from the tables (of history see `runtime.loading`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from twofold.algebra.base import LOG_ORDER
from twofold.errors import LogMismatch
from twofold.plan import layout
from twofold.plan.inputs import MAJOR, STAMP
from twofold.plan.layout import Counted
from twofold.plan.serving import SourcePlan
from twofold.runtime.loading import finish_loads
from twofold.runtime.lost_tail import refuse_archive_beyond
from twofold.runtime.tasks import TASK_WAIT_S, alone
from twofold.store.applied import applied_offsets
from twofold.store.base import Transaction, commit
from twofold.stream.duplicates import NotedIds, write_first_ids
from twofold.stream.worker import Worker

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened


def new_worker(project: Opened) -> Worker:
    """A worker of the home, whose caller has the lock for it. A new store begins where the log begins.

    Raises StoreUnavailable where it loses meanwhile, as in a failover, what it is to know, or another process has begun; then nothing has
    begun here.
    """
    home = project.home
    with home.store.snapshot() as snapshot:
        is_new = snapshot.get(layout.LOG_UUID) is None
    if is_new:
        with alone(home, "restore", TASK_WAIT_S):
            for source in project.compiled.sources.values():
                if source.time is not None:
                    _begin(project, source)
    finish_loads(project, ids_only=True, wait_s=TASK_WAIT_S if is_new else 0.0)
    return Worker(project.compiled, home.log, home.store, home.bell)


def _begin(project: Opened, source: SourcePlan) -> None:
    """Take as applied what the log has dropped, which the archive must hold, and remember its ids."""
    home = project.home
    refuse_archive_beyond(home, source.name)
    starts, reached = home.log.start_offsets([source.name]), home.tables.archived_offsets(source.name, home.log.partitions)
    for (_, partition), start in starts.items():
        archived = reached[partition]
        if start > archived > 0:
            raise LogMismatch(
                f"the archive has {source.name}/{partition} up to offset {archived}, but the log begins at {start}: the events between "
                "are in neither; restore the tables or the log from a copy"
            )
    with home.store.snapshot() as snapshot:
        known = applied_offsets(snapshot, starts)
    begun = {partition: start for (_, partition), start in starts.items() if start > 0 == known[source.name, partition]}
    if not begun:
        return
    ids = _ids(project, source, tuple(starts[source.name, partition] for partition in range(home.log.partitions)))
    for partition, start in begun.items():
        of_partition = ids.filter(pl.col(MAJOR) == LOG_ORDER + partition).sort(STAMP)
        index = Counted(source.name, partition)
        written = write_first_ids(home.store, index, of_partition["id"], of_partition[STAMP].to_list())

        def begin(txn: Transaction, written: NotedIds = written, partition: int = partition, start: int = start) -> None:
            written.end(txn)
            txn.put(layout.offset_key(source.name, partition), layout.encode_int(start))

        commit(home.store, begin)


def _ids(project: Opened, source: SourcePlan, starts: tuple[int, ...]) -> pl.DataFrame:
    """Ids of the archived events that count and that an event still in the log may repeat: MAJOR, STAMP and `id`."""
    from twofold.batch.events import SourceEvents

    home = project.home
    found = [pl.DataFrame(schema={MAJOR: pl.Int64, STAMP: pl.Int64, "id": pl.String})]
    if source.id is None or source.dedupe_us is None:
        return found[0]
    pending = [home.log.read(source.name, partition, start, 1) for partition, start in enumerate(starts)]
    since_us = min([batches[0].arrival_us for batches in pending if batches], default=home.clock.now_us()) - source.dedupe_us
    events = SourceEvents(source, home.tables, home.scratch, home.tables.history_version(source.name), starts, starts)
    for frame in events.batches((source.id,)):
        young = frame.filter((pl.col(MAJOR) >= LOG_ORDER) & (pl.col(STAMP) > since_us), pl.col(source.id).is_not_null())
        found.append(young.select(MAJOR, STAMP, id=source.id))
    return pl.concat(found[1:] or found)
