"""Training: a dataset split by time, fitted, evaluated, exported and registered as a version that names all it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.definitions.model import WEIGHT, Model
from twofold.errors import DataError
from twofold.instants import Duration, duration_us, to_iso
from twofold.learn.dataset import categories_of, floats, matrix_of, require_rows, require_training
from twofold.learn.evaluate import evaluate
from twofold.learn.fit import fit_model
from twofold.learn.rows import AT
from twofold.plan.compile import CompiledProject
from twofold.plan.serving import ModelPlan, PredictorPlan
from twofold.predictors.base import load_predictor
from twofold.registry.base import Registry
from twofold.versions import version_of

Metrics = dict[str, Any]
"""Name -> figure as `evaluate` gives; or name of a label -> those."""


@dataclass(frozen=True)
class Trained:
    """A registered model version: its figures on the rows held back (of several labels by name), and how many rows were used."""

    model: str
    version: str
    metrics: Metrics
    rows: int
    test_rows: int
    predictor: PredictorPlan


def split_by_time(frame: pl.DataFrame, test: Duration | None, gap_us: int, group: str | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows to fit, rows to judge by): the last `test` of time is held back, and before it the label's horizon is left out.

    The gap keeps out rows whose label came from the time that is judged. Rows of a `group` that is fitted are none to judge by; a
    null group is that of its row alone.
    """
    if test is None:
        return frame, frame.clear()
    at = pl.col(AT).to_physical()
    begin = int(frame[AT].to_physical().max()) - duration_us(test)  # type: ignore[arg-type]
    fitting, judging = frame.filter(at < begin - gap_us), frame.filter(at >= begin)
    if group is not None:
        judging = judging.join(fitting.select(group).unique(), on=group, how="anti", maintain_order="left")
    return fitting, judging


def train(
    model: Model,
    plan: ModelPlan,
    project: CompiledProject,
    frame: pl.DataFrame,
    dataset: dict[str, Any],
    registry: Registry,
    test: Duration | None,
) -> Trained:
    """Fit the model to a training set, judge it by the held back end of it, and register the version. It does not go live here.

    `dataset` names the content of `frame`; the version is the hash of it, of the definitions and of the fitted model itself.
    """
    rows, labels = require_training(model)
    require_rows(frame, f"the training set of {model.name!r}")
    _require_columns(model, plan, frame)
    gap_us = max(duration_us(label.within) for label in labels.values())
    fitting, judging = split_by_time(frame, test, gap_us, rows.group)
    if fitting.is_empty():
        raise DataError(
            f"no rows of {model.name!r} lie before the {test} held back for the test; load more history or give a shorter test="
        )
    predictor = _fitted(model, plan, fitting, registry)
    metrics = _metrics(model, predictor, judging, registry)
    record = {
        "definition": msgspec.to_builtins(plan),
        "features": pinned_features(plan, project),
        "predictor": msgspec.to_builtins(predictor),
        "dataset": dataset,
        "metrics": metrics,
        "rows": fitting.height,
        "test_rows": judging.height,
        "trained_from": _span(fitting),
        "tested_from": _span(judging),
    }
    version = version_of({key: record[key] for key in ("definition", "features", "predictor", "dataset")})
    registry.register(model.name, version, record)
    return Trained(model.name, version, metrics, fitting.height, judging.height, predictor)


def _require_columns(model: Model, plan: ModelPlan, frame: pl.DataFrame) -> None:
    """Raises DataError for a frame that is no training set of the model."""
    rows, labels = require_training(model)
    needed = [AT, *plan.columns, *labels, *([] if rows.group is None else [rows.group]), *([] if rows.weight is None else [WEIGHT])]
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise DataError(f"the frame to train {model.name!r} on has no {', '.join(absent)}; give what training_set({model.name!r}) gives")


def _fitted(model: Model, plan: ModelPlan, fitting: pl.DataFrame, registry: Registry) -> PredictorPlan:
    """The model fitted to rows and stored."""
    categories = categories_of(fitting, plan.columns)
    matrix = matrix_of(fitting, plan.columns, categories)
    categorical = [i for i, name in enumerate(plan.columns) if name in categories]
    labels = [floats(fitting[column]) for column in model.labels]
    fitted = fit_model(model, matrix, labels, plan.columns, categorical, _weights(model, fitting))
    artifact = registry.put_artifact(fitted.content)
    return PredictorPlan(fitted.format, artifact, plan.columns, categories, fitted.output, fitted.outputs)


def _weights(model: Model, frame: pl.DataFrame) -> NDArray[np.float64] | None:
    return None if model.rows is None or model.rows.weight is None else floats(frame[WEIGHT])


def _metrics(model: Model, predictor: PredictorPlan, judging: pl.DataFrame, registry: Registry) -> Metrics:
    """How good the exported model is, loaded as serving will load it; of several labels by their names."""
    loaded = load_predictor(predictor.format, registry.artifact_path(predictor.artifact), predictor.columns)
    matrix = matrix_of(judging, predictor.columns, predictor.categories)
    weight = _weights(model, judging)
    found = (loaded.predict(matrix) if judging.height else np.empty(0)).reshape(judging.height, len(model.labels))
    figures = [
        evaluate(floats(judging[column]), found[:, i], "probability" if kind == "probability" else "value", weight)
        for i, (column, kind) in enumerate(zip(model.labels, [kind for _, kind in predictor.outputs] or [predictor.output], strict=True))
    ]
    return dict(zip(model.label_names, figures, strict=True)) if model.label_names else figures[0]


def pinned_features(plan: ModelPlan, project: CompiledProject) -> dict[str, str]:
    """Version of every feature that a model reads, by the model's column."""
    pinned: dict[str, str] = {}
    for use in plan.uses:
        versions = {feature.name: feature.version for feature in project.view(use.view).plan.features}
        pinned |= {column: versions[name] for name, column in use.columns.items()}
    return pinned


def _span(frame: pl.DataFrame) -> list[str]:
    if frame.is_empty():
        return []
    first, last = frame[AT].to_physical().min(), frame[AT].to_physical().max()
    return [to_iso(int(first)), to_iso(int(last))]  # type: ignore[arg-type]
