"""LightGBM models: trained by its package, predicted by its C library without importing the package.

The package draws in scikit-learn and pandas (2 s, 146 MB); a replica needs only the shared library that lies in its folder.
Format: LightGBM's own model text. Categories are codes (float64), null is NaN, both as in training.
"""

from __future__ import annotations

import copy
import ctypes
import functools
import importlib.util
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.errors import Corrupt, DataError, DefinitionError, NotYet, TwofoldError, Unavailable
from twofold.predictors.base import Matrix, Output, Predictor, checked_matrix, wrong_columns

# From LightGBM's c_api.h
_FLOAT64, _ROW_MAJOR, _NORMAL, _FIRST_TREE, _ALL_TREES = 1, 1, 0, 0, -1
_PARAMETERS = b"num_threads=1 verbosity=-1"
_FEW_ROWS = 32
_NEEDED = (
    "LGBM_BoosterLoadModelFromString",
    "LGBM_BoosterPredictForMat",
    "LGBM_BoosterPredictForMatSingleRowFastInit",
    "LGBM_BoosterPredictForMatSingleRowFast",
)
_HEADER = ("tree", "num_class", "num_tree_per_iteration", "max_feature_idx", "feature_names", "tree_sizes")
_TEACH = "install it with: pip install 'twofold[lightgbm]'"


def owns(estimator: Any) -> bool:
    """Whether it is one of LightGBM's estimators, or a subclass of one."""
    return any(kind.__module__.split(".")[0] == "lightgbm" for kind in type(estimator).__mro__)


def output_of(estimator: Any) -> Output:
    """Probabilities of an LGBMClassifier, values of everything else."""
    is_classifier = any(kind.__name__ == "LGBMClassifier" for kind in type(estimator).__mro__)
    return "probability" if is_classifier else "value"


def takes_several(estimator: Any) -> bool:
    """Never."""
    return False


def fit(
    estimator: Any,
    matrix: Matrix,
    labels: NDArray[Any],
    columns: Sequence[str],
    categorical: Sequence[int],
    weight: Matrix | None,
) -> Any:
    """A fitted copy, its categories given by position; NaN is null, in a category too."""
    if not hasattr(estimator, "fit"):
        raise DefinitionError(f"{type(estimator).__name__} cannot be fitted; give an LGBMClassifier or an LGBMRegressor")
    if callable(estimator.get_params()["objective"]):
        raise NotYet(f"{type(estimator).__name__} has a function as objective, whose meaning its file would lose; name one")
    unfitted = type(estimator)(**copy.deepcopy(estimator.get_params(deep=False)))
    return unfitted.fit(matrix, labels, sample_weight=weight, feature_name=feature_names(columns), categorical_feature=list(categorical))


def export(fitted: Any) -> bytes:
    """LightGBM's model text, cut at the best iteration where training stopped early."""
    booster = getattr(fitted, "booster_", fitted)
    if booster.num_model_per_iteration() != 1:
        raise NotYet("a LightGBM model with more than two classes; give a label that is true or false, or a number")
    return str(booster.model_to_string()).encode()


def feature_names(columns: Sequence[str]) -> list[str]:
    """Names as LightGBM takes them, one a column, all different: letters, digits, `_`, `.` and `-`.

    >>> feature_names(["delay_1h", "a:b", "a b"])
    ['delay_1h', 'a_b', 'a_b_2']
    """
    names: list[str] = []
    for column in columns:
        plain = name = re.sub(r"[^A-Za-z0-9_.-]", "_", column) or "_"
        number = 1
        while name in names:
            number += 1
            name = f"{plain}_{number}"
        names.append(name)
    return names


def load(content: bytes, what: str, columns: Sequence[str]) -> Predictor:
    """The predictor in a model text, through the C library; through the package only where that lacks the calls."""
    _check_columns(_checked_header(content, what), columns, what)
    calls = _calls()
    return LightgbmPredictor(calls, content, columns) if calls else PackagePredictor(content, columns)


def _checked_header(text: bytes, what: str) -> dict[str, str]:
    """The fields before the first tree, once every tree begins where they say.

    LightGBM trusts its files. This finds cut and shifted ones; of files with three changed digits it aborts the process for one
    in three, loops for a few and answers wrongly for the rest, so only the registry's checksum keeps those away.
    """
    head, _, _ = text.partition(b"\n\n")
    fields = dict(line.partition("=")[::2] for line in head.decode("utf-8", "replace").split("\n"))
    sizes = fields.get("tree_sizes", "-").split()
    is_whole = all(name in fields for name in _HEADER) and all(size.isdecimal() for size in sizes) and b"\0" not in text
    at = len(head) + 2
    for number, size in enumerate(sizes if is_whole else ()):
        is_whole = is_whole and text.startswith(b"Tree=%d\n" % number, at)
        at += int(size)
    if not is_whole or not text.startswith(b"end of trees", at):
        raise Corrupt(f"{what} is no whole LightGBM model text; restore the file from a copy, or train again")
    return fields


def _check_columns(fields: dict[str, str], columns: Sequence[str], what: str) -> None:
    """The file's inputs are the columns, in their order; a file without names of its own is taken by position."""
    if fields["num_tree_per_iteration"] != "1":
        raise NotYet(f"{what} holds a LightGBM model with {fields['num_class']} classes; this version serves two")
    got, expected = fields["feature_names"].split(" "), feature_names(columns)
    if len(got) != len(expected):
        raise wrong_columns(f"(the file {what}) {len(got)}", columns)
    differing = [pair for pair in zip(got, expected, strict=True) if pair[0] != pair[1]]
    if differing and got != [f"Column_{number}" for number in range(len(got))]:
        raise DataError(
            f"{what} was trained on other columns: it has {differing[0][0]!r} where the model has {differing[0][1]!r}; "
            f"its columns are, in order: {', '.join(got)}"
        )


