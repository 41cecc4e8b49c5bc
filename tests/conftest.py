"""What every test run needs: how many random examples, the seed they come from, and a quiet start of subprocesses."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, settings

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every subprocess compiles all modules and kernels anew

settings.register_profile("quick", max_examples=50, deadline=None, derandomize=False)
settings.register_profile(
    "ci",
    max_examples=300,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose profile and seed before Hypothesis looks for them; its own options still win."""
    settings.load_profile("ci" if os.environ.get("CI") else "quick")
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed, in quiet runs too."""
    seed = config.option.hypothesis_seed
    terminalreporter.write_line(f"random seed {seed}; the same examples again: pytest --hypothesis-seed={seed}")
