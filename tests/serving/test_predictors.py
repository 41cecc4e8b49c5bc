"""A loaded predictor answers bit for bit as what was trained, in small processes and many threads, and refuses what does not fit."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import psutil
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from twofold.errors import Corrupt, DataError, DefinitionError, NotYet, Unavailable
from twofold.learn.fit import fit
from twofold.predictors import lightgbm as lightgbm_room
from twofold.predictors import sklearn as sklearn_room
from twofold.predictors.base import FORMATS, SEVERAL, Matrix, Predictor, format_of, library, load_predictor, packed
from twofold.registry.sqlite import SqliteRegistry

COLUMNS = ("delay", "scheduled_at", "carrier", "huge", "distance", "is_late", "tiny")
CARRIER = 2


def inputs(rows: int, seed: int) -> Matrix:
    """Columns as they come: nulls everywhere, instants in microseconds (neighbours too), codes, floats at their limits."""
    random = np.random.default_rng(seed)
    matrix = np.empty((rows, len(COLUMNS)))
    matrix[:, 0] = random.normal(size=rows) * 30
    matrix[:, 1] = 1_380_000_000_000_000 + random.integers(0, 2**40, rows) // random.choice([1, 2**39], rows)
    matrix[:, 2] = random.integers(0, 16, rows)
    matrix[:, 3] = random.choice([1e300, -1e300, 2.0**53, 2.0**53 + 2, 1e-300, 5e-324, 0.0, -0.0, 1e-35, 1.7e308], rows)
    matrix[:, 4] = random.integers(50, 5000, rows)
    matrix[:, 5] = random.integers(0, 2, rows)
    matrix[:, 6] = random.normal(size=rows) * 1e-36
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    return matrix


def labels_of(matrix: Matrix, seed: int) -> NDArray[np.bool_]:
    """Something to learn in every column."""
    random = np.random.default_rng(seed)
    filled = np.nan_to_num(matrix, nan=0.0)
    score = (
        filled[:, 0] / 30
        + (filled[:, 2] % 3)
        - 1
        + (filled[:, 3] > 1e5) * 0.5
        + (filled[:, 1] > 1_380_000_300_000_000)
        + filled[:, 6] * 1e36
    )
    return np.asarray(score + random.normal(size=len(matrix)) > 0.5)


def trained(estimator: Any, matrix: Matrix | None = None) -> Any:
    rows = inputs(4000, seed=1) if matrix is None else matrix
    return fit(estimator, rows, labels_of(rows, seed=2), COLUMNS, [CARRIER])


def stored(fitted: Any, folder: Path) -> Path:
    path = folder / "model"
    path.write_bytes(library(format_of(fitted)).export(fitted))
    return path


def reloaded(fitted: Any, folder: Path) -> Predictor:
    return load_predictor(format_of(fitted), stored(fitted, folder), COLUMNS)


@pytest.fixture(scope="module")
def classifier() -> LGBMClassifier:
    return trained(LGBMClassifier(n_estimators=60, verbose=-1, n_jobs=1, cat_smooth=1.0, min_data_per_group=5))


@pytest.fixture
def path(classifier: LGBMClassifier, tmp_path: Path) -> Path:
    return stored(classifier, tmp_path)


@pytest.fixture
def predictor(path: Path) -> Predictor:
    return load_predictor("lightgbm", path, COLUMNS)


def same_bits(got: object, expected: object) -> bool:
    return np.array_equal(np.asarray(got).view(np.int64), np.asarray(expected).view(np.int64))


LIGHTGBM = {
    "binary": LGBMClassifier(n_estimators=40, verbose=-1, n_jobs=1),
    "regression": LGBMRegressor(n_estimators=40, verbose=-1, n_jobs=1),
    "poisson": LGBMRegressor(objective="poisson", n_estimators=20, verbose=-1, n_jobs=1),
    "random forest": LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, n_estimators=20, verbose=-1, n_jobs=1),
    "dart": LGBMClassifier(boosting_type="dart", n_estimators=20, verbose=-1, n_jobs=1),
    "zero as missing": LGBMClassifier(zero_as_missing=True, n_estimators=20, verbose=-1, n_jobs=1),
    "a stump": LGBMClassifier(n_estimators=1, num_leaves=2, verbose=-1, n_jobs=1),
    "no split": LGBMClassifier(n_estimators=1, min_child_samples=10_000, verbose=-1, n_jobs=1),
}


class TestLightgbm:
    @pytest.mark.parametrize("estimator", LIGHTGBM.values(), ids=LIGHTGBM.keys())
    def test_answers_bit_for_bit_as_the_booster(self, estimator: Any, tmp_path: Path) -> None:
        fitted = trained(estimator)
        predictor = reloaded(fitted, tmp_path)
        rows = inputs(3000, seed=3)
        expected = fitted.booster_.predict(rows)
        assert isinstance(predictor, lightgbm_room.LightgbmPredictor)
        assert same_bits(predictor.predict(rows), expected)
        assert same_bits([predictor.predict_one(row) for row in rows], expected)

    def test_the_random_rows_reach_every_column(self, classifier: LGBMClassifier) -> None:
        """Otherwise equality would say nothing about them."""
        assert (classifier.feature_importances_[[0, 1, 2, 3, 4]] > 0).all()
        assert classifier.booster_.dump_model()["feature_infos"]["carrier"]["values"]
        assert len(np.unique(classifier.booster_.predict(inputs(3000, seed=3)))) > 1000

    def test_early_stopping_keeps_the_best_iteration(self, tmp_path: Path) -> None:
        rows, other = inputs(2000, seed=1), inputs(1000, seed=5)
        estimator = LGBMClassifier(n_estimators=300, learning_rate=0.5, verbose=-1, n_jobs=1)
        estimator.fit(
            rows,
            labels_of(rows, seed=2),
            eval_X=other,
            eval_y=labels_of(other, seed=6),
            callbacks=[lightgbm.early_stopping(5, verbose=False)],
        )
        assert 0 < estimator.best_iteration_ < 300
        assert same_bits(reloaded(estimator, tmp_path).predict(other), estimator.booster_.predict(other))

    def test_a_booster_trained_elsewhere_is_taken_by_position(self, tmp_path: Path) -> None:
        rows = inputs(2000, seed=1)
        booster = lightgbm.train(
            {"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(rows, labels_of(rows, seed=2)), 5
        )
        assert booster.feature_name()[0] == "Column_0"
        assert same_bits(reloaded(booster, tmp_path).predict(rows), booster.predict(rows))

    def test_layouts_and_views_of_the_same_numbers(self, predictor: Predictor) -> None:
        rows = inputs(50, seed=3)
        expected = predictor.predict(rows)
        assert same_bits(predictor.predict(np.asfortranarray(rows)), expected)
        assert same_bits(predictor.predict(np.repeat(rows, 2, axis=0)[::2]), expected)
        assert same_bits(predictor.predict(rows[::-1]), expected[::-1])
        assert same_bits([predictor.predict_one(row) for row in np.asfortranarray(rows)], expected)
        assert predictor.predict(rows[:0]).shape == (0,)
        whole = np.nan_to_num(rows[:, CARRIER : CARRIER + 1].repeat(len(COLUMNS), axis=1))
        assert same_bits(predictor.predict(whole.astype(np.float32)), predictor.predict(whole))

    def test_an_unseen_category_is_a_null(self, predictor: Predictor) -> None:
        row = inputs(1, seed=9)[0]
        row[CARRIER] = np.nan
        null = predictor.predict_one(row)
        row[CARRIER] = 3
        assert predictor.predict_one(row) != null
        row[CARRIER] = -1
        assert predictor.predict_one(row) == null

    def test_threads_answer_as_one(self, predictor: Predictor) -> None:
        rows = inputs(800, seed=4)
        expected = predictor.predict(rows)
        together = threading.Barrier(8)

        def answer(number: int) -> bool:
            together.wait()
            if number % 4 == 0:
                return all(same_bits(predictor.predict(rows), expected) for _ in range(5))
            if number % 4 == 1:
                few = [predictor.predict(rows[at : at + 16]) for at in range(0, len(rows), 16)]
                return same_bits(np.concatenate(few), expected)
            return all(same_bits([predictor.predict_one(row) for row in rows], expected) for _ in range(3))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(answer, range(8)))

    def test_predictors_give_their_memory_back(self, path: Path) -> None:
        row = inputs(1, seed=3)[0]

        def used_after(times: int) -> int:
            for _ in range(times):
                load_predictor("lightgbm", path, COLUMNS).predict_one(row)
            gc.collect()
            return int(psutil.Process().memory_info().rss)

        before = used_after(30)
        assert used_after(150) - before < 150 * path.stat().st_size / 4

    def test_threads_give_their_memory_back(self, predictor: Predictor) -> None:
        row = inputs(1, seed=3)[0]

        def used_after(threads: int) -> int:
            for _ in range(threads):
                thread = threading.Thread(target=predictor.predict_one, args=[row])
                thread.start()
                thread.join()
            gc.collect()
            return int(psutil.Process().memory_info().rss)

        before = used_after(200)
        assert used_after(1000) - before < 1000 * 1000

    def test_keeps_its_answer_after_the_file_is_gone(self, path: Path) -> None:
        predictor = load_predictor("lightgbm", path, COLUMNS)
        row = inputs(1, seed=3)[0]
        expected = predictor.predict_one(row)
        path.unlink()
        assert predictor.predict_one(row) == expected

    def test_through_the_package_the_answers_are_the_same(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = inputs(300, seed=3)
        expected = load_predictor("lightgbm", path, COLUMNS).predict(rows)
        monkeypatch.setattr(lightgbm_room, "_NEEDED", (*lightgbm_room._NEEDED, "LGBM_NotInThisBuild"))
        lightgbm_room._calls.cache_clear()
        try:
            predictor = load_predictor("lightgbm", path, COLUMNS)
        finally:
            lightgbm_room._calls.cache_clear()
        assert isinstance(predictor, lightgbm_room.PackagePredictor)
        assert same_bits(predictor.predict(rows), expected)
        assert same_bits([predictor.predict_one(row) for row in rows], expected)
        assert predictor.predict(rows[:0]).shape == (0,)

    def test_without_the_library_the_text_says_what_to_install(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        lightgbm_room._calls.cache_clear()
        with pytest.raises(Unavailable, match=r"pip install 'twofold\[lightgbm\]'"):
            load_predictor("lightgbm", path, COLUMNS)

    def test_other_columns_are_refused(self, path: Path) -> None:
        with pytest.raises(DataError, match="other columns: it has 'delay' where the model has 'scheduled_at'"):
            load_predictor("lightgbm", path, (COLUMNS[1], COLUMNS[0], *COLUMNS[2:]))
        with pytest.raises(DataError, match="7 columns, the model has 6"):
            load_predictor("lightgbm", path, COLUMNS[:-1])

    def test_three_classes_are_not_yet_served(self, tmp_path: Path) -> None:
        rows = inputs(2000, seed=1)
        data = lightgbm.Dataset(rows, np.arange(2000) % 3)
        booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, data, 2)
        with pytest.raises(NotYet, match="two classes"):
            library("lightgbm").export(booster)
        path = tmp_path / "model"
        path.write_text(booster.model_to_string())
        with pytest.raises(NotYet, match="3 classes"):
            load_predictor("lightgbm", path, COLUMNS)

    def test_a_function_as_objective_is_refused(self) -> None:
        with pytest.raises(NotYet, match="objective"):
            trained(LGBMClassifier(objective=lambda labels, scores: (scores - labels, np.ones_like(scores))))

    def test_names_that_lightgbm_refuses(self, tmp_path: Path) -> None:
        columns = ("a b", "a_b", "a:b", 'a"b', "größe", "", "[x]")
        rows = inputs(1000, seed=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted = fit(LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1), rows, labels_of(rows, seed=2), columns, [CARRIER])
        predictor = load_predictor("lightgbm", stored(fitted, tmp_path), columns)
        assert predictor.columns == columns
        assert same_bits(predictor.predict(rows), fitted.booster_.predict(rows))
        with pytest.raises(DataError, match="other columns"):
            load_predictor("lightgbm", stored(fitted, tmp_path), columns[::-1])


SKLEARN = {
    "logistic": make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "by name": make_pipeline(
        ColumnTransformer(
            [
                ("carrier", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier"]),
                ("delay", SimpleImputer(), ["delay", "distance"]),
            ]
        ),
        StandardScaler(),
        LogisticRegression(),
    ),
    "boosting": HistGradientBoostingClassifier(max_iter=10, categorical_features=[CARRIER]),
    "forest": make_pipeline(SimpleImputer(), RandomForestClassifier(10, random_state=0)),
    "forest of values": RandomForestRegressor(10, random_state=0),
    "ridge": make_pipeline(SimpleImputer(), StandardScaler(), Ridge()),
    "neighbours": make_pipeline(SimpleImputer(), KNeighborsRegressor()),
    "calibrated": make_pipeline(SimpleImputer(), StandardScaler(), CalibratedClassifierCV(LinearSVC(random_state=0))),
}


def mild(rows: int, seed: int) -> Matrix:
    """Inputs that float32 and squares can bear."""
    matrix = inputs(rows, seed)
    matrix[:, 1] /= 1e15
    matrix[:, 3] = np.clip(matrix[:, 3], -1e3, 1e3)
    return matrix


class TestSklearn:
    @pytest.mark.parametrize("estimator", SKLEARN.values(), ids=SKLEARN.keys())
    def test_answers_bit_for_bit_as_the_estimator(self, estimator: Any, tmp_path: Path) -> None:
        fitted = trained(estimator, mild(1000, seed=1))
        predictor = reloaded(fitted, tmp_path)
        rows = mild(300, seed=3)
        given = sklearn_room._frame(rows, COLUMNS) if hasattr(fitted, "feature_names_in_") else rows
        expected = fitted.predict_proba(given)[:, 1] if hasattr(fitted, "predict_proba") else fitted.predict(given)
        assert format_of(estimator) == "sklearn"
        assert same_bits(predictor.predict(rows), expected)
        assert np.allclose([predictor.predict_one(row) for row in rows[:20]], expected[:20], rtol=1e-14, atol=0)
        assert predictor.predict(rows[:0]).shape == (0,)

    def test_other_columns_are_refused(self, tmp_path: Path) -> None:
        path = stored(trained(SKLEARN["by name"], mild(500, seed=1)), tmp_path)
        with pytest.raises(DataError, match="other columns or another order"):
            load_predictor("sklearn", path, COLUMNS[::-1])
        with pytest.raises(DataError, match="7 columns, the model has 6"):
            load_predictor("sklearn", path, COLUMNS[:-1])

    def test_code_of_a_project_is_refused_before_the_work(self) -> None:
        with pytest.raises(DefinitionError, match=r"holds .*mild: a replica loads only types of scikit-learn"):
            trained(make_pipeline(FunctionTransformer(mild), LogisticRegression()))
        with pytest.raises(DefinitionError, match=r"lightgbm.sklearn.LGBMClassifier"):
            trained(make_pipeline(SimpleImputer(), LGBMClassifier()))

    def test_a_file_with_foreign_types_is_never_loaded(self, tmp_path: Path) -> None:
        import skops.io

        path = tmp_path / "model"
        path.write_bytes(skops.io.dumps(FunctionTransformer(subprocess.run)))
        with pytest.raises(Corrupt, match=r"subprocess.run.* never wrote"):
            load_predictor("sklearn", path, COLUMNS)

    @pytest.mark.parametrize(
        "name", ["sklearn.base.clone", "sklearn.utils.fixes.np", "sklearn.datasets._base.urlretrieve", "os.system", "os.DirEntry"]
    )
    def test_only_classes_of_scikit_learn_are_trusted(self, name: str) -> None:
        """Its modules hold functions, and what they imported."""
        assert sklearn_room._unsafe([name]) == [name]
        assert sklearn_room._unsafe(["sklearn.tree._tree.Tree"]) == []

    def test_a_classifier_without_probabilities_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="CalibratedClassifierCV"):
            trained(make_pipeline(SimpleImputer(), StandardScaler(), LinearSVC()), mild(500, seed=1))

    def test_a_weight_reaches_the_last_step(self) -> None:
        rows = mild(500, seed=1)
        weight = np.where(labels_of(rows, seed=2), 100.0, 1.0)
        heavy = fit(SKLEARN["logistic"], rows, labels_of(rows, seed=2), COLUMNS, [], weight)
        light = fit(SKLEARN["logistic"], rows, labels_of(rows, seed=2), COLUMNS, [])
        assert heavy.predict_proba(rows)[:, 1].mean() > light.predict_proba(rows)[:, 1].mean() + 0.2


@pytest.fixture(scope="module", params=["lightgbm", "sklearn"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    estimator = {"lightgbm": LIGHTGBM["binary"], "sklearn": SKLEARN["boosting"]}[request.param]
    return reloaded(trained(estimator, mild(500, seed=1)), tmp_path_factory.mktemp("models"))


class TestEveryFormat:
    def test_has_the_functions_of_a_library(self) -> None:
        for format in FORMATS:
            assert all(callable(getattr(library(format), name)) for name in ("owns", "output_of", "fit", "export", "load"))

    @pytest.mark.parametrize("width", [0, 1, len(COLUMNS) - 1, len(COLUMNS) + 1])
    def test_another_number_of_columns_is_refused(self, either: Predictor, width: int) -> None:
        with pytest.raises(DataError, match="the model has 7"):
            either.predict(np.zeros((3, width)))
        with pytest.raises(DataError, match="the model has 7"):
            either.predict_one(np.zeros(width))
        with pytest.raises(DataError, match="the model has 7"):
            either.predict(np.zeros(len(COLUMNS)))
        assert either.columns == COLUMNS
        assert 0 <= either.predict_one(np.zeros(len(COLUMNS))) <= 1

    def test_unknown_formats_name_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="Did you mean 'lightgbm'"):
            load_predictor("lightgbn", tmp_path, COLUMNS)

    @pytest.mark.parametrize("thing", [LGBMClassifier, LogisticRegression, None, "LGBMClassifier", object()])
    def test_what_is_no_estimator_is_refused(self, thing: object) -> None:
        with pytest.raises(DefinitionError, match="no estimator"):
            format_of(thing)


class TestSeveral:
    """A file for several labels answers for each as its own estimator does."""

    def test_side_by_side(self, tmp_path: Path) -> None:
        rows = mild(1000, seed=1)
        fitted = [trained(estimator, rows) for estimator in (LIGHTGBM["binary"], SKLEARN["boosting"], LIGHTGBM["regression"])]
        path = tmp_path / "model"
        path.write_bytes(packed([(format_of(one), library(format_of(one)).export(one)) for one in fitted]))
        predictor = load_predictor(SEVERAL, path, COLUMNS)
        path.unlink()
        asked = mild(100, seed=3)
        expected = np.column_stack([reloaded(one, tmp_path).predict(asked) for one in fitted])
        assert len({tuple(column) for column in expected.T}) == 3
        assert same_bits(predictor.predict(asked), expected)
        assert same_bits([predictor.predict_one(row) for row in asked], expected)
        assert predictor.predict(asked[:0]).shape == (0, 3)
        assert predictor.columns == COLUMNS
        with pytest.raises(DataError, match="the model has 7"):
            predictor.predict_one(np.zeros(3))

    @pytest.mark.parametrize("name", ["forest", "classes", "neighbours", "chain", "linear", "scaled"])
    def test_an_estimator_that_learns_several(self, name: str, tmp_path: Path) -> None:
        estimators: dict[str, Any] = {
            "forest": RandomForestRegressor(5, random_state=0),
            "classes": RandomForestClassifier(5, random_state=0),
            "neighbours": make_pipeline(SimpleImputer(), KNeighborsClassifier()),
            "chain": MultiOutputClassifier(HistGradientBoostingClassifier(max_iter=3)),
            "linear": make_pipeline(SimpleImputer(), LinearRegression()),
            "scaled": make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)),
        }
        rows, asked = mild(500, seed=1), mild(50, seed=3)
        labels = np.column_stack([labels_of(rows, seed=2), rows[:, 4] > 2000])
        assert library("sklearn").takes_several(estimators[name])
        fitted = fit(estimators[name], rows, labels, COLUMNS, [CARRIER])
        predictor = reloaded(fitted, tmp_path)
        if hasattr(fitted, "predict_proba"):
            expected = np.column_stack([of_label[:, 1] for of_label in fitted.predict_proba(asked)])
        else:
            expected = fitted.predict(asked)
        assert expected.shape == (50, 2)
        assert same_bits(predictor.predict(asked), expected)
        one = predictor.predict_one(asked[0])
        assert isinstance(one, list)
        assert np.allclose(one, expected[0], rtol=1e-14, atol=0)

    @pytest.mark.parametrize("content", [b"", b"no model", b"\x90", b"\x91\x92\xa1x\xc4\x00", b"\xc1" * 10])
    def test_what_is_no_such_file_is_corrupt(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "model").write_bytes(content)
        with pytest.raises(Corrupt, match=r"is no file of several predictors: .*train again"):
            load_predictor(SEVERAL, tmp_path / "model", COLUMNS)

    def test_a_member_that_is_broken_says_which(self, classifier: LGBMClassifier, tmp_path: Path) -> None:
        whole = library("lightgbm").export(classifier)
        (tmp_path / "model").write_bytes(packed([("lightgbm", whole), ("lightgbm", whole[:1000])]))
        with pytest.raises(Corrupt, match=r"model \(label 1\) is no whole LightGBM model text"):
            load_predictor(SEVERAL, tmp_path / "model", COLUMNS)


class TestPandas:
    """Only an estimator that was told columns by name gets a frame."""

    @pytest.mark.parametrize("name", ["logistic", "boosting", "forest", "by number"])
    def test_is_not_needed(self, name: str, tmp_path: Path) -> None:
        by_number = make_pipeline(ColumnTransformer([("all", SimpleImputer(), [0, 4])]), LogisticRegression())
        fitted = trained({**SKLEARN, "by number": by_number}[name], mild(300, seed=1))
        assert not hasattr(fitted, "feature_names_in_"), "it was given no frame"
        predictor = reloaded(fitted, tmp_path)
        assert 0 <= predictor.predict_one(mild(1, seed=3)[0]) <= 1

    @pytest.mark.parametrize(
        "estimator",
        [
            SKLEARN["by name"],
            HistGradientBoostingClassifier(max_iter=2, categorical_features=["carrier"]),
            HistGradientBoostingClassifier(max_iter=2, monotonic_cst={"delay": 1}),
            make_pipeline(ColumnTransformer([("all", SimpleImputer(), slice("delay", "carrier"))]), LogisticRegression()),
            make_pipeline(ColumnTransformer([("all", SimpleImputer(), make_column_selector("^d"))]), LogisticRegression()),
            make_pipeline(ColumnTransformer([("one", "passthrough", ["distance"])]), SimpleImputer(), LogisticRegression()),
        ],
        ids=["names", "categories", "directions", "a slice", "a selector", "a list"],
    )
    def test_is_needed(self, estimator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        assert list(trained(estimator, mild(300, seed=1)).feature_names_in_) == list(COLUMNS)
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(Unavailable, match="chooses columns by name takes them from pandas, which is not installed"):
            trained(estimator, mild(300, seed=1))


ASK = """
import json, sys
import numpy as np
from pathlib import Path
from twofold.predictors.base import load_predictor
predictor = load_predictor("lightgbm", Path(sys.argv[1]), sys.argv[3].split(","))
rows = np.load(sys.argv[2])
answers = [predictor.predict_one(row) for row in rows]
assert answers == predictor.predict(rows).tolist()
print(json.dumps({"answers": answers, "modules": sorted(sys.modules)}))
"""


def test_another_process_answers_the_same_without_the_package(path: Path, classifier: LGBMClassifier, tmp_path: Path) -> None:
    rows = inputs(100, seed=3)
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, "-W", "error", "-c", ASK, str(path), str(tmp_path / "rows.npy"), ",".join(COLUMNS)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(ended.stdout)
    heavy = {"lightgbm", "sklearn", "pandas", "polars", "scipy", "numba", "skops", "pyarrow"}
    assert not heavy & {name.split(".")[0] for name in told["modules"]}
    assert ended.stderr == ""
    assert same_bits(told["answers"], classifier.booster_.predict(rows))


class TestDamage:
    def test_the_checksum_of_the_registry_finds_every_changed_byte(self, path: Path, tmp_path: Path) -> None:
        """What LightGBM itself cannot bear never reaches it."""
        registry = SqliteRegistry(tmp_path / "registry")
        text = path.read_bytes()
        name = registry.put_artifact(text)
        assert load_predictor("lightgbm", registry.artifact_path(name), COLUMNS).columns == COLUMNS
        file = registry.artifact_path(name)
        random = np.random.default_rng(0)
        for at in random.integers(0, len(text), 30):
            file.unlink()
            file.write_bytes(text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
            with pytest.raises(Corrupt):
                registry.artifact_path(name)
        registry.close()

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.5, 0.9])
    def test_a_cut_model_text_is_corrupt(self, path: Path, share: float) -> None:
        text = path.read_bytes()
        path.write_bytes(text[: int(share * len(text))])
        with pytest.raises(Corrupt, match="no whole LightGBM model text"):
            load_predictor("lightgbm", path, COLUMNS)

    def test_a_shifted_model_text_is_corrupt(self, path: Path) -> None:
        text = path.read_bytes()
        random = np.random.default_rng(0)
        first, end = text.index(b"Tree=0"), text.index(b"end of trees")
        last = text.rindex(b"Tree=")
        before_last = text.rindex(b"Tree=", 0, last)
        shortened = [text[:at] + text[at + 1 :] for at in (end - 5, *random.integers(first, end, 40))]
        made_up_for = [text[:at] + text[at + 1 : last] + b"\n" + text[last:] for at in random.integers(first, before_last, 20)]
        longer = [text[:at] + b"7" + text[at:] for at in random.integers(first, end, 20)]
        ended = [text[:at] + b"\0" + text[at + 1 :] for at in random.integers(first, len(text), 20)]
        for changed in {*shortened, *made_up_for, *longer, *ended} - {text}:
            path.write_bytes(changed)
            with pytest.raises(Corrupt, match="no whole LightGBM model text"):
                load_predictor("lightgbm", path, COLUMNS)

    @pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04", b"\x00" * 100])
    @pytest.mark.parametrize("format", FORMATS)
    def test_what_is_no_model_is_corrupt(self, format: str, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "model"
        path.write_bytes(content)
        with pytest.raises(Corrupt, match="train again"):
            load_predictor(format, path, COLUMNS)

    def test_a_cut_skops_file_is_corrupt(self, tmp_path: Path) -> None:
        path = stored(trained(SKLEARN["boosting"], mild(500, seed=1)), tmp_path)
        content = path.read_bytes()
        for share in (0.1, 0.5, 0.99):
            path.write_bytes(content[: int(share * len(content))])
            with pytest.raises(Corrupt):
                load_predictor("sklearn", path, COLUMNS)
