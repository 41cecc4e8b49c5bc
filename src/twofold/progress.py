"""How long work tells what it does: one callable that surfaces show as they like; nothing is shown here."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what is being done and how far it is; what it raises ends the work, which leaves nothing half-done."""

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        """`done` of `total` (rows, or keys where the stage says so) of a stage; a `total` of None is not known."""
        ...


def silent(stage: str, done: int = 0, total: int | None = None) -> None:
    """Shows nothing."""
