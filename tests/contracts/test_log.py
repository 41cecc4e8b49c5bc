"""What every event log promises, on every implementation; what only files can suffer is in tests/crash."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from twofold.errors import DataError, DefinitionError, LogMismatch
from twofold.log.base import Append, EventLog, RecordBatch, TrimmableLog
from twofold.log.kafka import KafkaLog
from twofold.log.kafka_settings import KafkaSettings
from twofold.log.memory import MemoryLog
from twofold.log.sqlite import SqliteLog

Open = Callable[[Path], EventLog]
MAKERS: dict[str, Open] = {
    "memory": lambda directory: MemoryLog(),
    "memory, 3 partitions": lambda directory: MemoryLog(partitions=3),
    "sqlite": lambda directory: SqliteLog(directory / "log"),
    "sqlite, 3 partitions": lambda directory: SqliteLog(directory / "log", partitions=3),
}
KAFKA = {"kafka": 1, "kafka, 3 partitions": 3}
"""Name -> number of partitions."""


def opener(name: str, request: pytest.FixtureRequest) -> Open:
    """Opens the log that belongs to a directory; the same one again for the same directory."""
    if name in MAKERS:
        return MAKERS[name]
    servers = request.getfixturevalue("kafka").servers

    def open_kafka(directory: Path) -> EventLog:
        prefix = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
        return KafkaLog(KafkaSettings(servers, f"{prefix}."), KAFKA[name])

    return open_kafka


@pytest.fixture(params=[*MAKERS, *KAFKA])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventLog]:
    made = opener(request.param, request)(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=MAKERS)
def trimmable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrimmableLog]:
    made = MAKERS[request.param](tmp_path)
    assert isinstance(made, TrimmableLog)
    yield made
    made.close()


def as_taken(log: EventLog, batches: list[Append]) -> list[Append]:
    """Batches as this log takes them: each event by itself where that is its encoding."""
    if log.encoding == "arrow":
        return batches
    return [Append(batch.source, batch.partition, 1, batch.payload) for batch in batches for _ in range(batch.count)]


def one(log: EventLog, count: int, payload: bytes = b"x", source: str = "s", partition: int = 0) -> list[Append]:
    return as_taken(log, [Append(source, partition, count, payload)])


def as_held(log: EventLog, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of batches as this log has them."""
    if log.encoding == "arrow":
        return spans
    return [(offset, offset + 1) for begin, end in spans for offset in range(begin, end)]


def stamp(log: EventLog, now_us: int) -> int:
    """What becomes of an instant: Kafka has none before 1970 and no 0."""
    return max(now_us, 1000) if isinstance(log, KafkaLog) else now_us


def spans(batches: list[RecordBatch]) -> list[tuple[int, int]]:
    return [(batch.first_offset, batch.end_offset) for batch in batches]


def test_an_empty_log_ends_at_zero_everywhere(log: EventLog) -> None:
    assert log.read("s", 0, 0, 10) == []
    assert log.end_offsets(["s", "t"]) == {(source, part): 0 for source in "st" for part in range(log.partitions)}


def test_offsets_have_no_gaps_and_positions_say_where_the_batch_ends(log: EventLog) -> None:
    last = log.partitions - 1
    first = log.append(as_taken(log, [Append("s", 0, 3, b"a"), Append("t", last, 1, b"b"), Append("s", 0, 2, b"c")]), 100)
    second = log.append(one(log, 4, b"d"), 100)
    assert first.log == second.log == log.uuid
    assert first.offsets == {("s", 0): 5, ("t", last): 1}
    assert second.offsets == {("s", 0): 9}
    read = log.read("s", 0, 0, 100)
    assert spans(read) == as_held(log, [(0, 3), (3, 5), (5, 9)])
    assert {(batch.source, batch.partition) for batch in read} == {("s", 0)}
    assert [payload for batch in read for payload in [batch.payload] * batch.count] == [b"a"] * 3 + [b"c"] * 2 + [b"d"] * 4
    ends = log.end_offsets(["s", "t", "u"])
    assert {place: end for place, end in ends.items() if end} == {("s", 0): 9, ("t", last): 1}
    assert len(ends) == 3 * log.partitions


