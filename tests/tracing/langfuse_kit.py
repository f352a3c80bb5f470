"""A Langfuse-shaped receiver on loopback: what the server takes, refuses, and would show.

`Langfuse` is the server, over real sockets; it answers as server 4.16.0 does, or misbehaves as it
is told. What it would show of a span is in `langfuse_kit_mapping`.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.tracing.langfuse_kit_mapping import Observation, attributes, observe

TRACES = "/api/public/otel/v1/traces"
SCORES = "/api/public/scores"
PUBLIC, SECRET = "pk-lf-test", "sk-lf-test"


class Refused(Exception):
    """Raised by a check that a request does not pass."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Asked:
    """A request that came in, and how it was answered; None: it was not."""

    path: str
    headers: dict[str, str]
    size: int
    status: int | None = None


Fault = Callable[["_Handler"], None]


def answers(status: int, body: bytes = b'{"message":"no"}', **headers: str) -> Fault:
    """Answer so: `answers(429, retry_after="2")`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(status, body, named)


def hang(handler: _Handler) -> None:
    """Say nothing until the server is stopped."""
    handler.langfuse.stopping.wait()
    handler.close_connection = True


def drip(handler: _Handler) -> None:
    """Answer one byte every 50 ms, and never the last."""
    handler.begin(200, {"content-length": "100000"})
    with contextlib.suppress(OSError):
        while not handler.langfuse.stopping.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    handler.close_connection = True


def cut(handler: _Handler) -> None:
    """Close the connection in place of an answer."""
    handler.close_connection = True


def garbage(handler: _Handler) -> None:
    """Answer what is no HTTP."""
    handler.wfile.write(b"\x00\xffnot http at all\r\n\r\n")
    handler.close_connection = True


def webpage(handler: _Handler) -> None:
    """Answer 200 with a page, as a proxy or a wrong address does."""
    handler.answer(200, b"<!doctype html><title>Sign in</title>", {"content-type": "text/html"})


@dataclass
class Langfuse:
    """The receiver; use it with `with`.

    Attributes:
        strict: Refuse maps as attribute values, which the real server shows as raw protocol.
        largest: Bytes of an unpacked request that it takes.
        faults: What the next requests meet, in order.
        fault: What all others meet; None: they are dealt with.
    """

    public_key: str = PUBLIC
    secret_key: str = SECRET
    strict: bool = True
    largest: int = 64 << 20
    faults: deque[Fault] = field(default_factory=deque)
    fault: Fault | None = None
    asked: list[Asked] = field(default_factory=list)
    batches: list[list[Observation]] = field(default_factory=list)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Langfuse:
        handler = type("Handler", (_Handler,), {"langfuse": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Base URL, as LANGFUSE_HOST has it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def observations(self) -> list[Observation]:
        """What it has kept: the last of each id."""
        return list({(one.trace_id, one.id): one for some in self.batches for one in some}.values())

    def one(self, name: str) -> Observation:
        """Return the only observation of a name."""
        (found,) = [found for found in self.observations if found.name == name]
        return found

    def wait(self, until: Callable[[], object], timeout: float = 10.0) -> bool:
        """Wait until *until* is true, looked at after each request, for *timeout* seconds."""
        with self._changed:
            return bool(self._changed.wait_for(until, timeout))

    def came(self, asked: Asked) -> None:
        """Note a request."""
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()

    def changed(self) -> None:
        """Wake those who wait."""
        with self._changed:
            self._changed.notify_all()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Deal with a request; return status and body of the answer.

        Raises:
            Refused: It is not to be taken.
        """
        account = base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()
        if path not in (TRACES, SCORES):
            raise Refused(404, "no such path")
        if headers.get("authorization") != f"Basic {account}":
            raise Refused(401, "Invalid credentials")
        if path == SCORES:
            return self._take_scores(headers, body)
        if (version := headers.get("x-langfuse-ingestion-version")) not in (None, "4"):
            raise Refused(400, f"unknown ingestion version {version}")
        request = parse(headers, unpacked(headers, body, self.largest))
        found = list(observed(request, self.strict))
        for one in found:
            one.is_delayed = version is None
        self.batches.append(found)
        return 200, b"{}"

    def _take_scores(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if len(body) > 1 << 20:
            raise Refused(413, "body exceeds 1mb limit")
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            raise Refused(400, "no JSON")
        said = json.loads(body)
        errors = []
        for place, score in enumerate(said if isinstance(said, list) else [said]):
            if wrong := wrong_with(score):
                errors.append({"index": place, "message": wrong})
            else:
                self.scores[score["id"]] = score
        if not isinstance(said, list):
            if errors:
                raise Refused(400, errors[0]["message"])
            return 200, json.dumps({"id": said["id"]}).encode()
        if errors:
            done = {"accepted": len(said) - len(errors), "rejected": len(errors), "errors": errors}
            return 207, json.dumps(done).encode()
        return 202, b'{"message":"Accepted"}'


def unpacked(headers: dict[str, str], body: bytes, largest: int) -> bytes:
    """Return the body of a request without its compression."""
    encoding = headers.get("content-encoding", "identity")
    if encoding not in ("identity", "gzip"):
        raise Refused(400, f"unsupported content encoding {encoding}")
    try:
        plain = gzip.decompress(body) if encoding == "gzip" else body
    except (OSError, EOFError) as error:
        raise Refused(400, "broken gzip") from error
    if len(plain) > largest:
        raise Refused(413, "too large")
    return plain


def parse(headers: dict[str, str], body: bytes) -> ExportTraceServiceRequest:
    """Read a request of either encoding with the official messages."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    try:
        if kind == "application/x-protobuf":
            return ExportTraceServiceRequest.FromString(body)
        if kind == "application/json":
            return ParseDict(
                _ids_as_protobuf_has_them(json.loads(body)),
                ExportTraceServiceRequest(),
                ignore_unknown_fields=True,
            )
    except (DecodeError, ParseError, ValueError) as error:
        raise Refused(400, f"cannot be read: {error}") from error
    raise Refused(400, f"unknown content type {kind}")


def _ids_as_protobuf_has_them(said: Any) -> Any:
    """Turn the hex digits of OTLP/JSON into the base64 that protobuf's own JSON has."""
    if isinstance(said, list):
        return [_ids_as_protobuf_has_them(item) for item in said]
    if not isinstance(said, dict):
        return said
    return {
        name: base64.b64encode(bytes.fromhex(item)).decode()
        if name in ("traceId", "spanId", "parentSpanId") and isinstance(item, str)
        else _ids_as_protobuf_has_them(item)
        for name, item in said.items()
    }


def observed(request: ExportTraceServiceRequest, strict: bool = True) -> Iterator[Observation]:
    """Yield what the server keeps of a request; one bad span spoils it all."""
    for group in request.resource_spans:
        resource = attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                _check(span, strict)
                yield observe(span, resource, scoped.scope.name)


def _check(span: Any, strict: bool) -> None:
    ids = ((span.trace_id, 16), (span.span_id, 8))
    if any(len(found) != size or not any(found) for found, size in ids):
        raise Refused(400, "bad trace or span id")
    if span.parent_span_id and len(span.parent_span_id) != 8:
        raise Refused(400, "bad parent id")
    if strict and any(pair.value.WhichOneof("value") == "kvlist_value" for pair in span.attributes):
        raise Refused(400, "an attribute is a map")


_SCORE_TYPES = {"NUMERIC": (int, float), "BOOLEAN": (int, float), "CATEGORICAL": str, "TEXT": str}


def wrong_with(score: Any) -> str | None:
    """Return why the server would refuse a score; None: it would not."""
    if not isinstance(score, dict) or not score.get("name") or not score.get("id"):
        return "a score has a name and an id"
    kind, value = score.get("dataType", "NUMERIC"), score.get("value")
    if kind not in _SCORE_TYPES or isinstance(value, bool):
        return f"{value!r} cannot be {kind}"
    if not isinstance(value, _SCORE_TYPES[kind]):
        return f"{value!r} is not {kind}"
    if kind == "BOOLEAN" and value not in (0, 1):
        return "a boolean is 0 or 1"
    if not re.fullmatch(r"(?!langfuse)[a-z0-9_-]{1,40}", score.get("environment", "default")):
        return "bad environment"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", score.get("timestamp", "")):
        return "the timestamp has no offset"
    return None if score.get("traceId") or score.get("sessionId") else "a score is about something"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    langfuse: Langfuse

    def do_POST(self) -> None:
        """Read the request whole, then meet the fault or deal with it."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.asked = Asked(self.path, headers, len(body))
        self.langfuse.came(self.asked)
        faults = self.langfuse.faults
        fault = faults.popleft() if faults else self.langfuse.fault
        with contextlib.suppress(OSError):  # the client has gone away
            if fault is not None:
                fault(self)
                return
            try:
                status, said = self.langfuse.take(self.path, headers, body)
            except Refused as refused:
                status, said = refused.status, json.dumps({"message": str(refused)}).encode()
            self.answer(status, said)

    def do_GET(self) -> None:
        """Refuse every other method."""
        self.answer(405, b'{"message":"Method not allowed"}')

    do_PUT = do_DELETE = do_GET

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        if hasattr(self, "asked"):
            self.asked.status = status
        told = {"content-type": "application/json", "content-length": str(len(body))}
        self.begin(status, {**told, **(headers or {})})
        self.wfile.write(body)
        self.langfuse.changed()

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""
