"""What an aggregate is: a commutative monoid over events with immutable states. The plain meaning; kernels are tested against it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from twofold.errors import DefinitionError, did_you_mean

S = TypeVar("S")


class Item(NamedTuple):
    """One event as an aggregate sees it.

    `value` is never null. `order` breaks ties of event_time: (history version, row) of loaded history, which precedes
    (`LOG_ORDER` + partition, offset) of the log.
    """

    value: Any
    event_time: int
    order: tuple[int, int]


LOG_ORDER = 1 << 40
"""First part of the order of log events, above every history version."""


class Window(NamedTuple):
    """`[start_us, end_us)`, the tail already rounded down to the hop; `start_us` None is the beginning of time.

    `width_us` is the width that was asked for, without the rounding; None where all events before t count.
    """

    start_us: int | None
    end_us: int
    width_us: int | None


class Overflow:
    """The result lies beyond float64 or int64; served as null with the status `overflow`."""

    __name__ = "OVERFLOW"

    def __repr__(self) -> str:
        return "OVERFLOW"


OVERFLOW = Overflow()


class Aggregate(ABC, Generic[S]):
    """Zero, add, merge and result over immutable states.

    `merge` is associative and commutative, `zero()` its identity, and no call changes its arguments. `add` and `merge` commute, so
    arrival order never shows. `result` is a pure function of the state, t and the window.
    """

    name: ClassVar[str]
    state: ClassVar[str]
    """Kind of the state; aggregates of one kind over one input share it."""
    accepts: ClassVar[frozenset[str]]
    """Type names of inputs."""
    needs_window: ClassVar[bool] = False
    """Whether it has no meaning over all time."""
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Parameters that the laws are tried with."""

    def __init__(self, input_type: str, **parameters: Any) -> None:
        if input_type not in self.accepts:
            raise DefinitionError(f"{self.name} takes {', '.join(sorted(self.accepts))}; got {input_type}")
        self.input_type, self.parameters = input_type, parameters

    @property
    def result_type(self) -> str:
        """Type name of the results."""
        return self.input_type

    @property
    def size(self) -> int:
        """Size of the state, for kinds that have one; states of one kind, input and size are shared."""
        return 0

    @property
    def argument(self) -> int:
        """What the compiled result is told beside the state: a word."""
        return 0

    @property
    def result_words(self) -> int:
        """Words that the compiled result takes: 1, or 1 + the most values of a list."""
        return 1

    @abstractmethod
    def zero(self) -> S:
        """The state of no events."""

    @abstractmethod
    def add(self, state: S, item: Item) -> S:
        """The state with one event more."""

    @abstractmethod
    def merge(self, left: S, right: S) -> S:
        """The state of both states' events."""

    @abstractmethod
    def result(self, state: S, t_us: int, window: Window) -> Any:
        """The feature's value; None where the semantics say null, OVERFLOW beyond the type's range."""

    @abstractmethod
    def encode(self, state: S) -> tuple[int, ...]:
        """The state as signed 64-bit words, canonical: equal states give equal words."""

    @abstractmethod
    def decode(self, words: tuple[int, ...]) -> S:
        """The state that `encode` made these words from."""


NO_PARAMETERS: Mapping[str, Any] = MappingProxyType({})


def registered() -> dict[str, type[Aggregate[Any]]]:
    """Every aggregate by its name."""
    from twofold.algebra import counts, decay, distinct, extremes, histogram, moments, ordered, quantiles, recency

    classes: list[type[Aggregate[Any]]] = [
        counts.Count,
        counts.Rate,
        moments.Sum,
        moments.Mean,
        moments.Share,
        moments.Var,
        moments.Std,
        moments.Skew,
        moments.Kurtosis,
        decay.DecayedSum,
        decay.DecayedMean,
        extremes.Min,
        extremes.Max,
        extremes.AnyOf,
        extremes.AllOf,
        extremes.SmallestK,
        extremes.LargestK,
        ordered.First,
        ordered.Last,
        ordered.FirstK,
        ordered.LastK,
        recency.TimeSinceLast,
        distinct.Distinct,
        distinct.DistinctExact,
        quantiles.Quantile,
        histogram.Histogram,
    ]
    return {cls.name: cls for cls in classes}


def aggregate(name: str, input_type: str, parameters: Mapping[str, Any] = NO_PARAMETERS) -> Aggregate[Any]:
    """The aggregate of that name over inputs of that type; raises DefinitionError, for an unknown name with the nearest."""
    known = registered()
    if name not in known:
        raise DefinitionError(f"there is no aggregate {name!r}; there are {', '.join(sorted(known))}.{did_you_mean(name, known)}")
    return known[name](input_type, **parameters)
