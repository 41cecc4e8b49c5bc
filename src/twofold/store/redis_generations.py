"""Generations in Redis or Valkey: hashes of states, found by a name that is given to all of them at once.

A generation is a number of *buckets*, hashes spread over the slots of a cluster; a key lies in bucket CRC-32 modulo their number. Their
keys carry a random id, so that a generation of the same name is another. Each bucket gets, as its last field, a marker: a bucket without
one is gone or was never whole, and is not read as if it were empty. The *record* of a generation (id, number of buckets) stands under
its name in one hash; while buckets may lie in the servers with no name, it is kept as *loose* (see redis_functions.lua), so that the next
writer lets go of what a killed one left. Until a generation is whole its buckets expire by themselves, but for one that has just been made.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from zlib import crc32

from twofold.errors import Corrupt, StoreUnavailable
from twofold.fail_points import fail_point
from twofold.store.records import ascending, file_name_of, sealed, unsealed
from twofold.store.servers import Command, Servers

_ID_BYTES = 16
_FEW, _FEW_BUCKETS, _BUCKETS = 1000, 8, 1024
_PART_BYTES, _PART_STATES = 4 << 20, 20_000
"""What is sent in one round trip."""

_UNFINISHED_S = 3600
"""So long an unfinished generation stays after its writer has last said that it lives."""
_UNUSED = bytes(8)
"""Earlier versions wrote something here."""

_SAY_S = 600
_PUBLISH_S = 300
_GRACE_S = 600
"""So long a generation can be read after its name was taken away."""


class _Place:
    """Record and buckets of one generation."""

    def __init__(self, name: str, identity: bytes, buckets: int) -> None:
        self.identity, self.count = identity, buckets
        self.buckets = [f"tw:{name}:{{{name}/{identity.hex()}/{bucket:x}}}:states".encode() for bucket in range(buckets)]

    @property
    def record(self) -> bytes:
        return sealed(b"generation", self.identity + self.count.to_bytes(4, "big") + _UNUSED)


def _place_of(name: str, record: bytes) -> _Place:
    [body] = unsealed([b"generation"], [record])
    if body is None or len(body) != _ID_BYTES + 4 + len(_UNUSED):
        raise Corrupt("the record of a generation has another length; it is of another version of Twofold: run `twofold build`")
    return _Place(name, body[:_ID_BYTES], int.from_bytes(body[_ID_BYTES : _ID_BYTES + 4], "big"))


class RedisGenerations:
    """The generations of one store."""

    def __init__(self, servers: Servers, name: str) -> None:
        self._servers, self._name = servers, name
        self._published = f"tw:{name}:{{{name}}}:generations".encode()
        self._keys = (self._published, f"tw:{name}:{{{name}}}:loose".encode())

    def write(self, name: str, states: Iterable[tuple[bytes, bytes]]) -> int:
        """See `Store.write_generation`."""
        file_name_of(name)  # the same names are refused as on disk
        self._let_go()
        ordered = ascending(states)
        first = list(islice(ordered, _FEW + 1))
        place = _Place(self._name, os.urandom(_ID_BYTES), _FEW_BUCKETS if len(first) <= _FEW else _BUCKETS)
        unfinished = _Unfinished(self._servers, place, self._keys)
        try:
            unfinished.announce(_UNFINISHED_S)
            count = unfinished.fill(chain(first, ordered))
            fail_point("redis_generation.filled")
            unfinished.announce(_PUBLISH_S, b"again")
            fail_point("redis_generation.announced")
            unfinished.finish()
            fail_point("redis_generation.before_publish")
        except BaseException:
            with contextlib.suppress(Exception):  # they expire, or are loose
                unfinished.give_up()
            raise
        self._publish(name, place.record)  # if its answer is lost, it may have its name: nothing may be removed
        fail_point("redis_generation.after_publish")
        self._let_go()
        return count

    def _publish(self, name: str, record: bytes) -> None:
        if not self._servers.call("publish", self._keys, (_encoded(name), record), is_repeatable=True):
            raise StoreUnavailable(f"generation {name!r} took more than {_PUBLISH_S} s to publish, or the server lost it; write it again")

    def open(self, name: str) -> RedisGeneration | None:
        """See `Store.generation`."""
        [record] = self._servers.ask([("HGET", self._published, _encoded(name))], is_repeatable=True)
        return None if record is None else RedisGeneration(self._servers, _place_of(self._name, record))

    def names(self) -> list[str]:
        """See `Store.generations`; sorted."""
        [names] = self._servers.ask([("HKEYS", self._published)], is_repeatable=True)
        return sorted(name.decode("utf-8", "surrogatepass") for name in names)

    def drop(self, name: str) -> None:
        """See `Store.drop_generation`."""
        self._servers.call("publish", self._keys, (_encoded(name), b""), is_repeatable=True)
        fail_point("redis_generation.unnamed")
        self._let_go()

    def _let_go(self) -> None:
        """Have the buckets of dropped and replaced generations, and of killed writers, expire."""
        for record in self._servers.call("condemned", self._keys, (), is_repeatable=True):
            place = _place_of(self._name, record)
            self._servers.ask([("EXPIRE", bucket, _GRACE_S) for bucket in place.buckets], is_repeatable=True)
            fail_point("redis_generation.expiring")
            self._servers.ask([("HDEL", self._keys[1], b"d" + record)], is_repeatable=True)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


class _Unfinished:
    """A generation that is being written; its buckets expire."""

    def __init__(self, servers: Servers, place: _Place, lists: Sequence[bytes]) -> None:
        self._servers, self._place, self._lists = servers, place, lists
        self._counts = [0] * place.count
        self._said = time.monotonic()

    def announce(self, seconds: int, *again: bytes) -> None:
        """Have what a killed writer leaves be known. Raises StoreUnavailable where this one, which did so before, counts as dead."""
        if not self._servers.call("announce", self._lists, (self._place.record, seconds, *again), is_repeatable=True):
            raise StoreUnavailable(f"a generation took too long to write, or {self._servers.what} lost it; write it again")

    def fill(self, states: Iterator[tuple[bytes, bytes]]) -> int:
        """Send all states, in parts of bounded size; how many."""
        part: dict[int, list[bytes]] = {}
        size = count = total = 0
        for key, state in states:
            bucket = crc32(key) % self._place.count
            part.setdefault(bucket, []).extend((key, sealed(key, state)))
            size, count = size + len(key) + len(state), count + 1
            if size >= _PART_BYTES or count >= _PART_STATES:
                self._send(part)
                part, size, total, count = {}, 0, total + count, 0
        self._send(part)
        return total + count

    def _send(self, part: dict[int, list[bytes]]) -> None:
        commands: list[Command] = []
        for bucket, fields in part.items():
            commands.append(("HSET", self._place.buckets[bucket], *fields))
            if not self._counts[bucket]:
                commands.append(("EXPIRE", self._place.buckets[bucket], _UNFINISHED_S))
            self._counts[bucket] += len(fields) // 2
        if time.monotonic() - self._said > _SAY_S:
            self.announce(_UNFINISHED_S, b"again")
            commands += [("EXPIRE", bucket, _UNFINISHED_S) for bucket in self._place.buckets]
            self._said = time.monotonic()
        if commands:
            self._servers.ask(commands)
            fail_point("redis_generation.writing")

    def finish(self) -> None:
        """Mark all buckets as whole, and keep them. Raises StoreUnavailable where states are missing."""
        place = self._place
        for name in ("HSET", "PERSIST"):
            marker = (place.identity, sealed(place.identity, b"whole")) if name == "HSET" else ()
            self._servers.ask([(name, bucket, *marker) for bucket in place.buckets])
            fail_point("redis_generation.finishing")
        sizes = self._servers.ask([("HLEN", bucket) for bucket in place.buckets])
        if sizes != [count + 1 for count in self._counts]:
            raise StoreUnavailable(f"{self._servers.what} has lost states of a generation while it was written; write it again")

    def give_up(self) -> None:
        """Remove what was sent."""
        self._servers.ask([("UNLINK", bucket) for bucket in self._place.buckets])
        self._servers.ask([("HDEL", self._lists[1], b"w" + self._place.record)])


class RedisGeneration:
    """An open generation; threads may share it."""

    def __init__(self, servers: Servers, place: _Place) -> None:
        self._servers, self._place = servers, place
        self._is_open = True

    def multi_get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Generation`; one round trip."""
        if not self._is_open:
            raise StoreUnavailable("this generation is closed; open it again")
        place, wanted = self._place, [crc32(key) % self._place.count for key in keys]
        fields: dict[int, list[bytes]] = {}
        for bucket, key in zip(wanted, keys, strict=True):
            fields.setdefault(bucket, [place.identity]).append(key)
        if not fields:
            return []
        answers = self._servers.ask([("HMGET", place.buckets[bucket], *mine) for bucket, mine in fields.items()], is_repeatable=True)
        found = {}
        for bucket, (marker, *records) in zip(fields, answers, strict=True):
            if marker is None:
                raise StoreUnavailable(
                    f"a part of this generation is not in {self._servers.what} any more: it was dropped, or lost; open it again"
                )
            found[bucket] = iter(records)
        return unsealed(keys, [next(found[bucket]) for bucket in wanted])

    def close(self) -> None:
        """See `Generation`; a second close does nothing."""
        self._is_open = False
