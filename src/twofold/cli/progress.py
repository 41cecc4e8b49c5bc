"""How long work looks while it goes on: a bar with rate and time left on a terminal, plain lines elsewhere; and how it is broken off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import typer
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from twofold.progress import Progress

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended, as shells have it."""
_S_PER_LINE = 5.0


@contextlib.contextmanager
def working(what: str, console: Console) -> Iterator[Progress]:
    """What long work tells its progress to, from `what` on."""
    if not console.is_terminal:
        yield Lines(what, lambda line: console.print(line, markup=False))
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bar(bars, what)


@contextlib.contextmanager
def can_be_interrupted(console: Console) -> Iterator[None]:
    """Ctrl-C ends the command with one line and the exit code INTERRUPTED."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted: nothing is left half-done, and what was served before goes on; the same command can be run again")
        raise typer.Exit(INTERRUPTED) from None


class _Bar:
    """One bar; a new stage begins it anew."""

    def __init__(self, bars: Bars, what: str) -> None:
        self._bars, self._stage, self._begun = bars, what, time.monotonic()
        self._task: TaskID = bars.add_task(what, total=None, rate="")

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        if stage != self._stage:
            self._stage, self._begun = stage, time.monotonic()
            self._bars.reset(self._task, total=total, description=stage, rate="")
        rate = rate_of(done, time.monotonic() - self._begun)
        self._bars.update(self._task, total=total, completed=done, rate="" if rate is None else f"{rate:,.0f}/s")


class Lines:
    """A line for each new stage, and one now and then within it; `now_s` is a clock that never runs backwards."""

    def __init__(self, what: str, write: Callable[[str], None], now_s: Callable[[], float] = time.monotonic) -> None:
        self._write, self._now_s = write, now_s
        self._stage, self._begun, self._written = what, now_s(), now_s()
        write(what)

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        now = self._now_s()
        if stage != self._stage:
            self._stage, self._begun, self._written = stage, now, now
            self._write(stage)
        elif now - self._written >= _S_PER_LINE:
            self._written = now
            self._write(line_of(stage, done, total, now - self._begun))


def line_of(stage: str, done: int, total: int | None, seconds: float) -> str:
    """A stage's progress in words.

    >>> line_of("reading payments", 3_000_000, 9_000_000, 6.0)
    'reading payments: 3,000,000 of 9,000,000, 500,000/s, 12 s left'
    """
    rate = rate_of(done, seconds)
    parts = [f"{done:,}" if total is None else f"{done:,} of {total:,}"]
    if rate is not None:
        parts.append(f"{rate:,.0f}/s")
        parts += [] if total is None else [f"{max(total - done, 0) / rate:.0f} s left"]
    return f"{stage}: {', '.join(parts)}"


def rate_of(done: int, seconds: float) -> float | None:
    """Done a second; None where nothing can be said yet."""
    return done / seconds if done > 0 and seconds > 0 else None
