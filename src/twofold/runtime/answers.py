"""Online answers as frames; how they are read is not known here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from twofold.learn.dataset import with_derived
from twofold.learn.rows import AT
from twofold.plan.compile import CompiledProject
from twofold.plan.inputs import FEATURE_TYPES
from twofold.plan.merge import age_s
from twofold.plan.serving import ViewPlan


def feature_frame(plan: ViewPlan, keys: Sequence[Sequence[Any]], answers: Sequence[Any], status: bool) -> pl.DataFrame:
    """Key columns, features and, if asked for, `status` and `age_s` (`__status`, `__age_s` beside columns of that name); one row a key."""
    columns = {name: pl.Series([key[i] for key in keys], dtype=FEATURE_TYPES[kind]) for i, (name, kind) in enumerate(plan.by.items())}
    for i, feature in enumerate(plan.features):
        columns[feature.name] = pl.Series([answer.values[i] for answer in answers], dtype=FEATURE_TYPES[feature.type])
    if status:
        columns[_free("status", columns)] = pl.Series([answer.status for answer in answers], dtype=pl.String)
        columns[_free("age_s", columns)] = pl.Series([age_s(answer.age_us) for answer in answers], dtype=pl.Float64)
    return pl.DataFrame(columns)


def _free(name: str, columns: Collection[str]) -> str:
    """A name that none of the columns has; none of a user's begins with two underscores."""
    return f"__{name}" if name in columns else name


def vector_frame(project: CompiledProject, model: str, rows: Sequence[Mapping[str, Any]], vectors: Sequence[Any]) -> pl.DataFrame:
    """The request's fields, `at`, features and derived columns of a model; one row a request, in order."""
    plan = project.model(model)
    request = {name: FEATURE_TYPES[kind] for name, kind in plan.request.items()}
    schema = {
        column: FEATURE_TYPES[feature.type]
        for use in plan.uses
        for feature in project.view(use.view).plan.features
        if (column := use.columns.get(feature.name)) is not None
    }
    frame = pl.DataFrame(
        {
            AT: pl.Series([vector.at_us for vector in vectors], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            **{name: pl.Series([row.get(name) for row in rows], dtype=kind) for name, kind in request.items()},
            **{name: pl.Series([vector.columns[name] for vector in vectors], dtype=kind) for name, kind in schema.items()},
        }
    )
    return with_derived(frame, plan)
