"""What a view needs of its source: which columns, and which stretch of event_time; nothing is read here."""

from __future__ import annotations

from twofold.definitions.joins import joined_columns
from twofold.instants import floor_to
from twofold.plan.compile import CompiledView
from twofold.plan.serving import SourcePlan, ViewPlan


def columns_needed(view: CompiledView, source: SourcePlan) -> tuple[str, ...]:
    """Columns of the source that the view's steps, keys and inputs name, its time column among them; in the source's order."""
    needed = {*view.plan.by, *(view.plan.row or ()), *(name for name in (view.time, view.deleted) if name is not None)}
    needed.update(name for expression in view.inputs for name in expression.meta.root_names())
    for step in reversed(view.steps):
        if step.kind == "rename":
            before = {new: old for old, new in step.content.items()}
            needed = {before.get(name, name) for name in needed} | set(step.content)
        elif step.kind == "explode":
            needed.add(step.content["column"])
        elif step.kind in ("filter", "with_columns"):
            # What a step writes may also be read by it, so it stays needed where the source has it.
            needed.update(name for expression in step.content.values() for name in expression.meta.root_names())
        elif step.kind == "join":
            stored = {joined.name: joined.stored for joined in joined_columns(step)}
            needed = {stored.get(name, name) for name in needed}
        else:
            return tuple(source.stored)
    found = needed | ({source.time} if source.time is not None else set())
    return tuple(name for name in source.stored if name in found)


def keeps_time(view: CompiledView, source: SourcePlan) -> bool:
    """Whether an event's time is what its source's time column says: no step gives it another value."""
    time = source.time
    if time is None:
        return False
    for step in view.steps:
        if step.kind == "rename":
            time = step.content.get(time, time)
        elif (step.kind == "with_columns" and time in step.content) or step.kind not in ("filter", "with_columns", "explode", "join"):
            return False
    return time == view.time


def times_needed(plan: ViewPlan, first_us: int, last_us: int) -> tuple[int | None, int]:
    """(least, end) of the event_times that windows ending in [first_us, last_us] can hold; least None where one is all time."""
    spans = [window.span for window in plan.windows]
    tails = [None if span.reach_us is None else floor_to(first_us - span.reach_us, span.hop_us) for span in spans]
    known = [tail for tail in tails if tail is not None]
    return (min(known) if known and len(known) == len(tails) else None), last_us
