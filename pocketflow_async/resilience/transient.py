"""Which errors may be gone at the next try, of whatever library. Pure; imports none of them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any, Final

_CONNECTIONS: Final = {
    "aiohttp": "ClientConnectionError ClientPayloadError",
    "aiormq": "AMQPConnectionError ChannelInvalidStateError",
    "asyncpg": (
        "PostgresConnectionError CannotConnectNowError TooManyConnectionsError "
        "AdminShutdownError CrashShutdownError"
    ),
    "botocore": "ConnectionError HTTPClientError",
    "httpcore": "NetworkError TimeoutException RemoteProtocolError ProxyError",
    "httpx": "NetworkError TimeoutException RemoteProtocolError ProxyError",
    "nats": "TimeoutError ConnectionClosedError NoServersError StaleConnectionError",
    "openai": "APIConnectionError",
    "anthropic": "APIConnectionError",
    "redis": "ConnectionError TimeoutError",
    "requests": "ConnectionError Timeout ChunkedEncodingError",
    "urllib3": "TimeoutError NewConnectionError ProtocolError ProxyError",
    "websockets": "ConnectionClosedError",
}
"""By the first part of the module: the libraries' own words for a lost connection or a timeout,
which are seldom the builtin classes of these names."""

_FOREVER: Final = {
    "aiohttp": "ClientConnectorCertificateError",
    "aiormq": "AuthenticationError ProbableAuthenticationError IncompatibleProtocolError",
    "redis": "AuthenticationError AuthorizationError",
    "requests": "SSLError",
    "ssl": "SSLCertVerificationError",
}
"""What they count among those, and what no further try changes."""


def _pairs(table: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((library, name) for library in table for name in table[library].split())


_LOST: Final = _pairs(_CONNECTIONS)
_LASTING: Final = _pairs(_FOREVER)

_STATUSES: Final = frozenset({408, 425, 429, 502, 503, 504})
_ERRNOS: Final = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EHOSTDOWN}
)
_MYSQL: Final = frozenset({1040, 1053, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2055})
"""Too many connections, shutdown, network, killed, and what the client says of the server."""

_SEVERAL: Final = "Multiple exceptions: "
"""How asyncio begins, when no address of a host answers and each fails in its own words."""

_DEEPEST: Final = 10


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed if it is made again: for `Retry(on=is_transient)`.

    So it is with a `ConnectionError` or `TimeoutError`, an unreachable network, what libraries for
    HTTP, Redis, PostgreSQL, MySQL and queues raise in their place, and HTTP's statuses 408, 425,
    429, 502, 503 and 504. It is not so when a wrong password or certificate is behind it, nor with
    what other policies refuse, such as `CircuitBreakerOpen`.
    """
    if not isinstance(error, Exception):
        return False
    if any(not _LASTING.isdisjoint(_kinds(one)) for one in _with_causes(error)):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    kinds = set(_kinds(error))
    if not _LOST.isdisjoint(kinds) or _status(error) in _STATUSES:
        return True
    if ("pymysql", "OperationalError") in kinds:
        return error.args[:1] != () and error.args[0] in _MYSQL
    return isinstance(error, OSError) and _is_out_of_reach(error)


def _kinds(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield library and name of each class that *error* is of."""
    for kind in type(error).__mro__:
        yield kind.__module__.partition(".")[0], kind.__name__


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_DEEPEST):
        if one is None:
            return
        yield one
        inner = one.args[0] if one.args else None  # httpcore drops the cause, and keeps it there
        one = one.__cause__ or (inner if isinstance(inner, BaseException) else None)


def _is_out_of_reach(error: OSError) -> bool:
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return error.errno in _ERRNOS or (error.errno is None and str(error).startswith(_SEVERAL))


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error tells of, by any of the names it goes by."""
    for owner in (error, getattr(error, "response", None)):
        for name in ("status_code", "status"):
            status: Any = getattr(owner, name, None)
            if isinstance(status, int):
                return status
    return None
