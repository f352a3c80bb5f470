"""The emergency control as a gate: plain flows that know nothing of it are halted and reduced."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode, Flow, Node, parallel
from pocketflow_async.hooks import guarding
from pocketflow_async.infrastructure.emergency import EmergencyHalted, RiskLimitExceeded
from pocketflow_async.infrastructure.store import MemoryStore, StoreUnavailable
from tests.infrastructure.emergency_kit import Shaky, control, until


class Action(AsyncNode):
    """Notes that it was done."""

    def __init__(self, name, effect=None, then=None, **given):
        super().__init__(name=name, **given)
        if effect is not None:
            self.risk_effect = effect
        self.then = then
        self.said = name

    async def prep_async(self, shared):
        return shared

    async def exec_async(self, shared):
        shared.setdefault("done", []).append(self.said)
        if self.then is not None:
            await self.then()
        return None


def chain(*nodes):
    for one, following in pairwise(nodes):
        one >> following
    return AsyncFlow(start=nodes[0])


async def run(controller, flow, gate=None):
    shared = {}
    with guarding(gate or controller.gate()):
        try:
            await flow.run_async(shared)
        except (EmergencyHalted, RiskLimitExceeded) as error:
            return shared.get("done", []), error
    return shared.get("done", []), None


async def test_plain_flow_is_halted_before_its_next_entry():
    """A halt in the middle of a flow stops it before the next node that says nothing."""
    controller = control()
    flow = chain(
        Action("read", then=lambda: controller.halt("loss")), Action("buy"), Action("buy more")
    )

    done, error = await run(controller, flow)

    assert done == ["read"]
    assert str(error) == "Emergency controller is in halt state. Reason: loss"


async def test_reading_and_cancelling_go_on_under_a_halt():
    """What has no effect on the risk is let through: providers, decisions, cancels."""
    controller = control()
    await controller.halt("loss")
    flow = chain(Action("price", "none"), Action("cancel", "none"), Action("sell", "reduce"))

    done, error = await run(controller, flow)

    assert done == ["price", "cancel"]
    assert isinstance(error, EmergencyHalted)


async def test_reducing_lets_exits_through_and_no_entry():
    """Under REDUCING a node marked `reduce` runs, one marked `increase` or not at all does not."""
    controller = control()
    await controller.reduce("volatile")

    for last in (Action("buy", "increase"), Action("buy")):
        done, error = await run(controller, chain(Action("sell", "reduce"), last))
        assert done == ["sell"]
        assert error.state == "reducing"


async def test_shutdown_lets_nothing_through():
    """Under SHUTDOWN not even a flow begins."""
    controller = control()
    await controller.shutdown("fire")

    assert (await run(controller, chain(Action("price", "none"))))[0] == []


async def test_refused_attempt_is_not_tried_again():
    """After a halt there is no further attempt and no fallback, whatever the node's retries."""
    controller = control()

    class Failing(Action):
        async def exec_async(self, shared):
            await super().exec_async(shared)
            raise ConnectionError

        async def exec_fallback_async(self, shared, error):
            shared["done"].append("fallback")

    flow = chain(Failing("buy", max_retries=5, then=lambda: controller.halt("loss")))
    done, error = await run(controller, flow)

    assert done == ["buy"]
    assert isinstance(error, EmergencyHalted)


async def test_branches_and_nested_flows_are_asked_about_one_by_one():
    """What holds others has no effect of its own: under a halt its harmless nodes still run."""
    controller = control()
    await controller.halt("loss")
    nested = chain(Action("nested", "none"))
    flow = chain(parallel(Action("a", "none"), Action("b", "none")), nested)

    done, error = await run(controller, flow)
    assert (sorted(done), error) == (["a", "b", "nested"], None)

    done, error = await run(controller, chain(parallel(Action("a"), Action("b"))))
    assert done == []
    assert isinstance(error, EmergencyHalted)


