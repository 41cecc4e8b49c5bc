"""Registers of a HyperLogLog compiled: what `distinct.py` says, on areas and words.

Area: `[n, p, held, counts, ranks, touched]`: how many of the 2^p registers are not 0, how many have each rank, the registers' ranks,
and the numbers of the ones that are not 0 (so that few of them are cleared, merged and closed fast).
"""

from __future__ import annotations

import math

from numba import njit

from twofold.algebra.distinct import LIMIT, PAIR_BITS, PAIRS_A_WORD, RANK_BITS, RANKS_A_WORD

HELD, COUNTS = 2, 3
RANKS = COUNTS + (1 << RANK_BITS)
_RANK_MASK, _PAIR_MASK = (1 << RANK_BITS) - 1, (1 << PAIR_BITS) - 1


def area_size(p: int) -> int:
    """Words of an area of 2^p registers."""
    return RANKS + 2 * (1 << p)


@njit(cache=True, inline="always")
def register_and_rank(hashed, p):
    """(register, rank) of a hash: its first p bits, and the place of the first 1 in what follows."""
    register = (hashed >> (64 - p)) & ((1 << p) - 1)
    rank, most = 1, 65 - p
    while rank < most and not (hashed >> (64 - p - rank)) & 1:
        rank += 1
    return register, rank


@njit(cache=True, inline="always")
def insert(area, base, hashed):
    """Add the value of a hash; n is the caller's."""
    register, rank = register_and_rank(hashed, area[base + 1])
    raise_to(area, base, register, rank)


@njit(cache=True, inline="always")
def raise_to(area, base, register, rank):
    """Let a register have at least that rank, which is above 0."""
    before = area[base + RANKS + register]
    if rank <= before:
        return
    if before:
        area[base + COUNTS + before] -= 1
    else:
        area[base + RANKS + (1 << area[base + 1]) + area[base + HELD]] = register
        area[base + HELD] += 1
    area[base + RANKS + register] = rank
    area[base + COUNTS + rank] += 1


@njit(cache=True)
def clear(area, base):
    """Make all registers 0 again."""
    touched = base + RANKS + (1 << area[base + 1])
    for i in range(touched, touched + area[base + HELD]):
        area[base + RANKS + area[i]] = 0
    area[base + HELD] = 0
    for rank in range(1 << RANK_BITS):
        area[base + COUNTS + rank] = 0


@njit(cache=True)
def merge(area, base, other, other_base):
    """Raise the registers to those of another area."""
    touched = other_base + RANKS + (1 << other[other_base + 1])
    for i in range(touched, touched + other[other_base + HELD]):
        raise_to(area, base, other[i], other[other_base + RANKS + other[i]])


@njit(cache=True)
def merge_words(area, base, words, at):
    """Raise the registers to those of a closed state whose words after n begin at `at`; returns where the next state begins."""
    held, p = words[at], area[base + 1]
    at += 1
    if not _is_dense(held, p):
        for i in range(held):
            pair = (words[at + i // PAIRS_A_WORD] >> (i % PAIRS_A_WORD * PAIR_BITS)) & _PAIR_MASK
            raise_to(area, base, pair >> RANK_BITS, pair & _RANK_MASK)
        return at + _sparse_words(held)
    for register in range(1 << p):
        rank = (words[at + register // RANKS_A_WORD] >> (register % RANKS_A_WORD * RANK_BITS)) & _RANK_MASK
        if rank:
            raise_to(area, base, register, rank)
    return at + _dense_words(p)


@njit(cache=True, inline="always")
def _sparse_words(held):
    return (held + PAIRS_A_WORD - 1) // PAIRS_A_WORD


@njit(cache=True, inline="always")
def _dense_words(p):
    return ((1 << p) + RANKS_A_WORD - 1) // RANKS_A_WORD


@njit(cache=True, inline="always")
def _is_dense(held, p):
    """Whether a closed state has all registers: see `distinct.is_dense`."""
    return _sparse_words(held) > _dense_words(p)


@njit(cache=True)
def closed_size(area, base):
    """Words that `close` writes."""
    return 1 + min(_sparse_words(area[base + HELD]), _dense_words(area[base + 1]))


@njit(cache=True)
def close(area, base, out, at):
    """Write the registers, after n; returns where the next state begins."""
    held, p = area[base + HELD], area[base + 1]
    out[at] = held
    at += 1
    if not _is_dense(held, p):
        end = at + _sparse_words(held)
        out[at:end] = 0
        begin = base + RANKS + (1 << p)
        touched = area[begin : begin + held]
        touched.sort()
        for i in range(held):
            pair = (touched[i] << RANK_BITS) | area[base + RANKS + touched[i]]
            out[at + i // PAIRS_A_WORD] |= pair << (i % PAIRS_A_WORD * PAIR_BITS)
        return end
    end = at + _dense_words(p)
    out[at:end] = 0
    for register in range(1 << p):
        out[at + register // RANKS_A_WORD] |= area[base + RANKS + register] << (register % RANKS_A_WORD * RANK_BITS)
    return end


@njit(cache=True)
def estimate(area, base):
    """The estimate, from `held` and the counts of ranks alone: see `distinct.estimate`."""
    p = area[base + 1]
    m, q = 1 << p, 64 - p
    z = m * _tau(1.0 - area[base + COUNTS + q + 1] / m)
    for rank in range(q, 0, -1):
        z = 0.5 * (z + area[base + COUNTS + rank])
    z += m * _sigma(1.0 - area[base + HELD] / m)
    return math.floor(LIMIT * m * m / z + 0.5)


@njit(cache=True)
def _sigma(x):
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


@njit(cache=True)
def _tau(x):
    if x == 0.0 or x == 1.0:
        return 0.0
    y, z, before = 1.0, 1.0 - x, -1.0
    while z != before:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1.0 - x) * (1.0 - x) * y
    return z / 3.0
