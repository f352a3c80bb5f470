"""Bad input of every kind: an error that names what is wrong and where, and nothing worse."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import warnings

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, Node
from pocketflow_async.runtime import AsyncLocalRuntime, LocalRuntime
from pocketflow_async.workflow import (
    AsyncWorkflowBuilder,
    CyclicDependencyError,
    Edge,
    ErrorHandler,
    NodeSpec,
    RetryPolicy,
    SafetyViolationError,
    Workflow,
    WorkflowBuilder,
    WorkflowExecutionError,
    WorkflowValidationError,
)
from tests.workflow.whole_kit import nothing_changed
from tracing.recorder import watching
from tracing.spans import recorder_here
from tracing.testing import capture

LONG = "x" * 10_240
READABLE = 1_500
"""Characters of an error that somebody may still read."""
NAN, INFINITE = float("nan"), float("inf")
NO_TEXT = (True, 0, 1.5, b"x", [], {}, object(), len, ..., type)
NO_NUMBER = (True, "1", "", LONG, b"1", [], {}, object(), len, type)
NO_OBJECT = (True, 0, "x", LONG, b"x", [], {}, object(), type)
NOT_ABOVE_ZERO = (0, -1, NAN)
ITEM = "def process_item(item):\n    return item"


def builder(*codes, connect=()):
    """Return a builder with code nodes a, b, c …, and edges such as `"a.result -> b.x"`."""
    made = AsyncWorkflowBuilder("bad")
    for number, code in enumerate(codes):
        made.add_async_code("abcdefgh"[number], code)
    for edge in connect:
        start, _, end = edge.partition(" -> ")
        source, _, output = start.partition(".")
        target, _, name = end.partition(".")
        made.add_connection(source, output or None, target, name)
    return made


def one(function, **options):
    """Return a workflow of one function."""
    made = AsyncWorkflowBuilder("bad")
    made.add_function("a", function, **options)
    return made.build()


def run(flow, inputs=None, **options):
    return asyncio.run(AsyncLocalRuntime().execute_workflow_async(flow, inputs, **options))


def add(method, *args):
    """Return a call that adds a node with one argument wrong; the node is called `it`."""

    def call(name, value):
        return getattr(AsyncWorkflowBuilder(), method)("it", *args, **{name: value})

    return call


def code(name, value):
    return add("add_async_code", "result = 1")(name, value)


def mapped(name, value):
    return add("add_parallel_map", ITEM)(name, value)


def resource(name, value):
    given = {"resource_name": "db", "operation": "get", name: value}
    return AsyncWorkflowBuilder().add_resource_node("it", **given)


def connected(name, value):
    ends = {"from_node": "a", "from_output": "result", "to_node": "b", "to_input": "x"}
    return builder("result = 1", "result = 1").add_connection(**{**ends, name: value})


def executed(name, value):
    return run(one(lambda: 1), **{name: value})


def made(cls):
    return lambda name, value: cls(**{name: value})


WRONG_TYPES = [
    (made(AsyncWorkflowBuilder), "name", NO_TEXT),
    (made(AsyncWorkflowBuilder), "description", NO_TEXT),
    (made(AsyncWorkflowBuilder), "resource_registry", NO_OBJECT),
    (lambda _, value: AsyncWorkflowBuilder().build(value), "workflow_id", NO_TEXT),
    (code, "timeout", (*NO_NUMBER, *NOT_ABOVE_ZERO, INFINITE)),
    (code, "max_concurrent_tasks", (*NO_NUMBER, *NOT_ABOVE_ZERO, 1.5)),
    (code, "retry_policy", (*NO_OBJECT, 3, RetryPolicy)),
    (code, "error_handler", (*NO_OBJECT, "log", ErrorHandler)),
    (code, "required_resources", (True, 1, "db", LONG, object(), [1], [""], len)),
    (code, "condition", (True, 1, "x", LONG, [], {}, object())),
    (code, "description", NO_TEXT),
    (code, "allow", (True, 1, "eval", LONG, object())),
    (mapped, "input_field", (*NO_TEXT, "")),
    (mapped, "output_field", (*NO_TEXT, "")),
    (mapped, "max_workers", (*NO_NUMBER, *NOT_ABOVE_ZERO, None, 1.5)),
    (mapped, "batch_size", (*NO_NUMBER, *NOT_ABOVE_ZERO, 1.5)),
    (mapped, "timeout_per_item", (*NO_NUMBER, *NOT_ABOVE_ZERO, INFINITE)),
    (mapped, "continue_on_error", (0, 1, "yes", LONG, None, [], object())),
    (resource, "resource_name", (*NO_TEXT, None, "")),
    (resource, "operation", (*NO_TEXT, None, "", "_hidden", "__class__", "a b")),
    (resource, "params", (True, 1, "SELECT", LONG, object(), len)),
    (resource, "output_field", (*NO_TEXT, None, "")),
    (connected, "from_node", (*NO_TEXT, None, "")),
    (connected, "from_output", (*NO_TEXT, "")),
    (connected, "to_node", (*NO_TEXT, None, "")),
    (connected, "to_input", (*NO_TEXT, None, "")),
    (executed, "timeout", (*NO_NUMBER, *NOT_ABOVE_ZERO)),
    (executed, "on_error", (None, True, "log", LONG, [], object())),
    (made(AsyncLocalRuntime), "max_concurrent_nodes", (*NO_NUMBER, *NOT_ABOVE_ZERO, None)),
    (made(AsyncLocalRuntime), "thread_pool_size", (*NO_NUMBER, *NOT_ABOVE_ZERO, None)),
    (made(AsyncLocalRuntime), "execution_timeout", (*NO_NUMBER, *NOT_ABOVE_ZERO)),
    (made(RetryPolicy), "max_attempts", (*NO_NUMBER, *NOT_ABOVE_ZERO, None)),
    (made(RetryPolicy), "retry_on", (True, 5, [5], [object()], object())),
    (made(ErrorHandler), "handler_type", (*NO_TEXT, None, "", "nosuch", LONG)),
]
NOT_YET = [
    (made(AsyncLocalRuntime), "resource_registry", NO_OBJECT),
    (made(AsyncLocalRuntime), "enable_analysis", (0, "no", [], object())),
    (made(AsyncLocalRuntime), "enable_profiling", (0, "no", [], object())),
    (executed, "run_id", NO_TEXT),
    (code, "allow", (0, b"eval")),
]


@pytest.mark.parametrize(
    ("call", "name", "values"),
    [
        *WRONG_TYPES,
        *(pytest.param(*case) for case in NOT_YET),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_argument_of_a_wrong_type_is_named(call, name, values):
    """When it is given, and not in the middle of a run; what was wrong with it is said too."""
    for value in values:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(name, value)
        said = str(caught.value)
        what = {"from_node": "node", "to_node": "node", "max_workers": "max_workers"}.get(
            name, name
        )
        assert what in said, said


@pytest.mark.parametrize(
    "call",
    [
        lambda: code("retry_policy", LONG),
        lambda: code("error_handler", LONG),
        lambda: code("condition", LONG),
        lambda: code("allow", LONG),
        lambda: code("required_resources", LONG),
        lambda: resource("params", LONG),
        lambda: connected("from_node", LONG),
        lambda: connected("to_input", LONG + ".").build(),
        lambda: executed("on_error", LONG),
        lambda: run(LONG),
        lambda: run({"nodes": LONG}),
        lambda: AsyncLocalRuntime(LONG),
        lambda: AsyncLocalRuntime(max_concurrent_nodes=LONG),
        lambda: AsyncWorkflowBuilder().add_node(LONG),
        lambda: AsyncWorkflowBuilder().add_node("PythonCodeNode", "a", LONG),
        lambda: AsyncWorkflowBuilder().add_function("a", LONG),
        lambda: AsyncWorkflowBuilder().add_workflow("a", LONG),
        lambda: AsyncWorkflowBuilder().update_node(LONG, {}),
        lambda: ErrorHandler(LONG),
        lambda: code(LONG, 1),
        lambda: run(builder(f"result = {LONG}")),
    ],
)
def test_an_error_can_be_read_whatever_was_given(call):
    """A value of ten thousand characters is shown in part."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert len(str(caught.value)) < READABLE


