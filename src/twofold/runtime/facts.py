"""What a home's log and store say of the speed layer: lag, freshness, and what became of the events. The same from every process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from twofold.plan import layout
from twofold.plan.counts import Counts, Failures, counts_key, decode_counts, decode_failures, failures_key
from twofold.runtime.home import Home
from twofold.stream import freshness
from twofold.stream.registration import refuse_another_log
from twofold.watch.metrics import Facts


class PartFacts(NamedTuple):
    """A source in a partition: where its log ends, up to where it is applied, and its counts."""

    source: str
    partition: int
    end: int
    applied: int
    counts: Counts

    @property
    def lag(self) -> int:
        """Events in the log that are not applied."""
        return max(0, self.end - self.applied)


def facts_of(home: Home, sources: Iterable[str]) -> tuple[list[PartFacts], dict[int, int]]:
    """(the facts of each source and partition, events by the logarithm of their time from accepted to visible).

    Raises LogMismatch where the store belongs to another log.
    """
    places = [(source, partition) for source in sources for partition in range(home.log.partitions)]
    with home.store.snapshot() as snapshot:
        refuse_another_log(snapshot.get(layout.LOG_UUID), home.log)
        stored = snapshot.multi_get([key for place in places for key in (layout.offset_key(*place), counts_key(*place))])
        fresh = Counter[int]()
        for raw in snapshot.multi_get([layout.freshness_key(partition) for partition in range(home.log.partitions)]):
            fresh.update(freshness.decode_counts(raw))
    ends = home.log.end_offsets({source for source, _ in places})  # after the store, which is never ahead of the log
    found = [
        PartFacts(*place, ends[place], layout.decode_int(offset), decode_counts(counts))
        for place, offset, counts in zip(places, stored[::2], stored[1::2], strict=True)
    ]
    return found, dict(fresh)


def _failures(home: Home) -> Failures:
    with home.store.snapshot() as snapshot:
        raws = snapshot.multi_get([failures_key(partition) for partition in range(home.log.partitions)])
    return sum(map(decode_failures, raws), Failures())


def failed_calls(when: str, text: str, failures: Failures) -> Facts:
    """Failures of own aggregates as a metric."""
    return Facts(f"twofold_own_aggregate_{when}_failures_total", text, "counter", ("view", "feature", "call"), sorted(failures.items()))


def metrics_of(home: Home, sources: Iterable[str]) -> list[Facts]:
    """The facts as metrics."""
    found, fresh = facts_of(home, sources)

    def each(name: str, text: str, kind: str, value: Callable[[PartFacts], int]) -> Facts:
        values = [((part.source, str(part.partition)), float(value(part))) for part in found]
        return Facts(f"twofold_{name}", text, kind, ("source", "partition"), values)

    letters = Counter[tuple[str, ...]]()
    for part in found:
        letters.update({(part.source, "undecodable"): part.counts.undecodable, (part.source, "future"): part.counts.future})
    seconds = [((f"{share:g}",), ms / 1000) for share in (0.5, 0.99) if (ms := freshness.quantile_ms(fresh, share)) is not None]
    return [
        each("lag_events", "Events in the log that are not applied.", "gauge", lambda part: part.lag),
        each("log_end_offset", "The offset after the last event.", "gauge", lambda part: part.end),
        each("applied_offset", "The offset after the last applied event.", "gauge", lambda part: part.applied),
        each("passed_events_total", "Events that the speed layer has passed.", "counter", lambda part: part.counts.events),
        each("applied_events_total", "Of them, events that count.", "counter", lambda part: part.counts.applied),
        each("duplicate_events_total", "Of them, duplicates.", "counter", lambda part: part.counts.duplicates),
        Facts("twofold_dead_letters_total", "Of them, dead letters by reason.", "counter", ("source", "reason"), sorted(letters.items())),
        each("late_events_total", "Events that count, older than one before them.", "counter", lambda part: part.counts.late),
        failed_calls("fold", "Calls of own aggregates that failed in the speed layer.", _failures(home)),
        Facts("twofold_freshness_seconds", "From accepted to visible, since the store began.", "gauge", ("quantile",), seconds),
    ]
