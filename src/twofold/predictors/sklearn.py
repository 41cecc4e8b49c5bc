"""Scikit-learn's estimators and Pipelines, stored by skops: data and names of types, of which only harmless ones are loaded.

Estimators get the matrix as it is: categories as codes, NaN for null and for unseen categories. Where a part chooses columns by
name, as a ColumnTransformer does, it comes as a pandas frame with the model's column names.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.errors import Corrupt, DataError, DefinitionError, Unavailable
from twofold.predictors.base import Matrix, Output, Prediction, Predictor, checked_matrix, wrong_columns

_HARMLESS = {"numpy.dtype", "sklearn.utils.validation.check_array", "functools.partial"}
"""No classes of scikit-learn, but parts of its own estimators. A partial only holds what is judged by itself."""

_TEACH = "install it with: pip install 'twofold[sklearn]'"


def owns(estimator: Any) -> bool:
    """Whether it keeps scikit-learn's conventions: an instance with parameters that can be fitted."""
    return not isinstance(estimator, type) and all(hasattr(estimator, name) for name in ("fit", "get_params", "set_params"))


def output_of(estimator: Any) -> Output:
    """Probabilities of classifiers, values of everything else."""
    from sklearn.base import is_classifier

    return "probability" if is_classifier(estimator) else "value"


def takes_several(estimator: Any) -> bool:
    """Whether it says so itself."""
    from sklearn.utils import get_tags

    return bool(get_tags(estimator).target_tags.multi_output)


def fit(
    estimator: Any,
    matrix: Matrix,
    labels: NDArray[Any],
    columns: Sequence[str],
    categorical: Sequence[int],
    weight: Matrix | None,
) -> Any:
    """A fitted copy. Which columns are categories is for the estimator's own parameters to say; `categorical` is not used."""
    from sklearn.base import clone
    from sklearn.pipeline import Pipeline

    unfitted = clone(estimator)
    _refuse_unsafe(_dumps(unfitted), type(estimator).__name__)  # before the work, not after
    given = _frame(matrix, columns) if _chooses_by_name(unfitted) else matrix
    weighted = f"{unfitted.steps[-1][0]}__sample_weight" if isinstance(unfitted, Pipeline) else "sample_weight"
    fitted = unfitted.fit(given, labels, **({} if weight is None else {weighted: weight}))
    if output_of(fitted) == "probability" and not hasattr(fitted, "predict_proba"):
        raise DefinitionError(
            f"{type(estimator).__name__} gives no probabilities; wrap it: sklearn.calibration.CalibratedClassifierCV(...)"
        )
    return fitted


def _chooses_by_name(estimator: Any) -> bool:
    """Whether it, or a part of it, was told columns by their names."""
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return any(_is_by_name(choice) for part in parts for choice in _choices(part))


def _choices(part: Any) -> Iterator[Any]:
    """The columns that a part was told: of each transformer, those that are categories, those whose effect has a direction."""
    if not hasattr(part, "get_params"):
        return
    yield from (item[2] for item in getattr(part, "transformers", None) or ())
    for name in ("categorical_features", "monotonic_cst"):
        choice = getattr(part, name, None)
        yield None if isinstance(choice, str) else choice  # a text is no column here, but a way to find them


def _is_by_name(choice: Any) -> bool:
    if isinstance(choice, slice):
        return isinstance(choice.start, str) or isinstance(choice.stop, str)
    is_list = isinstance(choice, Iterable) and not isinstance(choice, str)
    return any(isinstance(item, str) for item in choice) if is_list else isinstance(choice, str) or callable(choice)


def export(fitted: Any) -> bytes:
    """The skops file of a fitted estimator. Raises DefinitionError where it holds types that are not safe to load."""
    content = _dumps(fitted)
    _refuse_unsafe(content, type(fitted).__name__)
    return content


