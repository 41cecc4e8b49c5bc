"""Definitions compiled: sources, views and models as plans, and for each view the expressions that give its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from twofold.algebra.base import registered
from twofold.algebra.own import OPAQUE
from twofold.definitions.base import ELEMENT_TYPES
from twofold.definitions.concat import Concat, branches_of
from twofold.definitions.events import Events, Step
from twofold.definitions.expressions import canonical_text, output_type
from twofold.definitions.features import Feature, class_of, named_features
from twofold.definitions.joins import joined_columns, key_columns
from twofold.definitions.own_source import class_content, own_source
from twofold.definitions.project import Project, joins_of
from twofold.definitions.table import Table
from twofold.definitions.view import View
from twofold.errors import known
from twofold.instants import duration_us, hop_for
from twofold.plan.models import compile_model
from twofold.plan.own import slot_text
from twofold.plan.serving import (
    FeaturePlan,
    InputPlan,
    JoinPlan,
    ModelPlan,
    ServingPlan,
    SlotPlan,
    SourcePlan,
    ViewPlan,
    WindowPlan,
)
from twofold.versions import version_of

if TYPE_CHECKING:
    import polars as pl

EVENT_TYPE = "event"


@dataclass(frozen=True)
class CompiledView:
    """A view's plan and how its inputs come from a source: row-level steps, then one expression per input.

    `time` is the time column after the steps, None for a static table. `deleted` is a table's column that marks deletes.
    `time` is the time column after the steps, None for a static table. A view over `tw.concat` has one of these for each branch: the
    project names the first, which knows the others. `branch` is (number of the branch, how many there are).
    """

    plan: ViewPlan
    time: str | None
    steps: tuple[Step, ...] = ()
    inputs: tuple[pl.Expr, ...] = field(default=(), compare=False)
    deleted: str | None = None
    source: str = ""
    branch: tuple[int, int] = (0, 1)
    others: tuple[CompiledView, ...] = ()

    def branches(self, source: str | None = None) -> tuple[CompiledView, ...]:
        """All branches, or those of one source."""
        return tuple(branch for branch in (self, *self.others) if source in (None, branch.source))


@dataclass(frozen=True)
class CompiledProject:
    """A project whose definitions have been turned into plans; raises UnknownName for names it does not have."""

    project: Project
    sources: Mapping[str, SourcePlan]
    views: Mapping[str, CompiledView]
    serving: ServingPlan

    def source(self, name: str) -> SourcePlan:
        """The source or table of that name."""
        return known(self.sources, name, "source")

    def view(self, name: str) -> CompiledView:
        """The view or table of that name."""
        return known(self.views, name, "view")

    def model(self, name: str) -> ModelPlan:
        """The model of that name, without a predictor."""
        return known(self.serving.models, name, "model")

    def views_of(self, source: str) -> list[CompiledView]:
        """The views fed by a source."""
        return [view for view in self.views.values() if source in view.plan.sources]


def compile_project(project: Project) -> CompiledProject:
    """Plans of everything the project reaches. The definitions must have passed `check`."""
    joins = _joins_by_source(project)
    sources = {source.name: compile_source(source, joins.get(source.name, ())) for source in project.reached_sources()}
    views = {view.name: compile_view(view) for view in project.reached_views()}
    plans = {name: view.plan for name, view in views.items()}
    models = {model.name: compile_model(model, plans) for model in project.models}
    return CompiledProject(project, sources, views, ServingPlan(project.name, sources, plans, models))


def _joins_by_source(project: Project) -> dict[str, tuple[JoinPlan, ...]]:
    """What each source's events are joined with in any view, rows or label, each join once, in an order that is always the same."""
    found: dict[str, dict[tuple[str, ...], JoinPlan]] = {}
    for events in project.reached_events():
        for step in joins_of(events):
            columns = joined_columns(step)
            stored = {joined.column: joined.stored for joined in columns}
            types = {joined.stored: joined.type for joined in columns}
            found.setdefault(events.name, {})[tuple(types)] = JoinPlan(step.content["table"].name, key_columns(step), stored, types)
    return {name: tuple(joins[key] for key in sorted(joins)) for name, joins in found.items()}


def compile_source(source: Events | Table, joins: Sequence[JoinPlan] = ()) -> SourcePlan:
    """The plan of a source of events, which `joins` add to, or of a table's rows."""
    if isinstance(source, Table):
        return SourcePlan(
            source.name,
            source.columns,
            source.time,
            zone=source.zone,
            partition_by=source.by,
            is_table=True,
            deleted=source.deleted_column,
            is_snapshots=source.snapshots,
        )
    by = source.partition_by if source.partition_by is not None else source.id
    return SourcePlan(
        source.name,
        source.columns,
        source.time,
        id=source.id,
        dedupe_us=source.dedupe_us,
        zone=source.zone,
        partition_by=() if by is None else (by,) if isinstance(by, str) else tuple(by),
        joins=tuple(joins),
    )


