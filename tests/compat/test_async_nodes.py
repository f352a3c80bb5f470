"""Async nodes: what is awaited, in which task, and what is ignored."""

import asyncio
import contextvars
import functools
import inspect
import threading

import pytest
from engine_under_test import (
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchNode,
    Flow,
    Node,
)


async def test_sync_phases_on_an_async_node_are_ignored():
    """prep, exec and post defined without `_async` never run on an AsyncNode."""
    ran = []

    class Mixed(AsyncNode):
        def prep(self, shared):
            ran.append("prep")

        def exec(self, prep_res):
            ran.append("exec")

        def post(self, shared, prep_res, exec_res):
            ran.append("post")
            return "never"

        def exec_fallback(self, prep_res, exc):
            ran.append("fallback")

        async def post_async(self, shared, prep_res, exec_res):
            return (prep_res, exec_res)

    assert await Mixed().run_async({}) == (None, None)
    assert ran == []


async def test_a_sync_fallback_on_an_async_node_is_ignored():
    """Only `exec_fallback_async` is an async node's fallback."""

    class Failing(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError("out")

        def exec_fallback(self, prep_res, exc):
            return "never"

    with pytest.raises(ValueError, match="out"):
        await Failing().run_async({})


@pytest.mark.parametrize(
    "base", [AsyncNode, AsyncBatchNode, AsyncParallelBatchNode], ids=lambda c: c.__name__
)
async def test_a_plain_function_as_exec_async_is_a_type_error(base):
    """`def exec_async` gives something that cannot be awaited, and Python says so."""

    class Plain(base):
        async def prep_async(self, shared):
            return ["a"]

        def exec_async(self, prep_res):
            return "text"

    with pytest.raises(TypeError, match="object str can't be used in 'await' expression"):
        await Plain().run_async({})


async def test_a_plain_exec_async_counts_as_a_failed_try():
    """That TypeError is an error of exec: retried, then given to the fallback."""
    calls = []

    class Plain(AsyncNode):
        def exec_async(self, prep_res):
            calls.append(1)
            return 5

        async def exec_fallback_async(self, prep_res, exc):
            return f"{type(exc).__name__} after {len(calls)}"

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    assert await Plain(3).run_async({}) == "TypeError after 3"


@pytest.mark.parametrize("phase", ["prep_async", "post_async"])
async def test_a_plain_function_as_prep_or_post_is_a_type_error(phase):
    """`def prep_async` and `def post_async` fail the same way, and are not retried."""
    calls = []

    def plain(self, *args):
        calls.append(1)

    node = type("Plain", (AsyncNode,), {phase: plain})(3)

    with pytest.raises(TypeError, match="object NoneType can't be used in 'await' expression"):
        await node.run_async({})
    assert calls == [1]


async def test_a_plain_fallback_is_a_type_error():
    """`def exec_fallback_async` cannot be awaited either."""

    class Plain(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError("first")

        def exec_fallback_async(self, prep_res, exc):
            return "text"

    with pytest.raises(TypeError, match="object str can't be used in 'await' expression"):
        await Plain().run_async({})


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


async def _give(value):
    await asyncio.sleep(0)
    return value


AWAITABLES = {
    "coroutine": lambda value: _give(value),
    "task": lambda value: asyncio.ensure_future(_give(value)),
    "object": Later,
    "partial": lambda value: functools.partial(_give, value)(),
}


@pytest.mark.parametrize("make", AWAITABLES.values(), ids=AWAITABLES.keys())
@pytest.mark.parametrize("phase", ["prep_async", "exec_async", "post_async"])
async def test_a_phase_may_give_any_awaitable(phase, make):
    """A phase need not be `async def`: whatever it returns is awaited."""
    seen = []

    class Watch(AsyncNode):
        async def exec_async(self, prep_res):
            seen.append(prep_res)
            return prep_res

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    node = Watch()
    setattr(node, phase, lambda *args: make("given"))

    result = await node.run_async({})

    assert (result or seen[0]) == "given"


@pytest.mark.parametrize("base", [AsyncBatchNode, AsyncParallelBatchNode])
@pytest.mark.parametrize("make", AWAITABLES.values(), ids=AWAITABLES.keys())
async def test_a_batch_item_may_give_any_awaitable(base, make):
    """The same holds for each item of a batch."""

    class Batch(base):
        async def prep_async(self, shared):
            return [1, 2, 3]

        def exec_async(self, item):
            return make(item * 2)

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    assert await Batch().run_async({}) == [2, 4, 6]


@pytest.mark.parametrize("call", ["run", "_run"])
@pytest.mark.parametrize("base", [AsyncNode, AsyncBatchNode, AsyncParallelBatchNode])
def test_running_an_async_node_without_await_is_a_runtime_error(base, call):
    """`run` on an async node says "Use run_async." and runs nothing."""
    ran = []

    class Ran(base):
        async def prep_async(self, shared):
            ran.append(1)

        def prep(self, shared):
            ran.append(1)

    with pytest.raises(RuntimeError, match=r"^Use run_async\.") as caught:
        getattr(Ran(), call)({})

    assert ran == []
    if base is AsyncNode:
        assert str(caught.value) == "Use run_async."


def test_an_async_node_in_a_sync_flow_is_a_runtime_error():
    """A Flow cannot run async nodes and says so when it meets one; nodes before it have run."""
    ran = []
    first = Node()
    first.post = lambda shared, p, e: ran.append("first")
    first >> AsyncNode()

    with pytest.raises(RuntimeError, match=r"^Use run_async\."):
        Flow(first).run({})

    assert ran == ["first"]


async def test_a_sync_flow_with_an_async_node_fails_inside_an_async_flow():
    """Wrapping that Flow in an AsyncFlow does not help: the inner one is still sync."""
    with pytest.raises(RuntimeError, match=r"^Use run_async\."):
        await AsyncFlow(Flow(AsyncNode())).run_async({})


async def test_every_phase_runs_in_the_callers_task_and_thread():
    """No task is made for a node: timeouts and cancel scopes of the caller cover all of it."""
    places = []

    class Here(AsyncNode):
        async def prep_async(self, shared):
            places.append((asyncio.current_task(), threading.get_ident()))

        async def exec_async(self, prep_res):
            places.append((asyncio.current_task(), threading.get_ident()))

        async def post_async(self, shared, prep_res, exec_res):
            places.append((asyncio.current_task(), threading.get_ident()))

    class HereSync(Node):
        def exec(self, prep_res):
            places.append((asyncio.current_task(), threading.get_ident()))

    start = Here()
    start >> HereSync() >> AsyncFlow(Here())
    await AsyncFlow(start).run_async({})

    assert places == [(asyncio.current_task(), threading.get_ident())] * 7


async def test_context_variables_set_in_a_node_stay_set():
    """What a phase sets in a ContextVar is seen by the next nodes and by the caller afterwards."""
    var = contextvars.ContextVar("var", default="unset")
    seen = []

    class Set(AsyncNode):
        async def prep_async(self, shared):
            var.set("prep")

        async def exec_async(self, prep_res):
            seen.append(var.get())
            var.set("exec")

    class See(Node):
        def exec(self, prep_res):
            seen.append(var.get())

    start = Set()
    start >> See()
    await AsyncFlow(start).run_async({})

    assert seen == ["prep", "exec"]
    assert var.get() == "exec"


@pytest.mark.parametrize(
    "base", [AsyncNode, AsyncBatchNode, AsyncParallelBatchNode, AsyncFlow], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("name", ["run_async", "_run_async", "_exec", "prep_async", "post_async"])
def test_the_async_methods_are_coroutine_functions(base, name):
    """`inspect.iscoroutinefunction` is true, so frameworks know how to call them."""
    if base is AsyncFlow and name == "_exec":
        name = "_orch_async"

    assert inspect.iscoroutinefunction(getattr(base, name))


async def test_run_async_gives_a_coroutine_that_starts_when_awaited():
    """Calling `run_async` runs nothing yet, and `create_task` takes what it gives."""
    ran = []

    class Ran(AsyncNode):
        async def exec_async(self, prep_res):
            ran.append(1)

        async def post_async(self, shared, prep_res, exec_res):
            return "done"

    coroutine = Ran().run_async({})
    assert inspect.iscoroutine(coroutine)
    assert ran == []
    assert await asyncio.create_task(coroutine) == "done"


def test_asyncio_run_takes_a_run_async():
    """The usual main: `asyncio.run(flow.run_async(shared))`."""

    class Add(AsyncNode):
        async def exec_async(self, prep_res):
            await asyncio.sleep(0)
            return 2

        async def post_async(self, shared, prep_res, exec_res):
            shared["x"] += exec_res
            return "ok"

    shared = {"x": 1}

    assert asyncio.run(AsyncFlow(Add()).run_async(shared)) == "ok"
    assert shared == {"x": 3}


@pytest.mark.parametrize("phase", ["prep_async", "exec_async", "post_async"])
async def test_a_caller_s_timeout_reaches_into_every_phase(phase):
    """`asyncio.timeout` around a run ends it wherever it waits."""

    async def forever(*args):
        await asyncio.Event().wait()

    node = AsyncNode()
    setattr(node, phase, forever)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await AsyncFlow(node).run_async({})


async def test_a_timeout_error_raised_in_exec_is_an_error_like_any_other():
    """TimeoutError from exec is retried and may fall back."""
    tries = []

    class Slow(AsyncNode):
        async def exec_async(self, prep_res):
            tries.append(1)
            async with asyncio.timeout(0):
                await asyncio.Event().wait()

        async def exec_fallback_async(self, prep_res, exc):
            return type(exc)

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    assert await Slow(2).run_async({}) is TimeoutError
    assert len(tries) == 2
