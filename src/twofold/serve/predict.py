"""Answers: requests in, one answer each out, by the live model or the first rung below it that can; each recorded before it is given."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from twofold.bell import Bell
from twofold.errors import DataError, LogMismatch, did_you_mean, known
from twofold.instants import to_iso
from twofold.log.base import Position
from twofold.plan.merge import age_s
from twofold.plan.served import Served
from twofold.plan.serving import ModelPlan, PredictorPlan, ServingPlan
from twofold.predictors.base import Predictor
from twofold.serve.applied import DOING, wait_until_applied
from twofold.serve.cache import PredictionCache
from twofold.serve.deadline import Deadline, InCall, Isolation
from twofold.serve.features import FeatureReader, KeyRead, Vector
from twofold.serve.ladder import LIVE, Ladder, NotTrained, falls, why
from twofold.serve.matrix import ModelInputs
from twofold.serve.requests import Request, RequestCheck

Answer = dict[str, Any]
"""`id`, `prediction` (of several labels an object), `served_by` (live, cached, default), `model` (name@version), `at`, `position`,
`degraded`, `views`."""

Load = Callable[[PredictorPlan], Predictor]
Record = Callable[[Sequence[Served]], None]

_OUTPUTS = {"probability": ("probability", "class"), "value": ("value",)}
"""What a predictor gives -> what `output` may ask for; "class" is whether the probability is at least 0.5."""
_ANY_OUTPUT = tuple(dict.fromkeys(name for names in _OUTPUTS.values() for name in names))

_HOLLOW = ("ahead", "unbuilt")
_log = logging.getLogger(__name__)


class _Served:
    """One model as it is served: its plan, its predictor or why there is none, its inputs and its ladder."""

    def __init__(self, plan: ModelPlan, serving: ServingPlan, load: Load, cache: PredictionCache) -> None:
        self.plan, self.inputs, self.ladder = plan, ModelInputs(plan, serving), Ladder(plan, cache)
        self.title = plan.name if plan.version is None else f"{plan.name}@{plan.version[:8]}"
        self._labels = () if plan.predictor is None else tuple(name for name, _ in plan.predictor.outputs)
        self._untold, self._quiet_until_s = 0, 0.0
        self.predictor: Predictor | Exception = NotTrained(plan.name) if plan.predictor is None else self._loaded(load, plan.predictor)

    def _loaded(self, load: Load, plan: PredictorPlan) -> Predictor | Exception:
        try:
            return load(plan)
        except Exception as error:  # the other models are served all the same, and this one's fallbacks
            _log.error("model %s cannot be loaded: %s", self.title, error)
            return error

    def tell(self, count: int, failure: Exception) -> None:
        """Write down that requests were answered below the live model, once a second at most."""
        self._untold += count
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            _log.warning("%s has answered %d requests below the live model, lately for: %s", self.title, self._untold, failure)
            self._untold, self._quiet_until_s = 0, now_s + 1

    def predict(self, requests: Sequence[Request], vectors: Sequence[Vector]) -> list[Any]:
        """One finite prediction a request, of several labels an object of one each. Raises what the predictor raises."""
        if isinstance(self.predictor, Exception):
            raise self.predictor.with_traceback(None)  # each call would add to the traceback, and keep its requests
        if len(requests) == 1:
            predictions: list[Any] = [self.predictor.predict_one(self.inputs.row(requests[0], vectors[0]))]
        else:
            predictions = self.predictor.predict(self.inputs.matrix(requests, vectors)).tolist()
        for prediction in predictions:
            if not all(map(math.isfinite, prediction)) if self._labels else not math.isfinite(prediction):
                raise ArithmeticError(f"the predictor of {self.title} answered {prediction}")
        return [dict(zip(self._labels, found, strict=True)) for found in predictions] if self._labels else predictions


class ModelServer:
    """Answers for all models of one serving plan. Threads may share it; a new plan gets a new server and may keep the cache.

    `record` gets the answers of a call, in order, before they are returned. `isolation` says where the live model works: in the
    caller's thread, or where a hanging part can be left behind.
    """

    def __init__(
        self,
        plan: ServingPlan,
        reader: FeatureReader,
        load: Load,
        record: Record,
        bell: Bell | None = None,
        cache: PredictionCache | None = None,
        isolation: Isolation | None = None,
    ) -> None:
        self.plan, self.reader = plan, reader
        self.isolation = isolation or InCall()
        self._record, self._bell = record, bell
        cache = PredictionCache() if cache is None else cache
        self._models = {name: _Served(model, plan, load, cache) for name, model in plan.models.items()}
        self._start, self._count = os.urandom(6).hex(), itertools.count(1)

    def check(self, model: str) -> RequestCheck:
        """The check of a model's requests. Raises UnknownName."""
        return self.reader.check(model)

    def predict(
        self,
        model: str,
        requests: Sequence[Mapping[str, Any]],
        at_us: int | None = None,
        after: Position | None = None,
        deadline_us: int | None = None,
        output: str | None = None,
    ) -> list[Answer]:
        """One answer a request, in order, by the first rung that can.

        Waits until `after` is applied, within the deadline (default: the model's). Raises SchemaMismatch for a request that does
        not fit the model, UnknownName, LogMismatch, DataError for an `output` that the model does not have, NotBuilt; the live
        model's own error where no rung is left.
        """
        rows = self.check(model).rows(requests)
        deadline = self.deadline(model, deadline_us)
        return self.answer(model, rows, at_us, deadline, self.wait(after, deadline), output)

    def deadline(self, model: str, deadline_us: int | None = None) -> Deadline:
        """The deadline of a call that begins now. Raises UnknownName."""
        return Deadline(known(self.plan.models, model, "model").deadline_us if deadline_us is None else deadline_us)

    def wait(self, after: Position | None, deadline: Deadline) -> Exception | None:
        """Wait until a position is applied; the error that sends the call down the ladder, None where there is none."""
        if after is None:
            return None
        try:
            self.isolation.run(lambda: wait_until_applied(self.reader, after, deadline, self._bell), deadline, DOING)
        except (LogMismatch, DataError):
            raise
        except Exception as error:
            return error
        return None

    def answer(
        self,
        model: str,
        requests: Sequence[Request],
        at_us: int | None,
        deadline: Deadline,
        failure: Exception | None = None,
        output: str | None = None,
    ) -> list[Answer]:
        """`predict` of requests that were checked, after any waiting; a `failure` sends all of them down the ladder."""
        served = known(self._models, model, "model")
        shape = _shape_of(served, output)
        if served.plan.predictor is None:
            failure = NotTrained(model)
        if failure is None:
            try:
                return self._live(served, requests, at_us, deadline, shape)
            except Exception as error:
                if not falls(error):
                    raise
                failure = error
        return self._fallen(served, requests, at_us, failure, shape)

    def vectors(
        self, model: str, requests: Sequence[Request], at_us: int | None, deadline: Deadline, failure: Exception | None = None
    ) -> list[Answer]:
        """A model's whole input for each checked request: `columns` by name, beside what every answer has. No rung but the live one."""
        served = known(self._models, model, "model")
        if failure is not None:
            raise failure
        vectors = self._read(served, requests, at_us, deadline)
        columns = served.inputs.columns(requests, vectors)
        return self._given(served, requests, vectors, [None] * len(requests), "columns", columns)

    def features(
        self, view: str, keys: Sequence[Any], at_us: int | None, deadline: Deadline, failure: Exception | None = None
    ) -> list[KeyRead]:
        """`FeatureReader.features` within a deadline; not recorded."""
        if failure is not None:
            raise failure
        return self.isolation.run(lambda: self.reader.features(view, keys, at_us), deadline, "reading features")

    def not_loaded(self) -> list[str]:
        """The models whose predictor cannot be loaded, each with its error; their fallbacks answer meanwhile."""
        failed = [
            served for served in self._models.values() if served.plan.predictor is not None and isinstance(served.predictor, Exception)
        ]
        return [f"model {served.title}: {served.predictor}" for served in failed]

    def warm(self) -> None:
        """Have kernels and predictors ready in this thread before the first request."""
        self.reader.warm()
        for served in self._models.values():
            if not isinstance(served.predictor, Exception):
                try:
                    served.predictor.predict_one(np.full(served.inputs.width, np.nan))
                except Exception as error:
                    _log.warning("model %s refuses a row of nulls: %s", served.title, error)

    def _new_id(self) -> str:
        """A name that no other answer has, in any process."""
        return f"{self._start}-{next(self._count):x}"

    def _read(self, served: _Served, requests: Sequence[Request], at_us: int | None, deadline: Deadline) -> list[Vector]:
        doing = "reading features"
        vectors = self.isolation.run(lambda: self.reader.read(served.plan.name, requests, at_us), deadline, doing)
        deadline.check(doing)
        return vectors

    def _live(
        self, served: _Served, requests: Sequence[Request], at_us: int | None, deadline: Deadline, shape: Callable[[Any], Any]
    ) -> list[Answer]:
        vectors = self._read(served, requests, at_us, deadline)
        predictions = self.isolation.run(lambda: served.predict(requests, vectors), deadline, "predicting") if requests else []
        if served.ladder.remembers:
            for request, vector, prediction in zip(requests, vectors, predictions, strict=True):
                served.ladder.remember(request, prediction, vector.at_us)
        shaped = [shape(prediction) for prediction in predictions]
        return self._given(served, requests, vectors, shaped, "prediction", shaped)

    def _given(
        self,
        served: _Served,
        requests: Sequence[Request],
        vectors: Sequence[Vector],
        predictions: Sequence[Any],
        what: str,
        given: Sequence[Any],
    ) -> list[Answer]:
        """Answers that were read live: recorded, and as the caller gets them."""
        labels = self.reader.reads(served.plan.name).labels
        now_us = self.reader.clock.now_us()
        answers, records = [], []
        for request, vector, prediction, shown in zip(requests, vectors, predictions, given, strict=True):
            views = {label: {"status": read.status, "age_s": age_s(read.age_us)} for label, read in zip(labels, vector.reads, strict=True)}
            hollow = [f"{label} {view['status']}" for label, view in views.items() if view["status"] in _HOLLOW]
            answer = _answer(self._new_id(), what, shown, LIVE, served.title, vector.at_us, vector.position, ", ".join(hollow) or None)
            answer["views"] = views
            answers.append(answer)
            records.append(
                Served(
                    answer["id"],
                    served.plan.name,
                    served.plan.version,
                    vector.at_us,
                    now_us,
                    LIVE,
                    request,
                    vector.reads,
                    vector.offsets,
                    vector.columns,
                    prediction,
                    answer["degraded"],
                )
            )
        return self._recorded(answers, records)

    def _fallen(
        self, served: _Served, requests: Sequence[Request], at_us: int | None, failure: Exception, shape: Callable[[Any], Any]
    ) -> list[Answer]:
        """Answers of the rungs below the live model."""
        now_us = self.reader.clock.now_us()
        degraded, name = why(failure), served.plan.name
        answers, records = [], []
        for request, step in zip(requests, served.ladder.descend(requests, now_us, at_us, failure), strict=True):
            title = name if step.version is None else f"{name}@{step.version[:8]}"
            answer = _answer(self._new_id(), "prediction", shape(step.prediction), step.served_by, title, step.at_us, None, degraded)
            answers.append(answer)
            prediction, version = answer["prediction"], step.version
            record = Served(
                answer["id"], name, version, step.at_us, now_us, step.served_by, request, (), {}, {}, prediction, answer["degraded"]
            )
            records.append(record)
        served.tell(len(requests), failure)
        return self._recorded(answers, records)

    def _recorded(self, answers: list[Answer], records: list[Served]) -> list[Answer]:
        """The answers, once they are recorded; an answer that cannot be recorded is given all the same, and says so."""
        try:
            self._record(records)
        except Exception as error:
            _log.error("answers cannot be recorded: %s", error)
            for answer in answers:
                answer["degraded"] = "; ".join(filter(None, (answer["degraded"], "not recorded")))
        return answers


