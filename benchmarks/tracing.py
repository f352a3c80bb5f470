"""What tracing costs: ours, hand-written OpenTelemetry, and pocketflow_tracing 0.1.5, side by side.

CPU time, medians of interleaved rounds in one process, so that a busy machine disturbs all alike.
Read the ratios. Ours records into a real store in a temporary folder. "loop" is the CPU time of the
event loop's own thread, "all" that of the whole process until everything is stored.

0.1.5 gets a client that keeps what it is told in memory and sends nothing, the cheapest back end
that there can be. It is looked for in the folder ORIGINAL (default /tmp/pocketflow-tracing-0.1.5).
Without -P this file would be taken for the package of the same name.

    pip install --no-deps --target ORIGINAL pocketflow-tracing==0.1.5
    python -P benchmarks/tracing.py [ROUNDS] [ORIGINAL]
"""

import asyncio
import contextlib
import gc
import io
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pocketflow
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import pocketflow_async
from tracing import flush, trace_flow
from tracing.store import TraceReader

CHAIN, FLOWS, SHORT, RUNS = 1_000, 200, 20, 1_000
CONTENT = {"question": "what does it cost?", "documents": ["a" * 40, "b" * 40], "top_k": 4}
ANSWER = {"answer": "little", "tokens": 17, "sources": [1, 2, 3]}
CPU = tuple[float, float]


class Nowhere(SpanExporter):
    def export(self, spans):
        return SpanExportResult.SUCCESS


PROVIDER = TracerProvider()
PROVIDER.add_span_processor(
    BatchSpanProcessor(Nowhere(), max_queue_size=1 << 20, max_export_batch_size=4096)
)
TRACER = PROVIDER.get_tracer("benchmark")


class Kept:
    """A span or trace of the in-memory client of 0.1.5."""

    def __init__(self) -> None:
        self.ended = False

    def span(self, **_: Any) -> "Kept":
        child = Kept()
        Client.spans.append(child)
        return child

    def update(self, **_: Any) -> None:
        pass

    def end(self, **_: Any) -> None:
        self.ended = True


class Client:
    spans: list[Kept] = []  # noqa: RUF012 (one for all)

    def __init__(self, **_: Any) -> None:
        pass

    def trace(self, **_: Any) -> Kept:
        return Kept()

    def flush(self) -> None:
        pass


def node(engine: Any, seconds: float | None = None, observed: bool = False) -> Any:
    """A node with content; *observed* by a span of hand-written OpenTelemetry if asked for."""

    class Link(engine.AsyncNode):
        async def prep_async(self, shared):
            return CONTENT

        async def exec_async(self, prep_res):
            if seconds is not None:
                await asyncio.sleep(seconds)
            return ANSWER

        async def post_async(self, shared, prep_res, exec_res):
            return "default"

    class Observed(Link):
        async def _run_async(self, shared):
            with TRACER.start_as_current_span("Link") as span:
                span.set_attribute("node.class", "Link")
                span.set_attribute("node.kind", "async")
                span.set_attribute("session.id", "s")
                prepared = await self.prep_async(shared)
                span.set_attribute("input.value", orjson.dumps(prepared).decode())
                result = await self.exec_async(prepared)
                span.set_attribute("output.value", orjson.dumps(result).decode())
                span.set_attribute("attempts", 1)
                action = await self.post_async(shared, prepared, result)
                span.set_attribute("action", action)
            return action

    return (Observed if observed else Link)()


def chain(engine: Any, length: int, **given: Any) -> Any:
    nodes = [node(engine, **given) for _ in range(length)]
    for one, other in itertools.pairwise(nodes):
        one >> other
    return type("Chain", (engine.AsyncFlow,), {})(start=nodes[0])


def ours(flow: Any) -> Any:
    return trace_flow(flow_name="Chain")(flow)


