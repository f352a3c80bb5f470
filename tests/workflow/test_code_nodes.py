"""PythonCodeNode and AsyncPythonCodeNode: alone, and as the work of a workflow's node."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from pocketflow_async.nodes.code import AsyncPythonCodeNode, PythonCodeNode
from pocketflow_async.workflow.errors import (
    NodeExecutionError,
    SafetyViolationError,
    WorkflowValidationError,
)


class Around:
    run_id = node_id = "n"

    async def get_resource(self, name):
        return f"the {name}"


async def test_alone():
    """Both kinds can be called alone, either way; the value is under `result`."""
    sync = PythonCodeNode(code="result = x + 1", name="inc")
    both = AsyncPythonCodeNode(code="await asyncio.sleep(0)\nresult = x + 1")

    assert sync.execute(x=1) == {"result": 2}
    assert await sync.execute_async(x=1) == {"result": 2}
    assert await both.execute_async(x=1) == {"result": 2}
    assert await asyncio.to_thread(both.execute, x=1) == {"result": 2}
    with pytest.raises(RuntimeError, match=r"await node\.execute_async"):
        both.execute(x=1)


async def test_inputs_may_have_any_name():
    """`self`, `code` and `name` are inputs like others."""
    node = PythonCodeNode("result = self, code, name")

    assert node.execute(self=1, code=2, name=3) == {"result": (1, 2, 3)}
    assert await node.execute_async(self=1, code=2, name=3) == {"result": (1, 2, 3)}


async def test_as_work():
    """A workflow runs it as it is, any number of times at once."""
    node = AsyncPythonCodeNode("await asyncio.sleep(0)\nresult = await get_resource('db'), x")

    assert node.is_async
    assert node.wrapped
    found = await asyncio.gather(*(node.run({"x": x}, Around()) for x in range(20)))
    assert found == [{"result": ("the db", x)} for x in range(20)]
    assert PythonCodeNode("result = 1").run({}, Around()) == {"result": 1}
    assert not PythonCodeNode("result = 1").is_async


async def test_synchronous_work_does_not_block_the_loop():
    """`execute_async` of synchronous code runs in another thread."""
    node = PythonCodeNode("result = threading.get_ident()")
    found = await node.execute_async(threading=threading)

    assert found["result"] != threading.get_ident()


async def test_from_function():
    """A function is called with the inputs that it takes; its name is the node's."""

    def double(x, by=2):
        return x * by

    async def later(x):
        await asyncio.sleep(0)
        return x

    assert PythonCodeNode.from_function(double).name == "double"
    assert PythonCodeNode.from_function(double).execute(x=2, unused=3) == {"result": 4}
    assert await AsyncPythonCodeNode.from_function(later).execute_async(x=2) == {"result": 2}
    assert await AsyncPythonCodeNode.from_function(double, "d").execute_async(x=2) == {"result": 4}
    with pytest.raises(TypeError, match=r"node 'later': .*use AsyncPythonCodeNode"):
        PythonCodeNode.from_function(later)
    with pytest.raises(TypeError, match="needs the input 'x'"):
        PythonCodeNode.from_function(double).execute()
    with pytest.raises(TypeError, match="3 is no function"):
        PythonCodeNode.from_function(3)


async def test_timeout():
    """The text is that of the contract; a TimeoutError of the code itself passes as it is."""
    node = AsyncPythonCodeNode("await asyncio.sleep(60)", timeout=0.01)
    with pytest.raises(NodeExecutionError, match=r"^Async code execution exceeded 0\.01s timeout$"):
        await node.execute_async()
    with pytest.raises(TimeoutError, match="mine"):
        await AsyncPythonCodeNode("raise TimeoutError('mine')", timeout=5).execute_async()


async def test_max_concurrent_tasks():
    """The code's own tasks are limited."""
    code = """
        now = most = 0
        async def work():
            global now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1
        await asyncio.gather(*(work() for _ in range(9)))
        result = most
    """
    node = AsyncPythonCodeNode(code, max_concurrent_tasks=2)

    assert await node.execute_async() == {"result": 2}


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({}, TypeError, "takes either code or a function"),
        ({"code": "x", "function": len}, TypeError, "takes either code or a function"),
        ({"code": 3}, TypeError, "node 'PythonCodeNode': code must be a string, not int"),
        ({"code": "x = ="}, WorkflowValidationError, "line 1, column 5: invalid syntax"),
        ({"code": "import subprocess"}, SafetyViolationError, "subprocess is refused"),
        ({"code": "x", "speed": 1}, TypeError, "no argument 'speed'"),
        ({"code": "x", "timeout": 0}, ValueError, "timeout must be a number of seconds above 0"),
        ({"code": "x", "timeout": "1"}, ValueError, "timeout must be"),
        ({"code": "x", "timeout": float("nan")}, ValueError, "timeout must be"),
        ({"code": "x", "max_concurrent_tasks": 0}, ValueError, "max_concurrent_tasks must be"),
        ({"code": "x", "max_concurrent_tasks": True}, ValueError, "max_concurrent_tasks must be"),
    ],
)
def test_wrong_arguments(given, error, said):
    """Each is refused with its name."""
    with pytest.raises(error, match=said):
        PythonCodeNode(**given)


def test_arguments_that_nothing_enforces_are_taken_with_a_warning():
    """Those of the original are no errors, and no silent promise."""
    with pytest.warns(UserWarning, match="does not enforce max_memory_mb"):
        PythonCodeNode("result = 1", max_memory_mb=512)
    assert PythonCodeNode("import subprocess", allow=["subprocess"]).execute()


async def test_no_resources_alone():
    """The error says what to do."""
    with pytest.raises(LookupError, match="runs alone and has no resource 'db'"):
        await AsyncPythonCodeNode("await get_resource('db')").execute_async()
    with pytest.raises(NodeExecutionError, match="make it an AsyncPythonCodeNode"):
        PythonCodeNode("get_resource('db')").execute()


def test_the_engine_does_not_load_them():
    """`import pocketflow_async` stays as light as it was."""
    program = (
        "import sys, pocketflow_async; "
        "sys.exit(any(n.startswith('pocketflow_async.workflow') for n in sys.modules) "
        "or 'pocketflow_async.nodes.code' in sys.modules or 'symtable' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
