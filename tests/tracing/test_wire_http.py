"""Over HTTP a request ends in time, with an answer and words that a tired reader understands."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracing.wire_kit import Fault, HttpSink, Sink, attributes, free_port, out_span
from tracing.export.http import HttpTransport, retry_after
from tracing.export.model import Answer, OutSpan, Target
from tracing.export.transport import Transport, connect

SOON = 0.4
"""Seconds that a request gets in tests where it will not be enough."""
LATE = SOON + 1.5
"""Seconds after which it surely ought to have been over, on a busy machine."""

Way = Callable[..., Transport]


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


@pytest.fixture
def way(sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """Return what connects to the sink, or to where the options say."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    opened: list[Transport] = []

    def way(endpoint: str = "", **options: Any) -> Transport:
        opened.append(connect(Target("here", endpoint or sink.url, **options)))
        return opened[-1]

    yield way
    for transport in opened:
        transport.close()


def send(transport: Transport, *names: str, timeout: float = 20) -> Answer:
    spans: Sequence[OutSpan] = [out_span(name) for name in names or ("work",)]
    return transport.send(transport.content(spans, {"service.name": "tests"}), timeout)


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_spans_arrive(way, sink, protocol, compression):
    """All that is sent is what the official decoder finds in the request."""
    transport = way(protocol=protocol, compression=compression)
    span = out_span("ask", attributes={"n": 1, "list": ["a"]}, shared={"session.id": "s"})

    answer = transport.send(transport.content([span], {"service.name": "tests"}), 20)

    assert answer == Answer(200)
    (request,) = sink.requests
    (found,) = request.spans
    assert (found.name, found.span_id) == ("ask", span.span_id)
    assert attributes(found) == {"n": 1, "list": ["a"], "session.id": "s"}
    assert attributes(request.request.resource_spans[0].resource) == {"service.name": "tests"}
    assert request.headers.get("content-encoding") == ("gzip" if compression == "gzip" else None)
    assert request.headers["user-agent"].startswith("pocketflow-async/")


def test_connection_is_kept(way, sink):
    """A hundred requests are one connection, whatever their answers."""
    transport = way()
    for status in (200, 503, 200, 400, 429, 200):
        sink.fault = Fault(status=status, body=b"" if status == 200 else b"words")
        assert send(transport).status == status

    assert len({request.client for request in sink.requests}) == 1


def test_connection_that_the_server_closed_meanwhile_is_replaced(way):
    """After a restart of the server the next request is just sent."""
    with HttpSink() as first:
        transport = way(first.url)
        assert send(transport).status == 200
    with HttpSink(port=first.port) as second:
        assert send(transport).status == 200
        assert second.names == ["work"]


def test_headers_of_the_target_are_sent(way, sink):
    """Also those beyond ASCII; those that describe the body are ours."""
    headers = {"authorization": "Basic abc", "x-name": "é", "content-type": "text/plain"}

    assert send(way(headers=headers)).status == 200
    (request,) = sink.requests
    assert request.headers["authorization"] == "Basic abc"
    assert request.headers["x-name"].encode("latin-1").decode() == "é"
    assert request.headers["content-type"] == "application/x-protobuf"


def test_credentials_in_the_endpoint_are_sent_and_never_told(way, sink):
    """They become Basic authentication; an error names the endpoint without them."""
    endpoint = sink.url.replace("//", "//me:p%40ss-word@")
    assert send(way(endpoint)).status == 200
    assert sink.requests[0].headers["authorization"] == "Basic bWU6cEBzcy13b3Jk"

    said = send(way(f"http://me:p%40ss-word@127.0.0.1:{free_port()}/v1/traces?key=s3cret")).said

    assert "me" not in said.replace("time", "").split("//")[1]
    assert "ss-word" not in said
    assert "s3cret" not in said


