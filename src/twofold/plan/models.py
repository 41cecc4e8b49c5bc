"""Models compiled: which columns a prediction sees, in which order, from which view and request field."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from twofold.definitions.model import Cached, Default, Model
from twofold.instants import duration_us
from twofold.plan.serving import DerivedPlan, FallbackPlan, ModelPlan, UsePlan, ViewPlan
from twofold.versions import function_source


def compile_model(model: Model, views: Mapping[str, ViewPlan]) -> ModelPlan:
    """The plan of a model without a predictor. Columns: request fields that are no identifiers, each view's features, derived."""
    uses = tuple(
        UsePlan(
            view=use.view.name,
            keys=tuple(use.keys.get(key, key) for key in views[use.view.name].by),
            columns={
                feature.name: use.column_prefix + feature.name
                for feature in views[use.view.name].features
                if use.features is None or feature.name in use.features
            },
        )
        for use in model.uses
    )
    derived = tuple(_derived(name, function) for name, function in model.derived.items())
    columns = [name for name, kind in model.request_types.items() if kind != "str"]
    columns += [column for use in uses for column in use.columns.values()]
    columns += [item.name for item in derived]
    return ModelPlan(
        name=model.name,
        version=None,
        request=model.request_types,
        uses=uses,
        derived=derived,
        columns=tuple(column for column in columns if column not in model.drop),
        fallback=tuple(_fallback(item) for item in model.fallback),
        deadline_us=duration_us(model.deadline),
        labels=model.label_names,
    )


def _derived(name: str, function: object) -> DerivedPlan:
    """A derived column as source: its body as one expression or function of its arguments."""
    node = function_source(function)  # type: ignore[arg-type]
    arguments = tuple(argument.arg for argument in node.args.args)
    if isinstance(node, ast.FunctionDef):
        node.decorator_list = []
    return DerivedPlan(name, arguments, ast.unparse(node))


def _fallback(item: Cached | Default) -> FallbackPlan:
    if isinstance(item, Cached):
        return FallbackPlan("cached", max_age_us=duration_us(item.max_age))
    value = dict(item.value) if isinstance(item.value, Mapping) else item.value
    return FallbackPlan("default", value=value)