@pytest.mark.parametrize(
    "thing", [None, True, 3, "text", b"x", [], {}, object(), Workflow, AsyncWorkflowBuilder, type]
)
def test_what_is_no_workflow_is_refused(thing):
    """Neither a run nor a node is made of it; not of a class of workflows either."""
    with pytest.raises(TypeError, match="no workflow and no builder of one"):
        run(thing)
    with pytest.raises(TypeError, match="no workflow and no builder of one"):
        LocalRuntime().execute(thing)
    assert "no workflow" in LocalRuntime().execute_workflow(thing)["error"]
    with pytest.raises(TypeError, match="node 'a': a workflow or its builder is needed"):
        AsyncWorkflowBuilder().add_workflow("a", thing)


async def test_a_flow_is_no_workflow_but_can_be_a_node_of_one():
    """And the saved form of a workflow has to be loaded."""
    flow = AsyncFlow(AsyncNode())
    document = builder("result = 1").build().to_dict()

    for thing in (flow, document, AsyncNode()):
        with pytest.raises(TypeError, match="no workflow"):
            await AsyncLocalRuntime().execute_workflow_async(thing)

    loaded = await AsyncLocalRuntime().execute_workflow_async(Workflow.from_dict(document))
    assert loaded["results"] == {"a": 1}


