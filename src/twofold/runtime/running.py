"""What runs for ever: the speed layer's loop, and the schedule of builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twofold.errors import LogUnavailable, StoreUnavailable, Unavailable
from twofold.log.base import WakingLog
from twofold.plan import layout
from twofold.plan.schedule import previous_fire
from twofold.runtime.home import APPENDED

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened

HYBRID_REFRESH = "0 3 * * *"
"""When the generations of hybrid views are renewed; how old they are changes no value, only the size of the deltas."""
_WAIT_S = 0.5
_SCHEDULE_POLL_S = 0.2
_RETRY_S = 1.0

Ended = Callable[[], bool]


def stream(project: Opened, until: Ended) -> None:
    """Apply the log as it grows, until `until()`; raises Busy where the home has a worker, Fenced where another takes over."""
    from twofold.runtime.restoring import new_worker

    home = project.home
    with home.lock("worker"), home.bell.listen(APPENDED) as listener:
        worker = new_worker(project)
        wait = home.log.wait if isinstance(home.log, WakingLog) else listener.wait
        worker.take_over()
        while not until():
            try:
                if worker.catch_up() == 0:
                    worker.close()
                    wait(_WAIT_S)
            except (LogUnavailable, StoreUnavailable) as error:
                print(f"the log or the store does not answer, will be tried again: {error}", flush=True)
                listener.wait(_RETRY_S)


def keep_schedule(project: Opened, until: Ended) -> None:
    """Build each view when its schedule has fired since its last build, until `until()`. A build that fails is tried again."""
    with project.home.lock("schedule"), project.home.bell.listen("schedule") as listener:
        while not until():
            try:
                if due := due_views(project):
                    project.build(views=due)
            except Unavailable as error:
                print(f"build failed, will be tried again: {error}", flush=True)
            listener.wait(_SCHEDULE_POLL_S)


def due_views(project: Opened) -> list[str]:
    """Built views that have something new and whose schedule has fired since their generation was built, by the project's clock."""
    from twofold.batch.roll import has_moved_on, history_versions

    now = project.home.clock.now_us()
    due = []
    with project.home.store.snapshot() as snapshot:
        for view in project.compiled.views.values():
            raw = snapshot.get(layout.pointer_key(view.plan.version))
            pointer = None if raw is None else layout.decode_pointer(raw)
            if pointer is None or pointer.generation is None or view.plan.is_static:
                continue
            has_fired = pointer.base_us < previous_fire(view.plan.refresh or HYBRID_REFRESH, now)
            history = history_versions(project.home.tables, view.plan)
            if has_fired and has_moved_on(snapshot, view.plan, project.home.log.partitions, history, now):
                due.append(view.plan.name)
    return due