def compile_view(view: View | Table) -> CompiledView:
    """The plan of a view or of a table, and its input expressions."""
    return _compile_table(view) if isinstance(view, Table) else _compile_events_view(view)


def columns_after_steps(events: Events) -> dict[str, str]:
    """Type names of the columns that a view of these events sees, after its row-level steps."""
    columns = events.columns
    for step in events.steps:
        if step.kind == "rename":
            columns = {step.content.get(name, name): kind for name, kind in columns.items()}
        elif step.kind == "with_columns":
            columns = {**columns, **{name: output_type(expr, columns) for name, expr in step.content.items()}}
        elif step.kind == "explode":
            columns = {**columns, step.content["column"]: ELEMENT_TYPES[columns[step.content["column"]]]}
        elif step.kind == "join":
            columns = {**columns, **{joined.name: joined.type for joined in joined_columns(step)}}
    return columns


def columns_of_view(source: Events | Concat) -> dict[str, str]:
    """Type names of the columns that a view sees: those of all branches."""
    first, *others = [columns_after_steps(events) for events in branches_of(source)]
    return {name: kind for name, kind in first.items() if all(name in columns for columns in others)}


def time_after_steps(events: Events) -> str:
    """Name of the time column after the row-level steps."""
    time = events.time
    for step in events.steps:
        if step.kind == "rename":
            time = step.content.get(time, time)
    return time


def _steps_content(events: Events) -> list[Any]:
    content: list[Any] = []
    for step in events.steps:
        if step.kind == "join":
            columns = [[joined.name, joined.stored, joined.type] for joined in joined_columns(step)]
            content.append(["join", {"table": step.content["table"].name, "columns": columns}])
            continue
        is_plain = step.kind in ("rename", "explode")
        named = {name: value if is_plain else canonical_text(value) for name, value in step.content.items()}
        content.append([step.kind, named])
    return content


class _Pool:
    """Distinct items in the order of their first use."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def index(self, item: Any) -> int:
        if item not in self.items:
            self.items.append(item)
        return self.items.index(item)


def _compile_events_view(view: View) -> CompiledView:
    columns = columns_of_view(view.source)
    by = {name: columns[name] for name in view.keys}
    branches = branches_of(view.source)
    contents = [_branch_content(events) for events in branches]
    identity = {
        "source": contents if len(branches) > 1 else contents[0],
        "by": by,
        "visibility": [view.mode, view.refresh, view.as_of, _delay_us(view)],
    }
    inputs, texts = _Pool(), list[InputPlan]()
    own = {feature.aggregate: own_source(feature.own) for feature in view.features.values() if feature.own is not None}
    expressions: list[pl.Expr] = []
    windows, slots = _Pool(), _Pool()
    orders = _moment_orders(view)
    features: list[FeaturePlan] = []
    for name, feature in view.features.items():
        text, expression, kind = _input(feature, columns)
        index = -1
        if expression is not None:
            index = inputs.index((text, kind))
            if index == len(expressions):
                expressions.append(expression)
                texts.append(InputPlan(_label(feature), kind, _row_columns(feature, columns)))
        for named in named_features(name, feature):
            compiled = class_of(feature)(kind, **({} if kind == "row" else named.parameters))
            result_type = columns[named.parameters["column"]] if kind == "row" else compiled.result_type
            state = orders.get(text, compiled.state) if compiled.state.startswith(("moments", "count")) else compiled.state
            of = slot_text(feature.aggregate, named.parameters) if state == OPAQUE else ""
            slot, plan = slots.index(SlotPlan(state, index, compiled.size, of)), _window(named.window, feature)
            of_class = feature.aggregate if feature.own is None else class_content(feature.own)
            meaning = {"aggregate": of_class, "parameters": dict(named.parameters), "input": text}
            version = version_of({**identity, **meaning, "window": [plan.width_us, plan.hop_us, plan.ago_us]})
            window = windows.index(plan)
            features.append(FeaturePlan(named.name, version, feature.aggregate, slot, window, result_type, dict(named.parameters)))
    moved, ordered = _opaque_last(features, slots.items)
    whole = ViewPlan(
        name=view.name,
        version=_view_version(view.name, moved, ordered),
        sources=tuple(dict.fromkeys(events.name for events in branches)),
        by=by,
        mode=view.mode,
        windows=tuple(windows.items),
        inputs=tuple(texts),
        slots=ordered,
        features=moved,
        refresh=view.refresh,
        max_age_us=None if view.max_age is None else duration_us(view.max_age),
        as_of=view.as_of,
        delay_us=_delay_us(view),
        aggregates=own,
    )
    first, *others = [
        CompiledView(whole, time_after_steps(events), events.steps, tuple(expressions), source=events.name, branch=(number, len(branches)))
        for number, events in enumerate(branches)
    ]
    return replace(first, others=tuple(others))


def _branch_content(events: Events) -> list[Any]:
    source = compile_source(events)
    return [source.name, source.time, source.id, source.dedupe_us, _steps_content(events)]


def _opaque_last(features: Sequence[FeaturePlan], slots: Sequence[SlotPlan]) -> tuple[tuple[FeaturePlan, ...], tuple[SlotPlan, ...]]:
    """Features and slots, those that compiled code does not understand after the others."""
    order = sorted(range(len(slots)), key=lambda slot: slots[slot].state == OPAQUE)
    moved = tuple(msgspec.structs.replace(feature, slot=order.index(feature.slot)) for feature in features)
    return moved, tuple(slots[slot] for slot in order)


BLOB_FORMAT = 3
"""Changes with the words of blobs: states of another format are another view version, built beside the old."""


def _view_version(name: str, features: Sequence[FeaturePlan], slots: Sequence[SlotPlan]) -> str:
    """A view version names what is stored: its features and how their states lie. A feature's own version names only its meaning."""
    stored = [[slot.state, slot.input, slot.size] for slot in slots]
    return version_of({"name": name, "features": [[f.name, f.version] for f in features], "slots": stored, "format": BLOB_FORMAT})


