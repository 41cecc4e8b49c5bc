"""Named points at which a process can be made to die or to stop, for crash tests; what is done there is not known here.

`TWOFOLD_FAIL_AT=apply.before_commit` kills the process when it comes to that point, `apply.before_commit:3` the third time,
`apply.before_commit:3@stop` stops it there (SIGSTOP) instead. Without the variable, a point costs the call of a function.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass

from twofold.errors import DefinitionError, did_you_mean

FAIL_POINTS = {
    "ingest.encoded": "events are checked and encoded; the log has nothing of them",
    "ingest.appended": "the log has the events; the worker is not woken, the producer not answered",
    "sqlite.in_transaction": "the log's lock is held and its transaction has begun",
    "sqlite.before_commit": "the rows are in the log's transaction, which is not committed",
    "sqlite.after_commit": "the log has committed; its lock is still held",
    "lmdb.in_transaction": "the store's turn to write is held and its transaction has begun",
    "lmdb.before_commit": "all is in the store's transaction, which is not committed",
    "lmdb.after_commit": "the store has committed; the turn is still held",
    "redis.staged": "the changes of a shard, too many for one call, are in the server in a list that expires; nothing of them is applied",
    "redis.before_commit": "the changes of a shard are ready; the server has applied nothing of them, of other shards it may",
    "redis.sent": "what changes something is sent to the server; whether it is carried out is not known here",
    "redis.after_commit": "the server has committed a shard; other shards of the transaction may be to come",
    "redis_generation.writing": "a part of a generation's states is in the servers, in buckets that expire and are not marked as whole",
    "redis_generation.filled": "all states are in the servers, in buckets that expire and are not marked as whole",
    "redis_generation.announced": "the servers know for how long a generation may take to be published; its buckets expire",
    "redis_generation.finishing": "the buckets are marked as whole, and then do not expire; the generation has no name",
    "redis_generation.before_publish": "a generation is whole; it does not have its name",
    "redis_generation.after_publish": "a generation has its name; no pointer does, and the buckets of one that had it before are kept",
    "redis_generation.unnamed": "a dropped generation has no name any more; its buckets are kept",
    "redis_generation.expiring": "the buckets of a dropped generation expire; it is on the list of those that do not",
    "takeover.epoch_taken": "the epoch is a new one; the views are not registered under it",
    "takeover.pointers_made": "every view has a pointer, which may lack its places",
    "takeover.others_forgotten": "places of views that the project lacks are gone; their deltas are not",
    "takeover.registered": "every view has its places; nothing is applied yet",
    "apply.read": "record batches are read; the transaction that applies them has not begun",
    "apply.before_commit": "deltas, duplicates, dead letters and the offset are in the transaction, which is not committed",
    "apply.after_commit": "the events are applied; nobody is woken",
    "freshness.before_flush": "the last commit's times are in memory only",
    "build.cleaned_up": "what killed builds left is gone; nothing is rolled over",
    "roll.number_named": "the number up to which deltas close is named; none is closed",
    "roll.place_closed": "the delta of one partition is closed",
    "archive.before_commit": "events of the log are decoded; the archive's table has nothing of them",
    "archive.writing": "rows are given to the writer of a table, no version of which names them",
    "archive.after_commit": "the archive's table has the events",
    "generation.writing": "a part of a generation's states is in its temporary file",
    "generation.before_publish": "a generation's temporary file is whole; it does not have its name",
    "generation.after_publish": "the generation's file has its name; no pointer does",
    "flip.before": "the generation is there; the pointer names the one before",
    "flip.after": "the pointer names the new generation; the closed deltas are there still",
    "drop.place_updated": "one partition's closed delta is out of its place; its entries are there",
    "sweep.amid": "entries of a dropped delta are deleted; the marker that names it is there",
    "drop.before_generation": "the deltas are gone; the generation before is there still",
    "retention.before_trim": "up to where a partition of the log is not needed any more is known; nothing of it is dropped",
    "trim.rows_deleted": "the log's oldest batches are deleted in a transaction that does not say so yet",
    "trim.before_commit": "the log's oldest batches and its new start are in a transaction, which is not committed",
    "trim.after_commit": "batches are dropped and the start has moved; the log's lock is still held, more may be to drop",
    "replay.appended": "a dead letter's event is in the log again; the letter is there still",
    "replay.removed": "a dead letter's event is in the log again, and the letter is gone; others are not replayed",
    "load.staged": "rows to be loaded are in a file of their own; neither store nor table knows of them",
    "load.ids_written": "the ids of rows to be loaded are in the store, where nobody looks at them yet",
    "load.ids_remembered": "the ids of rows to be loaded are known to the speed layer, and the load is decided; the table has none of them",
    "load.rows_written": "the table has the loaded rows; the store still says that they are to come",
    "plan.before_move": "a serving plan is stored; what is live is the one before",
}
"""Name -> what has been done and what has not when a process comes there. Each stands at exactly one place of the source."""

VARIABLE = "TWOFOLD_FAIL_AT"
_TEXT = re.compile(r"(?P<name>[a-z_.]+)(:(?P<nth>[1-9][0-9]*))?(@(?P<action>kill|stop))?")
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass
class _Fault:
    name: str
    left: int
    action: str

    def meet(self, name: str) -> None:
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), _SIGNALS[self.action])


_fault: _Fault | None = None


def fail_point(name: str) -> None:
    """Die or stop here if that is what was asked for; else nothing."""
    if _fault is not None:
        _fault.meet(name)


def fail_at(text: str | None) -> None:
    """From now on fail at `name[:nth][@kill|@stop]` in this process, or nowhere (None). Raises DefinitionError for a point there is not."""
    global _fault
    _fault = None if text is None else _parsed(text)


def _parsed(text: str) -> _Fault:
    found = _TEXT.fullmatch(text)
    if found is None or found["name"] not in FAIL_POINTS:
        near = did_you_mean(text, FAIL_POINTS)
        raise DefinitionError(f"{VARIABLE}={text!r} names no fail point; give name[:nth][@stop] of a name in fail_points.py.{near}")
    return _Fault(found["name"], int(found["nth"] or 1), found["action"] or "kill")


fail_at(os.environ.get(VARIABLE) or None)
