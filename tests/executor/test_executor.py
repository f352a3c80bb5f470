"""What both executors do alike: order, inputs, failures, results."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys

import pytest

from pocketflow_async.hooks import guarding
from pocketflow_async.infrastructure.emergency import (
    EmergencyHalted,
    EmergencyState,
    RiskLimitExceeded,
)
from pocketflow_async.infrastructure.logging_context import current
from pocketflow_async.workflow.enhanced_executor import EnhancedWorkflowExecutor
from pocketflow_async.workflow.executor import WorkflowExecutor
from tests.executor.executor_kit import (
    BUY,
    PRICE,
    TEMPLATES,
    VENUES,
    Calls,
    Waiting,
    bare,
    block,
    buy,
    connected,
    executor,
    provider,
    raises,
    threshold,
    trade,
    yields,
)


@pytest.fixture(params=["base", "enhanced"])
def make(request, infra):
    """Return a function that makes an executor of either kind."""
    if request.param == "base":
        return lambda workflow, handlers=None, **more: WorkflowExecutor(
            workflow, handlers=handlers, **more
        )
    return lambda workflow, handlers=None, **more: executor(infra, workflow, handlers, **more)


async def test_a_result_has_all_keys(make):
    """Those of the contract, with ids, outputs by block, and what was skipped."""
    made = make(trade(), {PRICE: yields(price=0.5)})

    result = await made.execute()

    assert list(result) == [
        *("status", "execution_id", "workflow_id", "duration", "results", "outputs", "errors"),
        "skipped",
    ]
    assert result["status"] == "completed"
    assert result["execution_id"].startswith(f"exec_{made.workflow_id}_")
    assert len(result["execution_id"].rpartition("_")[2]) == 32
    assert isinstance(result["duration"], float)
    first = result["results"][0]
    assert first.pop("duration") >= 0
    assert first == {
        "nodeId": "price",
        "nodeName": "price",
        "nodeType": "providers",
        "output": {"price": 0.5},
    }
    assert [one["nodeId"] for one in result["results"]] == ["price", "cheap", "order"]
    assert result["outputs"]["cheap"] == {"pass": True}
    assert result["outputs"] == made.node_outputs
    assert json.loads(json.dumps(result)) == result


async def test_a_failed_price_buys_nothing(make):
    """Defect 1: the threshold of a price that failed is skipped, and so is the order."""
    bought = Calls({"order": 1})

    result = await make(trade(), {PRICE: raises(ValueError("no price")), BUY: bought}).execute()

    assert len(bought) == 0
    assert result["status"] == "completed_with_errors"
    assert result["errors"] == [
        {"nodeId": "price", "error": "no price", "error_type": "ValueError"}
    ]
    assert result["skipped"] == [
        {"nodeId": "cheap", "reason": "it needs 'price', which failed"},
        {"nodeId": "order", "reason": "it needs 'cheap', which was skipped"},
    ]


@pytest.mark.parametrize("output", [{}, {"bid": 0.5}, {"price": None}, {"price": "0.5"}])
async def test_a_missing_price_buys_nothing(make, output):
    """Defect 1: what a provider did not yield is an error, and is not read as 0."""
    bought = Calls({"order": 1})

    result = await make(trade(), {PRICE: yields(**output), BUY: bought}).execute()

    assert len(bought) == 0
    assert [error["nodeId"] for error in result["errors"]] == ["cheap"]
    assert [one["nodeId"] for one in result["skipped"]] == ["order"]


async def test_a_missing_output_is_named(make):
    """The error says which input, from where, and what there was."""
    result = await make(trade(), {PRICE: yields(bid=1, ask=2)}).execute()

    assert result["errors"] == [
        {
            "nodeId": "cheap",
            "error": "the input 'value' is missing: 'price' yielded no 'price', but 'bid', 'ask'",
            "error_type": "MissingInputError",
        }
    ]


async def test_an_unconnected_venue_buys_nothing(make):
    """A provider without a handler yields nothing, and nothing is bought."""
    result = await make(trade()).execute()

    assert result["outputs"] == {"price": {}}
    assert result["errors"][0]["error"].endswith("'price' yielded no 'price', but nothing")


async def test_a_price_out_of_bounds_buys_nothing(make):
    """Defect 2: the bounds in `properties` hold."""
    result = await make(trade(), {PRICE: yields(price=123456)}).execute()

    assert result["outputs"]["cheap"] == {"pass": False}
    assert result["outputs"]["order"] == {"order": None}


async def test_independent_branches_go_on(make):
    """Only what needs the failed block is skipped."""
    workflow = {"blocks": [*trade()["blocks"], provider("other"), threshold("t", "other.p", min=0)]}
    workflow["blocks"][3].update(outputs=["p"], properties={"fine": True})

    async def one_fails(node, inputs, context):
        if not node["properties"].get("fine"):
            raise ConnectionError("down")
        return {"p": 1}

    result = await make(workflow, {PRICE: one_fails}).execute()

    assert list(result["outputs"]) == ["other", "t"]
    assert [one["nodeId"] for one in result["skipped"]] == ["cheap", "order"]


async def test_nothing_is_left_of_the_run_before(make):
    """Defect 4: a price that was there once is not there when the provider fails."""
    price = Calls({"price": 0.5}, ValueError("gone"))
    bought = Calls({"order": 1})
    made = make(trade(), {PRICE: price, BUY: bought})

    first, second = await made.execute(), await made.execute()

    assert (first["status"], second["status"]) == ("completed", "completed_with_errors")
    assert second["outputs"] == made.node_outputs == {}
    assert len(bought) == 1
    assert first["execution_id"] != second["execution_id"]


async def test_execute_initializes(make):
    """Defect 11: `execute()` alone runs all blocks."""
    result = await make(trade(), {PRICE: yields(price=0.5)}).execute()

    assert len(result["results"]) == 3


async def test_an_empty_workflow_is_completed(make):
    """There is nothing to do, and that is done."""
    result = await make({"blocks": []}).execute()

    assert (result["status"], result["results"]) == ("completed", [])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "at /x: an object is no plain JSON"),
        (float("nan"), "at /x: nan is no number that JSON has"),
        ({1: 2}, "at /x: the key 1 is an int; JSON has only text for keys"),
        ([{"y": {1, 2}}], "at /x/0/y: a set is no plain JSON"),
        ([10**5000], "at /x/0: the number has too many digits"),
        ("x" * 2000, "has 2,008 bytes of JSON, and 1,000 may be (max_output_bytes)"),
    ],
)
async def test_outputs_that_cannot_be_kept(make, value, said):
    """Defect 14: it is an error of the block, with the place, and not a result without it."""
    result = await make(trade(), {PRICE: yields(x=value)}, max_output_bytes=1000).execute()

    (error,) = result["errors"]
    assert error["nodeId"] == "price"
    assert error["error_type"] == "OutputError"
    assert said in error["error"]
    assert [one["nodeId"] for one in result["skipped"]] == ["cheap", "order"]


async def test_an_output_that_contains_itself(make):
    """It is refused as any other that cannot be kept."""
    endless = {}
    endless["x"] = endless

    result = await make(trade(), {PRICE: lambda node, inputs, context: endless}).execute()

    assert "at /x/x/x/x/x: nested more than 200 deep, or in itself" in result["errors"][0]["error"]


async def test_tuples_come_as_lists(make):
    """What comes next gets what it would get after a crash."""
    result = await make({"blocks": [provider()]}, {PRICE: yields(x=(1, (2,)))}).execute()

    assert result["outputs"] == {"price": {"x": [1, [2]]}}


async def test_large_and_hostile_outputs_pass(make):
    """A megabyte, NULs and half surrogates are values like others."""
    output = {"big": "x" * 1_000_000, "nul": "a\0b", "half": "\ud800", "💥": {"": [1e308, -0.0]}}

    result = await make({"blocks": [provider()]}, {PRICE: yields(**output)}).execute()

    assert result["status"] == "completed"
    assert result["outputs"]["price"] == output


async def test_stop_skips_what_has_not_begun(make):
    """The block at work finishes; the status is "cancelled"."""
    price = Waiting(price=0.5)
    made = make(trade(), {PRICE: price})
    running = asyncio.ensure_future(made.execute())
    await price.began.wait()
    assert made.is_running

    made.stop()
    price.go_on.set()
    result = await running

    assert result["status"] == "cancelled"
    assert list(result["outputs"]) == ["price"]
    assert [one["reason"] for one in result["skipped"]] == ["the execution was stopped"] * 2
    assert not made.is_running
    assert (await make(trade(), {PRICE: yields(price=1)}).execute())["status"] == "completed"


async def test_a_risk_limit_ends_the_execution(make):
    """Defect 9: a block that finds a limit exceeded is no failed block among others."""
    blocks = [provider("first"), provider("second")]
    error = RiskLimitExceeded("daily_loss", -600, -500)
    price = Calls(error)
    made = make({"blocks": blocks}, {PRICE: price})

    if isinstance(made, EnhancedWorkflowExecutor):
        with pytest.raises(RiskLimitExceeded):
            await made.execute()
    else:
        result = await made.execute()
        assert result["status"] == "failed"
        assert result["error_type"] == "RiskLimitExceeded"
        assert [one["nodeId"] for one in result["errors"]] == ["first"]
    assert len(price) == 1


async def test_a_halt_found_by_a_block_leaves_the_execution(make):
    """`EmergencyHalted` is raised by both, whatever raises it."""
    halted = EmergencyHalted(EmergencyState.HALT, "test")
    price = Calls(halted)

    with pytest.raises(EmergencyHalted) as caught:
        await make({"blocks": [provider("a"), provider("b")]}, {PRICE: price}).execute()

    assert caught.value is halted
    assert len(price) == 1


async def test_gates_decide(make):
    """What a gate of `hooks` raises stops the execution, and is raised by both."""
    seen = []

    def gate(step):
        seen.append((step.kind, step.name))
        if step.name == "cheap":
            raise PermissionError("not now")

    with pytest.raises(PermissionError, match="not now"), guarding(gate):
        await make(trade(), {PRICE: yields(price=0.5)}).execute()

    assert [name for kind, name in seen if kind != "workflow"] == ["price", "price", "cheap"]


async def test_lines_of_a_handler_have_the_ids(make):
    """Defect 22: every line, also one of plain logging, and nothing is left of them afterwards."""
    seen = []

    async def price(node, inputs, context):
        seen.append((context, current()))
        return {}

    await make({"blocks": [provider()]}, {PRICE: price}).execute()

    ((context, ids),) = seen
    assert ids["correlation_id"] == ids["execution_id"] == context.execution_id
    assert ids["node_id"] == "price"
    assert "correlation_id" not in current()


async def test_secrets_do_not_get_into_errors(make):
    """What an error says is cleaned of what looks like a secret."""
    error = ConnectionError("GET https://user:hunter2@venue/?api_key=abcdef0123456789 failed")

    result = await make({"blocks": [provider()]}, {PRICE: raises(error)}).execute()

    assert "hunter2" not in str(result)
    assert "abcdef0123456789" not in str(result)


async def test_mocks_are_named_once(make, caplog):
    """Whoever executes mocks can read so in the log."""
    made = make(trade(), {PRICE: yields(price=0.5)})
    with caplog.at_level(logging.WARNING, "pocketflow_async.workflow.executor"):
        await made.execute()
        await made.execute()

    assert [one.getMessage() for one in caplog.records] == [
        "these blocks are mocks, which do nothing: order"
    ]


async def test_replaced_methods_execute_blocks(make, monkeypatch):
    """`_execute_provider_node` of the base class, as its users patch it: called without self."""
    calls = []

    async def patched(node, inputs):
        calls.append((node["id"], inputs))
        return {"price": 0.5}

    class Static:
        def __get__(self, instance, owner):
            return patched

    base = EnhancedWorkflowExecutor.__bases__[0]
    assert base is WorkflowExecutor
    monkeypatch.setattr(base, "_execute_provider_node", Static())
    workflow = trade()
    workflow["blocks"][0].update(type="anything", properties={"profile_id": "p"})

    result = await make(workflow).execute()

    assert calls == [("price", {})]
    assert result["outputs"]["cheap"] == {"pass": True}


async def test_subclasses_execute_blocks():
    """A method of a subclass gets the block and its inputs."""

    class Own(WorkflowExecutor):
        async def _execute_action_node(self, node, inputs):
            return {"order": inputs["signal"], "by": node["id"]}

    result = await Own(trade(), handlers={PRICE: yields(price=0.5)}).execute()

    assert result["outputs"]["order"] == {"order": True, "by": "order"}


NO = "its signal is false"


@pytest.mark.parametrize(
    "signal", [False, 0, None, "", [], {}, {"pass": False}, {"order": None}], ids=repr
)
async def test_an_action_whose_signal_is_false_is_not_done(make, signal):
    """Whatever its handler looks at: it is not called, and what needs it is skipped."""
    acted = Calls({"out": 1})
    workflow = {
        "blocks": [
            provider("says", outputs=["it"]),
            block("act", "actions", "own", {"signal": "says.it"}, ["out"]),
            block("then", "actions", "own", {"signal": "act.out"}, ["out"]),
        ]
    }

    result = await make(workflow, {PRICE: yields(it=signal), ("actions", "own"): acted}).execute()

    assert len(acted) == 0
    assert result["status"] == "completed"
    assert result["skipped"] == [
        {"nodeId": "act", "reason": NO},
        {"nodeId": "then", "reason": "it needs 'act', which was skipped"},
    ]


@pytest.mark.parametrize("kind", ["buy", "sell", "cancel", "notify"])
async def test_a_handler_in_place_of_a_built_in_one_heeds_the_signal(make, kind):
    """Of an executor, of a category or of a subclass alike."""
    workflow = {"blocks": [*trade()["blocks"][:2], buy("act", "cheap.pass", type=kind)]}

    for key in [("actions", kind), "actions"]:
        acted = Calls({"out": 1})
        result = await make(workflow, {PRICE: yields(price=1.5), key: acted}).execute()
        assert (len(acted), result["skipped"]) == (0, [{"nodeId": "act", "reason": NO}])

    class Own(WorkflowExecutor):
        async def _execute_action_node(self, node, inputs):
            raise AssertionError(node)

    result = await Own(workflow, handlers={PRICE: yields(price=1.5)}).execute()
    assert result["skipped"] == [{"nodeId": "act", "reason": NO}]


async def test_a_constant_signal_counts_and_a_missing_one_says_nothing(make):
    """A false one in properties keeps an action from running; one that is missing is an error."""
    acted = Calls({"out": 1})
    off = block("off", "actions", "own", {"signal": None}, properties={"signal": False})
    free = block("free", "actions", "own")
    bad = block("bad", "actions", "own", {"signal": "says.it"})
    workflow = {"blocks": [off, free, provider("says", outputs=["it"]), bad]}

    result = await make(workflow, {PRICE: yields(), ("actions", "own"): acted}).execute()

    assert [one.node_id for one in acted.contexts] == ["free"]
    assert result["skipped"] == [{"nodeId": "off", "reason": NO}]
    assert [(one["nodeId"], one["error_type"]) for one in result["errors"]] == [
        ("bad", "MissingInputError")
    ]


async def test_built_in_actions_say_that_they_do_nothing(make):
    """With a false signal they run, and yield no order."""
    result = await make(trade(), {PRICE: yields(price=1.5)}).execute()

    assert result["outputs"]["order"] == {"order": None}
    assert result["skipped"] == []


async def test_text_is_a_workflow_too(make):
    """JSON as text or bytes is read; `workflow` stays what was given."""
    text = json.dumps(trade())
    made = make(text, {PRICE: yields(price=0.5)})

    assert (await made.execute())["status"] == "completed"
    assert made.workflow is text
    assert (await make(text.encode(), {PRICE: yields(price=1)}).execute())["status"] == "completed"


async def test_a_workflow_that_changes_later_does_not(make):
    """What was checked is what is executed."""
    workflow = trade()
    made = make(workflow, {PRICE: yields(price=0.5)})
    workflow["blocks"][1]["properties"]["max"] = 0.1
    workflow["blocks"].clear()

    assert (await made.execute())["outputs"]["cheap"] == {"pass": True}


# --- templates ------------------------------------------------------------------------------------


def test_there_are_twelve_templates_of_all_types():
    """Every built-in type is in one of them."""
    blocks = [one for template in TEMPLATES.values() for one in template["blocks"]]
    types = {(one["category"], one["type"]) for one in blocks}

    assert len(TEMPLATES) == 12
    conditions = {
        ("conditions", type) for type in ("threshold", "compare", "and", "or", "if", "math")
    }
    actions = {("actions", type) for type in ("buy", "sell", "cancel", "notify")}
    assert conditions | actions <= types
    assert {category for category, _ in types} >= {"providers", "triggers", "risk"}


@pytest.mark.parametrize("name", TEMPLATES)
async def test_templates_give_the_same_in_both_dialects_and_executors(infra, name):
    """Four executions, one result; all of it completed."""
    results = []
    for workflow in (TEMPLATES[name], connected(TEMPLATES[name])):
        results.append(await WorkflowExecutor(workflow, handlers=VENUES).execute())
        results.append(await executor(infra, workflow, VENUES, name).execute())

    assert results[0]["status"] == "completed"
    assert [bare(result) for result in results[1:]] == [bare(results[0])] * 3


ORDERS = {
    "simple_buy": {"action_1": 5},
    "take_profit": {"action_1": 2.5},
    "arbitrage": {"execute_trade": 100},
    "compared": {"buy_luno": 5},
    "both": {"trade": 5},
    "one_of_them": {"trade": 5},
    "branch": {"buy_it": 1},
    "stop_loss": {},
    "alarm": {},
    "triggered": {"trade": 5},
    "averaged": {"trade": 5},
    "pairs": {"trade_btc": 5, "trade_eth": 5, "trade_sol": 5},
}


@pytest.mark.parametrize("name", TEMPLATES)
async def test_templates_order_what_they_should(name):
    """Exactly these orders would be placed."""
    result = await WorkflowExecutor(TEMPLATES[name], handlers=VENUES).execute()
    orders = {key: one["order"] for key, one in result["outputs"].items() if one.get("order")}

    assert {key: order["amount"] for key, order in orders.items()} == ORDERS[name]


HASHED = """
import asyncio, json
from pocketflow_async.workflow.executor import WorkflowExecutor
from tests.executor.executor_kit import TEMPLATES, VENUES, bare, connected

