"""HTTP through httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pocketflow_async.needing import need
from pocketflow_async.resources.http_reclaim import MARK, connections, reclaim, transport_of
from pocketflow_async.resources.http_wire import Request, Settings, place
from pocketflow_async.resources.severing import sever


class HttpxReply:
    """A response of httpx."""

    def __init__(self, raw: Any, client: Any, mark: object) -> None:
        self.raw = raw
        self._client = client
        self._mark = mark

    @property
    def status(self) -> int:
        """The status."""
        return int(self.raw.status_code)

    @property
    def reason(self) -> str:
        """What the server says about it."""
        return str(self.raw.reason_phrase)

    @property
    def headers(self) -> Any:
        """The headers."""
        return self.raw.headers

    @property
    def url(self) -> str:
        """Where it came from."""
        return str(self.raw.url)

    async def read(self) -> bytes:
        """Return the body."""
        body: bytes = await self.raw.aread()
        return body

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body in pieces."""
        pieces: AsyncIterator[bytes] = self.raw.aiter_bytes()
        return pieces

    async def close(self) -> None:
        """Let go of the connection."""
        try:
            await self.raw.aclose()
        finally:
            reclaim(self._client, self._mark)


class HttpxWire:
    """An `httpx.AsyncClient`."""

    def __init__(self, httpx: Any, raw: Any) -> None:
        self.raw = raw
        self._default_auth = httpx.USE_CLIENT_DEFAULT
        self.status_error: Any = httpx.HTTPStatusError
        self.timeout_error: Any = httpx.ReadTimeout
        self.lost: tuple[type[Exception], ...] = (
            httpx.NetworkError,
            httpx.RemoteProtocolError,
            httpx.ProxyError,
        )
        self.unconnected: Any = (httpx.ConnectError, httpx.ProxyError)

    @classmethod
    async def open(cls, settings: Settings) -> HttpxWire:
        """Return a client; the certificates are read in a thread, since that takes a while."""
        httpx = await asyncio.to_thread(need, "httpx", "workflow")
        options = dict(settings.options)
        trusted = options.get("trust_env", True)
        limits = {
            "max_connections": settings.connections,
            "max_keepalive_connections": settings.connections,
        }

        def make() -> Any:
            given = {
                "timeout": None,
                "limits": httpx.Limits(**limits),
                "verify": httpx.create_ssl_context(verify=settings.verify, trust_env=trusted),
                **options,
            }
            return httpx.AsyncClient(**given)

        return cls(httpx, await asyncio.to_thread(make))

    @property
    def is_closed(self) -> bool:
        """Whether it can send nothing any more."""
        return bool(self.raw.is_closed)

    def place(self, error: Exception) -> tuple[str, int] | None:
        """Return which host and port *error* is about; None: it does not say."""
        request = getattr(error, "_request", None)
        return None if request is None else place(str(request.url))

    async def send(self, request: Request) -> HttpxReply:
        """Send *request* and return when the head of the answer is there."""
        options, mark = dict(request.options), object()
        options["extensions"] = {**options.get("extensions", {}), MARK: mark}
        auth = options.pop("auth", self._default_auth)
        built = self.raw.build_request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.content,
            timeout=request.timeout,
            **options,
        )
        try:
            raw = await self.raw.send(
                built, stream=True, auth=auth, follow_redirects=request.follow
            )
        except BaseException:
            reclaim(self.raw, mark)
            raise
        return HttpxReply(raw, self.raw, mark)

    async def close(self) -> None:
        """Close all connections."""
        await self.raw.aclose()

    def abandon(self) -> None:
        """Cut all connections, as far as they can be found; their event loop is closed."""
        for connection in connections(self.raw):
            sever(transport_of(connection))
