"""Takes back what cancelled requests leave behind in the pool of httpcore.

A task that is cancelled while httpcore waits for a connection, or lets go of one, leaves a place
in the pool taken for ever (encode/httpcore#1093, open as of 1.0.9): a few of those, and every later
request waits for its timeout. So whoever sends a request says when it is over, and what the pool
still has of it then is thrown out. Nothing here waits, so nothing can come in between. Where the
pool is not as it is known, nothing is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

MARK: Final = "pocketflow_request"
"""The extension of a request that tells it from others; redirects keep it."""


def reclaim(client: Any, mark: object) -> None:
    """Throw out what the pools of an `httpx.AsyncClient` have of the request with *mark*."""
    for pool in _pools(client):
        try:
            _reclaim(pool, mark)
        except (AttributeError, TypeError, ValueError):  # another httpcore, with other parts
            return


def abort(connection: Any) -> None:
    """Cut a connection of httpcore at once."""
    transport = transport_of(connection)
    if transport is not None:
        transport.abort()


def transport_of(connection: Any) -> Any:
    """Return what asyncio has for a connection of httpcore; None: not found."""
    stream = getattr(getattr(connection, "_connection", None), "_network_stream", None)
    stream = getattr(stream, "_stream", None)
    stream = getattr(stream, "transport_stream", stream)  # what is under TLS
    return getattr(stream, "_transport", None)


def connections(client: Any) -> Iterator[Any]:
    """Yield all connections of an `httpx.AsyncClient`, as far as they can be found."""
    for pool in _pools(client):
        yield from list(getattr(pool, "connections", ()))


def _pools(client: Any) -> Iterator[Any]:
    mounted = getattr(client, "_mounts", {}).values()
    for transport in (getattr(client, "_transport", None), *mounted):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            yield pool


def _reclaim(pool: Any, mark: object) -> None:
    left = [one for one in pool._requests if one.request.extensions.get(MARK) is mark]
    for one in left:
        pool._requests.remove(one)
    wanted = {id(one.connection) for one in pool._requests}
    for connection in list(pool._connections):
        if not (id(connection) in wanted or connection.is_idle() or connection.is_closed()):
            pool._connections.remove(connection)
            abort(connection)
            left.append(connection)
    if left:  # there is room for those that wait
        for connection in pool._assign_requests_to_connections():
            abort(connection)
