"""Twofold: `tw.compute`, from path to path."""

from __future__ import annotations

import sys
from pathlib import Path

from measured import measured

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench_history import twofold

if __name__ == "__main__":
    measured(twofold)
