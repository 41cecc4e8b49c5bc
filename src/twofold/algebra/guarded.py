"""An aggregate of one's own as engines call it: whatever its code does, a value or a status comes out, the same in every engine."""

from __future__ import annotations

import logging
import math
import struct
from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple

from twofold.algebra.base import OVERFLOW, Aggregate, Item, Window
from twofold.algebra.kinds import EMPTY, FAILED, PRESENT
from twofold.algebra.kinds import OVERFLOW as OVERFLOWN
from twofold.algebra.words import element_type

_log = logging.getLogger(__name__)


class Broken:
    """A state that could not be made: merged with any other it stays so, and its value is null with the status `failed`."""

    def __repr__(self) -> str:
        return "BROKEN"


BROKEN = Broken()


class Held(NamedTuple):
    """How many events a state is made of, and the state (or BROKEN)."""

    n: int
    state: Any


class WrongResult(TypeError):
    """A result that is not of the aggregate's `result_type`."""


class Guarded:
    """Calls an aggregate; every state is what its own words give back, in every engine, stored or not.

    An event on which `add` to the state of no events raises counts like a null: that is decided by the event alone. Where `merge`,
    `encode` or `result` raise, or a result is of a wrong type, the value is null and `failed`. Both are counted in `failures`, and
    the first of each call is kept in `failure_texts` and logged, with `what` (names of aggregate, feature and view).
    """

    def __init__(self, aggregate: Aggregate[Any], what: str, is_quiet: bool = False) -> None:
        self.aggregate, self.what, self._is_quiet = aggregate, what, is_quiet
        self.failures: Counter[str] = Counter()
        self.failure_texts: dict[str, str] = {}
        try:
            self.zero = Held(0, self._as_stored(aggregate.zero()))
        except Exception as error:
            self.zero = Held(0, self._failed("zero", error))

    def lifted(self, item: Item) -> Held | None:
        """The state of one event; None where the event has none."""
        try:
            return Held(1, self._as_stored(self.aggregate.add(self.aggregate.zero(), item)))
        except Exception as error:
            self._failed("add", error)
            return None

    def added(self, held: Held, item: Item) -> Held:
        """The state with one event more, by `add` itself; equal to merging what `lifted` gives."""
        if self.lifted(item) is None:
            return held
        if held.state is BROKEN:
            return Held(held.n + 1, BROKEN)
        try:
            return Held(held.n + 1, self.aggregate.add(held.state, item))
        except Exception as error:
            return Held(held.n + 1, self._failed("add", error))

    def merged(self, left: Held, right: Held) -> Held:
        """The state of both states' events; that of no events changes nothing."""
        if left.n == 0 or right.n == 0:
            return right if left.n == 0 else left
        if left.state is BROKEN or right.state is BROKEN:
            return Held(left.n + right.n, BROKEN)
        try:
            return Held(left.n + right.n, self._as_stored(self.aggregate.merge(left.state, right.state)))
        except Exception as error:
            return Held(left.n + right.n, self._failed("merge", error))

    def result(self, held: Held, t_us: int, window: Window) -> tuple[Any, int]:
        """(value, status code) at t: a value of the result type, None where it is null."""
        if held.state is BROKEN:
            return None, FAILED
        try:
            value = conformed(self.aggregate.result(held.state, t_us, window), self.aggregate.result_type)
        except Exception as error:
            self._failed("result", error)
            return None, FAILED
        if value is OVERFLOW:
            return None, OVERFLOWN
        return value, EMPTY if value is None or held.n == 0 else PRESENT

    def words(self, held: Held) -> tuple[int, ...] | None:
        """The words of a state, None of a broken one."""
        return None if held.state is BROKEN else self.aggregate.encode(held.state)

    def held(self, n: int, words: tuple[int, ...] | None) -> Held:
        """The state that `words` gave."""
        if words is None:
            return Held(n, BROKEN)
        try:
            return Held(n, self.aggregate.decode(words))
        except Exception as error:
            return Held(n, self._failed("decode", error))

    def _as_stored(self, state: Any) -> Any:
        words = tuple(self.aggregate.encode(state))
        struct.pack(f"{len(words)}q", *words)  # What a class of its own encoding gives must fit the store, or be known not to here.
        return self.aggregate.decode(words)

    def _failed(self, call: str, error: Exception) -> Broken:
        text = f"{self.what}: {call} raises {type(error).__name__}: {error}"
        if not self.failures[call] and not self._is_quiet:
            outcome = "such events count as null" if call == "add" else "the value is null and failed"
            _log.warning("%s; %s", text, outcome)
        self.failures[call] += 1
        self.failure_texts.setdefault(call, text)
        return BROKEN


_PYTHON_TYPES: dict[str, type] = {"float": float, "int": int, "bool": bool, "str": str, "category": str, "datetime": datetime}


def conformed(value: Any, kind: str) -> Any:
    """A result as a value of a type: NaN and infinities are null, -0.0 is 0.0, integers beyond 64 bits OVERFLOW; raises WrongResult."""
    if value is None or value is OVERFLOW:
        return value
    if kind.startswith("list["):
        if not isinstance(value, list | tuple):
            raise WrongResult(f"the result is {value!r}, and its type is {kind}")
        found = [conformed(part, element_type(kind)) for part in value]
        return OVERFLOW if any(part is OVERFLOW for part in found) else found
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if kind == "float" and type(value) is int:
        value = _as_float(value)
    if value is OVERFLOW:
        return OVERFLOW
    if type(value) is not _PYTHON_TYPES[kind]:
        raise WrongResult(f"the result is {value!r}, and its type is {kind}")
    return _in_range(value, kind)


def _in_range(value: Any, kind: str) -> Any:
    if kind == "float":
        return value + 0.0 if math.isfinite(value) else None
    if kind == "int":
        return value if -(2**63) <= value < 2**63 else OVERFLOW
    if kind == "datetime":
        if value.utcoffset() is None:
            raise WrongResult(f"the result is {value!r}, a datetime without a zone")
        return value.astimezone(UTC)
    return value


def _as_float(value: int) -> Any:
    try:
        return float(value)
    except OverflowError:
        return OVERFLOW