async def test_a_builder_will_do_for_a_workflow():
    """It is built for the run; what is wrong with it is said before anything runs."""
    runtime = AsyncLocalRuntime()

    assert (await runtime.execute_workflow_async(builder("result = 1")))["results"] == {"a": 1}
    with pytest.raises(WorkflowValidationError, match="did you mean 'users'"):
        await runtime.execute_workflow_async(
            builder("result = {'users': 1}", "result = u", connect=["a.user -> b.u"])
        )


@pytest.mark.parametrize("inputs", [True, 3, "text", LONG, b"x", [], [("a", 1)], object(), {1: 2}])
def test_inputs_of_a_run_are_values_by_name(inputs):
    """Nothing else is taken for them."""
    with pytest.raises(TypeError, match="the inputs of a run") as caught:
        run(one(lambda: 1), inputs)
    assert len(str(caught.value)) < READABLE


@pytest.mark.parametrize("inputs", [True, 0, "", "text", [], [("a", 1)], object()])
def test_the_synchronous_door_wants_values_by_name_too(inputs):
    """As parameters and as inputs."""
    for given in ({"parameters": inputs}, {"inputs": inputs}):
        with pytest.raises(TypeError, match="the inputs of a run"):
            LocalRuntime().execute(one(lambda: 1), **given)


def test_inputs_of_one_node_are_values_by_name_too():
    """Said before the run."""
    with pytest.raises(TypeError, match=r"inputs .* node 'a'"):
        run(one(lambda **inputs: 1), {"a": {1: 2}})


@pytest.mark.parametrize(
    "name", ["", "a.b", "x\ny", "class", "self", "__builtins__", "__name__", "get_resource", LONG]
)
def test_inputs_of_any_name_harm_nobody(name):
    """Code keeps its builtins, a function its parameters."""
    flow = builder("result = [len, __name__, get_resource]")
    flow.add_function("b", lambda self=0, **more: sorted(more), description="takes anything")

    results = run(flow, {name: 1})["results"]

    assert results["a"][0] is len
    assert results["a"][1] == "code_node"
    assert callable(results["a"][2])
    assert results["b"] == ([] if name == "self" else [name])


HOSTILE_IDS = ["", " ", "a.b", "a\nb", "a\tb", "__a__", " a", "a\x00", "a\u200b", "\ud800", LONG]


