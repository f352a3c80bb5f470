"""What can be wrong with a back end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chaos.flow import POISON


@dataclass(frozen=True)
class Trouble:
    """One way to misbehave.

    Attributes:
        name: What it is called in the table.
        fault: For `tests.tracing.wire_kit.Fault`.
        refuses: Whether nobody listens at all.
        stays: Whether it never ends; all but what cannot be taken has to arrive nevertheless.
        poisons: Whether one span of the burst is one that cannot be taken.
        pushes: Whether the command `traces push` sends the rest, and not another traced process.
        takes: Whether sending goes on in spite of it, as long as it lasts.
    """

    name: str
    fault: dict[str, Any] = field(default_factory=dict)
    refuses: bool = False
    stays: bool = False
    poisons: bool = False
    takes: bool = False
    pushes: bool = False


TROUBLES = (
    Trouble("none", stays=True, takes=True),
    Trouble("refuse", refuses=True),
    Trouble("refuse, then push", refuses=True, pushes=True),
    Trouble("hang", {"hang": True}),
    Trouble("slow drip", {"drip_head": 0.3}),
    Trouble("400 poison", {"poison": POISON}, stays=True, poisons=True, takes=True),
    Trouble("413 above 100 kB", {"limit": 100_000}, stays=True, takes=True),
    Trouble("429 + Retry-After", {"status": 429, "headers": {"retry-after": "2"}}),
    Trouble("503", {"status": 503}),
    Trouble("garbage 200", {"body": "\x00\x7f garbage"}),
    Trouble("cut, spans taken", {"cut": "late"}),
    Trouble("cut, nothing taken", {"cut": "early"}),
)


def named(name: str) -> Trouble:
    """Return the trouble of that name."""
    return next(trouble for trouble in TROUBLES if trouble.name == name)
