"""Functions, nodes, flows and workflows as the work of nodes."""

from __future__ import annotations

import asyncio
import functools
import threading
from dataclasses import dataclass
from typing import TypedDict

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
from pocketflow_async.workflow import Context, PortError, WorkflowBuilder
from pocketflow_async.workflow.errors import WorkflowError
from pocketflow_async.workflow.flow_work import NodeWork, WorkflowWork
from pocketflow_async.workflow.function_work import (
    FunctionWork,
    is_coroutine_callable,
    needs_of,
)


class Here:
    """A context with resources."""

    run_id = "run"
    node_id = "n"

    def __init__(self, **resources):
        self.resources = resources

    async def get_resource(self, name):
        return self.resources[name]


async def run(work, context=None, /, **inputs):
    value = work.run(inputs, context or Here())
    return await value if work.is_async else value


def plain(a, b=2, *, c=3):
    return a, b, c


async def test_a_function_gets_the_inputs_it_has_parameters_for():
    """Other inputs, such as those broadcast to all nodes, do not disturb it."""
    work = FunctionWork(plain)

    assert await run(work, a=1, c=9, other=5) == (1, 2, 9)
    assert not work.is_async
    assert list(work.inputs.known) == ["a", "b", "c"]
    assert [port.required for port in work.inputs.known.values()] == [True, False, False]
    assert not work.inputs.open


async def test_positional_only_and_open_parameters():
    """`/` and `**kwargs` are filled as their author would fill them; `*args` stays empty."""

    def odd(x, y=2, /, *rest, z, **more):
        return x, y, rest, z, more

    work = FunctionWork(odd)

    assert await run(work, x=1, z=3, w=4) == (1, 2, (), 3, {"w": 4})
    assert await run(work, x=1, y=5, z=3) == (1, 5, (), 3, {})
    assert work.inputs.open


async def test_a_missing_input_is_named():
    """The error has the node, the function, the input, and what is there."""
    with pytest.raises(TypeError, match=r"node 'n': plain\(\) needs the input 'a'.*it has: 'b'"):
        await run(FunctionWork(plain), b=1)


async def test_the_context_goes_to_the_parameter_with_its_type():
    """A parameter annotated with Context is no input."""

    async def ask(name: str, ctx: Context):
        return await ctx.get_resource(name)

    work = FunctionWork(ask)

    assert list(work.inputs.known) == ["name"]
    assert await run(work, Here(db=5), name="db") == 5


async def test_a_positional_context_is_possible():
    """Even a positional-only parameter may be the context."""

    def ask(ctx: Context, /, name: str):
        return ctx.node_id, name

    assert await run(FunctionWork(ask), name="x") == ("n", "x")


async def test_required_resources_come_by_name():
    """A parameter with the name of a required resource gets it, in synchronous code too."""

    def use(db, row):
        return db, row, threading.current_thread() is threading.main_thread()

    work = FunctionWork(use, ("db", "unused"))

    assert work.is_async
    assert list(work.inputs.known) == ["row"]
    assert await run(work, Here(db="DB"), row=1) == ("DB", 1, False)


@pytest.mark.parametrize(
    "function",
    [dict, int, len, print, functools.partial(plain, 1), str.upper],
    ids=lambda one: getattr(one, "__name__", "partial"),
)
def test_any_callable_can_be_looked_at(function):
    """Classes, built-in functions and partials have ports too, or open ones."""
    work = FunctionWork(function)

    assert work.inputs is not None
    assert work.outputs is not None


async def test_callable_objects_and_classes():
    """An object with an asynchronous `__call__` is awaited; a dataclass is made."""

    class Add:
        async def __call__(self, a, b):
            return a + b

    @dataclass
    class Point:
        x: int
        y: int

    assert await run(FunctionWork(Add()), a=1, b=2) == 3
    assert await run(FunctionWork(functools.partial(Add(), 1)), b=2) == 3
    assert await run(FunctionWork(Point), x=1, y=2) == Point(1, 2)
    assert FunctionWork(Point).outputs.known["result"].annotation is Point
    assert is_coroutine_callable(Add())
    assert not is_coroutine_callable(Add)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_coroutine_that_nobody_awaits_is_an_error(is_async):
    """The error says who forgot; Python's own warning does not come on top."""

    async def inner():
        """Do nothing."""

    async def later():
        return inner()

    function = later if is_async else lambda: inner()

    with pytest.raises(TypeError, match=r"'n'.*returned a coroutine that nobody awaits"):
        await run(FunctionWork(function))


async def test_generators_are_handed_on():
    """A generator function is only called, without a thread; its generator is the value."""

    def numbers(upto):
        yield from range(upto)

    async def later(upto):
        for number in range(upto):
            yield number

    assert list(await run(FunctionWork(numbers), upto=3)) == [0, 1, 2]
    assert [number async for number in await run(FunctionWork(later), upto=2)] == [0, 1]


