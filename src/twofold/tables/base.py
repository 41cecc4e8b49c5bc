"""The protocol of versioned tables: loaded history and the archive of the log, per source. They speak Arrow, here as Polars frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl


class Tables(Protocol):
    """History in numbered versions and an archive that follows the log exactly once.

    Frames carry the source's columns and the system columns of `plan.inputs`: MAJOR, MINOR (history version, row; or
    LOG_ORDER + partition, offset) and STAMP (event_time; or arrival_time).
    """

    def load(self, source: str, frame: pl.DataFrame, content: str) -> int:
        """Add rows (source's columns and STAMP) as the next history version; returns its number.

        `content` names the rows' content: the same content again changes nothing and returns the version that has it. One process
        loads into a source at a time. All of the rows appear, or none.
        """
        ...

    def history_version(self, source: str) -> int:
        """The latest history version; 0 where nothing was loaded."""
        ...

    def history(self, source: str, version: int) -> pl.DataFrame | None:
        """All rows up to a history version, in no particular order; None where there are none."""
        ...

    def archive(self, source: str, partition: int, frame: pl.DataFrame, end_offset: int) -> None:
        """Append log events up to `end_offset`, which lies after their last.

        In one commit with the offset: repeating a call that was carried out changes nothing.
        """
        ...

    def archived(self, source: str, partition: int) -> int:
        """The offset after the last archived event; 0 where there is none."""
        ...

    def archive_up_to(self, source: str, cut: Sequence[int]) -> pl.DataFrame | None:
        """Archived events below the cut (offset after the last, by partition), in no particular order; None where there are none."""
        ...
