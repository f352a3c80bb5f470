"""The screen that commands write on: colours, width and characters that it can show."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tracing.cli import document
from tracing.cli.view import ASCII, UNICODE, View

WIDEST = 120
"""Longer lines are hard to follow from a name to its duration."""
ENDLESS = 1_000_000
"""What rich takes for the width: lines are laid out before they come to it."""
PIPE = 100
"""Width in a pipe, unless COLUMNS says another."""


class Screen(Console):
    """A console that never wraps or crops, and lets its caller see a broken pipe."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError again that rich would end the process for, with its code."""
        raise

    def lines(self, lines: Iterable[Text]) -> None:
        """Print each of *lines*, whole."""
        for line in lines:
            if self.color_system is None:
                self.file.write(f"{line.plain}\n")  # long traces: rich needs ten times as long
            else:
                self.print(line)


def screen() -> Screen:
    """Return the console of standard output, as it is now."""
    tolerate(sys.stdout)
    plain = bool(os.environ.get("NO_COLOR"))
    return Screen(
        file=sys.stdout,
        color_system=None if plain else "auto",
        highlight=False,
        markup=False,
        emoji=False,
        width=ENDLESS,
    )


def tolerate(stream: object) -> None:
    """Let *stream* print what its encoding lacks as an escape, where it would raise."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def width() -> int:
    """Return the cells in a line of standard output."""
    columns = shutil.get_terminal_size((PIPE, 24)).columns
    return max(min(columns, WIDEST), 40)


def shows_unicode() -> bool:
    """Tell whether standard output can show the signs of `view.UNICODE`."""
    signs = UNICODE
    wanted = "".join([*signs.marks.values(), signs.tee, signs.elbow, signs.pipe, signs.ellipsis])
    try:
        (wanted + signs.retry + signs.pause + signs.arrow + signs.micro).encode(
            sys.stdout.encoding or "ascii"
        )
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def view(*, phases: bool = False, full: bool = False) -> View:
    """Return what to show on standard output, as it is now."""
    return View(
        now_ns=time.time_ns(),
        width=width(),
        piped=not sys.stdout.isatty(),
        phases=phases,
        full=full,
        signs=UNICODE if shows_unicode() else ASCII,
        here=str(Path.cwd()),
    )


def program() -> str:
    """Return what the user would type to run this command again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m tracing"
    found = shutil.which(called.name)
    if called.name == sys.argv[0] or (found and Path(found).resolve() == called.resolve()):
        return called.name
    return os.path.relpath(called) if called.resolve().is_relative_to(Path.cwd()) else str(called)


def write_json(value: object) -> None:
    """Print *value* as one JSON document, and nothing else."""
    tolerate(sys.stdout)
    sys.stdout.write(document.dumps(value, ascii_only=not shows_unicode()) + "\n")


def complain(message: str, *, warns: bool = False) -> None:
    """Print *message* to standard error, as an error or as a warning."""
    tolerate(sys.stderr)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    sign = ("Warning: ", "bold yellow") if warns else ("Error: ", "bold red")
    text = Text.assemble(sign, message)
    console.print(text, soft_wrap=not console.is_terminal)  # in a pipe, one line
