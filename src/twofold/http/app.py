"""The surface over HTTP: which route is which, what every request has in common, and how a new plan is taken up while requests run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from twofold import __version__
from twofold.bell import Bell, Listener
from twofold.errors import TwofoldError, Unavailable, UnknownName, did_you_mean
from twofold.http import inference_v2
from twofold.http.events import Ingesting
from twofold.http.messages import HTML, RETRY, TEXT, Call, Receive, Reply, Scope, Send, body_of, error_reply, reply, send_reply
from twofold.http.openapi import docs_page, openapi
from twofold.http.predict import Reading, predictions_of
from twofold.http.waiting import AppliedBell
from twofold.log.base import Position
from twofold.serve.predict import Answer, ModelServer
from twofold.watch.metrics import Counter, Facts, Histogram, exposition

PLAN = "plan"
"""Bell channel: another plan or model is live."""

_REFRESH_S = 1.0
_READY_S = 1.0
_THREADS = {"append": 32, "read": 16, "keep": 2}
"""Threads by what they do, so that a log that hangs holds up no reading, and neither of them what is asked of the process itself."""
_log = logging.getLogger(__name__)


class Replica(Protocol):
    """What the surface serves. `server` is replaced as a whole, so a request that has it keeps to one plan."""

    @property
    def server(self) -> ModelServer:
        """Answers for the plan that is live."""
        ...

    def ingest(self, source: str, rows: list[dict[str, Any]]) -> Position:
        """Append events, all or none; durable when it returns. Called from several threads at once."""
        ...

    def refresh(self) -> bool:
        """Serve the plan that is live by now; whether it is another one. Cheap where it is not. Called from a thread, one at a time."""
        ...


Handler = Callable[[Call], Awaitable[Reply]]


class Route:
    """A path, of which parts in braces are open, and what answers to a method."""

    def __init__(self, path: str, methods: Mapping[str, Handler]) -> None:
        self.path, self.methods = path, methods
        self.parts = tuple(None if part.startswith("{") else part for part in path.split("/")[1:])

    def match(self, parts: Sequence[str]) -> tuple[str, ...] | None:
        """What stands in the open parts; None where another part differs."""
        names = []
        for mine, part in zip(self.parts, parts, strict=True):
            if mine is None:
                names.append(part)
            elif mine != part:
                return None
        return tuple(names)


class App:
    """An ASGI application. `bell` wakes those who wait for `after=`, and tells of a new plan; without it both are polled.

    `may_take` raises where no events are to be taken now; it is called in a thread before each append. `facts` are metrics of
    the home, read in a thread at each scrape.
    """

    def __init__(
        self,
        replica: Replica,
        bell: Bell | None = None,
        may_take: Callable[[], None] = lambda: None,
        facts: Callable[[], list[Facts]] = list,
    ) -> None:
        self._replica, self._bell, self._may_take, self._facts = replica, bell, may_take, facts
        self._pools = {name: ThreadPoolExecutor(count, f"http-{name}") for name, count in _THREADS.items()}
        self._applied = AppliedBell(bell)
        self._reading = Reading(self._applied, self._pools["read"])
        self._ingesting = Ingesting(self._pools["append"])
        self._background: asyncio.Task[None] | None = None
        self._looking: asyncio.Future[list[str]] | None = None
        self._requests = Counter("twofold_requests_total", "Requests by route and status.", ("route", "code"))
        self._seconds = Histogram("twofold_request_seconds", "Time from a request's head to its reply, by route.", ("route",))
        self._predictions = Counter("twofold_predictions_total", "Answers by model and rung of the ladder.", ("model", "served_by"))
        self._events = Counter("twofold_events_total", "Events accepted, by source.", ("source",))
        self._refreshes = Counter("twofold_plan_refreshes_total", "Plans taken up (ok) or refused (failed).", ("outcome",))
        self._routes = self._all_routes()
        self._by_length: dict[int, list[Route]] = {}
        for route in self._routes:
            self._by_length.setdefault(len(route.parts), []).append(route)

    def _all_routes(self) -> tuple[Route, ...]:
        post, get = "POST", "GET"
        return (
            Route("/v1/predict/{model}", {post: self._predict}),
            Route("/v1/vectors/{model}", {post: self._vectors}),
            Route("/v1/features/{view}", {post: self._features}),
            Route("/v1/events/{source}", {post: self._ingest}),
            Route("/v2", {get: inference_v2.server_metadata}),
            Route("/v2/health/live", {get: inference_v2.live}),
            Route("/v2/health/ready", {get: self._v2_ready}),
            Route("/v2/models/{model}", {get: self._v2_model}),
            Route("/v2/models/{model}/ready", {get: self._v2_model_ready}),
            Route("/v2/models/{model}/infer", {post: self._v2_infer}),
            Route("/v2/models/{model}/versions/{version}", {get: self._v2_model}),
            Route("/v2/models/{model}/versions/{version}/ready", {get: self._v2_model_ready}),
            Route("/v2/models/{model}/versions/{version}/infer", {post: self._v2_infer}),
            Route("/healthz", {get: self._healthz}),
            Route("/readyz", {get: self._readyz}),
            Route("/metrics", {get: self._metrics}),
            Route("/openapi.json", {get: self._openapi}),
            Route("/docs", {get: self._docs}),
        )

    # --- every request ---

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, path, route = time.perf_counter(), "unknown", None
        try:
            route, names = self._route(scope["path"])
            path = route.path
            handler = _handler(route, scope["method"])
            if isinstance(handler, Reply):
                answer = handler
            else:
                body = await body_of(scope, receive)
                if body is None:
                    return
                answer = await handler(Call(scope, names, body))
        except Exception as error:
            answer = error_reply(error)
        self._requests.add(path, str(answer.status))
        self._seconds.observe(time.perf_counter() - begun, path)
        await send_reply(send, answer)

    def _route(self, path: str) -> tuple[Route, tuple[str, ...]]:
        parts = path.rstrip("/").split("/")[1:]
        for route in self._by_length.get(len(parts), ()):
            names = route.match(parts)
            if names is not None:
                return route, names
        near = did_you_mean(path, [route.path for route in self._routes])
        raise UnknownName(f"there is nothing at {path}.{near} See /docs")

    # --- routes ---

    async def _predict(self, call: Call) -> Reply:
        answer, answers = await self._reading.predict(self._replica.server, call)
        return self._counted(call.names[0], answer, answers)

    def _counted(self, model: str, answer: Reply, answers: list[Answer]) -> Reply:
        for served_by, count in predictions_of(answers).items():
            self._predictions.add(model, served_by, count=count)
        return answer

    async def _vectors(self, call: Call) -> Reply:
        return await self._reading.vectors(self._replica.server, call)

    async def _features(self, call: Call) -> Reply:
        return await self._reading.features(self._replica.server, call)

    async def _ingest(self, call: Call) -> Reply:
        answer, count = await self._ingesting.events(self._replica.server.plan, self._taken, call)
        self._events.add(call.names[0], count=count)
        return answer

    def _taken(self, source: str, rows: list[dict[str, Any]]) -> Position:
        self._may_take()
        return self._replica.ingest(source, rows)

    async def _v2_ready(self, call: Call) -> Reply:
        problems = await self._not_ready()
        return reply({"live": True, "ready": not problems}, 503 if problems else 200, RETRY if problems else ())

    async def _v2_model(self, call: Call) -> Reply:
        return inference_v2.model_metadata(self._replica.server.plan, call)

    async def _v2_model_ready(self, call: Call) -> Reply:
        return inference_v2.model_ready(self._replica.server.plan, call, await self._not_ready())

    async def _v2_infer(self, call: Call) -> Reply:
        answer, answers = await inference_v2.infer(self._reading, self._replica.server, call)
        return self._counted(call.names[0], answer, answers)

    async def _healthz(self, call: Call) -> Reply:
        return reply({"status": "alive", "version": __version__})

    async def _readyz(self, call: Call) -> Reply:
        problems = await self._not_ready()
        return reply({"ready": not problems, "not_ready": problems}, 503 if problems else 200, RETRY if problems else ())

    async def _not_ready(self) -> list[str]:
        """What keeps this process from answering. A store that hangs is looked at once, however often that is asked."""
        server = self._replica.server
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(self._pools["keep"], server.reader.not_ready)
        try:
            return await asyncio.wait_for(asyncio.shield(self._looking), _READY_S) + server.not_loaded()
        except TimeoutError:
            return [f"store: does not answer within {_READY_S:g} s"]

    async def _metrics(self, call: Call) -> Reply:
        own: list[Counter | Histogram | Facts] = [self._requests, self._seconds, self._predictions, self._events, self._refreshes]
        return Reply(exposition([*own, *await self._facts_in_time()]), kind=TEXT)

    async def _facts_in_time(self) -> list[Facts]:
        """The facts of the home; none while log or store do not answer, which `/readyz` tells."""
        try:
            looking = asyncio.get_running_loop().run_in_executor(self._pools["keep"], self._facts)
            return await asyncio.wait_for(looking, _READY_S)
        except (TimeoutError, TwofoldError) as error:
            _log.warning("lag and counts cannot be read: %s", error)
            return []

    async def _openapi(self, call: Call) -> Reply:
        return reply(openapi(self._replica.server.plan))

    async def _docs(self, call: Call) -> Reply:
        return Reply(docs_page(self._replica.server.plan), kind=HTML)

    # --- the life of the process ---

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._replica.server.warm()
                self._applied.start()
                self._background = asyncio.create_task(self._keep_fresh())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._background is not None:
                    self._background.cancel()
                self._applied.stop()
                for pool in self._pools.values():
                    pool.shutdown(wait=False)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _keep_fresh(self) -> None:
        """Take up new plans: when the bell tells of one, and looking once a second."""
        loop, rung, listener = asyncio.get_running_loop(), asyncio.Event(), None
        try:
            listener = self._listen(loop, rung)
            while True:
                try:
                    if await loop.run_in_executor(self._pools["keep"], self._replica.refresh):
                        self._refreshes.add("ok")
                except Exception as error:
                    self._refreshes.add("failed")
                    _log.error("the new plan cannot be taken up, the old one goes on: %s", error)
                try:
                    await asyncio.wait_for(rung.wait(), _REFRESH_S)
                except TimeoutError:
                    continue
                rung.clear()
        finally:
            if listener is not None:
                loop.remove_reader(listener.fileno())
                listener.close()

    def _listen(self, loop: asyncio.AbstractEventLoop, rung: asyncio.Event) -> Listener | None:
        if self._bell is None:
            return None
        try:
            listener = self._bell.listen(PLAN)
        except Unavailable:
            return None

        def heard() -> None:
            listener.drain()
            rung.set()

        loop.add_reader(listener.fileno(), heard)
        return listener


def _handler(route: Route, method: str) -> Handler | Reply:
    """What answers to a method; the reply that refuses it where nothing does."""
    handler = route.methods.get("GET" if method == "HEAD" else method)
    if handler is None:
        allowed = ", ".join(route.methods)
        return reply({"error": f"{route.path} takes {allowed}, not {method}"}, 405, ((b"allow", allowed.encode()),))
    return handler
