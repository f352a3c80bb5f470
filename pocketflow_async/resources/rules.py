"""What holds on all event loops of a registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pocketflow_async.clock import Clock
from pocketflow_async.clock import clock as current_clock
from pocketflow_async.resources.current import Source
from pocketflow_async.resources.registration import Registration


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What holds on all event loops of a registry; times are in seconds.

    Attributes:
        registered: How resources are made, by name; changes as resources are registered.
        source: Where factories find other resources: the registry.
        health_interval: How long a resource that was found to be well is not asked again.
        health_timeout: How long a check may take.
        close_timeout: How long it may take to close a resource, and for leases to come back.
        clock: The time; None: that of the context.
    """

    registered: Mapping[str, Registration]
    source: Source
    health_interval: float
    health_timeout: float
    close_timeout: float
    clock: Clock | None

    def time(self) -> Clock:
        """Return the clock that holds here."""
        return current_clock() if self.clock is None else self.clock
