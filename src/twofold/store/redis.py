"""The store on Redis or Valkey, one server or a cluster: entries by shard; round trips, functions and generations lie beside it.

A shard is two keys in the server that share a hash tag, and so a slot: a hash of entries, each with its checksum, and a sorted set of
the entries' keys for scans. One field of the hash is the shard's *version*: the random id of its last commit. A commit is one call of a
function; what is too large for one call is *staged* first, in parts, in a list of that slot.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from types import TracebackType
from typing import Any, NoReturn, Self

from twofold.errors import Conflict, Corrupt, DataError, StoreUnavailable
from twofold.fail_points import fail_point
from twofold.store.base import SHARD_BYTES
from twofold.store.records import sealed, unsealed
from twofold.store.redis_generations import RedisGeneration, RedisGenerations
from twofold.store.servers import AnswerLost, address_of, connect

_ID_BYTES = 16
_MOST_CHANGES, _MOST_BYTES = 400_000, 256 << 20
"""In one call: the server takes about a million arguments, and a gigabyte."""

_PART, _PART_BYTES = 40_000, 4 << 20
"""What is staged in one call."""

_STAGED_S = 600
"""So long what is staged stays after its writer has last said that it lives."""


class _Shard:
    """Where a shard lies in the servers. No key of it begins as the field of its version does."""

    __slots__ = ("entries", "keys", "tagged", "version")

    def __init__(self, name: str, shard: bytes) -> None:
        self.tagged = tagged = f"tw:{name}:{{{name}/{shard.hex()}}}:"
        self.entries, self.keys = f"{tagged}entries".encode(), (f"{tagged}entries".encode(), f"{tagged}keys".encode())
        self.version = (b"\x00" if shard[:1] == b"\xff" else b"\xff") + b"version"


class RedisStore:
    """A `Store` in the servers that `url` names; processes of many machines share it, and threads one object.

    URLs are those of redis-py's `from_url` (`redis://user:password@host:6379/0`, `rediss://`, `unix://path?db=0`; `redis+cluster://`
    for a cluster) with `?name=flights`: stores of other names on the same servers are apart. What is in the URL goes before `timeout_s`,
    which is each answer's. Open it after a fork, never before.

    Durability is the server's: with `appendonly yes` and `appendfsync everysec` a crash of its machine undoes the last second, a failover
    what the replica had not got, each shard's commits in order. Raises StoreUnavailable where the servers cannot be reached or are not
    fit (older than 7.0, an eviction policy, a replica), DefinitionError for a URL that means nothing.
    """

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        address = address_of(url)
        self.url, self._name = url, address.name
        self._servers = connect(address, timeout_s)
        self._generations = RedisGenerations(self._servers, address.name)
        self._shards: dict[bytes, _Shard] = {}
        self._is_open = True

    @property
    def has_many_writers(self) -> bool:
        """See `Store.has_many_writers`: yes, one for each shard and more."""
        return True

    def snapshot(self) -> RedisSnapshot:
        """See `Store.snapshot`; one round trip for each call."""
        self._check()
        return RedisSnapshot(self)

    def transaction(self) -> RedisTransaction:
        """See `Store.transaction`. It shows one moment of each shard: where a read sees a later one it raises Conflict at once."""
        self._check()
        return RedisTransaction(self)

    def write_generation(self, name: str, states: Iterable[tuple[bytes, bytes]]) -> int:
        """See `Store.write_generation`; what a killed write leaves goes away by itself."""
        self._check()
        return self._generations.write(name, states)

    def generation(self, name: str) -> RedisGeneration | None:
        """See `Store.generation`; asks the server by name."""
        self._check()
        return self._generations.open(name)

    def generations(self) -> list[str]:
        """See `Store.generations`; sorted."""
        self._check()
        return self._generations.names()

    def drop_generation(self, name: str) -> None:
        """See `Store.drop_generation`; readers that have it open keep it for ten minutes."""
        self._check()
        self._generations.drop(name)

    def sync(self) -> None:
        """See `Store.sync`."""
        self._check()

    def close(self) -> None:
        """See `Store.close`; a second close does nothing."""
        self._is_open = False
        self._servers.close()

    def _check(self) -> None:
        if not self._is_open:
            raise StoreUnavailable(f"{self._servers.what} is closed; open it again")

    def shard(self, shard: bytes) -> _Shard:
        """Where a shard lies."""
        found = self._shards.get(shard)
        if found is None:
            found = self._shards[shard] = _Shard(self._name, shard)
        return found

    def read(self, keys: Mapping[bytes, Sequence[bytes]]) -> list[list[bytes | None]]:
        """The fields `keys` of each shard, one moment of each, in one round trip."""
        return self._servers.ask([("HMGET", self.shard(shard).entries, *fields) for shard, fields in keys.items()], is_repeatable=True)

    def scan(self, prefix: bytes, limit: int) -> tuple[bytes | None, list[bytes], list[bytes | None]]:
        """Version, keys and records of a shard's entries under `prefix`, of one moment; the first `limit` of them, all for -1."""
        if len(prefix) < SHARD_BYTES:
            raise DataError(
                f"a scan of {self._servers.what} needs the {SHARD_BYTES} bytes of a shard; got the prefix {prefix.hex()!r} (hex)"
            )
        shard = self.shard(prefix[:SHARD_BYTES])
        first_ff = len(prefix.rstrip(b"\xff"))
        last = b"(" + prefix[: first_ff - 1] + bytes([prefix[first_ff - 1] + 1]) if first_ff else b"+"
        answer: list[Any] = self._servers.call("scan", shard.keys, (shard.version, b"[" + prefix, last, limit), is_repeatable=True)
        return answer[0], answer[1::2], answer[2::2]

    def commit(self, shard: bytes, version: bytes | None, changes: Mapping[bytes, bytes | None], done: int) -> None:
        """Apply changes (None deletes) to a shard whose version is still `version`. Raises Conflict, after `done` other shards' commits.

        A commit whose answer was lost is sent again under its id, by which the server knows whether it has been applied.
        """
        place = self.shard(shard)
        puts = [part for key, value in changes.items() if value is not None for part in (key, sealed(key, value))]
        parts = puts + [key for key, value in changes.items() if value is None]
        head = (place.version, version or b"", os.urandom(_ID_BYTES), len(puts) // 2)
        if len(changes) <= _MOST_CHANGES and sum(map(len, parts)) <= _MOST_BYTES:
            answer, is_lost = self._call("commit" if puts else "commit_deletes", place.keys, (*head, *parts))
        else:
            with self._staged(place, parts) as staged:
                answer, is_lost = self._call("commit_staged", (*place.keys, staged), (*head, len(parts)))
        if answer != b"conflict":
            return
        where = f"shard {shard.hex()} of {self._servers.what}"
        if is_lost:
            raise StoreUnavailable(f"the answer to a commit to {where} was lost, and another has been made since: read what is there now")
        raise Conflict(f"another writer has committed to {where} since this transaction first touched it ({done} shards were committed)")

    def _refuse_loss(self, answer: bytes) -> None:
        if answer == b"lost":
            raise StoreUnavailable(
                f"{self._servers.what} has lost a part of a commit before it was applied, as after a failover; try again"
            )

    @contextlib.contextmanager
    def _staged(self, place: _Shard, parts: Sequence[bytes]) -> Iterator[bytes]:
        """The key of a list in the server that has all `parts`, until the end of the `with`; a killed writer's expires."""
        staged = f"{place.tagged}staged:{os.urandom(_ID_BYTES).hex()}".encode()
        try:
            for first, part in _portions(parts):
                self._refuse_loss(self._servers.call("stage", (staged,), (_STAGED_S, first, *part), is_repeatable=True))
            fail_point("redis.staged")
            yield staged
        except BaseException:
            with contextlib.suppress(Exception):
                self._servers.ask([("UNLINK", staged)], is_repeatable=True)
            raise

    def _call(self, function: str, keys: Sequence[bytes], arguments: tuple[bytes | int, ...]) -> tuple[bytes, bool]:
        """What a function that commits has answered, and whether a first answer of it was lost."""
        fail_point("redis.before_commit")
        try:
            answer, is_lost = self._servers.call(function, keys, arguments), False
        except AnswerLost:
            answer, is_lost = self._again(function, keys, arguments), True
        fail_point("redis.after_commit")
        self._refuse_loss(answer)
        return answer, is_lost

    def _again(self, function: str, keys: Sequence[bytes], arguments: tuple[bytes | int, ...]) -> Any:
        try:
            return self._servers.call(function, keys, arguments)
        except AnswerLost as error:
            raise StoreUnavailable(f"{error}; whether the last commit was applied is not known: read what is there") from error


def _portions(parts: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Place of the first and parts that are staged in one call, of about as many bytes as it may have."""
    first = size = 0
    for at, part in enumerate(parts):
        if at - first == _PART or size >= _PART_BYTES:
            yield first, parts[first:at]
            first, size = at, 0
        size += len(part)
    yield first, parts[first:]


def _ended() -> NoReturn:
    raise StoreUnavailable("this snapshot or transaction has ended; take a new one from the store")


def _by_shard(keys: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for key in keys:
        shard = key[:SHARD_BYTES]
        if shard in found:
            found[shard].append(key)
        else:
            found[shard] = [key]
    return found


class RedisSnapshot:
    """Reads for the length of a `with`; each call sees one moment of each shard."""

    version = None

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._is_open = False

    def __enter__(self) -> Self:
        self._is_open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False

    def get(self, key: bytes) -> bytes | None:
        """See `Snapshot.get`."""
        return self.multi_get((key,))[0]

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Snapshot.multi_get`; one round trip."""
        if not self._is_open:
            _ended()
        if not keys:
            return []
        by_shard = _by_shard(keys)
        answers = self._store.read(by_shard)
        if len(answers) == 1:
            return unsealed(keys, answers[0])
        found = {shard: iter(answer) for shard, answer in zip(by_shard, answers, strict=True)}
        return unsealed(keys, [next(found[key[:SHARD_BYTES]]) for key in keys])

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Snapshot.scan`; all of it is read when it is called."""
        if not self._is_open:
            _ended()
        _, keys, records = self._store.scan(prefix, -1 if limit is None else limit)
        return _entries(keys, records)


def _entries(keys: Sequence[bytes], records: Sequence[bytes | None]) -> Iterator[tuple[bytes, bytes]]:
    for key, value in zip(keys, unsealed(keys, records), strict=True):
        if value is None:
            raise Corrupt(f"the store lists the key {key.hex()} (hex) and has no entry under it; do not use it, rebuild it from the log")
        yield key, value


class RedisTransaction(RedisSnapshot):
    """Changes kept here until the end of a `with` that does not raise."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__(store)
        self._versions: dict[bytes, bytes | None] = {}
        self._changes: dict[bytes, bytes | None] = {}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_open = False
        if kind is None:
            for done, (shard, keys) in enumerate(_by_shard(self._changes).items()):
                self._store.commit(shard, self._versions[shard], {key: self._changes[key] for key in keys}, done)

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Snapshot.multi_get`; one round trip, none where all are this transaction's own."""
        if not self._is_open:
            _ended()
        changes = self._changes
        found = self._stored([key for key in keys if key not in changes] if changes else keys)
        return [changes[key] if key in changes else found[key] for key in keys]

    def _stored(self, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """What is stored, with the shards' versions looked at in the same moment."""
        if not keys:
            return {}
        by_shard = _by_shard(keys)
        fields = {shard: [self._store.shard(shard).version, *mine] for shard, mine in by_shard.items()}
        values: dict[bytes, bytes | None] = {}
        for (shard, mine), (version, *records) in zip(by_shard.items(), self._store.read(fields), strict=True):
            self._saw(shard, version)
            values.update(zip(mine, unsealed(mine, records), strict=True))
        return values

    def _saw(self, shard: bytes, version: bytes | None) -> None:
        if self._versions.setdefault(shard, version) != version:
            raise Conflict(f"another writer has committed to shard {shard.hex()} since this transaction first touched it; begin a new one")

    def scan(self, prefix: bytes, limit: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Snapshot.scan`; what is put or deleted while it is iterated does not show in it."""
        if not self._is_open:
            _ended()
        mine = {key: value for key, value in self._changes.items() if key.startswith(prefix)}
        version, keys, records = self._store.scan(prefix, -1 if limit is None else limit + len(mine))
        self._saw(prefix[:SHARD_BYTES], version)
        stored = (entry for entry in _entries(keys, records) if entry[0] not in mine)
        put = sorted((key, value) for key, value in mine.items() if value is not None)
        return islice(merge(stored, put), limit)

    def put(self, key: bytes, value: bytes) -> None:
        """See `Transaction.put`; one round trip where it is the first touch of a shard."""
        self._touch(key)
        self._changes[key] = value

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """See `Transaction.put_many`."""
        for key, value in items:
            self.put(key, value)

    def delete(self, key: bytes) -> None:
        """See `Transaction.delete`; one round trip where it is the first touch of a shard."""
        self._touch(key)
        self._changes[key] = None

    def _touch(self, key: bytes) -> None:
        if not self._is_open:
            _ended()
        shard = key[:SHARD_BYTES]
        if shard not in self._versions:
            [[version]] = self._store.read({shard: [self._store.shard(shard).version]})
            self._saw(shard, version)
