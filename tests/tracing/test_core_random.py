"""Any mixture of calls, from many tasks at once: every trace is a well-formed tree of its own."""

import asyncio
import random

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import TracingConfig, current_span
from tracing.core import AsyncTraceContext, LangfuseTracer


class Step(AsyncNode):
    async def exec_async(self, prep_res):
        await asyncio.sleep(0)


class Worker:
    """Makes random calls, all of whose spans have the worker's number in their names."""

    def __init__(self, tracer, number, seed):
        self.tracer = tracer
        self.number = number
        self.draw = random.Random(seed * 1_000 + number)
        self.open = []

    def name(self, what):
        return f"{what}-{self.number}"

    async def run(self):
        async with await self.tracer.start_trace_async(self.name("root"), self.number) as context:
            self.id = context.trace_id
            await self.some(3)
        self.tracer.end_trace(self.number)
        assert current_span() is None
        assert AsyncTraceContext.get_current_context() is None

    async def some(self, depth):
        for _ in range(self.draw.randrange(5)):
            await asyncio.sleep(0)
            await self.draw.choice(
                [self.begin, self.end, self.nested, self.again, self.flow, self.together]
            )(depth - 1)
            assert current_span().trace_id == self.id

    async def begin(self, depth):
        self.open.append(self.tracer.start_node_span(self.name("node"), "same", "exec"))

    async def end(self, depth):
        if self.open:
            place = self.draw.randrange(len(self.open))
            self.tracer.end_node_span(self.draw.choice([self.open.pop(place), "same_exec"]))

    async def nested(self, depth):
        self.tracer.start_trace(self.name("nested"), {})
        if depth > 0:
            await self.some(depth)
        self.tracer.end_trace({}, self.draw.choice(["success", "error"]))

    async def again(self, depth):
        async with AsyncTraceContext(self.tracer, self.id, "again"):
            if depth > 0:
                await self.some(depth)

    async def flow(self, depth):
        await AsyncFlow(Step(), name=self.name("flow")).run_async({})

    async def together(self, depth):
        async def part():
            if depth > 0:
                await self.some(depth)
            if self.draw.random() < 0.3:
                raise ValueError("no")

        names = [self.name("a"), self.name("b")]
        await self.tracer.execute_parallel_async_flows([part, part], names)


def check(span, number, last):
    """Check that *span* is the worker's own, has ended, and lies inside of what is around it."""
    assert span.outcome in {"completed", "failed"}
    assert span.end_ns is not None
    assert span.end_ns <= last
    assert span.kind == "node" or span.name in (
        "ParallelFlowComposition",
        *(f"{what}-{number}" for what in ("root", "nested", "flow", "a", "b")),
        f"node-{number}.exec",
    )
    for child in span.children:
        assert child.start_ns >= span.start_ns
        check(child, number, span.end_ns)


@pytest.mark.parametrize("seed", range(25))
async def test_random_calls_make_well_formed_trees(traces, seed):
    """One root a trace, nobody else's spans in it, all ended, children inside their parents."""
    tracer = LangfuseTracer(TracingConfig())
    await asyncio.gather(*[Worker(tracer, number, seed).run() for number in range(6)])

    found = traces.all()
    assert len(found) == 6
    for tree in found:
        (root,) = tree.roots
        check(root, root.name.rpartition("-")[2], root.end_ns)
    assert (tracer._traces, tracer._spans) == ({}, {})
    assert tracer.get_composition_manager().active_executions == {}
