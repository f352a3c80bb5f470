"""One resource that is open on an event loop, and what is counted about resources."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from pocketflow_async.resources.flights import Flight
    from pocketflow_async.resources.health import HealthStatus
    from pocketflow_async.resources.registration import Registration


class Entry:
    """A resource that is open on an event loop.

    Attributes:
        made_by: How it was made.
        resource: The thing itself.
        number: Its place in the order of creation.
        needs: Other resources that it was made of; they stay open as long as it is.
        checked_at: When it was last found to be well, or was made.
        check: The check that is under way.
        is_broken: Whether it was found not to be well.
        is_retired: Whether it is handed out no more.
        leases: How many use it.
        needed_by: How many other resources were made of it.
        closing: Closes it.
        is_closed: Whether that has been done.
    """

    __slots__ = (
        "check",
        "checked_at",
        "closing",
        "is_broken",
        "is_closed",
        "is_retired",
        "leases",
        "made_by",
        "needed_by",
        "needs",
        "number",
        "resource",
    )

    def __init__(
        self, made_by: Registration, resource: Any, number: int, needs: list[Entry], now: float
    ) -> None:
        self.made_by = made_by
        self.resource = resource
        self.number = number
        self.needs = needs
        self.checked_at = now
        self.check: Flight[HealthStatus] | None = None
        self.is_broken = False
        self.is_retired = False
        self.is_closed = False
        self.leases = 0
        self.needed_by = 0
        self.closing: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """What the resource is called."""
        return self.made_by.name

    @property
    def is_idle(self) -> bool:
        """Whether nobody uses it."""
        return not self.leases and not self.needed_by


@dataclass(slots=True)
class Figures:
    """What is counted about a resource on one event loop, or on all.

    Attributes:
        created: How often it was made.
        accessed: How often it was asked for.
        health_failures: How often it was found not to be well.
        recreations: How often it was replaced.
        closed: How often one was closed.
        close_failures: How often closing has failed, taken too long, or was interrupted.
    """

    created: int = 0
    accessed: int = 0
    health_failures: int = 0
    recreations: int = 0
    closed: int = 0
    close_failures: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*map(sum, zip(astuple(self), astuple(other), strict=True)))
