"""Roll-over and flip: a view's delta ends at a cut, a generation takes its place; each one value in one transaction.

The store takes writers in turns and the worker reads the pointer inside its own transaction, so whoever builds may roll: the cut is
the applied offset at that moment, and what is applied later goes to the next delta.
"""

from __future__ import annotations

from twofold.errors import NotBuilt
from twofold.plan import layout
from twofold.plan.layout import Pointer
from twofold.plan.schedule import previous_fire
from twofold.plan.serving import ViewPlan
from twofold.store.base import Snapshot, Store
from twofold.tables.base import Tables

_DELETED_PER_COMMIT = 10_000


def pointer_of(snapshot: Snapshot, view: ViewPlan) -> Pointer:
    """The pointer of a view; raises NotBuilt where the speed layer does not know it."""
    raw = snapshot.get(layout.pointer_key(view.version))
    if raw is None:
        raise NotBuilt(
            f"view {view.name!r} in its present form is not followed by the speed layer; "
            "restart `twofold stream` (or `up`) with this project file"
        )
    return layout.decode_pointer(raw)


def applied_offsets(snapshot: Snapshot, view: ViewPlan, pointer: Pointer) -> tuple[int, ...]:
    """The applied offsets of a view's sources, in the order of its pointer's."""
    entries = layout.offset_keys(view, len(pointer.cut) // len(view.sources))
    return tuple(layout.decode_int(raw) for raw in snapshot.multi_get(entries))


def history_versions(tables: Tables, view: ViewPlan) -> tuple[int, ...]:
    """The present history version of each of a view's sources."""
    return tuple(tables.history_version(source) for source in view.sources)


def has_moved_on(snapshot: Snapshot, view: ViewPlan, history: tuple[int, ...], now_us: int) -> bool:
    """Whether a build has something to do for a view.

    It was never built, a build failed, its log or loaded history has moved on, or its own schedule has fired, which moves the end of
    windows that end at the build.
    """
    pointer = pointer_of(snapshot, view)
    if pointer.generation is None or pointer.closed is not None or pointer.history != history:
        return True
    is_behind = pointer.cut != applied_offsets(snapshot, view, pointer)
    return is_behind or (view.refresh is not None and pointer.base_us < previous_fire(view.refresh, now_us))


def roll(store: Store, view: ViewPlan, history: tuple[int, ...]) -> Pointer:
    """End the open delta at the applied offsets and begin the next, for a generation on loaded history up to versions, one a source.

    The caller asked for these versions before: what is loaded later could hold ids that the next delta has counted. A view whose last
    build failed keeps its closed delta, its cut and its history versions.
    """
    with store.transaction() as txn:
        pointer = pointer_of(txn, view)
        if pointer.closed is None:
            cut = applied_offsets(txn, view, pointer)
            pointer = Pointer(
                pointer.generation, pointer.history, pointer.cut, pointer.base_us,
                open=pointer.open + 1, began=cut, closed=pointer.open, closed_cut=cut, closed_history=history,
            )  # fmt: skip
            txn.put(layout.pointer_key(view.version), layout.encode_pointer(pointer))
    return pointer


def flip(store: Store, view: ViewPlan, generation: str, base_us: int) -> Pointer:
    """Serve the generation in place of the old one and the closed delta; returns the old pointer."""
    with store.transaction() as txn:
        old = pointer_of(txn, view)
        new = Pointer(generation, old.closed_history, old.closed_cut, base_us, open=old.open, began=old.began)
        txn.put(layout.pointer_key(view.version), layout.encode_pointer(new))
        txn.put(layout.generation_key(generation), layout.encode_pointer(new))
    return old


def drop_old(store: Store, view: ViewPlan, old: Pointer) -> None:
    """Remove the delta and the generation that a flip has replaced. Readers that opened the generation keep it."""
    if old.closed is not None:
        drop_delta(store, view, old.closed)
    if old.generation is not None:
        store.drop_generation(old.generation)


def drop_delta(store: Store, view: ViewPlan, delta: int) -> None:
    """Remove a delta that no pointer names any more, in short transactions."""
    prefix = layout.delta_prefix(view.version, delta)
    while True:
        with store.transaction() as txn:
            keys = [key for key, _ in txn.scan(prefix, _DELETED_PER_COMMIT)]
            for key in keys:
                txn.delete(key)
        if len(keys) < _DELETED_PER_COMMIT:
            return
