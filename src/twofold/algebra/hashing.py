"""The pinned 64-bit hash of a value's canonical words, plain and compiled: one meaning for ever, for it lies in stored states.

A value is how it lies in words (FLOAT, INT or WIDE, as a tag) and then its words: one, or a count of bytes and the bytes padded. The
hash is a chain over them, h = mix(h ^ word), where mix is the output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable
Pseudorandom Number Generators, 2014). mix is a bijection, so no two values of one word have one hash.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from twofold.algebra.kinds import FLOAT, INT, WIDE
from twofold.algebra.wide import wide_words
from twofold.algebra.words import WIDE_TYPES, encode_any

_MASK = (1 << 64) - 1
_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hash_of(value: object, kind: str) -> int:
    """The hash of a value of that type, 0 <= hash < 2^64: the plain meaning."""
    hashed = WIDE if kind in WIDE_TYPES else FLOAT if kind == "float" else INT
    for word in encode_any(value, kind):
        hashed = _mix(hashed ^ (word & _MASK))
    return hashed


def _mix(word: int) -> int:
    word = (word + _STEP) & _MASK
    word = ((word ^ (word >> 30)) * _FIRST) & _MASK
    word = ((word ^ (word >> 27)) * _SECOND) & _MASK
    return word ^ (word >> 31)


_STEP_U, _FIRST_U, _SECOND_U = np.uint64(_STEP), np.uint64(_FIRST), np.uint64(_SECOND)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


@njit(cache=True, inline="always")
def _mixed(word):
    word = word + _STEP_U
    word = (word ^ (word >> _30)) * _FIRST_U
    word = (word ^ (word >> _27)) * _SECOND_U
    return word ^ (word >> _31)


@njit(cache=True, inline="always")
def hash_word(word, value_kind):
    """The hash of a value of one word, its bits as a signed word."""
    return np.int64(_mixed(np.uint64(value_kind) ^ np.uint64(word)))


@njit(cache=True)
def hash_wide(words, at):
    """The hash of the wide value at words[at], its bits as a signed word."""
    hashed = np.uint64(WIDE)
    for i in range(at, at + wide_words(words, at)):
        hashed = _mixed(hashed ^ np.uint64(words[i]))
    return np.int64(hashed)


@njit(cache=True, nogil=True)
def hash_texts(offsets, raw):
    """The hash of each text whose bytes are `raw[offsets[i]:offsets[i+1]]`, their bits as signed words: that of `hash_wide`."""
    out = np.empty(offsets.size - 1, np.int64)
    for i in range(out.size):
        hashed = _mixed(np.uint64(WIDE) ^ np.uint64(offsets[i + 1] - offsets[i]))
        for begin in range(offsets[i], offsets[i + 1], 8):
            word = np.uint64(0)
            for at in range(min(begin + 8, offsets[i + 1]) - 1, begin - 1, -1):
                word = (word << np.uint64(8)) | np.uint64(raw[at])
            hashed = _mixed(hashed ^ word)
        out[i] = np.int64(hashed)
    return out
