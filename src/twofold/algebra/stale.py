"""Compiled kernels on disk that their sources have outlived; what they compute is not known here."""

from __future__ import annotations

import hashlib
from pathlib import Path


def forget_stale_kernels() -> None:
    """Remove compiled kernels from disk where any source among them has changed since this was called last.

    Numba looks only at the file of the function itself: one that calls into a changed file would go on with its old machine code.
    """
    folder = Path(__file__).parent
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()
    seen = folder / "__pycache__" / "sources.sha256"
    if seen.exists() and seen.read_text() == sources:
        return
    for compiled in seen.parent.glob("*.nb[ic]"):
        compiled.unlink(missing_ok=True)
    if seen.parent.is_dir():
        seen.write_text(sources)
