"""Counts what became of a commit's events; the counts commit with the offset, so they are exact after any kill."""

from __future__ import annotations

import numpy as np
import polars as pl

from twofold.instants import BEGIN_US
from twofold.plan.counts import Failures, counts_key, decode_counts, decode_failures, encode_counts, encode_failures, failures_key
from twofold.plan.serving import SourcePlan
from twofold.store.base import Transaction


def count(
    txn: Transaction, source: SourcePlan, partition: int, offset: int, events: int, decoded: int, in_time: int, counted: pl.DataFrame
) -> None:
    """Add a commit's events from `offset` on.

    How many there were, of these could be decoded, of these were not too far in the future; `counted` are the rows that count.
    """
    key = counts_key(source.name, partition)
    raw = txn.get(key)
    counts = decode_counts(raw)
    if raw is None:
        counts.began = offset
    counts.events += events
    counts.undecodable += events - decoded
    counts.future += decoded - in_time
    counts.duplicates += in_time - counted.height
    counts.applied += counted.height
    if source.time is not None and counted.height:
        times = counted[source.time].to_numpy().view(np.int64)
        times = times[times >= BEGIN_US]  # not those of a null
        before = times[:1] if counts.latest_us is None else np.array([counts.latest_us])
        greatest = np.maximum.accumulate(np.concatenate([before, times]))
        counts.late += int((times < greatest[:-1]).sum())
        counts.latest_us = int(greatest[-1]) if greatest.size else counts.latest_us
    txn.put(key, encode_counts(counts))


def count_failures(txn: Transaction, partition: int, failures: Failures) -> None:
    """Add what has failed in a commit."""
    if failures:
        key = failures_key(partition)
        txn.put(key, encode_failures(decode_failures(txn.get(key)) + failures))
