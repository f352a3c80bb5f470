"""What a back end of the HTTP client does: it sends one request, and reads what comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: In capitals.
        url: The whole address.
        headers: All that are sent for it.
        content: Its body; None: there is none.
        follow: Whether redirects are followed.
        timeout: The back end's own kind of timeout; None: none of its own.
        options: What else the back end takes.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    content: Any = None
    follow: bool = True
    timeout: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client is made of.

    Attributes:
        verify: Whether certificates are checked; or an `ssl.SSLContext`.
        connections: Most connections at a time.
        options: What the back end's own client takes.
    """

    verify: Any = True
    connections: int = 100
    options: Mapping[str, Any] = field(default_factory=dict)


class Reply(Protocol):
    """What has come back: the head is there, the body can be read once."""

    @property
    def status(self) -> int:
        """The status."""

    @property
    def reason(self) -> str:
        """What the server says about it."""

    @property
    def headers(self) -> Any:
        """The headers, by names in any case."""

    @property
    def url(self) -> str:
        """The address that it came from, after all redirects."""

    @property
    def raw(self) -> Any:
        """The back end's own object."""

    async def read(self) -> bytes:
        """Return the body."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body in pieces."""

    async def close(self) -> None:
        """Let go of the connection."""


class Wire(Protocol):
    """A back end."""

    @property
    def raw(self) -> Any:
        """The back end's own client."""

    @property
    def is_closed(self) -> bool:
        """Whether it can send nothing any more."""

    @property
    def status_error(self) -> Any:
        """What it raises itself for a bad status."""

    @property
    def timeout_error(self) -> Any:
        """What it raises itself when time is up."""

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """What it raises itself when there is no connection, or none any more; also other errors:
        timeouts, and certificates that are not trusted."""  # noqa: D205, D209 (one sentence)

    @property
    def unconnected(self) -> Any:
        """Those of them that say that there was none at all."""

    def place(self, error: Exception) -> tuple[str, int] | None:
        """Return which host and port one of them is about; None: it does not say."""

    async def send(self, request: Request) -> Reply:
        """Send *request* and return when the head of the answer is there."""

    async def close(self) -> None:
        """Close all connections."""

    def abandon(self) -> None:
        """Cut all connections, as far as they can be found; their event loop is closed."""


def place(url: str) -> tuple[str, int]:
    """Return host and port of an address."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
