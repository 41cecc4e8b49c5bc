"""`twofold dead-letters list | replay | drop`: events that could not be applied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from twofold.cli import show
from twofold.cli.opening import ClockOption, File, HomeOption, Json, existing, opened, settings_of
from twofold.errors import DataError

letters = typer.Typer(no_args_is_help=True, help="Events that lie in the log and could not be applied: list, replay, drop.")

SourceOption = Annotated[str, typer.Option("--source", help="the source that they are of")]
Which = Annotated[list[str] | None, typer.Option("--letter", help="partition/offset of one; may be repeated")]
All = Annotated[bool, typer.Option("--all", help="all of the source")]
_CONTENT = 60


@letters.command("list")
def list_letters(
    file: File = None, source: Annotated[str | None, typer.Option(help="only of this source")] = None,
    reason: Annotated[str, typer.Option(help="only those whose reason contains this text")] = "",
    limit: Annotated[int, typer.Option(help="at most so many", min=1)] = 100,
    full: Annotated[bool, typer.Option("--full", help="whole rows, however long")] = False,
    home: HomeOption = None, clock: ClockOption = None, json: Json = False,
) -> None:  # fmt: skip
    """Show dead letters with their reason, long rows cut short; with --json one a line, as `replay --rows` takes them back."""
    from twofold.runtime.replaying import content_of, letters_of

    with opened(file, existing(settings_of(home=home, clock=clock))) as project:
        found = [letter for letter in letters_of(project, source) if reason in letter.reason]
    if json:
        for letter in found[:limit]:
            typer.echo(msgspec.json.encode(letter))
        return
    contents = [content_of(letter) for letter in found[:limit]]
    for letter, content in zip(found, contents, strict=False):
        show.line(f"{letter.source} {letter.partition}/{letter.offset}  {letter.reason}: {content if full else _short(content)}")
    hints = [f"the first {limit} shown"] if len(found) > limit else []
    hints += [] if full or all(len(content) <= _CONTENT for content in contents) else ["rows cut short: --full shows them whole"]
    show.line("; ".join([f"{len(found)} dead letters", *hints]))


@letters.command()
def replay(
    source: SourceOption, file: File = None, letter: Which = None, all_of_them: All = False,
    rows: Annotated[Path | None, typer.Option(help="corrected letters, one JSON object a line, as `list --json` prints them")] = None,
    home: HomeOption = None, clock: ClockOption = None,
) -> None:  # fmt: skip
    """Append letters again as new events; those that are refused again stay, and it ends with 1."""
    corrected = {} if rows is None else _rows_of(rows, source)
    if not (letter or all_of_them or corrected):
        raise DataError("nothing to replay: name letters with --letter partition/offset, give --rows FILE, or --all")
    with opened(file, existing(settings_of(home=home, clock=clock))) as project:
        report = project.replay(source, None if all_of_them else _places(letter), corrected)
    show.line(f"{report.appended} dead letters of {source} appended again")
    for place, why in report.refused.items():
        show.line(f"{place} stays: {why}")
    if report.refused:
        raise typer.Exit(1)


@letters.command()
def drop(
    source: SourceOption, file: File = None, letter: Which = None, all_of_them: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False, home: HomeOption = None, clock: ClockOption = None,
) -> None:  # fmt: skip
    """Remove letters for good; what they held is then in the log alone."""
    if not (letter or all_of_them):
        raise DataError("nothing to drop: name letters with --letter partition/offset, or give --all")
    if not yes:
        typer.confirm(f"Remove {'all dead letters' if all_of_them else ', '.join(letter or [])} of {source}?", abort=True)
    with opened(file, existing(settings_of(home=home, clock=clock))) as project:
        show.line(f"{project.drop_dead_letters(source, None if all_of_them else _places(letter))} dead letters of {source} removed")


def _places(texts: list[str] | None) -> list[tuple[int, int]]:
    try:
        return [(int(partition), int(offset)) for partition, _, offset in (text.partition("/") for text in texts or [])]
    except ValueError:
        raise DataError(f"{', '.join(texts or [])}: a letter is named by partition/offset, as in --letter 0/1234") from None


def _rows_of(path: Path, source: str) -> dict[tuple[int, int], dict[str, Any]]:
    """(partition, offset) -> corrected row of a file's lines; raises DataError with the line that is none, or where there is no file."""
    found = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give the file with the corrected letters") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                letter = msgspec.json.decode(line)
                if letter["source"] == source:
                    found[int(letter["partition"]), int(letter["offset"])] = dict(letter["row"])
            except (msgspec.DecodeError, KeyError, TypeError, ValueError):
                raise DataError(f"{path} line {number}: give source, partition, offset and row, as `list --json` prints them") from None
    return found


def _short(text: str) -> str:
    return text if len(text) <= _CONTENT else f"{text[:_CONTENT]}..."
