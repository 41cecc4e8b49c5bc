"""Values as signed 64-bit words: the cell of states, tiles and kernels."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Any

from twofold.instants import to_datetime, to_us

WIDE_TYPES = frozenset({"str", "category", "row"})
"""Types whose values are bytes of any length: a count of bytes, then the bytes padded to whole words."""


def element_type(type_name: str) -> str:
    """Type name of a list's elements; of any other type the type itself.

    >>> element_type("list[int]"), element_type("float")
    ('int', 'float')
    """
    return type_name[5:-1] if type_name.startswith("list[") else type_name


def encode_value(value: Any, kind: str) -> int:
    """The word of a float (its bits), integer, boolean or instant."""
    if kind == "float":
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    if isinstance(value, datetime):
        return to_us(value)
    return int(value)


def decode_value(word: int, kind: str) -> Any:
    """The value of a word."""
    if kind == "float":
        return struct.unpack("<d", struct.pack("<q", word))[0]
    if kind == "bool":
        return bool(word)
    return to_datetime(word) if kind == "datetime" else word


def encode_wide(value: str | bytes) -> tuple[int, ...]:
    """Words of a text or of bytes: the number of bytes first."""
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    padded = raw + b"\x00" * (-len(raw) % 8)
    return (len(raw), *struct.unpack(f"<{len(padded) // 8}q", padded))


def decode_wide(words: tuple[int, ...]) -> bytes:
    """The bytes of words that `encode_wide` made."""
    return struct.pack(f"<{len(words) - 1}q", *words[1:])[: words[0]]


def encode_any(value: Any, kind: str) -> tuple[int, ...]:
    """Words of a value of any type."""
    return encode_wide(value) if kind in WIDE_TYPES else (encode_value(value, kind),)


def decode_any(words: tuple[int, ...], at: int, kind: str) -> tuple[Any, int]:
    """(the value whose words begin at words[at], where the next one begins)."""
    if kind not in WIDE_TYPES:
        return decode_value(words[at], kind), at + 1
    end = at + 1 + (words[at] + 7) // 8
    raw = decode_wide(words[at:end])
    return raw if kind == "row" else raw.decode("utf-8", "surrogatepass"), end
