"""What sending costs: ours, hand-written OpenTelemetry, and Langfuse's @observe, side by side.

CPU microseconds per span, medians of rounds in turn, each in a process of its own, so that a busy
machine disturbs all alike. Read the ratios. "loop" is the CPU time of the thread that the flow runs
in, "all" that of the whole process until everything is sent; all is what a flow without tracing
takes less. The receiver is another process, which takes everything and looks at nothing.

All make as many spans: one per flow, node and phase, with the same names, contents and session,
protobuf over HTTP. OpenTelemetry has the batch processor with a queue in which everything has
room, since else it loses spans; so has Langfuse, whose SDK is left out when it is not installed.
OpenTelemetry also keeps nothing: ours has each span in a store on disk before it is sent.

    python -P benchmarks/export.py [ROUNDS]
    python -P benchmarks/export.py profile
"""

import asyncio
import cProfile
import gzip
import http.client
import importlib.util
import itertools
import json
import multiprocessing
import os
import platform
import pstats
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import Any

import orjson

from pocketflow_async import AsyncFlow, AsyncNode

NODES, RUNS, WARM = 9, 400, 30
SPANS = 4 * NODES + 3
SESSION, USER = "s", "u"
DOCUMENTS = ["a" * 40, "b" * 40]
ANSWER = {"answer": "little", "tokens": 17, "sources": [1, 2, 3]}


def text(value: Any) -> str:
    return orjson.dumps(value).decode()


class Work(AsyncNode):
    async def prep_async(self, shared):
        return {"question": "what does it cost?", "documents": DOCUMENTS, "top_k": 4}

    async def exec_async(self, prep_res):
        return ANSWER

    async def post_async(self, shared, prep_res, exec_res):
        return "default"


def chain(of: type[AsyncNode], flow: type[AsyncFlow] = AsyncFlow) -> AsyncFlow:
    nodes = [of() for _ in range(NODES)]
    for one, other in itertools.pairwise(nodes):
        one >> other
    return flow(start=nodes[0])


# Each of these returns a flow and what sends everything that it has left.


def untraced(port: int, compression: str) -> Any:
    return chain(Work), lambda: None


def stored(port: int, compression: str) -> Any:
    import tracing

    flow = tracing.trace_flow(flow_name="Chain", session_id=SESSION, user_id=USER)(chain(Work))
    return flow, lambda: tracing.flush(60)


def ours(port: int, compression: str) -> Any:
    import tracing

    config = tracing.TracingConfig(
        otlp_endpoint=f"http://127.0.0.1:{port}", otlp_compression=compression
    )
    put = tracing.trace_flow(
        config=config, flow_name="Chain", session_id=SESSION, user_id=USER, tags=["t"]
    )

    def end() -> None:
        counts = tracing.flush(60)
        assert counts.sent == counts.stored, counts

    return put(chain(Work)), end


