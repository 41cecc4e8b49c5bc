"""What a call reads, compiled once from the plan: which views, where they lie, by which request fields, into which columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from twofold.instants import BEGIN_US
from twofold.keys import encode_key
from twofold.log.base import Position
from twofold.plan import layout
from twofold.plan.answers import Answer
from twofold.plan.layout import Place, Pointer
from twofold.plan.merge import ViewReader, exact_from
from twofold.plan.serving import ModelPlan, ServingPlan, UsePlan, ViewPlan
from twofold.serve.requests import KeyCheck, Request, key_part


class Origin:
    """Where a view is read from now: its pointer, what the entries of its deltas begin with, below which t nothing is exact.

    Where `is_outdated`, its deltas do not begin where the pointer's generation ends, as when the pointer was read before a flip: all is
    to be read again.
    """

    def __init__(self, plan: ViewPlan, pointer: Pointer, places: Sequence[Place]) -> None:
        self.pointer = pointer
        self.generation = None if plan.mode == "stream" else pointer.generation
        self.prefixes: tuple[bytes, ...] = ()
        if plan.mode != "batch":
            deltas = [
                (delta, partition)
                for partition, place in enumerate(places)
                for delta in (place.open, place.closed)
                if delta is not None and (delta > pointer.number or plan.mode == "stream")
            ]
            parts = (layout.BODY,) if plan.aggregates else (layout.HEAD, layout.BODY)
            self.prefixes = tuple(layout.delta_prefix(plan.version, delta, at, part) for delta, at in deltas for part in parts)
        self.is_outdated = plan.mode == "hybrid" and self.generation is not None and not layout.is_seamless(pointer, places)
        self.exact_from_us = BEGIN_US if self.generation is None else exact_from(plan, pointer.base_us)


class ViewAccess:
    """A view as it is read: how to check its keys, where it lies, how to merge it. Threads may share it."""

    def __init__(self, plan: ViewPlan, partitions: int) -> None:
        self.plan, self.reader, self.keys = plan, ViewReader(plan), KeyCheck(plan)
        self.entries = (layout.pointer_key(plan.version), *(layout.place_key(plan.version, partition) for partition in range(partitions)))
        """The entries that say where the view lies."""
        self.ends_at_build = plan.as_of == "build"

    def origin(self, raw: Sequence[bytes | None]) -> Origin | None:
        """Where to read by these values of `entries`; None where the view has nothing to read yet."""
        known = [value for value in raw if value is not None]
        if len(known) < len(self.entries):
            return None
        pointer, *places = known
        origin = Origin(self.plan, layout.decode_pointer(pointer), list(map(layout.decode_place, places)))
        is_built = origin.generation is not None or self.plan.mode == "stream"
        return origin if is_built else None


@dataclass(frozen=True)
class Offsets:
    """Applied offsets of a snapshot: by `source/partition`, and as the text of a position."""

    by_place: dict[str, int]
    position: str


@dataclass(frozen=True)
class Heads:
    """What the entries of a scope say, decoded: the log that the store belongs to (None: not said), an origin for each view.

    `generations` are the names of those that the origins read from, by view version; `is_outdated` whether any origin is.
    """

    raw: Sequence[bytes | None]
    log: str | None
    origins: tuple[Origin | None, ...]
    generations: dict[str, str]
    is_outdated: bool


class Seen(NamedTuple):
    """What a call saw in the entries of a scope, and the store's version then (see `Snapshot.version`)."""

    version: int | None
    heads: Heads
    origins: Sequence[Origin]
    offsets: Offsets


