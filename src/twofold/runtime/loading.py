"""Loading history into a source or table: named by its content, decided in the transaction that lets the speed layer know its ids.

Ids lie in the store and rows in a table, which commit apart. So the rows are staged first. Then one transaction of the store notes the
ids and that this load is decided: from then on the speed layer drops events for rows that are sure to come. At last the rows go into
their table. Killed before the decision, nothing was loaded; killed after it, whoever next loads, builds or looks finishes the load.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import polars as pl

from twofold.errors import Busy, Corrupt, StoreUnavailable, Unavailable
from twofold.fail_points import fail_point
from twofold.plan import layout
from twofold.plan.inputs import STAMP, all_rows, as_history, stamped
from twofold.plan.serving import SourcePlan
from twofold.progress import Progress, silent
from twofold.runtime.tasks import TASK_WAIT_S, alone
from twofold.store.base import Transaction, commit
from twofold.stream.duplicates import drop_loaded_ids, least_pending, loaded_ids, take_loaded_ids, write_loaded_ids
from twofold.tables.base import Reading
from twofold.tables.snapshots import conform_loaded, load_snapshots
from twofold.tables.staged import StagedRows

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened

_ROWS_PER_DIGEST = _ROWS_PER_LOOK = 500_000


def load(project: Opened, source: str, table: Any, at_us: int | None, progress: Progress) -> int:
    """What `Opened.load` says."""
    plan = project.compiled.source(source)
    progress(f"reading rows for {source}")
    frame, taken = conform_loaded(plan, table, at_us)
    content = content_of(frame, str(sorted(taken)) if taken else "")
    tables = project.home.tables
    with alone(project.home, "load", TASK_WAIT_S, progress) as progress:
        if taken:
            return load_snapshots(tables, plan, frame, taken, content)
        if not _has_ids(plan):
            return tables.load(source, stamped(plan, frame), content, plan.time, progress)
        return _load_ids_and_rows(project, plan, stamped(plan, frame), content, progress)


def content_of(frame: pl.DataFrame, more: str) -> str:
    """A name of a frame's rows and of `more`: the same for the same rows, however they lie in memory."""
    digest = hashlib.sha256()
    for offset in range(0, max(frame.height, 1), _ROWS_PER_DIGEST):
        buffer = io.BytesIO()
        frame[offset : offset + _ROWS_PER_DIGEST].rechunk().write_ipc(buffer)
        digest.update(buffer.getbuffer())
    digest.update(more.encode())
    return digest.hexdigest()


def finish_loads(project: Opened, sources: Iterable[str] | None = None, ids_only: bool = False, wait_s: float = 0.0) -> None:
    """Finish loads (into these sources) that were decided and then killed; let the index have loaded ids that the store does not know.

    Called before anybody looks at the loaded rows of these sources. Whoever begins to apply events needs ids only, and leaves decided
    loads alone: their ids are known, and their rows may lie on another machine. While a load goes on nothing is done, for that one
    finishes itself; after `wait_s`, where it is given, Busy is raised. Raises Corrupt where the rows of a decided load are gone,
    Unavailable where their table cannot be written.
    """
    plans = [project.compiled.source(name) for name in (project.compiled.sources if sources is None else sources)]
    due = [plan for plan in plans if _has_ids(plan) and _is_unfinished(project, plan)]
    with contextlib.ExitStack() as stack:
        try:
            if due:
                stack.enter_context(alone(project.home, "load", wait_s))
        except Busy:
            if wait_s:
                raise
            return
        for plan in due:
            if not ids_only or _state(project, plan)[0] is None:
                _finish(project, plan)


def _has_ids(plan: SourcePlan) -> bool:
    return plan.dedupe_us is not None and plan.id is not None


def _staged(project: Opened) -> StagedRows:
    return StagedRows(project.home.settings.tables_folder)


def _state(project: Opened, plan: SourcePlan) -> tuple[str | None, int]:
    """(content of a load that is decided and not finished, history version up to which the store knows ids)."""
    with project.home.store.snapshot() as snapshot:
        decided, known = snapshot.multi_get([layout.loading_key(plan.name), layout.known_history_key(plan.name)])
    return None if decided is None else decided.decode(), layout.decode_int(known)


def _is_unfinished(project: Opened, plan: SourcePlan) -> bool:
    decided, known = _state(project, plan)
    return decided is not None or known < project.home.tables.history_version(plan.name) or _staged(project).has(plan.name)


def _load_ids_and_rows(project: Opened, plan: SourcePlan, frame: pl.DataFrame, content: str, progress: Progress) -> int:
    """Load rows whose ids log events may repeat; the caller has the lock for it."""
    tables = project.home.tables
    if _state(project, plan)[0] == content:
        _finish(project, plan, frame, progress)
    elif _is_unfinished(project, plan):
        _finish(project, plan)
    if (version := tables.loaded(plan.name, content)) is not None:
        return version
    if _decide(project, plan, frame, content):
        return _finish(project, plan, frame, progress)
    version = tables.load(plan.name, frame, content, plan.time, progress)
    _note_known(project, plan, version)
    return version


