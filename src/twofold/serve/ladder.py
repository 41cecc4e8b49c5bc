"""The ladder: what answers when the live model cannot. Live, then the model's fallbacks in their order, each saying that it was it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from twofold.errors import Corrupt, DeadlineExceeded, LogUnavailable, NotBuilt, StoreUnavailable, TwofoldError, Unavailable, UnknownName
from twofold.plan.serving import ModelPlan
from twofold.serve.cache import Cached, PredictionCache
from twofold.serve.requests import Request

LIVE, CACHED, DEFAULT = "live", "cached", "default"


class NotTrained(NotBuilt):
    """No version of the model answers yet; its fallbacks do."""

    def __init__(self, model: str) -> None:
        super().__init__(f"model {model!r} has no version that answers: run `twofold train {model}`; of a feature set ask for its vectors")


_WORDS = {
    NotTrained: "not trained",
    DeadlineExceeded: "deadline",
    StoreUnavailable: "store unavailable",
    LogUnavailable: "log unavailable",
    Corrupt: "store corrupt",
}


class Step(NamedTuple):
    """What a rung below the live model answered: the prediction (any JSON value), who it was, the model version and the instant of it."""

    prediction: Any
    served_by: str
    version: str | None
    at_us: int


def falls(error: Exception) -> bool:
    """Whether an error of the live model sends a request down the ladder; a view that was never built, or does not exist, does not."""
    return isinstance(error, NotTrained) or not isinstance(error, NotBuilt | UnknownName)


def why(error: Exception) -> str:
    """An error in the few words of an answer's `degraded`."""
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words
    return f"model failed: {type(error).__name__}"


class Ladder:
    """The rungs below the live model, for one model."""

    def __init__(self, plan: ModelPlan, cache: PredictionCache) -> None:
        self._plan, self._cache = plan, cache
        self.remembers = any(item.kind == CACHED for item in plan.fallback)

    def content(self, request: Request) -> Hashable:
        """What makes two requests the same."""
        return (self._plan.name, *request.values())

    def remember(self, request: Request, prediction: Any, at_us: int) -> None:
        """Keep a live prediction, if this model may answer with it later."""
        if self.remembers:
            self._cache.put(self.content(request), Cached(prediction, self._plan.version or "", at_us))

    def descend(self, requests: Sequence[Request], now_us: int, at_us: int | None, error: Exception) -> list[Step]:
        """The first rung's answer to each request; raises the live model's error where a request finds none."""
        return [self._descend(request, now_us, at_us, error) for request in requests]

    def _descend(self, request: Request, now_us: int, at_us: int | None, error: Exception) -> Step:
        for item in self._plan.fallback:
            if item.kind == DEFAULT:
                return Step(item.value, DEFAULT, self._plan.version, now_us if at_us is None else at_us)
            found = self._cache.get(self.content(request))
            if found is not None and _is_fresh(found, now_us, at_us, item.max_age_us):
                return Step(found.prediction, CACHED, found.version, found.at_us)
        if isinstance(error, TwofoldError):
            raise error
        text = f"model {self._plan.name!r} failed and has no fallback that can answer: {type(error).__name__}: {error}"
        raise Unavailable(text) from error


def _is_fresh(found: Cached, now_us: int, at_us: int | None, max_age_us: int) -> bool:
    """Whether a cached prediction may stand for the instant asked for: not too old for it, and none of a later instant."""
    if at_us is None:
        return now_us - found.at_us <= max_age_us
    return 0 <= at_us - found.at_us <= max_age_us
