"""The benchmark's check of a peer's rows finds one wrong value of any aggregate, a missing row and windows with other tails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import twofold as tw

PEERS = Path(__file__).parent.parent.parent / "bench" / "peers"
HOUR_US = 3_600_000_000
T = 1_700_000_000_000_000
NAMES = ("count", "sum", "mean", "min", "max", "std")


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PEERS))
    for name in ("measured", "sample_check"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import sample_check

    return sample_check.check


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Events, a spine, and the true answer with tails as Twofold rounds them."""
    instant = pl.Datetime("us", "UTC")
    events = pl.DataFrame(
        {"key": [i % 3 for i in range(300)], "at": [T + i * HOUR_US // 7 for i in range(300)], "amount": [i * 0.37 for i in range(300)]}
    ).with_columns(pl.col("at").cast(instant))
    spine = pl.DataFrame({"key": [i % 4 for i in range(40)], "at": [T + i * HOUR_US + 17 for i in range(40)]})
    spine = spine.with_columns(pl.col("at").cast(instant))
    source = tw.Events("payments", time="at", schema={"key": int, "amount": float})
    windows = ["1h", "1d", "7d", "30d"]
    view = tw.View("card", source, by="key", features={name: getattr(tw, name)("amount", over=windows) for name in NAMES})
    paths = tmp_path / "events.parquet", tmp_path / "spine.parquet", tmp_path / "out.parquet"
    for frame, path in zip((events, spine, tw.compute(view, {source: events}, spine)), paths, strict=True):
        frame.write_parquet(path)
    return paths


def test_the_true_answer_passes(check: Any, files: tuple[Path, Path, Path]) -> None:
    assert check(*files, True, list(NAMES)) >= 40 * 24


@pytest.mark.parametrize("name", NAMES)
def test_one_wrong_value_is_found(name: str, check: Any, files: tuple[Path, Path, Path]) -> None:
    out = pl.read_parquet(files[2])
    wrong = pl.when(pl.int_range(pl.len()) == 39 - 39 % 4).then(pl.col(f"{name}_7d") + (1 if name == "count" else 1e-4))
    out.with_columns(wrong.otherwise(pl.col(f"{name}_7d")).alias(f"{name}_7d")).write_parquet(files[2])
    with pytest.raises(AssertionError, match=f"{name}_7d is "):
        check(*files, True, list(NAMES))


def test_other_tails_and_a_missing_row_are_found(check: Any, files: tuple[Path, Path, Path]) -> None:
    with pytest.raises(AssertionError, match=r"count_\w+ is "):
        check(*files, False, list(NAMES))
    pl.read_parquet(files[2])[1:].write_parquet(files[2])
    with pytest.raises(AssertionError, match="not the rows of the spine"):
        check(*files, True, list(NAMES))
