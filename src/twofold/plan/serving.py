"""What a replica loads: the serving plan, data only (key layout, merge programme, predictor file, derived functions as source)."""

from __future__ import annotations

from typing import Any

import msgspec

from twofold.algebra.windows import Span


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Plain data, compared by value, written as JSON."""


class JoinPlan(Frozen, frozen=True):
    """A table whose row events take along when they are appended.

    `keys` are the source's columns in the order of the table's key. `stored` maps the table's columns to those of log records and
    archive, `types` the latter to type names.
    """

    table: str
    keys: tuple[str, ...]
    stored: dict[str, str]
    types: dict[str, str]


class SourcePlan(Frozen, frozen=True):
    """What ingest needs to check, partition and store the events of one source.

    `columns` maps every column that arrives to its type name, the time column included. `time` is None for a static table.
    `partition_by` are columns; empty means the whole row. `deleted` is a table's column that marks deletes. `is_snapshots`: a table
    that is loaded in whole snapshots alone. `joins` are what ingest adds to each event; no producer sends it.
    """

    name: str
    columns: dict[str, str]
    time: str | None
    id: str | None = None
    dedupe_us: int | None = None
    zone: str | None = None
    partition_by: tuple[str, ...] = ()
    is_table: bool = False
    deleted: str | None = None
    is_snapshots: bool = False
    joins: tuple[JoinPlan, ...] = ()

    @property
    def stored(self) -> dict[str, str]:
        """Type name of every column of a log record: those that arrive, then those of joined rows."""
        return self.columns if not self.joins else {**self.columns, **{k: v for join in self.joins for k, v in join.types.items()}}

    @property
    def takes_events(self) -> bool:
        """Whether single events or rows can be appended."""
        return self.time is not None and not self.is_snapshots


class WindowPlan(Frozen, frozen=True):
    """`[floor(t - width, hop), t)`; `width_us` None is all time (its hop is 0).

    With `ago_us` it is `[floor(t - ago - width, hop), floor(t - ago, hop))`.
    """

    width_us: int | None
    hop_us: int
    label: str
    ago_us: int = 0

    @property
    def span(self) -> Span:
        """The window as the algebra has it."""
        return Span(self.width_us, self.hop_us, self.ago_us)


class SlotPlan(Frozen, frozen=True):
    """One state of a tile: a kind of state over one input. `input` is an index into the view's inputs; -1 is the event itself.

    `size` is that of kinds that have one, such as the k of the k last values. Of the kind "opaque" `of` tells aggregate and parameters.
    """

    state: str
    input: int
    size: int = 0
    of: str = ""


class InputPlan(Frozen, frozen=True):
    """One input column of a view: its canonical text (for people and hashes) and its type name.

    An input of type "row" holds several columns at once, a null among them too; `columns` are their types.
    """

    text: str
    type: str
    columns: dict[str, str] | None = None


class FeaturePlan(Frozen, frozen=True):
    """One feature: the result of an aggregate over a slot and a window. `type` is the type name of its values.

    `parameters` are the aggregate's own, as `algebra.base.aggregate` takes them.
    """

    name: str
    version: str
    aggregate: str
    slot: int
    window: int
    type: str
    parameters: dict[str, Any] = {}


class ViewPlan(Frozen, frozen=True):
    """The merge programme of one view version.

    `sources` are those whose events it folds, each once; what is kept by source and partition (cuts, deltas) is in this order, the
    partitions of a source together.

    A feature over an input of type "row" reads one column of it: the one that its parameter `column` names. A table is a view with
    one slot `last` over such an input; then `row` names the columns and types too (`slot` 0, `window` 0). `aggregates` are a person's
    own, name -> source of the class; the slots of the kind "opaque", which come last, are theirs.
    """

    name: str
    version: str
    sources: tuple[str, ...]
    by: dict[str, str]
    mode: str
    windows: tuple[WindowPlan, ...]
    inputs: tuple[InputPlan, ...]
    slots: tuple[SlotPlan, ...]
    features: tuple[FeaturePlan, ...]
    row: dict[str, str] | None = None
    refresh: str | None = None
    max_age_us: int | None = None
    is_static: bool = False
    as_of: str = "request"
    delay_us: int = 0
    aggregates: dict[str, str] = {}


class UsePlan(Frozen, frozen=True):
    """A view as a model reads it: `keys` are request fields in the order of the key columns.

    `columns` maps a feature's name to the model's column.
    """

    view: str
    keys: tuple[str, ...]
    columns: dict[str, str]


class DerivedPlan(Frozen, frozen=True):
    """A derived column: the source of a function of columns."""

    name: str
    arguments: tuple[str, ...]
    source: str


class FallbackPlan(Frozen, frozen=True):
    """`kind` "cached" with `max_age_us`, or "default" with `value`."""

    kind: str
    max_age_us: int = 0
    value: Any = None


class PredictorPlan(Frozen, frozen=True):
    """A trained model: which library's file format, where in the registry, its columns in order and the frozen category codes.

    `columns` are the estimator's inputs in order. `categories` maps a column to its texts; the code is the index, unseen is NaN.
    `output` is "probability" (of the positive class), "value", or "several": then `outputs` are (label, what its predictions are).
    """

    format: str
    artifact: str
    columns: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    output: str
    outputs: tuple[tuple[str, str], ...] = ()


class ModelPlan(Frozen, frozen=True):
    """A model as it is served: its request, its columns, its predictor (None for a feature set or before the first training).

    `labels` are the names of several; a prediction is then an object of one value each.
    """

    name: str
    version: str | None
    request: dict[str, str]
    uses: tuple[UsePlan, ...]
    derived: tuple[DerivedPlan, ...]
    columns: tuple[str, ...]
    fallback: tuple[FallbackPlan, ...]
    deadline_us: int
    predictor: PredictorPlan | None = None
    labels: tuple[str, ...] = ()


class ServingPlan(Frozen, frozen=True):
    """All that a replica needs to know of a project."""

    project: str
    sources: dict[str, SourcePlan]
    views: dict[str, ViewPlan]
    models: dict[str, ModelPlan]


def encode_plan(plan: ServingPlan) -> bytes:
    """JSON of a plan, the same bytes for the same plan. Keys and columns keep their order: it is part of what they mean."""
    return msgspec.json.encode(plan)


def decode_plan(raw: bytes) -> ServingPlan:
    """The plan that `encode_plan` wrote; raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(raw, type=ServingPlan)
