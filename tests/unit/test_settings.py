"""Settings: where each comes from, and what is told of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import twofold as tw
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
    ('host = ""\n', "host is empty; give it a value, or leave it out"),
    ("port = 99999999\n", "port = 99999999; it is from 0 to 65535"),
    ("[kafka]\nacks = 1\n", r"\[kafka\] has no effect with log = 'sqlite:'"),
    ('[sources.orders]\ntopic = "t"\n', r"\[sources\] has no effect with log = 'sqlite:'"),
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


@pytest.mark.parametrize("name", ["home", "tables", "project"])
def test_a_variable_that_is_set_to_nothing_is_told(tmp_path: Path, name: str) -> None:
    """As where a script sets it from another that is not there: `home` would be the working directory."""
    with pytest.raises(DefinitionError, match=f"{name} is empty; give it a value, or leave it out"):
        read_settings({}, tmp_path, {f"TWOFOLD_{name.upper()}": ""})


def test_a_section_needs_its_file(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"which \[env.prod\] could stand in"):
        read_settings({}, tmp_path, {"TWOFOLD_ENV": "prod"})


def test_one_file_serves_a_log_of_kafka_and_one_without(tmp_path: Path) -> None:
    content = (
        'log = "kafka://a:1"\n[kafka]\nretries = 1\n[sources.orders]\ntopic = "t"\n[env.here]\nlog = "sqlite:"\nkafka = {}\nsources = {}\n'
    )
    (tmp_path / "twofold.toml").write_text(content)
    assert read_settings({}, tmp_path, {}).sources == {"orders": {"topic": "t"}}
    here = read_settings({}, tmp_path, {"TWOFOLD_ENV": "here"})
    assert (here.log, here.kafka, here.sources) == ("sqlite:", {}, {})


@pytest.mark.parametrize(
    ("name", "told"),
    [("ordres", "it has orders. Did you mean 'orders'?"), ("shops", "has no source 'shops' that takes events; it has orders.")],
)
def test_a_topic_of_no_source_is_told(tmp_path: Path, name: str, told: str) -> None:
    orders = tw.Events("orders", time="at", schema={"shop": str})
    shops = tw.Table("shops", key="shop", schema={"shop": str, "city": str})
    project = tw.Project("p", views=[tw.View("shop", orders, by="shop", features={"n": tw.count()}), shops])
    with pytest.raises(DefinitionError, match=told):
        project.open(home=tmp_path, log="kafka://127.0.0.1:1", sources={name: {"topic": "t"}})