async def main():
    for name, template in TEMPLATES.items():
        for workflow in (template, connected(template)):
            made = WorkflowExecutor(workflow, handlers=VENUES)
            print(name, made.definition.hash, json.dumps(bare(await made.execute())))

asyncio.run(main())
"""


@pytest.mark.timeout(180)
async def test_hash_seeds_change_nothing(child_env):
    """Defect 3: order, result and digest of all templates are the same under twenty hash seeds."""
    together = asyncio.Semaphore(3)

    async def under(seed):
        async with together:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-c", HASHED),
                env={**os.environ, **child_env, "PYTHONHASHSEED": str(seed)},
                stdout=subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0
            return output

    outputs = await asyncio.gather(*map(under, range(20)))

    assert outputs[0].count(b"\n") == 24
    assert outputs[1:] == [outputs[0]] * 19


async def test_order_of_the_shipped_example():
    """Defect 3: `execute_trade` stands first, and runs after what it needs."""
    made = WorkflowExecutor(TEMPLATES["arbitrage"], handlers=VENUES)
    await made.initialize()

    assert made.execution_order == [
        *("polymarket_yes", "kalshi_no", "spread", "check_threshold", "execute_trade"),
    ]


async def test_an_own_error_of_the_base_executor_is_a_result(monkeypatch):
    """It returns `{"status": "failed", "error": …}`, as it always did."""
    made = WorkflowExecutor(trade(), handlers={PRICE: yields(price=0.5)})

    async def broken(run):
        raise OSError("no space")

    monkeypatch.setattr(made, "_may_end", broken)
    with pytest.raises(OSError, match="no space"):  # who is asked decides, like a gate
        await made.execute()

    made = WorkflowExecutor(trade(), handlers={PRICE: raises(RiskLimitExceeded("x", 2, 1))})
    result = await made.execute()
    assert (result["status"], result["error_type"]) == ("failed", "RiskLimitExceeded")
    assert result["error"].startswith("Risk limit exceeded: x")


async def test_one_executor_may_execute_several_at_once(make):
    """Defect 22: each execution has its own ids and outputs."""
    keys = set()

    async def price(node, inputs, context):
        keys.add(context.idempotency_key)
        await asyncio.sleep(0)
        return {"price": len(keys) / 1000, "id": context.execution_id}

    workflow = {"blocks": [provider(outputs=[]), block("n", "actions", "own", {"all": "price"})]}
    own = {PRICE: price, ("actions", "own"): lambda node, inputs, context: inputs}
    made = make(workflow, own)

    results = await asyncio.gather(*(made.execute() for _ in range(20)))

    assert len({result["execution_id"] for result in results}) == len(keys) == 20
    for result in results:
        assert result["outputs"]["n"]["all"]["id"] == result["execution_id"]


async def test_buys_need_a_signal_of_their_own(make):
    """A reference to a whole output is a dict, and no signal."""
    workflow = {"blocks": [provider(outputs=[]), buy("b", "price")]}

    result = await make(workflow, {PRICE: yields(signal=True)}).execute()

    assert result["errors"][0]["error"] == "the input 'signal' must be true or false, not a dict"
