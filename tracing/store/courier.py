"""What a store has to know of those who send its records on."""

from __future__ import annotations

from typing import Protocol


class Courier(Protocol):
    """Sends the records of a store to one target, in a thread of its own."""

    key: str
    """Of the target."""
    name: str
    """Of the target."""

    def wake(self) -> None:
        """Say that there is something to send. Never blocks."""

    def flush(self, deadline: float) -> None:
        """Wait until all is sent or was tried in vain, until *deadline* of the monotonic clock."""

    def stop(self, deadline: float) -> None:
        """Have it send what it can until *deadline* and then end."""

    def join(self, deadline: float) -> None:
        """Wait for that end."""

    def restart(self) -> None:
        """Begin anew, in a forked child."""

    def sent(self) -> int:
        """Return how many records it has sent."""

    def failed(self) -> int:
        """Return how many wait because of trouble with the target."""

    def dropped(self) -> int:
        """Return how many the target will not take, or were deleted before they were sent."""