def original(folder: str) -> Callable[[Any, bool], Any] | None:
    """Return what puts 0.1.5 on a flow, or None and say how to install it."""
    sys.path.append(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it complains that langfuse is absent
            import pocketflow_tracing
            from pocketflow_tracing import core
    except ImportError:
        print(f"no pocketflow_tracing in {folder}; its columns are left out. To have them:")
        print(f"  pip install --no-deps --target {folder} pocketflow-tracing==0.1.5\n")
        return None
    core.Langfuse, core.LANGFUSE_AVAILABLE = Client, True

    def put(flow: Any, keys: bool = True) -> Any:
        config = pocketflow_tracing.TracingConfig(*(["x"] * 3 if keys else []))
        cls = pocketflow_tracing.trace_flow(config)(type("Chain", (type(flow),), {}))
        return cls(start=flow.start_node)

    return put


def measure(flow: Any, count: int, times: int = 1) -> CPU:
    """Return microseconds of CPU per node: of the loop's thread, and of the process to the end."""

    async def main() -> None:
        for _ in range(times):
            await flow.run_async({})

    gc.collect()
    process, thread = time.process_time(), time.thread_time()
    asyncio.run(main())
    mine = time.thread_time() - thread
    flush(60)
    PROVIDER.force_flush()
    Client.spans.clear()
    return tuple(spent / count / times * 1e6 for spent in (mine, time.process_time() - process))  # type: ignore[return-value]


def compare(flows: dict[str, Any], rounds: int, count: int, times: int = 1) -> dict[str, CPU]:
    """Return the median costs of all *flows*, measured in turn."""
    for flow in flows.values():
        measure(flow, count, times)
    table = [[measure(flow, count, times) for flow in flows.values()] for _ in range(rounds)]
    medians = [
        [statistics.median(kind) for kind in zip(*each, strict=True)]
        for each in zip(*table, strict=True)
    ]
    return {name: (loop, whole) for name, (loop, whole) in zip(flows, medians, strict=True)}


def show(title: str, costs: dict[str, CPU], peer: str) -> None:
    print(f"\n{title}\n{'':34} {'loop':>8} {'all':>8}   ratio to {peer}: loop, all")
    for name, (loop, whole) in costs.items():
        other = costs.get(peer, (float("nan"), float("nan")))
        ratios = f"{loop / other[0]:8.2f} {whole / other[1]:8.2f}"
        print(f"{name:34} {loop:8.1f} {whole:8.1f} {ratios:>20}")


async def at_once(flow: Any, count: int) -> float:
    """Return the milliseconds that *count* runs of one flow at once take."""
    began = time.perf_counter()
    await asyncio.gather(*(flow.run_async({}) for _ in range(count)))
    return (time.perf_counter() - began) * 1e3


def walls(flows: dict[str, Any], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of 200 runs at once."""
    found: dict[str, list[float]] = {name: [] for name in flows}
    for _ in range(rounds + 1):
        for name, flow in flows.items():
            gc.collect()
            found[name].append(asyncio.run(at_once(flow, FLOWS)))
            flush(60)
            PROVIDER.force_flush()
            Client.spans.clear()
    return {name: statistics.median(each[1:]) for name, each in found.items()}


def memory(flow: Any) -> float:
    """Return the kilobytes that stay after each further 1,000 runs, once warm."""

    async def main(runs: int) -> None:
        for _ in range(runs):
            await flow.run_async({})
            Client.spans.clear()

    def used() -> int:
        flush(60)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    asyncio.run(main(2 * RUNS))
    tracemalloc.start()
    asyncio.run(main(2 * RUNS))
    before = used()
    asyncio.run(main(RUNS))
    grown = used() - before
    tracemalloc.stop()
    return grown / 1e3


def recorded(store: Path, put: Any) -> None:
    """Say what each has of one run of a three-node flow."""
    asyncio.run(ours(chain(pocketflow_async, 3)).run_async({}))
    flush(60)
    reader = TraceReader(store)
    (root,) = reader.trace(reader.traces(1)[0].trace_id).roots
    phases = sum(len(span.phases) for span in root.children)
    nodes = f"{len(root.children)} node spans with {phases} phases in them"
    print(f"\nrecorded of one run of 3 nodes: ours 1 flow span, {nodes}, contents as JSON")
    if put is not None:
        Client.spans.clear()
        asyncio.run(put(chain(pocketflow, 3)).run_async({}))
        ended = sum(span.ended for span in Client.spans)
        print(f"  0.1.5: 1 trace, {len(Client.spans)} phase spans without parents, {ended} ended")
        Client.spans.clear()
        asyncio.run(at_once(put(chain(pocketflow, 3, seconds=0.001)), 2))
        ended = sum(span.ended for span in Client.spans)
        print(f"  0.1.5, two runs of one flow at once: {len(Client.spans)} spans, {ended} ended")


def main() -> None:
    warnings.simplefilter("ignore")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    put = original(sys.argv[2] if len(sys.argv) > 2 else "/tmp/pocketflow-tracing-0.1.5")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {rounds} rounds")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "traces.db")
        os.environ["POCKETFLOW_TRACE_STORE"] = str(store)
        recorded(store, put)
        flows = {
            "untraced": chain(pocketflow_async, CHAIN),
            "hand-written OpenTelemetry": chain(pocketflow_async, CHAIN, observed=True),
            "ours": ours(chain(pocketflow_async, CHAIN)),
        }
        title = f"chain of {CHAIN} async nodes, CPU microseconds a node"
        show(title, compare(flows, rounds, CHAIN), "hand-written OpenTelemetry")
        flows = {
            "untraced, PocketFlow": chain(pocketflow, 1),
            "untraced, our engine": chain(pocketflow_async, 1),
            "ours on PocketFlow's classes": ours(chain(pocketflow, 1)),
            "ours": ours(chain(pocketflow_async, 1)),
        }
        if put is not None:
            flows["0.1.5 without keys"] = put(chain(pocketflow, 1), keys=False)
            flows["0.1.5"] = put(chain(pocketflow, 1))
        title = "one-node flow, CPU microseconds a run"
        show(title, compare(flows, rounds, 1, times=200), "0.1.5")
        slept = {
            "untraced": chain(pocketflow_async, SHORT, seconds=0.001),
            "ours": ours(chain(pocketflow_async, SHORT, seconds=0.001)),
            "hand-written": chain(pocketflow_async, SHORT, seconds=0.001, observed=True),
        }
        if put is not None:
            slept["0.1.5"] = put(chain(pocketflow, SHORT, seconds=0.001))
        print(f"\n{FLOWS} flows at once of {SHORT} nodes of 1 ms, wall milliseconds")
        times = walls(slept, rounds)
        for name, wall in times.items():
            print(f"{name:34} {wall:8.1f} {wall / times['untraced']:8.2f}x untraced")
        print("\nkept after each further 1,000 one-node runs, kB")
        for name, flow in list(flows.items())[1:]:
            print(f"{name:34} {memory(flow):8.1f}")


if __name__ == "__main__":
    main()
