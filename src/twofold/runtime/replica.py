"""What a serving process holds: plan, readers, predictors, ingest. It never runs the project file and never imports Polars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.errors import DataError, NotBuilt, UnknownName, did_you_mean
from twofold.log.base import Position
from twofold.plan.ingest import check_rows
from twofold.plan.serving import PredictorPlan, ServingPlan, decode_plan
from twofold.predictors.base import Predictor, load_predictor
from twofold.registry.base import PLAN_ALIAS
from twofold.runtime.home import Home
