"""Work that a thread of its own does again and again for the length of a block; what it is for is not known here."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beating(work: Callable[[], object], every_s: float) -> Iterator[None]:
    """Call `work()` each `every_s` seconds, first after the first of them; it has returned when the block is left.

    It ends for good where `work` raises: whatever may pass is for `work` to suppress.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            work()

    thread = threading.Thread(target=beat, name="beating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
