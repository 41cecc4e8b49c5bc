"""Events that cannot be applied, with the reason; kept in the same transaction as the offset that passes them."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import msgspec
import polars as pl

from twofold.plan.inputs import MINOR, SYSTEM
from twofold.plan.layout import dead_letter_key, dead_letter_prefix
from twofold.store.base import Snapshot, Transaction


class DeadLetter(msgspec.Struct, frozen=True):
    """One event (or, where a whole record batch cannot be decoded, `count` of them from `offset` on).

    `row` are its columns as JSON-like values; `payload` the undecodable bytes, base64.
    """

    source: str
    partition: int
    offset: int
    count: int
    reason: str
    arrival_us: int
    row: dict[str, object] | None = None
    payload: str | None = None


def bury_rows(txn: Transaction, source: str, partition: int, frame: pl.DataFrame, reason: str, arrival_us: int) -> None:
    """Keep rows of a frame as dead letters."""
    for row in frame.iter_rows(named=True):
        content = {name: value for name, value in row.items() if name not in SYSTEM}
        _bury(txn, DeadLetter(source, partition, row[MINOR], 1, reason, arrival_us, row=content))


def bury_payload(txn: Transaction, letter: DeadLetter, payload: bytes) -> None:
    """Keep a record batch that cannot be decoded."""
    _bury(txn, msgspec.structs.replace(letter, payload=base64.b64encode(payload).decode()))


def _bury(txn: Transaction, letter: DeadLetter) -> None:
    txn.put(dead_letter_key(letter.source, letter.partition, letter.offset), msgspec.json.encode(letter))


def dead_letters(snapshot: Snapshot, partitions: int, source: str | None = None) -> Iterator[DeadLetter]:
    """The dead letters of all partitions in turn, of one source or of all."""
    for partition in range(partitions):
        for _, raw in snapshot.scan(dead_letter_prefix(partition, source)):
            yield msgspec.json.decode(raw, type=DeadLetter)
