"""Which errors may be gone at the next try, of whatever library they are."""

from __future__ import annotations

import asyncio
import errno
import importlib
import socket
import ssl
import subprocess
import sys

import pytest

from pocketflow_async.resilience import (
    BulkheadFull,
    CallTimeoutError,
    CircuitBreakerOpen,
    RateLimitExceeded,
    Retry,
    is_transient,
)
from tracing.testing import FakeClock


def made(kind, *args):
    """Return an error of a class by its full name, past whatever its own making asks for."""
    module, _, name = kind.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    new = OSError.__new__ if issubclass(cls, OSError) else Exception.__new__
    error = new(cls)
    error.args = args
    return error


GONE_AT_THE_NEXT_TRY = [
    "aiohttp.ClientConnectorError",
    "aiohttp.ClientOSError",
    "aiohttp.ClientPayloadError",
    "aiohttp.ServerDisconnectedError",
    "aiohttp.ServerTimeoutError",
    "aiormq.exceptions.AMQPConnectionError",
    "aiormq.exceptions.ChannelInvalidStateError",
    "aiormq.exceptions.ConnectionClosed",
    "asyncpg.CannotConnectNowError",
    "asyncpg.ConnectionDoesNotExistError",
    "asyncpg.TooManyConnectionsError",
    "asyncpg.exceptions.AdminShutdownError",
    "httpcore.ConnectError",
    "httpcore.ReadTimeout",
    "httpx.ConnectError",
    "httpx.PoolTimeout",
    "httpx.ReadError",
    "httpx.ReadTimeout",
    "httpx.RemoteProtocolError",
    "nats.errors.ConnectionClosedError",
    "nats.errors.NoServersError",
    "nats.errors.StaleConnectionError",
    "nats.errors.TimeoutError",
    "redis.exceptions.BusyLoadingError",
    "redis.exceptions.ConnectionError",
    "redis.exceptions.TimeoutError",
    "requests.exceptions.ConnectTimeout",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.ReadTimeout",
    "urllib3.exceptions.NewConnectionError",
    "urllib3.exceptions.ProtocolError",
    "urllib3.exceptions.ReadTimeoutError",
]


@pytest.mark.parametrize("kind", GONE_AT_THE_NEXT_TRY)
def test_lost_connections_and_timeouts_of_libraries(kind):
    """They are known by their names, which are seldom classes of the builtin ones."""
    assert is_transient(made(kind))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        CallTimeoutError(1.0),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        OSError(
            "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), [Errno 111]"
        ),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    ],
    ids=repr,
)
def test_lost_connections_of_python_itself(error):
    """Refused, reset, out of time, out of reach; also several at once, as asyncio tells them."""
    assert is_transient(error)


@pytest.mark.parametrize("code", [1040, 1053, 2002, 2003, 2006, 2013])
def test_mysql_tells_lost_connections_by_numbers(code):
    """The class is the same for a lock that took too long."""
    assert is_transient(made("pymysql.err.OperationalError", code, "x"))
    assert is_transient(made("aiomysql.OperationalError", code, "x"))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        PermissionError(),
        FileNotFoundError(),
        OSError(errno.ENOSPC, "No space left"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        BulkheadFull("x", 1, 0),
        CircuitBreakerOpen("x", 5),
        RateLimitExceeded("x", 1.0),
        made("asyncpg.UniqueViolationError"),
        made("asyncpg.InvalidPasswordError"),
        made("httpx.UnsupportedProtocol"),
        made("httpx.InvalidURL"),
        made("nats.errors.AuthorizationError"),
        made("pymysql.err.OperationalError", 1045, "Access denied"),
        made("pymysql.err.OperationalError"),
        made("pymysql.err.IntegrityError", 1062, "Duplicate"),
        made("redis.exceptions.ResponseError"),
        made("requests.exceptions.InvalidURL"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_what_would_fail_again(error):
    """Mistakes, refusals of policies, and what a server says that is well."""
    assert not is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        made("aiohttp.ClientConnectorCertificateError"),
        made("aiormq.exceptions.ProbableAuthenticationError"),
        made("aiormq.exceptions.AuthenticationError"),
        made("redis.exceptions.AuthenticationError"),
        made("redis.exceptions.AuthorizationError"),
        made("requests.exceptions.SSLError"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_a_wrong_password_or_certificate_is_no_lost_connection(error):
    """Although libraries say so; also where it is the cause of another error."""
    lost = ConnectionError("no connection")
    lost.__cause__ = error

    assert not is_transient(error)
    assert not is_transient(lost)


def test_a_certificate_that_httpx_does_not_trust():
    """It is inside the cause of a `ConnectError`, whose own cause httpcore drops."""
    error = made("httpx.ConnectError")
    error.__cause__ = made("httpcore.ConnectError", ssl.SSLCertVerificationError())

    assert not is_transient(error)


def test_causes_in_a_circle_come_to_an_end():
    """Nobody should make such, and nobody hangs by it."""
    error = ConnectionError()
    error.__cause__ = error

    assert is_transient(error)


@pytest.mark.parametrize(
    ("status", "is_so"),
    [*((code, True) for code in (408, 425, 429, 502, 503, 504)), (404, False), (500, False)],
)
def test_statuses_of_http(status, is_so):
    """On the error or on its response, by both names that they go by."""

    class Response:
        status_code = status

    own, of_response = Exception("x"), Exception("x")
    own.status, of_response.response = status, Response()

    assert is_transient(own) is is_so
    assert is_transient(of_response) is is_so


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit()])
def test_who_wants_an_end_gets_it(error):
    """These are no errors, whatever their cause."""
    error.__cause__ = ConnectionError()

    assert not is_transient(error)


def test_retry_takes_it_as_it_is():
    """`Retry(on=is_transient)` tries again what is lost, and nothing else."""
    clock, calls = FakeClock(), []

    async def call():
        calls.append(None)
        raise ConnectionResetError if len(calls) == 1 else ValueError

    with pytest.raises(ValueError):
        clock.run(Retry(5, on=is_transient, clock=clock).acall(call))
    assert len(calls) == 2


def test_it_imports_no_library():
    """It goes by names."""
    program = (
        "import sys\n"
        "from pocketflow_async.resilience import is_transient\n"
        "assert is_transient(ConnectionError()) and not is_transient(ValueError())\n"
        "assert not {'redis', 'httpx', 'aiohttp', 'asyncpg'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
