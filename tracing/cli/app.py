"""The commands. Each imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tracing.cli import operations, runs, traces
from tracing.cli.options import Json, StorePath

# ruff: noqa: PLC0415 - see the first line


class Commands(TyperGroup):
    """The group of commands: how each of them ends when it cannot go on."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn what stops it into one line and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left is flushed at exit
            raise SystemExit(141) from None  # as a program that SIGPIPE ends
        except _known() as error:
            from tracing.cli.console import complain

            complain(str(error))
            raise SystemExit(1) from None
        return result


def _known() -> tuple[type[Exception], ...]:
    from tracing import errors
    from tracing.cli.targets import TargetError

    return (errors.TracingError, TargetError)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Phases = Annotated[bool, typer.Option("--phases", help="Show prep, exec and post of each node.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            version = metadata.version("pocketflow-async")
        except metadata.PackageNotFoundError:
            version = "(not installed)"
        typer.echo(f"pocketflow-async {version}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _commands(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """See what your flows did: every run, node, attempt, input and output."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            exists=True,
            file_okay=False,
            help="Folder of files to read; this package's own sources if none is given.",
        ),
    ] = None,
    report: Annotated[Path, typer.Option(metavar="PATH", help="Where to write the report.")] = Path(
        "pocketflow-report.md"
    ),
) -> None:
    """Run a real flow on a folder of files, and show its trace."""
    from tracing import demo as demonstration
    from tracing.cli import console, reading, render

    path = reading.store_path(None)
    trace_id = demonstration.run(folder or Path(demonstration.__file__).parent, report)
    screen, program = console.screen(), console.program()
    screen.lines(render.trace_page(reading.tree(trace_id, path, program), console.view()))
    screen.lines(render.after_demo(trace_id, report, path, program))


app.add_typer(traces.group, name="traces")
operations.add_to(app)
runs.add_to(app)


@app.command()
def show(
    trace: Annotated[
        str, typer.Argument(help="Id of a trace, or the beginning of one, or `latest`.")
    ] = "latest",
    phases: Phases = False,
    full: Annotated[bool, typer.Option("--full", help="Fold nothing and cut nothing.")] = False,
    as_json: Json = False,
    store: StorePath = None,
) -> None:
    """Show one trace as a tree."""
    from tracing.cli import console, document, reading, render

    found = reading.tree(trace, reading.store_path(store), console.program())
    if as_json:
        console.write_json(document.trace_document(found))
    else:
        screen, view = console.screen(), console.view(phases=phases, full=full)
        screen.lines(render.trace_page(found, view))


@app.command()
def graph(
    flow: Annotated[
        str, typer.Argument(metavar="MODULE:FLOW", help="package.module:flow, or file.py:flow.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Print what is wrong with the flow instead.")
    ] = False,
) -> None:
    """Print a flow as a Mermaid diagram."""
    from tracing.cli import targets

    loaded = targets.load_flow(flow)
    if not check:
        typer.echo(loaded.to_mermaid().rstrip("\n"))
        return
    problems = [str(problem) for problem in loaded.validate()]
    typer.echo("\n".join(problems) if problems else f"{flow}: no problems")
    if problems:
        raise typer.Exit(1)


@app.command("store")
def store_(store: StorePath = None) -> None:
    """Print where the trace store is and what it holds."""
    from tracing.cli import console, reading, render

    found = reading.facts(reading.store_path(store))
    console.screen().lines(render.store_page(found, console.program()))


@app.command()
def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Send nothing.")] = False,
    as_json: Json = False,
    store: StorePath = None,
) -> None:
    """Check versions, store, settings, targets and clocks, and say what to fix."""
    from tracing.cli import console, findings
    from tracing.cli.doctor import examine

    found = examine(store, offline=offline)
    if as_json:
        console.write_json(findings.document(found))
    else:
        console.screen().lines(findings.page(found, console.view()))
    if findings.count(found, "wrong"):
        raise typer.Exit(1)
