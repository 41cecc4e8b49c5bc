"""`twofold VERB [FILE]`: one function a verb; what they do is in the runtime, how it looks in `show`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from twofold.cli import show
from twofold.cli.letters import letters
from twofold.cli.opening import ClockOption, File, HomeOption, Json, existing, opened, project_spec, settings_of
from twofold.cli.progress import working
from twofold.errors import TwofoldError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

app.add_typer(letters, name="dead-letters")


@app.command()
def check(file: File = None) -> None:
    """List all problems of a project file at once, each with its line and the nearest right name."""
    from twofold.definitions.check import check as problems_of
    from twofold.definitions.load import load_project

    problems = problems_of(load_project(project_spec(file, settings_of())))
    show.problems(problems)
    if problems:
        raise typer.Exit(1)


@app.command()
def load(
    source: str, table: Path, file: File = None, home: HomeOption = None, clock: ClockOption = None,
    at: Annotated[str | None, typer.Option(help="when the snapshot was taken, for a table of snapshots")] = None,
) -> None:  # fmt: skip
    """Load a Parquet or CSV file into a source or table as history."""
    with opened(file, settings_of(home=home, clock=clock)) as project, working(f"loading {source}", show.err) as progress:
        version = project.load(source, table, at, progress)
    typer.echo(f"{source}: history version {version}")


@app.command()
def build(
    file: File = None,
    view: Annotated[list[str] | None, typer.Option("--view", help="only these views")] = None,
    home: HomeOption = None,
    clock: ClockOption = None,
) -> None:
    """Archive the log and publish a new generation of every view that needs one."""
    with opened(file, settings_of(home=home, clock=clock)) as project, working("building", show.err) as progress:
        built = project.build(views=view, progress=progress)
    show.built(built)


@app.command()
def train(
    model: str,
    file: File = None,
    test: Annotated[str, typer.Option(help="how much of the end is held back to judge by")] = "30d",
    until: Annotated[str | None, typer.Option(help="only rows whose label was known by then")] = None,
    home: HomeOption = None,
    clock: ClockOption = None,
) -> None:
    """Train a model on its training set and register it; the first version goes live."""
    from twofold.instants import to_us

    with opened(file, settings_of(home=home, clock=clock)) as project, working(f"training {model}", show.err) as progress:
        trained = project.train(model, until=None if until is None else to_us(until), test=test, progress=progress)
    show.trained(trained)


@app.command()
def promote(
    model: str, version: Annotated[str | None, typer.Argument()] = None, file: Annotated[str | None, typer.Option("--file")] = None,
    home: HomeOption = None,
) -> None:  # fmt: skip
    """Let a registered version of a model answer (default: the newest)."""
    with opened(file, existing(settings_of(home=home))) as project:
        typer.echo(f"{model}@{project.promote(model, version)} answers now")


@app.command()
def rollback(model: str, file: File = None, home: HomeOption = None) -> None:
    """Let the version that answered before answer again."""
    with opened(file, existing(settings_of(home=home))) as project:
        typer.echo(f"{model}@{project.rollback(model)} answers again")


@app.command()
def features(
    view: str, keys: Annotated[list[str] | None, typer.Argument(help="values of the key columns: one key, parts in order")] = None,
    file: Annotated[str | None, typer.Option("--file")] = None, at: Annotated[str | None, typer.Option()] = None,
    home: HomeOption = None, clock: ClockOption = None, json: Json = False,
) -> None:  # fmt: skip
    """Read one key's features online, with status and age."""
    from twofold.cli.values import typed_key

    with opened(file, existing(settings_of(home=home, clock=clock))) as project:
        key = typed_key(project.compiled.view(view).plan.by, keys or [])
        show.table(project.features(view, [key], at=at, status=True), json)


@app.command()
def predict(
    model: str, request: Annotated[str, typer.Argument(help="the request as JSON")],
    file: Annotated[str | None, typer.Option("--file")] = None, at: Annotated[str | None, typer.Option()] = None,
    home: HomeOption = None, clock: ClockOption = None,
) -> None:  # fmt: skip
    """Answer one request as the server would."""
    from twofold.cli.values import json_value

    with opened(file, existing(settings_of(home=home, clock=clock))) as project:
        show.json_value(project.predict(model, json_value(request), at=at))


@app.command()
def stream(file: File = None, home: HomeOption = None, clock: ClockOption = None) -> None:
    """Apply the log to the online store for ever: a worker of the speed layer.

    On Redis several share the partitions out; on the embedded store one is active and others stand by.
    """
    with opened(file, settings_of(home=home, clock=clock)) as project:
        project.stream(until=_terminated())


@app.command(hidden=True)
def schedule(file: File = None, home: HomeOption = None, clock: ClockOption = None) -> None:
    """Build views when their schedule says so, for ever."""
    with opened(file, settings_of(home=home, clock=clock)) as project:
        project.keep_schedule(until=_terminated())


@app.command()
def serve(
    home: HomeOption = None,
    clock: ClockOption = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Serve predictions, features and events over HTTP from one process; needs no project file, only a published plan."""
    from twofold.runtime.supervisor import environment, listening_socket, replica_command

    settings = existing(settings_of(home=home, clock=clock, host=host, port=port))
    listener = listening_socket(settings.host, settings.port)
    # A replica loads neither this command line nor any engine: it takes the place of this process.
    os.execve(sys.executable, replica_command(settings, listener), environment(settings))


@app.command()
def up(
    file: File = None,
    home: HomeOption = None,
    clock: ClockOption = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option()] = None,
    replicas: Annotated[int | None, typer.Option(help="serving processes")] = None,
    workers: Annotated[int | None, typer.Option(help="processes of the speed layer; one is active on the embedded store")] = None,
) -> None:
    """Run all of it on this machine: speed layer, schedule and replicas; builds what is missing first."""
    from twofold.runtime.supervisor import Supervisor, children_of, listening_socket

    settings = settings_of(home=home, clock=clock, host=host, port=port, replicas=replicas, workers=workers)
    spec = project_spec(file, settings)
    with opened(spec, settings) as project, project.home.lock("supervisor"), listening_socket(settings.host, settings.port) as listener:
        with working("building what is missing", show.err) as progress:
            project.build_missing(progress)
        project.close()
        show.running(settings)
        Supervisor(settings, children_of(settings, _absolute(spec), listener)).run()


@app.command()
def status(file: File = None, home: HomeOption = None, clock: ClockOption = None, json: Json = False) -> None:
    """Show processes, offsets and lag, views and generations, models, freshness and dead letters."""
    with opened(file, existing(settings_of(home=home, clock=clock))) as project:
        show.status(project.status(), json)


@app.command()
def audit(file: File = None, home: HomeOption = None, clock: ClockOption = None, json: Json = False) -> None:
    """Recompute every served feature from history and log, and compare bit for bit; ends with 1 where one differs."""
    with opened(file, existing(settings_of(home=home, clock=clock))) as project, working("recomputing what was served", show.err):
        report = project.audit()
    show.audit(report, json)
    if report.different:
        raise typer.Exit(1)


def _absolute(spec: str) -> str:
    return str(Path(spec).resolve()) if Path(spec).exists() else spec


def _terminated() -> Any:
    """A function that says whether SIGTERM or SIGINT has come."""
    seen: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: seen.append(got))
    return lambda: bool(seen)


def main() -> None:
    """Run the command line; errors of ours are one clear text, exit code 1."""
    try:
        app()
    except TwofoldError as error:
        show.error(error)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
