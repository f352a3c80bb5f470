"""What the HTTP client raises itself; each is also the back end's own kind of error.

HttpError
├── HttpConnectionError (ConnectionError)  there is no connection to the server, or none any more
├── HttpStatusError                        a response says that the request failed
└── HttpTimeoutError (TimeoutError)        a request took longer than it may
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from pocketflow_async.resources.errors import in_words

if TYPE_CHECKING:
    from pocketflow_async.resources.http_response import HttpResponse


class HttpError(Exception):
    """Base of what the HTTP client raises itself."""

    def __init__(self, message: str) -> None:
        Exception.__init__(self, message)

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.args[0]!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the message alone; a response belongs to its event loop."""
        kind = next(one for one in _KINDS if isinstance(self, one))
        kept = ("status", "retry_after", "seconds", "_place")
        facts = {name: value for name, value in self.__dict__.items() if name in kept}
        return (_again, (kind, self.args[0], facts))


def _again(cls: type[HttpError], message: str, facts: dict[str, Any]) -> HttpError:
    error = cls.__new__(cls)
    error.args = (message,)
    error.__dict__.update({"response": None, **facts})
    return error


class HttpStatusError(HttpError):
    """Raised by `raise_for_status` when a response says that the request failed.

    It is also an `httpx.HTTPStatusError` or an `aiohttp.ClientResponseError`.

    Attributes:
        response: The response; None after a journey to another process.
        status: Its status, such as 429.
        retry_after: Seconds until it may be tried again, as the server says; None: it says nothing.
    """

    def __init__(self, response: HttpResponse) -> None:
        said = f"{response.status} {response.reason}".rstrip()
        super().__init__(f"{response.method} {response.path} at {response.place}: {said}")
        self.response = response
        self.status = response.status
        self.retry_after = retry_after(response.headers)

    @property
    def status_code(self) -> int:
        """The status, by its other name."""
        return self.status


class HttpTimeoutError(HttpError, TimeoutError):
    """Raised when a request took longer than it may.

    It is also an `httpx.TimeoutException` or an `aiohttp.ServerTimeoutError`.

    Attributes:
        seconds: What it had.
    """

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what} took longer than {seconds:g} s")
        self.seconds = seconds


class HttpConnectionError(HttpError, ConnectionError):
    """Raised when a server cannot be connected to, or the connection is lost in mid request.

    It is also the back end's own error, such as an `httpx.ConnectError` or an
    `aiohttp.ClientConnectorError`, which is its cause.

    Attributes:
        host: Which server, or proxy.
        port: Its port.
    """

    def __init__(self, what: str, host: str, port: int, had_none: bool, reason: str) -> None:
        trouble = "no connection to" if had_none else "lost the connection to"
        super().__init__(f"{what}: {trouble} {host}:{port}: {reason}")
        self._place = (host, port)

    # Properties, since errors of aiohttp have such of these names.

    @property
    def host(self) -> str:
        """Which server, or proxy."""
        return self._place[0]

    @property
    def port(self) -> int:
        """Its port."""
        return self._place[1]


_KINDS = (HttpConnectionError, HttpStatusError, HttpTimeoutError, HttpError)


def is_untrusted(error: BaseException) -> bool:
    """Return whether *error* comes of a certificate that is not trusted."""
    return any(isinstance(one, ssl.SSLCertVerificationError) for one in _with_causes(error))


def reason(error: BaseException) -> str:
    """Return why a connection failed: in the words of the system, if it has said so."""
    said = in_words(error)
    for one in _with_causes(error):
        if isinstance(one, OSError) and one.errno:  # below zero it is a name that is not known
            said = os.strerror(one.errno) if one.errno > 0 else str(one.strerror)
    return said


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(10):
        if isinstance(one, BaseExceptionGroup):  # one for each address that was tried
            one = one.exceptions[0]
        if one is None:
            return
        yield one
        inner = one.args[0] if one.args else None  # httpcore drops the cause, and keeps it there
        one = one.__cause__ or (inner if isinstance(inner, BaseException) else None)


@cache
def kin(ours: Any, theirs: Any) -> Any:
    """Return an error that is *ours*, with our words, and can be caught as *theirs* too."""
    return type(ours.__name__, (ours, theirs), {"__module__": __name__, "__doc__": ours.__doc__})


def retry_after(headers: Any) -> float | None:
    """Return the seconds that a `Retry-After` header says; None: there is none that can be read.

    A date is measured from the `Date` of the same response, so the clocks need not agree.
    """
    said = headers.get("retry-after")
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        seconds = _until(said, headers.get("date"))
    return seconds if 0 <= seconds < float("inf") else None


def _until(moment: str, now: str | None) -> float:
    try:
        end, start = parsedate_to_datetime(moment), parsedate_to_datetime(now or "")
        return max(0.0, (end - start).total_seconds())
    except (ValueError, TypeError):
        return -1.0
