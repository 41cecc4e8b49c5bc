"""The audit finds a wrong value in the served log, whatever its type, and says where it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from test_opened import stream_in
from whole_data import LIVE

import twofold as tw
from twofold.plan.served import Served, decode_served, encode_served
from twofold.watch.audit import same_bits

REQUEST = {"payment_id": "p", "card": "a", "shop": "x", "amount": 10.0}


@pytest.fixture
def served(loaded: Any, clock: tw.ManualClock) -> Any:
    """A home that has answered before, between and after events and a build."""
    loaded.train("risk", test="5d")
    for at in range(0, 60, 20):
        loaded.predict("risk", [REQUEST, {**REQUEST, "card": None}, {**REQUEST, "card": "never seen"}])
        stream_in(loaded, clock, LIVE[at : at + 20])
        loaded.append("limits", {"card": "a", "limit": float(at), "ended": at == 20, "set_at": clock.now_us() - 1})
        loaded.catch_up()
        loaded.predict("risk", REQUEST)
        loaded.build()
    return loaded


def rewrite(served: Any, change: Any) -> None:
    (path,) = (served.home.settings.home / "served").iterdir()
    records = [decode_served(line) for line in path.read_bytes().splitlines()]
    path.write_bytes(b"".join(encode_served(change(record)) for record in records))


def limits_served(served: Any) -> list[float | None]:
    (path,) = (served.home.settings.home / "served").iterdir()
    records = map(decode_served, path.read_bytes().splitlines())
    return [record.columns["limits_limit"] for record in records if record.request["card"] == "a"]


def test_what_was_served_is_what_history_gives(served: Any) -> None:
    """A limit among it, from history, from the log, ended and given again."""
    assert limits_served(served) == [100.0, 0.0, 0.0, None, None, 40.0]
    report = served.audit()
    assert (report.records, report.compared, report.different, report.ahead, report.skipped) == (12, 120, 0, 0, {})


@pytest.mark.parametrize(
    ("column", "wrong"), [("card_n_1d", 1), ("card_amount_30d", 1e-300), ("shop_amount_7d", None), ("card_place_all", "z")]
)
def test_one_wrong_value_is_found(served: Any, column: str, wrong: Any) -> None:
    ids: list[str] = []

    def change(record: Served) -> Served:
        if ids or record.request["card"] != "a":
            return record
        ids.append(record.id)
        return msgspec.structs.replace(record, columns={**record.columns, column: wrong})

    rewrite(served, change)
    report = served.audit()
    assert report.different == 1
    assert (report.examples[0].id, report.examples[0].column, report.examples[0].served) == (ids[0], column, wrong)


def test_an_event_that_was_served_too_early_is_found(served: Any) -> None:
    """Had a record seen fewer events than it used, its features could not be recomputed."""
    rewrite(served, lambda record: msgspec.structs.replace(record, offsets=dict.fromkeys(record.offsets, 0)))
    assert served.audit().different > 0


def test_values_are_compared_bit_for_bit() -> None:
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert same_bits("2024-05-01T12:00:00Z", noon)
    assert not same_bits("2024-05-01T12:00:01Z", noon)
    assert same_bits(0.1, 0.1)
    assert not same_bits(0.1, 0.1 + 2**-56)
    assert not same_bits(0.0, -0.0)
    assert not same_bits(1, 1.0)
    assert not same_bits(None, 0)
