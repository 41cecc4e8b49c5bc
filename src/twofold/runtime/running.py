"""What runs for ever: the speed layer's loop, and the schedule of builds."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from twofold.errors import Busy, Unavailable
from twofold.home_lock import holder_of
from twofold.log.base import WakingLog
from twofold.plan import layout
from twofold.plan.schedule import previous_fire
from twofold.runtime.home import APPENDED, APPLIED, Home
from twofold.runtime.life import new_stall, signs_of_life
from twofold.runtime.retrying import answered, follow

if TYPE_CHECKING:
    from twofold.plan.layout import Pointer
    from twofold.plan.serving import ViewPlan
    from twofold.runtime.opened import Opened
    from twofold.store.base import Snapshot
    from twofold.stream.worker import Worker

HYBRID_REFRESH = "0 3 * * *"
"""When the generations of hybrid views are renewed; how old they are changes no value, only the size of the deltas."""
_WAIT_S = 0.5
_STAND_BY_S = 0.05
_SCHEDULE_POLL_S, _REBUILD_S = 0.2, 1.0
_CATCH_UP_WAIT_S = 600.0

Ended = Callable[[], bool]


def stream(project: Opened, until: Ended) -> None:
    """Apply the log as it grows, until `until()`.

    On a store with many writers a share of its partitions. Else all of it, once no other worker of the home does; raises Fenced where
    another takes over.
    """
    from twofold.runtime import sharing
    from twofold.runtime.restoring import new_worker

    home = project.home
    stall = new_stall(home)
    with signs_of_life(home.settings.run, stall), home.bell.listen(APPENDED) as listener:
        if answered(lambda: (home.log, home.store), until) is None:
            return

        def wait(timeout_s: float, partitions: Collection[int] | None = None) -> object:
            return home.log.wait(timeout_s, partitions) if isinstance(home.log, WakingLog) else listener.wait(timeout_s)

        if home.store.has_many_writers:
            sharing.stream(home, functools.partial(new_worker, project), wait, until, stall)
            return
        with contextlib.ExitStack() as stack:
            worker = answered(functools.partial(_begun, project), until) if _stand_by(home, stack, until) else None
            if worker is None:
                return

            def rest() -> None:
                worker.close()
                wait(_WAIT_S)

            stall.sign = lambda: worker.steps
            follow(worker.catch_up, rest, until)


def _stand_by(home: Home, stack: contextlib.ExitStack, until: Ended) -> bool:
    """Become the home's worker as soon as no other is; False where `until()` came first."""
    is_told = False
    while True:
        try:
            stack.enter_context(home.lock("worker"))
            return True
        except Busy:
            if until():
                return False
            if not is_told:
                print(f"standing by: process {holder_of(home.settings.run, 'worker')} is the worker", file=sys.stderr, flush=True)
                is_told = True
            time.sleep(_STAND_BY_S)


def _begun(project: Opened) -> Worker:
    from twofold.runtime.restoring import new_worker

    worker = new_worker(project)
    worker.take_over()
    return worker


def has_worker(home: Home) -> bool:
    """Whether a worker runs: on this home, or on a store with many writers anywhere."""
    from twofold.runtime import sharing

    return sharing.has_worker(home) if home.store.has_many_writers else holder_of(home.settings.run, "worker") is not None


def catch_up(project: Opened) -> int:
    """See `Opened.catch_up`."""
    from twofold.runtime import sharing
    from twofold.runtime.restoring import new_worker

    home, deadline_s = project.home, time.monotonic() + _CATCH_UP_WAIT_S
    ends = home.log.end_offsets([plan.name for plan in project.compiled.sources.values() if plan.time is not None])
    if home.store.has_many_writers:
        return sharing.catch_up(home, functools.partial(new_worker, project), ends, deadline_s)
    with home.bell.listen(APPLIED) as listener:
        while True:
            try:
                with home.lock("worker"):
                    return _apply_all(project)
            except Busy as error:
                if sharing.is_applied(home, ends):
                    return 0
                if time.monotonic() > deadline_s:
                    raise Busy(f"the log's end was not reached in time: {error}") from None
            listener.wait(_WAIT_S)


