"""Typed key <-> ordered bytes: the one encoding of every store, injective and order preserving.

Each part is a tag and a payload that ends itself, so ("1", "12") is never ("11", "2") and no key is a prefix of another of the same arity.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from twofold.errors import SchemaMismatch
from twofold.instants import to_datetime, to_us

KeyPart = str | int | bool | bytes | datetime
Key = tuple[KeyPart, ...]

_INT, _TEXT, _FALSE, _TRUE, _BYTES, _INSTANT = 0x10, 0x20, 0x30, 0x31, 0x40, 0x50
_SIGN = 1 << 63
_TAGGED = struct.Struct(">BQ")


def encode_key(key: Sequence[KeyPart]) -> bytes:
    """Bytes of a key; `()` is `b""`. Raises SchemaMismatch for a null, a float or an integer beyond 64 bits.

    >>> encode_key(("1", "12")) == encode_key(("11", "2"))
    False
    """
    return b"".join([_ENCODERS.get(type(part), _encode_other)(part) for part in key])


def _encode_int(part: int) -> bytes:
    try:
        return _TAGGED.pack(_INT, part + _SIGN)
    except struct.error:
        raise SchemaMismatch(f"key {part} does not fit 64 bits; declare it as str") from None


def _encode_bool(part: bool) -> bytes:
    return b"\x31" if part else b"\x30"


def _encode_text(part: str) -> bytes:
    return b"\x20" + _escaped(part.encode("utf-8", "surrogatepass"))


def _encode_bytes(part: bytes) -> bytes:
    return b"\x40" + _escaped(part)


def _encode_instant(part: datetime) -> bytes:
    return _TAGGED.pack(_INSTANT, to_us(part) + _SIGN)


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    str: _encode_text,
    bool: _encode_bool,
    int: _encode_int,
    bytes: _encode_bytes,
    datetime: _encode_instant,
}


def _encode_other(part: KeyPart) -> bytes:
    """A part of a derived class, such as an enumeration's."""
    for kind, encode in _ENCODERS.items():
        if isinstance(part, kind):
            return encode(part)
    raise SchemaMismatch(f"{part!r} cannot be part of a key; keys are str, int, bool, bytes or datetime")


def _escaped(raw: bytes) -> bytes:
    """A zero byte becomes 00 FF and the end is 00 01: a text sorts before the longer ones that it begins, and its bytes begin none."""
    return raw.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def decode_key(encoded: bytes) -> Key:
    """The key that `encode_key` made these bytes from."""
    parts: list[KeyPart] = []
    at = 0
    while at < len(encoded):
        tag, at = encoded[at], at + 1
        if tag in (_FALSE, _TRUE):
            parts.append(tag == _TRUE)
        elif tag in (_INT, _INSTANT):
            value = int.from_bytes(encoded[at : at + 8], "big") - _SIGN
            parts.append(value if tag == _INT else to_datetime(value))
            at += 8
        else:
            end = _terminator(encoded, at)
            raw = encoded[at:end].replace(b"\x00\xff", b"\x00")
            parts.append(raw.decode("utf-8", "surrogatepass") if tag == _TEXT else raw)
            at = end + 2
    return tuple(parts)


def _terminator(encoded: bytes, at: int) -> int:
    end = encoded.index(b"\x00", at)
    while encoded[end + 1 : end + 2] == b"\xff":
        end = encoded.index(b"\x00", end + 2)
    return end


def partition_of(encoded: bytes, partitions: int) -> int:
    """The partition that a key's bytes belong to: a pinned hash, the same in every process and version."""
    if partitions == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big") % partitions
