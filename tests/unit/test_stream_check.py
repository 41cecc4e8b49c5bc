"""The stream benchmark's check of a peer's hours finds one wrong count or sum, a missing and an invented hour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

CHECK = Path(__file__).parent.parent.parent / "bench" / "stream_check.py"
RIGHT = ["1,2024-01-01 00:00:00,2,3.5", "1,2024-01-01 01:00:00,1,4.0", "2,2024-01-01 00:00:00,1,8.0"]
EARLIER_STATE = "1,2024-01-01T00:00:00.000,1,1.5"


def checked(tmp_path: Path, lines: list[str]) -> bool:
    at = pl.Series(["2024-01-01 00:10", "2024-01-01 00:59", "2024-01-01 01:00", "2024-01-01 00:00"]).str.to_datetime(time_unit="us")
    events = pl.DataFrame({"key": [1, 1, 1, 2], "at": at.dt.replace_time_zone("UTC"), "amount": [1.5, 2.0, 4.0, 8.0]})
    events.write_parquet(tmp_path / "events.parquet")
    (tmp_path / "out").write_text("\n".join(lines) + "\n")
    done = subprocess.run([sys.executable, CHECK, tmp_path, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "hours are wrong" in done.stderr, done.stderr
    return done.returncode == 0


def test_right_hours_pass_in_any_order_after_their_earlier_states(tmp_path: Path) -> None:
    assert checked(tmp_path, [EARLIER_STATE, *reversed(RIGHT)])


@pytest.mark.parametrize(
    "lines",
    [RIGHT[1:], [*RIGHT, "3,2024-01-01 00:00:00,1,1.0"], [RIGHT[0].replace(",2,", ",3,"), *RIGHT[1:]], [*RIGHT[:2], RIGHT[2] + "0001"]],
    ids=["missing", "invented", "count", "sum"],
)
def test_one_wrong_hour_fails(tmp_path: Path, lines: list[str]) -> None:
    assert not checked(tmp_path, lines)
