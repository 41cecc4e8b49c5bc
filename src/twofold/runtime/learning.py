"""Training and promotion of a project's models: rooms called in order, and what is live moved as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from twofold.definitions.content import content_of
from twofold.definitions.model import Model
from twofold.errors import Fenced, UnknownName
from twofold.fail_points import fail_point
from twofold.instants import Duration, Instant, to_us
from twofold.learn import train as training
from twofold.learn.dataset import matrix_of, model_named
from twofold.learn.promote import with_live
from twofold.plan.serving import PredictorPlan, encode_plan
from twofold.predictors.base import load_predictor
from twofold.progress import Progress, silent
from twofold.registry.base import PLAN_ALIAS, live_alias
from twofold.runtime.home import PLAN

if TYPE_CHECKING:
    from twofold.runtime.opened import Opened


def train(
    project: Opened, model: str, until: Instant | None, test: Duration | None, frame: pl.DataFrame | None, progress: Progress = silent
) -> training.Trained:
    """What `Opened.train` says."""
    definition, plan = model_named(project.compiled, model)
    dataset = _dataset(project, definition, until)
    frame = project.training_set(model, until=until, progress=progress) if frame is None else frame
    progress(f"fitting {model}")
    trained = training.train(definition, plan, project.compiled, frame, dataset, project.home.registry, test)
    if project.home.registry.alias(live_alias(model)) is None:
        go_live(project, {model: trained.version})
    return trained


def _dataset(project: Opened, model: Model, until: Instant | None) -> dict[str, Any]:
    """What names a training set: rows and labels, history versions and the log's ends of every source that it may read, `until`."""
    sources = sorted(project.compiled.sources)
    ends = project.home.log.end_offsets(sources)
    return {
        "model": model.name,
        "rows": content_of(model.rows),
        "label": content_of(model.label),
        "log": project.home.log.uuid,
        "history": {source: project.home.tables.history_version(source) for source in sources},
        "cut": {f"{source}/{partition}": end for (source, partition), end in sorted(ends.items())},
        "until": None if until is None else to_us(until),
        "visibility": "ideal",
    }


def score(project: Opened, model: str, frame: pl.DataFrame) -> pl.Series:
    """What `Opened.score` says."""
    registry = project.home.registry
    version = registry.alias(live_alias(project.compiled.model(model).name))
    if version is None:
        raise UnknownName(f"model {model!r} has no live version; train it first")
    plan = msgspec.convert(registry.get(model, version).record["predictor"], PredictorPlan)
    predictor = load_predictor(plan.format, registry.artifact_path(plan.artifact), plan.columns)
    found = predictor.predict(matrix_of(frame, plan.columns, plan.categories))
    if not plan.outputs:
        return pl.Series(model, found)
    return pl.DataFrame(found.reshape(frame.height, len(plan.outputs)), schema=[name for name, _ in plan.outputs]).to_struct(model)


def promote(project: Opened, model: str, version: str | None) -> str:
    """What `Opened.promote` says."""
    found = [item.version for item in project.home.registry.versions(project.compiled.model(model).name)]
    if not found:
        raise UnknownName(f"model {model!r} has no version yet; train it first")
    matching = found[-1:] if version is None else [item for item in found if item.startswith(version)]
    if len(matching) != 1:
        raise UnknownName(f"model {model!r} has no one version {version!r}; it has {', '.join(found)}")
    go_live(project, {model: matching[0]})
    return matching[0]


def rollback(project: Opened, model: str) -> str:
    """What `Opened.rollback` says."""
    moves = project.home.registry.alias_history(live_alias(project.compiled.model(model).name))
    if len(moves) < 2:
        raise UnknownName(f"model {model!r} has no earlier live version to go back to")
    go_live(project, {model: moves[-2].value})
    return moves[-2].value


def go_live(project: Opened, changes: Mapping[str, str]) -> None:
    """Move the live versions and the serving plan as one, and wake the replicas. Two promotions at once both take effect."""
    registry = project.home.registry
    while True:
        seen = {name: registry.alias(name) for name in (PLAN_ALIAS, *map(live_alias, project.compiled.serving.models))}
        live = {name: changes.get(name) or seen[live_alias(name)] for name in project.compiled.serving.models}
        plan = with_live(project.compiled, {name: version for name, version in live.items() if version}, registry)
        moves = {PLAN_ALIAS: registry.put_artifact(encode_plan(plan)), **{live_alias(name): version for name, version in changes.items()}}
        fail_point("plan.before_move")
        try:
            registry.move_aliases(moves, expect=seen)
        except Fenced:
            continue
        project.home.bell.ring(PLAN)
        return
