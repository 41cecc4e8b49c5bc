"""The shell with right and wrong words: what it shows, and that an error of the user's is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twofold.cli import show
from twofold.cli.app import app
from twofold.definitions.load import load_project
from twofold.errors import DataError, NotBuilt, Unavailable
from twofold.store.servers import AnswerLost

PROJECT = """
import twofold as tw

clicks = tw.Events("clicks", time="at", schema={"user": str})
total = tw.View("total", clicks, features={"n": tw.count()})
lately = tw.View("lately", clicks, by="user", mode="stream", features={"n": tw.count()})
project = tw.Project("clicks", views=[total, lately])
"""


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The end of a command: the home and its project file."""
    (tmp_path / "clicks.py").write_text(PROJECT)
    return ["--home", str(tmp_path / "home"), str(tmp_path / "clicks.py")]


def test_a_view_by_no_key_is_read_without_one_and_a_stream_view_lacks_no_build(words: list[str]) -> None:
    shell = CliRunner()
    assert shell.invoke(app, ["build", *words]).exit_code == 0
    shown = shell.invoke(app, ["features", *words[:2], "--file", words[2], "total"])
    assert shown.exit_code == 0, shown.exception
    assert "n_all" in shown.stdout
    assert "unbuilt" not in shell.invoke(app, ["status", *words]).stdout


def test_a_home_that_cannot_be_is_told(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["build", "--home", words[2], words[2]])
    assert isinstance(result.exception, Unavailable)
    assert "cannot be made: File exists; take another --home" in str(result.exception)


@pytest.mark.parametrize("verb", ["status", "serve", "audit", "dead-letters list"])
def test_who_only_looks_makes_no_home(words: list[str], verb: str) -> None:
    result = CliRunner().invoke(app, [*verb.split(), *(words[:2] if verb == "serve" else words)])
    assert isinstance(result.exception, NotBuilt)
    assert "there is no home" in str(result.exception)
    assert not Path(words[1]).exists()


def test_another_number_of_partitions_than_the_log_has_is_told(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shell = CliRunner()
    for number, is_right in (("2", True), ("3", False), ("2", True)):
        monkeypatch.setenv("TWOFOLD_PARTITIONS", number)
        result = shell.invoke(app, ["build", *words])
        assert (result.exit_code == 0) == is_right
        assert is_right or "the log was made with 2, and that is fixed" in str(result.exception)


def test_status_cuts_no_name_short(words: list[str]) -> None:
    shell = CliRunner()
    shell.invoke(app, ["build", *words])
    status = shell.invoke(app, ["status", *words], env={"COLUMNS": "20"}).stdout
    assert json.loads(shell.invoke(app, ["status", "--json", *words]).stdout)["views"][0]["generation"] in status
    assert "…" not in status


def test_a_file_of_letters_that_is_not_there_is_told(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["dead-letters", "replay", "--source", "clicks", "--rows", "nowhere.ndjson", *words])
    assert isinstance(result.exception, DataError)
    assert "nowhere.ndjson cannot be read: No such file" in str(result.exception)


def test_an_error_is_told_by_its_class_in_the_tree(capsys: pytest.CaptureFixture[str]) -> None:
    show.error(AnswerLost("the store does not answer"))
    assert capsys.readouterr().err == "StoreUnavailable: the store does not answer\n"


@pytest.mark.parametrize(
    ("unit", "shown", "is_hinted"), [(1, "1970-01-01T00:28", True), (10**3, "1970-01-20T", True), (10**6, "2023-11-14T", False)]
)
def test_status_shows_the_latest_event_and_hints_at_seconds_taken_for_microseconds(
    words: list[str], unit: int, shown: str, is_hinted: bool
) -> None:
    with load_project(words[2]).open(home=words[1]) as opened:
        opened.append("clicks", [{"user": "u", "at": second * unit} for second in (1_700_000_000, 1_700_000_001)])
        opened.catch_up()
    told = CliRunner().invoke(app, ["status", *words]).stdout
    assert shown in told
    assert ("look like seconds or milliseconds" in told) == is_hinted
