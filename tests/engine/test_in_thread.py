"""`in_thread=True`: exec of a synchronous node in a worker thread, the rest on the event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from pocketflow_async import (
    AsyncFlow,
    AsyncNode,
    BatchNode,
    Flow,
    Node,
    NodeTimeoutError,
    observing,
    parallel,
)
from pocketflow_async.clock import using_clock
from tests.engine.engine_kit import FakeClock, Flaky, Recorder, subclass, turns

pytestmark = pytest.mark.usefixtures("tidy")

who: ContextVar[str] = ContextVar("who", default="nobody")
PATIENCE = 10  # seconds until a test that would hang fails


def exec_result(self, shared, prep_res, exec_res):
    shared["result"] = exec_res


def threaded(exec_, base=Node, *args, **options):
    """A node that runs *exec_* in a thread and stores its result."""
    phases = {"prep": lambda self, shared: shared.get("in")}
    return subclass(base, exec=exec_, post=exec_result, **phases)(*args, in_thread=True, **options)


class Blocking:
    """An exec that blocks its thread until `release`; `started` tells the loop that it is there."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = asyncio.Event()
        self.release = threading.Event()
        self.finished = False

    def __call__(self, node, prep_res):
        self.loop.call_soon_threadsafe(self.started.set)
        assert self.release.wait(PATIENCE)
        self.finished = True
        return "done"

    @property
    def phase(self):
        return lambda node, prep_res: self(node, prep_res)


async def test_the_loop_goes_on_while_exec_blocks():
    """Other tasks run while the thread is blocked; without them it would never come back."""
    work, shared = Blocking(), {}

    async def other():
        await work.started.wait()
        await turns(20)
        work.release.set()

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(AsyncFlow(threaded(work.phase)).run_async(shared), other())

    assert shared == {"result": "done"}


async def test_only_exec_leaves_the_loops_thread():
    """Prep and post are on the loop's own thread, so `shared` is touched by one thread only."""
    threads = {}

    class Where(Node):
        def prep(self, shared):
            threads["prep"] = threading.get_ident()

        def exec(self, prep_res):
            threads["exec"] = threading.get_ident()

        def post(self, shared, prep_res, exec_res):
            threads["post"] = threading.get_ident()

    await AsyncFlow(Where(in_thread=True)).run_async({})

    here = threading.get_ident()
    assert (threads["prep"], threads["post"]) == (here, here)
    assert threads["exec"] != here


async def test_the_fallback_is_in_the_thread_too():
    """exec, its retries, its waits and its fallback stay together."""
    threads, clock = [], FakeClock()

    def exec_(self, prep_res):
        threads.append(threading.get_ident())
        raise ValueError(self.cur_retry)

    def fallback(self, prep_res, exc):
        threads.append(threading.get_ident())
        return (self.cur_retry, str(exc))

    node = subclass(Node, exec=exec_, exec_fallback=fallback, post=exec_result)(
        3, 5, in_thread=True, backoff=2
    )
    shared = {}
    with using_clock(clock):
        await AsyncFlow(node).run_async(shared)

    assert shared["result"] == (2, "2")
    assert len(threads) == 4
    assert threading.get_ident() not in threads
    assert clock.waits == [5, 10]


async def test_exec_sees_the_context_and_keeps_its_changes_to_itself():
    """The thread works in a copy of the context: ContextVars are visible, what it sets is not."""
    seen = []

    def exec_(self, prep_res):
        seen.append(who.get())
        who.set("thread")

    token = who.set("caller")
    try:
        await AsyncFlow(threaded(exec_)).run_async({})
        assert who.get() == "caller"
    finally:
        who.reset(token)
    assert seen == ["caller"]


