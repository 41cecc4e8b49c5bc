"""Training sets: the rows, every feature at each row's instant, derived columns, and the label that came later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from twofold.definitions.model import Label, Model, Rows
from twofold.errors import DataError, DefinitionError, NotYet
from twofold.instants import BEGIN_US, duration_us
from twofold.plan.compile import CompiledProject, time_after_steps
from twofold.plan.derived import derive
from twofold.plan.inputs import MAJOR, MINOR, with_steps
from twofold.plan.serving import ModelPlan, UsePlan

AT, LABEL = "at", "label"
_TIME = "__label_time"

History = Callable[[str, pl.DataFrame], pl.DataFrame]
"""(view, spine of its key columns and `at`) -> its features, in the order of the spine."""
EventsOf = Callable[[str], pl.DataFrame]
"""Name of a source -> its events that count, as a frame of `plan.inputs`."""


@dataclass(frozen=True)
class TrainingData:
    """A training set: `frame` has `at`, the request's fields, the model's columns and `label`; rows in order of `at`."""

    frame: pl.DataFrame
    columns: tuple[str, ...]


def training_rows(rows: Rows, plan: ModelPlan, events_of: EventsOf) -> pl.DataFrame:
    """`at` and the request's fields of every row to train on, in order of `at`, ties as the events lie in history and log."""
    if rows.later:
        raise NotYet(f"tw.Rows({rows.later[0]}=...) is not carried out by this version ({rows.place})")
    frame = with_steps(events_of(rows.source.name), rows.source.steps)
    at = pl.col(rows.source.time) if rows.at is None else pl.col(rows.at) if isinstance(rows.at, str) else rows.at
    if rows.where is not None:
        frame = frame.filter(rows.where)
    chosen = frame.select(at.cast(pl.Datetime("us", "UTC")).alias(AT), *(pl.col(name) for name in plan.request), MAJOR, MINOR)
    return chosen.drop_nulls(AT).sort(AT, MAJOR, MINOR).drop(MAJOR, MINOR)


def with_label(rows: pl.DataFrame, label: Label, events_of: EventsOf, until: int | None) -> pl.DataFrame:
    """Rows whose horizon is over, with `label`: the value of the first matching event in [at, at + within).

    A horizon is over when the label's source has arrived that far (and, with `until`, before that instant).
    """
    within = duration_us(label.within)
    events = with_steps(events_of(label.source.name), label.source.steps)
    time = time_after_steps(label.source)
    matching = (
        events.select(pl.col(time).alias(_TIME), *label.keys, _value(label).alias(LABEL), MAJOR, MINOR)
        .sort(_TIME, MAJOR, MINOR)
        .drop(MAJOR, MINOR)
    )
    reached = int(matching[_TIME].to_physical().cast(pl.Int64).to_numpy().max(initial=BEGIN_US))
    horizon = reached if until is None else min(reached, until)
    over = rows.filter(pl.col(AT).to_physical() + within <= horizon)
    found = over.join_asof(matching, left_on=AT, right_on=_TIME, by=list(label.keys), strategy="forward", check_sortedness=False)
    late = (pl.col(_TIME).to_physical() - pl.col(AT).to_physical()) >= within
    labelled = found.with_columns(pl.when(~late).then(LABEL).alias(LABEL)).drop(_TIME)
    if label.missing is None:
        return labelled.drop_nulls(LABEL)
    return labelled.with_columns(pl.col(LABEL).fill_null(pl.lit(label.missing)))


def _value(label: Label) -> pl.Expr:
    value = pl.col(label.value) if isinstance(label.value, str) else label.value
    if not isinstance(value, pl.Expr):
        raise NotYet(f"a label that is an aggregate or a dict is not carried out by this version ({label.place})")
    return value


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


def require_training(model: Model) -> tuple[Rows, Label]:
    """The rows and label of a model that can be trained; raises DefinitionError for a feature set."""
    if model.rows is None or model.label is None or model.estimator is None:
        missing = [name for name in ("rows", "label", "estimator") if getattr(model, name) is None]
        raise DefinitionError(f"model {model.name!r} cannot be trained: it has no {' and no '.join(missing)} ({model.place})")
    return model.rows, model.label


def require_rows(frame: pl.DataFrame, what: str) -> None:
    """Raises DataError where nothing is left to train on."""
    if frame.is_empty():
        raise DataError(f"{what} has no rows: load or append events of its sources first, and see that the label's horizon is over")
