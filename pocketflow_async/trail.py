"""Notes on exceptions: which flow, node, phase and attempt an error came from.

The note is a plain `__notes__` entry (PEP 678), so it shows in every traceback; the exception's
type, arguments and identity stay as they are. The first node an error leaves writes the note, each
flow around it then puts its own name in front.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

_ATTRIBUTE = "__flow_trail__"


class Trail(NamedTuple):
    """Where an error came from; only plain values, so that the exception can still be pickled."""

    source: int
    """`id()` of the node object the error left first."""
    path: tuple[str, ...]
    where: str

    def __str__(self) -> str:
        """Return the text of the note."""
        flows = [f"flow {' > '.join(self.path)}"] if self.path else []
        return "in " + ", ".join([*flows, *([self.where] if self.where else [])])


def note(
    error: BaseException, source: object, name: str, phase: str, attempt: int = 0, of: int = 0
) -> None:
    """Say on *error* that it left the node *source* in *phase*, at *attempt* (1-based) of *of*.

    A note that the same visit has already written is more precise and is kept.
    """
    if isinstance(error, GeneratorExit):
        return
    with suppress(Exception):  # an exotic exception class must not cost the caller the error itself
        known = getattr(error, _ATTRIBUTE, None)
        if known is not None and known.source == id(source):
            return
        tries = f", attempt {attempt} of {of}" if of else ""
        trail = Trail(id(source), (), f"node {name}, {phase}{tries}")
        if str(trail) not in getattr(error, "__notes__", ()):
            error.add_note(str(trail))
        setattr(error, _ATTRIBUTE, trail)


def passing(error: BaseException, flow: str) -> None:
    """Put the name of the *flow* that *error* is leaving in front of its note."""
    with suppress(Exception):
        old = getattr(error, _ATTRIBUTE, None)
        if old is None:
            old = Trail(0, (), "")
            error.add_note(str(old))
        new = old._replace(path=(flow, *old.path))
        notes = error.__notes__
        if str(new) in notes:
            notes.remove(str(old))
        else:
            notes[notes.index(str(old))] = str(new)
        setattr(error, _ATTRIBUTE, new)


def inherit(error: BaseException, cause: BaseException | None) -> None:
    """Let *error*, raised in place of *cause*, say where that one came from."""
    with suppress(Exception):
        trail = getattr(cause, _ATTRIBUTE, None)
        if trail is not None:
            error.add_note(str(trail))
            setattr(error, _ATTRIBUTE, trail)