class Scope:
    """The views of one kind of call, and the entries that say where they lie."""

    def __init__(self, views: Sequence[ViewAccess], plan: ServingPlan, log_uuid: str, partitions: int) -> None:
        self.views = tuple(views)
        sources = dict.fromkeys(source for view in views for source in view.plan.sources if plan.sources[source].time is not None)
        self.places: tuple[tuple[str, int], ...] = tuple((source, p) for source in sources for p in range(partitions))
        heads = [layout.LOG_UUID, *(entry for view in views for entry in view.entries)]
        self.heads = len(heads)
        """So many of the first entries say where to read."""
        self.entries = [*heads, *(layout.offset_key(*place) for place in self.places)]
        self._log_uuid = log_uuid
        self._latest: tuple[list[bytes | None], Offsets] | None = None
        self.latest: Seen | None = None
        """What was seen last, where all views have something to read: the next call takes it for a guess."""

    def decoded(self, raw: Sequence[bytes | None]) -> Heads:
        """The heads of raw values."""
        uuid, *rest = raw
        origins, at = [], 0
        for view in self.views:
            origins.append(view.origin(rest[at : at + len(view.entries)]))
            at += len(view.entries)
        names = {
            view.plan.version: origin.generation
            for view, origin in zip(self.views, origins, strict=True)
            if origin is not None and origin.generation is not None
        }
        return Heads(
            raw,
            None if uuid is None else uuid.decode(),
            tuple(origins),
            names,
            any(origin is not None and origin.is_outdated for origin in origins),
        )

    def offsets(self, raw: list[bytes | None]) -> Offsets:
        """The applied offsets of entries, in the order of `places`."""
        latest = self._latest
        if latest is None or latest[0] != raw:
            found = {place: layout.decode_int(value) for place, value in zip(self.places, raw, strict=True)}
            by_place = {f"{source}/{partition}": offset for (source, partition), offset in found.items()}
            latest = self._latest = (raw, Offsets(by_place, str(Position(self._log_uuid, found))))
        return latest[1]


class Use:
    """One use of a view in a model: from request fields to a key, from an answer to the model's columns."""

    def __init__(self, plan: UsePlan, place: int, view: ViewAccess) -> None:
        self.place, self.view, self.fields = place, view, plan.keys
        self.label = _label(plan)
        kinds = tuple(view.plan.by.values())
        self._instants = tuple(kind == "datetime" for kind in kinds) if "datetime" in kinds else ()
        names = [feature.name for feature in view.plan.features]
        chosen = [names.index(name) for name in plan.columns]
        self.columns = tuple(plan.columns.values())
        self._chosen = None if chosen == list(range(len(names))) else tuple(chosen)

    def key(self, request: Request) -> tuple[tuple[object, ...], bytes | None]:
        """The parts of the key that a request asks for, and their bytes; no bytes where a part is null."""
        parts: tuple[object, ...] = tuple([request[field] for field in self.fields])
        if self._instants:
            parts = tuple(
                key_part("datetime", part) if is_instant else part for part, is_instant in zip(parts, self._instants, strict=True)
            )
        return self.encoded(parts)

    @staticmethod
    def encoded(parts: tuple[object, ...]) -> tuple[tuple[object, ...], bytes | None]:
        """The parts of a key and their bytes; no bytes where a part is null."""
        return parts, None if None in parts else encode_key(parts)  # type: ignore[arg-type]

    def chosen(self, answer: Answer) -> Answer:
        """The part of the view's answer that the model uses, in the order of `columns`."""
        if self._chosen is None:
            return answer
        values, statuses = answer.values, answer.statuses
        return Answer(tuple(values[i] for i in self._chosen), tuple(statuses[i] for i in self._chosen), answer.age_us)


def _label(plan: UsePlan) -> str:
    """What an answer calls this use: the view's name, or the prefix where the use has one of its own."""
    name, column = next(iter(plan.columns.items()), ("", plan.view))
    prefix = column.removesuffix(name).rstrip("_")
    return prefix or plan.view


class ModelReads:
    """What a model reads: its uses in the order of its plan, over distinct views."""

    def __init__(self, model: ModelPlan, plan: ServingPlan, views: dict[str, ViewAccess], log_uuid: str, partitions: int) -> None:
        names = list(dict.fromkeys(use.view for use in model.uses))
        self.scope = Scope([views[name] for name in names], plan, log_uuid, partitions)
        self.uses = tuple(Use(use, names.index(use.view), views[use.view]) for use in model.uses)
        self.labels = _unique([use.label for use in self.uses])


def _unique(labels: list[str]) -> tuple[str, ...]:
    """Labels, the second and later ones of a name with a number: `airport`, `airport_2`."""
    seen: dict[str, int] = {}
    for i, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] > 1:
            labels[i] = f"{label}_{seen[label]}"
    return tuple(labels)