def test_types_come_from_annotations():
    """Inputs and the value have the types that are written, even as text."""

    class Row(TypedDict):
        name: str

    def shape(rows: list[int]) -> dict[str, int]: ...

    def broken(x: "Nowhere", y: int): ...  # noqa: F821, UP037

    work = FunctionWork(shape)
    assert work.inputs.known["rows"].annotation == list[int]
    assert work.outputs.known["result"].annotation == dict[str, int]
    assert FunctionWork(broken).inputs.known["x"].annotation is None
    assert FunctionWork(broken).inputs.known["y"].annotation is int
    assert needs_of(broken).required == ("x", "y")


class Double(AsyncNode):
    async def prep_async(self, shared):
        return shared["x"]

    async def exec_async(self, prep_res):
        return prep_res * 2

    async def post_async(self, shared, prep_res, exec_res):
        shared["doubled"] = exec_res


class Bare(AsyncNode):
    async def exec_async(self, prep_res):
        return "made"


class Sync(Node):
    def prep(self, shared):
        return shared["x"]

    def exec(self, prep_res):
        return prep_res + 1

    def post(self, shared, prep_res, exec_res):
        shared["more"] = exec_res


class BareSync(Node):
    def exec(self, prep_res):
        return "made"


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Double(), {"x": 3, "doubled": 6}),
        (AsyncFlow(start=Double()), {"x": 3, "doubled": 6}),
        (Sync(), {"x": 3, "more": 4}),
        (Flow(start=Sync()), {"x": 3, "more": 4}),
        (Bare(), "made"),
        (BareSync(), "made"),
    ],
)
async def test_nodes_and_flows_work_on_a_shared_of_their_own(node, expected):
    """The inputs are its shared, and so is what it yields; without a post, what exec returned."""
    inputs = {"x": 3}
    work = NodeWork(node)
    value = work.run(inputs, Here())

    assert (await value if work.is_async else value) == expected
    assert inputs == {"x": 3}


async def test_only_named_keys_are_yielded():
    """With `outputs` only those keys of shared are, and they are known before the run."""
    work = NodeWork(Double(), ["doubled"])

    assert await run(work, x=2) == {"doubled": 4}
    assert list(work.outputs.known) == ["doubled"]
    with pytest.raises(PortError, match=r"has not written 'gone' to shared; there is: 'x'"):
        await run(NodeWork(Double(), ["gone"]), x=2)


async def test_one_node_object_may_run_many_times_at_once():
    """Retries of one run do not disturb another's, since each has a copy."""

    class Flaky(AsyncNode):
        async def prep_async(self, shared):
            return shared["n"]

        async def exec_async(self, prep_res):
            await asyncio.sleep(0)
            if self.cur_retry < prep_res:
                raise ValueError(self.cur_retry)
            return self.cur_retry

    work = NodeWork(Flaky(max_retries=5))

    assert await asyncio.gather(*(run(work, n=n) for n in range(5))) == list(range(5))


def test_a_node_with_successors_is_refused():
    """Its successors would never run: the error names the flow to make."""
    first = Double()
    first >> Bare()

    with pytest.raises(TypeError, match=r"AsyncFlow\(start="):
        NodeWork(first)
    with pytest.raises(TypeError, match="a node or a flow is needed"):
        NodeWork("node")


async def test_a_workflow_runs_within_a_workflow():
    """Its inputs are passed on, and its results are ports by node."""
    inner = WorkflowBuilder("inner")
    inner.add_function("add", lambda x, y: x + y)
    outer = WorkflowBuilder("outer")
    outer.add_function("start", lambda: 4)
    outer.add_workflow("inner", inner, description="nested")
    outer.add_function("end", lambda total: total * 10)
    outer.add_connection("start", None, "inner", "x")
    outer.add_connection("inner", "add", "end", "total")
    runtime = pytest.importorskip("pocketflow_async.runtime").AsyncLocalRuntime

    async with runtime(max_concurrent_nodes=1) as one:
        result = await one.execute_workflow_async(outer.build(), {"y": 1})

    assert result["errors"] == {}
    assert result["results"]["inner"] == {"add": 5}
    assert result["results"]["end"] == 50


async def test_a_failing_inner_workflow_fails_its_node():
    """The error of the inner node is in the outer one's."""
    inner = WorkflowBuilder("inner")
    inner.add_function("bad", lambda: 1 / 0)
    outer = WorkflowBuilder("outer")
    outer.add_workflow("inner", inner)
    runtime = pytest.importorskip("pocketflow_async.runtime").AsyncLocalRuntime

    async with runtime() as one:
        result = await one.execute_workflow_async(outer.build())

    assert list(result["errors"]) == ["inner"]
    assert "bad" in str(result["errors"]["inner"])


async def test_a_workflow_runs_in_a_context_that_cannot_run_workflows():
    """Then it gets a runtime of its own, with the resources of the context."""
    inner = WorkflowBuilder("inner")
    inner.add_function("ask", lambda db: db, required_resources=["db"])

    class Known(Here):
        def has_resource(self, name):
            return name in self.resources

    value = await WorkflowWork(inner.build()).run({}, Known(db="DB"))

    assert value == {"ask": "DB"}
    assert issubclass(WorkflowError, Exception)
