"""Which version of each model answers: the serving plan with the live predictors in it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from twofold.errors import VersionError
from twofold.learn.train import pinned_features
from twofold.plan.compile import CompiledProject
from twofold.plan.serving import ModelPlan, PredictorPlan, ServingPlan
from twofold.registry.base import Registry


def with_live(project: CompiledProject, live: Mapping[str, str], registry: Registry) -> ServingPlan:
    """The project's serving plan with each live version's predictor.

    Raises VersionError where a version was trained on features (or a request) that the project no longer defines as they were.
    """
    models = {name: _with_version(project, plan, live.get(name), registry) for name, plan in project.serving.models.items()}
    return msgspec.structs.replace(project.serving, models=models)


def _with_version(project: CompiledProject, plan: ModelPlan, version: str | None, registry: Registry) -> ModelPlan:
    if version is None:
        return plan
    record = registry.get(plan.name, version).record
    trained, now = record["features"], pinned_features(plan, project)
    changed = sorted(column for column, feature in trained.items() if now.get(column) != feature)
    definition = msgspec.convert(record["definition"], ModelPlan)
    if definition.labels != plan.labels:
        changed.append(f"the labels {', '.join(definition.labels)}" if definition.labels else "one label")
    if changed or definition.request != plan.request:
        raise VersionError(
            f"model {plan.name!r} version {version} was trained on {', '.join(changed) or 'another request'}, which the project defines "
            "otherwise now; train the model again, or bring the definition back"
        )
    served = msgspec.structs.replace(definition, fallback=plan.fallback, deadline_us=plan.deadline_us, version=version)
    return msgspec.structs.replace(served, predictor=msgspec.convert(record["predictor"], PredictorPlan))
