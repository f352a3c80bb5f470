"""An OTLP receiver on loopback, over HTTP or gRPC, that can be told how to misbehave."""

from __future__ import annotations

import base64
import contextlib
import gzip
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tracing.export.model import OutSpan

_numbers = itertools.count(1)


@dataclass
class Fault:
    """How a sink answers; as it stands, it takes everything.

    Attributes:
        status: Of HTTP; 200: take the spans.
        code: Name of a gRPC status code; empty: take the spans.
        details: Words that go with *code*.
        headers: More headers of the answer (HTTP), or trailing metadata (gRPC); an empty one is
            left out, so that without Content-Length the connection ends the answer.
        body: Answer in place of the right one.
        partial: Spans that are refused for good, and the words about them.
        hang: Never answer.
        drip_head: Seconds between two bytes of the status line and headers.
        drip_body: Seconds between two bytes of the body.
        cut: Close the connection before the answer: `early`, without reading the request's body;
            `late`, after the spans were taken; `inside` its head or its `body`; by a TCP `reset`.
        limit: Bytes of a request's body (as it was before compression) above which it is 413.
        poison: Name of a span; a batch with one of it is 400 (INVALID_ARGUMENT).
        times: Requests that it lasts for; None: for all.
    """

    status: int = 200
    code: str = ""
    details: str = ""
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    body: bytes | None = None
    partial: tuple[int, str] | None = None
    hang: bool = False
    drip_head: float = 0
    drip_body: float = 0
    cut: str = ""
    limit: int | None = None
    poison: str | None = None
    times: int | None = None


@dataclass
class Received:
    """One request as it came.

    Attributes:
        path: Of the URL, or the gRPC method.
        headers: By name in small letters; gRPC's metadata.
        size: Bytes of the body as they came over the wire.
        request: The official decoder's view of it.
        taken: Whether its spans count as delivered.
        client: Address and port of the connection (HTTP).
    """

    path: str
    headers: dict[str, str]
    size: int
    request: ExportTraceServiceRequest
    taken: bool = False
    client: tuple[str, int] | None = None

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for resource in self.request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class Sink:
    """What both kinds of receivers have in common."""

    def __init__(self) -> None:
        self.fault = Fault()
        self.requests: list[Received] = []
        self.closing = threading.Event()
        self._changed = threading.Condition()

    @property
    def spans(self) -> list[Span]:
        """All spans that were taken, in the order of their coming."""
        with self._changed:
            return [span for request in self.requests if request.taken for span in request.spans]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def wait(self, done: Callable[[Self], object], timeout: float = 20) -> bool:
        """Wait until *done* is true of this sink, looking after each request."""
        until = time.monotonic() + timeout
        with self._changed:
            while not done(self):
                if not self._changed.wait(max(0, until - time.monotonic())):
                    return bool(done(self))
        return True

    def _next(self) -> Fault:
        with self._changed:
            fault = self.fault
            if fault.times is not None:
                fault.times -= 1
                if fault.times < 0:
                    fault = self.fault = Fault()
            return fault

    def _arrived(self, received: Received) -> None:
        with self._changed:
            self.requests.append(received)
            self._changed.notify_all()

    def _took(self, received: Received) -> None:
        with self._changed:
            received.taken = True
            self._changed.notify_all()


def _refused(fault: Fault, received: Received, size: int) -> int:
    """Return the HTTP status for a batch."""
    if fault.limit is not None and size > fault.limit:
        return 413
    if fault.poison is not None and fault.poison in [span.name for span in received.spans]:
        return 400
    return fault.status


def _response(fault: Fault) -> ExportTraceServiceResponse:
    response = ExportTraceServiceResponse()
    if fault.partial is not None:
        response.partial_success.rejected_spans = fault.partial[0]
        response.partial_success.error_message = fault.partial[1]
    return response


