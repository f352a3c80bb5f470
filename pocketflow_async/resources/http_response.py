"""What an HTTP request gives: a call that is awaited or entered, and a response."""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, cast
from urllib.parse import urlsplit

from pocketflow_async.resources.http_errors import (
    HttpConnectionError,
    HttpStatusError,
    HttpTimeoutError,
    is_untrusted,
    kin,
    reason,
)
from pocketflow_async.resources.http_wire import Reply, Wire, place

_CHARSET: Final = re.compile(r"charset=[\"']?([\w.:+-]+)", re.ASCII | re.IGNORECASE)


class Patience(NamedTuple):
    """How long one request may take, its body included; and what is said when it comes to nothing.

    Attributes:
        seconds: What it has; None: any time.
        until: When that is over, by the clock of the event loop.
        method: Of the request.
        url: Where it goes first.
        wire: What it goes through.
    """

    seconds: float | None
    until: float | None
    method: str
    url: str
    wire: Wire

    async def of(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await *work* as long as there is time.

        Raises:
            HttpTimeoutError: It is over.
            HttpConnectionError: There is no connection, or none any more.
        """
        limit = asyncio.timeout_at(self.until)
        try:
            if self.until is None:
                return await work
            async with limit:
                return await work
        except self.wire.lost as error:
            if isinstance(error, TimeoutError) or is_untrusted(error):
                raise
            raise self._lost(error) from error
        except TimeoutError as error:
            if limit.expired() and self.seconds is not None:
                late = kin(HttpTimeoutError, self.wire.timeout_error)
                raise late(self._what(), self.seconds) from error
            raise

    def _what(self) -> str:
        path = urlsplit(self.url).path or "/"
        return f"{self.method} {path} at {':'.join(map(str, place(self.url)))}"

    def _lost(self, error: Exception) -> HttpConnectionError:
        wire = self.wire
        host, port = wire.place(error) or place(self.url)
        had_none = isinstance(error, wire.unconnected)
        cls: Any = kin(HttpConnectionError, cast("Any", type(error)))
        made: HttpConnectionError = cls(self._what(), host, port, had_none, reason(error))
        made.__dict__.update(vars(error) | vars(made))
        return made


class HttpResponse:
    """A response, whichever back end it came through.

    One that was awaited has its body already; one that was entered with `async with` reads it when
    it is asked for, and lets go of its connection at the end of the block.

    Attributes:
        method: Of the request.
        raw: The back end's own response.
    """

    def __init__(self, method: str, reply: Reply, wire: Wire, patience: Patience) -> None:
        self.method = method
        self.raw = reply.raw
        self._reply = reply
        self._wire = wire
        self._patience = patience
        self._body: bytes | None = None

    def __repr__(self) -> str:
        return f"<HttpResponse {self.method} {self.path} at {self.host}: {self.status}>"

    @property
    def status(self) -> int:
        """The status, such as 200."""
        return self._reply.status

    @property
    def status_code(self) -> int:
        """The status, by its other name."""
        return self._reply.status

    @property
    def reason(self) -> str:
        """What the server says about the status."""
        return self._reply.reason

    @property
    def ok(self) -> bool:
        """Whether the status is under 400."""
        return self._reply.status < 400

    @property
    def headers(self) -> Any:
        """The headers, by names in any case."""
        return self._reply.headers

    @property
    def url(self) -> str:
        """Where it came from, after all redirects; may hold secrets."""
        return self._reply.url

    @property
    def path(self) -> str:
        """The path of its address."""
        return urlsplit(self._reply.url).path or "/"

    @property
    def host(self) -> str:
        """The server of its address."""
        return urlsplit(self._reply.url).hostname or ""

    @property
    def place(self) -> str:
        """The server of its address, with the port."""
        host, port = place(self._reply.url)
        return f"{host}:{port}"

    async def read(self) -> bytes:
        """Return the body.

        Raises:
            HttpTimeoutError: The request has no time left.
            HttpConnectionError: The connection is cut.
        """
        if self._body is None:
            body: bytes = await self._patience.of(self._reply.read())
            self._body = body
        return self._body

    async def text(self, encoding: str | None = None, errors: str = "replace") -> str:
        """Return the body as text.

        Args:
            encoding: How it is written; what the server says, or UTF-8, when left out.
            errors: What is done with what cannot be read, as in `bytes.decode`.

        Raises:
            LookupError: There is no such encoding.
        """
        return (await self.read()).decode(encoding or self._charset(), errors)

    async def json(self, *, content_type: object = None) -> Any:
        """Return what the body says as JSON.

        Args:
            content_type: Taken and not looked at, for code that was written for aiohttp.

        Raises:
            ValueError: It is no JSON.
        """
        return json.loads(await self.read())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces, as they come; it is not kept.

        Raises:
            HttpTimeoutError: The request has no time left.
            HttpConnectionError: The connection is cut.
        """
        if self._body is not None:
            yield self._body
            return
        pieces = aiter(self._reply.chunks())
        while True:
            piece: bytes | None = await self._patience.of(_next(pieces))
            if piece is None:
                return
            yield piece

    def raise_for_status(self) -> HttpResponse:
        """Return the response, unless its status is 400 or more.

        Raises:
            HttpStatusError: It is; also the back end's own kind of error.
        """
        if not self.ok:
            raise kin(HttpStatusError, self._wire.status_error)(self)
        return self

    async def aclose(self) -> None:
        """Let go of the connection, whatever of the body was not read."""
        await self._reply.close()

    close = release = aclose

    def _charset(self) -> str:
        found = _CHARSET.search(self.headers.get("content-type") or "")
        try:
            return codecs.lookup(found[1]).name if found else "utf-8"
        except LookupError:
            return "utf-8"


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)


class HttpCall(Coroutine[Any, Any, HttpResponse]):
    """A request that is sent when it is awaited, or entered with `async with`; once.

    `response = await client.get("/x")` reads the whole body and needs no closing.
    `async with client.get("/x") as response:` reads it when it is asked for.

    Args:
        begin: Starts the request; it is told whether the body is to be read.
    """

    __slots__ = ("_response", "_whole", "_work")

    def __init__(self, begin: Callable[[list[bool]], Coroutine[Any, Any, HttpResponse]]) -> None:
        self._whole = [True]  # the work must not know the call: it would keep it alive
        self._work = begin(self._whole)
        self._response: HttpResponse | None = None

    def __await__(self) -> Any:
        return self._work.__await__()

    def send(self, value: Any) -> Any:
        """Go on, as a coroutine does."""
        return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an error, as a coroutine does."""
        return self._work.throw(*error)

    def close(self) -> None:
        """Give up, as a coroutine does."""
        self._work.close()

    async def __aenter__(self) -> HttpResponse:
        self._whole[0] = False
        self._response = await self._work
        return self._response

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    def __copy__(self) -> Self:
        raise TypeError("a request can be sent once: call the client again")
