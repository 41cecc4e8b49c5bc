"""Roll-over and flip: a view's deltas end at a cut, a generation takes their place.

The build names the number up to which it closes deltas, then ends the open delta of each partition, each in one transaction with the
offset applied there: whoever builds may do that, since a worker reads the place in the transaction that commits its events. Then the
pointer flips as one value, and only then the closed deltas go. Killed anywhere, the next build goes on with the same number and cuts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from twofold.errors import NotBuilt, StoreUnavailable
from twofold.fail_points import fail_point
from twofold.plan import layout
from twofold.plan.layout import Closing, Place, Pointer
from twofold.plan.schedule import previous_fire
from twofold.plan.serving import ViewPlan
from twofold.store.base import Snapshot, Store, Transaction, commit
from twofold.store.sweeping import sweep
from twofold.tables.base import Tables


def pointer_of(snapshot: Snapshot, view: ViewPlan) -> Pointer:
    """The pointer of a view; raises NotBuilt where the speed layer does not know it."""
    raw = snapshot.get(layout.pointer_key(view.version))
    if raw is None:
        raise _not_followed(view)
    return layout.decode_pointer(raw)


def place_keys(view: ViewPlan, partitions: int) -> list[bytes]:
    """Entries of the places of a view in all partitions."""
    return [layout.place_key(view.version, partition) for partition in range(partitions)]


def places_of(snapshot: Snapshot, view: ViewPlan, partitions: int) -> list[Place]:
    """The places of a view in all partitions; raises NotBuilt where the speed layer does not follow it in one of them."""
    raws = snapshot.multi_get(place_keys(view, partitions))
    places = [layout.decode_place(raw) for raw in raws if raw is not None]
    if len(places) < partitions:
        raise _not_followed(view)
    return places


def _not_followed(view: ViewPlan) -> NotBuilt:
    return NotBuilt(
        f"view {view.name!r} in its present form is not followed by the speed layer; "
        "restart `twofold stream` (or `up`) with this project file"
    )


def history_versions(tables: Tables, view: ViewPlan) -> tuple[int, ...]:
    """The present history version of each of a view's sources."""
    return tuple(tables.history_version(source) for source in view.sources)


def has_moved_on(snapshot: Snapshot, view: ViewPlan, partitions: int, history: tuple[int, ...], now_us: int) -> bool:
    """Whether a build has something to do for a view.

    It was never built, a build failed, servers have lost a part of one, its log or loaded history has moved on, or its own schedule has
    fired, which moves the end of windows that end at the build.
    """
    pointer = pointer_of(snapshot, view)
    if pointer.generation is None or pointer.closing is not None or pointer.history != history:
        return True
    if is_torn(view, pointer, snapshot.multi_get(place_keys(view, partitions))):
        return True
    applied = layout.by_source([_applied(snapshot, view, partition) for partition in range(partitions)])
    return pointer.cut != applied or (view.refresh is not None and pointer.base_us < previous_fire(view.refresh, now_us))


def is_torn(view: ViewPlan, pointer: Pointer, places: Sequence[bytes | None]) -> bool:
    """Whether readers of a built view find no deltas that begin where its generation ends (see `layout.is_seamless`).

    `places` are the entries of `place_keys`.
    """
    found = [layout.decode_place(raw) for raw in places if raw is not None]
    return view.mode == "hybrid" and len(found) == len(places) and not layout.is_seamless(pointer, found)


def _applied(snapshot: Snapshot, view: ViewPlan, partition: int) -> tuple[int, ...]:
    """The offset after the last applied event of a partition, for each source of a view."""
    return tuple(map(layout.decode_int, snapshot.multi_get(layout.offset_keys(view, partition))))


