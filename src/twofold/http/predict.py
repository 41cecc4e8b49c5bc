"""Predictions, vectors and features over HTTP: from a body to requests or keys, and from answers to a body."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from twofold.errors import DataError, SchemaMismatch, known
from twofold.http.messages import Call, Reply, after_of, at_of, deadline_us_of, reply
from twofold.http.waiting import AppliedBell
from twofold.instants import to_iso, to_us
from twofold.log.base import Position
from twofold.plan.canonical import shown
from twofold.plan.merge import age_s
from twofold.plan.serving import ViewPlan
from twofold.serve.deadline import Deadline, InCall
from twofold.serve.features import KeyRead
from twofold.serve.predict import Answer, ModelServer
from twofold.serve.requests import Request, RequestCheck

T = TypeVar("T")
READING = ("at", "after", "deadline_ms")
PREDICTING = (*READING, "top", "output")
FEATURES_DEADLINE_US = 1_000_000
"""How long a reading of a view may take where the caller sets no deadline."""
MOST_ROWS_ON_THE_LOOP, MOST_BYTES_ON_THE_LOOP = 50, 64 << 10
"""Calls of more take milliseconds, which others would wait for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of a query."""

    at_us: int | None = None
    after: Position | None = None
    deadline_us: int | None = None
    top: int | None = None
    output: str | None = None

    @classmethod
    def of(cls, call: Call, allowed: Sequence[str]) -> Asked:
        """Raises DataError for parameters that do not exist or say nothing."""
        query = call.query(allowed)
        if not query:
            return cls(after=after_of(call, None))
        return cls(
            at_of(query.get("at")),
            after_of(call, query.get("after")),
            deadline_us_of(query.get("deadline_ms")),
            _top_of(query.get("top")),
            query.get("output", [None])[-1],
        )


class Reading:
    """Runs a model server for coroutines: it waits on the event loop, and works in its thread where that takes microseconds.

    Large calls, and all calls of a server whose work may hang, go to threads of `executor`, so that they hold nobody up.
    """

    def __init__(self, applied: AppliedBell, executor: Executor) -> None:
        self._applied, self._executor = applied, executor

    async def run(
        self, server: ModelServer, after: Position | None, deadline: Deadline, rows: int, work: Callable[[Exception | None], T]
    ) -> T:
        """What `work` gives for so many rows once `after` is applied; it gets the error where that fails."""
        may_hang = not isinstance(server.isolation, InCall)
        if may_hang and not server.reader.is_shared:
            return await self._off_the_loop(True, lambda: work(server.wait(after, deadline)))
        failure = await self._applied.wait(server.reader, after, deadline)
        return await self._off_the_loop(may_hang or rows > MOST_ROWS_ON_THE_LOOP, lambda: work(failure))

    async def parsed(self, call: Call, parse: Callable[[Any], T]) -> T:
        """What `parse` makes of the body's value."""
        return await self._off_the_loop(len(call.body) > MOST_BYTES_ON_THE_LOOP, lambda: parse(call.json()))

    async def _off_the_loop(self, is_long: bool, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work) if is_long else work()

    async def predict(self, server: ModelServer, call: Call) -> tuple[Reply, list[Answer]]:
        """An answer for an object, a list of them for an array or for columns; `top` sorts by prediction and keeps that many."""
        model, asked = call.names[0], Asked.of(call, PREDICTING)
        check, deadline = server.check(model), server.deadline(model, asked.deadline_us)
        labels = server.plan.models[model].labels
        if asked.top is not None and labels:
            raise DataError(
                f"top= sorts by one prediction, and model {model!r} answers {', '.join(labels)}; leave it out and sort yourself"
            )
        requests, is_one = await self.parsed(call, lambda body: requests_of(check, body))

        def work(failure: Exception | None) -> list[Answer]:
            return server.answer(model, requests, asked.at_us, deadline, failure, asked.output)

        answers = await self.run(server, asked.after, deadline, len(requests), work)
        if is_one:
            return reply(answers[0]), answers
        return reply(answers if asked.top is None else top(answers, asked.top)), answers

    async def vectors(self, server: ModelServer, call: Call) -> Reply:
        """As `predict`: the columns of the model in place of a prediction."""
        model, asked = call.names[0], Asked.of(call, READING)
        check, deadline = server.check(model), server.deadline(model, asked.deadline_us)
        requests, is_one = await self.parsed(call, lambda body: requests_of(check, body))

        def work(failure: Exception | None) -> list[Answer]:
            return server.vectors(model, requests, asked.at_us, deadline, failure)

        answers = await self.run(server, asked.after, deadline, len(requests), work)
        return reply(answers[0] if is_one else answers)

    async def features(self, server: ModelServer, call: Call) -> Reply:
        """The features of one key (an object) or of several (an array, or `keys` in an object)."""
        name, asked = call.names[0], Asked.of(call, READING)
        view = known(server.plan.views, name, "view")
        deadline = Deadline(asked.deadline_us or FEATURES_DEADLINE_US)
        keys, at, is_one = await self.parsed(call, lambda body: keys_of(view, body))
        if at is not None and asked.at_us is not None:
            raise DataError("`at` stands in the body and in the query; give it once")
        at_us = asked.at_us if at is None else to_us(at)

        def work(failure: Exception | None) -> list[KeyRead]:
            return server.features(name, keys, at_us, deadline, failure)

        found = await self.run(server, asked.after, deadline, len(keys), work)
        shown_keys = [key_answer(view, key) for key in found]
        return reply(shown_keys[0] if is_one else shown_keys)


