"""Wide values compiled: texts and rows as references to a count of bytes that the bytes follow, padded to whole words.

A reference `r >= 0` points into the words at hand, `~r` into the heap of incoming events.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, inline="always")
def wide_words(words, at):
    """Number of words that a wide value at words[at] takes, its count of bytes included."""
    return 1 + (words[at] + 7) // 8


@njit(cache=True)
def referenced_words(reference, words, heap):
    """Number of words that the wide value behind a reference takes."""
    return wide_words(words, reference) if reference >= 0 else wide_words(heap, ~reference)


@njit(cache=True)
def copy_wide(reference, words, heap, out, at):
    """Write the wide value behind a reference to out[at]; returns where the next word goes."""
    source, start = (words, reference) if reference >= 0 else (heap, ~reference)
    count = wide_words(source, start)
    for i in range(count):
        out[at + i] = source[start + i]
    return at + count


@njit(cache=True)
def is_less(left, right, words, heap):
    """Whether the bytes behind one reference come before those behind another: of texts in UTF-8 the order of their characters."""
    a, i = (words, left) if left >= 0 else (heap, ~left)
    b, j = (words, right) if right >= 0 else (heap, ~right)
    # Padding is zero: where one value begins the other, the longer has the greater word, or all words are equal and the count decides.
    for at in range(1, min(wide_words(a, i), wide_words(b, j))):
        if a[i + at] != b[j + at]:
            return _big_endian(a[i + at]) < _big_endian(b[j + at])
    return a[i] < b[j]


@njit(cache=True)
def _big_endian(word):
    """A word's eight bytes as one number, the first byte highest."""
    number = np.uint64(0)
    for _ in range(8):
        number = (number << np.uint64(8)) | np.uint64(word & 255)
        word >>= 8
    return number
