"""Ten tenants in one process, each with settings and receivers of its own, or a share of one."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Self

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from pocketflow_async import AsyncFlow, AsyncNode
from tests.tracing.wire_kit import GrpcSink, HttpSink, Received, Sink, attributes
from tracing import TracingConfig, trace_flow

TENANTS = range(1, 11)
SPANS = 3 + 2 * 4
"""Of one run: the flow with its prep and post, and two nodes with three phases each."""
LANGFUSE = "/api/public/otel/v1/traces"


class Ask(AsyncNode[Any, Any, Any]):
    """Takes the number of the tenant, and gives the loop away in between."""

    async def prep_async(self, shared: Any) -> Any:
        return {"tenant": shared["tenant"]}

    async def exec_async(self, said: Any) -> Any:
        await asyncio.sleep(0)
        return said


def flow(number: int, config: TracingConfig) -> Any:
    """Return the traced flow of a tenant; each has the same nodes and a name of its own."""
    first, second = Ask(), Ask()
    first >> second
    return trace_flow(config=config, flow_name=f"Tenant {number}")(AsyncFlow(start=first))


async def runs(number: int, traced: Any, count: int) -> None:
    """Run a tenant's flow *count* times at once."""
    await asyncio.gather(*(traced.run_async({"tenant": number}) for _ in range(count)))


class Notes(SpanProcessor):
    """A processor that keeps what it gets; each tenant that has one has an object of its own."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


@dataclass(frozen=True)
class Said:
    """What is said of one span that arrived, by whoever it came to."""

    trace_id: str
    span_id: str
    session: str
    service: str
    trace: str


@dataclass
class Places:
    """All receivers, and what came to each of them under whose name.

    1 to 4 send to Langfuse, 3 and 4 to one address with keys of their own; 5 sends by gRPC, 6 and 7
    to one address with headers of their own, 8 to both of the shared ones, 9 to a processor, and 10
    to a processor and as JSON. The last is one that nobody but the environment names.
    """

    http: dict[str, HttpSink] = field(default_factory=dict)
    grpc: GrpcSink | None = None
    notes: dict[int, Notes] = field(default_factory=lambda: {9: Notes(), 10: Notes()})
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        for name in ("own 1", "own 2", "langfuse", "otlp", "json", "nobody's"):
            self.http[name] = self._stack.enter_context(HttpSink())
        self.grpc = self._stack.enter_context(GrpcSink())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def sinks(self) -> list[Sink]:
        """All that have a port."""
        assert self.grpc is not None
        return [*self.http.values(), self.grpc]

    def settings(self, number: int) -> dict[str, Any]:
        """Return what tenant *number* says about where its traces go, without the processors."""
        said: dict[str, Any] = {"session_id": f"s-{number}", "service_name": f"tenant-{number}"}
        where = {1: "own 1", 2: "own 2", 3: "langfuse", 4: "langfuse", 8: "langfuse"}.get(number)
        if where is not None:
            said |= {
                "langfuse_public_key": f"pk-lf-{number}",
                "langfuse_secret_key": f"sk-lf-{number}",
                "langfuse_host": self.base(where),
            }
        if number == 5:
            assert self.grpc is not None
            said |= {"otlp_endpoint": self.grpc.url, "otlp_protocol": "grpc"}
        if number in (6, 7, 8):
            said |= {"otlp_endpoint": self.base("otlp")}
        if number == 10:
            said |= {"otlp_endpoint": self.base("json"), "otlp_protocol": "http/json"}
        if "otlp_endpoint" in said:
            said["otlp_headers"] = {"authorization": f"Bearer tenant-{number}"}
        return said

    def config(self, number: int, **more: Any) -> TracingConfig:
        """Return the settings of tenant *number* in this process."""
        said = self.settings(number) | more
        if number in self.notes:
            exporters = ("otlp",) if "otlp_endpoint" in said else ()
            said["exporters"] = (self.notes[number], *exporters)
        return TracingConfig(**said)

    def base(self, name: str) -> str:
        return f"http://127.0.0.1:{self.http[name].port}"

    def environment(self) -> dict[str, str]:
        """Return variables that name a target which no tenant has asked for."""
        return {
            "LANGFUSE_PUBLIC_KEY": "pk-lf-env",
            "LANGFUSE_SECRET_KEY": "sk-lf-env",
            "LANGFUSE_BASE_URL": self.base("nobody's"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.base("nobody's"),
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer env",
            "OTEL_SERVICE_NAME": "env",
        }

    def came(self, *, taken: bool = True) -> dict[tuple[str, str], list[Said]]:
        """Return what came, by place and credentials; with *taken* only what was accepted."""
        found: dict[tuple[str, str], list[Said]] = {}
        named = {**self.http, "grpc": self.grpc}
        for place, sink in named.items():
            assert sink is not None
            for request in tuple(sink.requests):
                if request.taken or not taken:
                    key = (place, request.headers.get("authorization", ""))
                    found.setdefault(key, []).extend(_said(request))
        for number, notes in self.notes.items():
            if notes.spans:
                found[f"notes {number}", ""] = [_noted(span) for span in notes.spans]
        return found

    def expected(self, numbers: Iterable[int]) -> dict[tuple[str, str], int]:
        """Return the place and the credentials for each tenant's targets, with its number."""
        return {place: number for number in numbers for place in _places(number)}


def _places(number: int) -> list[tuple[str, str]]:
    keys = base64.b64encode(f"pk-lf-{number}:sk-lf-{number}".encode()).decode()
    bearer = f"Bearer tenant-{number}"
    langfuse = {1: "own 1", 2: "own 2", 3: "langfuse", 4: "langfuse", 8: "langfuse"}
    otlp = {5: "grpc", 6: "otlp", 7: "otlp", 8: "otlp", 10: "json"}
    found = [(langfuse[number], f"Basic {keys}")] if number in langfuse else []
    found += [(otlp[number], bearer)] if number in otlp else []
    return found + ([(f"notes {number}", "")] if number in (9, 10) else [])


def _said(request: Received) -> list[Said]:
    found = []
    for group in request.request.resource_spans:
        service = attributes(group.resource)["service.name"]
        for scope in group.scope_spans:
            for span in scope.spans:
                said = attributes(span)
                found.append(_of(span.trace_id.hex(), span.span_id.hex(), service, said))
    return found


def _noted(span: ReadableSpan) -> Said:
    ids = span.get_span_context()
    assert ids is not None
    service = str(span.resource.attributes["service.name"])
    return _of(f"{ids.trace_id:032x}", f"{ids.span_id:016x}", service, span.attributes or {})


def _of(trace_id: str, span_id: str, service: str, said: Mapping[str, Any]) -> Said:
    return Said(trace_id, span_id, said.get("session.id", ""), service, said["langfuse.trace.name"])


def check(found: list[Said], number: int, traces: int) -> None:
    """Check that these are all spans of *traces* runs of tenant *number*, each once, no other."""
    own = (f"s-{number}", f"tenant-{number}", f"Tenant {number}")
    assert {(said.session, said.service, said.trace) for said in found} == {own}
    per_trace = Counter(said.trace_id for said in found)
    assert len(per_trace) == traces
    assert set(per_trace.values()) == {SPANS}
    assert len({said.span_id for said in found}) == len(found)
