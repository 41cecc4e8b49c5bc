"""What a person's own aggregate is a subclass of, and how a class comes back from its source; how it is folded and read is not here."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

import msgspec

from twofold.algebra import base
from twofold.algebra.base import OVERFLOW, Item, Window
from twofold.algebra.words import decode_wide, encode_wide

S = TypeVar("S")

OPAQUE = "opaque"
"""The kind of every state that only its own class understands."""
INPUTS = frozenset({"event", "str", "int", "float", "bool", "datetime", "category"})
"""Types of inputs that it may take."""
_BIG_INT = 1
"""Code of a MessagePack extension: an integer beyond 64 bits, two's complement, lowest byte first."""


class Aggregate(base.Aggregate[S]):
    """An aggregate of one's own: subclass it, then `tw.aggregate(Product, "price", over=["1h", "7d"])` is a feature like any other.

    A subclass says `accepts` (type names of inputs), `state_type` (plain data: tuples, lists and dicts with text keys of int, float,
    str, bool, bytes, datetime, None), `result_type` (left out: the input's), and defines `zero`, `add`, `merge` and `result`. States
    are values: no call changes one. `merge` is associative and commutative, `zero()` its identity, and adding an event is merging the
    state of that event alone; `twofold.testing.check_aggregate` tries all of it. What was given beside the input is in
    `self.parameters`. The class travels to replicas as source: it may name `math`, `np`, `datetime`, `timedelta`, `UTC`, `tw.Item`,
    `tw.Window`, `tw.OVERFLOW` and plain builtins.
    """

    state: ClassVar[str] = OPAQUE
    accepts: ClassVar[Collection[str]]  # type: ignore[assignment]
    state_type: ClassVar[Any]

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        cls.name = cls.__dict__.get("name", cls.__name__)
        accepts = cls.__dict__.get("accepts")
        if isinstance(accepts, Iterable) and not isinstance(accepts, str):
            cls.accepts = frozenset(accepts)

    def encode(self, state: S) -> tuple[int, ...]:
        """The words of MessagePack of exactly `state_type`; integers of any size, the entries of a dict in order of their keys."""
        return encode_wide(_packed(msgspec.convert(_plain(state), self.state_type)))

    def decode(self, words: tuple[int, ...]) -> S:
        """The state that `encode` made these words from; raises msgspec.ValidationError where it is no `state_type`."""
        state: S = _unpacked(decode_wide(words), self.state_type)
        return state


def _plain(state: Any) -> Any:
    """NumPy's scalars as Python's values, wherever they stand."""
    if isinstance(state, tuple | list):
        return type(state)(_plain(part) for part in state)
    if isinstance(state, dict):
        return {key: _plain(part) for key, part in state.items()}
    return state.item() if type(state).__module__ == "numpy" and hasattr(state, "item") else state


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


def _packed(state: Any) -> bytes:
    try:
        return _ENCODER.encode(state)
    except OverflowError:
        return _ENCODER.encode(_with_big_ints(state))


def _with_big_ints(state: Any) -> Any:
    if isinstance(state, int) and not -(2**63) <= state < 2**64:
        return msgspec.msgpack.Ext(_BIG_INT, state.to_bytes(state.bit_length() // 8 + 1, "little", signed=True))
    if isinstance(state, tuple | list):
        return [_with_big_ints(part) for part in state]
    return {key: _with_big_ints(part) for key, part in state.items()} if isinstance(state, dict) else state


def _unpacked(raw: bytes, state_type: Any) -> Any:
    try:
        return _decoder(state_type).decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(msgspec.msgpack.decode(raw, ext_hook=_big_int), state_type)


@functools.lru_cache(maxsize=256)
def _decoder(state_type: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(state_type)


def _big_int(code: int, raw: memoryview) -> int:
    return int.from_bytes(raw, "little", signed=True)


# A class from its source

BUILTINS = [
    "abs",
    "all",
    "any",
    "bool",
    "bytes",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "int",
    "isinstance",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "min",
    "next",
    "pow",
    "property",
    "range",
    "reversed",
    "round",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "zip",
    "ArithmeticError",
    "Exception",
    "IndexError",
    "KeyError",
    "OverflowError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
]
"""Builtins that its source may name: none whose answer differs from one process to the next."""
_NAMES = {
    "math": math,
    "datetime": datetime,
    "timedelta": timedelta,
    "UTC": UTC,
    "Item": Item,
    "Window": Window,
    "OVERFLOW": OVERFLOW,
    "Aggregate": Aggregate,
}
FREE_NAMES = frozenset({*_NAMES, "np"})
"""What its source may name beside builtins."""


def free_value(name: str) -> Any:
    """What one of FREE_NAMES stands for, wherever the class is used."""
    if name == "np":
        import numpy

        return numpy
    return _NAMES[name]


@functools.lru_cache(maxsize=1024)
def class_of_source(name: str, source: str) -> type[Aggregate[Any]]:
    """The class of a source that `definitions.own_source` has written and looked through."""
    import builtins

    allowed = {word: getattr(builtins, word) for word in BUILTINS}
    namespace = {word: free_value(word) for word in FREE_NAMES}
    namespace |= {"__builtins__": allowed | {"__build_class__": builtins.__build_class__}, "__name__": f"twofold.own.{name}"}
    exec(compile(source, f"<aggregate {name}>", "exec"), namespace)
    found: type[Aggregate[Any]] = namespace[name]
    return found