def _answer(
    name: str, what: str, given: Any, served_by: str, title: str, at_us: int, position: str | None, degraded: str | None
) -> dict[str, Any]:
    return {
        "id": name,
        what: given,
        "served_by": served_by,
        "model": title,
        "at": to_iso(at_us),
        "position": position,
        "degraded": degraded,
        "views": {},
    }


def _shape_of(served: _Served, output: str | None) -> Callable[[Any], Any]:
    """From a prediction to what the call asks for. Raises DataError for an output that the model does not have.

    Which labels have probabilities a trained model knows: NotTrained for the classes of several labels of one that is not.
    """
    predictor, name = served.plan.predictor, served.plan.name
    if output is None:
        return _same
    if predictor is None:
        if output not in _ANY_OUTPUT:
            raise _no_output(name, output, _ANY_OUTPUT)
        if output == "class" and served.plan.labels:
            raise NotTrained(name)
        return _is_positive if output == "class" else _same
    outputs = dict(predictor.outputs)
    kinds = set(outputs.values()) or {predictor.output}
    if kinds == {output}:
        return _same
    allowed = [name for kind in sorted(kinds) for name in _OUTPUTS.get(kind, (kind,)) if name == "class" or len(kinds) == 1]
    if output not in allowed:
        raise _no_output(name, output, allowed)
    return (lambda prediction: _classes(prediction, outputs)) if outputs else _is_positive


def _no_output(model: str, output: str, allowed: Sequence[str]) -> DataError:
    has = ", ".join(allowed) or "none that can be chosen"
    return DataError(f"model {model!r} has no output {output!r}; it has {has}.{did_you_mean(output, allowed)}")


def _same(prediction: Any) -> Any:
    return prediction


def _is_positive(probability: Any) -> Any:
    """The class of a probability; a declared default that is no number stays what it is."""
    return probability >= 0.5 if isinstance(probability, int | float) and not isinstance(probability, bool) else probability


def _classes(prediction: Any, outputs: Mapping[str, str]) -> Any:
    """An object of several labels with the class of each probability in it; a declared default that is no object stays what it is."""
    if not isinstance(prediction, Mapping):
        return prediction
    return {name: _is_positive(value) if outputs.get(name) == "probability" else value for name, value in prediction.items()}
