"""How every program of this folder is run: once on small files, to warm compilers and class loaders, then timed from read to written."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

WINDOWS_S = {"1h": 3600, "1d": 86400, "7d": 7 * 86400, "30d": 30 * 86400}


def measured(compute: Callable[[Path, Path, Path], None]) -> None:
    """Call `compute(events, spine, out)` for the files of the command line and print the seconds of the second call as JSON.

    The command line: small events, small spine, events, spine, out. `out` is Parquet with `key`, `at` and 24 columns such as `sum_7d`.
    """
    small_events, small_spine, events, spine, out = map(Path, sys.argv[1:])
    compute(small_events, small_spine, out)
    begun = time.perf_counter()
    compute(events, spine, out)
    print(json.dumps({"seconds": time.perf_counter() - begun}))