def test_arrival_never_goes_back_within_a_partition_and_does_not_hold_up_another(log: EventLog) -> None:
    for now_us in (100_000, 50_000, 200_000):
        log.append(one(log, 1), now_us)
    log.append(one(log, 1, source="t"), 50_000)
    log.append(one(log, 1, source="u"), -(2**40))
    assert [batch.arrival_us for batch in log.read("s", 0, 0, 10)] == [100_000, 100_000, 200_000]
    assert log.read("s", 0, 1, 10)[0].arrival_us == 100_000
    assert log.read("t", 0, 0, 10)[0].arrival_us == 50_000
    assert log.read("u", 0, 0, 10)[0].arrival_us == stamp(log, -(2**40))


def test_acceptance_is_wall_time_whatever_the_project_clock_says(log: EventLog) -> None:
    for now_us in (5, 7):
        log.append(one(log, 1), now_us)
    accepted = [batch.accepted_us for batch in log.read("s", 0, 0, 10)]
    assert accepted == sorted(accepted)
    assert accepted[0] > 1_600_000_000_000_000


def test_a_read_from_the_middle_of_a_batch_begins_with_the_whole_batch(log: EventLog) -> None:
    for _ in range(3):
        log.append(one(log, 10), 0)
    first = 10 if log.encoding == "arrow" else 14
    assert spans(log.read("s", 0, 14, 100)) == as_held(log, [(first, 20), (20, 30)])
    assert spans(log.read("s", 0, 29, 100)) == [(20, 30) if log.encoding == "arrow" else (29, 30)]
    assert spans(log.read("s", 0, 20, 100)) == as_held(log, [(20, 30)])


@pytest.mark.parametrize(
    ("offset", "max_events", "expected"),
    [(0, 1, 1), (0, 0, 1), (0, 19, 1), (0, 20, 2), (0, 29, 2), (0, 30, 3), (5, 14, 1), (5, 15, 2), (9, 1, 1), (10, 10, 1), (29, 10**12, 1)],
)
def test_a_read_gives_at_least_one_batch_and_then_no_more_events_than_asked(
    log: EventLog, offset: int, max_events: int, expected: int
) -> None:
    for _ in range(3):
        log.append(one(log, 10), 0)
    if log.encoding != "arrow":
        expected = max(1, min(max_events, 30 - offset))
    assert len(log.read("s", 0, offset, max_events)) == expected


def test_at_the_end_there_is_nothing_and_beyond_it_or_before_the_start_is_another_log(log: EventLog) -> None:
    log.append(one(log, 10), 0)
    assert log.read("s", 0, 10, 5) == []
    for offset in (11, -1, 2**70, -(2**70)):
        with pytest.raises(LogMismatch, match=rf"offset {offset} of s/0 .* 0 to 10"):
            log.read("s", 0, offset, 5)
    with pytest.raises(LogMismatch):
        log.read("never seen", 0, 1, 5)


def test_a_trimmed_log_has_lost_its_whole_batches_below_and_nothing_else(trimmable: TrimmableLog) -> None:
    log = trimmable
    for _ in range(3):
        log.append(one(log, 10), 700)
    assert log.start_offsets(["s", "t"]) == {(source, part): 0 for source in "st" for part in range(log.partitions)}
    assert [log.trim("s", 0, offset) for offset in (0, 9, 10, 19, 5)] == [0, 0, 10, 10, 10]
    assert log.start_offsets(["s"])["s", 0] == 10
    for offset in (0, 9):
        with pytest.raises(LogMismatch, match=rf"offset {offset} of s/0 lies before the start .* 10 to 30.*twofold build"):
            log.read("s", 0, offset, 5)
    assert spans(log.read("s", 0, 10, 100)) == [(10, 20), (20, 30)]
    assert spans(log.read("s", 0, 13, 1)) == [(10, 20)]
    with pytest.raises(LogMismatch):
        log.trim("s", 0, 31)


