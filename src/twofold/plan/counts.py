"""What became of a partition's events, kept beside its applied offset; who counts them is not known here."""

from __future__ import annotations

from collections import Counter

import msgspec

from twofold.plan.layout import shard

Failures = Counter[tuple[str, str, str]]
"""How many calls of aggregates of people's own have failed, by view, feature and call (`add`, `merge`, ...)."""


class Counts(msgspec.Struct):
    """Events of a source in a partition since the offset `began`: all of them, and what each became.

    `events` = `applied` + `duplicates` + `dead_letters`. `late` are those of the applied with an event_time less than the greatest one
    that was applied before them in the partition, `latest_us`.
    """

    began: int = 0
    events: int = 0
    applied: int = 0
    duplicates: int = 0
    undecodable: int = 0
    future: int = 0
    late: int = 0
    latest_us: int | None = None

    @property
    def dead_letters(self) -> int:
        """Events that could not be applied, for whatever reason; also those that were sent again since."""
        return self.undecodable + self.future


def counts_key(source: str, partition: int) -> bytes:
    """Entry of a source's counts in a partition; it commits with the applied offset."""
    return shard(partition) + b"c/" + source.encode()


def encode_counts(counts: Counts) -> bytes:
    """The entry of counts."""
    return msgspec.json.encode(counts)


def decode_counts(raw: bytes | None) -> Counts:
    """The counts of an entry; zeros where there is none."""
    return Counts() if raw is None else msgspec.json.decode(raw, type=Counts)


def failures_key(partition: int) -> bytes:
    """Entry of the calls that have failed while a partition's events were folded; it commits with the applied offset."""
    return shard(partition) + b"c_failures"


def encode_failures(failures: Failures) -> bytes:
    """The entry of failures."""
    return msgspec.json.encode(sorted((*name, count) for name, count in failures.items()))


def decode_failures(raw: bytes | None) -> Failures:
    """The failures of an entry; none where there is none."""
    found = [] if raw is None else msgspec.json.decode(raw, type=list[tuple[str, str, str, int]])
    return Counter({(view, feature, call): count for view, feature, call, count in found})
