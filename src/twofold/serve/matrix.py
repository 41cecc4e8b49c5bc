"""What a model sees: request, features and derived columns of each request, as columns for people and as float64 for the estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.instants import to_datetime, to_us
from twofold.plan.derived import derive
from twofold.plan.serving import ModelPlan, ServingPlan
from twofold.serve.features import Vector
from twofold.serve.requests import Request

Matrix = NDArray[np.float64]
Row = dict[str, Any]


class ModelInputs:
    """Puts together the columns of one model version. Threads may share it."""

    def __init__(self, model: ModelPlan, plan: ServingPlan) -> None:
        features = {
            column: feature.type
            for use in model.uses
            for feature in plan.views[use.view].features
            if (column := use.columns.get(feature.name)) is not None
        }
        self._model = model
        self._feature_instants = tuple(name for name, kind in features.items() if kind == "datetime")
        self._request_instants = frozenset(name for name, kind in model.request.items() if kind == "datetime")
        predictor = model.predictor
        self.width = 0 if predictor is None else len(predictor.columns)
        self._columns: list[tuple[str, Mapping[str, float] | None]] = []
        for name in () if predictor is None else predictor.columns:
            texts = predictor.categories.get(name) if predictor is not None else None
            self._columns.append((name, None if texts is None else {text: float(code) for code, text in enumerate(texts)}))

    def matrix(self, requests: Sequence[Request], vectors: Sequence[Vector]) -> Matrix:
        """float64[n, k] in the order of the predictor's columns.

        A text is its frozen code, NaN where it is unseen or null; a bool is 0 or 1, an instant microseconds; a null is NaN.
        """
        values = [self._values(row) for row in self._rows(requests, vectors)]
        return np.array(values, np.float64).reshape(len(values), self.width)

    def row(self, request: Request, vector: Vector) -> Matrix:
        """float64[k] of one request, the row that `matrix` has for it."""
        return np.array(self._values(self._rows([request], [vector])[0]), np.float64)

    def _values(self, row: Row) -> list[Any]:
        for name in self._feature_instants:
            if row[name] is not None:
                row[name] = to_us(row[name])
        return [row[name] if codes is None else codes.get(row[name]) for name, codes in self._columns]

    def columns(self, requests: Sequence[Request], vectors: Sequence[Vector]) -> list[Row]:
        """All columns of the model by name, in its order, as Python values; None is null, instants are aware datetimes."""
        rows = self._rows(requests, vectors)
        for row in rows:
            for name in self._request_instants:
                row[name] = None if row[name] is None else to_datetime(row[name])
        return [{name: row[name] for name in self._model.columns} for row in rows]

    def _rows(self, requests: Sequence[Request], vectors: Sequence[Vector]) -> list[Row]:
        """Request fields, features and derived columns together."""
        rows = [{**request, **vector.columns} for request, vector in zip(requests, vectors, strict=True)]
        if self._model.derived and rows:
            known: dict[str, Matrix] = {}
            for item in self._model.derived:
                for name in item.arguments:
                    if name not in known:
                        known[name] = self._floats(rows, name)
                known[item.name] = derived = derive(item, known, len(rows))
                for row, value in zip(rows, derived.tolist(), strict=True):
                    row[item.name] = None if value != value else value
        return rows

    def _floats(self, rows: Sequence[Row], name: str) -> Matrix:
        """A column of numbers, booleans or instants as float64[n]; NaN is null."""
        if name in self._feature_instants:
            return np.array([None if row[name] is None else to_us(row[name]) for row in rows], np.float64)
        return np.array([row[name] for row in rows], np.float64)