class _Calls:
    """The C library, loaded twice: `free` gives the interpreter's lock back during a call, `held` keeps it.

    A few rows take microseconds. Giving the lock back for that lets any busy thread take it, for 5 ms each time.
    """

    def __init__(self, path: Path) -> None:
        self.free = ctypes.CDLL(str(path))
        self.held = ctypes.PyDLL(str(path))
        self.free.LGBM_GetLastError.restype = ctypes.c_char_p

    def check(self, code: int, error: type[TwofoldError] = DataError) -> None:
        """Raises what LightGBM says about a call that failed."""
        if code != 0:
            raise error(f"LightGBM: {(self.free.LGBM_GetLastError() or b'').decode('utf-8', 'replace')}")


@functools.cache
def _calls() -> _Calls | None:
    """The C library in the package's folder, which is looked up and not imported; None where it lacks a call."""
    found = importlib.util.find_spec("lightgbm")
    if found is None or found.origin is None:
        raise Unavailable(f"the model is one of LightGBM, which is not installed; {_TEACH}")
    folder = Path(found.origin).parent
    for path in sorted(folder.glob("*/lib_lightgbm.*")):
        try:
            calls = _Calls(path)
        except OSError as error:
            raise Unavailable(f"{path} cannot be loaded: {error}; on Debian: apt install libgomp1") from error
        if all(hasattr(calls.free, name) for name in _NEEDED):
            return calls
    return None


class _Row:
    """What one thread needs for single rows: a buffer, and the prepared call that reads it."""

    def __init__(self, calls: _Calls, booster: _Booster, width: int) -> None:
        self.booster = booster  # kept: the prepared call points into it
        self.buffer = np.zeros(width)
        self.result = ctypes.c_double()
        self._length = ctypes.c_int64()
        handle = ctypes.c_void_p()
        calls.check(
            calls.free.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster.handle, _NORMAL, _FIRST_TREE, _ALL_TREES, _FLOAT64, width, _PARAMETERS, ctypes.byref(handle)
            )
        )
        _free_with(self, calls.free.LGBM_FastConfigFree, handle)
        self.predict = functools.partial(
            calls.held.LGBM_BoosterPredictForMatSingleRowFast,
            handle,
            ctypes.c_void_p(self.buffer.ctypes.data),
            ctypes.byref(self._length),
            ctypes.byref(self.result),
        )


class _Booster:
    """A model in LightGBM's memory, freed with this object."""

    def __init__(self, calls: _Calls, text: bytes) -> None:
        self.handle, iterations = ctypes.c_void_p(), ctypes.c_int()
        code = calls.free.LGBM_BoosterLoadModelFromString(text, ctypes.byref(iterations), ctypes.byref(self.handle))
        calls.check(code, Corrupt)
        _free_with(self, calls.free.LGBM_BoosterFree, self.handle)


def _free_with(owner: object, free: Callable[[ctypes.c_void_p], object], handle: ctypes.c_void_p) -> None:
    """Free a handle when its owner goes; not at the end of the process, when other threads may still predict."""
    weakref.finalize(owner, free, handle).atexit = False


class LightgbmPredictor:
    """Predictions of LightGBM's C library, bit for bit those of `Booster.predict`, each call on the thread that makes it.

    Make it after a fork, not before.
    """

    def __init__(self, calls: _Calls, text: bytes, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._width = len(self.columns)
        self._calls = calls
        self._booster = _Booster(calls, text)
        self._rows = threading.local()

    def predict_one(self, row: Matrix) -> float:
        mine = getattr(self._rows, "mine", None)
        if mine is None:
            mine = self._rows.mine = _Row(self._calls, self._booster, self._width)
        if len(row) != self._width:
            raise wrong_columns(len(row), self.columns)
        mine.buffer[:] = row
        self._calls.check(mine.predict())
        return float(mine.result.value)

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        rows = checked_matrix(matrix, self.columns)
        results = np.empty(len(rows))
        if not len(rows):
            return results
        length = ctypes.c_int64()
        library = self._calls.held if len(rows) <= _FEW_ROWS else self._calls.free
        code = library.LGBM_BoosterPredictForMat(
            self._booster.handle,
            ctypes.c_void_p(rows.ctypes.data),
            _FLOAT64,
            *rows.shape,
            _ROW_MAJOR,
            _NORMAL,
            _FIRST_TREE,
            _ALL_TREES,
            _PARAMETERS,
            ctypes.byref(length),
            ctypes.c_void_p(results.ctypes.data),
        )
        self._calls.check(code)
        return results


class PackagePredictor:
    """The same predictions through the package, slower and larger: for builds of LightGBM without the C calls."""

    def __init__(self, text: bytes, columns: Sequence[str]) -> None:
        import lightgbm

        self.columns = tuple(columns)
        try:
            self._booster = lightgbm.Booster(model_str=text.decode())
        except lightgbm.basic.LightGBMError as error:
            raise Corrupt(f"LightGBM: {error}") from error

    def predict_one(self, row: Matrix) -> float:
        return float(self.predict(np.asarray(row)[np.newaxis])[0])

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        rows = checked_matrix(matrix, self.columns)
        return np.asarray(self._booster.predict(rows, num_threads=1)) if len(rows) else np.empty(0)