async def test_params_and_attributes_reach_the_thread():
    """It is the visit's own copy that works there: params, what prep bound, what post finds."""

    class Bound(Node):
        def prep(self, shared):
            self.mine = "from prep"
            return "prep"

        def exec(self, prep_res):
            self.mine += ", exec"
            return (prep_res, dict(self.params))

        def post(self, shared, prep_res, exec_res):
            shared["result"] = (self.mine, exec_res, self.cur_retry)

    node, shared = Bound(in_thread=True), {}
    flow = AsyncFlow(node)
    flow.set_params({"k": 1})
    await flow.run_async(shared)

    assert shared["result"] == ("from prep, exec", ("prep", {"k": 1}), 0)
    assert "mine" not in vars(node)


@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_cur_retry_counts_in_the_thread(failures):
    """Exec and post read the number of the attempt under way."""
    numbers, flaky = [], Flaky(failures)

    def exec_(self, prep_res):
        numbers.append(self.cur_retry)
        return flaky(self.cur_retry)

    shared = {}
    await AsyncFlow(threaded(exec_, Node, 3)).run_async(shared)

    assert numbers == list(range(failures + 1))
    assert shared["result"] == failures


async def test_concurrent_visits_have_a_cur_retry_of_their_own():
    """Runs of one flow in several threads at once do not count each other's attempts."""
    together = threading.Barrier(4, timeout=PATIENCE)

    def exec_(self, limit):
        together.wait()
        if self.cur_retry < limit:
            raise ValueError
        for _ in range(3 - self.cur_retry):
            together.wait()
        return self.cur_retry

    flow = AsyncFlow(threaded(exec_, Node, 4))
    shareds = [{"in": i} for i in range(4)]
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
    await asyncio.gather(*(flow.run_async(shared) for shared in shareds))

    assert [shared["result"] for shared in shareds] == [0, 1, 2, 3]


async def test_an_error_in_the_thread_is_the_flows_error():
    """Same object, with the same note as anywhere else; post is not called."""
    error = KeyError("own")

    def exec_(self, prep_res):
        raise error

    shared = {}
    with pytest.raises(KeyError) as caught:
        await AsyncFlow(threaded(exec_, Node, 2, name="N"), name="F").run_async(shared)

    assert caught.value is error
    assert error.__notes__ == ["in flow F, node N, exec, attempt 2 of 2"]
    assert shared == {}


async def test_cancelling_waits_for_the_thread():
    """A thread cannot be stopped: the flow ends as cancelled once it has come back."""
    work, shared = Blocking(), {}
    task = asyncio.create_task(AsyncFlow(threaded(work.phase, Node, 3)).run_async(shared))
    await work.started.wait()

    task.cancel()
    await turns(10)
    assert not task.done()
    task.cancel()  # told again
    await turns(10)
    assert not task.done()

    work.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.finished
    assert shared == {}


async def test_a_flow_timeout_waits_for_the_thread_too():
    """`AsyncFlow(timeout=…)` over a blocked thread: the error comes when nothing runs any more."""
    work = Blocking()
    task = asyncio.create_task(AsyncFlow(threaded(work.phase), timeout=0.01).run_async({}))
    await work.started.wait()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done

    work.release.set()
    with pytest.raises(TimeoutError):
        await task
    assert work.finished


async def test_an_error_of_a_thread_that_was_cancelled_is_not_forgotten_noise():
    """The thread's own error gives way to the cancellation, and the loop does not complain."""
    work = Blocking()

    def exec_(self, prep_res):
        work(self, prep_res)
        raise ValueError("late")

    task = asyncio.create_task(AsyncFlow(threaded(exec_)).run_async({}))
    await work.started.wait()
    task.cancel()
    await turns(3)
    work.release.set()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_late_attempt_in_a_thread_is_late_like_any_other():
    """`timeout` of a threaded node is found when the thread comes back."""
    clock = FakeClock()

    def exec_(self, prep_res):
        clock.now += 9

    with using_clock(clock), pytest.raises(NodeTimeoutError):
        await AsyncFlow(threaded(exec_, timeout=5)).run_async({})


