"""Over gRPC the same holds as over HTTP, in HTTP's numbers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.tracing.wire_kit import Fault, GrpcSink, HttpSink, attributes, free_port, out_span
from tracing.export.model import Answer, Target
from tracing.export.transport import MissingExtra, Transport, connect

pytest.importorskip("grpc")

Way = Callable[..., Transport]


@pytest.fixture
def sink() -> Iterator[GrpcSink]:
    with GrpcSink() as sink:
        yield sink


@pytest.fixture
def way(sink: GrpcSink) -> Iterator[Way]:
    """Return what connects to the sink, or to where the options say."""
    opened: list[Transport] = []

    def way(endpoint: str = "", **options: Any) -> Transport:
        opened.append(connect(Target("here", endpoint or sink.url, "grpc", **options)))
        return opened[-1]

    yield way
    for transport in opened:
        transport.close()


def send(transport: Transport, *names: str, timeout: float = 20) -> Answer:
    spans = [out_span(name) for name in names or ("work",)]
    return transport.send(transport.content(spans, {"service.name": "tests"}), timeout)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_spans_arrive(way, sink, compression):
    """All that is sent is what the official server finds, the headers in the metadata."""
    transport = way(compression=compression, headers={"Authorization": "Bearer x", "x-n": "1"})
    span = out_span("ask", attributes={"n": 1}, shared={"session.id": "s"})

    assert transport.send(transport.content([span], {"service.name": "tests"}), 20) == Answer(200)

    (request,) = sink.requests
    (found,) = request.spans
    assert (found.name, found.span_id) == ("ask", span.span_id)
    assert attributes(found) == {"n": 1, "session.id": "s"}
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers["user-agent"].startswith("pocketflow-async/")


@pytest.mark.parametrize(
    "form", ["127.0.0.1:{}", "http://127.0.0.1:{}/", "http://me:pw@127.0.0.1:{}"]
)
def test_endpoints(way, sink, form):
    """An endpoint may be a host with a port, or a URL of one."""
    insecure = None if "://" in form else True

    assert send(way(form.format(sink.port), insecure=insecure)).status == 200


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UNAVAILABLE", 503),
        ("RESOURCE_EXHAUSTED", 429),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("INVALID_ARGUMENT", 400),
        ("UNIMPLEMENTED", 404),
        ("CANCELLED", None),
        ("DATA_LOSS", 500),
        ("OUT_OF_RANGE", 503),
        ("INTERNAL", 500),
    ],
)
def test_codes(way, sink, code, status):
    """Each code has the number that HTTP would give it, and the server's words come along."""
    sink.fault = Fault(code=code, details="so\nit is")

    assert send(way()) == Answer(status, f"gRPC {code}: so it is ({sink.url})")


def test_delay_that_the_server_asks_for(way, sink):
    """RetryInfo among the details of an error is the wait; broken details ask for nothing."""
    from google.protobuf.any_pb2 import Any as Packed
    from google.rpc.error_details_pb2 import DebugInfo, RetryInfo
    from google.rpc.status_pb2 import Status

    def packed(message: Any) -> Packed:
        box = Packed()
        box.Pack(message)
        return box

    info = RetryInfo()
    info.retry_delay.FromMilliseconds(2500)
    details = Status(code=8, message="m", details=[packed(DebugInfo(detail="d")), packed(info)])
    waits = []
    for said in (details.SerializeToString(), b"\xff", b"\x1a\x02\x08\x01", b"\x18\x01", b""):
        sink.fault = Fault(code="RESOURCE_EXHAUSTED", headers={"grpc-status-details-bin": said})
        answer = send(way())
        assert answer.status == 429
        waits.append(answer.retry_after)

    assert waits == [2.5, None, None, None, None]


def test_partial_success(way, sink):
    """Spans that a server refuses for good are counted."""
    sink.fault = Fault(partial=(2, "no such kind"))

    assert send(way()) == Answer(200, "no such kind", rejected=2)


