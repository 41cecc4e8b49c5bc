"""Which views the speed layer follows: their pointers, and their places in each partition; nothing is folded here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twofold.errors import ANOTHER_STORE, Corrupt, Fenced, LogMismatch, of_another_log
from twofold.fail_points import fail_point
from twofold.log.base import EventLog
from twofold.plan import layout
from twofold.plan.layout import Place, Pointer
from twofold.plan.serving import ViewPlan
from twofold.store.applied import applied_offsets
from twofold.store.base import Store, Transaction, commit
from twofold.store.sweeping import sweep


def bind(store: Store, log: EventLog) -> None:
    """Bind a new store to its log; raises LogMismatch for another log's store, and where the number of partitions is another."""
    commit(store, lambda txn: _bind(txn, log))


def _bind(txn: Transaction, log: EventLog) -> None:
    uuid, partitions, form = txn.multi_get([layout.LOG_UUID, layout.PARTITIONS, layout.FORMAT])
    if uuid is not None and layout.decode_int(form) != layout.THIS_FORMAT:
        raise Corrupt(
            f"the store has format {layout.decode_int(form)}, this version of Twofold has {layout.THIS_FORMAT}; remove it (HOME/store; "
            "on a server the keys tw:<name>:*) and run `twofold build`, which makes it anew"
        )
    refuse_another_log(uuid, log)
    if partitions is not None and layout.decode_int(partitions) != log.partitions:
        raise LogMismatch(
            f"the store was made for {layout.decode_int(partitions)} partitions, the log has {log.partitions}; {ANOTHER_STORE}"
        )
    if uuid is None or partitions is None:
        txn.put(layout.LOG_UUID, log.uuid.encode())
        txn.put(layout.PARTITIONS, layout.encode_int(log.partitions))
        txn.put(layout.FORMAT, layout.encode_int(layout.THIS_FORMAT))


def refuse_another_log(uuid: bytes | None, log: EventLog) -> None:
    """Raises LogMismatch where the store's entry `layout.LOG_UUID` names another log."""
    if uuid is not None and uuid.decode() != log.uuid:
        raise LogMismatch(of_another_log(uuid.decode(), log.uuid))


def refuse_gap(store: Store, log: EventLog, sources: Sequence[str], partitions: Sequence[int]) -> None:
    """Raises LogMismatch where events that the store has not applied are not in the log any more."""
    starts = log.start_offsets(sources)
    places = [(source, partition) for source in sources for partition in partitions]
    with store.snapshot() as snapshot:
        applied = applied_offsets(snapshot, places)
    for (source, partition), offset in applied.items():
        start = starts[source, partition]
        if offset < start:
            raise LogMismatch(
                f"the store has applied {source}/{partition} up to offset {offset}, but the log begins at {start}: the events between are "
                "gone from it; remove HOME/store and run `twofold build`, which goes on from the archive"
            )


def refuse_another_tail(store: Store, log: EventLog, sources: Sequence[str], partitions: Sequence[int]) -> None:
    """Raises LogMismatch where the newest event that the store has applied is another one in the log by now.

    That is so where a leader that lacked it was elected, and has taken new events since. One that was removed tells nothing.
    """
    places = [(source, partition) for source in sources for partition in partitions]
    with store.snapshot() as snapshot:
        raws = snapshot.multi_get([layout.newest_key(*place) for place in places])
    known = {place: layout.decode_newest(raw) for place, raw in zip(places, raws, strict=True) if raw is not None}
    starts = log.start_offsets({source for source, _ in known})
    for place, newest in known.items():
        batches = log.read(*place, newest.offset, 1) if newest.offset >= starts[place] else []
        if batches and batches[0].first_offset == newest.offset and batches[0].term != newest.term:
            raise LogMismatch(
                f"the event at offset {newest.offset} of {place[0]}/{place[1]} is not the one that the store has applied (its leader's "
                f"term is {batches[0].term}, was {newest.term}): the log lost its tail and has other events there; give the log another "
                "prefix (`log = kafka://...?prefix=`) and build anew"
            )


