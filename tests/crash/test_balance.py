"""Every event is counted as exactly one thing, whenever the worker is killed: passed = applied + duplicates + dead letters."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twofold.definitions.load import load_project
from twofold.instants import DAY_US, MINUTE_US
from twofold.log.base import Append
from twofold.plan.counts import Counts
from twofold.watch.metrics import exposition

SHOP = Path(__file__).parent.parent / "whole" / "shop.py"


def counts(project: Any) -> Counts:
    found = [source.counts for source in project.status().sources if source.source == "payments"]
    return found[0][0]


class Events:
    """Appends events of six kinds, and knows what must become of each."""

    def __init__(self, project: Any) -> None:
        self.project, self.expected, self.chance = project, Counts(), random.Random(3)
        self.now_us, self.latest, self.number = project.home.clock.now_us(), 0, 0
        self.append("good")

    def append(self, kind: str | None = None) -> None:
        kind = kind or self.chance.choice(["good", "good", "again", "far", "broken", "late"])
        if kind == "broken":
            self.project.home.log.append([Append("payments", 0, 2, b"no stream")], self.now_us)
            self.expected.undecodable += 2
            return
        self.number += kind != "again"
        at = self.now_us + {"far": 3 * DAY_US, "late": -MINUTE_US}.get(kind, self.number)
        identity = "p1" if kind == "again" else f"p{self.number}"
        self.project.append("payments", {"payment_id": identity, "card": "a", "shop": "x", "amount": 1.0, "paid_at": at})
        self.expected.future += kind == "far"
        self.expected.duplicates += kind == "again"
        if kind in ("good", "late"):
            self.expected.applied += 1
            self.expected.late += at < self.latest
            self.latest = max(self.latest, at)


def test_the_balance_is_exact_after_any_kill(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with load_project(str(SHOP)).open(home=home) as project:
        project.catch_up()
        events = Events(project)
        for _ in range(3):
            before = counts(project).events
            worker = subprocess.Popen([sys.executable, "-m", "twofold", "stream", str(SHOP), "--home", str(home)])
            try:
                events.append("good")
                while counts(project).events == before:
                    assert worker.poll() is None
                    time.sleep(0.01)
                for _ in range(events.chance.randint(30, 150)):  # the worker commits meanwhile
                    events.append()
            finally:
                worker.kill()
                worker.wait()
            assert counts(project).events > before
        events.append("good")
        project.catch_up()
        found = counts(project)
        assert found.events == project.home.log.end_offsets(["payments"])["payments", 0]
        assert found.events == found.applied + found.duplicates + found.dead_letters
        kinds = ("applied", "duplicates", "undecodable", "future", "late", "began")
        assert [getattr(found, kind) for kind in kinds] == [getattr(events.expected, kind) for kind in kinds]
        project.build()
        lines = exposition(project.replica.facts()).decode().splitlines()
        project.replica.close()
        assert 'twofold_lag_events{source="payments",partition="0"} 0' in lines
        assert f'twofold_passed_events_total{{source="payments",partition="0"}} {found.events}' in lines
        assert f'twofold_dead_letters_total{{source="payments",reason="future"}} {found.future}' in lines
        assert f'twofold_late_events_total{{source="payments",partition="0"}} {found.late}' in lines
        assert any(line.startswith('twofold_freshness_seconds{quantile="0.99"}') for line in lines)
