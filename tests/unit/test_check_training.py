"""What `check` says of rows, labels, estimators and default answers: each refusal, and that what is right is not refused."""

# ruff: noqa: E501 - a case is one line

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

import twofold as tw
from twofold.definitions.check import check
from twofold.definitions.check_estimators import accepts_nulls

rides = tw.Events(
    "rides",
    time="began_at",
    id="ride",
    schema={"ride": str, "city": str, "fare": float, "km": float, "seats": int, "label_late": str},
)
ends = tw.Events(
    "ends", time="ended_at", id="ride", schema={"ride": str, "city": str, "minutes": float, "stars": int, "note": str, "at": str}
)
city = tw.View("city", rides, by="city", features={"n": tw.count(over="1d"), "fare": tw.mean("fare", over="1d")})

LATE = tw.Label(ends, on="ride", value=pl.col("minutes") > 30, within="1d")
MINUTES = tw.Label(ends, on="ride", value="minutes", within="1d")


def problems(**changes: Any) -> list[str]:
    """Texts of the problems of a model that is right but for the changes."""
    rows = {"source": rides, **changes.pop("rows", {})}
    given: dict[str, Any] = {
        "request": {"ride": str, "city": str, "km": float},
        "views": [city],
        "label": LATE,
        "estimator": LGBMClassifier(),
    }
    model = tw.Model("m", rows=tw.Rows(rows.pop("source"), **rows), **{**given, **changes})
    return [problem.text for problem in check(tw.Project("p", models=[model]))]


def label(**changes: Any) -> tw.Label:
    return tw.Label(**{"source": ends, "on": "ride", "value": pl.col("minutes") > 30, "within": "1d", **changes})


