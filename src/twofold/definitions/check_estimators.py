"""The check of a model's estimator: what it can learn from which labels, and whether it takes nulls; told without training it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from twofold.definitions.check_training import label_type
from twofold.definitions.model import Model, label_column
from twofold.definitions.problems import Problem, Problems, describe, shown

_MOST_NAMES = 5
_SCALERS = "sklearn.preprocessing._data"
"""Where the transformers live that keep a null a null."""


def estimator_problems(model: Model, nullable: Collection[str]) -> Problems:
    """Problems of a model's estimator, or of each of several; `nullable` are the columns that may be null."""
    what = describe(model)
    for name, estimator in _estimators(model).items():
        owner = what if name is None else f"{what}: label {name!r}"
        found = list(_instance_problems(estimator, owner, model))
        yield from found
        if not found:
            yield from _label_kind_problems(name, estimator, owner, model)
            yield from _null_problems(estimator, nullable, owner, model)
    yield from _names_problems(model)
    missing = [name for name in ("rows", "label") if getattr(model, name) is None]
    if missing:
        yield Problem(f"{what} has an estimator, but no {' and no '.join(missing)} to train it with", model.place)


def _estimators(model: Model) -> dict[str | None, Any]:
    """Each estimator by the label that it is for; None where it is for all."""
    return dict(model.estimator) if isinstance(model.estimator, Mapping) else {None: model.estimator}


def _names_problems(model: Model) -> Problems:
    """A dict of estimators has one for each label."""
    if not isinstance(model.estimator, Mapping) or model.label is None:
        return
    wanted, got = list(model.label_names), list(model.estimator)
    if set(wanted) != set(got):
        text = (
            f"{describe(model)} has estimators for {', '.join(map(str, got)) or 'nothing'}, and its labels are {', '.join(wanted) or 'one'}"
        )
        yield Problem(f"{text}; give one estimator for all labels, or a dict with one for each", model.place)


def _instance_problems(estimator: Any, what: str, model: Model) -> Problems:
    if isinstance(estimator, type):
        yield Problem(f"{what}: its estimator is the class {estimator.__name__}; write {estimator.__name__}()", model.place)
    elif not callable(getattr(estimator, "fit", None)) or not callable(getattr(estimator, "predict", None)):
        yield Problem(f"{what}: its estimator {shown(estimator)} has no fit and predict; give a scikit-learn estimator", model.place)


def _label_kind_problems(name: str | None, estimator: Any, what: str, model: Model) -> Problems:
    """A float is foretold by a regressor, a text by nobody."""
    word = type(estimator).__name__
    for column, label in model.labels.items():
        if name is not None and column != label_column(name):
            continue
        kind, of = label_type(label), "its label" if name is not None or not model.label_names else f"the label {column!r}"
        if kind == "str":
            yield Problem(f"{what}: {of} is a str, which nothing can be trained on; write a comparison, or a number", label.place)
        elif kind == "float" and _is_classifier(estimator):
            text = f"{what}: {of} is a float, which makes a regression, and {word} is a classifier; take a regressor, or write a comparison"
            several = "; labels of several kinds take a dict of estimators, one for each" if model.label_names and name is None else ""
            yield Problem(f"{text}, as in pl.col('delay') > 15{several}", label.place)


def _null_problems(estimator: Any, nullable: Collection[str], what: str, model: Model) -> Problems:
    if not nullable or accepts_nulls(estimator) is not False:
        return
    word = type(estimator).__name__
    names, more = list(nullable)[:_MOST_NAMES], len(nullable) - _MOST_NAMES
    columns = ", ".join(names) + (f" and {more} more" if more > 0 else "")
    remedy = (
        "take an estimator that accepts nulls, as HistGradientBoosting's and LightGBM's do, or put an imputer into a Pipeline: "
        f"make_pipeline(SimpleImputer(), {word}())"
    )
    yield Problem(f"{what}: {word} refuses nulls, and these columns may have some: {columns}; {remedy}", model.place)


def _tags(estimator: Any) -> Any:
    """What scikit-learn's estimators say of themselves; None of those that say nothing."""
    try:
        return estimator.__sklearn_tags__()
    except Exception:  # an estimator of any library; what cannot be asked is seen in training
        return None


def _is_classifier(estimator: Any) -> bool:
    return getattr(_tags(estimator), "estimator_type", None) == "classifier"


def accepts_nulls(estimator: Any) -> bool | None:
    """Whether an estimator takes NaN in its inputs; None where that cannot be told without training it."""
    steps = getattr(estimator, "steps", None)
    if isinstance(steps, list):
        return _pipeline_accepts_nulls([step for _, step in steps])
    if type(estimator).__module__ == "sklearn.dummy":
        return True  # it looks at no input, and does not say so
    accepts = getattr(getattr(_tags(estimator), "input_tags", None), "allow_nan", None)
    if accepts is not False:
        return accepts
    inner = [accepts_nulls(part) for part in _inner(estimator)]
    is_unclear = _hides_another(estimator) or (inner and False not in inner)  # it says no, and may hand them on all the same
    return None if is_unclear else False


def _hides_another(estimator: Any) -> bool:
    """Whether what it does to nulls is for its parts to say, each for some columns."""
    return any(hasattr(estimator, name) for name in ("transformers", "transformer_list", "func"))


def _inner(estimator: Any) -> Iterator[Any]:
    """The estimators that an estimator hands its inputs on to."""
    for name in ("estimator", "regressor", "final_estimator"):
        found = getattr(estimator, name, None)
        if hasattr(found, "fit"):
            yield found
    yield from (item[1] for item in getattr(estimator, "estimators", None) or () if isinstance(item, tuple) and hasattr(item[1], "fit"))


def _pipeline_accepts_nulls(steps: list[Any]) -> bool | None:
    """A Pipeline takes nulls if every step does, up to one that fills them in."""
    for step in steps:
        if step is None or step == "passthrough":
            continue
        accepts = accepts_nulls(step)
        module = type(step).__module__
        if accepts is not True or module.startswith("sklearn.impute"):
            return accepts
        if step is not steps[-1] and not module.startswith(_SCALERS):
            return None
    return True