def test_netrc_does_not_replace_the_credentials(way, sink, tmp_path, monkeypatch):
    """What ~/.netrc has for the host is for other programs."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    send(way(headers={"authorization": "Bearer ours"}))
    send(way())

    assert [r.headers.get("authorization") for r in sink.requests] == ["Bearer ours", None]


def test_words_of_an_error_are_the_servers(way, sink):
    """Of a JSON message, a google.rpc.Status or a text; without what we sent as credentials."""
    transport = way(headers={"authorization": "Bearer abcdef123456"})
    said = []
    for kind, body in (
        ("application/json", b'{"message": "no such project", "code": 3}'),
        ("application/json", b'{"error": {"a": 1}}'),
        ("application/x-protobuf", b"\x08\x03\x12\x06broken"),
        ("application/x-protobuf", b"\xff\xff"),
        ("text/plain", b"key abcdef123456 is\r\n\x1b[31m unknown"),
        ("text/html", b"<html>" + b"x" * 100_000),
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("text/plain", b""),
    ):
        sink.fault = Fault(status=400, body=body, headers={"Content-Type": kind})
        said.append(send(transport).said)

    assert said[:5] == [
        "HTTP 400 Said: no such project",
        'HTTP 400 Said: {"a":1}',
        "HTTP 400 Said: broken",
        "HTTP 400 Said:",
        "HTTP 400 Said: key [redacted] is [31m unknown",
    ]
    assert len(said[5]) == 300
    assert said[6:] == ["HTTP 400 Said: {", "HTTP 400 Said: []", "HTTP 400 Said"]


def test_partial_success(way, sink):
    """Spans that a server refuses for good are counted, in both languages."""
    sink.fault = Fault(partial=(3, "no such kind"))

    for protocol in ("http/protobuf", "http/json"):
        assert send(way(protocol=protocol)) == Answer(200, "no such kind", rejected=3)


@pytest.mark.parametrize(
    ("kind", "body"),
    [("application/json", b"{}"), ("application/json", b' {"partialSuccess": {}}'), ("", b"")],
)
def test_positive_answers(way, sink, kind, body):
    """JSON to a protobuf request, as Langfuse answers, and nothing at all are good answers."""
    sink.fault = Fault(body=body, headers={"Content-Type": kind})

    assert send(way()) == Answer(200)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", b"<html>please log in</html>"),
        ("text/html", b""),
        ("application/x-protobuf", b"\xff\xff\xff"),
        ("application/x-protobuf", b"\x08\x05"),
        ("application/json", b"[1]"),
        ("application/json", b"{"),
        ("application/json", b'{"partialSuccess": 5}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": "x"}}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": [1]}}'),
        ("text/plain", b"welcome to the hotel"),
        ("text/plain", b"O" * 200_000),
    ],
)
def test_garbage_is_no_receipt(way, sink, kind, body):
    """A 200 that no receiver would give says that the spans are not there."""
    sink.fault = Fault(body=body, headers={"Content-Type": kind})

    answer = send(way())

    assert (answer.status, answer.valid, answer.rejected) == (200, False, 0)
    assert answer.said.startswith("an answer that is not OTLP's")


def test_redirect_is_an_answer(way, sink):
    """Nothing is sent, least of all credentials, to where a server points."""
    with HttpSink() as other:
        sink.fault = Fault(status=307, headers={"Location": other.url})

        answer = send(way(headers={"authorization": "Bearer abcdef"}))

        assert answer.status == 307
        assert other.url in answer.said
        assert other.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(hang=True),
        Fault(drip_head=0.05),
        Fault(drip_body=0.05, body=b"x" * 2000),
        Fault(drip_body=0.05, body=b"x" * 2000, status=500),
    ],
)
@pytest.mark.parametrize("closes", [False, True])
def test_request_ends_in_time(way, sink, fault, closes):
    """A server that hangs, or gives a byte now and then, holds nobody up."""
    sink.fault = fault
    if closes:
        fault.headers = {"Connection": "close"}
    transport = way()
    start = time.monotonic()

    answer = send(transport, timeout=SOON)

    assert SOON * 0.9 <= time.monotonic() - start < LATE
    assert answer == Answer(None, f"no whole answer from {sink.url} within {SOON:g} s")
    sink.fault = Fault()
    assert send(transport).status == 200


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """Return a socket that listens but takes nobody in, with no room left in its queue."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_connecting_ends_in_time(way, deaf, scheme):
    """Nor does a host that does not even take connections."""
    transport = way(f"{scheme}://127.0.0.1:{deaf.getsockname()[1]}/v1/traces")
    start = time.monotonic()

    answer = send(transport, timeout=SOON)

    assert time.monotonic() - start < LATE
    assert answer.status is None
    assert answer.said.endswith(f"within {SOON:g} s")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_sending_ends_in_time(way, scheme):
    """Nor does one that takes the connection and reads nothing (with TLS: says nothing)."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        address = f"{scheme}://127.0.0.1:{server.getsockname()[1]}/v1/traces"
        transport = way(address, compression="none")
        start = time.monotonic()

        answer = transport.send(os.urandom(30_000_000), SOON)

        assert time.monotonic() - start < LATE
        assert answer == Answer(None, f"no whole answer from {address} within {SOON:g} s")


def test_looking_up_a_name_ends_in_time(way, monkeypatch):
    """Nor does a resolver that never answers."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: released.wait() and [])
    start = time.monotonic()

    answer = send(way("http://collector.example/v1/traces"), timeout=SOON)

    released.set()
    assert time.monotonic() - start < LATE
    assert answer.said.endswith(f"within {SOON:g} s")


