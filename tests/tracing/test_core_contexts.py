"""`AsyncTraceContext`: being in a trace for a block, in any task or thread."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import TracingConfig, carry, current_span, trace_flow
from tracing.core import AsyncTraceContext, LangfuseTracer


@pytest.fixture
def tracer():
    return LangfuseTracer(TracingConfig())


def here():
    """Return trace id and flow name of the current context."""
    context = AsyncTraceContext.get_current_context()
    return None if context is None else (context.trace_id, context.flow_name)


class Look(AsyncNode):
    async def exec_async(self, prep_res):
        return here()

    async def post_async(self, shared, prep_res, exec_res):
        shared.setdefault("seen", []).append(exec_res)


async def test_start_trace_async_returns_a_context_to_enter(tracer, traces):
    """Its attributes are those of the contract; inside, it is the current one."""
    context = await tracer.start_trace_async("F", {"a": 1})

    assert (context.tracer, context.flow_name, context.spans) == (tracer, "F", {})
    assert context.task_id is None
    async with context as entered:
        assert entered is context
        assert AsyncTraceContext.get_current_context() is context
        assert context.task_id == id(asyncio.current_task())
        assert current_span().trace_id == context.trace_id
        assert tracer.current_trace.id == context.trace_id
    tracer.end_trace({"b": 2})

    (tree,) = traces.all()
    assert tree.summary.trace_id == context.trace_id


def test_a_context_works_with_a_plain_with(tracer):
    """The synchronous form sets what the asynchronous one sets."""
    context = asyncio.run(tracer.start_trace_async("F", {}))
    with context:
        assert AsyncTraceContext.get_current_context() is context
        assert current_span().trace_id == context.trace_id
    assert AsyncTraceContext.get_current_context() is None
    assert current_span() is None
    tracer.end_trace({}, trace_id=context.trace_id)


async def test_leaving_brings_back_the_one_around(tracer, traces, shape):
    """Nested contexts: the outer one is current again, and at the end none (defect 9)."""
    outer = await tracer.start_trace_async("Outer", {})
    async with outer:
        inner = await tracer.start_trace_async("Inner", {})
        async with inner:
            assert AsyncTraceContext.get_current_context() is inner
            tracer.end_node_span(tracer.start_node_span("N", "1", "exec"))
            tracer.end_trace({})
        assert AsyncTraceContext.get_current_context() is outer
        tracer.end_node_span(tracer.start_node_span("M", "2", "exec"))
        tracer.end_trace({})
    assert AsyncTraceContext.get_current_context() is None
    assert current_span() is None

    assert shape(traces.one()) == (
        "flow",
        "Outer",
        "completed",
        [
            ("flow", "Inner", "completed", [("span", "N.exec", "completed")]),
            ("span", "M.exec", "completed"),
        ],
    )


async def test_an_error_leaves_the_context_too(tracer):
    """What raised inside goes on, and the context is left."""
    context = await tracer.start_trace_async("F", {})
    with pytest.raises(ValueError, match="boom"):
        async with context:
            raise ValueError("boom")

    assert AsyncTraceContext.get_current_context() is None
    tracer.end_trace({}, "error")


async def test_leaving_does_so_whatever_is_still_open_inside(tracer, traces, find):
    """A nested trace that nobody ended is not current any more, and ends with the outer one."""
    async with await tracer.start_trace_async("Outer", {}):
        tracer.start_trace("Nested", {})
    assert current_span() is None
    assert AsyncTraceContext.get_current_context() is None
    tracer.end_trace({})

    (nested,) = find(traces.one(), "Nested")
    assert nested.attributes["flow.unfinished"] is True


async def test_an_id_as_text_means_the_span_of_the_trace_we_are_in(tracer, traces):
    """One task, two traces, the same text: each context finds its own."""
    first = await tracer.start_trace_async("First", {})
    second = await tracer.start_trace_async("Second", {})
    for context in (first, second):
        async with context:
            tracer.start_node_span("N", "n", "exec")
    for context in (first, second):
        async with context:
            tracer.end_node_span("n_exec", output_data=context.flow_name)
            tracer.end_trace({})

    for tree in traces.all():
        assert tree.roots[0].children[0].output == f'"{tree.summary.name}"'.encode()


async def test_the_trace_may_be_ended_after_the_block_too(tracer, traces):
    """end_trace finds the trace that was started here, inside the block or after it."""
    async with await tracer.start_trace_async("F", {}):
        pass
    tracer.end_trace({"after": True})

    assert traces.one().output == b'{"after":true}'


async def test_a_trace_that_another_task_has_started_may_be_ended_after_the_block(tracer, traces):
    """Entering is enough to know which trace end_trace means."""
    context = await asyncio.create_task(tracer.start_trace_async("F", {}))
    for _ in range(3):
        async with context:
            assert AsyncTraceContext.get_current_context() is context
        assert here() is None
    tracer.end_trace({"after": True})
    tracer.end_trace({"twice": True})

    assert traces.one().output == b'{"after":true}'


async def test_a_trace_that_is_not_entered_takes_node_spans(tracer, traces):
    """Without any block, spans go to the trace that was started here last."""
    await tracer.start_trace_async("F", {})
    span_id = await tracer.start_node_span_async("N", "1", "exec")
    await tracer.end_node_span_async(span_id, "in", "out")
    tracer.end_trace({})

    assert [span.name for span in traces.one().children] == ["N.exec"]


async def test_traces_that_were_started_before_are_entered_apart(tracer, traces):
    """Three are started in one task and run in three: each has its own span and its own end."""
    contexts = [await tracer.start_trace_async(f"F{number}", number) for number in range(3)]
    meet = asyncio.Barrier(3)

    async def work(context):
        async with context:
            span_id = await tracer.start_node_span_async("N", "n", "exec")
            await meet.wait()
            await tracer.end_node_span_async(span_id, output_data=context.flow_name)
            await meet.wait()
            tracer.end_trace(context.flow_name)

    await asyncio.gather(*map(work, contexts))

    found = traces.all()
    assert sorted(tree.summary.name for tree in found) == ["F0", "F1", "F2"]
    for tree in found:
        (root,) = tree.roots
        assert root.output == root.children[0].output == f'"{tree.summary.name}"'.encode()


async def test_gather_and_task_groups_inherit_the_context(tracer, traces):
    """Child tasks are in the trace of the block they were made in."""
    seen = []

    async def child():
        await asyncio.sleep(0)
        seen.append(here())

    context = await tracer.start_trace_async("F", {})
    async with context:
        await asyncio.gather(child(), child())
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
        await asyncio.to_thread(lambda: seen.append(here()))
        with ThreadPoolExecutor() as pool:
            pool.submit(carry(lambda: seen.append(here()))).result()
    tracer.end_trace({})

    assert seen == [(context.trace_id, "F")] * 5


async def test_one_context_entered_by_many_tasks_at_once(tracer, traces):
    """Each leaves what it has entered; the trace has the spans of all."""
    context = await tracer.start_trace_async("F", {})
    meet = asyncio.Barrier(5)

    async def work(number):
        async with context:
            await meet.wait()
            span_id = tracer.start_node_span("N", str(number), "exec")
            await meet.wait()
            tracer.end_node_span(span_id)
        return here(), current_span()

    assert await asyncio.gather(*map(work, range(5))) == [(None, None)] * 5
    tracer.end_trace({})
    assert len(traces.one().children) == 5


def test_a_context_entered_in_a_bare_thread(tracer, traces):
    """Entering is all that a thread without a context needs."""
    trace_id = tracer.start_trace("F", {})
    context = tracer.create_async_context("F", trace_id)

    def work():
        with context:
            tracer.end_node_span(tracer.start_node_span("N", "1", "exec"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    tracer.end_trace({})

    (span,) = traces.one().children
    assert "flow.context_lost" not in span.attributes


async def test_a_context_left_in_another_task_does_no_harm(tracer):
    """Entered here and left there, as fixtures do: nothing raises, and the child has none."""
    context = await tracer.start_trace_async("F", {})
    await context.__aenter__()

    async def leave():
        await context.__aexit__(None, None, None)
        return here()

    assert await asyncio.create_task(leave()) is None
    assert AsyncTraceContext.get_current_context() is context
    await context.__aexit__(None, None, None)
    await context.__aexit__(None, None, None)
    assert here() is None
    tracer.end_trace({})


async def test_a_context_of_an_open_trace_by_its_id(tracer, traces, find):
    """AsyncTraceContext(tracer, trace_id, flow_name) enters the trace of that id."""
    trace_id = tracer.start_trace("F", {})

    async def elsewhere():
        async with AsyncTraceContext(tracer, trace_id, "G"):
            assert here() == (trace_id, "G")
            await AsyncFlow(Look(), name="Plain").run_async({})

    await asyncio.create_task(elsewhere())
    tracer.end_trace({})

    assert len(find(traces.one(), "Plain")) == 1


async def test_an_unknown_id_becomes_a_span_for_as_long_as_the_block(tracer, traces):
    """The context is current under the id given, and what runs in it is kept."""
    async with AsyncTraceContext(tracer, "trace_123", "Foreign"):
        assert here() == ("trace_123", "Foreign")
        tracer.end_node_span(tracer.start_node_span("N", "1", "exec"))
    assert here() is None

    root = traces.one()
    assert (root.name, root.attributes["flow.trace_id"]) == ("Foreign", "trace_123")
    assert [span.name for span in root.children] == ["N.exec"]


async def test_create_async_context_takes_the_current_trace(tracer, traces):
    """Without an id it is that of the current trace; arguments by place and by name."""
    trace_id = tracer.start_trace("F", {})

    assert tracer.create_async_context("G").trace_id == trace_id
    assert tracer.create_async_context(flow_name="G", trace_id=trace_id).trace_id == trace_id
    tracer.end_trace({})


def test_create_async_context_needs_a_trace(tracer):
    """Neither an id nor a current trace: a ValueError with the words of the contract."""
    with pytest.raises(ValueError, match=r"^No active trace found and no trace_id provided$"):
        tracer.create_async_context("F")


async def test_active_contexts_are_those_of_open_traces(tracer):
    """They end with their own trace, not with a flush or with the end of another one."""
    assert not tracer.has_active_async_context()
    first = await tracer.start_trace_async("First", {})
    second = await tracer.start_trace_async("Second", {})
    await tracer.flush_async()
    assert tracer.get_active_async_contexts() == {first, second}
    assert tracer.async_contexts == {first, second}
    tracer.end_trace({})
    assert tracer.get_active_async_contexts() == {first}
    tracer.get_active_async_contexts().clear()
    assert tracer.has_active_async_context()
    tracer.end_trace({})
    assert not tracer.has_active_async_context()


async def test_spans_of_a_context_are_those_open_in_its_trace(tracer):
    """They are there under their ids until they end."""
    context = await tracer.start_trace_async("F", {})
    async with context:
        span_id = tracer.start_node_span("N", "1", "exec")
        assert list(context.spans) == list(tracer.spans) == ["1_exec"]
        tracer.end_node_span(span_id)
        assert context.spans == tracer.spans == {}
    tracer.end_trace({})


async def test_a_traced_flow_is_a_context_and_a_nested_one_gives_it_back():
    """Inside the nodes there is one, before and after a nested traced flow (defect 9)."""
    shared = {}

    @trace_flow(flow_name="Inner")
    class Inner(AsyncFlow):
        pass

    class Outer(AsyncNode):
        async def exec_async(self, prep_res):
            before = here()
            await Inner(Look()).run_async(shared)
            return before, here()

        async def post_async(self, shared, prep_res, exec_res):
            shared["seen"] = exec_res

    flow = trace_flow(flow_name="Outer")(AsyncFlow(Outer()))
    kept = {}
    await flow.run_async(kept)

    before, after = kept["seen"]
    assert before == after
    assert before[1] == "Outer"
    assert here() is None


async def test_the_context_in_a_traced_flow_takes_spans_into_its_store(traces, tmp_path):
    """Its tracer writes where the flow is recorded, also if that is not the usual place."""
    other = tmp_path / "other.db"

    class Hand(AsyncNode):
        async def exec_async(self, prep_res):
            tracer = AsyncTraceContext.get_current_context().tracer
            tracer.end_node_span(tracer.start_node_span("X", "1", "exec"))

    await trace_flow(TracingConfig(store=other), "F")(AsyncFlow(Hand())).run_async({})

    (node,) = type(traces)(other).one().children
    assert [span.name for span in node.children] == ["X.exec"]


async def test_contexts_are_let_go_of(tracer):
    """After the end of its trace nothing keeps a context alive."""
    import weakref

    context = await tracer.start_trace_async("F", {})
    async with context:
        tracer.end_trace({})
    gone = weakref.ref(context)
    del context
    gc.collect()

    assert gone() is None


async def test_a_task_that_outlives_its_trace_records_its_flows_once(traces, find):
    """A flow run in it begins a trace of its own, with one span a node and one attempt."""
    tracer, go = LangfuseTracer(TracingConfig()), asyncio.Event()

    async def late():
        await go.wait()
        assert tracer.current_trace is None
        await trace_flow(AsyncFlow(AsyncNode(), name="Late")).run_async({})

    context = await tracer.start_trace_async("Early", {})
    async with context:
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    tracer.end_trace({})
    go.set()
    await task

    (late_root,) = [tree.roots[0] for tree in traces.all() if tree.summary.name == "Late"]
    (node,) = late_root.children
    assert (node.children, node.attempts) == ((), 1)
