"""Training sets: the rows, every feature at each row's instant, derived columns, and the label that came later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.definitions.model import WEIGHT, Label, Model, Rows
from twofold.errors import DataError, DefinitionError
from twofold.learn.labels import EventsOf, with_labels
from twofold.learn.rows import AT, row_fields, training_rows, weighed
from twofold.plan.compile import CompiledProject
from twofold.plan.derived import derive
from twofold.plan.serving import ModelPlan, UsePlan
from twofold.tables.frames import conform_rows

History = Callable[[str, pl.DataFrame], pl.DataFrame]
"""(view, spine of its key columns and `at`) -> its features, in the order of the spine."""


def training_set(
    model: Model, plan: ModelPlan, project: CompiledProject, events_of: EventsOf, history: History, rows: Any, until: int | None
) -> pl.DataFrame:
    """`at`, the request's fields, the model's columns and, where they are declared, group and weight; then the labels.

    Rows are those of the model's Rows in order of `at`; or the table `rows`, in its order, of `at`, the request's fields and what
    else a row needs (group, weight, what a label is tied by).
    """
    declared, labels = require_training(model)
    fields = row_fields(model, declared, plan.request)
    if rows is None:
        chosen = training_rows(declared, fields, events_of(declared.source.name))
    elif declared.weight is None:
        chosen = conform_rows(fields, rows)
    else:
        chosen = weighed(conform_rows({**fields, WEIGHT: "float"}, rows), "the table of rows")
    labelled = with_labels(chosen, labels, events_of, until)
    last = [name for name in (declared.group, WEIGHT) if name in labelled.columns and name not in plan.request]
    featured = with_features(labelled.select(AT, *plan.request), plan, project, history)
    return pl.concat([featured, labelled.select(*last, *labels)], how="horizontal")


def with_features(rows: pl.DataFrame, plan: ModelPlan, project: CompiledProject, history: History) -> pl.DataFrame:
    """Rows (with `at` and the request's fields) with the model's feature and derived columns added."""
    columns = [rows]
    computed: dict[tuple[str, tuple[str, ...]], pl.DataFrame] = {}
    for use in plan.uses:
        place = (use.view, use.keys)
        if place not in computed:
            computed[place] = history(use.view, _spine(rows, use, project))
        columns.append(computed[place].select(pl.col(name).alias(column) for name, column in use.columns.items()))
    return with_derived(pl.concat(columns, how="horizontal"), plan)


def with_derived(frame: pl.DataFrame, plan: ModelPlan) -> pl.DataFrame:
    """A frame with the request's fields and features, with the model's derived columns added."""
    known = {name: floats(frame[name]) for item in plan.derived for name in item.arguments if name in frame.columns}
    for item in plan.derived:
        known[item.name] = derive(item, known, frame.height)
        frame = frame.with_columns(pl.Series(item.name, known[item.name]).fill_nan(None))
    return frame


def _spine(rows: pl.DataFrame, use: UsePlan, project: CompiledProject) -> pl.DataFrame:
    by = project.view(use.view).plan.by
    return rows.select(AT, *(pl.col(field).alias(key) for key, field in zip(by, use.keys, strict=True)))


def floats(column: pl.Series) -> NDArray[np.float64]:
    """A column of numbers, booleans or instants (microseconds) as float64, NaN for null."""
    physical = column.to_physical() if column.dtype.is_temporal() else column
    return physical.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def categories_of(frame: pl.DataFrame, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The texts of every text column, in order; their index is the code."""
    return {name: tuple(sorted(frame[name].drop_nulls().unique().to_list())) for name in columns if frame[name].dtype == pl.String}


def matrix_of(frame: pl.DataFrame, columns: Sequence[str], categories: Mapping[str, tuple[str, ...]]) -> NDArray[np.float64]:
    """float64[rows, columns] as the estimator sees it: codes for texts (unseen or null: NaN), NaN for null."""
    matrix = np.empty((frame.height, len(columns)))
    for i, name in enumerate(columns):
        column = frame[name]
        if name in categories:
            codes = {text: float(code) for code, text in enumerate(categories[name])}
            column = column.replace_strict(codes, default=None, return_dtype=pl.Float64) if codes else pl.Series([None] * len(column))
        matrix[:, i] = floats(column)
    return matrix


def model_named(project: CompiledProject, name: str) -> tuple[Model, ModelPlan]:
    """A model's definition and plan; raises UnknownName."""
    plan = project.model(name)
    return next(model for model in project.project.models if model.name == name), plan


def require_training(model: Model) -> tuple[Rows, dict[str, Label]]:
    """The rows and the labels, by their columns, of a model that can be trained; raises DefinitionError for a feature set."""
    if model.rows is None or model.label is None or model.estimator is None:
        missing = [name for name in ("rows", "label", "estimator") if getattr(model, name) is None]
        raise DefinitionError(f"model {model.name!r} cannot be trained: it has no {' and no '.join(missing)} ({model.place})")
    return model.rows, model.labels


def require_rows(frame: pl.DataFrame, what: str) -> None:
    """Raises DataError where nothing is left to train on."""
    if frame.is_empty():
        raise DataError(f"{what} has no rows: load or append events of its sources first, and see that the label's horizon is over")
