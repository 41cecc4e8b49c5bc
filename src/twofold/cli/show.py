"""How answers look in a terminal: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twofold.errors import TwofoldError
from twofold.instants import DAY_US, to_iso

if TYPE_CHECKING:
    import polars as pl

    from twofold.batch.generation import Built
    from twofold.definitions.problems import Problem
    from twofold.learn.train import Trained
    from twofold.runtime.status import SourceStatus, Status
    from twofold.settings import Settings
    from twofold.watch.audit import Audit

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
wide = Console(highlight=False, width=10_000)
"""For tables: a terminal wraps the lines that are too long for it, and no name in them is cut short."""

_BEFORE_ANY_PRODUCER_US = 60 * DAY_US
"""What milliseconds of this century are if they are taken for microseconds, and more."""


def error(error: TwofoldError) -> None:
    """One error: its class in the tree of `errors` and its text, on standard error."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == TwofoldError.__module__)
    err.print(f"[bold red]{kind.__name__}[/]: {escape(str(error))}")


def problems(found: Sequence[Problem]) -> None:
    """All problems of a check, and how many they are."""
    for problem in found:
        out.print(f"[red]problem[/] {escape(str(problem))}")
    out.print(f"{len(found)} problem{'s' * (len(found) != 1)}" if found else "[green]no problems[/]")


def built(views: Sequence[Built]) -> None:
    """What a build did."""
    if not views:
        out.print("nothing to build: every view is up to date")
    for view in views:
        out.print(f"{view.view}: {view.keys:,} keys from {view.events:,} events, generation {view.generation}")


def trained(result: Trained) -> None:
    """A registered version and its figures."""
    out.print(f"{result.model}@{result.version}: {result.rows:,} rows; on {result.test_rows:,} later rows {_figures(result.metrics)}")


def _figures(metrics: Mapping[str, Any]) -> str:
    """Figures in a line; those of several labels each behind its name."""
    if any(isinstance(value, Mapping) for value in metrics.values()):
        return "; ".join(f"{name}: {_figures(value)}" for name, value in metrics.items())
    return ", ".join(f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}" for name, value in metrics.items())


def table(frame: pl.DataFrame, as_json: bool) -> None:
    """A frame: a line a column for one row, a table otherwise."""
    if as_json:
        json_value(frame.to_dicts())
        return
    for row in frame.iter_rows(named=True):
        for name, value in row.items():
            out.print(f"{name:<28} {escape(str(value))}")


def json_value(value: Any) -> None:
    """Any value as JSON."""
    out.print(msgspec.json.format(msgspec.json.encode(value)).decode(), markup=False)


def line(text: str) -> None:
    """A line of plain text."""
    out.print(text, markup=False)


def running(settings: Settings) -> None:
    """Where the server listens."""
    out.print(f"serving on http://{settings.host}:{settings.port} with {settings.replicas} replicas; home {settings.home}; Ctrl-C ends it")


def status(found: Status, as_json: bool) -> None:
    """The state of a home."""
    if as_json:
        json_value(found)
        return
    _rows("processes", ("name", "pid", "restarts"), [(name, item["pid"], item["restarts"]) for name, item in found.processes.items()])
    _rows(
        "workers",
        ("host", "process", "applies", "lag"),
        [(w.host, str(w.process), _numbers(w.partitions) or "nothing: stands by", w.lag) for w in found.workers],
    )
    kinds = ("applied", "duplicates", "dead_letters", "late")
    _rows(
        "log",
        ("source", "end", "lag", "counted", "duplicates", "dead letters", "late", "latest event"),
        [(s.source, s.end, s.lag, *(sum(getattr(part, kind) for part in s.counts) for kind in kinds), _latest(s)) for s in found.sources],
    )
    for source in found.sources:
        if source.latest_us is not None and 0 <= source.latest_us < _BEFORE_ANY_PRODUCER_US:
            out.print(
                f"[yellow]all events of {source.source} are of {_latest(source)} and before:[/] an integer is microseconds since 1970, "
                "and theirs look like seconds or milliseconds"
            )
    _rows(
        "views",
        ("view", "mode", "generation", "built at", "delta"),
        [
            (v.view, v.mode, v.generation or ("-" if v.mode == "stream" else "unbuilt"), to_iso(v.base_us) if v.generation else "", v.open)
            for v in found.views
        ],
    )
    _rows("models", ("model", "live", "versions"), [(m.model, m.live or "none", m.versions) for m in found.models])
    fresh = found.freshness_ms
    out.print(f"freshness (accepted to visible): p50 {_ms(fresh, 'p50')}, p99 {_ms(fresh, 'p99')}; dead letters {found.dead_letters}")


def _latest(source: SourceStatus) -> str:
    return "" if source.latest_us is None else to_iso(source.latest_us)


def _numbers(partitions: Sequence[int]) -> str:
    """Partitions in a line, neighbours as `4-7`."""
    runs: list[list[int]] = []
    for partition in sorted(partitions):
        if runs and runs[-1][-1] == partition - 1:
            runs[-1].append(partition)
        else:
            runs.append([partition])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _ms(figures: Mapping[str, float | None], name: str) -> str:
    value = figures.get(name)
    return "unknown" if value is None else f"{value:.1f} ms"


def _rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        shown = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
        for row in rows:
            shown.add_row(*(escape(f"{value:,}" if isinstance(value, int) and columns[0] != "name" else str(value)) for value in row))
        wide.print(shown)


def audit(report: Audit, as_json: bool) -> None:
    """What an audit found."""
    if as_json:
        json_value(report)
        return
    out.print(
        f"{report.records:,} served records, {report.compared:,} features compared: {report.different:,} different, {report.ahead:,} ahead"
    )
    for difference in report.examples:
        out.print(f"[red]different[/] {escape(str(difference))}")
