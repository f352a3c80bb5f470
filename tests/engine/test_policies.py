"""Policies of nodes: what goes around each attempt."""

from __future__ import annotations

import asyncio
import copy

import pytest

from pocketflow_async import (
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchNode,
    Flow,
    Node,
)
from pocketflow_async.errors import NodeTimeoutError
from pocketflow_async.resilience import Policy, RateLimiter, RateLimitExceeded


class Noted(Policy):
    """Writes down when a call begins and ends."""

    kind = "noted"

    def __init__(self, name, log):
        super().__init__(name)
        self.log = log

    async def _acall(self, call, facts):
        self.log.append(f"{self.name} in")
        try:
            return await call()
        finally:
            self.log.append(f"{self.name} out")

    def _call(self, call, facts):
        self.log.append(f"{self.name} in")
        try:
            return call()
        finally:
            self.log.append(f"{self.name} out")


class Again(Policy):
    """Calls a second time when the first has failed."""

    kind = "again"

    async def _acall(self, call, facts):
        try:
            return await call()
        except ValueError:
            return await call()

    def _call(self, call, facts):
        try:
            return call()
        except ValueError:
            return call()


class Refuses(Policy):
    """Lets nothing through."""

    async def _acall(self, call, facts):
        raise PermissionError("closed")

    def _call(self, call, facts):
        raise PermissionError("closed")


class Doubled(AsyncNode):
    async def prep_async(self, shared):
        return shared["n"]

    async def exec_async(self, prep_res):
        return prep_res * 2

    async def post_async(self, shared, prep_res, exec_res):
        shared["result"] = exec_res


class DoubledSync(Node):
    def prep(self, shared):
        return shared["n"]

    def exec(self, prep_res):
        return prep_res * 2

    def post(self, shared, prep_res, exec_res):
        shared["result"] = exec_res


@pytest.mark.parametrize("cls", [Doubled, DoubledSync])
async def test_the_first_policy_is_the_outermost(cls):
    """Policies go around exec in their order, in asynchronous and synchronous nodes."""
    log, shared = [], {"n": 4}

    await AsyncFlow(cls(policies=[Noted("a", log), Noted("b", log)])).run_async(shared)

    assert shared["result"] == 8
    assert log == ["a in", "b in", "b out", "a out"]


def test_a_plain_flow_has_them_too():
    """A synchronous node in a Flow is called through its policies."""
    log, shared = [], {"n": 1}

    Flow(DoubledSync(policies=Noted("only", log))).run(shared)

    assert (shared["result"], log) == (2, ["only in", "only out"])


async def test_one_policy_needs_no_list_and_threads_have_them():
    """`policies=policy` will do; a node in a thread is called through it there."""
    log, shared = [], {"n": 1}

    await AsyncFlow(DoubledSync(in_thread=True, policies=Noted("p", log))).run_async(shared)

    assert (shared["result"], log) == (2, ["p in", "p out"])


class Flaky(AsyncNode):
    """Fails as often as it is told."""

    def __init__(self, failures, **options):
        super().__init__(**options)
        self.left = [failures]
        self.calls = []

    async def exec_async(self, prep_res):
        self.calls.append(self.cur_retry)
        if self.left[0]:
            self.left[0] -= 1
            raise ValueError("not yet")
        return "done"

    async def post_async(self, shared, prep_res, exec_res):
        shared["result"] = exec_res


async def test_policies_are_within_each_attempt():
    """What a policy tries again by itself is one attempt of the node."""
    node, shared = Flaky(3, max_retries=2, policies=[Again()]), {}

    await AsyncFlow(node).run_async(shared)

    assert shared["result"] == "done"
    assert node.calls == [0, 0, 1, 1]


async def test_what_a_policy_raises_is_the_error_of_the_attempt():
    """It goes to the fallback like any other error, and exec is not reached."""

    class Answered(Doubled):
        async def exec_fallback_async(self, prep_res, exc):
            return type(exc).__name__

    shared = {"n": 4}

    await AsyncFlow(Answered(policies=[Refuses()])).run_async(shared)

    assert shared["result"] == "PermissionError"


async def test_the_timeout_of_the_node_is_around_its_policies():
    """A policy that takes too long is out of time as the node's own work would be."""

    class Waits(Policy):
        async def _acall(self, call, facts):
            await asyncio.Event().wait()

        def _call(self, call, facts):
            raise NotImplementedError

    with pytest.raises(NodeTimeoutError):
        await AsyncFlow(Doubled(timeout=0.01, policies=[Waits()])).run_async({"n": 1})


@pytest.mark.parametrize("base", [AsyncBatchNode, AsyncParallelBatchNode])
async def test_each_item_of_a_batch_has_them(base):
    """Of a batch, each item goes through the policies."""
    log = []

    class Items(base):
        async def prep_async(self, shared):
            return [1, 2, 3]

        async def exec_async(self, item):
            return item * 10

        async def post_async(self, shared, prep_res, exec_res):
            shared["result"] = exec_res

    shared = {}

    await AsyncFlow(Items(policies=[Noted("p", log)])).run_async(shared)

    assert shared["result"] == [10, 20, 30]
    assert sorted(log) == ["p in"] * 3 + ["p out"] * 3


async def test_visits_share_the_policy():
    """A flow copies its nodes; the policy and what it remembers stay one."""
    log = []
    node = Doubled(policies=[Noted("p", log)])

    assert copy.copy(node)._pf_options.policies[0] is node._pf_options.policies[0]
    await asyncio.gather(*(AsyncFlow(node).run_async({"n": n}) for n in range(5)))

    assert len(log) == 10


@pytest.mark.parametrize("wrong", [[1], Noted, "retry", [Noted]])
def test_what_is_no_policy_is_refused(wrong):
    """The error says what is meant."""
    with pytest.raises(TypeError, match="policies takes objects such as"):
        Doubled(policies=wrong)


async def test_a_policy_by_key_sees_what_exec_gets():
    """However many policies are around it, the key is made of exec's own argument."""
    limiter = RateLimiter(1, 1, key="{prep_res[user]}", wait=False)

    class Asks(AsyncNode):
        async def prep_async(self, shared):
            return {"user": shared["user"]}

        async def exec_async(self, prep_res):
            return prep_res["user"]

    flow = AsyncFlow(Asks(policies=[limiter, Noted("p", []), Again()]))

    await flow.run_async({"user": "ann"})
    await flow.run_async({"user": "bob"})
    with pytest.raises(RateLimitExceeded):
        await flow.run_async({"user": "ann"})