def decode_json(data: bytes) -> ExportTraceServiceRequest:
    """Read OTLP JSON with the official messages, whose own JSON has ids in base64."""
    said = json.loads(data)
    for resource in said["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for part in (span, *span.get("links", ())):
                    for name in {"traceId", "spanId", "parentSpanId"} & part.keys():
                        part[name] = base64.b64encode(bytes.fromhex(part[name])).decode()
    return json_format.ParseDict(said, ExportTraceServiceRequest())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        sink = self.server.sink
        fault = sink._next()
        if fault.cut == "early":
            self._cut()
            return
        data = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = gzip.decompress(data) if headers.get("content-encoding") == "gzip" else data
        as_json = headers["content-type"] == "application/json"
        request = decode_json(body) if as_json else ExportTraceServiceRequest.FromString(body)
        received = Received(self.path, headers, len(data), request, client=self.client_address)
        sink._arrived(received)
        if fault.hang:
            sink.closing.wait()
            self.close_connection = True
            return
        status = _refused(fault, received, len(body))
        if status == 200 and fault.cut in ("", "late") and fault.body is None:
            sink._took(received)
        if fault.cut in ("late", "reset"):
            self._cut(reset=fault.cut == "reset")
            return
        response = _response(fault)
        answer = (
            json_format.MessageToJson(response).encode()
            if as_json
            else response.SerializeToString()
        )
        self._answer(fault, status, answer if status == 200 else b"", headers["content-type"])

    def _answer(self, fault: Fault, status: int, answer: bytes, kind: str) -> None:
        body = answer if fault.body is None else fault.body
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **fault.headers}
        headers = {name: said for name, said in headers.items() if said}
        self.close_connection = "Content-Length" not in headers
        lines = [f"HTTP/1.1 {status} Said", *(f"{n}: {v}" for n, v in headers.items()), "", ""]
        head = "\r\n".join(lines).encode()
        if fault.cut == "inside":
            self.wfile.write(head[: len(head) // 2])
            self._cut()
            return
        if fault.cut == "body":
            self.wfile.write(head + body[: len(body) // 2])
            self._cut()
            return
        self._drip(head, fault.drip_head)
        self._drip(body, fault.drip_body)

    def _drip(self, data: bytes, pause: float) -> None:
        if not pause:
            self.wfile.write(data)
            return
        try:
            for at in range(len(data)):
                self.wfile.write(data[at : at + 1])
                self.wfile.flush()
                if self.server.sink.closing.wait(pause):
                    break
        except OSError:  # the client has had enough
            pass
        self.close_connection = True

    def _cut(self, *, reset: bool = False) -> None:
        self.close_connection = True
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sink: HttpSink

    def __init__(self, sink: HttpSink, context: ssl.SSLContext | None, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.sink = sink
        self.context = context
        self.open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.context is not None:  # here, in the connection's thread
            request = self.context.wrap_socket(request, server_side=True)
        self.open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self.open.discard(request)
            if self.context is not None:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that go away, and those that do not trust us, are what we are here for


class HttpSink(Sink):
    """An OTLP receiver over HTTP or HTTPS.

    Args:
        tls: Files of its certificate and key.
        client_ca: File of the certificates that clients must show one of.
        port: To listen on; 0: any free one.
    """

    def __init__(
        self, tls: tuple[str, str] | None = None, client_ca: str | None = None, port: int = 0
    ) -> None:
        super().__init__()
        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            if client_ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(client_ca)
        self._server = _Server(self, context, port)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1/traces"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Cut all connections and free the port."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for sock in tuple(self._server.open):
            with contextlib.suppress(OSError):  # gone already
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GrpcSink(Sink):
    """An OTLP receiver over gRPC.

    Args:
        tls: Contents of its key and certificate.
        port: To listen on; 0: any free one.
    """

    def __init__(self, tls: tuple[bytes, bytes] | None = None, port: int = 0) -> None:
        import grpc
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

        super().__init__()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        service.add_TraceServiceServicer_to_server(_Servicer(self), self._server)
        address = f"127.0.0.1:{port}"
        if tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials([tls])
            self.port = self._server.add_secure_port(address, credentials)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._server.start()

    def close(self) -> None:
        """Cut all calls and free the port."""
        self.closing.set()
        self._server.stop(0).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Servicer:
    def __init__(self, sink: GrpcSink) -> None:
        self._sink = sink

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> Any:
        import grpc

        sink, fault = self._sink, self._sink._next()
        metadata = {item.key: item.value for item in context.invocation_metadata()}
        size = request.ByteSize()
        received = Received("Export", metadata, size, request)
        sink._arrived(received)
        if fault.hang:
            sink.closing.wait()
        context.set_trailing_metadata(tuple(fault.headers.items()))
        status = _refused(fault, received, size)
        if status == 413:
            said = f"Received message larger than max ({size} vs. {fault.limit})"
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, said)
        if status != 200:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a span is not right")
        if fault.code:
            context.abort(grpc.StatusCode[fault.code], fault.details)
        sink._took(received)
        return _response(fault)


def out_span(name: str = "work", **changes: Any) -> OutSpan:
    """Return a span of no importance, with *changes*."""
    number = next(_numbers)
    said: dict[str, Any] = {
        "trace_id": (1).to_bytes(16),
        "span_id": number.to_bytes(8),
        "parent_id": None,
        "name": name,
        "start_ns": 1_700_000_000_000_000_000 + number,
        "end_ns": 1_700_000_000_000_000_500 + number,
        "attributes": {},
        "shared": {},
    }
    return OutSpan(**said | changes)


def attributes(of: Any) -> dict[str, Any]:
    """Return the attributes of a decoded span, event, link or resource as values."""
    return {item.key: value(item.value) for item in of.attributes}


def value(said: Any) -> Any:
    """Return what an `AnyValue` holds."""
    kind = said.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in said.array_value.values]
    return getattr(said, kind)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def reachable(port: int, timeout: float, alive: Callable[[], bool] = lambda: True) -> bool:
    """Try to connect to *port* until it works, the time is over or the server is not *alive*."""
    until = time.monotonic() + timeout
    while time.monotonic() < until and alive():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            threading.Event().wait(0.02)
        else:
            return True
    return False


def all_spans(request: ExportTraceServiceRequest) -> Sequence[Span]:
    """Return the spans of a decoded request."""
    return Received("", {}, 0, request).spans