async def test_each_item_of_a_batch_is_asked_about():
    """A halt while a batch is at work stops the items that have not begun."""
    controller = control()

    class Buy(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            self.done = shared["done"] = []
            return range(10)

        async def exec_async(self, item):
            self.done.append(item)
            if item == 2:
                await controller.halt("loss")

    done, error = await run(controller, AsyncFlow(start=Buy(concurrency=1)))

    assert done == [0, 1, 2]
    assert isinstance(error, EmergencyHalted)


async def test_effects_may_be_given_by_name_and_must_be_real():
    """Effects by name go before the nodes' own; one that there is not is an error with the node."""
    controller = control()
    await controller.halt("loss")
    gate = controller.gate({"price": "none"})
    assert (await run(controller, chain(Action("price")), gate))[0] == ["price"]
    harmless = controller.gate(default="none")
    assert (await run(controller, chain(Action("price")), harmless))[0] == ["price"]

    with pytest.raises(ValueError, match="'sell' is no effect"):
        controller.gate({"price": "sell"})
    with pytest.raises(ValueError, match="'exit' is no effect") as caught:
        await run(controller, chain(Action("odd", "exit")))
    assert caught.value.__notes__[0] == "It is the risk_effect of odd."
    with pytest.raises(ValueError, match="no effect"):
        await controller.admit("sell")


async def test_unreadable_store_refuses_entries_of_flows():
    """A flow whose store is away trades nothing, and what is harmless goes on."""
    store = Shaky()
    controller = control(store)
    store.fails_reads = True
    shared = {}

    with guarding(controller.gate()), pytest.raises(StoreUnavailable):
        await chain(Action("price", "none"), Action("buy")).run_async(shared)

    assert shared["done"] == ["price"]


async def test_synchronous_nodes_are_asked_about_in_async_flows():
    """A plain Node in an AsyncFlow is admitted like any other."""
    controller = control()
    done = []

    class Buy(Node):
        def exec(self, prep_res):
            done.append("buy")

    await controller.halt("loss")
    with guarding(controller.gate()), pytest.raises(EmergencyHalted):
        await AsyncFlow(start=Buy()).run_async({})

    assert done == []


async def test_synchronous_flows_by_what_is_known():
    """A plain Flow, in a thread or inside an AsyncFlow, is halted by a gate that need not wait."""
    store = MemoryStore()
    controller = control(store)
    await controller.watch()
    done = []

    class Buy(Node):
        def exec(self, prep_res):
            done.append("buy")

    with guarding(controller.gate(cached=True)):
        await asyncio.to_thread(Flow(start=Buy()).run, {})
        await control(store).halt("loss")
        await until(lambda: not controller.can_trade())
        with pytest.raises(EmergencyHalted):
            await asyncio.to_thread(Flow(start=Buy()).run, {})
        with pytest.raises(EmergencyHalted):
            await AsyncFlow(start=Flow(start=Buy())).run_async({})

    assert done == ["buy"]
    await controller.close()


async def test_exceeded_limit_inside_a_node_stops_the_flow():
    """A limit that a node checks halts: neither that node's successors nor other flows go on."""
    controller = control(limits={"daily_loss": -500})

    def check():
        return controller.check_risk_limit("daily_loss", -600)

    flow = chain(Action("check", then=check), Action("buy"))
    done, error = await run(controller, flow)
    assert done == ["check"]
    assert isinstance(error, RiskLimitExceeded)

    done, error = await run(controller, chain(Action("buy")))
    assert done == []
    assert isinstance(error, EmergencyHalted)


async def test_measured_limit_halts_without_anybody_checking():
    """A limit with a measure is checked before each entry by the gate itself."""
    controller = control(limits={"daily_loss": -500})
    losses = iter([-10, -10, -600])
    controller.measure("daily_loss", lambda: next(losses))

    flow = chain(Action("price", "none"), Action("buy"), Action("buy more"))
    done, error = await run(controller, flow)

    assert done == ["price", "buy"]
    assert isinstance(error, RiskLimitExceeded)
    assert controller.is_halted


def test_a_gate_around_a_synchronous_flow_says_what_it_takes():
    """The error names `gate(cached=True)`, with which the flow runs."""
    controller = control()
    flow = Flow(start=Node(name="read"))

    with (
        guarding(controller.gate()),
        pytest.raises(TypeError, match=r"run_async, or `gate\(cached=True\)`"),
    ):
        flow.run({})
    with guarding(controller.gate(cached=True)):
        flow.run({})
