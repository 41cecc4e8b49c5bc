"""What every test run needs: how many random examples, the seed they come from, a quiet start of subprocesses, no test in another's way."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "engines"))

from kafka_broker import KafkaBroker, why_missing
from redis_server import RedisCluster, RedisServer, why_no_redis

from twofold.algebra.stale import forget_stale_kernels

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every subprocess compiles all modules and kernels anew
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of two workers on the same cores wait for each other by spinning

settings.register_profile("quick", max_examples=15, deadline=None, derandomize=False, print_blob=True)
settings.register_profile("full", max_examples=50, deadline=None, derandomize=False, print_blob=True)
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
    forget_stale_kernels()
    settings.load_profile("ci" if os.environ.get("CI") else "full")
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


SLOW = (
    "tests/crash/",
    "tests/parity/test_blobs.py::test_the_tiles_of_a_blob",
    "tests/parity/test_planted.py",
    "tests/parity/test_joins.py::test_a_store_that_is_lost",
    "tests/parity/test_joins.py::test_every_engine",
    "tests/parity/test_stories.py::test_every_mode_is_the_reference[0-exploded",
    "tests/parity/test_stories.py::test_every_mode_is_the_reference[0-own",
    "tests/parity/test_stories.py::test_every_mode_is_the_reference[0-shifted",
    "tests/parity/test_stories.py::test_every_mode_is_the_reference_on_disk",
    "tests/parity/test_spilled.py",
    "tests/parity/test_snapshots.py::test_loads_in_any_order",
    "tests/parity/test_several_sources.py::test_both_layers",
    "tests/parity/test_unfinished_loads.py",
    "tests/docs/test_docs.py::test_code_blocks_run",
    "tests/laws/test_certified.py::test_what_is_certain",
    "tests/laws/test_distinct.py::test_the_standard_error",
    "tests/laws/test_kernels.py",
    "tests/whole/test_audit.py",
    "tests/whole/test_joined_model.py",
    "tests/whole/test_labels_whole.py",
    "tests/whole/test_large_commits.py",
    "tests/whole/test_long_work.py",
    "tests/whole/test_lost_commits.py",
    "tests/whole/test_no_leakage.py",
    "tests/whole/test_opened.py::test_partitions_give",
    "tests/whole/test_retention.py",
    "tests/whole/test_several_sources.py",
    "tests/whole/test_two_homes.py",
    "tests/contracts/test_registry.py::TestCrash",
    "tests/serving/test_features.py::test_threads_read",
    "tests/serving/test_http.py::test_a_store_that_hangs",
    "tests/serving/test_predictors.py",
    "tests/unit/test_durable_tables.py::test_the_log_of_a_table_is_durable_with",
    "tests/unit/test_check.py::test_the_examples_are_right",
    "tests/unit/test_check.py::test_a_mistake_is_told",
    "tests/unit/test_expressions.py::test_a_row_has_the_same_bits",
    "tests/unit/test_flights_data.py",
    "tests/unit/test_own_aggregates.py::test_an_aggregate_whose_grouping",
    "tests/unit/test_own_aggregates.py::test_one_line",
    "tests/unit/test_own_aggregates.py::test_planted",
)
"""What `make test-quick` leaves out beside the tests marked slow, and those of `SERVERS`: folders, files, or tests by the beginning of
their name."""

SERVERS = re.compile("kafka|redis")
"""Tests with such a name or parameter are slow too: starting a server is."""

TOGETHER = {
    "tests/crash/": "processes",
    "tests/whole/test_up.py": "processes",
    "tests/whole/test_long_work.py": "processes",
    "tests/contracts/test_kafka_log.py": "kafka",
    "tests/contracts/test_log.py": "kafka",
    "tests/whole/test_kafka.py": "kafka",
    "tests/whole/test_workers.py": "kafka",
    "tests/parity/test_stories.py::test_every_mode_is_the_reference_on_kafka": "kafka",
    "tests/contracts/test_store.py": "redis",
    "tests/contracts/test_redis_store.py": "redis",
}
"""What one worker runs, one test after another, by the beginning of the name: so tests of many processes are not in each other's way, and
of each server that lives through a run there is only one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that make test-quick leaves out."""
    for item in items:
        if item.nodeid.startswith(SLOW) or SERVERS.search(item.nodeid):
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed, in quiet runs too."""
    seed = config.option.hypothesis_seed
    terminalreporter.write_line(f"random seed {seed}; the same examples again: pytest --hypothesis-seed={seed}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a free worker the next test, or all of the next group. (`--dist loadgroup` groups nothing beside pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((group for beginning, group in TOGETHER.items() if nodeid.startswith(beginning)), nodeid)

    return Groups(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Compile once, before the workers start: each would do it, and Numba's cache knows no two who write one function's files at once."""
    subprocess.run([sys.executable, "-m", "twofold.runtime.kernels"], check=True)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A real broker for the whole run; tests tell themselves apart by the prefix of their topics, and none ends it."""
    if reason := why_missing():
        pytest.skip(reason)
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for the whole run; tests tell themselves apart by the names of their stores, and none ends or empties it."""
    if reason := why_no_redis():
        pytest.skip(reason)
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A real cluster of three primaries for the whole run."""
    if reason := why_no_redis():
        pytest.skip(reason)
    with RedisCluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _project_files_are_forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A project file that a test wrote and loaded must not answer a later test's `import` of that name."""
    before = set(sys.modules)
    yield
    written = str(tmp_path_factory.getbasetemp())
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(written):
            del sys.modules[name]
