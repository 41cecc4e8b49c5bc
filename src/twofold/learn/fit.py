"""Fitting an estimator to a training matrix: what is refused before, and how a refusal of the library is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.definitions.model import Model
from twofold.errors import DataError, NotYet, TwofoldError
from twofold.predictors.base import SEVERAL, Matrix, checked_matrix, format_of, library, packed


def fit(
    estimator: Any,
    matrix: ArrayLike,
    labels: ArrayLike,
    columns: Sequence[str],
    categorical: Sequence[int],
    weight: ArrayLike | None = None,
) -> Any:
    """A fitted copy of `estimator`; the given one stays as it is.

    `matrix` is float64[n, k] in the order of `columns`, NaN for null; `categorical` are the positions of columns that hold codes,
    which LightGBM takes as categories and scikit-learn's estimators as numbers. `labels` are n of true and false (or 1 and 0) for
    a classifier, n numbers otherwise, or [n, labels] where the estimator learns several at once; `weight` are n numbers. What can be
    fitted can be exported (`predictors.base.library`).

    Raises DataError for no rows, no columns, null or constant labels, labels that the estimator cannot have, and whatever it
    refuses; where it refuses nulls the text names the columns that have some. Raises NotYet for more than two classes.
    """
    if not len(columns):
        raise DataError("the model has no columns to learn from; give it request fields that are no `str`, or views")
    rows = checked_matrix(matrix, columns)
    trainer = library(format_of(estimator))
    is_class = trainer.output_of(estimator) == "probability"
    if np.ndim(labels) == 2 and trainer.takes_several(estimator):
        known = np.column_stack([_checked_labels(column, len(rows), is_class) for column in np.transpose(labels)])
    else:
        known = _checked_labels(labels, len(rows), is_class)
    weights = None if weight is None else _checked_weight(weight, len(rows))
    try:
        return trainer.fit(estimator, rows, known, columns, categorical, weights)
    except TwofoldError:
        raise
    except Exception as error:
        raise _refusal(error, type(estimator).__name__, rows, columns) from error


@dataclass(frozen=True)
class Fitted:
    """A trained model as it is stored: a file's format and content, what its predictions are, and what each label's are of several."""

    format: str
    content: bytes
    output: str
    outputs: tuple[tuple[str, str], ...]


def fit_model(
    model: Model,
    matrix: ArrayLike,
    labels: Sequence[ArrayLike],
    columns: Sequence[str],
    categorical: Sequence[int],
    weight: ArrayLike | None,
) -> Fitted:
    """A model's estimators fitted to its labels, in their order, as one file.

    An estimator that learns several labels at once does so; others are fitted once for each label. Errors as of `fit`.
    """
    if not model.label_names:
        ((format, content), output) = _fitted(model.estimator, matrix, labels[0], columns, categorical, weight)
        return Fitted(format, content, output, ())
    names, given = model.label_names, model.estimator
    if not isinstance(given, Mapping) and len(names) > 1 and library(format_of(given)).takes_several(given):
        for name, values in zip(names, labels, strict=True):
            with _told_of(name):
                _checked_labels(values, len(np.asarray(matrix)), library(format_of(given)).output_of(given) == "probability")
        ((format, content), output) = _fitted(given, matrix, np.column_stack(labels), columns, categorical, weight)
        return Fitted(format, content, SEVERAL, tuple((name, output) for name in names))
    members, outputs = [], []
    for name, values in zip(names, labels, strict=True):
        with _told_of(name):
            estimator = given[name] if isinstance(given, Mapping) else given
            ((format, content), output) = _fitted(estimator, matrix, values, columns, categorical, weight)
        members.append((format, content))
        outputs.append((name, output))
    return Fitted(SEVERAL, packed(members), SEVERAL, tuple(outputs))


@contextmanager
def _told_of(label: str) -> Iterator[None]:
    """Errors name the label that they are about."""
    try:
        yield
    except TwofoldError as error:
        raise type(error)(f"label {label!r}: {error}") from error


def _fitted(estimator: Any, matrix: ArrayLike, labels: ArrayLike, *given: Any) -> tuple[tuple[str, bytes], str]:
    """((format, content) of a fitted copy, what its predictions are)."""
    trainer = library(format_of(estimator))
    return (format_of(estimator), trainer.export(fit(estimator, matrix, labels, *given))), trainer.output_of(estimator)


def _checked_labels(labels: ArrayLike, rows: int, is_class: bool) -> NDArray[np.float64]:
    """Labels as float64, for a classifier 0 and 1."""
    try:
        known = np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("labels are no numbers; write the label as a comparison, as in pl.col('delay') > 15") from None
    if known.shape != (rows,):
        raise DataError(f"there are labels of shape {known.shape} for {rows} rows; give one a row")
    if not rows:
        raise DataError("there are no rows with a label; is the label's `within` over for any row, is `where` too narrow?")
    unusable = int(np.count_nonzero(~np.isfinite(known)))
    if unusable:
        raise DataError(f"{unusable} of {rows} labels are null or infinite; leave such rows out")
    classes = np.unique(known)
    if len(classes) == 1:
        raise DataError(f"all {rows} labels are {classes[0]:g}: nothing can be learnt; see the label's value and the rows")
    if not is_class:
        return known
    if len(classes) > 2:
        raise NotYet(f"labels of {len(classes)} values for a classifier; give true and false, or take a regressor")
    if classes.tolist() != [0, 1]:
        raise DataError(f"a classifier's labels are {classes[0]:g} and {classes[1]:g}; give true and false, as of a comparison")
    return known


def _checked_weight(weight: ArrayLike, rows: int) -> Matrix:
    known = np.asarray(weight, dtype=np.float64)
    if known.shape != (rows,):
        raise DataError(f"there are weights of shape {known.shape} for {rows} rows; give one a row")
    if not np.all(np.isfinite(known)) or np.any(known < 0) or not np.any(known):
        raise DataError("weights must be finite, not negative, and not all 0")
    return known


def _refusal(error: Exception, name: str, matrix: Matrix, columns: Sequence[str]) -> DataError:
    """What to tell where the estimator itself refuses the training set."""
    said = str(error).split("\n")[0]
    nulls = np.count_nonzero(np.isnan(matrix), axis=0)
    if nulls.any() and ("nan" in said.lower() or "missing" in said.lower()):
        having = ", ".join(f"{column} ({count})" for column, count in zip(columns, nulls, strict=True) if count)
        return DataError(
            f"{name} refuses nulls, and of {len(matrix)} rows these columns have some: {having}; put a SimpleImputer before it "
            f"in a Pipeline, as in make_pipeline(SimpleImputer(), {name}()), or take an estimator that accepts nulls, as "
            "LightGBM's and HistGradientBoosting's do"
        )
    return DataError(f"{name} refuses the training set of {len(matrix)} rows and {len(columns)} columns: {said}")