def opentelemetry(port: int, compression: str) -> Any:
    """Spans by hand: what a careful user of OpenTelemetry's SDK writes."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(
        f"http://127.0.0.1:{port}/v1/traces",
        compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression,
    )
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1 << 20))
    tracer = provider.get_tracer("benchmark")

    @contextmanager
    def opened(name, kind):
        said = {
            "openinference.span.kind": "CHAIN",
            "flow.kind": kind,
            "langfuse.trace.name": "Chain",
            "session.id": SESSION,
            "user.id": USER,
            "tag.tags": ["t"],
        }
        with tracer.start_as_current_span(name, attributes=said) as span:
            yield span
            span.set_attribute("flow.outcome", "completed")

    return chain(*by_hand(opened)), lambda: provider.force_flush(60_000)


def by_hand(opened: Any) -> Any:
    """Return a node and a flow whose spans are opened by *opened*."""

    def said(span, given, made):
        span.set_attributes(
            {
                "input.value": text(given),
                "input.mime_type": "application/json",
                "output.value": text(made),
                "output.mime_type": "application/json",
            }
        )

    class Observed(Work):
        async def _run_async(self, shared):
            with opened("Work", "node") as span:
                with opened("Work.prep", "prep"):
                    prepared = await self.prep_async(shared)
                with opened("Work.exec", "exec"):
                    result = await self.exec_async(prepared)
                with opened("Work.post", "post"):
                    action = await self.post_async(shared, prepared, result)
                said(span, prepared, result)
            return action

    class Chain(AsyncFlow):
        async def run_async(self, shared):
            with opened("Chain", "flow") as span:
                given = dict(shared)
                with opened("Chain.prep", "prep"):
                    pass
                result = await super().run_async(shared)
                with opened("Chain.post", "post"):
                    pass
                said(span, given, shared)
            return result

    return Observed, Chain


def langfuse(port: int, compression: str) -> Any:
    """`@observe` on the methods, contents recorded once per node as the others do."""
    from langfuse import Langfuse, observe, propagate_attributes
    from opentelemetry.sdk.trace import TracerProvider

    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = str(1 << 20)
    client = Langfuse(
        public_key="pk-lf-1",
        secret_key="sk-lf-1",
        base_url=f"http://127.0.0.1:{port}",
        flush_at=512,
        tracer_provider=TracerProvider(),
    )
    bare = {"capture_input": False, "capture_output": False}

    class Observed(Work):
        @observe(name="Work.prep", **bare)
        async def prep_async(self, shared):
            return await super().prep_async(shared)

        @observe(name="Work.exec")  # its contents are those of the node
        async def exec_async(self, prep_res):
            return await super().exec_async(prep_res)

        @observe(name="Work.post", **bare)
        async def post_async(self, shared, prep_res, exec_res):
            return await super().post_async(shared, prep_res, exec_res)

        @observe(name="Work", **bare)
        async def _run_async(self, shared):
            return await super()._run_async(shared)

    class Chain(AsyncFlow):
        @observe(name="Chain.prep", **bare)
        async def prep_async(self, shared):
            return await super().prep_async(shared)

        @observe(name="Chain.post", **bare)
        async def post_async(self, shared, prep_res, exec_res):
            return await super().post_async(shared, prep_res, exec_res)

        @observe(name="Chain")
        async def run_async(self, shared):
            with propagate_attributes(
                session_id=SESSION, user_id=USER, tags=["t"], trace_name="Chain"
            ):
                return await super().run_async(shared)

    return chain(Observed, Chain), client.flush


KINDS = {
    "untraced": (untraced, "none"),
    "ours, stored only": (stored, "none"),
    "ours, no compression": (ours, "none"),
    "ours, gzip": (ours, "gzip"),
    "OpenTelemetry, no compression": (opentelemetry, "none"),
    "OpenTelemetry, gzip": (opentelemetry, "gzip"),
    "Langfuse @observe (gzip)": (langfuse, "gzip"),
}


class Receiver:
    """Takes requests and answers 200, in a process of its own; counts spans when it is asked."""

    def __init__(self, listening: socket.socket) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.listening = listening

    def accept(self) -> None:
        while True:
            connection, _ = self.listening.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while line := stream.readline():
            headers = http.client.parse_headers(stream)
            body = stream.read(int(headers["Content-Length"]))
            if b"/traces" in line:
                self.bodies.append((headers.get("Content-Encoding", ""), body))
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
                b"Content-Length: 0\r\n\r\n"
            )

    def counted(self) -> dict[str, int]:
        """Return how many spans came since the last time, by the official decoder."""
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

        counts = {"spans": 0, "bytes": 0}
        for encoding, body in self.bodies:
            counts["bytes"] += len(body)
            data = gzip.decompress(body) if encoding == "gzip" else body
            for resource in service.ExportTraceServiceRequest.FromString(data).resource_spans:
                counts["spans"] += sum(len(scope.spans) for scope in resource.scope_spans)
        self.bodies.clear()
        return counts


def serve(listening: socket.socket, told: Any) -> None:
    receiver = Receiver(listening)
    threading.Thread(target=receiver.accept, daemon=True).start()
    while told.recv():
        told.send(receiver.counted())


def child(name: str, port: int) -> None:
    """Measure one kind in this process."""
    make, compression = KINDS[name]
    flow, end = make(port, compression)

    async def go(runs: int) -> None:
        for number in range(runs):
            await flow.run_async({"number": number})

    asyncio.run(go(WARM))
    end()
    process, thread = time.process_time(), time.thread_time()
    asyncio.run(go(RUNS))
    loop = time.thread_time() - thread
    end()
    whole = time.process_time() - process
    print(json.dumps([spent / RUNS / SPANS * 1e6 for spent in (loop, whole)]), flush=True)
    os._exit(0)  # everything is sent; an exit handler has no more to do


def measure(name: str, port: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "traces.db")
        done = subprocess.run(
            [sys.executable, "-P", __file__, "child", name, str(port)],
            env={**os.environ, "POCKETFLOW_TRACE_STORE": store},
            stdout=subprocess.PIPE,
            check=True,
        )
    found: list[float] = json.loads(done.stdout)
    return found


def profile(port: int) -> None:
    """Show where the sender's thread spends its time."""
    from tracing.export.sender import Sender

    prof = cProfile.Profile()
    real = Sender.run

    def run(self: Sender) -> None:
        prof.enable()
        try:
            real(self)
        finally:
            prof.disable()

    Sender.run = run  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["POCKETFLOW_TRACE_STORE"] = os.path.join(folder, "traces.db")
        flow, end = ours(port, "gzip")

        async def go() -> None:
            for number in range(WARM + RUNS):
                await flow.run_async({"number": number})

        asyncio.run(go())
        end()
        from tracing.store import open_stores

        for store in open_stores():
            for courier in store.couriers:
                courier.stop(time.monotonic() + 2)
                courier.join(time.monotonic() + 2)
    pstats.Stats(prof).sort_stats("tottime").print_stats(35)


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port = listening.getsockname()[1]
        told, heard = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        server = context.Process(target=serve, args=(listening, heard), daemon=True)
        server.start()
        if sys.argv[1:] == ["profile"]:
            profile(port)
            return
        compare(int(sys.argv[1]) if len(sys.argv) > 1 else 5, port, told)
        told.send(False)