def _decide(project: Opened, plan: SourcePlan, frame: pl.DataFrame, content: str) -> bool:
    """Stage the rows, then note their ids and that they are to come; False, and nothing is done, where the index needs none of them.

    The ids are known before the rows can be seen: no build on the new version can begin a delta that counts one of them again.
    """
    home = project.home
    latest = home.tables.history_version(plan.name)
    with home.store.snapshot() as snapshot:
        since_us = least_pending(snapshot, home.log, plan.name, home.clock.now_us())
        if not ((frame[STAMP] > since_us - (plan.dedupe_us or 0)).any() or loaded_ids(snapshot, plan.name)):
            return False
    _staged(project).write(plan.name, content, frame)
    fail_point("load.staged")
    rows = all_rows(plan.columns, home.tables.history(plan.name, latest), as_history(plan, frame, latest + 1))

    ids = write_loaded_ids(home.store, plan, rows, since_us)
    fail_point("load.ids_written")

    def decide(txn: Transaction) -> None:
        take_loaded_ids(txn, ids)
        txn.put(layout.loading_key(plan.name), content.encode())

    commit(home.store, decide)
    fail_point("load.ids_remembered")
    drop_loaded_ids(home.store, plan.name, ids.index.edition - 1)
    return True


def _finish(project: Opened, plan: SourcePlan, frame: pl.DataFrame | None = None, progress: Progress = silent) -> int:
    """Give the rows of a decided load (`frame`, or as they were staged) to their table; returns the history version.

    Where none is decided, an index that does not know all loaded ids is made to. Nothing staged stays. Raises StoreUnavailable where the
    store has lost that the load of `frame` was decided.
    """
    tables, staged = project.home.tables, _staged(project)
    decided, known = _state(project, plan)
    if frame is not None and decided is None:
        raise _lost(plan)
    if decided is not None:
        if tables.loaded(plan.name, decided) is None:
            _load_decided(project, plan, decided, staged.read(plan.name, decided) if frame is None else frame, progress)
        fail_point("load.rows_written")
    version = tables.history_version(plan.name)
    if decided is not None or known < version:
        _note_known(project, plan, version, decided, is_lost=decided is None)
    staged.drop(plan.name)
    return version


def _load_decided(project: Opened, plan: SourcePlan, content: str, frame: pl.DataFrame | None, progress: Progress) -> None:
    if frame is None:
        raise Corrupt(
            f"a load into {plan.name!r} was decided and its rows are gone from {project.home.settings.tables_folder / 'loading'}; load the "
            "same rows again, or remove the store and run `twofold build`"
        )
    try:
        project.home.tables.load(plan.name, frame, content, plan.time, progress)
    except Unavailable as error:
        raise Unavailable(f"{error}; its rows are kept, and the next load, build or look at this history adds them") from error


def _lost(plan: SourcePlan) -> StoreUnavailable:
    return StoreUnavailable(f"the store has lost that a load into {plan.name!r} was decided, as after a failover; load the same rows again")


def _note_known(project: Opened, plan: SourcePlan, version: int, decided: str | None = None, is_lost: bool = False) -> None:
    """Let the store say that it knows the loaded ids up to `version`; where they are lost, have it know them first.

    Raises StoreUnavailable where the store does not say any more that the load was `decided`: its ids are lost too.
    """
    home, ids = project.home, None
    with home.store.snapshot() as snapshot:
        since_us = least_pending(snapshot, home.log, plan.name, home.clock.now_us()) if is_lost else 0
        is_due = is_lost and (loaded_ids(snapshot, plan.name) is not None or _is_any_young(project, plan, version, since_us))
    if is_due:
        ids = write_loaded_ids(home.store, plan, all_rows(plan.columns, home.tables.history(plan.name, version)), since_us)

    def note(txn: Transaction) -> None:
        if decided is not None and txn.get(layout.loading_key(plan.name)) != decided.encode():
            raise _lost(plan)
        if ids is not None:
            take_loaded_ids(txn, ids)
        txn.delete(layout.loading_key(plan.name))
        txn.put(layout.known_history_key(plan.name), layout.encode_int(version))

    commit(home.store, note)
    if ids is not None:
        drop_loaded_ids(home.store, plan.name, ids.index.edition - 1)


def _is_any_young(project: Opened, plan: SourcePlan, version: int, since_us: int) -> bool:
    """Whether an event of an arrival from `since_us` on could repeat a loaded one."""
    reading = Reading(version, bounds={STAMP: (since_us - (plan.dedupe_us or 0) + 1, None)})
    return any(frame.height for frame in project.home.tables.batches(plan.name, reading, _ROWS_PER_LOOK))
