"""Commands about stored runs: runs, approve."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tracing.cli.operations import StateStore
from tracing.cli.options import Json, Limit

if TYPE_CHECKING:
    from rich.text import Text

    from pocketflow_async.commands.runs import Line

# ruff: noqa: PLC0415 - each command imports what it needs when it runs

T = TypeVar("T")
_STYLES = {"completed": "green", "running": "cyan", "suspended": "bold yellow"}


def add_to(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    for command in (runs, approve):
        app.command()(command)


def runs(
    status: Annotated[
        str | None, typer.Option("--status", help="Only those: running, suspended, failed, …")
    ] = None,
    limit: Limit = 20,
    store: StateStore = None,
    as_json: Json = False,
) -> None:
    """List stored runs, latest first, and what they wait for."""
    from pocketflow_async.commands.runs import listed
    from tracing.cli import console

    found = _done(listed(store, status, limit))
    if as_json:
        console.write_json([line.document() for line in found])
    else:
        console.screen().lines(page(found))


def approve(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")],
    value: Annotated[
        str, typer.Option("--value", metavar="JSON", help="The answer: true, 7, '\"text\"' …")
    ],
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who answers; otherwise you.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option("--question", metavar="ID", help="Which question, where there are several."),
    ] = None,
    store: StateStore = None,
) -> None:
    """Answer what a suspended run waits for; it goes on when its program resumes it."""
    from pocketflow_async.commands import runs as work
    from tracing.cli.words import one_line

    answered = _done(work.approve(store, run, value, by, question))
    typer.echo(f"{one_line(run)}: {one_line(answered.text)} {one_line(value)}")


def page(found: list[Line]) -> list[Text]:
    """Return what is shown of a list of runs."""
    from rich.text import Text

    from tracing.cli.words import one_line

    if not found:
        return [Text("no runs")]
    width = max(len(one_line(line.run.run_id)) for line in found)
    lines = []
    for line in found:
        run = line.run
        when = datetime.fromtimestamp(run.updated_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        status = f"{run.status}, answered" if line.answered else run.status
        lines.append(
            Text.assemble(
                f"{one_line(run.run_id):<{width}}  {when}  ",
                (status, _STYLES.get(run.status, "bold red")),
                f"  {one_line(run.workflow_id)}",
            )
        )
        lines += [Text(f"  {text}") for text in _details(line)]
    return lines


def _details(line: Line) -> list[str]:
    from tracing.cli.words import one_line

    waits = [
        f"waits for: {one_line(one.text)} ({one_line(one.question_id)})"
        + ("" if one.choices is None else f" {one_line(str(list(one.choices)))}")
        for one in line.waits_for
    ]
    if waits or line.answered or not line.run.error:
        return waits
    return [one_line(line.run.error)]


def _done(work: Coroutine[Any, Any, T]) -> T:
    from pocketflow_async.commands.emergency import CommandError
    from tracing.cli.console import complain

    try:
        return asyncio.run(work)
    except CommandError as error:
        complain(str(error))
        raise typer.Exit(1) from None