def compare(rounds: int, port: int, told: Any) -> None:
    kinds = list(KINDS)
    if importlib.util.find_spec("langfuse") is None:
        kinds.remove("Langfuse @observe (gzip)")
        print("langfuse is not installed; its line is left out (pip install langfuse)\n")
    table: dict[str, list[list[float]]] = {name: [] for name in kinds}
    counts: dict[str, dict[str, int]] = {}
    for number in range(rounds + 1):
        for name in kinds:
            said = measure(name, port)
            told.send(True)
            counts[name] = told.recv()
            if number:
                table[name].append(said)
    medians = {
        name: [statistics.median(kind) for kind in zip(*each, strict=True)]
        for name, each in table.items()
    }
    cores = os.cpu_count()
    print(f"Python {platform.python_version()}, {cores} cores, medians of {rounds} rounds")
    print(f"{RUNS} runs of {NODES} nodes, {SPANS} spans each; CPU microseconds a span")
    print("ratios: of what is more than untraced, to OpenTelemetry in the same compression\n")
    print(
        f"{'':32} {'loop':>7} {'all':>7} {'ratio: loop':>12} {'all':>7} {'spans':>7} {'B/span':>7}"
    )
    for name, both in medians.items():
        peer = "OpenTelemetry, gzip" if "gzip" in name else "OpenTelemetry, no compression"
        ratios = [
            (mine - bare) / (theirs - bare)
            for mine, theirs, bare in zip(both, medians[peer], medians["untraced"], strict=True)
        ]
        got, size = counts[name]["spans"], counts[name]["bytes"]
        line = f"{name:32} {both[0]:7.1f} {both[1]:7.1f} {ratios[0]:12.2f} {ratios[1]:7.2f}"
        print(f"{line} {got:7} {size / got if got else 0:7.0f}")
        if got not in (0, (RUNS + WARM) * SPANS):
            print(f"    {(RUNS + WARM) * SPANS} were expected: the line does not count")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