def roll(store: Store, view: ViewPlan, partitions: int, history: tuple[int, ...]) -> tuple[Closing, tuple[int, ...]]:
    """End the open delta of every partition at the applied offset and begin the next; returns what is closed, and the cut.

    The generation to come is built on loaded history up to `history`, one version a source. The caller asked for these versions
    before: what is loaded later could hold ids that the next delta has counted. A view whose last build failed keeps its number, its
    cuts and its history versions.
    """
    with store.snapshot() as snapshot:
        places = places_of(snapshot, view, partitions)

    def begin(txn: Transaction) -> tuple[Closing, int]:
        pointer = pointer_of(txn, view)
        closing = pointer.closing
        # A failover of servers may have brought back a pointer whose build was finished: that number is used up.
        if closing is None or any(place.closed is None and place.open > closing.number for place in places):
            closing = Closing(max(place.open for place in places), history)
            txn.put(layout.pointer_key(view.version), layout.encode_pointer(msgspec.structs.replace(pointer, closing=closing)))
        return closing, pointer.number

    closing, served = commit(store, begin)
    fail_point("roll.number_named")
    cuts = []
    for partition in range(partitions):
        cuts.append(commit(store, lambda txn, at=partition: _roll_place(txn, view, at, closing.number, served)))  # type: ignore[misc]
        fail_point("roll.place_closed")
    return closing, layout.by_source(cuts)


def _roll_place(txn: Transaction, view: ViewPlan, partition: int, number: int, served: int) -> tuple[int, ...]:
    """Close the delta of a partition unless that was done before; returns its cut."""
    key = layout.place_key(view.version, partition)
    raw, *offsets = txn.multi_get([key, *layout.offset_keys(view, partition)])
    if raw is None:
        raise _not_followed(view)
    place = layout.decode_place(raw)
    if place.open > number:
        return place.closed_cut
    place = _dropped(txn, view, partition, place, max(served, number - 1))
    cut = tuple(map(layout.decode_int, offsets))
    txn.put(key, layout.encode_pointer(Place(number + 1, cut, place.open, cut, place.dropped)))
    return cut


def _dropped(txn: Transaction, view: ViewPlan, partition: int, place: Place, served: int) -> Place:
    """The place without its closed delta, where a served generation holds it."""
    if place.closed is None or place.closed > served:
        return place
    txn.put(layout.rubbish_key(view.version, partition, place.closed), b"")
    return msgspec.structs.replace(place, closed=None, closed_cut=(), dropped=place.closed)


def flip(store: Store, view: ViewPlan, generation: str, cut: Sequence[int], base_us: int) -> Pointer:
    """Serve the generation, which holds the log up to `cut`, in place of the old one and the closed deltas; returns the old pointer."""

    def work(txn: Transaction) -> Pointer:
        old = pointer_of(txn, view)
        if old.closing is None:
            if old.generation == generation:
                return old  # done before: the answer of that commit was lost
            raise StoreUnavailable(f"the store has lost that {generation!r} was being built, as after a failover; build again")
        new = Pointer(generation, old.closing.number, old.closing.history, tuple(cut), base_us)
        txn.put(layout.pointer_key(view.version), layout.encode_pointer(new))
        txn.put(layout.generation_key(generation), layout.encode_pointer(new))
        return old

    return commit(store, work)


def drop_closed(store: Store, view: ViewPlan, partitions: int) -> None:
    """Remove the closed deltas that the served generation holds."""
    with store.snapshot() as snapshot:
        served = pointer_of(snapshot, view).number
    for partition in range(partitions):
        commit(store, lambda txn, at=partition: _drop_place(txn, view, at, served))  # type: ignore[misc]
        fail_point("drop.place_updated")
        sweep(store, layout.rubbish_prefix(partition), layout.deltas_of(partition))


def _drop_place(txn: Transaction, view: ViewPlan, partition: int, served: int) -> None:
    key = layout.place_key(view.version, partition)
    raw = txn.get(key)
    if raw is not None and (before := layout.decode_place(raw)) != (after := _dropped(txn, view, partition, before, served)):
        txn.put(key, layout.encode_pointer(after))