def requests_of(check: RequestCheck, body: Any) -> tuple[list[Request], bool]:
    """(checked requests, whether it is one object): an object, an array of them, or an object of which some values are arrays."""
    if isinstance(body, list):
        return check.rows(body), False
    if isinstance(body, dict) and any(isinstance(value, list) for value in body.values()):
        return check.columns(body), False
    return check.rows([body]), True


def keys_of(view: ViewPlan, body: Any) -> tuple[list[Any], Any, bool]:
    """(keys, `at`, whether it is one key) of a body."""
    if isinstance(body, list):
        return body, None, False
    if isinstance(body, dict) and isinstance(body.get("keys"), list):
        extra = [name for name in body if name not in ("keys", "at")]
        if extra:
            raise DataError(f"the body has {extra[0]!r} beside `keys`; only `at` may stand there")
        return body["keys"], body.get("at"), False
    if isinstance(body, dict):
        return [body], None, True
    example = ", ".join(f'"{name}": ...' for name in view.by)
    raise SchemaMismatch(f'the body is {shown(body)}; send a key {{{example}}}, an array of keys, or {{"keys": [...], "at": "..."}}')


def key_answer(view: ViewPlan, read: KeyRead) -> dict[str, Any]:
    """One key's features by name, each with its status where the statuses differ."""
    names = [feature.name for feature in view.features]
    return {
        "key": dict(zip(view.by, read.key, strict=True)),
        "features": dict(zip(names, read.values, strict=True)),
        "status": read.status,
        "statuses": dict(zip(names, read.statuses, strict=True)),
        "age_s": age_s(read.age_us),
        "at": to_iso(read.at_us),
        "position": read.position,
    }


def top(answers: Sequence[Answer], count: int) -> list[Answer]:
    """The answers with the greatest predictions, greatest first, each with the number of its request as `row`; ties as they were asked."""
    numbered: list[Answer] = [{"row": row, **answer} for row, answer in enumerate(answers)]
    return sorted(numbered, key=lambda answer: -_rank(answer["prediction"]))[:count]


def _rank(prediction: Any) -> float:
    return float(prediction) if isinstance(prediction, int | float) else -math.inf


def _top_of(values: Sequence[str] | None) -> int | None:
    if not values:
        return None
    if not values[-1].isdecimal() or int(values[-1]) < 1:
        raise DataError(f"top={values[-1]!r} is no number of answers; give 1 or more")
    return int(values[-1])


def predictions_of(answers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many answers each rung gave."""
    rungs: dict[str, int] = {}
    for answer in answers:
        rungs[answer["served_by"]] = rungs.get(answer["served_by"], 0) + 1
    return rungs
