"""The commands about traces as a whole: list them, write them to files, read them, send them."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from tracing.cli.options import Json, Limit, Name, StorePath

# ruff: noqa: PLC0415 - each command imports what it needs when it runs, so that `--help` is quick

group = typer.Typer(no_args_is_help=False)


class Format(enum.StrEnum):
    """What `traces export` writes."""

    JSONL = "jsonl"
    OTLP = "otlp-json"
    CHROME = "chrome"


@group.callback(invoke_without_command=True)
def _traces(
    ctx: typer.Context,
    limit: Limit = 20,
    name: Name = None,
    as_json: Json = False,
    store: StorePath = None,
) -> None:
    """List traces, or write them to files, read them from files, or send them."""
    if ctx.invoked_subcommand is None:
        _list(limit, name, as_json, store)
    elif (limit, name, as_json, store) != (20, None, False, None):
        raise typer.BadParameter(f"options stand after `{ctx.invoked_subcommand}`, not before it")


@group.command("list")
def list_(
    limit: Limit = 20, name: Name = None, as_json: Json = False, store: StorePath = None
) -> None:
    """List the traces in the store, latest first; what `traces` alone does too."""
    _list(limit, name, as_json, store)


def _list(limit: int, name: str | None, as_json: bool, store: Path | None) -> None:
    from tracing.cli import console, document, reading, render

    path = reading.store_path(store)
    found = reading.summaries(path, limit, name)
    if as_json:
        console.write_json([document.summary_document(summary) for summary in found])
        return
    screen, view = console.screen(), console.view()
    if not found:
        screen.lines(render.nothing_yet(path, name, console.program()))
        return
    screen.print(render.traces_table(found, view))
    screen.lines(render.footer(path))


@group.command("export")
def export_(
    trace: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TRACE]...",
            help="Ids of traces, or the beginnings of some, or `latest`, which is the default.",
        ),
    ] = None,
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="jsonl: all that the store knows, for `traces import`. otlp-json: what would be "
            "sent, for Collectors. chrome: for Perfetto and speedscope.",
        ),
    ] = Format.JSONL,
    every: Annotated[bool, typer.Option("--all", help="All traces of the store.")] = False,
    name: Name = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="The latest ones, so many at most.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write; otherwise standard output."
        ),
    ] = None,
    store: StorePath = None,
) -> None:
    """Write traces to a file, the oldest first."""
    from tracing.cli import console, exporting, reading

    path = reading.store_path(store)
    if trace and (every or name is not None or limit is not None):
        raise typer.BadParameter("name traces, or choose them with --all, --name or --limit")
    chosen = exporting.Choice(tuple(trace or ()), every, name, limit)
    if output is None or str(output) == "-":
        exporting.to_stream(path, chosen, format.value, console.program())
        return
    written = exporting.to_file(path, chosen, format.value, output, console.program())
    console.screen().lines([written])


@group.command("import")
def import_(
    file: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Files of `traces export`, or of OTLP JSON lines; - for stdin."
        ),
    ],
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            metavar="PATH",
            help="Trace store to write; otherwise POCKETFLOW_TRACE_STORE, or the user's own.",
        ),
    ] = None,
) -> None:
    """Read traces from files into the store; those that it has already stay as they are."""
    from tracing.cli import console, importing, reading

    failed = importing.run(reading.store_path(store), file, console.screen())
    if failed:
        raise typer.Exit(1)


@group.command()
def push(
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds after which it gives up what is left.")
    ] = 60.0,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Send what waits for targets that are not configured here to this one, such as "
            "langfuse or otlp.",
        ),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            help="Send what waits for targets that are not configured here nowhere. The traces "
            "stay in the store.",
        ),
    ] = False,
    store: StorePath = None,
) -> None:
    """Send now what waits in the store for the targets that are configured."""
    from tracing.cli import console, pushing, reading

    if to is not None and forget:
        raise typer.BadParameter("choose one of --to and --forget")
    path, screen, program = reading.store_path(store), console.screen(), console.program()
    if pushing.run(path, timeout, screen, program, to=to, forget=forget):
        raise typer.Exit(1)
