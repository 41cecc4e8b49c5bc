"""How keys, values and the names of generations become bytes that LMDB and a file system can hold; no file is touched here.

A key lies under a *slot*, at most 511 bytes. Keys of 1 to 510 bytes are their own slot. A longer key's slot is its first 479
bytes and its SHA-256, and the whole key stands in the record, so look-ups compare whole keys. The empty key has a slot of zeros.
A *record* is the value (before it the key, where the slot is not the key) and the XXH3 of the value, whose seed is the XXH3 of the slot: a
key or a value whose bits have changed is noticed by whoever meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256

from xxhash import xxh3_64_digest, xxh3_64_intdigest

from twofold.errors import Corrupt, DataError

SLOT_BYTES = 511
"""The longest key that LMDB takes; a slot of this length has its key in the record."""

HEAD_BYTES = SLOT_BYTES - 32
NAME_BYTES = 200
GENERATION_SUFFIX = ".gen"

_EMPTY_SLOT = bytes(SLOT_BYTES)
_CHECKSUM_BYTES = 8
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.@=")


def slot_of(key: bytes) -> bytes:
    """The LMDB key that `key` lies under; the order of slots is the order of keys up to their first 479 bytes."""
    if 0 < len(key) < SLOT_BYTES:
        return key
    return key[:HEAD_BYTES] + sha256(key).digest() if key else _EMPTY_SLOT


def sealed(key: bytes, value: bytes) -> bytes:
    """A value with the checksum over key and value behind it, as it lies under a key that a store takes as it is."""
    return value + xxh3_64_digest(value, xxh3_64_intdigest(key))


def sealed_many(items: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """(key, sealed value) of each item: see `sealed`."""
    return [(key, value + xxh3_64_digest(value, xxh3_64_intdigest(key))) for key, value in items]


def record_of(slot: bytes, key: bytes, value: bytes) -> bytes:
    """What lies in a slot."""
    return sealed(slot, value if len(slot) < SLOT_BYTES else len(key).to_bytes(4, "little") + key + value)


def entry_of(slot: bytes, record: bytes) -> tuple[bytes, bytes]:
    """Key and value of what lies in a slot. Raises Corrupt where the checksum fails; of a long key it names the slot."""
    return _unpacked(slot, record, b"" if slot == _EMPTY_SLOT else slot)


def _unpacked(slot: bytes, record: bytes, name: bytes) -> tuple[bytes, bytes]:
    value = record[:-_CHECKSUM_BYTES]
    if xxh3_64_digest(value, xxh3_64_intdigest(slot)) != record[-_CHECKSUM_BYTES:]:
        raise corrupt(name)
    if len(slot) < SLOT_BYTES:
        return slot, value
    end = 4 + int.from_bytes(value[:4], "little")
    return value[4:end], value[end:]


def unsealed(keys: Sequence[bytes], records: Iterable[bytes | None]) -> list[bytes | None]:
    """The values of sealed records, in the order of their keys; None where there is none. Raises Corrupt."""
    values: list[bytes | None] = []
    for key, record in zip(keys, records, strict=True):
        if record is None:
            values.append(None)
            continue
        value = record[:-_CHECKSUM_BYTES]
        if xxh3_64_digest(value, xxh3_64_intdigest(key)) != record[-_CHECKSUM_BYTES:]:
            raise corrupt(key)
        values.append(value)
    return values


def corrupt(key: bytes) -> Corrupt:
    """The error for a record whose checksum fails."""
    return Corrupt(
        f"what is stored under key {key.hex() or '(empty)'} (hex) fails its checksum: the disk or memory has changed it; "
        "do not use this store, rebuild it from the log"
    )


def read_many(get: Callable[[bytes], bytes | None], keys: Sequence[bytes]) -> list[bytes | None]:
    """Values under `keys` in their order, None where there is none; `get` gives the record in a slot. Raises Corrupt.

    This loop is the online read: about 0.6 us a key of 1 KB, a third of it the checksum.
    """
    values: list[bytes | None] = []
    for key in keys:
        if not 0 < len(key) < SLOT_BYTES:
            values.append(_read_one(get, key))
        elif (record := get(key)) is None:
            values.append(None)
        else:
            value = record[:-_CHECKSUM_BYTES]
            if xxh3_64_digest(value, xxh3_64_intdigest(key)) != record[-_CHECKSUM_BYTES:]:
                raise corrupt(key)
            values.append(value)
    return values


def _read_one(get: Callable[[bytes], bytes | None], key: bytes) -> bytes | None:
    slot = slot_of(key)
    if (record := get(slot)) is None:
        return None
    stored_key, value = _unpacked(slot, record, key)
    return value if stored_key == key else None


def in_key_order(items: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of (slot, record) pairs that come in the order of slots, in the exact order of keys.

    Keys that share their first 479 bytes are sorted in memory; all others stream. The empty key comes where its slot is.
    """
    run: list[tuple[bytes, bytes]] = []
    head = b""
    for slot, record in items:
        if run and slot[:HEAD_BYTES] != head:
            yield from sorted(run)
            run.clear()
        if len(slot) < HEAD_BYTES:
            yield entry_of(slot, record)
        else:
            head = slot[:HEAD_BYTES]
            run.append(entry_of(slot, record))
    yield from sorted(run)


def ascending(states: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The states as they come; raises DataError at the first key that is not above the one before."""
    previous: bytes | None = None
    for key, state in states:
        if previous is not None and key <= previous:
            raise DataError(
                f"states of a generation must come in ascending order of keys, each key once; "
                f"got {key.hex() or '(empty)'} (hex) after {previous.hex()}; sort them by key"
            )
        previous = key
        yield key, state


def file_name_of(generation: str) -> str:
    """The file name of a generation: lower-case letters, digits and `-_.@=` stay, other bytes are written `%41`.

    Injective also on file systems that do not tell cases apart. Raises DataError for a name too long for a file.
    """
    raw = generation.encode("utf-8", "surrogatepass")
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in raw)
    if len(name) > NAME_BYTES:
        raise DataError(
            f"the name of a generation is too long for a file: got {generation!r}, which takes {len(name)} characters where "
            f"{NAME_BYTES} fit (characters other than lower-case letters, digits and -_.@= take 3 or more); take a shorter one"
        )
    return name + GENERATION_SUFFIX


def generation_of(file_name: str) -> str | None:
    """The generation whose file has this name; None where it is no name that `file_name_of` makes."""
    head, *rest = file_name.removesuffix(GENERATION_SUFFIX).split("%")
    try:
        raw = head.encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in rest)
        generation = raw.decode("utf-8", "surrogatepass")
    except ValueError:
        return None
    return generation if len(file_name) <= NAME_BYTES + 4 and file_name_of(generation) == file_name else None