def wait_for_all_of_new(project: Opened, names: Collection[str] | None) -> None:
    """Wait until the workers have applied what the log holds now for those of the views that cannot be read yet.

    Built on less they would be answered, and their rows joined to events for ever, as if no more had come. Views that the workers do
    not follow are not waited for. Raises Busy where it takes too long.
    """
    from twofold.runtime.sharing import is_applied

    views = [project.compiled.view(name).plan for name in (project.compiled.views if names is None else names)]
    with project.home.store.snapshot() as snapshot:
        found = _where(project.home, snapshot, views)
    new = [view for view, pointer, places in found if pointer is not None and _is_new(view, pointer, places)]
    sources = {source for view in new for source in view.sources}
    ends = project.home.log.end_offsets([name for name in sources if project.compiled.source(name).time is not None])
    deadline_s = time.monotonic() + _CATCH_UP_WAIT_S
    with project.home.bell.listen(APPLIED) as listener:
        while ends and not is_applied(project.home, ends):
            if time.monotonic() > deadline_s:
                raise Busy(
                    "the workers did not reach the log's end in time, and views would be built on a part of it; see `twofold status`"
                )
            listener.wait(_WAIT_S)


def _where(home: Home, snapshot: Snapshot, views: Sequence[ViewPlan]) -> list[tuple[ViewPlan, Pointer | None, list[bytes | None]]]:
    """Views, each with its pointer and the entries of its places, in one round trip."""
    from twofold.batch.roll import place_keys

    keys = [[layout.pointer_key(view.version), *place_keys(view, home.log.partitions)] for view in views]
    stored = iter(snapshot.multi_get(list(itertools.chain(*keys))))
    found = [list(itertools.islice(stored, len(mine))) for mine in keys]
    return [(view, None if raw is None else layout.decode_pointer(raw), places) for view, (raw, *places) in zip(views, found, strict=True)]


def _is_new(view: ViewPlan, pointer: Pointer, places: Sequence[bytes | None]) -> bool:
    """Whether a view has no generation, or none that its deltas fit to, so that it cannot be read."""
    from twofold.batch.roll import is_torn

    return view.mode != "stream" and (pointer.generation is None or is_torn(view, pointer, places))


def _apply_all(project: Opened) -> int:
    worker = _begun(project)
    applied = worker.catch_up()
    worker.close()
    return applied


def keep_schedule(project: Opened, until: Ended) -> None:
    """Build each view when it is due, until `until()`. One that fails is tried again after a while, and told once."""
    told = ""
    with project.home.lock("schedule"), project.home.bell.listen("schedule") as listener:
        while not until():
            try:
                if due := due_views(project):
                    project.build(views=due)
                told = ""
            except Unavailable as error:
                if told != str(error):
                    told = str(error)
                    print(f"build failed, will be tried again: {told}", flush=True)
                listener.wait(_REBUILD_S)
            listener.wait(_SCHEDULE_POLL_S)


def due_views(project: Opened) -> list[str]:
    """Views that have something new and whose schedule has fired since their generation was built, by the project's clock.

    So are those without a generation, or with deltas that do not begin where it ends: the project is new, or servers have lost something.
    """
    home, now_us = project.home, project.home.clock.now_us()
    views = [view.plan for view in project.compiled.views.values()]
    with home.store.snapshot() as snapshot:
        found = _where(home, snapshot, views)
        return [view.name for view, pointer, places in found if _is_due(home, snapshot, view, pointer, places, now_us)]


def _is_due(home: Home, snapshot: Snapshot, view: ViewPlan, pointer: Pointer | None, places: Sequence[bytes | None], now_us: int) -> bool:
    from twofold.batch.roll import has_moved_on, history_versions

    if pointer is None or pointer.generation is None:
        return view.mode != "stream"
    if view.is_static:
        return False
    if _is_new(view, pointer, places):
        return True
    has_fired = pointer.base_us < previous_fire(view.refresh or HYBRID_REFRESH, now_us)
    return has_fired and has_moved_on(snapshot, view, home.log.partitions, history_versions(home.tables, view), now_us)
