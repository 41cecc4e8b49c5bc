"""What the verbs have in common: their options, settings, and the project of a file opened on its home."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from twofold.cli import show
from twofold.cli.progress import can_be_interrupted
from twofold.errors import DefinitionError, NotBuilt
from twofold.settings import Settings, read_settings

File = Annotated[str | None, typer.Argument(help="the project file, or package.module:name; default: `project` in twofold.toml")]
HomeOption = Annotated[Path | None, typer.Option("--home", help="folder of all embedded state; default .twofold")]
ClockOption = Annotated[str | None, typer.Option("--clock", help="system, or replay: the instant in HOME/clock")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def settings_of(**options: Any) -> Settings:
    """Settings of twofold.toml, the environment and this call's options."""
    return read_settings(options)


def project_spec(file: str | None, settings: Settings) -> str:
    """The project to work on; raises DefinitionError where neither the call nor a setting names one."""
    if file is None and settings.project is None:
        raise DefinitionError("no project: give the project file, as in `twofold check flights.py`, or set `project` in twofold.toml")
    return file or str(settings.project)


def existing(settings: Settings) -> Settings:
    """These settings; raises NotBuilt where their home is not there, which a mistyped one never is."""
    if not settings.home.is_dir():
        raise NotBuilt(f"there is no home {settings.home}; take another --home, or begin this one with `twofold load`, `build` or `up`")
    return settings


@contextlib.contextmanager
def opened(file: str | None, settings: Settings) -> Iterator[Any]:
    """The project of a file, opened on its home."""
    from twofold.definitions.load import load_project
    from twofold.runtime import open_with

    with can_be_interrupted(show.err), open_with(load_project(project_spec(file, settings)), settings) as project:
        yield project
