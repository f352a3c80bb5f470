"""HTTP through aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from pocketflow_async.needing import need
from pocketflow_async.resources.http_wire import Request, Settings
from pocketflow_async.resources.severing import sever

_CHUNK: Final = 65536


class AiohttpReply:
    """A response of aiohttp."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    @property
    def status(self) -> int:
        """The status."""
        return int(self.raw.status)

    @property
    def reason(self) -> str:
        """What the server says about it."""
        return self.raw.reason or ""

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
        body: bytes = await self.raw.read()
        return body

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body in pieces."""
        pieces: AsyncIterator[bytes] = self.raw.content.iter_chunked(_CHUNK)
        return pieces

    async def close(self) -> None:
        """Let go of the connection; one whose body was not read to its end is closed."""
        self.raw.release()


class AiohttpWire:
    """An `aiohttp.ClientSession`."""

    def __init__(self, aiohttp: Any, raw: Any) -> None:
        self.raw = raw
        self._no_timeout = aiohttp.ClientTimeout(total=None)
        self._response_error: type[Exception] = aiohttp.ClientResponseError
        self.status_error: Any = aiohttp.ClientResponseError
        self.timeout_error: Any = aiohttp.ServerTimeoutError
        self.lost: tuple[type[Exception], ...] = (
            aiohttp.ClientConnectionError,
            aiohttp.ClientPayloadError,
        )
        self.unconnected: Any = aiohttp.ClientConnectorError

    @classmethod
    async def open(cls, settings: Settings) -> AiohttpWire:
        """Return a client."""
        aiohttp = await asyncio.to_thread(need, "aiohttp", "resources")
        options = {"trust_env": True, **settings.options}
        if "connector" not in options:
            options["connector"] = aiohttp.TCPConnector(
                limit=settings.connections, ssl=settings.verify
            )
        return cls(aiohttp, aiohttp.ClientSession(**options))

    @property
    def is_closed(self) -> bool:
        """Whether it can send nothing any more."""
        return bool(self.raw.closed)

    def place(self, error: Exception) -> tuple[str, int] | None:
        """Return which host and port *error* is about; None: it does not say."""
        host, port = getattr(error, "host", None), getattr(error, "port", None)
        return (host, port) if host and port else None

    async def send(self, request: Request) -> AiohttpReply:
        """Send *request* and return when the head of the answer is there."""
        given = {"data": request.content} if request.content is not None else {}
        try:
            return AiohttpReply(
                await self.raw.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    allow_redirects=request.follow,
                    timeout=self._no_timeout if request.timeout is None else request.timeout,
                    **given,
                    **request.options,
                )
            )
        except self._response_error as error:
            _clean(error)
            raise

    async def close(self) -> None:
        """Close all connections."""
        await self.raw.close()

    def abandon(self) -> None:
        """Cut all connections, as far as they can be found; their event loop is closed."""
        connector = self.raw.connector
        idle = getattr(connector, "_conns", {}).values()
        for handler in [
            *(kept[0] for some in idle for kept in some),
            *getattr(connector, "_acquired", ()),
        ]:
            sever(getattr(handler, "transport", None))
        with suppress(Exception):  # else both say, when collected, that they were not closed
            self.raw.detach()
            connector._close()


def _clean(error: Any) -> None:
    """Take the headers of the request out of *error*, whose repr shows them."""
    info = error.request_info
    if info is not None:
        error.request_info = info._replace(headers={})
        error.args = (error.request_info, *error.args[1:])
