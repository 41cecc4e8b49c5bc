"""Counters and histograms as Prometheus reads them."""

from __future__ import annotations

import re
import threading

from twofold.watch.metrics import Counter, Histogram, exposition


def test_a_counter_adds_up_for_each_combination_of_labels() -> None:
    counter = Counter("twofold_x_total", "Things.", ("a", "b"))
    counter.add("1", "2")
    counter.add("1", "2", count=3)
    counter.add("0", "2")
    assert (counter.value("1", "2"), counter.value("9", "9")) == (4, 0)
    assert exposition([counter]).decode().splitlines() == [
        "# HELP twofold_x_total Things.",
        "# TYPE twofold_x_total counter",
        'twofold_x_total{a="0",b="2"} 1',
        'twofold_x_total{a="1",b="2"} 4',
    ]


def test_labels_are_escaped_and_may_be_none() -> None:
    counter = Counter("x", "X.", ("a",))
    counter.add('quote " slash \\ line \n')
    assert list(counter.lines()) == ['x{a="quote \\" slash \\\\ line \\n"} 1']
    bare = Counter("y", "Y.")
    bare.add()
    assert list(bare.lines()) == ["y 1"]


def test_buckets_are_cumulative_and_a_bound_holds_its_own_value() -> None:
    histogram = Histogram("s", "Seconds.", ("route",), bounds=(0.5, 1.0))
    for value in (0.1, 0.5, 0.75, 1.0, 7.0):
        histogram.observe(value, "/a")
    assert list(histogram.lines()) == [
        's_bucket{route="/a",le="0.5"} 2',
        's_bucket{route="/a",le="1"} 4',
        's_bucket{route="/a",le="+Inf"} 5',
        's_sum{route="/a"} 9.3499999999999996',
        's_count{route="/a"} 5',
    ]


def test_threads_lose_nothing() -> None:
    counter, histogram = Counter("c", "C."), Histogram("h", "H.")

    def work() -> None:
        for _ in range(2000):
            counter.add()
            histogram.observe(0.01)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value() == 8000
    assert "h_count 8000" in exposition([histogram]).decode()


def test_every_line_is_of_the_format() -> None:
    counter, histogram = Counter("c", "C.", ("a",)), Histogram("h", "H.")
    counter.add("x", count=0.5)
    histogram.observe(1e9)
    for line in exposition([counter, histogram]).decode().splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+]+', line), line
