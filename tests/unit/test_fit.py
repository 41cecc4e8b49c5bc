"""What fitting refuses, by name, and that it leaves the given estimator alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

import twofold as tw
from twofold.errors import DataError, DefinitionError, NotYet
from twofold.learn.fit import fit, fit_model

COLUMNS = ("delay", "carrier", "distance")
ROWS = 200
RANDOM = np.random.default_rng(7)
MATRIX = np.column_stack([RANDOM.normal(size=ROWS), RANDOM.integers(0, 5, ROWS), RANDOM.normal(size=ROWS)])
LABELS = MATRIX[:, 0] + (MATRIX[:, 1] == 3) > 0.2
LIGHT = {"n_estimators": 5, "verbose": -1, "n_jobs": 1, "min_data_per_group": 5}
ESTIMATORS: dict[str, Any] = {"lightgbm": LGBMClassifier(**LIGHT), "sklearn": LogisticRegression()}


@pytest.fixture(params=ESTIMATORS)
def estimator(request: pytest.FixtureRequest) -> Any:
    return ESTIMATORS[request.param]


def with_nulls() -> NDArray[np.float64]:
    matrix = MATRIX.copy()
    matrix[:7, 0] = matrix[:150, 2] = np.nan
    return matrix


def answers(fitted: Any) -> NDArray[np.float64]:
    if hasattr(fitted, "booster_"):
        return np.asarray(fitted.booster_.predict(MATRIX))
    return np.asarray(fitted.predict_proba(MATRIX)[:, 1] if hasattr(fitted, "predict_proba") else fitted.predict(MATRIX))


class TestFit:
    def test_gives_a_copy_and_leaves_the_estimator_alone(self, estimator: Any) -> None:
        before = repr(estimator.get_params())
        fitted = fit(estimator, MATRIX, LABELS, COLUMNS, [1])
        assert fitted is not estimator
        check_is_fitted(fitted)
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
        assert repr(estimator.get_params()) == before == repr(fitted.get_params())

    def test_labels_of_any_kind_mean_the_same(self, estimator: Any) -> None:
        kinds = [LABELS, LABELS.astype(int), LABELS.astype(float), LABELS.tolist()]
        first, *others = [answers(fit(estimator, MATRIX, labels, COLUMNS, [1])) for labels in kinds]
        assert all(np.array_equal(first, other) for other in others)

    def test_weights_count(self, estimator: Any) -> None:
        weight = np.where(LABELS, 50.0, 1.0)
        heavy = fit(estimator, MATRIX, LABELS, COLUMNS, [1], weight)
        assert answers(heavy).mean() > LABELS.mean() + 0.1

    def test_categories_are_categories_to_lightgbm(self) -> None:
        categories = fit(ESTIMATORS["lightgbm"], MATRIX, LABELS, COLUMNS, [1]).booster_
        numbers = fit(ESTIMATORS["lightgbm"], MATRIX, LABELS, COLUMNS, []).booster_
        assert [booster.trees_to_dataframe().decision_type.eq("==").any() for booster in (categories, numbers)] == [True, False]
        assert categories.feature_name() == list(COLUMNS)

    def test_nulls_are_no_trouble_to_those_that_know_them(self) -> None:
        for estimator in (ESTIMATORS["lightgbm"], make_pipeline(SimpleImputer(), LogisticRegression())):
            check_is_fitted(fit(estimator, with_nulls(), LABELS, COLUMNS, [1]))

    def test_a_regressor_takes_any_numbers(self) -> None:
        for estimator in (LGBMRegressor(**LIGHT), Ridge()):
            values = MATRIX[:, 0] * 100
            assert abs(answers(fit(estimator, MATRIX, values, COLUMNS, [])).mean() - values.mean()) < 1


class TestRefusals:
    def test_nulls_are_named_with_their_columns_and_what_to_do(self) -> None:
        text = r"LogisticRegression refuses nulls, and of 200 rows .* delay \(7\), distance \(150\); put a SimpleImputer before it in a Pip"
        with pytest.raises(DataError, match=text):
            fit(LogisticRegression(), with_nulls(), LABELS, COLUMNS, [])

    def test_another_refusal_is_told_as_it_is(self) -> None:
        with pytest.raises(DataError, match=r"LogisticRegression refuses the training set of 200 rows and 3 columns: .*'C'"):
            fit(LogisticRegression(C=-1), with_nulls(), LABELS, COLUMNS, [])
        with pytest.raises(DataError, match=r"refuses the training set .*nan"):
            fit(LogisticRegression(C=float("nan")), MATRIX, LABELS, COLUMNS, [])

    @pytest.mark.parametrize(
        ("labels", "text"),
        [
            (np.ones(ROWS), "all 200 labels are 1"),
            (np.zeros(ROWS, dtype=bool), "all 200 labels are 0"),
            (np.where(np.arange(ROWS) < 3, np.nan, LABELS), "3 of 200 labels are null"),
            (np.where(np.arange(ROWS) < 3, np.inf, LABELS), "3 of 200 labels are null or infinite"),
            (LABELS[:-1], r"shape \(199,\) for 200 rows"),
            (LABELS + 1, "labels are 1 and 2"),
            (["late"] * ROWS, "no numbers"),
        ],
    )
    def test_labels(self, estimator: Any, labels: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            fit(estimator, MATRIX, labels, COLUMNS, [1])

    def test_more_than_two_classes(self, estimator: Any) -> None:
        with pytest.raises(NotYet, match="3 values"):
            fit(estimator, MATRIX, np.arange(ROWS) % 3, COLUMNS, [1])

    def test_constant_values_of_a_regressor(self) -> None:
        with pytest.raises(DataError, match=r"all 200 labels are 0\.25"):
            fit(Ridge(), MATRIX, np.full(ROWS, 0.25), COLUMNS, [])

    def test_no_rows_and_no_columns(self, estimator: Any) -> None:
        with pytest.raises(DataError, match="no rows"):
            fit(estimator, MATRIX[:0], LABELS[:0], COLUMNS, [1])
        with pytest.raises(DataError, match="no columns"):
            fit(estimator, MATRIX[:, :0], LABELS, (), [])
        with pytest.raises(DataError, match="the model has 2"):
            fit(estimator, MATRIX, LABELS, COLUMNS[:2], [])

    @pytest.mark.parametrize(
        ("weight", "text"),
        [
            (np.ones(ROWS + 1), "shape"),
            (np.zeros(ROWS), "not all 0"),
            (np.full(ROWS, np.nan), "finite"),
            (np.linspace(-1, 1, ROWS), "not negative"),
        ],
    )
    def test_weights(self, estimator: Any, weight: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            fit(estimator, MATRIX, LABELS, COLUMNS, [1], weight)

    def test_what_cannot_be_fitted(self) -> None:
        booster = fit(ESTIMATORS["lightgbm"], MATRIX, LABELS, COLUMNS, [1]).booster_
        with pytest.raises(DefinitionError, match="Booster cannot be fitted"):
            fit(booster, MATRIX, LABELS, COLUMNS, [1])
        with pytest.raises(DefinitionError, match="type is no estimator"):
            fit(LGBMClassifier, MATRIX, LABELS, COLUMNS, [1])

    def test_an_estimator_of_the_project_file(self) -> None:
        with pytest.raises(DefinitionError, match=r"holds .*OwnEstimator"):
            fit(OwnEstimator(), MATRIX, MATRIX[:, 0], COLUMNS, [1])


class OwnEstimator(BaseEstimator):  # type: ignore[misc]
    def fit(self, matrix: Any, labels: Any) -> OwnEstimator:
        raise AssertionError("it must be refused before the work")


EVENTS = tw.Events("e", time="t", schema={"x": float})
SOMETHING = tw.Label(EVENTS, on="x", value="x", within="1d")


def of_labels(estimator: Any, *names: str) -> tw.Model:
    """A model of several labels, or of one."""
    return tw.Model("m", request={}, label=dict.fromkeys(names, SOMETHING) if names else SOMETHING, estimator=estimator)


class TestSeveralLabels:
    VALUES = (LABELS, MATRIX[:, 2] > 0)

    def test_one_label_is_one_file_of_its_library(self, estimator: Any) -> None:
        fitted = fit_model(of_labels(estimator), MATRIX, [LABELS], COLUMNS, [1], None)
        assert (fitted.output, fitted.outputs) == ("probability", ())
        assert fitted.format in ESTIMATORS

    def test_what_learns_several_at_once_does_so(self) -> None:
        fitted = fit_model(of_labels(RandomForestClassifier(3, random_state=0), "a", "b"), MATRIX, self.VALUES, COLUMNS, [1], None)
        assert (fitted.format, fitted.output) == ("sklearn", "several")
        assert fitted.outputs == (("a", "probability"), ("b", "probability"))
        linear = fit_model(of_labels(LinearRegression(), "a", "b"), MATRIX, self.VALUES, COLUMNS, [1], np.ones(ROWS))
        assert (linear.format, linear.outputs) == ("sklearn", (("a", "value"), ("b", "value")))

    def test_others_once_for_each(self, estimator: Any) -> None:
        for model in (of_labels(estimator, "b", "a"), of_labels({"a": Ridge(), "b": estimator}, "b", "a"), of_labels(Ridge(), "only")):
            values = self.VALUES[: len(model.label_names)]
            fitted = fit_model(model, MATRIX, values, COLUMNS, [1], None)
            assert (fitted.format, fitted.output) == ("several", "several")
            assert tuple(name for name, _ in fitted.outputs) == model.label_names
        assert fit_model(of_labels({"a": Ridge(), "b": estimator}, "b", "a"), MATRIX, self.VALUES, COLUMNS, [1], None).outputs == (
            ("b", "probability"),
            ("a", "value"),
        )

    @pytest.mark.parametrize("given", [LGBMClassifier(**LIGHT), RandomForestClassifier(3)])
    def test_what_is_wrong_with_a_label_names_it(self, given: Any) -> None:
        with pytest.raises(DataError, match=r"^label 'b': all 200 labels are 1"):
            fit_model(of_labels(given, "a", "b"), MATRIX, [LABELS, np.ones(ROWS)], COLUMNS, [1], None)
        with pytest.raises(NotYet, match=r"^label 'a': labels of 3 values"):
            fit_model(of_labels(given, "a", "b"), MATRIX, [np.arange(ROWS) % 3, LABELS], COLUMNS, [1], None)
