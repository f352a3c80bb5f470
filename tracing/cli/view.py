"""How much of a trace is shown, and with which signs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tracing.record import (
    CANCELLED,
    COMPLETED,
    FAILED,
    HALTED,
    INTERRUPTED,
    RUNNING,
    SKIPPED,
    TIMED_OUT,
)

COLOURS: Final = {
    COMPLETED: "green",
    FAILED: "red",
    TIMED_OUT: "red",
    INTERRUPTED: "red",
    CANCELLED: "yellow",
    HALTED: "magenta",
    SKIPPED: "bright_black",
    RUNNING: "cyan",
}


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters beyond letters; marks are one cell wide."""

    marks: dict[str, str]
    """One sign per outcome."""
    tee: str
    elbow: str
    pipe: str
    gap: str
    ellipsis: str
    retry: str
    pause: str
    arrow: str
    micro: str

    def mark(self, outcome: str) -> str:
        """Return the sign of *outcome*, also of one that this version does not know."""
        return self.marks.get(outcome, "?")


UNICODE: Final = Signs(
    marks={
        COMPLETED: "✓",
        FAILED: "✗",
        TIMED_OUT: "◷",
        INTERRUPTED: "↯",
        CANCELLED: "⊘",
        HALTED: "■",
        SKIPPED: "○",
        RUNNING: "●",
    },
    tee="├─ ",
    elbow="└─ ",
    pipe="│  ",
    gap="   ",
    ellipsis="…",
    retry="↻",
    pause="‖",
    arrow="→",
    micro="µs",
)
ASCII: Final = Signs(
    marks={
        COMPLETED: "+",
        FAILED: "x",
        TIMED_OUT: "t",
        INTERRUPTED: "!",
        CANCELLED: "-",
        HALTED: "#",
        SKIPPED: "o",
        RUNNING: ">",
    },
    tee="|- ",
    elbow="`- ",
    pipe="|  ",
    gap="   ",
    ellipsis="...",
    retry="~",
    pause="=",
    arrow="->",
    micro="us",
)


@dataclass(frozen=True, slots=True)
class View:
    """What to show, and on what kind of screen.

    Attributes:
        now_ns: Unix time in nanoseconds, for ages and for what still runs.
        width: Cells in a line.
        phases: Whether prep, exec and post have lines of their own.
        full: Whether nothing is folded or cut.
        piped: Whether a program reads the lines: names are then never cut.
        signs: Characters that the screen can show.
        here: Folder that file names are shown relative to; empty: as they are.
    """

    now_ns: int
    width: int = 80
    phases: bool = False
    full: bool = False
    piped: bool = False
    signs: Signs = field(default=UNICODE)
    here: str = ""

    def shown(self, text: str) -> str:
        """Return *text* as this screen can show it."""
        if self.signs is UNICODE:
            return text
        return text.encode("ascii", "backslashreplace").decode("ascii")


def outcome_word(outcome: str) -> str:
    """Return *outcome* as it is read aloud."""
    return outcome.replace("_", " ")


def colour(outcome: str) -> str:
    """Return the colour of *outcome*."""
    return COLOURS.get(outcome, "default")