@pytest.mark.parametrize("node_id", HOSTILE_IDS)
def test_hostile_ids_are_refused_by_all_that_add_a_node(node_id):
    """With the reason, and in an error that can be shown anywhere."""
    new = AsyncWorkflowBuilder()
    for call in (
        lambda: new.add_async_code(node_id, "result = 1"),
        lambda: new.add_node("PythonCodeNode", node_id, {"code": "result = 1"}),
        lambda: new.add_function(node_id, len),
        lambda: new.add_flow(node_id, AsyncNode()),
        lambda: new.add_workflow(node_id, builder("result = 1")),
        lambda: new.add_parallel_map(node_id, ITEM),
        lambda: new.add_resource_node(node_id, "db", "get"),
        lambda: new.add_scatter_gather(node_id, "p", "g", ITEM),
        lambda: new.add_scatter_gather("s", node_id, "g", ITEM),
        lambda: new.add_scatter_gather("s", "p", node_id, ITEM),
    ):
        with pytest.raises(WorkflowValidationError, match="cannot be") as caught:
            call()
        str(caught.value).encode()
        assert len(str(caught.value)) < READABLE
    assert not new.nodes


async def test_ids_that_look_alike_are_different_nodes():
    """A Latin and a Cyrillic a; keywords and builtins are ids as good as any."""
    new = AsyncWorkflowBuilder()
    for number, node_id in enumerate(("a", "\u0430", "class", "None", "print", "日本")):
        new.add_async_code(node_id, f"result = {number}")
    new.add_connection("\u0430", "result", "class", "x")

    results = (await AsyncLocalRuntime().execute_workflow_async(new))["results"]

    assert list(results.values()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "name",
    ["class", "a.b", "a b", "1a", "a\nb", pytest.param("\uff41")],
)
def test_an_input_that_code_could_never_read_is_refused(name):
    """Such as one that Python reads as another name (full-width letters)."""
    new = builder("result = 1", "result = 2")
    new.add_connection("a", "result", "b", name)

    with pytest.raises(WorkflowValidationError, match="no name that code could use"):
        new.build()


@pytest.mark.parametrize(
    "port", ["nosuch", "a.b.c", "x\ny", "\ud800", "__class__", "__dict__", LONG]
)
def test_a_missing_port_is_named_with_what_is_there(port):
    """Before the run where the text of the code tells, else when the node has yielded."""
    known = builder("result = {'users': 1}", "result = 2").add_connection("a", port, "b", "x")
    with pytest.raises(WorkflowValidationError, match="'users'") as caught:
        known.build()
    assert "node 'a' has no output" in str(caught.value)
    unknown = builder("result = dict(users=1)", "result = 2").add_connection("a", port, "b", "x")

    result = run(unknown)

    assert "node 'a' has no output" in result["errors"]["b"]
    assert "'users'" in result["errors"]["b"]
    assert len(result["errors"]["b"]) < READABLE
    assert result["results"] == {"a": {"users": 1}}


BROKEN_CODE = [
    ("result = (", 1),
    ("x = 1\ny = = 2", 2),
    ("def f(:\n    pass", 1),
    ("x = 1\n  y = 2", 2),
    ("yield 1", 1),
    ("await", 1),
    ("break", 1),
    ("nonlocal x", 1),
    ("x = '\x00'", 1),
    ("x = 1\ny = '\ud800'", 2),
    ("f'{'", 1),
    ("(" * 300 + ")" * 300, 1),
    ("__debug__ = 1", 1),
    ("from __future__ import braces", 1),
    ("x = " + "9" * 5_000, 1),
]


@pytest.mark.parametrize(("text", "line"), BROKEN_CODE, ids=[text[:12] for text, _ in BROKEN_CODE])
@pytest.mark.parametrize("add", ["add_async_code", "add_node", "add_parallel_map"])
def test_code_that_does_not_compile_is_refused_when_it_is_added(text, line, add):
    """With node, line and column; nothing of it has been run, and no warning is given."""
    new = AsyncWorkflowBuilder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if add == "add_parallel_map":
            text, line = f"{ITEM}\n{text}", line + 2
        with pytest.raises(WorkflowValidationError, match=f"node 'it', line {line}, column"):
            if add == "add_node":
                new.add_node("PythonCodeNode", "it", {"code": text})
            else:
                getattr(new, add)("it", text)
    assert not new.nodes


