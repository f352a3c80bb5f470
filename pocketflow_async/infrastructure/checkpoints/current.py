"""Which durable run a node is part of."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pocketflow_async.infrastructure.checkpoints.keeper import Keeper


@dataclass(frozen=True, slots=True)
class CurrentRun:
    """The visit of a node in a durable run.

    Attributes:
        run_id: The run.
        node: Name of the node, or of the flow whose prep or post is at work.
        idempotency_key: Of this visit: the same whenever it is done again, after a failed attempt
            and after a restart; another one when the flow comes back to the node. The items of a
            batch and the branches of a fan-out share it.
    """

    run_id: str
    node: str
    idempotency_key: str
    keeper: Keeper = field(repr=False, compare=False)


current: Final[ContextVar[CurrentRun | None]] = ContextVar("pocketflow_run", default=None)


def current_run() -> CurrentRun | None:
    """Return the durable run that we are in, or None outside of every one."""
    return current.get()
