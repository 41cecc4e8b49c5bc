"""What must hold of a home after any fault, whatever was killed where: each breach in words; how faults come about is not known here.

On an opened project, after the fault and a restart: `assert not broken_promises(opened, acknowledged)`; after a build that went well
also `assert not left_over(opened)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from twofold.algebra.base import LOG_ORDER
from twofold.log.base import Position
from twofold.log.records import decoded
from twofold.plan import layout
from twofold.plan.counting import too_far_in_the_future
from twofold.plan.inputs import MAJOR, MINOR
from twofold.plan.serving import SourcePlan
from twofold.runtime.opened import Opened
from twofold.store.applied import applied_offsets as applied_in
from twofold.store.base import Snapshot
from twofold.stream.dead_letters import dead_letters
from twofold.stream.duplicates import loaded_ids
from twofold.testing.appended import appended, held_batches
from twofold.testing.modes import Truth

Place = tuple[str, int]
"""A source and a partition of it."""
Letter = tuple[str, int, int]
"""Source, partition and offset of a dead letter."""


def broken_promises(
    opened: Opened,
    acknowledged: Iterable[tuple[str, Sequence[str]]],
    applied_before: Mapping[Place, int] | None = None,
    replayed: Collection[Letter] = (),
) -> list[str]:
    """What is wrong with log, offsets, dead letters, pointers and the index of duplicates; empty where all is well.

    `acknowledged` are (position, ids of its events in any order) of every append that was answered. `applied_before` are applied
    offsets as they were seen earlier, `replayed` the dead letters that may have been replayed or dropped since.
    That values are right is another question: see `twofold.testing.modes`.
    """
    broken = [*_lost(opened, acknowledged)]
    for source in opened.compiled.sources.values():
        if source.time is not None:
            broken += _balance(opened, source, applied_before or {}, replayed)
    with opened.home.store.snapshot() as snapshot:
        broken += _pointers(opened, snapshot)
        for source in opened.compiled.sources.values():
            broken += _index(opened, snapshot, source)
    return broken


def applied_offsets(opened: Opened) -> dict[Place, int]:
    """The offset after the last applied event of every place."""
    sources = [source.name for source in opened.compiled.sources.values() if source.time is not None]
    places = [(source, partition) for source in sources for partition in range(opened.home.log.partitions)]
    with opened.home.store.snapshot() as snapshot:
        return applied_in(snapshot, places)


def _lost(opened: Opened, acknowledged: Iterable[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Acknowledged events that do not lie below their position."""
    first: dict[tuple[Place, str], int] = {}
    for source in opened.compiled.sources.values():
        if source.id is not None:
            for identity, major, offset in appended(opened, source).select(source.id, MAJOR, MINOR).sort(MINOR).iter_rows():
                first.setdefault(((source.name, major - LOG_ORDER), identity), offset)
    for text, ids in acknowledged:
        position, missing = Position.parse(text), set(ids)
        if position.log != opened.home.log.uuid:
            yield f"position {text} was given by another log than {opened.home.log.uuid}"
            continue
        for place, end in position.offsets.items():
            held = opened.home.log.end_offsets([place[0]])[place]
            if held < end:
                yield f"{place} was acknowledged up to {end} and ends at {held}"
            missing -= {identity for identity in missing if first.get((place, identity), end) < end}
        if missing:
            yield f"acknowledged at {text}, but not in the log there: {sorted(missing)}"


def _balance(opened: Opened, source: SourcePlan, before: Mapping[Place, int], replayed: Collection[Letter]) -> Iterator[str]:
    """In = applied + dead letters + duplicates, by a decision of its own on every event; offsets lie in the log and do not go back.

    Undecodable batches are looked at as long as the log has them.
    """
    applied = applied_offsets(opened)
    starts, ends = opened.home.log.start_offsets([source.name]), opened.home.log.end_offsets([source.name])
    rows = appended(opened, source)
    too_far = rows.filter(too_far_in_the_future(source)) if rows.height else rows
    with opened.home.store.snapshot() as snapshot:
        letters = list(dead_letters(snapshot, opened.home.log.partitions, source.name))
    for partition in range(opened.home.log.partitions):
        place = source.name, partition
        if not before.get(place, 0) <= applied[place] <= ends[place]:
            yield f"{place} is applied up to {applied[place]}, was up to {before.get(place, 0)}, and the log ends at {ends[place]}"
        _, unreadable = decoded(held_batches(opened, *place), source)
        far = too_far.filter(pl.col(MAJOR) == LOG_ORDER + partition)[MINOR].to_list()
        expected = dict.fromkeys(far, 1) | {found.batch.first_offset: found.batch.count for found in unreadable}
        mine = [letter for letter in letters if letter.partition == partition]
        got = {letter.offset: letter.count for letter in mine if letter.row is not None or letter.offset >= starts[place]}
        gone = {offset for offset in expected if offset not in got and (*place, offset) in replayed}
        expected = {offset: count for offset, count in expected.items() if offset < applied[place] and offset not in gone}
        if got != expected:
            yield f"{place} has dead letters {got}, by the log they are {expected} (offset: how many)"


