"""Loading history into a source or table: named by its content, its ids made known to the speed layer first."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import polars as pl

from twofold.fail_points import fail_point
from twofold.plan.inputs import all_rows, as_history, stamped
from twofold.plan.serving import SourcePlan
from twofold.progress import Progress
from twofold.stream.duplicates import history_matters, least_pending, remember_history
from twofold.tables.snapshots import conform_loaded, load_snapshots

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened

_LOCK_WAIT_S = 600.0
_ROWS_PER_DIGEST = 500_000


def load(project: Opened, source: str, table: Any, at_us: int | None, progress: Progress) -> int:
    """What `Opened.load` says."""
    plan = project.compiled.source(source)
    progress(f"reading rows for {source}")
    frame, taken = conform_loaded(plan, table, at_us)
    content = content_of(frame, str(sorted(taken)) if taken else "")
    tables = project.home.tables
    with project.home.lock("load", _LOCK_WAIT_S):
        _remember_ids(project, plan, frame)
        fail_point("load.ids_remembered")
        if taken:
            return load_snapshots(tables, plan, frame, taken, content)
        return tables.load(source, stamped(plan, frame), content, plan.time, progress)


def content_of(frame: pl.DataFrame, more: str) -> str:
    """A name of a frame's rows and of `more`: the same for the same rows, however they lie in memory."""
    digest = hashlib.sha256()
    for offset in range(0, max(frame.height, 1), _ROWS_PER_DIGEST):
        buffer = io.BytesIO()
        frame[offset : offset + _ROWS_PER_DIGEST].rechunk().write_ipc(buffer)
        digest.update(buffer.getbuffer())
    digest.update(more.encode())
    return digest.hexdigest()


def _remember_ids(project: Opened, plan: SourcePlan, frame: pl.DataFrame) -> None:
    """Let the speed layer know the ids of rows to be loaded.

    Before they are: no build on the new version can then begin a delta that counts one of them again.
    """
    if plan.dedupe_us is None:
        return
    home = project.home
    latest = home.tables.history_version(plan.name)
    loaded = as_history(plan, frame, latest + 1)
    with home.store.snapshot() as snapshot:
        since_us = least_pending(snapshot, home.log, plan.name, home.clock.now_us())
        if not history_matters(snapshot, plan, loaded, since_us):
            return
    rows = all_rows(plan.columns, home.tables.history(plan.name, latest), loaded)
    with home.store.transaction() as txn:
        remember_history(txn, plan, rows, since_us)
