"""An HTTP client with one face for httpx and aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pocketflow_async.resources import http_address
from pocketflow_async.resources.http_body import NOTHING, body
from pocketflow_async.resources.http_body import headers as merged
from pocketflow_async.resources.http_response import HttpCall, HttpResponse, Patience
from pocketflow_async.resources.http_wire import Reply, Request, Wire, place
from pocketflow_async.resources.outgoing import Outgoing, with_headers, with_trace
from pocketflow_async.resources.uses import using

_OWN: Final = object()


class HttpClient:
    """Sends requests; made by `HttpClientFactory`, and used on the event loop it was made on.

    Each request is a step of kind `resource`, if anybody watches. A connection that fails is an
    `HttpConnectionError`, which is a `ConnectionError` and the back end's own error too.

    Args:
        wire: The back end.
        name: What it is called in traces.
        base_url: What addresses begin with; credentials in it are sent as basic authorization.
        headers: Sent with every request.
        timeout: Seconds that a request may take, its body included; None: any time. Or the back
            end's own kind of timeout.
        follow_redirects: Whether redirects are followed.
        outgoing: Adds the headers that name the trace; None: none are added.

    Attributes:
        name: What it is called in traces.
        base_url: What addresses begin with, without credentials.
        raw: The back end's own client.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        name: str = "http",
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Any = 30.0,
        follow_redirects: bool = True,
        outgoing: Outgoing | None = with_trace,
    ) -> None:
        base = http_address.base(base_url)
        credentials = {"Authorization": base.authorization} if base.authorization else {}
        self.name = name
        self.base_url = base.url
        self.raw = wire.raw
        self._wire = wire
        self._headers = merged(credentials, headers or {}, None)
        self._timeout = timeout
        self._follow = follow_redirects
        self._outgoing = outgoing

    def __repr__(self) -> str:
        return f"<HttpClient {self.name} at {self.base_url or 'any server'}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def is_closed(self) -> bool:
        """Whether it can send nothing any more."""
        return self._wire.is_closed

    def get(self, url: str, **options: Any) -> HttpCall:
        """Send a GET; see `request`."""
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> HttpCall:
        """Send a POST; see `request`."""
        return self.request("POST", url, **options)

    def put(self, url: str, **options: Any) -> HttpCall:
        """Send a PUT; see `request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str, **options: Any) -> HttpCall:
        """Send a PATCH; see `request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> HttpCall:
        """Send a DELETE; see `request`."""
        return self.request("DELETE", url, **options)

    def head(self, url: str, **options: Any) -> HttpCall:
        """Send a HEAD; see `request`."""
        return self.request("HEAD", url, **options)

    def options(self, url: str, **options: Any) -> HttpCall:
        """Send an OPTIONS; see `request`."""
        return self.request("OPTIONS", url, **options)

    def request(
        self,
        method: str,
        url: str,
        *,
        params: http_address.Params = None,
        json: Any = NOTHING,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: Any = _OWN,
        follow_redirects: bool | None = None,
        **options: Any,
    ) -> HttpCall:
        """Return a call that sends a request when it is awaited or entered with `async with`.

        When it is cancelled, its connection is closed; the others stay.

        Args:
            method: Such as "GET".
            url: What comes after the base. Or a whole address; the client's own headers go there
                as well.
            params: What is asked; see `http_address.Params`.
            json: Sent as JSON; also None.
            data: A dict is sent as a form; bytes, a text or an async iterator as it is.
            headers: Added to the client's own, in place of those of the same name.
            timeout: In place of the client's own.
            follow_redirects: In place of the client's own.
            **options: What the back end takes besides, such as `auth`, `cookies` or `files`.

        Raises:
            TypeError: Both *json* and *data* are given.
            ValueError: The address is not whole and there is no base, or a timeout is not above 0.
        """
        wait = self._timeout if timeout is _OWN else timeout
        sent = body(json, data, with_files="files" in options)
        if sent.rest is not None:
            options["data"] = sent.rest
        request = Request(
            method.upper(),
            http_address.address(self.base_url, str(url), params),
            merged(self._headers, headers or {}, sent.kind),
            sent.content,
            self._follow if follow_redirects is None else follow_redirects,
            None if isinstance(wait, (int, float)) else wait,
            options,
        )
        return HttpCall(partial(self._perform, request, seconds(wait)))

    async def _perform(
        self, request: Request, allowed: float | None, whole: list[bool]
    ) -> HttpResponse:
        host, port = place(request.url)
        facts = {
            "http.request.method": request.method,
            "server.address": host,
            "server.port": port,
            "url.path": urlsplit(request.url).path or "/",
        }
        until = None if allowed is None else asyncio.get_running_loop().time() + allowed
        patience = Patience(allowed, until, request.method, request.url, self._wire)
        with using(self.name, request.method.lower(), None, **facts) as told:
            # Inside the step, so that what is called becomes a part of this very request.
            sent = with_headers(self._outgoing, request.headers)
            request = replace(request, headers=sent)
            reply: Reply = await patience.of(self._wire.send(request))
            if told is not None:
                told["http.response.status_code"] = reply.status
            response = HttpResponse(request.method, reply, self._wire, patience)
            if whole[0]:
                await _read(response)
        return response

    async def aclose(self) -> None:
        """Close all connections; requests at work fail. May be done again."""
        await self._wire.close()

    close = aclose

    def terminate(self) -> None:
        """Cut all connections, when the event loop that they belong to is closed."""
        self._wire.abandon()


async def _read(response: HttpResponse) -> None:
    try:
        await response.read()
    finally:  # a connection whose body was read is free again; any other is closed
        await response.aclose()


def seconds(timeout: Any) -> float | None:
    """Return the seconds that *timeout* says; None: none, or it is a back end's own kind.

    Raises:
        ValueError: They are not above zero.
    """
    if not isinstance(timeout, (int, float)):
        return None
    if not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, not {timeout!r}")
    return float(timeout)