def test_request_ends_in_time_and_the_channel_goes_on(way, sink):
    """A server that hangs holds nobody up."""
    sink.fault = Fault(hang=True, times=1)
    transport = way()
    start = time.monotonic()

    answer = send(transport, timeout=0.4)

    assert 0.3 <= time.monotonic() - start < 2
    assert answer == Answer(None, f"no whole answer from {sink.url} within 0.4 s")
    assert send(transport).status == 200


def test_server_that_takes_connections_and_says_nothing(way):
    """Nor does one that is no gRPC server at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        answer = send(way(f"http://127.0.0.1:{server.getsockname()[1]}"), timeout=0.4)

    assert time.monotonic() - start < 2
    assert answer.status is None


def test_too_large_is_413(way, sink):
    """A receiver's limit of bytes is told from its other limits, so that the batch is split."""
    sink.fault = Fault(limit=1000, poison="bad")
    transport = way()

    assert send(transport, "x" * 2000).status == 413
    assert send(transport, "good", "bad").status == 400
    assert send(transport, "good").status == 200
    assert sink.names == ["good"]


def test_words_for_nobody_there(way):
    """A refused connection says where; a server that comes back is found at once."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    transport = way(url)

    assert send(transport) == Answer(
        503, f"connection refused by {url}: is the server running, on this port?"
    )
    with GrpcSink(port=port) as late:
        until = time.monotonic() + 20
        while send(transport).status != 200:
            assert time.monotonic() < until
        assert late.names == ["work"]


def test_words_for_the_wrong_port(way, sink):
    """Those who mix up 4317 and 4318 are told, whichever way round."""
    with HttpSink() as other:
        said = send(way(f"http://127.0.0.1:{other.port}")).said
        assert said.startswith("no gRPC is spoken there; is it a port for HTTP?")

    mixed_up = connect(Target("here", f"http://127.0.0.1:{sink.port}/v1/traces"))
    assert send(mixed_up).said.startswith("the answer is not HTTP/1.1; is it a port for gRPC")
    mixed_up.close()


def test_words_for_a_wrong_name(way):
    """A host without an address says so."""
    said = send(way("http://collector.invalid:4317"), timeout=20).said

    assert said.startswith(("no address found for the host", "no whole answer"))


def test_bad_header_is_told_without_its_value(way):
    """A header that cannot be sent does not show its secret in the message."""
    answer = send(way(headers={"authorization": "Bearer sk-12345678\nx"}))

    assert answer.status is None
    assert "sk-12345678" not in answer.said
    assert "look for line breaks" in answer.said


def test_missing_certificate_is_told(way):
    """A file that is not there is an answer, not an exception."""
    answer = send(way("https://127.0.0.1:1", certificate="/nowhere/ca.pem"))

    assert answer.status is None
    assert "/nowhere/ca.pem" in answer.said


def test_closing_twice_and_using_again(way, sink):
    """A closed channel opens again for the next request."""
    transport = way()
    transport.close()
    assert send(transport).status == 200
    transport.close()
    transport.close()
    assert send(transport).status == 200


def test_batches_over_four_megabytes_leave(way, sink):
    """Our side has no limit of its own; the receiver's (4 MB by default) is told as 413."""
    transport = way(compression="none")

    assert send(transport, os.urandom(3_000_000).hex()).status == 413


def test_missing_extra_names_the_command(child_env):
    """Without grpcio, connecting says what to install; the other protocols work."""
    code = """
        import sys
        sys.modules["grpc"] = None
        from tracing.export.model import Target
        from tracing.export.transport import MissingExtra, connect
        connect(Target("here", "http://127.0.0.1:1"))
        try:
            connect(Target("there", "127.0.0.1:1", "grpc"))
        except MissingExtra as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=child_env,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "target 'there'" in done.stdout
    assert "pip install 'pocketflow-async[grpc]'" in done.stdout
    assert issubclass(MissingExtra, Exception)


def test_processor_is_no_connection():
    """Spans for a SpanProcessor do not travel."""
    with pytest.raises(ValueError, match="processor"):
        connect(Target("mine", "", "processor"))