REGRESSOR = {"estimator": LGBMRegressor()}
RIGHT: dict[str, dict[str, Any]] = {
    "nothing changed": {},
    "sample": {"rows": {"sample": 0.1}},
    "all rows": {"rows": {"sample": 1}},
    "a weight column": {"rows": {"weight": "fare"}},
    "a weight of an expression": {"rows": {"weight": pl.col("seats") * 2}},
    "a group that the request has": {"rows": {"group": "city"}},
    "a group that it lacks": {"rows": {"group": "seats"}},
    "a column called weight": {"request": {"ride": str, "city": str, "weight": float}, "rows": {"source": rides.rename(km="weight")}},
    "count": {"label": label(value=tw.count(where=pl.col("minutes") > 3)), **REGRESSOR},
    "sum": {"label": label(value=tw.sum("minutes"), missing=0), **REGRESSOR},
    "max of an expression": {"label": label(value=tw.max(pl.col("minutes") / 60), missing=0.0), **REGRESSOR},
    "any": {"label": label(value=tw.any(pl.col("minutes") > 30), missing=False)},
    "rate": {"label": label(value=tw.rate()), **REGRESSOR},
    "tied by what the request lacks": {"label": label(on=("ride", "city")), "request": {"km": float}, "views": []},
    "several labels": {"label": {"late": LATE, "bad": label(value=pl.col("stars") < 3)}},
    "one label in a dict": {"label": {"late": LATE}, "fallback": [tw.Default({"late": 0.5})]},
    "labels of two kinds": {
        "label": {"late": LATE, "minutes": MINUTES},
        "estimator": {"late": LGBMClassifier(), "minutes": LGBMRegressor()},
    },
    "a regressor of conditions": {"label": {"late": LATE, "minutes": MINUTES}, **REGRESSOR},
    "defaults of each label": {"label": {"a": LATE, "b": LATE}, "fallback": [tw.Default({"b": 0.5, "a": None})]},
    "no answer by default": {"label": {"a": LATE, "b": LATE}, "fallback": [tw.Default(None)]},
    "a text without an estimator": {"label": label(value="note"), "estimator": None},
    "an estimator that says nothing of itself": {"estimator": type("Plain", (), {"fit": print, "predict": print})()},
    "no nulls": {"estimator": LogisticRegression(), "views": [city["n_1d"]], "derived": {"twice": lambda km, city_n_1d: km * city_n_1d}},
    "nulls dropped": {"estimator": LogisticRegression(), "drop": ["city_fare_1d"]},
    "nulls filled in": {"estimator": make_pipeline(SimpleImputer(), LogisticRegression())},
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_has_no_problems(name: str) -> None:
    assert problems(**RIGHT[name]) == []


CHOICE = {"label": {"late": LATE, "minutes": MINUTES}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "sample 0": ({"rows": {"sample": 0}}, "sample of rows of model 'm': 0 is no share of the rows; give a number above 0, up to 1"),
    "sample below": ({"rows": {"sample": -0.1}}, "-0.1 is no share"),
    "sample above": ({"rows": {"sample": 1.5}}, "1.5 is no share"),
    "sample of nothing": ({"rows": {"sample": float("nan")}}, "nan is no share"),
    "sample is true": ({"rows": {"sample": True}}, "True is no share"),
    "sample is a text": ({"rows": {"sample": "10%"}}, "'10%' is no share"),
    "weight unknown": ({"rows": {"weight": "fair"}}, "weight of rows of model 'm': source 'rides' has no column 'fair'; it has"),
    "weight is a text": ({"rows": {"weight": "city"}}, "weight of rows of model 'm': its type is str; it must be float or int"),
    "weight is a condition": ({"rows": {"weight": pl.col("fare") > 3}}, "its type is bool; it must be float or int"),
    "weight of all rows": ({"rows": {"weight": pl.col("fare") / pl.col("fare").sum()}}, "sum() is an aggregate over rows"),
    "weight is a number": ({"rows": {"weight": 2}}, "weight of rows of model 'm': 2 is no expression"),
    "weight beside a field": (
        {"request": {"ride": str, "city": str, "weight": float}, "rows": {"source": rides.rename(km="weight"), "weight": "fare"}},
        "model 'm': 'weight' is the weight of a row; call the column of the request otherwise",
    ),
    "weight beside a feature": (
        {"views": [city.on(prefix=""), tw.View("w", rides, by="city", features={"weight": tw.sum("fare")}).on(prefix="")], "rows": {"weight": "fare"}, "derived": {"weight": lambda km: km}},
        "'weight' is the weight of a row; call the column of derived otherwise",
    ),
    "group unknown": ({"rows": {"group": "town"}}, "group of rows of model 'm': source 'rides' has no column 'town'"),
    "group of floats": ({"rows": {"group": "fare"}}, "'fare' is a float, and floats are no keys"),
    "group of two": ({"rows": {"group": ["city", "seats"]}}, "['city', 'seats'] is no name of a column; give one"),
    "group called at": ({"rows": {"source": rides.rename(seats="at"), "group": "at"}}, "the column 'at' would stand in the place of 'at', the instant of a row; rename it, as in events.rename(at='other')"),
    "group called weight": ({"rows": {"source": rides.rename(seats="weight"), "group": "weight", "weight": "fare"}}, "in the place of 'weight', the weight of a row"),
    "group called as a label": ({"label": {"late": LATE}, "rows": {"group": "label_late"}}, "in the place of 'label_late', what is to be foretold"),
    "group called as a feature": ({"rows": {"source": rides.rename(seats="city_n_1d"), "group": "city_n_1d"}}, "the group 'city_n_1d' has the name of a column of view 'city'"),
    "tied by at": ({"label": label(on=("ride", "at")), "rows": {"source": rides.rename(label_late="at")}}, "the column 'at' would stand in the place of 'at'"),
    "label beside a field": ({"label": {"late": LATE}, "request": {"ride": str, "city": str, "label_late": str}}, "'label_late' is what is to be foretold"),
    "a window": ({"label": label(value=tw.sum("minutes", over="1h")), **REGRESSOR}, "value of label of model 'm': tw.sum(over=...): a label looks over its horizon [at, at + within) exactly; leave over out"),
    "a hop": ({"label": label(value=tw.sum("minutes", hop="1m")), **REGRESSOR}, "tw.sum(hop=...): a label looks over its horizon"),
    "aggregate of nothing known": ({"label": label(value=tw.sum("minuets")), **REGRESSOR}, "value of label of model 'm': source 'ends' has no column 'minuets'"),
    "aggregate without a meaning": ({"label": label(value=tw.sum("note")), **REGRESSOR}, "tw.sum of a str has no meaning"),
    "aggregate where": ({"label": label(value=tw.count(where=pl.col("minuets") > 3)), **REGRESSOR}, "where of label of model 'm': source 'ends' has no column 'minuets'"),
    "aggregate where no condition": ({"label": label(value=tw.count(where=pl.col("minutes"))), **REGRESSOR}, "where of label of model 'm': its type is float; it must be bool"),
    "aggregate of an instant": ({"label": label(value=tw.max("ended_at")), "estimator": None}, "tw.max gives no one value of bool, float, int, str"),
    "aggregate missing": ({"label": label(value=tw.mean("minutes"), missing="none"), **REGRESSOR}, "missing='none' does not fit its value, whose type is float"),
    "no labels": ({"label": {}}, "model 'm': its dict of labels is empty"),
    "a label's name": ({"label": {"late!": LATE}}, "model 'm': the label's name 'late!' is no name"),
    "a label's name is no text": ({"label": {5: LATE}}, "model 'm': the label's name 5 is no text"),
    "one of several is none": ({"label": {"late": LATE, "other": ends}}, "label 'other' of model 'm': source 'ends' is no tw.Label"),
    "one of several is wrong": ({"label": {"late": LATE, "other": label(within="soon")}}, "within of label 'other' of model 'm': 'soon' is no duration"),
    "a classifier of floats": ({"label": MINUTES}, "model 'm': its label is a float, which makes a regression, and LGBMClassifier is a classifier; take a regressor"),
    "a classifier of sums": ({"label": label(value=tw.sum("minutes"))}, "its label is a float, which makes a regression"),
    "a Pipeline of floats": ({"label": MINUTES, "estimator": make_pipeline(SimpleImputer(), LogisticRegression())}, "and Pipeline is a classifier"),
    "a classifier of several": (CHOICE, "the label 'label_minutes' is a float, which makes a regression, and LGBMClassifier is a classifier; take a regressor, or write a comparison, as in pl.col('delay') > 15; labels of several kinds take a dict"),
    "classifiers for each": ({**CHOICE, "estimator": {"late": LGBMClassifier(), "minutes": LGBMClassifier()}}, "model 'm': label 'minutes': its label is a float"),
    "a text to learn": ({"label": label(value="note")}, "its label is a str, which nothing can be trained on"),
    "estimators of other labels": ({**CHOICE, "estimator": {"late": LGBMClassifier()}}, "model 'm' has estimators for late, and its labels are late, minutes; give one"),
    "estimators of one label": ({"estimator": {"late": LGBMClassifier()}}, "model 'm' has estimators for late, and its labels are one"),
    "an estimator of several is a class": ({**CHOICE, "estimator": {"late": LGBMClassifier, "minutes": LGBMRegressor()}}, "model 'm': label 'late': its estimator is the class LGBMClassifier; write LGBMClassifier()"),
    "a default of one": ({"label": {"a": LATE, "b": LATE}, "fallback": [tw.Default(0.5)]}, "tw.Default(0.5) is no answer for its labels; give tw.Default({'a': ..., 'b': ...})"),
    "a default of some": ({"label": {"a": LATE, "b": LATE}, "fallback": [tw.Default({"a": 0.5})]}, "tw.Default({'a': 0.5}) is no answer for its labels"),
    "a default that is no JSON": ({"label": {"a": LATE, "b": LATE}, "fallback": [tw.Default({"a": 0.5, "b": ends})]}, "cannot be answered as JSON"),
    "a default of several for one": ({"fallback": [tw.Default({"late": 0.5})]}, "tw.Default({'late': 0.5}) cannot be answered as JSON"),
    "nulls": ({"estimator": LogisticRegression()}, "model 'm': LogisticRegression refuses nulls, and these columns may have some: city_fare_1d; take an estimator that accepts nulls, as HistGradientBoosting's and LightGBM's do, or put an imputer into a Pipeline: make_pipeline(SimpleImputer(), LogisticRegression())"),
    "nulls of a category": ({"estimator": LogisticRegression(), "views": [], "request": {"ride": str, "city": tw.Category}}, "may have some: city;"),
    "nulls derived": ({"estimator": LogisticRegression(), "drop": ["city_fare_1d"], "derived": {"more": lambda city_fare_1d: city_fare_1d + 1}}, "may have some: more;"),
    "nulls of a table": ({"estimator": LogisticRegression(), "views": [tw.Table("towns", key="city", schema={"city": str, **{f"c{i}": int for i in range(7)}})]}, "may have some: towns_c0, towns_c1, towns_c2, towns_c3, towns_c4 and 2 more;"),
    "nulls of one of several": ({**CHOICE, "estimator": {"late": LGBMClassifier(), "minutes": Ridge()}}, "model 'm': label 'minutes': Ridge refuses nulls"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_once(name: str) -> None:
    changes, text = WRONG[name]
    found = problems(**changes)
    assert len([problem for problem in found if text in problem]) == 1, found
    assert len(found) <= 2, found


TAKES: dict[str, tuple[Callable[[], Any], bool | None]] = {
    "logistic": (LogisticRegression, False),
    "linear": (LinearRegression, False),
    "vectors": (SVC, False),
    "boosting": (HistGradientBoostingClassifier, True),
    "boosted values": (HistGradientBoostingRegressor, True),
    "lightgbm": (LGBMClassifier, True),
    "forest": (RandomForestRegressor, True),
    "a mean": (DummyRegressor, True),
    "bagging": (lambda: BaggingClassifier(LogisticRegression()), False),
    "calibrated": (lambda: CalibratedClassifierCV(LogisticRegression()), False),
    "one for each": (lambda: OneVsRestClassifier(HistGradientBoostingClassifier()), None),
    "scaled": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), False),
    "passed": (lambda: make_pipeline("passthrough", LogisticRegression()), False),
    "scaled and boosted": (lambda: make_pipeline(StandardScaler(), HistGradientBoostingClassifier()), True),
    "filled": (lambda: make_pipeline(SimpleImputer(), LogisticRegression()), True),
    "scaled and filled": (lambda: make_pipeline(StandardScaler(), KNNImputer(), LogisticRegression()), True),
    "filled too late": (lambda: make_pipeline(PolynomialFeatures(), SimpleImputer(), LogisticRegression()), False),
    "encoded": (lambda: make_pipeline(OneHotEncoder(), LogisticRegression()), None),
    "by column": (lambda: make_pipeline(ColumnTransformer([("a", SimpleImputer(), ["km"])]), LogisticRegression()), None),
    "by a function": (lambda: make_pipeline(FunctionTransformer(), LogisticRegression()), None),
    "no estimator of scikit-learn": (object, None),
}


@pytest.mark.parametrize("name", TAKES)
def test_which_estimators_take_nulls(name: str) -> None:
    make, expected = TAKES[name]
    estimator = make()
    assert accepts_nulls(estimator) is expected
    if expected is None:
        return
    matrix = [[float("nan") if row % 5 == 0 else row % 7, row % 3] for row in range(40)]
    if expected:
        estimator.fit(matrix, [row % 2 for row in range(40)]).predict(matrix)
    else:
        with pytest.raises(ValueError, match="NaN"):
            estimator.fit(matrix, [row % 2 for row in range(40)])
