"""How good predictions are: the usual figures, in NumPy."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.errors import DataError

Floats = NDArray[np.float64]


def evaluate(
    labels: ArrayLike, predictions: ArrayLike, kind: Literal["probability", "value"], weight: ArrayLike | None = None
) -> dict[str, float | int | None]:
    """Figures of n predictions against n labels, each counting as its weight says (default: alike).

    For a probability: `n, positives, auc, log_loss, brier`; for a value: `n, mae, rmse`. `n` and `positives` are numbers of rows.
    None where a figure has no meaning: of no rows or weights of 0, and the AUC of labels that are all the same. Raises DataError for
    nulls, other lengths, negative weights, and labels or probabilities outside their range.
    """
    known, foretold = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if known.ndim != 1 or known.shape != foretold.shape:
        raise DataError(f"{known.shape} labels do not fit {foretold.shape} predictions; give one prediction a label")
    if np.isnan(known).any() or np.isnan(foretold).any():
        raise DataError("labels or predictions are null; leave rows without a label out")
    weights = None if weight is None else _checked_weight(weight, len(known))
    if kind == "value":
        mse = _mean((known - foretold) ** 2, weights)
        return {"n": len(known), "mae": _mean(np.abs(known - foretold), weights), "rmse": None if mse is None else float(np.sqrt(mse))}
    if not np.isin(known, (0.0, 1.0)).all() or (foretold < 0).any() or (foretold > 1).any():
        raise DataError("a probability is judged by labels that are true or false, and lies from 0 to 1; did you mean kind='value'?")
    return {
        "n": len(known),
        "positives": int(known.sum()),
        "auc": auc(known == 1.0, foretold) if weights is None else weighted_auc(known == 1.0, foretold, weights),
        "log_loss": _mean(_surprise(known, foretold), weights),
        "brier": _mean((known - foretold) ** 2, weights),
    }


def _checked_weight(weight: ArrayLike, rows: int) -> Floats:
    known = np.asarray(weight, dtype=np.float64)
    if known.shape != (rows,) or not np.isfinite(known).all() or (known < 0).any():
        raise DataError(f"weights of shape {known.shape} do not fit {rows} predictions; give one a prediction, finite and not negative")
    return known


def weighted_auc(is_positive: NDArray[np.bool_], scores: Floats, weight: Floats) -> float | None:
    """The AUC with each pair (positive, negative) counting as the product of their weights; None without weight on both sides."""
    places = np.unique(scores, return_inverse=True)[1]
    positive = np.bincount(places, np.where(is_positive, weight, 0.0))
    negative = np.bincount(places, np.where(is_positive, 0.0, weight))
    pairs = positive.sum() * negative.sum() if len(scores) else 0.0
    below = np.cumsum(negative) - negative / 2
    return float(np.dot(positive, below) / pairs) if pairs else None


def auc(is_positive: NDArray[np.bool_], scores: Floats) -> float | None:
    """Share of pairs (positive, negative) whose positive has the higher score, a tie counting half; None without such a pair.

    The rank sum of Mann and Whitney in whole numbers: twice the mid-rank of ties is an integer, so only the division rounds.
    """
    positives = int(np.count_nonzero(is_positive))
    pairs = positives * (len(scores) - positives)
    if not pairs:
        return None
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    after = np.append(first[1:], len(scores))
    twice_rank = np.repeat(first + after + 1, after - first)  # ranks from 1: (first + 1) + after
    twice_sum = int(twice_rank[is_positive[order]].sum())
    return (twice_sum - positives * (positives + 1)) / (2 * pairs)


def _surprise(known: Floats, probability: Floats) -> Floats:
    """-log of the probability given to what happened, kept finite: 0 and 1 count as one rounding step off."""
    step = np.finfo(np.float64).eps
    happened = np.where(known == 1.0, probability, 1.0 - probability)
    surprise: Floats = -np.log(np.clip(happened, step, 1.0 - step))
    return surprise


def _mean(values: Floats, weight: Floats | None) -> float | None:
    if weight is None:
        return float(values.mean()) if len(values) else None
    whole = float(weight.sum())
    return float(np.dot(values, weight) / whole) if whole else None
