"""Fixtures of the fault tests: the process that lives lives, and homes for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fault_driver import Driver, Homes


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Lives on the embedded engines."""
    started = Driver(tmp_path_factory.mktemp("faults"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def homes(driver: Driver) -> Homes:
    """Homes for the driver."""
    return Homes(driver)
