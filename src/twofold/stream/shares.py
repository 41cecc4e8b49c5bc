"""Which worker applies which partitions: workers say in the store that they live, and each computes all shares from that.

Nothing here keeps two workers apart: for moments they may think differently of who lives. The epochs of the partitions do (see
`stream.worker`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec

from twofold.errors import Corrupt
from twofold.plan import layout
from twofold.plan.serving import Frozen
from twofold.silence import Silence, Stall
from twofold.store.base import Snapshot, Store, Transaction, commit

BEAT_S = 0.5
"""How often a member says that it lives, and looks who else does."""
DEAD_S = 2.0
"""A member that has said nothing for so long is dead."""


class Member(Frozen, frozen=True):
    """What a worker says of itself: how often it has said so, where it runs, what it applies."""

    beats: int
    host: str
    process: int
    partitions: tuple[int, ...]


_MEMBER = msgspec.json.Decoder(Member)


def members(snapshot: Snapshot) -> dict[str, Member]:
    """All that are entered, by id; some may be dead."""
    prefix = layout.member_key("")
    try:
        return {key[len(prefix) :].decode(): _MEMBER.decode(raw) for key, raw in snapshot.scan(prefix)}
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"a worker of another version of Twofold is entered in the store ({error}); end all workers of that version"
        ) from None


def shares(ids: Iterable[str], partitions: int) -> dict[str, frozenset[int]]:
    """What each member applies; depends on nothing but the ids, and differs by at most one partition.

    Each pair of member and partition has a pinned random weight; the heaviest pairs come first, as long as the member has room. So
    few partitions move where a member comes or goes.
    """
    living = sorted(ids)
    taken: dict[str, set[int]] = {member: set() for member in living}
    if not living:
        return {}
    pairs = sorted(((_weight(member, partition), member, partition) for member in living for partition in range(partitions)), reverse=True)
    free, least = set(range(partitions)), partitions // len(living)
    for room in (least, least + 1):
        for _, member, partition in pairs:
            if partition in free and len(taken[member]) < room:
                taken[member].add(partition)
                free.remove(partition)
    return {member: frozenset(mine) for member, mine in taken.items()}


def _weight(member: str, partition: int) -> bytes:
    return hashlib.blake2b(f"{member}/{partition}".encode(), digest_size=8).digest()


def _unknown(member: str) -> bool:
    return False


class Watch:
    """Which of the entered members live, by the watcher's own clock.

    `has_ended` says of a member that it is known to have ended, whatever its last beat: its process ran here.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic, has_ended: Callable[[str], bool] = _unknown) -> None:
        self._clock_s, self._has_ended = clock_s, has_ended
        self._silences: dict[str, Silence] = {}
        self.has_heard = False
        """Whether anybody has spoken since the watch began, so that it certainly lives."""

    def living(self, read: Callable[[], Mapping[str, Member]]) -> set[str]:
        """The members that are not dead, of those that `read` reads now. One that is seen for the first time lives."""
        now_s = self._clock_s()  # before the reading: what is read later can only be fresher
        entered, living = read(), set[str]()
        self._silences = {member: silence for member, silence in self._silences.items() if member in entered}
        for member, entry in entered.items():
            known = self._silences.get(member)
            if known is None:
                known = self._silences[member] = Silence(entry.beats, now_s, 2 * BEAT_S)
            else:
                self.has_heard = self.has_heard or known.sign != entry.beats
                known.look(entry.beats, now_s)
            if known.silent_s < DEAD_S and not self._has_ended(member):
                living.add(member)
        return living


class Membership:
    """A worker among the others: it beats, and knows its share.

    `share` is what it is to apply since the beat number `beats`; `partitions`, set by its worker, is what it applies; `failure`, set by
    whoever has it beat, what ended that. One thread may beat while another reads.

    While its worker hangs (see `stall`) it says nothing.
    """

    def __init__(
        self,
        store: Store,
        partitions: int,
        member: str | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        has_ended: Callable[[str], bool] = _unknown,
        stall: Stall | None = None,
    ) -> None:
        self.id = member or new_id()
        self.beats, self.share, self.partitions = 0, frozenset[int](), tuple[int, ...]()
        self.failure: Exception | None = None
        self.stall = stall or Stall(0.0)
        self._store, self._count = store, partitions
        self._watch = Watch(clock_s, has_ended)
        self._host = socket.gethostname()

    def beat(self) -> None:
        """Say that this member lives, see who else does, take the dead off the list; nothing of it while its worker hangs.

        Raises StoreUnavailable; then nothing changes.
        """
        if self.stall.hangs():
            return
        entered: dict[str, Member] = {}

        def enter(txn: Transaction) -> Mapping[str, Member]:
            entered.clear()
            entered.update(members(txn))
            entered.pop(self.id, None)
            entry = Member(self.beats + 1, self._host, os.getpid(), tuple(sorted(self.partitions)))
            txn.put(layout.member_key(self.id), msgspec.json.encode(entry))
            return entered

        living = self._watch.living(lambda: commit(self._store, enter)) | {self.id}
        if dead := {member: entry for member, entry in entered.items() if member not in living}:
            commit(self._store, lambda txn: _remove(txn, dead))
        self.share = shares(living, self._count)[self.id]
        self.beats += 1

    def leave(self) -> None:
        """Say that this member is gone, so that the others need not wait."""
        commit(self._store, lambda txn: txn.delete(layout.member_key(self.id)))


def new_id() -> str:
    """An id that no other member has."""
    return secrets.token_hex(6)


def _remove(txn: Transaction, dead: Mapping[str, Member]) -> None:
    """Remove members that have not spoken in the meantime."""
    now = members(txn)
    for member, entry in dead.items():
        if member in now and now[member].beats == entry.beats:
            txn.delete(layout.member_key(member))