def register_views(store: Store, views: Sequence[ViewPlan], epochs: Mapping[int, int]) -> None:
    """Give every view a pointer, and in these partitions a place whose delta begins at the applied offsets; forget all other views.

    A view that has a place in a partition misses no event of it since its delta began: that is what its reader relies on. The caller
    owns the partitions, each in its epoch; raises Fenced, and changes nothing, where another worker has taken one of them over.
    """
    wanted = {view.version: view for view in views}
    commit(store, lambda txn: _register_pointers(txn, wanted, epochs))
    fail_point("takeover.pointers_made")
    for partition, epoch in epochs.items():
        commit(store, lambda txn, at=partition, mine=epoch: _forget_others(txn, wanted, at, mine))  # type: ignore[misc]
        fail_point("takeover.others_forgotten")
        sweep(store, layout.rubbish_prefix(partition), layout.deltas_of(partition))
        commit(store, lambda txn, at=partition, mine=epoch: _register_places(txn, wanted, at, mine))  # type: ignore[misc]


def same_epoch(partition: int, mine: int, raw: bytes | None) -> None:
    """Raises Fenced where the stored epoch of a partition is not mine: another worker has taken it over."""
    epoch = layout.decode_int(raw)
    if epoch != mine:
        raise Fenced(
            f"this worker has epoch {mine} of partition {partition}, the store {epoch}: another worker has taken over; this one stops"
        )


def _register_pointers(txn: Transaction, wanted: Mapping[str, ViewPlan], epochs: Mapping[int, int]) -> None:
    for partition, mine in epochs.items():
        same_epoch(partition, mine, txn.get(layout.epoch_key(partition)))
    prefix = layout.pointer_key("")
    known = {key[len(prefix) :].decode(): layout.decode_pointer(raw) for key, raw in txn.scan(prefix)}
    for version in set(known) - set(wanted):
        txn.delete(layout.pointer_key(version))
    for version in set(wanted) - set(known):
        view = wanted[version]
        _unbuilt(txn, version, view)


def _unbuilt(txn: Transaction, version: str, view: ViewPlan) -> None:
    offsets = (0,) * (len(view.sources) * layout.decode_int(txn.get(layout.PARTITIONS)))
    txn.put(layout.pointer_key(version), layout.encode_pointer(Pointer(None, 0, (0,) * len(view.sources), offsets, base_us=0)))


def _forget_others(txn: Transaction, wanted: Mapping[str, ViewPlan], partition: int, epoch: int) -> None:
    same_epoch(partition, epoch, txn.get(layout.epoch_key(partition)))
    prefix = layout.place_key("", partition)
    for key, _ in list(txn.scan(prefix)):
        version = key[len(prefix) :].decode()
        if version not in wanted:
            txn.delete(key)
            txn.put(layout.rubbish_key(version, partition), b"")


def _register_places(txn: Transaction, wanted: Mapping[str, ViewPlan], partition: int, epoch: int) -> None:
    """Where a view was built that has no place, a server has lost the partition's shard, and with it events: it has to be built anew."""
    same_epoch(partition, epoch, txn.get(layout.epoch_key(partition)))
    for version, view in wanted.items():
        if txn.get(layout.place_key(version, partition)) is None:
            pointer = txn.get(layout.pointer_key(version))
            if pointer is not None and _is_built(layout.decode_pointer(pointer)):
                _unbuilt(txn, version, view)
            offsets = txn.multi_get(layout.offset_keys(view, partition))
            place = Place(1, tuple(map(layout.decode_int, offsets)))
            txn.put(layout.place_key(version, partition), layout.encode_pointer(place))


def _is_built(pointer: Pointer) -> bool:
    return pointer.number > 0 or pointer.closing is not None
