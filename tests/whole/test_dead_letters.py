"""Dead letters: shown, sent again as new events, corrected, dropped; from Python and from the shell."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from whole_data import LIVE, START_US

import twofold as tw
from twofold.cli.app import app
from twofold.errors import DataError
from twofold.instants import DAY_US
from twofold.log.base import Append

SHOP = str(Path(__file__).parent / "shop.py")
FAR = [{**LIVE[i], "payment_id": f"far{i}", "card": "far", "paid_at": START_US + 2 * DAY_US + i} for i in range(3)]


@pytest.fixture
def opened(loaded: Any) -> Any:
    """The project with three letters from the future, and a fourth that nobody can read."""
    loaded.append("payments", FAR)
    loaded.home.log.append([Append("payments", 0, 1, b"no stream")], START_US)
    loaded.catch_up()
    return loaded


def offsets(opened: Any) -> list[int]:
    return opened.dead_letters("payments")["offset"].to_list()


def test_letters_are_a_table_with_reasons(opened: Any) -> None:
    table = opened.dead_letters()
    assert table["offset"].to_list() == [0, 1, 2, 3]
    assert "too far" in table["reason"][0]
    assert json.loads(table["content"][0])["payment_id"] == "far0"
    assert "cannot be decoded" in table["reason"][3]
    assert opened.dead_letters("frauds").is_empty()


def test_a_letter_sent_again_is_a_new_event_and_gone(opened: Any, clock: tw.ManualClock) -> None:
    refused = opened.replay("payments")
    assert (refused.appended, sorted(refused.refused)) == (0, ["0/0", "0/1", "0/2", "0/3"])
    assert offsets(opened) == [0, 1, 2, 3]
    clock.advance("3d")
    assert opened.replay("payments", [(0, 1)]).appended == 1
    assert offsets(opened) == [0, 2, 3]
    report = opened.replay("payments")
    assert (report.appended, list(report.refused)) == (2, ["0/3"])
    opened.catch_up()
    assert offsets(opened) == [3]
    assert opened.features("card", ["far"])["n_1d"].to_list() == [3]


@pytest.mark.parametrize("places", [[5], "0/5", [("0", 5)], [(0, 5, 1)], [True]], ids=str)
def test_what_is_no_place_of_a_letter_is_refused(opened: Any, places: Any) -> None:
    for call in (lambda: opened.replay("payments", places), lambda: opened.drop_dead_letters("payments", places)):
        with pytest.raises(DataError, match=r"is no place of a dead letter; give \(partition, offset\) for each, as in \[\(0, 5\)\]"):
            call()
    with pytest.raises(DataError, match="is no place of a dead letter"):
        opened.replay("payments", rows={5: {}})
    assert offsets(opened) == [0, 1, 2, 3]


@pytest.mark.parametrize(("identity", "counted"), [("far0", 1), (None, 2)], ids=["with an id", "without"])
def test_a_process_killed_between_append_and_removal_counts_the_event_once_where_it_has_an_id(
    opened: Any, clock: tw.ManualClock, monkeypatch: Any, identity: str | None, counted: int
) -> None:
    from twofold.runtime import replaying

    clock.advance("3d")
    rows = {(0, 0): {**FAR[0], "payment_id": identity}}

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replaying, "_delete", killed)
    with pytest.raises(KeyboardInterrupt):
        opened.replay("payments", rows=rows)
    monkeypatch.undo()
    assert opened.replay("payments", rows=rows).appended == 1
    opened.catch_up()
    assert opened.features("card", ["far"])["n_1d"].to_list() == [counted]


def test_two_who_send_letters_again_at_once_append_each_once(opened: Any, clock: tw.ManualClock, monkeypatch: Any) -> None:
    from twofold.runtime import replaying

    clock.advance("3d")
    rows = {(0, 0): {**FAR[0], "payment_id": None}}
    second, got = threading.Thread(target=lambda: got.append(send_again())), list[Any]()

    def send_again() -> Any:
        try:
            return opened.replay("payments", rows=rows)
        except DataError as error:
            return str(error)

    def meanwhile(name: str) -> None:
        if name == "replay.appended" and second.ident is None:
            second.start()
            second.join(0.3)

    monkeypatch.setattr(replaying, "fail_point", meanwhile)
    assert opened.replay("payments", rows=rows).appended == 1
    second.join()
    assert "has no dead letter at 0/0" in got[0]
    opened.catch_up()
    assert opened.features("card", ["far"])["n_1d"].to_list() == [1]


def test_corrected_rows_take_the_place_of_bad_ones(opened: Any, clock: tw.ManualClock) -> None:
    good = {**FAR[0], "paid_at": clock.now_us() - 5}
    report = opened.replay("payments", rows={(0, 3): good, (0, 0): {**good, "amount": "much"}})
    assert report.appended == 1
    assert "amount" in report.refused["0/0"]
    assert offsets(opened) == [0, 1, 2]
    with pytest.raises(DataError, match="no dead letter at 0/77"):
        opened.replay("payments", [(0, 77)])
    assert opened.drop_dead_letters("payments", [(0, 0)]) == 1
    assert opened.drop_dead_letters("payments") == 2
    assert offsets(opened) == []


def test_the_shell_lists_corrects_and_drops(opened: Any, tmp_path: Path) -> None:
    home = ["--home", str(opened.home.settings.home)]
    whole = opened.dead_letters("payments")["content"].to_list()
    opened.close()

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["dead-letters", *words, *home], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.output

    assert "4 dead letters; the first 1 shown; rows cut short: --full shows them whole" in run("list", SHOP, "--limit", "1")
    assert [line.endswith(content) for line, content in zip(run("list", SHOP, "--full").splitlines(), whole, strict=False)] == [True] * 4
    assert run("list", SHOP, "--full").endswith("4 dead letters\n")
    lines = [json.loads(line) for line in run("list", SHOP, "--json", "--reason", "too far").splitlines()]
    assert [line["offset"] for line in lines] == [0, 1, 2]
    for line in lines[:2]:
        line["row"]["paid_at"] = "2024-05-01T00:00:00Z"
    lines[1]["row"]["amount"] = "much"
    (tmp_path / "rows").write_text("\n".join(json.dumps(line) for line in lines[:2]))
    shown = run("replay", SHOP, "--source", "payments", "--rows", str(tmp_path / "rows"), code=1)
    assert "1 dead letters of payments appended again" in shown
    assert "0/1 stays" in shown
    assert "2 dead letters of payments removed" in run("drop", SHOP, "--source", "payments", "--letter", "0/1", "--letter", "0/2", "--yes")
    assert "1 dead letters" in run("list", SHOP, "--source", "payments")
