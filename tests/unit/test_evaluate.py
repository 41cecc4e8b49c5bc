"""Figures against scikit-learn's, on ties, extremes and nothing at all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from twofold.errors import DataError
from twofold.learn.evaluate import auc, evaluate

PAIRS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.25 + 2**-54, 0.5, 0.9, 1.0])), min_size=2, max_size=40)


@given(PAIRS)
def test_the_area_is_the_share_of_pairs_in_order(pairs: list[tuple[bool, float]]) -> None:
    """The definition in plain loops, to the last bit."""
    yes, no = ([score for label, score in pairs if label is wanted] for wanted in (True, False))
    halves = sum(2 * (a > b) + (a == b) for a, b in itertools.product(yes, no))
    got = auc(np.array([label for label, _ in pairs]), np.array([score for _, score in pairs]))
    assert got == (halves / (2 * len(yes) * len(no)) if yes and no else None)


@pytest.mark.parametrize("decimals", [1, 3, 17])
def test_probabilities_as_scikit_learn_judges_them(decimals: int) -> None:
    random = np.random.default_rng(5)
    labels = random.random(5000) < 0.2
    foretold = np.clip(np.round(random.normal(0.3 + 0.2 * labels, 0.2), decimals), 0, 1)
    got = evaluate(labels, foretold, "probability")
    expected = {
        "n": 5000,
        "positives": labels.sum(),
        "auc": metrics.roc_auc_score(labels, foretold),
        "log_loss": metrics.log_loss(labels, foretold),
        "brier": metrics.brier_score_loss(labels, foretold),
    }
    assert got == pytest.approx(expected, rel=1e-12)


def test_values_as_scikit_learn_judges_them() -> None:
    random = np.random.default_rng(5)
    labels, foretold = random.normal(size=(2, 1000)) * 1e3
    got = evaluate(labels, foretold, "value")
    expected = {
        "n": 1000,
        "mae": metrics.mean_absolute_error(labels, foretold),
        "rmse": metrics.root_mean_squared_error(labels, foretold),
    }
    assert got == pytest.approx(expected, rel=1e-12)


def test_order_alone_decides_the_area() -> None:
    labels = np.array([False, True])
    assert [auc(labels, np.array(scores)) for scores in ([0.1, 0.9], [0.9, 0.1], [0.5, 0.5])] == [1.0, 0.0, 0.5]


def test_certainty_that_was_wrong_stays_finite() -> None:
    assert evaluate([True, False], [0.0, 1.0], "probability")["log_loss"] == pytest.approx(36.04, abs=0.01)


def test_what_has_no_meaning_is_none() -> None:
    assert evaluate([], [], "probability") == {"n": 0, "positives": 0, "auc": None, "log_loss": None, "brier": None}
    assert evaluate([], [], "value") == {"n": 0, "mae": None, "rmse": None}
    alone = evaluate([True, True], [0.5, 1.0], "probability")
    assert (alone["auc"], alone["brier"]) == (None, 0.125)


@pytest.mark.parametrize(
    ("labels", "predictions", "kind"),
    [
        ([1, 0], [0.5], "probability"),
        ([[1], [0]], [[0.5], [0.5]], "probability"),
        ([1, np.nan], [0.5, 0.5], "probability"),
        ([1, 0], [0.5, np.nan], "value"),
        ([1, 2], [0.5, 0.5], "probability"),
        ([1, 0], [0.5, 1.5], "probability"),
        ([1, 0], [-0.5, 0.5], "probability"),
    ],
)
def test_what_does_not_fit_is_refused(labels: list[float], predictions: list[float], kind: str) -> None:
    with pytest.raises(DataError):
        evaluate(labels, predictions, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("decimals", [1, 17])
def test_weights_as_scikit_learn_counts_them(decimals: int) -> None:
    random = np.random.default_rng(6)
    labels = random.random(2000) < 0.3
    foretold = np.clip(np.round(random.normal(0.3 + 0.2 * labels, 0.2), decimals), 0, 1)
    weight = random.choice([0.0, 0.5, 1.0, 7.0], 2000)
    assert evaluate(labels, foretold, "probability", weight) == pytest.approx(
        {
            "n": 2000,
            "positives": labels.sum(),
            "auc": metrics.roc_auc_score(labels, foretold, sample_weight=weight),
            "log_loss": metrics.log_loss(labels, foretold, sample_weight=weight),
            "brier": metrics.brier_score_loss(labels, foretold, sample_weight=weight),
        },
        rel=1e-12,
    )
    assert evaluate(labels, foretold, "value", weight) == pytest.approx(
        {
            "n": 2000,
            "mae": metrics.mean_absolute_error(labels, foretold, sample_weight=weight),
            "rmse": metrics.root_mean_squared_error(labels, foretold, sample_weight=weight),
        },
        rel=1e-12,
    )


def test_equal_weights_change_nothing_and_none_at_all_give_none() -> None:
    labels, foretold = [True, False, True], [0.9, 0.4, 0.3]
    assert evaluate(labels, foretold, "probability", [2, 2, 2]) == pytest.approx(evaluate(labels, foretold, "probability"))
    nothing = evaluate(labels, foretold, "probability", [0, 0, 0])
    assert [nothing[name] for name in ("n", "auc", "log_loss", "brier")] == [3, None, None, None]
    assert evaluate([], [], "value", []) == {"n": 0, "mae": None, "rmse": None}
    assert evaluate([], [], "probability", [])["auc"] is None


@pytest.mark.parametrize("weight", [[1.0, 1.0], [1.0, 1.0, -1.0], [1.0, 1.0, np.nan], [1.0, 1.0, np.inf]])
def test_weights_that_are_none(weight: list[float]) -> None:
    with pytest.raises(DataError, match="give one a prediction, finite and not negative"):
        evaluate([True, False, True], [0.9, 0.4, 0.3], "probability", weight)