def test_the_last_batch_stays_so_that_end_and_arrival_go_on(trimmable: TrimmableLog) -> None:
    log = trimmable
    assert log.trim("s", 0, 0) == 0
    for _ in range(2):
        log.append(one(log, 4), 900)
    assert log.trim("s", 0, 8) == 4
    assert log.end_offsets(["s"])["s", 0] == 8
    assert log.append(one(log, 1), 100).offsets == {("s", 0): 9}
    assert [batch.arrival_us for batch in log.read("s", 0, 4, 10)] == [900, 900]


def test_an_append_of_nothing_is_a_position_of_nothing(log: EventLog) -> None:
    assert log.append([], 0).offsets == {}
    assert log.append([], 0).log == log.uuid


def test_an_empty_payload_is_kept(log: EventLog) -> None:
    log.append(one(log, 1, b""), 0)
    assert log.read("s", 0, 0, 1)[0].payload == b""


@pytest.mark.parametrize(
    "bad",
    [
        Append("s", 0, 0, b""),
        Append("s", 0, -1, b""),
        Append("s", 0, 2**31, b""),
        Append("s", -1, 1, b""),
        Append("s", 3, 1, b""),
        Append("", 0, 1, b""),
        Append("a,b", 0, 1, b""),
        Append("\ud800", 0, 1, b""),
        Append("s", 0, 1, "text"),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_a_batch_that_no_log_can_hold_is_refused_with_all_that_came_with_it(log: EventLog, bad: Append) -> None:
    with pytest.raises(DataError):
        log.append([*one(log, 1), bad], 0)
    assert set(log.end_offsets(["s"]).values()) == {0}


def test_an_instant_beyond_time_is_refused(log: EventLog) -> None:
    with pytest.raises(DataError):
        log.append(one(log, 1), 2**63)
    assert log.append(one(log, 1), 0).offsets == {("s", 0): 1}


def test_a_partition_that_the_log_lacks_cannot_be_read(log: EventLog) -> None:
    with pytest.raises(DataError, match=f"partition {log.partitions} of 's' does not exist"):
        log.read("s", log.partitions, 0, 1)


@pytest.mark.parametrize("partitions", [0, -1, 65_535])
def test_a_log_has_at_least_one_partition(tmp_path: Path, partitions: int) -> None:
    for make in (MemoryLog, lambda count: SqliteLog(tmp_path / "log", count)):
        with pytest.raises(DefinitionError, match=f"{partitions} partitions"):
            make(partitions)


def test_threads_that_append_at_once_each_get_the_position_of_their_own_batch(log: EventLog) -> None:
    got: dict[bytes, int] = {}

    def work(number: int) -> None:
        for turn in range(15):
            payload = b"%d/%d" % (number, turn)
            got[payload] = log.append(one(log, 1 + number % 3, payload), turn * 1000).offsets["s", 0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = log.read("s", 0, 0, 10**6)
    assert {batch.payload: batch.end_offset for batch in read} == got
    assert sum(batch.count for batch in read) == sum((1 + number % 3) * 15 for number in range(8))
    assert [batch.first_offset for batch in read] == [0, *itertools.accumulate(batch.count for batch in read)][:-1]
    arrivals = [batch.arrival_us for batch in read]
    assert arrivals == sorted(arrivals)


class LogMachine(RuleBasedStateMachine):
    """Random appends and reads against plain lists of batches; `open` is set by the test, a second handle stands for another process."""

    open: Open
    is_shared = False

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.logs = [self.open(Path(self.directory.name)) for _ in range(2 if self.is_shared else 1)]
        self.partitions = self.logs[0].partitions
        self.model: dict[tuple[str, int], list[tuple[int, int, int, bytes]]] = {
            (source, part): [] for source in "ab" for part in range(self.partitions)
        }
        self.starts = dict.fromkeys(self.model, 0)

    def end(self, place: tuple[str, int]) -> int:
        return self.model[place][-1][0] + self.model[place][-1][1] if self.model[place] else 0

    @rule(data=st.data(), handle=st.integers(0, 1), now_us=st.integers(-5, 30))
    def append(self, data: st.DataObject, handle: int, now_us: int) -> None:
        batch = st.builds(
            Append, st.sampled_from("ab"), st.integers(0, self.partitions - 1), st.integers(1, 9), st.binary(max_size=6000, min_size=0)
        )
        log = self.logs[handle % len(self.logs)]
        batches = as_taken(log, data.draw(st.lists(batch, max_size=4)))
        touched = {}
        position = log.append(batches, now_us * 1000)
        for each in batches:
            place = each.source, each.partition
            arrival_us = max([stamp(log, now_us * 1000), *(held[2] for held in self.model[place])])
            self.model[place].append((self.end(place), each.count, arrival_us, each.payload))
            touched[place] = self.end(place)
        assert position.offsets == touched

    @rule(data=st.data(), handle=st.integers(0, 1), max_events=st.integers(0, 30))
    def read(self, data: st.DataObject, handle: int, max_events: int) -> None:
        place = data.draw(st.sampled_from(sorted(self.model)))
        offset = data.draw(st.integers(-1, self.end(place) + 1))
        log = self.logs[handle % len(self.logs)]
        if not self.starts[place] <= offset <= self.end(place):
            with pytest.raises(LogMismatch):
                log.read(*place, offset, max_events)
            return
        rest = [held for held in self.model[place] if held[0] + held[1] > offset]
        expected = rest[:1] + [held for held in rest[1:] if held[0] + held[1] - offset <= max_events]
        got = log.read(*place, offset, max_events)
        assert [(batch.first_offset, batch.count, batch.arrival_us, batch.payload) for batch in got] == expected
        assert {(batch.source, batch.partition) for batch in got} <= {place}

    @rule(data=st.data(), handle=st.integers(0, 1))
    def trim(self, data: st.DataObject, handle: int) -> None:
        log = self.logs[handle % len(self.logs)]
        if not isinstance(log, TrimmableLog):
            return
        place = data.draw(st.sampled_from(sorted(self.model)))
        before = data.draw(st.integers(0, self.end(place)))
        firsts = [first for first, *_ in self.model[place]]
        self.starts[place] = max([self.starts[place], *(first for first in firsts if first <= before)])
        assert log.trim(*place, before) == self.starts[place]

    @rule(handle=st.integers(0, 1))
    def reopen(self, handle: int) -> None:
        if self.is_shared:
            uuid = self.logs[handle].uuid
            self.logs[handle].close()
            self.logs[handle] = self.open(Path(self.directory.name))
            assert self.logs[handle].uuid == uuid

    @invariant()
    def ends_agree(self) -> None:
        for log in getattr(self, "logs", []):
            assert log.end_offsets("ab") == {place: self.end(place) for place in self.model}
            assert log.start_offsets("ab") == self.starts

    def teardown(self) -> None:
        for log in getattr(self, "logs", []):
            log.close()
        if hasattr(self, "directory"):
            self.directory.cleanup()


@pytest.mark.parametrize("name", [*MAKERS, *KAFKA])
def test_a_log_behaves_like_plain_lists(name: str, request: pytest.FixtureRequest) -> None:
    class Machine(LogMachine):
        open = staticmethod(opener(name, request))
        is_shared = not name.startswith("memory")

    examples = 5 if name in KAFKA else max(10, settings().max_examples // (5 if Machine.is_shared else 2))
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=20))
