"""Makes HTTP clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pocketflow_async.resources import http_address
from pocketflow_async.resources.factory import ResourceFactory, masked
from pocketflow_async.resources.http import HttpClient, seconds
from pocketflow_async.resources.http_aiohttp import AiohttpWire
from pocketflow_async.resources.http_httpx import HttpxWire
from pocketflow_async.resources.http_wire import Settings
from pocketflow_async.resources.outgoing import Outgoing, with_trace
from pocketflow_async.resources.signatures import check_options, parameters_of, taken_by
from pocketflow_async.resources.uses import name_here
from pocketflow_async.wording import a

_WIRES: Final[Mapping[str, type[HttpxWire] | type[AiohttpWire]]] = {
    "httpx": HttpxWire,
    "aiohttp": AiohttpWire,
}
_SIGNATURES: Final = {"httpx": ("httpx:AsyncClient",), "aiohttp": ("aiohttp:ClientSession",)}


class HttpClientFactory(ResourceFactory[HttpClient]):
    """Makes HTTP clients, with one face whatever is underneath.

    Args:
        backend: "httpx" (of the extra `workflow`) or "aiohttp" (of the extra `resources`).
        base_url: What addresses begin with. Credentials in it are sent as basic authorization.
        timeout: Seconds that a request may take in all, its body included; None: any time. Or
            `httpx.Timeout` or `aiohttp.ClientTimeout`, which then say all.
        headers: Sent with every request; never shown.
        outgoing: Takes the headers of a request and returns those that are sent. As it is left,
            they get `traceparent` and `tracestate` where the program is traced (see
            `outgoing.with_trace`). `tracing.outgoing` sends session and user along; None: nothing.
        follow_redirects: Whether redirects are followed. To another server goes no
            `Authorization`, but headers of other names do.
        verify: Whether certificates are checked; or an `ssl.SSLContext`.
        max_connections: Most connections at a time; further requests wait for one.
        **options: What `httpx.AsyncClient` or `aiohttp.ClientSession` take.

    Raises:
        ValueError: There is no such backend, or another argument cannot be.
        TypeError: An argument is of a wrong type, or the back end takes no such option.
    """

    def __init__(
        self,
        backend: str = "httpx",
        base_url: str | None = None,
        timeout: Any = 30,
        headers: Mapping[str, str] | None = None,
        *,
        outgoing: Outgoing | None = with_trace,
        follow_redirects: bool = True,
        verify: Any = True,
        max_connections: int = 100,
        **options: Any,
    ) -> None:
        if backend not in _WIRES:
            raise ValueError(
                f"Unsupported HTTP client backend: {backend}. There is: {', '.join(_WIRES)}"
            )
        if headers is not None and not isinstance(headers, Mapping):
            raise TypeError(f"headers must be a dict, not {a(type(headers).__name__)}")
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, not {max_connections!r}")
        http_address.base(base_url)
        seconds(timeout)
        check_options(
            f"HttpClientFactory({backend!r})",
            options,
            lambda: taken_by(*_SIGNATURES[backend]),
            parameters_of(HttpClientFactory),
        )
        self.backend = backend
        self._settings = Settings(verify, max_connections, options)
        self._client = {
            "base_url": base_url,
            "headers": dict(headers or {}),
            "timeout": timeout,
            "follow_redirects": follow_redirects,
            "outgoing": outgoing,
        }

    async def create(self) -> HttpClient:
        """Make a client; nothing is connected to by that.

        Raises:
            ImportError: The back end is not installed; says how it is.
        """
        name = name_here("http")
        wire = await _WIRES[self.backend].open(self._settings)
        return HttpClient(wire, name=name, **self._client)

    async def close(self, resource: HttpClient) -> None:
        """Close all connections of the client."""
        await resource.aclose()

    async def check(self, resource: HttpClient) -> bool:
        """Say whether the client can send: whether a server answers is not asked."""
        return not resource.is_closed

    def get_config(self) -> Mapping[str, Any]:
        """Return what clients are made of, without any value of a header."""
        shown = {name: self._client[name] for name in ("base_url", "timeout", "follow_redirects")}
        return masked(
            {
                "backend": self.backend,
                **shown,
                "headers": self._client["headers"] or None,
                "max_connections": self._settings.connections,
                **self._settings.options,
            }
        )
