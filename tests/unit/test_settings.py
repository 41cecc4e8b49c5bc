"""Settings: where each comes from, and what is told of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from twofold.errors import DefinitionError
from twofold.settings import read_settings

WRONG = [
    ("replicas = \n", "twofold.toml is no TOML: "),
    ("replicas = 1.5\n", "replicas = 1.5 is no whole number"),
    ("replicas = [1]\n", r"replicas = \[1\] is no whole number"),
    ("workers = true\n", "workers = True is no whole number"),
    ("home = 3\n", "home = 3 is no text; write it in quotes"),
    ("log = 5\n", "log = 5 is no text; write it in quotes"),
    ("store = true\n", "store = True is no text; write it in quotes"),
    ("retention = 7\n", "retention = 7 is no text; write it in quotes"),
    ("sources = 3\n", r"sources = 3 is no table; write a section \[sources\]"),
    ("env = 3\n", r"env = 3; write sections, as in \[env.prod\]"),
    ("[env]\nprod = 3\n", r"write sections, as in \[env.prod\]"),
    ("port = 99999999\n", "port = 99999999; it is from 0 to 65535"),
    ("replcas = 1\n", "there is no setting 'replcas'. Did you mean 'replicas'?"),
]


@pytest.mark.parametrize(("content", "told"), WRONG)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "twofold.toml").write_text(content)
    with pytest.raises(DefinitionError, match=told):
        read_settings({}, tmp_path, {})


def test_a_file_of_other_bytes_is_told(tmp_path: Path) -> None:
    (tmp_path / "twofold.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DefinitionError, match="is no TOML"):
        read_settings({}, tmp_path, {})


def test_a_section_is_chosen_by_a_variable(tmp_path: Path) -> None:
    (tmp_path / "twofold.toml").write_text('home = "here"\nworkers = 2\n[env.prod]\nworkers = 5\nhome = "there"\n')
    assert read_settings({}, tmp_path, {}).workers == 2
    found = read_settings({}, tmp_path, {"TWOFOLD_ENV": "prod"})
    assert (found.workers, found.home) == (5, tmp_path / "there")
    assert read_settings({"workers": 7}, tmp_path, {"TWOFOLD_ENV": "prod", "TWOFOLD_WORKERS": "6"}).workers == 7
    with pytest.raises(DefinitionError, match=r"has no \[env.test\]; it has prod"):
        read_settings({}, tmp_path, {"TWOFOLD_ENV": "test"})


def test_a_section_needs_its_file(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"which \[env.prod\] could stand in"):
        read_settings({}, tmp_path, {"TWOFOLD_ENV": "prod"})
