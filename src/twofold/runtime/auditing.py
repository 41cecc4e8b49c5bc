"""The audit of a home: its served log against its own history and log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twofold.plan import layout
from twofold.watch.audit import Audit, Sources, audit
from twofold.watch.served_log import read_served

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened


def audit_of(project: Opened) -> Audit:
    """Recompute every feature in the home's served log."""
    with project.home.store.snapshot() as snapshot:
        prefix = layout.generation_key("")
        generations = {key[len(prefix) :].decode(): layout.decode_pointer(raw) for key, raw in snapshot.scan(prefix)}
    sources = Sources(project.events_of, project.began, generations.get, project.home.log.partitions)
    return audit(read_served(project.home.settings.home / "served"), project.compiled, sources)