async def test_a_batch_node_goes_through_its_items_in_one_thread():
    """All items in order, each with its own attempts, off the loop's thread."""
    threads, failed = [], set()

    def exec_(self, item):
        threads.append(threading.get_ident())
        if item == 1 and item not in failed:
            failed.add(item)
            raise ValueError
        return (item, self.cur_retry)

    shared = {"in": range(3)}
    await AsyncFlow(threaded(exec_, BatchNode, 2)).run_async(shared)

    assert shared["result"] == [(0, 0), (1, 1), (2, 0)]
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


async def test_a_node_that_overrides_run_goes_to_the_thread_as_a_whole():
    """The engine does not take a user's own `_run` apart."""
    threads = []

    class Own(Node):
        def _run(self, shared):
            threads.append(threading.get_ident())
            return super()._run(shared)

        def prep(self, shared):
            threads.append(threading.get_ident())

        def post(self, shared, prep_res, exec_res):
            threads.append(threading.get_ident())
            return "next"

    flow = AsyncFlow(Own(in_thread=True))

    assert await flow.run_async({}) == "next"
    assert len(threads) == 3
    assert threading.get_ident() not in threads
    assert len(set(threads)) == 1


async def test_actions_route_as_usual():
    """What post returns chooses the next node; threaded and other nodes mix."""

    class Choose(Node):
        def exec(self, prep_res):
            return "left"

        def post(self, shared, prep_res, exec_res):
            return exec_res

    class Left(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            shared["went"] = "left"

    start, shared = Choose(in_thread=True), {}
    start - "left" >> Left()
    await AsyncFlow(start).run_async(shared)

    assert shared == {"went": "left"}


@pytest.mark.parametrize("runner", ["node", "flow", "nested"])
async def test_it_has_no_effect_in_synchronous_code(runner):
    """By itself, in a Flow, in a Flow inside an AsyncFlow: exec stays on the caller's thread."""
    threads = []
    node = threaded(lambda self, prep_res: threads.append(threading.get_ident()))

    if runner == "node":
        node.run({})
    elif runner == "flow":
        Flow(node).run({})
    else:
        await AsyncFlow(Flow(node)).run_async({})

    assert threads == [threading.get_ident()]


async def test_branches_with_in_thread_block_side_by_side():
    """Two blocking branches of `parallel` are in two threads at once."""
    together = threading.Barrier(2, timeout=PATIENCE)

    def exec_(self, prep_res):
        together.wait()
        return threading.get_ident()

    nodes = [subclass(Node, exec=exec_)(in_thread=True, name=name) for name in "ab"]
    shared = {}
    await AsyncFlow(parallel(*nodes, into="threads")).run_async(shared)

    assert len(set(shared["threads"].values())) == 2


async def test_observers_see_the_attempts_made_in_the_thread():
    """The steps nest as those of any node, for the context goes along."""
    record, flaky = Recorder(), Flaky(1)
    with observing(record):
        await AsyncFlow(threaded(flaky.phase, Node, 2, name="N"), name="F").run_async({})

    assert record.text() == [
        "flow F",
        "  prep F",
        "  node N",
        "    prep N",
        "    exec N 1/2 !ValueError wait=0",
        "    exec N 2/2",
        "    post N",
        "  post F",
    ]


HANGS = """
import asyncio
from pocketflow_async import AsyncFlow, Node

class Empty(Node):
    def exec(self, prep_res):
        return next(iter([]))

try:
    asyncio.run(AsyncFlow(Empty(in_thread=True)).run_async({}))
except (RuntimeError, StopIteration) as error:
    print("raised", type(error).__name__)
"""


def test_stop_iteration_in_a_thread_is_an_error(child_env):
    """A stray `next()` in exec fails the flow, as it does without `in_thread`."""
    done = subprocess.run(
        [sys.executable, "-c", HANGS], env=child_env, capture_output=True, text=True, timeout=8
    )

    assert done.stdout == "raised RuntimeError\n"
