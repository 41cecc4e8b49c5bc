"""Training: a dataset split by time, fitted, evaluated, exported and registered as a version that names all it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from twofold.definitions.model import LABEL, Model
from twofold.errors import DataError
from twofold.instants import Duration, duration_us, to_iso
from twofold.learn.dataset import categories_of, floats, matrix_of, require_rows, require_training
from twofold.learn.evaluate import evaluate
from twofold.learn.fit import fit
from twofold.learn.rows import AT
from twofold.plan.compile import CompiledProject
from twofold.plan.serving import ModelPlan, PredictorPlan
from twofold.predictors.base import format_of, library
from twofold.registry.base import Registry
from twofold.versions import version_of


@dataclass(frozen=True)
class Trained:
    """A registered model version: its figures on the rows held back, and how many rows were used."""

    model: str
    version: str
    metrics: dict[str, float | int | None]
    rows: int
    test_rows: int
    predictor: PredictorPlan


def split_by_time(frame: pl.DataFrame, test: Duration | None, gap_us: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows to fit, rows to judge by): the last `test` of time is held back, and before it the label's horizon is left out.

    The gap keeps out rows whose label came from the time that is judged.
    """
    if test is None:
        return frame, frame.clear()
    at = pl.col(AT).to_physical()
    begin = int(frame[AT].to_physical().max()) - duration_us(test)  # type: ignore[arg-type]
    return frame.filter(at < begin - gap_us), frame.filter(at >= begin)


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
    _, labels = require_training(model)
    require_rows(frame, f"the training set of {model.name!r}")
    fitting, judging = split_by_time(frame, test, max(duration_us(label.within) for label in labels.values()))
    if fitting.is_empty():
        raise DataError(
            f"no rows of {model.name!r} lie before the {test} held back for the test; load more history or give a shorter test="
        )
    categories = categories_of(fitting, plan.columns)
    matrix = matrix_of(fitting, plan.columns, categories)
    categorical = [i for i, name in enumerate(plan.columns) if name in categories]
    estimator = fit(model.estimator, matrix, floats(fitting[LABEL]), plan.columns, categorical)
    kind = library(format_of(estimator))
    artifact = registry.put_artifact(kind.export(estimator))
    predictor = PredictorPlan(format_of(estimator), artifact, plan.columns, categories, kind.output_of(estimator))
    metrics = _metrics(predictor, judging, registry)
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


def _metrics(predictor: PredictorPlan, judging: pl.DataFrame, registry: Registry) -> dict[str, float | int | None]:
    """How good the exported model is, loaded as serving will load it."""
    loaded = library(predictor.format).load(registry.artifact_path(predictor.artifact), predictor.columns)
    matrix = matrix_of(judging, predictor.columns, predictor.categories)
    predictions = loaded.predict(matrix) if judging.height else np.empty(0)
    return evaluate(floats(judging[LABEL]), predictions, "probability" if predictor.output == "probability" else "value")


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
