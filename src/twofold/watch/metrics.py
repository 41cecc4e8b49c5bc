"""Counters and histograms of one process, and their Prometheus text; what they count is said where they are made."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator, Sequence

Labels = tuple[str, ...]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of latencies."""


class Counter:
    """A sum for each combination of labels. Threads may share it."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name, self.text, self.labels = name, text, tuple(labels)
        self._lock = threading.Lock()
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, count: float = 1) -> None:
        """Add to the sum of these labels' values."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + count

    def value(self, *labels: str) -> float:
        """The sum of these labels' values; 0 where nothing was added."""
        return self._values.get(labels, 0)

    def lines(self) -> Iterator[str]:
        """The lines of its samples."""
        with self._lock:
            values = sorted(self._values.items())
        for labels, value in values:
            yield f"{self.name}{_braces(self.labels, labels)} {value:.17g}"


class Histogram:
    """How often a value was at most each bound, for each combination of labels. Threads may share it."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS) -> None:
        self.name, self.text, self.labels, self._bounds = name, text, tuple(labels), tuple(bounds)
        self._lock = threading.Lock()
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        with self._lock:
            counts = self._counts.get(labels)
            if counts is None:
                counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
            counts[bisect.bisect_left(self._bounds, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterator[str]:
        """The lines of its samples; buckets are cumulative."""
        with self._lock:
            found = [(labels, list(counts), self._sums[labels]) for labels, counts in sorted(self._counts.items())]
        for labels, counts, total in found:
            seen = 0
            for bound, count in zip((*(f"{bound:g}" for bound in self._bounds), "+Inf"), counts, strict=True):
                seen += count
                yield f"{self.name}_bucket{_braces((*self.labels, 'le'), (*labels, bound))} {seen}"
            yield f"{self.name}_sum{_braces(self.labels, labels)} {total:.17g}"
            yield f"{self.name}_count{_braces(self.labels, labels)} {seen}"


class Facts:
    """Samples that are read where they lie when they are asked for; `kind` is "gauge" or "counter"."""

    def __init__(self, name: str, text: str, kind: str, labels: Sequence[str], values: Sequence[tuple[Labels, float]]) -> None:
        self.name, self.text, self.kind, self.labels, self._values = name, text, kind, tuple(labels), values

    def lines(self) -> Iterator[str]:
        """The lines of its samples."""
        for labels, value in self._values:
            yield f"{self.name}{_braces(self.labels, labels)} {value:.17g}"


def exposition(metrics: Sequence[Counter | Histogram | Facts]) -> bytes:
    """The text that Prometheus reads."""
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
    return ("\n".join(lines) + "\n").encode()


def _braces(names: Labels, values: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
