"""When a resource that cannot be made is tried again: decided here, by counts and times alone."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any, Final

from pocketflow_async.arguments import seconds

THRESHOLD: Final = 5
"""After how many failures in a row a resource is not tried again at once."""

WAIT: Final = 30.0
"""Seconds until it is tried again, once."""


class CreationBreaker:
    """Puts off what has failed too often in a row; after a while one attempt is let through.

    All event loops and threads share it.

    Args:
        threshold: How many failures in a row open it.
        wait: Seconds that it stays open.

    Raises:
        TypeError: The seconds are no number.
        ValueError: One of them is out of range.
    """

    def __init__(self, threshold: Any = THRESHOLD, wait: Any = WAIT) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, int) or threshold < 1:
            raise ValueError(f"circuit_breaker_threshold must be 1 or more, not {threshold!r:.80}")
        self.threshold: int = threshold
        self.wait: float = seconds("circuit_breaker_timeout", wait)
        self.failures = 0
        self.last_failure: datetime | None = None
        self.last_error: Exception | None = None
        self._opened_at: float | None = None
        self._is_probing = False
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """Return "closed", "open" or "half_open" (an attempt after a while is being made)."""
        if self._opened_at is None:
            return "closed"
        return "half_open" if self._is_probing else "open"

    def refuses(self, now: float) -> float | None:
        """Return the seconds to wait, or None: go on, and tell how it went.

        Args:
            now: The time, in seconds.
        """
        with self._lock:
            if self._opened_at is None:
                return None
            left = self._opened_at + self.wait - now
            if left > 0 or self._is_probing:
                return max(left, 0.0)
            self._is_probing = True
            return None

    def failed(self, now: float, error: Exception | None = None) -> None:
        """Note that an attempt has failed, and with what."""
        with self._lock:
            self.failures += 1
            self.last_error = error
            self.last_failure = datetime.now(UTC)
            self._is_probing = False
            if self.failures >= self.threshold:
                self._opened_at = now

    def succeeded(self) -> None:
        """Note that an attempt has succeeded: all is forgotten."""
        with self._lock:
            self.failures = 0
            self.last_failure = None
            self.last_error = None
            self._opened_at = None
            self._is_probing = False

    def gave_up(self) -> None:
        """Note that an attempt was cancelled, which says nothing: another may be made."""
        with self._lock:
            self._is_probing = False

    def facts(self) -> dict[str, Any]:
        """Return how it is, for metrics."""
        return {
            "failures": self.failures,
            "last_failure": self.last_failure,
            "state": self.state,
            "threshold": self.threshold,
            "timeout": self.wait,
        }
