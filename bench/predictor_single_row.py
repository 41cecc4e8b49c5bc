"""What one prediction costs: our call of LightGBM's C library against its own Python calls, side by side in one run.

100 trees of 31 leaves, 50 columns with nulls and a category. Run `python bench/predictor_single_row.py`. Nothing of it is a test.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads of LightGBM's own calls would steal time from the others

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lightgbm import LGBMClassifier

from twofold.learn.fit import fit
from twofold.predictors.base import library, load_predictor

WIDTH, ROWS, ROUNDS = 50, 300, 7
COLUMNS = [f"feature_{number}" for number in range(WIDTH)]

START = """
import sys, time
begun = time.perf_counter()
{load}
took = time.perf_counter() - begun
{ask}
memory = next(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Pss:"))
print(took, memory / 1024)
"""
OURS = "from pathlib import Path; from twofold.predictors.base import load_predictor; p = load_predictor('lightgbm', Path(sys.argv[1]), "
OURS += "[f'feature_{n}' for n in range(50)])"
THEIRS = "import lightgbm, numpy as np; p = lightgbm.Booster(model_file=sys.argv[1])"


def rows_of(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, WIDTH))
    rows[:, 7] = random.integers(0, 20, count)
    rows[random.random(rows.shape) < 0.1] = np.nan
    return rows


def per_row_us(answer: Callable[[np.ndarray], object], rows: np.ndarray) -> list[float]:
    """Microseconds of each call on one row."""
    took = []
    for row in rows:
        begun = time.perf_counter_ns()
        answer(row)
        took.append((time.perf_counter_ns() - begun) / 1000)
    return took


def side_by_side(ways: dict[str, Callable[[np.ndarray], object]], rows: np.ndarray) -> dict[str, list[float]]:
    """Rounds of every way in turn, so that what else the machine does meets all of them."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, answer in ways.items():
            per_row_us(answer, rows[:20])
            took[name] += per_row_us(answer, rows)
    return took


def show(title: str, took: dict[str, list[float]]) -> None:
    print(f"\n{title}\n  {'':34}{'p50 us':>10}{'p99 us':>10}{'times ours':>12}")
    ours = statistics.median(next(iter(took.values())))
    for name, values in took.items():
        median = statistics.median(values)
        print(f"  {name:34}{median:>10.1f}{np.percentile(values, 99):>10.1f}{median / ours:>12.1f}")


def start(name: str, load: str, ask: str, path: Path) -> None:
    code = START.format(load=load, ask=ask)
    told = [subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    print(f"  {name:34}{min(float(took) for took, _ in told):>8.2f} s{min(float(size) for _, size in told):>8.0f} MB")


def main() -> None:
    rows = rows_of(20_000, seed=1)
    labels = np.nan_to_num(rows[:, 0]) + (rows[:, 7] % 3 == 0) + np.random.default_rng(2).normal(size=len(rows)) > 0.5
    fitted = fit(LGBMClassifier(n_estimators=100, verbose=-1), rows, labels, COLUMNS, [7])
    booster, asked = fitted.booster_, rows_of(ROWS, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(library("lightgbm").export(fitted))
        ours = load_predictor("lightgbm", path, COLUMNS)
        plain = LGBMClassifier(n_estimators=100, verbose=-1, n_jobs=1).fit(rows, labels, categorical_feature=[7])
        assert [ours.predict_one(row) for row in asked] == booster.predict(asked).tolist() == ours.predict(asked).tolist()
        ways: dict[str, Callable[[np.ndarray], object]] = {
            "ours, predict_one": ours.predict_one,
            "ours, predict of one row": lambda row: ours.predict(row[None]),
            "Booster.predict, 1 thread": lambda row: booster.predict(row[None], num_threads=1),
            "Booster.predict, as it comes": lambda row: booster.predict(row[None]),
            "LGBMClassifier.predict_proba": lambda row: plain.predict_proba(row[None]),
        }
        show("One row", side_by_side(ways, asked))

        done = threading.Event()
        busy = threading.Thread(target=lambda: [sum(range(1000)) for _ in iter(done.is_set, True)])
        busy.start()
        show("One row, beside a busy Python thread", side_by_side(dict(list(ways.items())[:3]), asked[:100]))
        done.set()
        busy.join()

        many = {
            "ours, predict of 500 rows": lambda _: ours.predict(rows[:500]),
            "Booster.predict, 1 thread": lambda _: booster.predict(rows[:500], num_threads=1),
            "Booster.predict, as it comes": lambda _: booster.predict(rows[:500]),
        }
        show("500 rows at once", side_by_side(many, asked[:20]))

        print("\nA new process: until the model is loaded, memory (PSS) after a prediction")
        start("ours", OURS, "import numpy as np; p.predict_one(np.zeros(50))", path)
        start("import lightgbm", THEIRS, "p.predict(np.zeros((1, 50)))", path)


if __name__ == "__main__":
    main()
