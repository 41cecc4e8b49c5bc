"""Fixtures for tests of the whole."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import twofold as tw

sys.path.insert(0, str(Path(__file__).parent))

from whole_data import START_US, load_history


@pytest.fixture
def clock() -> tw.ManualClock:
    """A clock that stands at the start of the live part."""
    return tw.ManualClock(START_US)


@pytest.fixture
def loaded(tmp_path: Path, clock: tw.ManualClock) -> Iterator[Any]:
    """The project with history loaded and built."""
    from shop import project

    with project.open(home=tmp_path / "home", clock=clock) as opened:
        load_history(opened)
        opened.build()
        yield opened
