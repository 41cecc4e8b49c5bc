"""Checks for what users add themselves: laws of aggregates, strategies of hostile values, every mode against the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twofold.algebra.own import Aggregate

__all__ = ["check_aggregate"]


def check_aggregate(aggregate: Aggregate[Any], examples: int | None = None, stories: int = 2, seed: int = 0) -> None:
    """Try an aggregate of one's own, made as for one input and its parameters; raises AssertionError that says what is wrong.

    Its definition is checked, the laws are tried on `examples` random lists of events (None: as the settings of Hypothesis say), and
    in so many random `stories` of a home (of `seed`) history, generation, delta, and generation with delta are compared with the
    reference. Needs the extra `testing`, and no project: `check_aggregate(Product("int"))` is a whole test.
    """
    from twofold.testing.own import check_aggregate as checked

    checked(aggregate, examples, stories, seed)
