"""OTLP over HTTP: one request at a time, over a connection that is kept."""

from __future__ import annotations

import gzip
import http.client
import io
import logging
import math
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import orjson
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from tracing.export import otlp_json, protobuf
from tracing.export.model import Answer, OutSpan, Target
from tracing.export.transport import Words, agent, explain, partial, unobserved

_BODY_MOST: Final = 65_536
"""Bytes of an answer that are read; nobody who speaks OTLP says more."""

_SLICE: Final = 16_384
"""Bytes that are sent between two looks at the clock: one record of TLS."""

_left: ContextVar[Callable[[], float]] = ContextVar("_left")
"""Seconds that the request of this thread has left; TimeoutError if none."""


class HttpTransport:
    """A way to a target over HTTP, with protobuf or JSON.

    Args:
        target: Where to, and how.
        clock: Seconds that only go forward.
        now: Seconds since 1970, for answers that name a date.
    """

    def __init__(
        self,
        target: Target,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._json = target.protocol == "http/json"
        self._gzip = target.compression == "gzip"
        self._words = Words(target)
        self._clock = clock
        self._now = now
        self._target = target
        self._url, self._auth = _credentials(target)
        self._headers = _headers(target)
        self._session: requests.Session | None = None

    def content(self, spans: Sequence[OutSpan], resource: Mapping[str, Any]) -> bytes:
        """Encode a request, not yet compressed."""
        encode = otlp_json.encode if self._json else protobuf.encode
        return encode(spans, resource)

    def send(self, body: bytes, timeout: float) -> Answer:
        """Send one request and return what came of it.

        Args:
            body: From `content`.
            timeout: Seconds for all of it, from the look-up of the name to the answer's last byte.
        """
        try:
            if timeout <= 0:
                return self._words.late(timeout)
            with unobserved(), _until(self._clock() + timeout, self._clock):
                return self._post(body, timeout)
        except requests.exceptions.InvalidHeader:  # whose own words show the secret
            return Answer(None, self._words.failed("a header cannot be sent: look for line breaks"))
        except Exception as error:  # noqa: BLE001 (whatever it is, the spans must be kept)
            self.close()  # a connection in the middle of something is of no more use
            return explain(error, self._words, timeout)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _post(self, body: bytes, timeout: float) -> Answer:
        if self._session is None:
            self._session = _session(self._auth)
        target = self._target
        with self._session.post(
            self._url,
            data=gzip.compress(body, 1, mtime=0) if self._gzip else body,
            headers=self._headers,
            timeout=timeout,
            verify=target.certificate or True,
            cert=_own_certificate(target),
            allow_redirects=False,
            stream=True,
        ) as response:
            said = response.raw.read(_BODY_MOST, decode_content=True)
            return self._answer(response, said)

    def _answer(self, response: requests.Response, body: bytes) -> Answer:
        status, kind = response.status_code, response.headers.get("Content-Type", "")
        wait = retry_after(response.headers.get("Retry-After"), self._now)
        if not 200 <= status < 300:
            return Answer(status, self._refusal(response, body, kind), wait)
        try:
            rejected, message = _accepted(body, kind)
        except (ValueError, TypeError):
            said = f"an answer that is not OTLP's: {body[:200].decode('utf-8', 'replace')}"
            return Answer(status, self._words.failed(said), wait, valid=False)
        return Answer(status, self._words.line(message), wait, rejected)

    def _refusal(self, response: requests.Response, body: bytes, kind: str) -> str:
        said = f"HTTP {response.status_code} {response.reason or ''}".rstrip()
        if 300 <= response.status_code < 400 and "Location" in response.headers:
            return self._words.line(f"{said}, to {response.headers['Location']}: not followed")
        return self._words.line(f"{said}: {message}" if (message := _message(body, kind)) else said)


def _headers(target: Target) -> dict[str, str | bytes]:
    as_json = target.protocol == "http/json"
    headers: dict[str, str | bytes] = {
        "User-Agent": agent(),
        "Accept": "*/*",
        "Content-Type": "application/json" if as_json else "application/x-protobuf",
    }
    if target.compression == "gzip":
        headers["Content-Encoding"] = "gzip"
    ours = {name.lower() for name in headers if name not in ("User-Agent", "Accept")}
    said = {name: value for name, value in target.headers.items() if name.lower() not in ours}
    return {**headers, **{name: value.encode() for name, value in said.items()}}


def _credentials(target: Target) -> tuple[str, tuple[str, str] | None]:
    """Return the URL without its credentials, and these."""
    try:
        parts = urlsplit(target.endpoint)
    except ValueError:  # sending will tell
        return target.endpoint, None
    if not parts.username or "authorization" in {name.lower() for name in target.headers}:
        return target.endpoint, None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return urlunsplit(bare), (unquote(parts.username), unquote(parts.password or ""))


def _own_certificate(target: Target) -> str | tuple[str, str] | None:
    if target.client_certificate and target.client_key:
        return target.client_certificate, target.client_key
    return target.client_certificate


def _session(auth: tuple[str, str] | None) -> requests.Session:
    for name in ("connection", "connectionpool", "response", "util.retry"):
        logging.getLogger(f"urllib3.{name}").addFilter(_not_ours)  # once, however often it is said
    session = requests.Session()
    # Without any `auth`, requests would take what ~/.netrc says in place of the target's header.
    session.auth = auth or (lambda request: request)
    for scheme in ("http://", "https://"):
        session.mount(scheme, _BoundedAdapter())
    return session


def _accepted(body: bytes, kind: str) -> tuple[int, str]:
    """Return how many spans were rejected and why; ValueError if no receiver would say that."""
    if "html" in kind:
        raise ValueError("a page for people")
    if not body.strip():
        return 0, ""
    if "json" not in kind and not body.lstrip().startswith(b"{"):
        return partial(body)
    said = orjson.loads(body)  # as Langfuse does: JSON, whatever was asked in
    if not isinstance(said, dict):
        raise ValueError("not an object")
    part = said.get("partialSuccess") or {}
    if not isinstance(part, dict):
        raise ValueError("its partial success is not an object")
    return max(0, int(part.get("rejectedSpans") or 0)), str(part.get("errorMessage") or "")


def _message(body: bytes, kind: str) -> str:
    """Return the words of an error: of a `google.rpc.Status` or from JSON, or all of the text."""
    try:
        if "protobuf" in kind:
            found = dict(protobuf.fields(body))[2]
            return found.decode("utf-8", "replace") if isinstance(found, bytes) else ""
        said = orjson.loads(body)
        words = (said[name] for name in ("message", "error", "detail") if said.get(name))
        found = next(words, said)
        return found if isinstance(found, str) else orjson.dumps(found).decode()
    except (ValueError, LookupError, AttributeError):
        return body[:1000].decode("utf-8", "replace")


def retry_after(said: str | None, now: Callable[[], float]) -> float | None:
    """Read a `Retry-After` header.

    Args:
        said: Its value: seconds, or a date.
        now: Seconds since 1970.

    Returns:
        Seconds to wait, never negative; None if it does not say.
    """
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            date = parsedate_to_datetime(said)
        except ValueError:
            return None
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (aware - datetime.fromtimestamp(now(), UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


@contextmanager
def _until(at: float, clock: Callable[[], float]) -> Iterator[None]:
    """Bound all that connections of ours do inside: requests bounds only each single read."""

    def left() -> float:
        seconds = at - clock()
        if seconds <= 0:
            raise TimeoutError("the time of the request is over")
        return seconds

    token = _left.set(left)
    try:
        yield
    finally:
        _left.reset(token)


class _Raw(io.RawIOBase):
    """The receiving side of a socket, which looks at the clock before each read."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self.ended = False

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(_left.get()())
        size = self._raw.readinto(buffer)
        self.ended = size == 0
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._source = _Raw(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._source)

    def begin(self) -> None:
        super().begin()
        if self._source.ended:  # http.client takes headers that are cut off for whole ones
            self.close()
            raise http.client.IncompleteRead(b"")


class _Bounded(HTTPConnection):
    """A connection that is done in time, whatever its peer does."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        found = _addresses(self._dns_host.strip("[]"), self.port or 80)
        for tried, (family, kind, number, _, address) in enumerate(found):
            sock = socket.socket(family, kind, number)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(_left.get()() / (len(found) - tried))  # leave some for the others
                sock.connect(address)
                sock.settimeout(_left.get()())  # for TLS, which takes it over
                return sock
            except OSError as error:
                sock.close()
                failure = error
        raise failure

    def send(self, data: Any) -> None:
        for start in range(0, len(data), _SLICE):
            if self.sock is not None:
                self.sock.settimeout(_left.get()())
            super().send(data[start : start + _SLICE])


class _BoundedTls(HTTPSConnection, _Bounded):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTls


class _BoundedAdapter(HTTPAdapter):
    """Connections that are done in time, straight or over a proxy."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):  # these have connections of their own
            manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager


def _addresses(host: str, port: int) -> list[Any]:
    """Look up *host*; the resolver itself knows no time limit, so it is asked in a thread."""
    answers: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)
        except UnicodeError:  # a label that is empty or too long
            answers.put(socket.gaierror(socket.EAI_NONAME, "not a name"))

    try:
        threading.Thread(target=ask, name="pocketflow-resolve", daemon=True).start()
    except RuntimeError:  # the interpreter is on its way out, or there are too many
        ask()
    try:
        answer = answers.get(timeout=_left.get()())
    except queue.Empty:
        raise TimeoutError("the look-up of the name took too long") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _not_ours(record: logging.LogRecord) -> bool:
    """Let the words of urllib3 through unless they are about a request of ours."""
    return _left.get(None) is None
