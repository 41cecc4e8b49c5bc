"""A worker has its compiled code before its first transaction, for which builds and other workers wait."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import tempfile
from twofold.algebra import heads
from twofold.runtime.kernels import _events, _project
from twofold.stream.worker import Worker

with tempfile.TemporaryDirectory() as folder, _project().open(home=folder) as opened:
    home = opened.home
    assert not heads.append.signatures and not heads.seal.signatures
    worker = Worker(opened.compiled, home.log, home.store, home.bell)
    before = heads.append.signatures[:], heads.seal.signatures[:]
    opened.append("events", 100 * _events(home.clock.now_us()))
    worker.take_over()
    assert worker.catch_up() == 1000
    worker.close()
    assert before == (heads.append.signatures, heads.seal.signatures), before
"""


def test_nothing_is_compiled_after_the_worker_was_made() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