def _dumps(estimator: Any) -> bytes:
    try:
        import skops.io
    except ImportError as error:
        raise Unavailable(f"scikit-learn models are stored by skops, which is not installed; {_TEACH}") from error
    return bytes(skops.io.dumps(estimator))


def _refuse_unsafe(content: bytes, name: str) -> None:
    unsafe = _unsafe(_unknown_types(content))
    if unsafe:
        raise DefinitionError(
            f"{name} holds {', '.join(unsafe)}: a replica loads only types of scikit-learn itself, never code of a project; "
            "put such a step into the view or into `derived=`, and give LightGBM's estimators as they are, not in a Pipeline"
        )


def _unknown_types(content: bytes) -> list[str]:
    """Types in the file that skops does not trust by itself; nothing of them has been loaded."""
    import skops.io

    return list(skops.io.get_untrusted_types(data=content))


def _unsafe(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in _HARMLESS and not _is_of_sklearn(name)]


def _is_of_sklearn(name: str) -> bool:
    """Whether it is a class that scikit-learn defines; not a function, nor what one of its modules has imported."""
    module, _, short = name.rpartition(".")
    if not module.startswith("sklearn."):
        return False
    try:
        found = getattr(importlib.import_module(module), short, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__.startswith("sklearn.")


def load(content: bytes, what: str, columns: Sequence[str]) -> Predictor:
    """The predictor in a skops file; refuses any type that is neither skops's own choice nor a class of scikit-learn."""
    try:
        import skops.io
    except ImportError as error:
        raise Unavailable(f"the model is one of scikit-learn, stored by skops, which is not installed; {_TEACH}") from error
    try:
        unknown = _unknown_types(content)
        unsafe = _unsafe(unknown)
        estimator = None if unsafe else skops.io.loads(content, trusted=unknown)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, ImportError) as error:
        raise Corrupt(f"{what} cannot be read by skops: {error}; restore the file from a copy, or train again") from error
    if unsafe:
        raise Corrupt(f"{what} holds {', '.join(unsafe)}, which Twofold never wrote there; do not load it, train again")
    return SklearnPredictor(estimator, columns)


class SklearnPredictor:
    """Predictions of one fitted estimator."""

    def __init__(self, estimator: Any, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._estimator = estimator
        self._is_classifier = output_of(estimator) == "probability"
        named = getattr(estimator, "feature_names_in_", None)
        self._wants_frame = named is not None
        expected = getattr(estimator, "n_features_in_", len(self.columns))
        if expected != len(self.columns):
            raise wrong_columns(f"(of the trained model) {expected}", self.columns)
        if named is not None and tuple(named) != self.columns:
            raise DataError(f"the model was trained on other columns or another order: {', '.join(named)}; asked for: {', '.join(columns)}")

    def predict_one(self, row: Matrix) -> Prediction:
        found: Prediction = self.predict(np.asarray(row)[np.newaxis])[0].tolist()
        return found

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        rows = checked_matrix(matrix, self.columns)
        if not len(rows):
            return np.empty(0)
        given = _frame(rows, self.columns) if self._wants_frame else rows
        if self._is_classifier:
            return _positive(self._estimator.predict_proba(given))
        values = np.asarray(self._estimator.predict(given), dtype=np.float64)
        return values if values.ndim == 2 and values.shape[1] > 1 else values.reshape(len(rows))


def _positive(probabilities: Any) -> NDArray[np.float64]:
    """The positive class's probabilities: [n], or [n, labels] of a list of the probabilities for each label."""
    if isinstance(probabilities, list):
        return np.column_stack([_positive(of_label) for of_label in probabilities])
    return np.asarray(probabilities[:, 1], dtype=np.float64)


def _frame(matrix: Matrix, columns: Sequence[str]) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise Unavailable(f"an estimator that chooses columns by name takes them from pandas, which is not installed; {_TEACH}") from error
    return pandas.DataFrame(matrix, columns=list(columns), copy=False)
