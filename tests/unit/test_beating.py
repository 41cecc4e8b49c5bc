"""Work that beats for the length of a block."""

from __future__ import annotations

import threading

import pytest

from twofold.runtime.beating import beating

LONG_S = 60.0


def test_it_beats_again_and_again_until_the_block_is_left() -> None:
    beats, enough = [], threading.Event()

    def work() -> None:
        beats.append(threading.current_thread())
        if len(beats) == 3:
            enough.set()

    with beating(work, 0.001):
        assert enough.wait(LONG_S)
    assert not beats[0].is_alive(), "it goes on beating"
    assert set(beats) == {beats[0]} != {threading.current_thread()}


def test_the_block_is_not_left_while_a_beat_is_under_way_nor_does_it_wait_for_the_next() -> None:
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        ended.wait(0.05)
        ended.set()

    with beating(work, 0.001):
        assert began.wait(LONG_S)
    assert ended.is_set()
    with beating(lambda: pytest.fail("a beat before its time"), 1e6):
        pass


def test_an_error_of_the_block_passes_through_and_ends_the_beats() -> None:
    threads = threading.active_count()

    def work() -> None:
        with beating(lambda: None, 1e6):
            assert threading.active_count() == threads + 1
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert threading.active_count() == threads
