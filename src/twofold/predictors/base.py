"""What a trained model is to the rest: a predictor; and the table of file formats. Each library has a file of its own.

A new library is one file with the functions of `Library` and one name in FORMATS; `several` packs what they export, one a label.
Importing this file, or loading a predictor, imports no more of a library than its predictions need; `fit` and `export` import all
of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.errors import DataError, DefinitionError, did_you_mean

Matrix = NDArray[np.float64]
"""Rows by columns, in the model's order of columns. NaN is null; a category is its code."""

Output = Literal["probability", "value"]
"""What a prediction is: the probability of the positive class, or a value."""

FORMATS = {
    "lightgbm": "twofold.predictors.lightgbm",
    "sklearn": "twofold.predictors.sklearn",
}
"""File format -> module. The first library that owns an estimator keeps it, so the general one stands last."""

SEVERAL = "several"
"""The format of a file that holds a predictor for each label."""

Prediction = float | list[float]
"""Of a model with several labels: one for each, in their order."""


class Predictor(Protocol):
    """A trained model, ready to answer; any number of threads may call it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        ...

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """One prediction a row of float64[n, k]: shape [n], of several labels [n, labels], in order.

        Raises DataError for another number of columns.
        """
        ...

    def predict_one(self, row: Matrix) -> Prediction:
        """The prediction for float64[k], bit for bit what `predict` gives for it. Raises DataError for another length."""
        ...


class Library(Protocol):
    """One library: what a file of this room has to offer, as functions."""

    def owns(self, estimator: Any) -> bool:
        """Whether this library trains the estimator; told from its classes, without an import."""
        ...

    def output_of(self, estimator: Any) -> Output:
        """What the estimator's predictions are."""
        ...

    def takes_several(self, estimator: Any) -> bool:
        """Whether one estimator learns several labels at once, given as float64[n, labels]."""
        ...

    def fit(
        self,
        estimator: Any,
        matrix: Matrix,
        labels: NDArray[Any],
        columns: Sequence[str],
        categorical: Sequence[int],
        weight: Matrix | None,
    ) -> Any:
        """A fitted copy; `estimator` itself stays as it is. What the library raises passes through."""
        ...

    def export(self, fitted: Any) -> bytes:
        """The fitted estimator in a format that holds data, no code. Raises DefinitionError where it has none."""
        ...

    def load(self, content: bytes, what: str, columns: Sequence[str]) -> Predictor:
        """The predictor that `export` wrote as `content`, the content of `what` (for errors).

        Raises DataError where its columns are not `columns`, Corrupt where it is no such content, Unavailable where the library
        is not installed. Only give it content whose checksum was verified: no format withstands every changed byte.
        """
        ...


def library(format: str) -> Library:
    """The library of a file format; raises DataError with the formats that can be had."""
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(f"no predictor reads the format {format!r}; known are {known}.{did_you_mean(format, FORMATS)}")
    return cast(Library, importlib.import_module(FORMATS[format]))


def format_of(estimator: Any) -> str:
    """The format that an estimator, fitted or not, is exported to; raises DefinitionError where no library owns it."""
    for format in FORMATS:
        if library(format).owns(estimator):
            return format
    raise DefinitionError(
        f"{type(estimator).__name__} is no estimator that can be trained; give an instance (with brackets) of a scikit-learn "
        "estimator, or of LightGBM's LGBMClassifier or LGBMRegressor"
    )


def load_predictor(format: str, path: Path, columns: Sequence[str]) -> Predictor:
    """The predictor in a file of that format, with the given inputs; the file may be gone afterwards. Errors as of `Library.load`."""
    if format == SEVERAL:
        from twofold.predictors import several

        return several.load(path.read_bytes(), str(path), columns)
    return library(format).load(path.read_bytes(), str(path), columns)


def packed(members: Sequence[tuple[str, bytes]]) -> bytes:
    """One file of the format SEVERAL: (format, what its library exported) of each label's predictor, in the order of the labels."""
    from twofold.predictors import several

    return several.pack(members)


def checked_matrix(matrix: ArrayLike, columns: Sequence[str]) -> Matrix:
    """float64[n, k] in rows, as C code wants it; a copy only where it is not so already. Raises DataError."""
    rows = np.ascontiguousarray(matrix, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise wrong_columns(rows.shape[1] if rows.ndim == 2 else f"shape {rows.shape}, not rows by", columns)
    return rows


def wrong_columns(got: object, columns: Sequence[str]) -> DataError:
    """The error for inputs that are too many or too few."""
    names = ", ".join(columns)
    return DataError(f"the input has {got} columns, the model has {len(columns)}; in order they are: {names}")
