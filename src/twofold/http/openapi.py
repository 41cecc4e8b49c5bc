"""The description of the surface for machines (OpenAPI 3.1) and for people (one page of HTML), both from the serving plan."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from twofold import __version__
from twofold.definitions.base import ELEMENT_TYPES
from twofold.http.messages import AFTER_HEADER, BODY_BYTES, LONGEST_DEADLINE_MS
from twofold.http.predict import PREDICTING, READING
from twofold.plan.serving import ModelPlan, ServingPlan, SourcePlan, ViewPlan

Schema = dict[str, Any]

_TYPES: dict[str, Schema] = {
    "str": {"type": ["string", "null"]},
    "category": {"type": ["string", "null"]},
    "int": {"type": ["integer", "null"], "format": "int64"},
    "float": {"type": ["number", "null"]},
    "bool": {"type": ["boolean", "null"]},
    "datetime": {"type": ["string", "integer", "null"], "format": "date-time"},
}
_TYPES |= {kind: {"type": ["array", "null"], "items": _TYPES[element]} for kind, element in ELEMENT_TYPES.items()}
_EXAMPLES: dict[str, Any] = {"str": "a1", "category": "A", "int": 1, "float": 1.5, "bool": True, "datetime": "2013-10-01T05:15:00Z"}
_EXAMPLES |= {kind: [_EXAMPLES[element]] for kind, element in ELEMENT_TYPES.items()}
_PARAMETERS = {
    "at": ("string", "the instant to answer for: ISO 8601 with a zone, or microseconds since 1970; default: now"),
    "after": ("string", "a position from /v1/events: answer only when it is applied; several, or several in one with `|` between them"),
    "deadline_ms": ("number", f"how long the answer may take, up to {LONGEST_DEADLINE_MS}; default: the model's deadline"),
    "top": ("integer", "of several requests keep the answers with the greatest predictions, each with the number of its request as `row`"),
    "output": ("string", "what to answer: of a classifier `probability` or `class`"),
}
_ERRORS = {
    "400": "bad request: the text names the field",
    "404": "no such model, view, source or path",
    "409": "`after` is the position of another log",
    "413": f"a body of more than {BODY_BYTES} bytes",
    "429": "too much under way; try again",
    "503": "cannot be answered now: never built, store or log unavailable, deadline passed and no fallback",
}


class Operation(NamedTuple):
    """One documented call: its place, what it does, an example of its body and of its reply, the schema of one element of the body."""

    method: str
    path: str
    text: str
    example: Any = None
    answer: Any = None
    parameters: tuple[str, ...] = ()
    element: Schema | None = None


def operations(plan: ServingPlan) -> Iterator[Operation]:
    """Every call that can be made, for each model, view and source of the plan."""
    for model in plan.models.values():
        yield from _model_operations(model, plan)
    for view in plan.views.values():
        yield _view_operation(view)
    for source in plan.sources.values():
        if source.takes_events:
            yield _source_operation(source)
    yield Operation(
        "get", "/v2/models/{model}", "Open Inference Protocol v2: /v2, /v2/health/live, /v2/health/ready, .../ready, .../versions/{v}"
    )
    yield Operation("get", "/healthz", "whether the process lives", answer={"status": "alive", "version": __version__})
    yield Operation("get", "/readyz", "whether it can answer; 503 names what keeps it from that", answer={"ready": True, "not_ready": []})
    yield Operation("get", "/metrics", "counters and latencies of this process as Prometheus text")


def _model_operations(model: ModelPlan, plan: ServingPlan) -> Iterator[Operation]:
    request, element = _example(model.request), _object(model.request)
    head = {"id": "6f1c9a3be2d4-1", "prediction": dict.fromkeys(model.labels, 0.31) or 0.31}
    views = {use.view: {"status": "present", "age_s": 0.004} for use in model.uses[:1]}
    title = f"{model.name}@{(model.version or '3f2a9c01')[:8]}"
    tail = {"served_by": "live", "model": title, "at": _EXAMPLES["datetime"], "position": "...", "degraded": None, "views": views}
    text = "an answer for an object; a list for an array, and for an object in which some fields are arrays (single values stand for all)"
    if model.predictor is not None:
        yield Operation("post", f"/v1/predict/{model.name}", f"Predict: {text}", request, {**head, **tail}, PREDICTING, element)
        inputs = {"inputs": [{"name": name, "datatype": "...", "shape": [1], "data": [value]} for name, value in request.items()]}
        yield Operation("post", f"/v2/models/{model.name}/infer", "Predict by the Open Inference Protocol v2 (JSON)", inputs)
    types = {use.columns[f.name]: f.type for use in model.uses for f in plan.views[use.view].features if f.name in use.columns}
    columns = {name: _EXAMPLES.get(types.get(name, model.request.get(name, "float")), 1.5) for name in model.columns}
    vector = {"id": head["id"], "columns": columns, **tail}
    yield Operation("post", f"/v1/vectors/{model.name}", f"The model's whole input: {text}", request, vector, READING, element)


def _view_operation(view: ViewPlan) -> Operation:
    key = _example(view.by)
    features = {feature.name: _EXAMPLES.get(feature.type, 1) for feature in view.features}
    statuses = dict.fromkeys(features, "present")
    at = _EXAMPLES["datetime"]
    answer = {"key": key, "features": features, "status": "present", "statuses": statuses, "age_s": 0.004, "at": at, "position": "..."}
    text = "Features of a key (an object), or of several: an array of keys, or `keys` and `at` in an object"
    return Operation("post", f"/v1/features/{view.name}", text, {"keys": [key]}, [answer], READING, _object(view.by))


def _source_operation(source: SourcePlan) -> Operation:
    text = "Append events, all or none: an object, an array, or one object a line (NDJSON). The answer comes when they are on disk"
    answer = {"position": f"5b1f...;{source.name}/0=1", "count": 1}
    return Operation("post", f"/v1/events/{source.name}", text, _example(source.columns), answer, (), _object(source.columns))


def _example(columns: Mapping[str, str]) -> dict[str, Any]:
    return {name: _EXAMPLES[kind] for name, kind in columns.items()}


def _object(columns: Mapping[str, str]) -> Schema:
    return {
        "type": "object",
        "properties": {name: _TYPES[kind] for name, kind in columns.items()},
        "required": list(columns),
        "additionalProperties": False,
    }


def openapi(plan: ServingPlan) -> dict[str, Any]:
    """OpenAPI 3.1 of the surface."""
    paths: dict[str, Any] = {}
    for item in operations(plan):
        paths.setdefault(item.path, {})[item.method] = _described(item)
    return {
        "openapi": "3.1.0",
        "info": {"title": plan.project, "version": __version__, "description": "Features and predictions, served by Twofold"},
        "paths": paths,
        "components": {"schemas": {"Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}}},
    }


def _described(item: Operation) -> dict[str, Any]:
    ok: dict[str, Any] = {"description": "answered"}
    if item.answer is not None:
        ok["content"] = {"application/json": {"example": item.answer}}
    failures = {"503": _ERRORS["503"]} if item.method == "get" else _ERRORS
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    found: dict[str, Any] = {
        "summary": item.text,
        "responses": {"200": ok, **{code: {"description": text, "content": error} for code, text in failures.items()}},
    }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "required": False, "description": _PARAMETERS[name][1], "schema": {"type": _PARAMETERS[name][0]}}
        for name in item.parameters
    ]
    if "after" in item.parameters:
        header = AFTER_HEADER.decode().title()
        parameters.append({"name": header, "in": "header", "required": False, "description": "as `after`", "schema": {"type": "string"}})
    names = [part[1:-1] for part in item.path.split("/") if part.startswith("{")]
    parameters += [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if parameters:
        found["parameters"] = parameters
    if item.example is not None:
        schema: Schema = {"type": ["object", "array"]} if item.element is None else {"anyOf": [item.element, {"type": ["object", "array"]}]}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema, "example": item.example}}}
    return found


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}"
    "code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f4f5f7;padding:.75rem;overflow:auto;border-radius:6px}"
    "h2{font-size:1rem;margin:2rem 0 .25rem}h2 b{color:#0b5cad;margin-right:.5rem}p{margin:.25rem 0}table{border-collapse:collapse}"
    "td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#14171a;color:#e4e7ea}pre{background:#1f2428}h2 b{color:#6cb2f7}}"
)


def docs_page(plan: ServingPlan) -> bytes:
    """One page of HTML, with an example of every call; it loads nothing from anywhere."""
    title = html.escape(plan.project)
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>',
        f"<style>{_STYLE}</style><h1>{title}</h1><p>For machines: <a href='/openapi.json'>/openapi.json</a></p>",
        *(_section(item) for item in operations(plan)),
        '<h2>Errors</h2><p>Always <code>{"error": "..."}</code>; 429 and 503 say when to try again (Retry-After).</p><table>',
        *(f"<tr><td>{code}<td>{html.escape(text)}" for code, text in _ERRORS.items()),
        "</table></html>",
    ]
    return "\n".join(parts).encode()


def _section(item: Operation) -> str:
    lines = [f"<h2><b>{item.method.upper()}</b><code>{html.escape(item.path)}</code></h2><p>{html.escape(item.text)}</p>"]
    if item.example is not None:
        body = json.dumps(item.example, ensure_ascii=False).replace("'", "'\\''")
        lines.append(f"<pre>curl -X POST localhost:8000{html.escape(item.path)} -d '{html.escape(body)}'</pre>")
    if item.answer is not None:
        lines.append(f"<pre>{html.escape(json.dumps(item.answer, indent=2, ensure_ascii=False))}</pre>")
    if item.parameters:
        rows = "".join(f"<tr><td><code>?{name}=</code><td>{html.escape(_PARAMETERS[name][1])}" for name in item.parameters)
        lines.append(f"<table>{rows}</table>")
    return "\n".join(lines)
