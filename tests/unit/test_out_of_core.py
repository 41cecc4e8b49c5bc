"""What the batch layer reads, and what it keeps where memory is short: bounds, key ranges, spilled parts, duplicates."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twofold as tw
from twofold.algebra.base import LOG_ORDER
from twofold.batch.duplicates import Places, duplicates_of
from twofold.batch.key_ranges import KeyRanges
from twofold.batch.spill import Scratch
from twofold.instants import DAY_US, HOUR_US, MINUTE_US
from twofold.keys import encode_key
from twofold.plan.compile import compile_project
from twofold.plan.counting import duplicates_among
from twofold.plan.inputs import MAJOR, MINOR, STAMP, TIME
from twofold.plan.key_order import encoded_keys, in_key_order
from twofold.plan.needed import columns_needed, keeps_time, times_needed
from twofold.plan.serving import SourcePlan
from twofold.tables.base import Reading
from twofold.tables.deltalake import DeltaTables
from twofold.tables.memory import MemoryTables

NOW = 1_700_000_000_000_000
YEARS = 5 * 365 * DAY_US


def history(count: int) -> pl.DataFrame:
    """Five years of events in no order."""
    times = np.random.default_rng(5).permutation(np.linspace(NOW - YEARS, NOW, count).astype(np.int64))
    return pl.DataFrame({"t": pl.Series(times).cast(pl.Datetime("us", "UTC")), "x": np.arange(count), STAMP: times})


# Bounds


@pytest.mark.parametrize("kind", [DeltaTables, MemoryTables])
def test_a_window_of_an_hour_reads_little_of_five_years(kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.tables.deltalake._FILE_BYTES", 2 << 20)  # Delta's writer fills files in no strict order
    tables = kind(tmp_path) if kind is DeltaTables else kind()
    frame = history(1_000_000)
    tables.load("events", frame, "a", "t")
    whole, hour = Reading(1, (), ("t", "x")), Reading(1, (), ("t", "x"), {"t": (NOW - HOUR_US, None)})
    wanted = frame.filter(pl.col(STAMP) >= NOW - HOUR_US)
    found = pl.concat(tables.batches("events", hour, 2_000_000))
    assert found.sort(MINOR)["x"].to_list() == wanted["x"].to_list() == found.sort(MINOR)[MINOR].to_list()
    assert tables.most_rows("events", whole) == frame.height
    assert tables.most_rows("events", hour) <= frame.height // (5 if kind is DeltaTables else 10_000)


@pytest.mark.parametrize("shift", [-1, 0, 1, 999, 1000])
def test_bounds_are_exact_though_delta_keeps_milliseconds(shift: int, tmp_path: Path) -> None:
    tables = DeltaTables(tmp_path)
    times = [NOW + 1, NOW + 999, NOW + 1_500]
    frame = pl.DataFrame({"t": pl.Series(times).cast(pl.Datetime("us", "UTC")), STAMP: times})
    tables.load("events", frame, "a", "t")
    for bounds in ((NOW + shift, None), (None, NOW + shift), (NOW + shift, NOW + 1_500)):
        found = [t for batch in tables.batches("events", Reading(1, (), ("t",), {"t": bounds}), 100) for t in batch[STAMP]]
        assert found == [t for t in times if (bounds[0] or 0) <= t < (bounds[1] or 2**62)]


def test_what_a_view_needs_of_its_source() -> None:
    events = tw.Events("e", time="t", schema={"k": str, "x": float, "y": float, "z": float, "unused": str})
    plain = tw.View("plain", events, by="k", features={"x": tw.sum(pl.col("x") + pl.col("y"), over="1h", where=pl.col("z") > 0)})
    stepped = events.rename(y="w").with_columns(x=pl.col("w") * 2).filter(pl.col("z") > 0)
    other = tw.View("other", stepped, by="k", features={"n": tw.count(over="1d"), "x": tw.max("x", over="1h")})
    moved = tw.View("moved", events.with_columns(t=pl.col("t") + pl.duration(days=1)), features={"n": tw.count()})
    compiled = compile_project(tw.Project("p", views=[plain, other, moved]))
    source = compiled.source("e")
    assert set(columns_needed(compiled.view("plain"), source)) == {"t", "k", "x", "y", "z"}
    assert set(columns_needed(compiled.view("other"), source)) >= {"t", "k", "y", "z"}
    assert "unused" not in columns_needed(compiled.view("other"), source)
    assert [keeps_time(compiled.view(name), source) for name in ("plain", "other", "moved")] == [True, True, False]
    assert times_needed(compiled.view("other").plan, NOW, NOW + 5)[0] == (NOW - DAY_US) - (NOW - DAY_US) % (15 * MINUTE_US)
    assert times_needed(compiled.view("moved").plan, NOW, NOW + 5) == (None, NOW + 5)


# Keys

PARTS = {
    pl.String(): st.text(st.sampled_from("ab\0é\U0001f600"), max_size=3),
    pl.Int64(): st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]),
    pl.Boolean(): st.booleans(),
    pl.Datetime("us", "UTC"): st.sampled_from([-1, 0, NOW]),
}


@st.composite
def keys(draw: st.DrawFn) -> pl.DataFrame:
    kinds = draw(st.lists(st.sampled_from(list(PARTS)), min_size=1, max_size=3))
    rows = draw(st.lists(st.tuples(*(PARTS[kind] for kind in kinds)), min_size=1, max_size=40))
    return pl.DataFrame({f"k{i}": pl.Series([row[i] for row in rows], dtype=kind) for i, kind in enumerate(kinds)})


@given(keys())
def test_keys_in_order_are_encoded_keys_in_order(frame: pl.DataFrame) -> None:
    zeros = pl.Series([0] * frame.height, dtype=pl.Int64)
    order = in_key_order(frame.with_columns(zeros.alias(TIME), zeros.alias(MAJOR), zeros.alias(MINOR)), frame.columns)
    encoded = encoded_keys(order.keys)
    assert encoded == sorted({encode_key(row) for row in frame.iter_rows()})
    rows = [encode_key(row) for row in frame.iter_rows()]
    for i, key in enumerate(encoded):
        assert {rows[row] for row in order.order[order.starts[i] : order.starts[i + 1]]} == {key}


@given(keys(), st.integers(1, 6))
def test_ranges_follow_the_order_of_keys(frame: pl.DataFrame, count: int) -> None:
    ranges = KeyRanges.of_sample(frame[: 1 + frame.height // 2], count)
    assert ranges.count <= count
    found = sorted(zip([encode_key(row) for row in frame.iter_rows()], ranges.of(frame), strict=True))
    assert [number for _, number in found] == sorted(number for _, number in found)
    assert len({(key, number) for key, number in found}) == len({key for key, _ in found})
    assert all(0 <= number < ranges.count for _, number in found)


# Duplicates


ARRIVALS = st.tuples(st.integers(0, 3), st.sampled_from([0, 4, 9, 10, 30, 200, 2000]), st.sampled_from([1, 2, LOG_ORDER, LOG_ORDER + 1]))


@given(st.lists(ARRIVALS, max_size=60), st.integers(0, 3000))
def test_duplicates_are_the_same_from_any_instant_and_in_any_memory(drawn: list[tuple[int, int, int]], since: int) -> None:
    source = SourcePlan("s", {"id": "int", "t": "datetime"}, "t", id="id", dedupe_us=10 * MINUTE_US)
    stamp, rows = NOW, []
    for number, (identity, minutes, major) in enumerate(drawn):
        stamp += minutes * MINUTE_US
        rows.append((identity, major, number, stamp))
    schema = {"id": pl.Int64, MAJOR: pl.Int64, MINOR: pl.Int64, STAMP: pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    expected = Places()
    expected.add(duplicates_among(source, frame))

    def rows_since(us: int | None) -> tuple[int, list[pl.DataFrame]]:
        part = frame if us is None else frame.filter(pl.col(STAMP) >= us)
        return part.height, [part[:7], part[7:]]

    for memory_bytes in (1, 1 << 30):
        for since_us in (None, NOW + since * MINUTE_US):
            with tempfile.TemporaryDirectory() as folder:
                places = duplicates_of(source, rows_since, since_us, Scratch(Path(folder), memory_bytes))
            needed = frame if since_us is None else frame.filter(pl.col(STAMP) >= since_us - DAY_US)
            assert places.has(needed).tolist() == expected.has(needed).tolist()


# Spilled parts


def test_parts_come_back_as_they_were_given(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": np.arange(1000), "s": [None, "text"] * 500, "r": [{"a": i} for i in range(1000)]})
    part = np.arange(1000) % 3
    scratch = Scratch(tmp_path, 8_000)
    with scratch.spill(4) as spill:
        for begin in range(0, 1000, 100):
            spill.add(frame[begin : begin + 100], part[begin : begin + 100])
        for number in range(3):
            assert spill.take(number).equals(frame.filter(pl.Series(part == number)), null_equal=True)
        assert spill.take(3) is None
    assert [path.name for path in tmp_path.iterdir()] == ["owner.lock"]


def _fails(scratch: Scratch) -> None:
    with scratch.spill(1) as spill:
        spill.add(pl.DataFrame({"x": [1]}), np.zeros(1, np.int64))
        raise ZeroDivisionError


def test_what_fails_leaves_nothing_and_strangers_stay(tmp_path: Path) -> None:
    (tmp_path / "a-stranger").mkdir()
    with pytest.raises(ZeroDivisionError):
        _fails(Scratch(tmp_path, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-stranger", "owner.lock"]


_SPILL_AND_WAIT = """
import sys
from pathlib import Path
import numpy as np, polars as pl
from twofold.batch.spill import Scratch
with Scratch(Path(sys.argv[1]), 1).spill(1) as spill:
    spill.add(pl.DataFrame({"x": [1]}), np.zeros(1, np.int64))
    print("spilled", flush=True)
    sys.stdin.read()
"""


def test_a_living_process_keeps_its_files_and_a_killed_one_does_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SPILL_AND_WAIT, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "spilled\n"
    scratch = Scratch(tmp_path, 1)
    scratch.clean()
    assert len(list(tmp_path.iterdir())) == 2
    process.kill()
    process.communicate()
    scratch.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["owner.lock"]