def test_all_addresses_of_a_name_are_tried_in_one_time(way, sink, deaf, monkeypatch):
    """The first that answers is taken; all together have the time of the request."""
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    refusing, taking = ("127.0.0.1", free_port()), ("127.0.0.1", sink.port)
    found = [(*kind, refusing), (*kind, taking)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    assert send(way("http://collector.example/v1/traces")).status == 200

    found[:] = [(*kind, deaf.getsockname()), (*kind, taking)]
    assert send(way("http://collector.example/v1/traces"), timeout=1).status == 200

    found[:] = [(*kind, deaf.getsockname())] * 5
    start = time.monotonic()
    assert send(way("http://collector.example/v1/traces"), timeout=SOON).status is None
    assert time.monotonic() - start < LATE


def test_address_of_ipv6(way, sink, monkeypatch):
    """Its brackets belong to the URL, not to the address."""
    asked = []

    def answer(host: str, *_: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", sink.port))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    assert send(way("http://[2001:db8::1]:4318/v1/traces")).status == 200
    assert asked == ["2001:db8::1"]


def test_no_time_at_all(way, sink):
    """A request that has no time left is not begun."""
    assert send(way(), timeout=0).said.endswith("within 0 s")
    assert sink.requests == []


def test_words_for_an_unreachable_network(way, monkeypatch):
    """Other errors of the system come in its own words, without what libraries wrap around."""

    def unreachable(*_: object) -> list[Any]:
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)

    said = send(way("http://collector.example/v1/traces")).said
    assert said == "Network is unreachable (http://collector.example/v1/traces)"


def test_no_thread_can_be_started(way, sink, monkeypatch):
    """At the end of the interpreter, when no thread starts any more, requests still work."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    transport, monkey = way(), pytest.MonkeyPatch()
    served = threading.Thread.start
    try:
        monkey.setattr(
            threading.Thread,
            "start",
            lambda thread: (
                start(thread) if thread.name.startswith("pocketflow") else served(thread)
            ),
        )
        assert send(transport).status == 200
    finally:
        monkey.undo()


@pytest.mark.parametrize("cut", ["early", "late", "inside", "body", "reset"])
@pytest.mark.parametrize("status", [200, 500])
def test_cut_connection(way, sink, cut, status):
    """A connection that ends within the answer is no answer, not even half of one."""
    sink.fault = Fault(status=status, cut=cut, body=b'{"partialSuccess": {}}', times=1)
    transport = way()

    answer = send(transport)

    assert answer.status is None
    assert answer.said == f"the connection was cut before the whole answer had come ({sink.url})"
    assert send(transport).status == 200


def test_answer_without_a_length_ends_with_its_connection(way, sink):
    """As servers of HTTP/1.0 do it."""
    sink.fault = Fault(
        status=503, headers={"Content-Length": "", "Connection": "close"}, body=b"busy"
    )
    transport = way()

    assert send(transport) == send(transport) == Answer(503, "HTTP 503 Said: busy")


def test_words_for_nobody_there(way):
    """A refused connection says where."""
    url = f"http://127.0.0.1:{free_port()}/v1/traces"

    assert send(way(url)) == Answer(
        None, f"connection refused by {url}: is the server running, on this port?"
    )


def test_words_for_a_wrong_name(way):
    """A host without an address says so; `.invalid` never has one."""
    answer = send(way("http://collector.invalid/v1/traces"), timeout=30)

    assert answer.said == (
        "no address found for the host of http://collector.invalid/v1/traces: is its name right?"
    )


@pytest.mark.parametrize("url", ["http://[/x", "nonsense", "http://", "ftp://x/y", "http://a..b/"])
def test_nonsense_is_told_not_raised(way, url):
    """An endpoint that is none gives an answer with words."""
    answer = send(way(url))

    assert answer.status is None
    assert answer.said


def test_bad_header_is_told_without_its_value(way):
    """A header that cannot be sent does not show its secret in the message."""
    answer = send(way(headers={"authorization": "Bearer sk-12345678\nx"}))

    assert answer.status is None
    assert "sk-12345678" not in answer.said


def test_limits_of_the_sink_are_its_answers(way, sink):
    """413 above so many bytes, 400 for a batch with one bad span in it."""
    transport = way()
    sink.fault = Fault(limit=500, poison="bad")

    assert send(transport, "x" * 1000).status == 413
    assert send(transport, "good", "bad").status == 400
    assert send(transport, "good").status == 200
    assert sink.names == ["good"]


def test_retry_after_comes_through(way, sink):
    """As seconds, and as a date."""
    transport = way()
    sink.fault = Fault(status=503, headers={"Retry-After": "7"})
    assert send(transport).retry_after == 7

    sink.fault = Fault(
        status=429, headers={"Retry-After": formatdate(time.time() + 60, usegmt=True)}
    )
    assert 50 < (send(transport).retry_after or 0) <= 60


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1.5", 1.5),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:01:40 -0000", 90.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:05 GMT", None),
    ],
)
def test_retry_after(said, seconds):
    """Seconds or a date, never in the past; what is neither asks for nothing."""
    assert retry_after(said, lambda: 10.0) == seconds


@given(st.text())
def test_retry_after_never_raises(said):
    """Whatever stands in the header."""
    assert (retry_after(said, lambda: 10.0) or 0) >= 0


def test_proxy_of_the_environment(way, monkeypatch):
    """Requests go over the proxy that the environment names, and not where it says so."""
    with HttpSink() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert send(way("http://collector.invalid:4318/v1/traces")).status == 200
        assert proxy.requests[0].path == "http://collector.invalid:4318/v1/traces"

        assert send(way()).status == 200
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_hangs(way, deaf, monkeypatch, scheme):
    """A proxy that says nothing is within the time as well, also before TLS."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()

        answer = send(way(f"{scheme}://collector.invalid:4318/v1/traces"), timeout=SOON)

        assert time.monotonic() - start < LATE
        assert answer.said.endswith(f"within {SOON:g} s")


def test_nothing_is_logged(way, sink, caplog):
    """urllib3 says nothing about our requests, but still does about those of others."""
    caplog.set_level(logging.DEBUG)
    for fault in (Fault(), Fault(cut="late"), Fault(headers={"Bad Header": "x", "": "y"})):
        sink.fault = fault
        send(way())
    assert [record for record in caplog.records if record.name.startswith("urllib3")] == []

    import requests

    sink.fault = Fault()
    transport = way()
    with requests.Session() as session:
        session.post(
            sink.url,
            data=transport.content([], {}),
            headers={"Content-Type": "application/x-protobuf"},
        )
    assert [record for record in caplog.records if record.name.startswith("urllib3")]


def test_instrumentations_are_suppressed(sink, way, monkeypatch):
    """OpenTelemetry's instrumentations of HTTP clients see nothing of our requests."""
    utils = pytest.importorskip("opentelemetry.instrumentation.utils")
    from requests import Session

    seen, original = [], Session.send

    def spy(*args: Any, **options: Any) -> Any:
        seen.append((utils.is_instrumentation_enabled(), utils.is_http_instrumentation_enabled()))
        return original(*args, **options)

    monkeypatch.setattr(Session, "send", spy)

    assert send(way()).status == 200
    assert seen == [(False, False)]
    assert utils.is_instrumentation_enabled()


def test_large_batches_and_answers(way, sink):
    """Ten thousand spans go out in one request; of a long answer only the beginning is read."""
    transport = way(compression="none")
    sink.fault = Fault(times=1)
    assert send(transport, *[f"n{n}" for n in range(10_000)]).status == 200
    assert len(sink.spans) == 10_000

    bomb = gzip.compress(b"x" * 50_000_000)
    sink.fault = Fault(status=500, body=bomb, headers={"Content-Encoding": "gzip"})
    assert send(transport).said.startswith("HTTP 500 Said: xxx")


def test_threads_each_have_their_own_time(sink, way):
    """A request that hangs in one thread takes no time from those in others."""
    with HttpSink() as hanging:
        hanging.fault = Fault(hang=True)
        answers: list[Answer] = []
        slow = way(hanging.url)
        thread = threading.Thread(target=lambda: answers.append(send(slow, timeout=1)))
        thread.start()
        assert hanging.wait(lambda sink: sink.requests)
        start = time.monotonic()
        fast = way()
        while thread.is_alive():
            assert send(fast).status == 200
        thread.join()

        assert time.monotonic() - start < LATE + 1
        assert answers[0].status is None


def test_clock_is_a_parameter(sink):
    """A test may say what time it is: here the request's is over before it is sent."""
    ticks = iter([0.0])
    transport = HttpTransport(Target("here", sink.url), clock=lambda: next(ticks, 99.0))

    assert send(transport, timeout=10).status is None
    assert sink.requests == []


def test_closing_twice_and_using_again(way, sink):
    """A closed connection opens again for the next request."""
    transport = way()
    transport.close()
    assert send(transport).status == 200
    transport.close()
    transport.close()
    assert send(transport).status == 200


def test_import_of_tracing_does_not_import_clients(child_env):
    """Who only records needs neither requests nor gRPC nor protobuf."""
    code = (
        "import sys, tracing, tracing.export.transport, tracing.export.verdict, json;"
        "print(json.dumps([n for n in ('requests', 'grpc', 'google.protobuf', 'opentelemetry')"
        " if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_env, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_sink_waits_for_what_is_asked(sink, way):
    """The sink itself: it can be waited for, and says when it was in vain."""
    assert not Sink.wait(sink, lambda sink: sink.spans, timeout=0.01)
    assert send(way()).status == 200
    assert sink.wait(lambda sink: sink.spans)