def _moment_orders(view: View) -> dict[str, str]:
    """For each input the highest kind of moments that a feature needs: count, sum, mean and std of one input share a state."""
    kinds = {name: cls.state for name, cls in registered().items() if cls.state.startswith("moments")}
    orders: dict[str, str] = {}
    for feature in view.features.values():
        if feature.aggregate in kinds:
            text = _input_text(feature)
            orders[text] = max(orders.get(text, ""), kinds[feature.aggregate])
    return orders


def _input_text(feature: Feature) -> str:
    if isinstance(feature.input, tuple):
        value = f"row {list(feature.input)}"
    else:
        value = EVENT_TYPE if feature.input is None else canonical_text(feature.input)
    return value if feature.where is None else f"{value} where {canonical_text(feature.where)}"


def _label(feature: Feature) -> str:
    value = "events" if feature.input is None else ", ".join(feature.input) if isinstance(feature.input, tuple) else str(feature.input)
    return value if feature.where is None else f"{value} where {feature.where}"


def _input(feature: Feature, columns: Mapping[str, str]) -> tuple[str, pl.Expr | None, str]:
    """(canonical text, expression, type name) of a feature's input; no expression where every event counts."""
    import polars as pl

    text = _input_text(feature)
    if feature.input is None and feature.where is None:
        return text, None, EVENT_TYPE
    if isinstance(feature.input, tuple):
        row = pl.struct(feature.input)
        return text, row if feature.where is None else pl.when(feature.where).then(row), "row"
    value = pl.lit(True) if feature.input is None else pl.col(feature.input) if isinstance(feature.input, str) else feature.input
    expression = value if feature.where is None else pl.when(feature.where).then(value)
    return text, expression, output_type(value, columns)


def _delay_us(view: View) -> int:
    return 0 if view.delay is None else duration_us(view.delay)


def _row_columns(feature: Feature, columns: Mapping[str, str]) -> dict[str, str] | None:
    return {name: columns[name] for name in feature.input} if isinstance(feature.input, tuple) else None


def _window(text: str | None, feature: Feature) -> WindowPlan:
    if text is None:
        return WindowPlan(None, 0, "all")
    width = duration_us(text)
    hop = duration_us(feature.hop) if feature.hop else hop_for(width)
    return WindowPlan(width, hop, text, duration_us(feature.ago) if feature.ago else 0)


def _compile_table(table: Table) -> CompiledView:
    values = {name: table.columns[name] for name in table.value_columns}
    by = {name: table.columns[name] for name in table.by}
    identity: dict[str, Any] = {"table": table.name, "by": by, "time": table.time, "columns": values}
    if table.deleted_column is not None:
        identity["deleted"] = table.deleted_column
    features = tuple(
        FeaturePlan(name, version_of({**identity, "column": name}), "last", 0, 0, kind, {"column": name}) for name, kind in values.items()
    )
    return CompiledView(
        ViewPlan(
            name=table.name,
            version=version_of(identity),
            sources=(table.name,),
            by=by,
            mode="hybrid",
            windows=(WindowPlan(None, 0, "all"),),
            inputs=(InputPlan("row", "row", values),),
            slots=(SlotPlan("last", 0),),
            features=features,
            row=values,
            max_age_us=None if table.max_age is None else duration_us(table.max_age),
            is_static=table.time is None,
        ),
        table.time,
        deleted=table.deleted_column,
        source=table.name,
    )
