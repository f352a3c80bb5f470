"""What waits in the store, sent now, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tracing.cli import configuring, words
from tracing.cli.console import Screen
from tracing.errors import StoreMissing

if TYPE_CHECKING:
    from tracing.export.pushing import Pushed


def run(
    path: str,
    timeout: float,
    screen: Screen,
    program: str,
    *,
    to: str | None = None,
    forget: bool = False,
) -> bool:
    """Send what waits in the store at *path*; return whether anything is left that nobody sends.

    Args:
        path: The store.
        timeout: Seconds after which it gives up.
        screen: Where to say what came of it.
        program: What the user would type to run this program again.
        to: Name of the target that gets what waits for targets that are not configured here.
        forget: Whether what waits for these is to be sent nowhere any more.

    Raises:
        TracingError: The store cannot be read, or the settings are wrong.
    """
    from tracing.export.pushing import push  # noqa: PLC0415 (only for those who send)

    def say(name: str, sent: int, left: int) -> None:
        if screen.is_terminal:  # in a pipe, only what came of it
            screen.lines([Text(f"{name}: {sent:,} sent, {left:,} waiting", "dim")])

    config = configuring.config(program)
    try:
        found = push(path, config, timeout, say, to=to, forget=forget)
    except StoreMissing:
        screen.lines([Text(f"Nothing to send yet: there is no trace store at {path}.")])
        return False
    except ValueError as error:
        raise configuring.BadSettings(str(error), program) from error
    if not found:
        screen.lines([Text("Nothing waits to be sent.")])
        return False
    screen.print(table(found))
    screen.lines(_said(found))
    return any(one.waiting > one.held for one in found)


def table(found: Sequence[Pushed]) -> Table:
    """Return the counts of records by target."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    made.add_column("TARGET", no_wrap=True)
    for header in ("SENT", "WAITING", "ASIDE"):
        made.add_column(header, justify="right", no_wrap=True)
    made.add_column("ENDPOINT", no_wrap=True)
    for one in found:
        made.add_row(
            one.name,
            f"{one.sent:,}",
            Text(f"{one.waiting:,}", "yellow" if one.waiting else ""),
            Text(f"{one.aside:,}", "red" if one.aside else ""),
            words.one_line(one.endpoint),
        )
    return made


def _said(found: Sequence[Pushed]) -> Iterator[Text]:
    for one in found:
        if one.said:
            yield Text.assemble((f"{one.name}: ", "dim"), words.one_line(one.said))