@pytest.mark.parametrize("text", ["", "  \n\t", "#", "x = " + "-" * 100_000 + "1"])
def test_code_of_nothing_or_too_much_is_refused(text):
    """Empty, only a comment, or nested so deeply that Python gives up."""
    with pytest.raises(WorkflowValidationError, match=r"node 'it'.*(empty|too deeply)") as caught:
        AsyncWorkflowBuilder().add_async_code("it", text)
    assert len(str(caught.value)) < READABLE


@pytest.mark.parametrize("text", ["import subprocess", "eval('1')", "__builtins__['eval']('1')"])
def test_code_that_the_lint_refuses_says_how_to_let_it_pass(text):
    """And where it is."""
    with pytest.raises(SafetyViolationError, match=r"node 'it', line 1, column \d+: .*allow="):
        AsyncWorkflowBuilder().add_async_code("it", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit(2)", "SystemExit"),
        ("import sys; sys.exit(3)", "SystemExit(3)"),
        ("raise StopIteration", "StopIteration"),
        ("raise StopAsyncIteration", "StopAsyncIteration"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "ZeroDivisionError"),
        ("raise type('E', (Exception,), {'__repr__': lambda self: 1 / 0})(1)", "E: 1"),
        ("raise 'text'", "exceptions must derive from BaseException"),
        ("raise ExceptionGroup('several', [ValueError(1)])", "several"),
        ("def f(n): return f(n)\nf(1)", "RecursionError"),
        ("result = [][1]", "line 1"),
    ],
)
@pytest.mark.parametrize("kind", ["AsyncPythonCodeNode", "PythonCodeNode"])
def test_whatever_code_raises_is_the_error_of_its_node(text, said, kind):
    """The run goes on, and so does the process."""
    new = WorkflowBuilder("bad")
    new.add_node(kind, "a", {"code": text})
    new.add_node(kind, "b", {"code": "result = 1"})

    result = run(new)

    assert said in result["errors"]["a"]
    assert list(result["results"]) == ["b"]


@pytest.mark.parametrize("error", [GeneratorExit, type("Odd", (BaseException,), {})])
def test_an_error_that_ends_the_run_says_which_node_raised_it(error):
    """What is no Exception is not kept from who called; a note has the node."""

    async def odd():
        raise error("odd")

    with pytest.raises(error) as caught:
        run(one(odd))

    assert any("'a'" in note or "node a" in note for note in getattr(caught.value, "__notes__", ()))


def cyclic():
    made = []
    made.append(made)
    return made


def nested():
    made = []
    for _ in range(100_000):
        made = [made]
    return made


class Unshowable:
    def __repr__(self):
        raise ValueError("no")

    __str__ = __repr__


class Unequal:
    __hash__ = None

    def __eq__(self, other):
        raise ValueError("no")


OUTPUTS = {
    "lock": threading.Lock,
    "lock in dict": lambda: {"lock": threading.Lock()},
    "generator": lambda: {"made": (n for n in range(3))},
    "recursive list": cyclic,
    "recursive dict": lambda: (made := {}) or made.update(own=made) or made,
    "nested": nested,
    "no repr": Unshowable,
    "no equality": lambda: {"made": Unequal()},
    "huge number": lambda: 10**20_000,
    "nan": lambda: NAN,
    "surrogate": lambda: "\ud800",
    "bytes": lambda: b"\xff\x00",
    "odd keys": lambda: {1: 2, None: 3, (1, 2): 4, Unshowable: 5},
    "module": lambda: asyncio,
    "class": lambda: Unshowable,
    "exception": lambda: ValueError("only a value"),
    "not implemented": lambda: NotImplemented,
    "memory": lambda: memoryview(b"x"),
    "frozen": lambda: frozenset({1}),
}


