"""The Open Inference Protocol v2, as JSON: a model's request fields are its inputs, its output is the prediction, or one for each label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from twofold import __version__
from twofold.errors import DataError, SchemaMismatch, UnknownName, known
from twofold.http.messages import RETRY, Call, Reply, after_of, reply
from twofold.http.predict import Reading
from twofold.plan.serving import ModelPlan, ServingPlan
from twofold.serve.predict import Answer, ModelServer

DATATYPES = {"str": "BYTES", "category": "BYTES", "int": "INT64", "float": "FP64", "bool": "BOOL", "datetime": "BYTES"}
OUTPUT = "prediction"
_UNVERSIONED = "0"
"""The version of a model that has none yet."""


class Tensor(msgspec.Struct):
    """An input; what the protocol has beside these is not needed."""

    name: str
    data: list[Any] | None = None
    shape: list[int] | None = None
    datatype: str | None = None


class Infer(msgspec.Struct):
    """The body of a call; unknown keys are passed over, as the protocol has it."""

    inputs: list[Tensor]
    id: str | None = None


_DECODER = msgspec.json.Decoder(Infer)


async def server_metadata(call: Call) -> Reply:
    """`GET /v2`."""
    return reply({"name": "twofold", "version": __version__, "extensions": []})


async def live(call: Call) -> Reply:
    """`GET /v2/health/live`."""
    return reply({"live": True, "ready": True})


def model_metadata(plan: ServingPlan, call: Call) -> Reply:
    """`GET /v2/models/{m}`."""
    model = _model(plan, call)
    inputs = [{"name": name, "datatype": DATATYPES[kind], "shape": [-1]} for name, kind in model.request.items()]
    outputs = [{"name": name, "datatype": "FP64", "shape": [-1]} for name in model.labels or (OUTPUT,)]
    versions = [model.version or _UNVERSIONED]
    return reply({"name": model.name, "versions": versions, "platform": "twofold", "inputs": inputs, "outputs": outputs})


def model_ready(plan: ServingPlan, call: Call, problems: list[str]) -> Reply:
    """`GET /v2/models/{m}/ready`; ready is a model with a version, whose views can be read."""
    model = _model(plan, call)
    is_ready = model.predictor is not None and not problems
    return reply({"name": model.name, "ready": is_ready}, 200 if is_ready else 503, () if is_ready else RETRY)


async def infer(reading: Reading, server: ModelServer, call: Call) -> tuple[Reply, list[Answer]]:
    """`POST /v2/models/{m}/infer`."""
    model = _model(server.plan, call)
    after = after_of(call, None)
    check, deadline = server.check(model.name), server.deadline(model.name)
    body = _decoded(call)
    columns = {tensor.name: _flat(tensor) for tensor in body.inputs}
    if len(columns) < len(body.inputs):
        raise SchemaMismatch("two inputs have one name; give each request field once")
    requests = check.columns(columns) if columns else check.rows([{}])
    answers = await reading.run(
        server, after, deadline, len(requests), lambda failure: server.answer(model.name, requests, None, deadline, failure)
    )
    predictions = [answer["prediction"] for answer in answers]
    data = {name: [_of_label(found, name) for found in predictions] for name in model.labels} or {OUTPUT: predictions}
    outputs = [{"name": name, "datatype": "FP64", "shape": [len(values)], "data": values} for name, values in data.items()]
    parameters = {name: [answer[name] for answer in answers] for name in ("id", "served_by", "at", "degraded")}
    answer = {
        "model_name": model.name,
        "model_version": model.version or _UNVERSIONED,
        "id": body.id or (answers[0]["id"] if answers else ""),
        "outputs": outputs,
        "parameters": {name: msgspec.json.encode(values).decode() for name, values in parameters.items()},
    }
    return reply(answer), answers


def _of_label(prediction: Any, label: str) -> Any:
    """A label's part of a prediction; a declared default may be none at all."""
    return prediction[label] if isinstance(prediction, dict) else prediction


def _model(plan: ServingPlan, call: Call) -> ModelPlan:
    """The model of a path, and of its version where the path names one (a beginning of eight digits is enough)."""
    name, *versions = call.names
    model: ModelPlan = known(plan.models, name, "model")
    actual = model.version or _UNVERSIONED
    for version in versions:
        if version != actual and not (len(version) >= 8 and actual.startswith(version)):
            raise UnknownName(f"version {version!r} of model {name!r} does not answer here; {actual} does")
    return model


def _decoded(call: Call) -> Infer:
    if call.header(b"inference-header-content-length"):
        raise DataError("this server takes JSON only, not the binary extension; with tritonclient give binary_data=False")
    try:
        return _DECODER.decode(call.body)
    except msgspec.ValidationError as error:
        raise SchemaMismatch(f'the body is no call of the protocol: {error}; send {{"inputs": [{{"name", "data"}}]}}') from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        call.json()
        raise


def _flat(tensor: Tensor) -> list[Any]:
    """One value a row: of flat data, and of data that is nested in rows of one value."""
    if tensor.data is None:
        raise SchemaMismatch(f"input {tensor.name!r} has no `data`; this server takes JSON only, not the binary extension")
    flat = list(_leaves(tensor.data))
    rows = tensor.shape[0] if tensor.shape else len(flat)
    if rows != len(flat):
        raise SchemaMismatch(
            f"input {tensor.name!r} has shape {tensor.shape} and {len(flat)} values; give one value a row, shape [n] or [n, 1]"
        )
    return flat


def _leaves(data: list[Any]) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _leaves(item)
        else:
            yield item