def _pointers(opened: Opened, snapshot: Snapshot) -> Iterator[str]:
    """Pointers that name no generation, places that lie beyond what is applied."""
    for view in opened.compiled.views.values():
        plan = view.plan
        raw = snapshot.get(layout.pointer_key(plan.version))
        if raw is None:
            continue
        pointer = layout.decode_pointer(raw)
        if pointer.generation is not None:
            generation = opened.home.store.generation(pointer.generation)
            if generation is None:
                yield f"{plan.name} points to the generation {pointer.generation}, which is not there"
            else:
                generation.close()
        for partition in range(opened.home.log.partitions):
            raw = snapshot.get(layout.place_key(plan.version, partition))
            applied = tuple(map(layout.decode_int, snapshot.multi_get(layout.offset_keys(plan, partition))))
            if raw is not None and any(a < b for a, b in zip(applied, layout.decode_place(raw).began, strict=True)):
                yield f"the delta of {plan.name} in partition {partition} begins beyond the applied offsets {applied}: {raw!r}"


def _index(opened: Opened, snapshot: Snapshot, source: SourcePlan) -> Iterator[str]:
    """Ids and the order of their stamps say the same; each of a partition stands for an event that counts."""
    if source.id is None or source.dedupe_us is None:
        return
    history = loaded_ids(snapshot, source.name)
    indexes = [layout.Counted(source.name, partition) for partition in range(opened.home.log.partitions)]
    for index in indexes if history is None else [history, *indexes]:
        partition, by_id, batches = index.partition, layout.duplicate_key(index, b""), layout.duplicates_prefix(index)
        stamps = {key[len(by_id) :]: layout.decode_int(raw) for key, raw in snapshot.scan(by_id)}
        latest: dict[bytes, int] = {}
        for key, raw in snapshot.scan(batches):
            latest |= dict.fromkeys(msgspec.msgpack.decode(raw, type=list[bytes]), layout.duplicates_stamp(key))
        if missing := {identity for identity, stamp in stamps.items() if latest.get(identity, stamp - 1) < stamp}:
            yield f"ids of {source.name}/{partition} that are in no order of time: {sorted(missing)[:5]}"
        if missing_ids := latest.keys() - stamps.keys():
            yield f"ids of {source.name}/{partition} of which only the time is known: {sorted(missing_ids)[:5]}"


def counted_once(opened: Opened, view: str, feature: str, value: int) -> list[str]:
    """Whether a stream view by no key, whose `feature` counts all events, holds each that counts once (`value`: what was read)."""
    truth, applied = Truth(opened, view), applied_offsets(opened)
    began = opened.began(view)
    plan = truth.view.plan
    due = 0
    for event in truth.events:
        source, major, minor = event.position
        if major >= LOG_ORDER:
            name, partition = plan.sources[source], major - LOG_ORDER
            due += layout.of_source(began, plan, name)[partition] <= minor < applied[name, partition]
    return [] if value == due else [f"{view}.{feature} has counted {value} events, by the log they are {due}"]


def left_over(opened: Opened) -> list[str]:
    """What a killed process left and a build that went well should have removed; empty where all is clean."""
    home, store = opened.home, opened.home.store
    found = [f"spilled rows {path.name}" for path in home.scratch.folder.glob("*") if path.is_dir()]
    with store.snapshot() as snapshot:
        pointers = {view.plan.version: snapshot.get(layout.pointer_key(view.plan.version)) for view in opened.compiled.views.values()}
        named = {layout.decode_pointer(raw).generation for raw in pointers.values() if raw is not None} - {None}
        for partition in range(home.log.partitions):
            found += [f"marker {key!r}" for key, _ in snapshot.scan(layout.rubbish_prefix(partition))]
            live = tuple(_live_deltas(opened, snapshot, partition))
            found += [f"delta entry {key!r}" for key, _ in snapshot.scan(layout.deltas_of(partition)) if not key.startswith(live)]
    found += [f"generation {name}" for name in store.generations() if name not in named]
    found += [f"temporary generation {path.name}" for path in (home.settings.home / "store").glob("generations/*.tmp")]
    found += [f"rows on their way {path}" for path in home.settings.tables_folder.glob("loading/*/*")]
    return found + [f"rows of a table {path}" for path in home.tables.left_over()]


def _live_deltas(opened: Opened, snapshot: Snapshot, partition: int) -> Iterator[bytes]:
    for view in opened.compiled.views.values():
        raw: Any = snapshot.get(layout.place_key(view.plan.version, partition))
        if raw is not None:
            for part in (layout.HEAD, layout.BODY):
                yield layout.delta_prefix(view.plan.version, layout.decode_place(raw).open, partition, part)
