"""Tasks of a code node: limited, ended with the node, and no business of anybody else."""

from __future__ import annotations

import asyncio
import gc

import pytest

from pocketflow_async.workflow.code import compile_code
from pocketflow_async.workflow.own_tasks import ASYNCIO


class Around:
    run_id = node_id = "n"

    async def get_resource(self, name):
        raise LookupError(name)


class Meter:
    """Counts how many are inside at a time."""

    def __init__(self):
        self.now = self.most = self.done = 0

    async def work(self, seconds=0.002):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.now -= 1
        self.done += 1
        return self.done


def node(code):
    return compile_code(code, node_id="n", is_async=True)


async def run(code, limit=None, **inputs):
    return await node(code).run(inputs, Around(), limit)


WAYS = {
    "gather": "await asyncio.gather(*(work() for _ in range(12)))",
    "create_task": "for task in [asyncio.create_task(work()) for _ in range(12)]: await task",
    "ensure_future": "for task in [asyncio.ensure_future(work()) for _ in range(12)]: await task",
    "TaskGroup": """
        async with asyncio.TaskGroup() as group:
            for _ in range(12): group.create_task(work())
    """,
    "as_completed": "for next in asyncio.as_completed([work() for _ in range(12)]): await next",
    "imported": "import asyncio\nawait asyncio.gather(*(work() for _ in range(12)))",
    "imported as": "import asyncio as a\nawait a.gather(*(work() for _ in range(12)))",
    "imported from": "from asyncio import gather\nawait gather(*(work() for _ in range(12)))",
    "imported star": "from asyncio import *\nawait gather(*(work() for _ in range(12)))",
    "imported in a function": """
        async def f():
            import asyncio.tasks
            await asyncio.gather(*(work() for _ in range(12)))
        await f()
    """,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limit", [1, 3, 50, None])
async def test_limit(way, limit):
    """Whichever way tasks are made, no more are at work than allowed, and all get done."""
    meter = Meter()

    await run(WAYS[way], limit, work=meter.work)

    assert meter.most == min(limit or 12, 12)
    assert meter.done == 12


@pytest.mark.parametrize("limit", [1, 2])
async def test_nested_tasks_do_not_wait_for_their_parents_place(limit):
    """A task that waits for tasks of its own gets on, to any depth."""
    code = """
        async def tree(depth):
            if depth:
                await asyncio.gather(tree(depth - 1), tree(depth - 1))
            seen.append(depth)
        await asyncio.gather(tree(3), tree(3))
    """
    seen = []
    async with asyncio.timeout(5):
        await run(code, limit, seen=seen)

    assert len(seen) == 30


async def test_nodes_do_not_limit_each_other():
    """Two nodes at once have the sum of their limits; nothing of asyncio is replaced."""
    before = {name: getattr(asyncio, name) for name in dir(asyncio)}
    meter = Meter()

    await asyncio.gather(*(run(WAYS["gather"], 2, work=meter.work) for _ in range(5)))

    assert meter.most == 10
    assert {name: getattr(asyncio, name) for name in dir(asyncio)} == before


async def test_results_and_errors_pass():
    """Gather gives results in order, the same coroutine twice is one, errors come out."""
    code = """
        async def double(x): return 2 * x
        one = double(1)
        result = await asyncio.gather(one, double(2), one, asyncio.sleep(0, "x"))
    """
    assert await run(code, 1) == [2, 4, 2, "x"]
    with pytest.raises(ZeroDivisionError):
        await run("async def f(): 1 / 0\nawait asyncio.gather(f(), asyncio.sleep(60))", 2)
    code = "async def f(): 1 / 0\nresult = await asyncio.gather(f(), return_exceptions=True)"
    assert isinstance((await run(code, 2))[0], ZeroDivisionError)


@pytest.mark.parametrize("end", ["", "1 / 0", "await asyncio.sleep(60)"])
async def test_what_the_code_leaves_behind_is_ended_with_it(end):
    """However the node ends, its tasks are cancelled and have run their finally blocks."""
    code = f"""
        async def forever():
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(1)
        for _ in range(3):
            asyncio.create_task(forever())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        {end}
    """
    before = asyncio.all_tasks()
    ended = []
    outer = asyncio.create_task(run(code, 10, ended=ended))
    for _ in range(20):
        await asyncio.sleep(0)
    if "sleep" in end:
        outer.cancel()

    result = await asyncio.gather(outer, return_exceptions=True)

    assert ended == [1, 1, 1]
    assert asyncio.all_tasks() == before
    assert isinstance(result[0], dict | ZeroDivisionError | asyncio.CancelledError)


async def test_tasks_cancelled_while_they_wait_leave_no_warning():
    """A coroutine whose turn never came is closed; "never awaited" would be an error here."""
    code = "for _ in range(5): asyncio.create_task(work(60))\nawait asyncio.sleep(0)"

    await run(code, 1, work=Meter().work)
    await run(code.replace("\nawait asyncio.sleep(0)", ""), 1, work=Meter().work)
    gc.collect()


async def test_names_and_wrong_arguments_work_as_in_asyncio():
    """Keywords are passed on; what is no coroutine is asyncio's own error."""
    code = "result = (await asyncio.gather(asyncio.create_task(f(), name='bob')))[0]"

    async def name():
        return asyncio.current_task().get_name()

    assert await run(code, 1, f=name) == "bob"
    with pytest.raises(TypeError, match="coroutine was expected"):
        await run("asyncio.create_task(3)", 1)
    with pytest.raises(ExceptionGroup, match="unhandled errors in a TaskGroup"):
        await run("async with asyncio.TaskGroup() as g: g.create_task(3)", 1)


async def test_the_rest_is_asyncio_itself():
    """Everything else is the very object, and outside of nodes the module limits nothing."""
    assert ASYNCIO.sleep is asyncio.sleep
    assert ASYNCIO.CancelledError is asyncio.CancelledError
    assert dir(ASYNCIO) == dir(asyncio)
    assert await ASYNCIO.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2)) == [1, 2]
    with pytest.raises(AttributeError):
        ASYNCIO.nothing


def test_synchronous_code_gets_asyncio_itself():
    """There is nothing to limit in a thread."""
    code = compile_code("import asyncio\nresult = asyncio", node_id="n", is_async=False)

    assert code.run({}, Around()) is asyncio
