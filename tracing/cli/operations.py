"""Commands about programs at work: halt, resume, status."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracing.cli.options import Json

if TYPE_CHECKING:
    from rich.text import Text

    from pocketflow_async.commands.emergency import Overview

# ruff: noqa: PLC0415 - each command imports what it needs when it runs

StateStore = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Store of your programs; otherwise STATE_URL, or the user's own.",
    ),
]
Controller = Annotated[str, typer.Option("--controller", metavar="ID", help="Which controller.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_STYLES = {"normal": "bold green", "alert": "bold yellow"}
_SAYS = {
    "normal": "everything goes on",
    "alert": "everything goes on, but somebody should look",
    "reducing": "only exits, and what has no effect on the risk",
    "halt": "only what has no effect on the risk",
    "shutdown": "nothing, until `resume --reset`",
}


def add_to(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    for command in (halt, resume, status):
        app.command()(command)


def halt(
    reason: Annotated[str, typer.Argument(help="Why, for whoever finds it halted.")],
    store: StateStore = None,
    controller: Controller = "default",
    reducing: Annotated[bool, typer.Option("--reducing", help="Let exits through.")] = False,
    shutdown: Annotated[bool, typer.Option("--shutdown", help="Stop everything.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="For scripts; halting never asks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop trading in all programs that use the store, at once, until it is resumed."""
    from pocketflow_async.commands import emergency

    state = "shutdown" if shutdown else "reducing" if reducing else "halt"
    found = _done(emergency.halt(store, controller, reason, state))
    _show(found, as_json=as_json)
    if found.is_new:
        _complain(
            f"the store {found.store} was not there. It was just made, and no program has used it "
            "yet: nothing that is at work now is halted by it. If that is not what you meant, your "
            "programs use another store and go on: name it with --store or STATE_URL",
            warns=True,
        )


def resume(
    reason: Annotated[str, typer.Argument(help="Why.")] = "Manual resume",
    store: StateStore = None,
    controller: Controller = "default",
    reducing: Annotated[bool, typer.Option("--reducing", help="Let exits through only.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="End a shutdown too.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let trading go on, after showing why it was stopped."""
    from pocketflow_async.commands import emergency

    found = _done(emergency.status(store, controller))
    if not yes:
        _show(found, as_json=False, err=True)
        if not sys.stdin.isatty():
            _complain("nobody is there to be asked: say --yes to resume")
            raise typer.Exit(1)
        typer.confirm("Resume?", abort=True, err=True)
    version = found.status["version"]
    work = emergency.resume(
        store, controller, reason, version=version, reducing=reducing, reset=reset
    )
    _show(_done(work), as_json=as_json)


def status(
    store: StateStore = None, controller: Controller = "default", as_json: Json = False
) -> None:
    """Show whether trading is stopped, why and since when, the risk limits, and open runs."""
    from pocketflow_async.commands import emergency

    _show(_done(emergency.status(store, controller)), as_json=as_json)


def _done(work: Coroutine[Any, Any, Overview]) -> Overview:
    from pocketflow_async.commands.emergency import CommandError

    # The page says it all: nothing is to be logged beside it.
    logging.getLogger("pocketflow_async").addHandler(logging.NullHandler())
    try:
        return asyncio.run(work)
    except CommandError as error:
        _complain(str(error))
        raise typer.Exit(1) from None


def _complain(message: str, *, warns: bool = False) -> None:
    from tracing.cli.console import complain

    complain(message, warns=warns)


def _show(found: Overview, *, as_json: bool, err: bool = False) -> None:
    from tracing.cli import console

    if as_json:
        console.write_json(found.document())
    elif err:
        typer.echo("\n".join(line.plain for line in page(found)), err=True)
    else:
        console.screen().lines(page(found))


def page(found: Overview) -> list[Text]:
    """Return what is shown of *found*."""
    from rich.text import Text

    from tracing.cli.words import clean, count, one_line

    said = found.status
    state = said["state"]
    first = Text.assemble((state.upper(), _STYLES.get(state, "bold red")), f": {_SAYS[state]}")
    facts = {
        "reason": said["halt_reason"],
        "since": said["halt_timestamp"],
        "by": said["metadata"].get("by"),
        "controller": said["controller_id"],
        "store": found.store,
        "open runs": ", ".join(f"{number} {name}" for name, number in found.runs.items()) or "none",
    }
    lines = [Text(f"  {name:<10}  {one_line(str(one))}") for name, one in facts.items() if one]
    more = said["metadata"].get("further_reasons") or ()
    lines += [Text(f"  {'also':<10}  {one_line(one['reason'])} ({one['at']})") for one in more]
    limits = said["risk_limits"]
    if limits:
        lines.append(Text(f"  {count(len(limits), 'risk limit')}:"))
    for name, one in limits.items():
        now = "not read yet" if one["current"] is None else f"{one['current']}"
        used = f"{one['utilization']:.0%}"
        lines.append(Text(f"    {clean(name)}: {clean(now)} of {one['limit']:g} ({used})"))
    return [first, *lines]
