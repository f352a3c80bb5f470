"""A receiver that others wrote takes our spans over all three protocols, and shows them right."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.tracing.wire_kit import free_port, out_span, reachable
from tracing.export.model import CLIENT, ERROR, Answer, SpanEvent, SpanLink, Target
from tracing.export.transport import connect


@dataclass
class Rotel:
    """A running agent, and what it has printed."""

    process: subprocess.Popen[str]
    grpc: int
    http: int
    lines: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip())
                self.changed.notify_all()

    def says(self, text: str, timeout: float = 20) -> bool:
        """Wait until *text* has been printed."""
        with self.changed:
            return self.changed.wait_for(lambda: text in "\n".join(self.lines), timeout)

    def about(self, name: str) -> list[str]:
        """Return what it has printed about the resource whose only span has this name."""
        with self.changed:
            text = "\n".join(" ".join(line.split()) for line in self.lines)
        (found,) = [part for part in text.split("ResourceSpans #0") if f"Name : {name}\n" in part]
        return found.splitlines()


def _agent() -> str | None:
    spec = importlib.util.find_spec("rotel")
    if spec is None or spec.origin is None:
        return None
    agent = Path(spec.origin).parent / "rotel-agent"
    return str(agent) if os.access(agent, os.X_OK) else None


@pytest.fixture(scope="module")
def _rotel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rotel | None]:
    agent = _agent()
    if agent is None:
        yield None
        return
    folder, grpc, http = tmp_path_factory.mktemp("rotel"), free_port(), free_port()
    flags = {
        "otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
        "otlp-http-endpoint": f"127.0.0.1:{http}",
        "exporter": "blackhole",
        "debug-log": "traces",
        "debug-log-verbosity": "detailed",
        "pid-file": str(folder / "pid"),
        "log-file": str(folder / "log"),
    }
    arguments = [word for name, value in flags.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [agent, "start", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": os.environ["PATH"], "NO_COLOR": "1"},
    )
    rotel = Rotel(process, grpc, http)
    reader = threading.Thread(target=rotel.read, daemon=True)
    reader.start()
    try:
        for port in (grpc, http):
            assert reachable(port, 20, lambda: process.poll() is None), rotel.lines
        yield rotel
    finally:
        process.terminate()
        process.wait(20)
        reader.join()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def rotel(require: Callable[[object, str], None], _rotel: Rotel | None) -> Rotel:
    require(_rotel, "rotel is not installed")
    assert _rotel is not None
    return _rotel


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "http/json"])
def test_rotel_shows_what_we_sent(rotel, protocol, compression):
    """Ids, names, kinds, times, attributes of every type, events and status are as sent."""
    name = f"ask-{protocol}-{compression}"
    path = "" if protocol == "grpc" else "/v1/traces"
    port = rotel.grpc if protocol == "grpc" else rotel.http
    target = Target("rotel", f"http://127.0.0.1:{port}{path}", protocol, compression=compression)
    span = out_span(
        name,
        trace_id=bytes(range(16)),
        parent_id=b"\xcd" * 8,
        attributes={"own.text": "é", "own.int": -7, "own.list": ["a", "b"], "own.half": 0.5},
        shared={"session.id": "s-1", "own.yes": True},
        events=[SpanEvent("exception", 1_700_000_000_000_000_000, {"exception.type": "KeyError"})],
        links=[SpanLink(b"\x01" * 16, b"\x02" * 8, {"why": name})],
        kind=CLIENT,
        status=ERROR,
        message="it broke",
        scope=("openinference.instrumentation.pocketflow_async", "0.1.0"),
    )
    transport = connect(target)

    answer = transport.send(transport.content([span], {"service.name": "shop"}), 20)
    transport.close()

    assert answer == Answer(200)
    assert rotel.says(f"why: Str({name})")
    expected = f"""
        -> service.name: Str(shop)
        InstrumentationScope openinference.instrumentation.pocketflow_async 0.1.0
        Trace ID : 000102030405060708090a0b0c0d0e0f
        Parent ID : cdcdcdcdcdcdcdcd
        ID : {span.span_id.hex()}
        Kind : SPAN_KIND_CLIENT
        Start time: {span.start_ns}
        End time: {span.end_ns}
        Status code : STATUS_CODE_ERROR
        Status message : it broke
        -> own.text: Str(é)
        -> own.int: Int(-7)
        -> own.list: Slice(Str(a), Str(b))
        -> own.half: Double(0.5)
        -> session.id: Str(s-1)
        -> own.yes: Bool(true)
        -> Name: exception
        -> Timestamp: 1700000000000000000
        -> exception.type: Str(KeyError)
        -> Trace ID: 01010101010101010101010101010101
        -> ID: 0202020202020202
        -> why: Str({name})
    """
    printed = rotel.about(name)
    assert [
        line.strip() for line in expected.strip().splitlines() if line.strip() not in printed
    ] == []


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_rotel_refuses_what_is_too_large(rotel, protocol):
    """More than it takes is 413, so that the batch is split and not sent for ever."""
    path = "" if protocol == "grpc" else "/v1/traces"
    port = rotel.grpc if protocol == "grpc" else rotel.http
    target = Target("rotel", f"http://127.0.0.1:{port}{path}", protocol, compression="none")
    transport = connect(target)

    answer = transport.send(transport.content([out_span("x" * 30_000_000)], {}), 20)
    transport.close()

    assert answer.status == 413, answer
