"""The way to a target: what all protocols have in common, and the words for what goes wrong."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from tracing.errors import TracingError
from tracing.export import protobuf
from tracing.export.model import Answer, OutSpan, Target
from tracing.export.resource import own_version

SAID_MOST: Final = 300
"""Characters of what a server said, or of what went wrong, that are kept."""

_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]+")
_USERINFO: Final = re.compile(r"(?<=//)[^/\s?#]*@")
_SECRET_LEAST: Final = 6
"""Characters of a header's value that is looked for in messages; shorter ones hide nothing."""


class MissingExtra(TracingError):
    """A target needs a package that is not installed."""

    def __init__(self, extra: str, target: str) -> None:
        super().__init__(
            f"target {target!r} needs a package that is not installed. Install it with: "
            f"pip install 'pocketflow-async[{extra}]', or choose another protocol for the target."
        )
        self.extra = extra
        self.target = target


class Transport(Protocol):
    """A connection to one target, for one thread at a time."""

    def content(self, spans: Sequence[OutSpan], resource: Mapping[str, Any]) -> bytes:
        """Encode a request as the target wants it, not yet compressed."""

    def send(self, body: bytes, timeout: float) -> Answer:
        """Send one request and return what came of it, within *timeout* seconds; never raises."""

    def close(self) -> None:
        """Close the connection; the next request opens another."""


def connect(target: Target) -> Transport:
    """Return the way to *target*; nothing is sent or even connected yet.

    Args:
        target: Where to, and how.

    Raises:
        MissingExtra: If the protocol needs a package that is not installed.
        ValueError: If the protocol is not one that travels over a network.
    """
    if target.protocol == "grpc":
        try:
            from tracing.export.grpc import GrpcTransport  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise MissingExtra("grpc", target.name) from error
        return GrpcTransport(target)
    if target.protocol in ("http/protobuf", "http/json"):
        from tracing.export.http import HttpTransport  # noqa: PLC0415 (only who sends needs it)

        return HttpTransport(target)
    raise ValueError(f"there is no connection for the protocol {target.protocol!r}")


@cache
def agent() -> str:
    """Return how we name ourselves to servers."""
    return f"pocketflow-async/{own_version() or '0'}"


@contextmanager
def unobserved() -> Iterator[None]:
    """Keep OpenTelemetry's instrumentations from making spans of our requests, without end."""
    context: Any = sys.modules.get("opentelemetry.context")
    if context is None:  # nobody instruments anything
        yield
        return
    said = context.get_current()
    names = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
    for key in ("suppress_instrumentation", *(getattr(context, name, None) for name in names)):
        said = said if key is None else context.set_value(key, True, said)
    token = context.attach(said)
    try:
        yield
    finally:
        context.detach(token)


def shown(endpoint: str) -> str:
    """Return *endpoint* as it may stand in a message: without credentials and query."""
    return _USERINFO.sub("", endpoint).split("?")[0].split("#")[0]


def authority(endpoint: str) -> str:
    """Return the `host:port` of *endpoint*, as far as it says so."""
    return urlsplit(shown(endpoint)).netloc or shown(endpoint)


@dataclass(frozen=True, slots=True)
class Words:
    """How to speak of one target: in one line, and without its secrets."""

    target: Target

    def line(self, text: str) -> str:
        """Return *text* as one line in which no credentials of the target stand."""
        text = _USERINFO.sub("", text)
        for value in self.target.headers.values():
            for secret in (value, *value.split()):
                if len(secret) >= _SECRET_LEAST and secret != "Bearer":
                    text = text.replace(secret, "[redacted]")
        text = _SPACE.sub(" ", text).strip()
        return text if len(text) <= SAID_MOST else text[: SAID_MOST - 1] + "…"

    def late(self, timeout: float) -> Answer:
        """Say that there was no answer in time."""
        where = shown(self.target.endpoint)
        return Answer(None, self.line(f"no whole answer from {where} within {timeout:g} s"))

    def refused(self) -> str:
        """Say that nobody listens there."""
        where = shown(self.target.endpoint)
        return self.line(f"connection refused by {where}: is the server running, on this port?")

    def unknown(self) -> str:
        """Say that the name of the host has no address."""
        where = shown(self.target.endpoint)
        return self.line(f"no address found for the host of {where}: is its name right?")

    def distrusted(self, why: str) -> str:
        """Say that the server's certificate is not one that we trust."""
        where = shown(self.target.endpoint)
        return self.line(
            f"the certificate of {where} is not trusted: {why}. For one of your own, "
            "name its file in OTEL_EXPORTER_OTLP_CERTIFICATE"
        )

    def cut(self) -> str:
        """Say that the other side went away."""
        return self.failed("the connection was cut before the whole answer had come")

    def failed(self, what: str) -> str:
        """Say what else went wrong with the connection."""
        return self.line(f"{what} ({shown(self.target.endpoint)})")


def explain(error: BaseException, words: Words, timeout: float) -> Answer:
    """Say in words why a request has no answer.

    Args:
        error: What was raised.
        words: How to speak of the target.
        timeout: Seconds that the request had.
    """
    causes = list(_causes(error))
    for kind, say in _SAYINGS:
        for cause in causes:
            if isinstance(cause, kind):
                return say(words, cause, timeout)
    why = (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror)
    return Answer(None, words.failed(next(why, f"{type(error).__name__}: {error}")))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and all that urllib3 and requests have wrapped it around."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            waiting += [found.__cause__, found.__context__, getattr(found, "reason", None)]
            waiting += found.args


_Say = Callable[[Words, Any, float], Answer]
_SAYINGS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], _Say], ...]] = (
    (socket.gaierror, lambda words, error, timeout: Answer(None, words.unknown())),
    (
        ssl.SSLCertVerificationError,
        lambda words, error, timeout: Answer(None, words.distrusted(error.verify_message)),
    ),
    (TimeoutError, lambda words, error, timeout: words.late(timeout)),
    (ConnectionRefusedError, lambda words, error, timeout: Answer(None, words.refused())),
    (
        ssl.SSLError,
        lambda words, error, timeout: Answer(
            None, words.failed(f"TLS failed: {error.reason or error}; does the port speak https?")
        ),
    ),
    (ConnectionError, lambda words, error, timeout: Answer(None, words.cut())),
    (
        http.client.BadStatusLine,
        lambda words, error, timeout: Answer(
            None, words.failed("the answer is not HTTP/1.1; is it a port for gRPC, or for https?")
        ),
    ),
    (http.client.HTTPException, lambda words, error, timeout: Answer(None, words.cut())),
)


def partial(body: bytes) -> tuple[int, str]:
    """Read an `ExportTraceServiceResponse`.

    Args:
        body: What the server sent.

    Returns:
        How many spans it refused for good, and its words about them.

    Raises:
        ValueError: If that is no such message.
    """
    rejected, message = 0, ""
    for number, value in protobuf.fields(body):
        if number != 1:
            continue
        if not isinstance(value, bytes):
            raise ValueError("its partial success is a number")
        for part, said in protobuf.fields(value):
            if part == 1 and isinstance(said, int):
                rejected = said
            elif part == 2 and isinstance(said, bytes):
                message = said.decode("utf-8", "replace")
    return (rejected if rejected < 2**63 else 0), message