@pytest.mark.parametrize("make", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("is_traced", [False, True])
def test_outputs_that_cannot_be_encoded_reach_who_needs_them(make, is_traced):
    """The very object; a trace shows what can be shown of it."""
    got = []

    async def source():
        return make()

    async def sink(x):
        got.append(x)

    new = AsyncWorkflowBuilder("bad")
    new.add_function("a", source)
    new.add_function("b", sink)
    new.add_connection("a", "result", "b", "x")

    async def main():
        return await AsyncLocalRuntime().execute_workflow_async(new)

    async def traced():
        with watching(recorder_here()):
            return await main()

    with capture() as traces:
        result = asyncio.run(traced() if is_traced else main())
        if is_traced:
            assert [span.outcome for span in traces.one().walk()] == ["completed"] * 3

    assert result["errors"] == {}
    assert got[0] is result["results"]["a"]


async def answer():
    return 1


class Awaitable:
    def __await__(self):
        yield


async def returns_coroutine():
    return answer()


async def returns_task():
    task = asyncio.create_task(answer())
    await task
    return asyncio.get_running_loop().create_future()


class SyncNode(Node):
    def exec(self, prep_res):
        return answer()

    def post(self, shared, prep_res, exec_res):
        shared["made"] = exec_res


@pytest.mark.parametrize(
    "function", [returns_coroutine, returns_task, lambda: answer(), lambda: Awaitable()]
)
def test_a_function_that_yields_an_awaitable_has_forgotten_an_await(function):
    """Said with the node and the cure; Python has nothing to complain about besides."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(one(function))
        gc.collect()

    assert result["errors"]["a"].startswith("TypeError: node 'a': ")
    assert "nobody awaits" in result["errors"]["a"]
    assert "await" in result["errors"]["a"].partition("nobody awaits")[2]


@pytest.mark.parametrize("text", ["result = f()", "result = {'value': f()}", "value = f()"])
@pytest.mark.parametrize(
    ("kind", "cure"),
    [("AsyncPythonCodeNode", "put `await` before it"), ("PythonCodeNode", "AsyncPythonCodeNode")],
)
def test_code_that_yields_a_coroutine_has_forgotten_an_await(text, kind, cure):
    """Said with the node, the name and the cure."""
    new = WorkflowBuilder()
    new.add_node(kind, "a", {"code": f"async def f():\n    return 1\n{text}"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error = run(new)["errors"]["a"]
        gc.collect()

    assert "node 'a'" in error
    assert "f() that nobody has awaited" in error
    assert cure in error


async def numbers():
    for number in range(3):
        yield number


async def test_an_async_generator_is_for_a_map_to_read():
    """It is the only thing that waits and may be yielded; who needs a list is told what it is."""
    new = AsyncWorkflowBuilder()
    new.add_function("a", numbers)
    new.add_parallel_map("b", lambda item: item + 1)
    new.add_async_code("c", "result = x['no']")
    new.add_connection("a", "result", "b", "items")
    new.add_connection("b", "nosuch", "c", "x")
    with pytest.raises(WorkflowValidationError, match="'results', 'statistics', 'errors'"):
        new.build()
    new = AsyncWorkflowBuilder()
    new.add_function("a", numbers)
    new.add_async_code("c", "result = 1")
    new.add_connection("a", "0", "c", "x")

    result = await AsyncLocalRuntime().execute_workflow_async(new)

    assert "node 'a' has no output '0': there is a" in result["errors"]["c"]


def test_inputs_nobody_gives_are_all_named_before_the_run():
    """With the node and how to give them; nothing runs."""
    ran = []
    new = builder("result = x + y", "result = z")
    new.add_function("f", lambda needed, optional=1: ran.append(1))
    new.add_function("g", lambda: ran.append(1))

    with pytest.raises(WorkflowValidationError) as caught:
        run(new, {"x": 1, "b": {"y": 2}})

    assert [text.partition(":")[0] for text in caught.value.problems] == [
        "nobody gives input 'y' of node 'a'",
        "nobody gives input 'z' of node 'b'",
        "nobody gives input 'needed' of node 'f'",
    ]
    assert all(
        "connect it" in text and "inputs of the run" in text for text in caught.value.problems
    )
    assert not ran


class Broken:
    def has_factory(self, name):
        return name == "db"

    async def get_resource(self, name):
        raise ConnectionRefusedError("it is down")


class Empty(Broken):
    async def get_resource(self, name):
        return object()


def test_resources_that_are_missing_or_broken_fail_the_nodes_that_need_them():
    """Each error names the node and what to do, or what went wrong."""
    new = builder("result = await get_resource('cache')", "result = await get_resource('db')")
    new.add_resource_node("r", "cache", "get")
    new.add_resource_node("s", "db", "get")

    missing = run(new)["errors"]
    down = asyncio.run(AsyncLocalRuntime(Broken()).execute_workflow_async(new))["errors"]
    empty = asyncio.run(AsyncLocalRuntime(Empty()).execute_workflow_async(new))["errors"]

    for node_id, name in (("a", "cache"), ("b", "db"), ("r", "cache"), ("s", "db")):
        assert f"node {node_id!r}: there is no resource {name!r}; register it" in missing[node_id]
    assert "ConnectionRefusedError: it is down" in down["b"]
    assert "ConnectionRefusedError: it is down" in down["s"]
    assert set(empty) == {"a", "r", "s"}
    assert "resource 'db' (object) has no operation 'get'" in empty["s"]


def test_a_resource_that_is_required_and_used_by_name_is_missed_by_name():
    """Code that uses a declared resource by its name is told what to register."""
    new = AsyncWorkflowBuilder()
    new.add_async_code("a", "result = db", required_resources=["db"])

    try:
        said = run(new)["errors"]["a"]
    except WorkflowValidationError as error:
        said = str(error)

    assert "resource" in said
    assert "register" in said


def test_a_runtime_can_be_used_after_cleanup_and_a_workflow_on_any():
    """On several loops, at once, in any order, however often it is cleaned up."""
    one, other = AsyncLocalRuntime(), AsyncLocalRuntime(max_concurrent_nodes=1)
    flow = WorkflowBuilder()
    flow.add_node("PythonCodeNode", "a", {"code": "result = 1"})
    flow.add_function("b", numbers)
    flow = flow.build()

    async def main():
        await one.cleanup()
        results = await asyncio.gather(
            *(runtime.execute_workflow_async(flow) for runtime in (one, other, one, other))
        )
        await asyncio.gather(one.cleanup(), one.cleanup(), other.close())
        return [result["status"] for result in results]

    with nothing_changed():
        assert asyncio.run(main()) == ["success"] * 4
        assert asyncio.run(main()) == ["success"] * 4
        assert asyncio.run(other.execute_workflow_async(flow))["status"] == "success"
        asyncio.run(other.cleanup())


def test_circles_of_any_size_are_named():
    """Of two, of three, and of the results of a workflow in itself there is none."""
    with pytest.raises(CyclicDependencyError, match="a -> b -> a"):
        builder("result = x", "result = x", connect=["a.result -> b.x", "b.result -> a.x"]).build()
    with pytest.raises(CyclicDependencyError, match="a -> b -> c -> a"):
        run(
            builder(
                *["result = x"] * 3,
                connect=["a.result -> b.x", "b.result -> c.x", "c.result -> a.x"],
            )
        )
    with pytest.raises(WorkflowValidationError, match="to itself"):
        builder("result = x", connect=["a.result -> a.x"])
    own = builder("result = 1")
    own.add_workflow("again", own)  # as it is now
    assert run(own)["results"]["again"] == {"a": 1}


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (lambda inputs: 1 / 0, "ZeroDivisionError"),
        (lambda: True, "positional argument"),
        (lambda inputs: Unequal() == 1, "ValueError: no"),
    ],
)
def test_a_condition_that_fails_fails_its_node(condition, said):
    """And what needs it is skipped."""
    result = run(one(lambda: 1, condition=condition))

    assert said in result["errors"]["a"]


class AlmostPolicy:
    def delay(self, number):
        return 0


class AlmostHandler:
    handler_type = "log"


@pytest.mark.parametrize(
    "option", [{"retry_policy": AlmostPolicy()}, {"error_handler": AlmostHandler()}]
)
def test_what_is_almost_a_policy_is_refused_when_it_is_given(option):
    """With the node."""
    with pytest.raises(TypeError, match="node 'a'"):
        AsyncWorkflowBuilder().add_async_code("a", "result = 1", **option)


def workflow(nodes=None, edges=()):
    return Workflow(
        "w", "w", builder("result = 1").build().nodes if nodes is None else nodes, edges
    )


@pytest.mark.parametrize(
    "flow",
    [
        workflow({"a": NodeSpec("a", "Function")}),
        workflow({1: NodeSpec(1, "Function")}),
        workflow({"a": NodeSpec("b", "Function")}),
        workflow(edges=(Edge("a", None, "z", "x"),)),
        workflow(edges=(Edge("a", None, "a", "x"),)),
        *(
            pytest.param(flow)
            for flow in (
                workflow([NodeSpec("a", "Function")]),
                workflow({"a": None}),
                workflow({"a": "result = 1"}),
                workflow(edges=(("a", None, "a", "x"),)),
                workflow(edges=(Edge(["a"], None, "a", "x"),)),
                workflow(edges=None),
            )
        ),
    ],
)
def test_a_workflow_made_by_hand_is_checked_too(flow):
    """Before its first run, whatever it is made of."""
    with pytest.raises(WorkflowValidationError):
        run(flow)


@pytest.mark.parametrize("text", ["", "x", "[]", "null", "{", "{}", '{"nodes": 3}', LONG, b"\xff"])
def test_documents_that_are_none_are_refused_with_the_place(text):
    """As JSON and as YAML."""
    for read in (Workflow.from_json, Workflow.from_yaml):
        with pytest.raises(WorkflowValidationError) as caught:
            read(text)
        assert len(str(caught.value)) < READABLE


@pytest.mark.parametrize("read", [Workflow.from_json, Workflow.from_yaml])
def test_documents_are_texts(read):
    """Anything else is refused in our words."""
    for thing in (None, 3, [], {}, object()):
        with pytest.raises((TypeError, WorkflowValidationError), match="text"):
            read(thing)


async def small(x=0):
    return 1


def chain(count, first=small):
    new = AsyncWorkflowBuilder("chain")
    new.add_function("n0", first)
    for number in range(1, count):
        new.add_function(f"n{number}", small)
        new.add_connection(f"n{number - 1}", None, f"n{number}", "x")
    return new


@pytest.mark.timeout(240)
def test_a_hundred_thousand_nodes_are_built_and_run_in_linear_time():
    """No recursion, no quadratic step; ten times as many take about ten times as long."""
    times = []
    for count in (10_000, 100_000):
        began = time.process_time()
        result = run(chain(count).build())
        times.append(time.process_time() - began)
        assert len(result["results"]) == count
    assert times[1] < 25 * times[0]


def test_a_failure_before_very_many_nodes_skips_them_in_linear_time():
    """All of them have a reason."""

    async def fails():
        raise ValueError("no")

    result = run(chain(20_000, fails))

    assert len(result["skipped"]) == 19_999
    assert result["skipped"]["n19999"] == "it needs 'n0', which failed"


def test_a_very_long_circle_is_named_in_part():
    """Its beginning and its end; all of it is in `path`."""
    new = chain(20_000).add_connection("n19999", None, "n0", "x")

    with pytest.raises(CyclicDependencyError) as caught:
        new.build()

    assert len(caught.value.path) == 20_001
    assert len(str(caught.value)) < READABLE


def test_a_mistake_among_very_many_nodes_is_found_quickly():
    """What may have been meant is not looked for among all of them."""
    new = chain(20_000)
    began = time.process_time()
    for number in range(100):
        with pytest.raises(WorkflowValidationError, match="not found in workflow"):
            new.add_connection(f"m{number}", None, "n1", "x")
    assert time.process_time() - began < 10


async def test_on_error_raise_says_the_same():
    """The first error, with its node; the whole result is with it."""
    with pytest.raises(
        WorkflowExecutionError, match="node 'a' failed: ZeroDivisionError"
    ) as caught:
        await AsyncLocalRuntime().execute_workflow_async(builder("1 / 0"), on_error="raise")

    assert caught.value.result["errors"].keys() == {"a"}
