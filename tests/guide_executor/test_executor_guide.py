"""Each block of enhanced-executor-migration.md runs as it stands.

A test is named after the headings of its block, and gives it the names that the guide has from an
earlier block or leaves to its reader.
"""

from __future__ import annotations

import asyncio
import logging
import os

import pytest

from pocketflow_async.infrastructure.emergency import EmergencyHalted, RiskLimitExceeded
from pocketflow_async.infrastructure.factory import Infrastructure
from pocketflow_async.workflow.enhanced_executor import EnhancedWorkflowExecutor
from pocketflow_async.workflow.executor import WorkflowExecutor, register_handler
from pocketflow_async.workflow.node_handlers import handlers
from tests.executor.executor_kit import trade, yields
from tests.guide_executor.executor_guide import BLOCKS

logger = logging.getLogger("guide")


@pytest.fixture
def workflow():
    """A workflow that trades; its price is registered as it would be in a program."""
    register_handler("providers", "test", yields(price=0.5))
    yield trade()
    handlers.unregister("providers", "test")


@pytest.fixture
async def infra(made):
    return await Infrastructure.create("development")


def completed(result):
    return result["status"] == "completed" and len(result["results"]) == 3


def test_every_block_has_a_test():
    """The 19 Python blocks of the guide, each by its headings."""
    names = {name.removeprefix("test_").partition("__")[0] for name in globals()}

    assert len(BLOCKS) == 19
    assert BLOCKS.keys() <= names


async def test_guide_migration_steps_step_1_create_infrastructure_before(block, workflow):
    """The base executor executes."""
    assert completed((await block.arun(workflow_definition=workflow))["result"])


async def test_guide_migration_steps_step_1_create_infrastructure_after(block, workflow, made):
    """The enhanced one does the same, and has its ids in the result and the events."""
    found = await block.arun(workflow_definition=workflow)
    executor, result = found["executor"], found["result"]

    assert completed(result)
    assert result["workflow_id"] == executor.workflow_id == "arb_btc_001"
    events = await made[0].store.events(result["execution_id"])
    assert len(events) == 8
    assert all('"bot_id": "bot_001"' in e.data or '"bot_id":"bot_001"' in e.data for e in events)


async def test_guide_migration_steps_step_2_subscribe_to_events_optional(
    block, workflow, infra, capsys
):
    """The handler prints what happens, in order."""
    await block.arun(infra=infra)
    await EnhancedWorkflowExecutor(workflow, infra, "w").execute()

    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Event: ")]
    assert lines[:3] == [
        *("Event: execution_started - None", "Event: node_started - price"),
        "Event: node_completed - price",
    ]
    assert len(lines) == 8


@pytest.mark.parametrize("halted", [True, False])
async def test_guide_migration_steps_step_3_handle_emergency_states_recommended(
    block, workflow, infra, caplog, halted
):
    """A halt comes as `EmergencyHalted` with its reason; without one there is a result."""
    if halted:
        await infra.emergency.halt("flash crash")
    executor = EnhancedWorkflowExecutor(workflow, infra, "w")

    found = await block.arun(executor=executor, logger=logger)

    assert ("Trading halted: flash crash" in caplog.messages) == halted
    assert ("result" in found) != halted


async def test_guide_example_1_simple_trading_bot_before_base_executor(block, workflow, capsys):
    """The status is "completed"."""
    await block.arun(trading_workflow=workflow)

    assert "Trading workflow completed\n" in capsys.readouterr().out


async def test_guide_example_1_simple_trading_bot_after_enhanced_executor(
    block, workflow, made, caplog, capsys, tmp_path
):
    """Production runs with nothing but a disk; events are logged; the status is "completed"."""
    with caplog.at_level(logging.INFO, "guide"):
        await block.arun(trading_workflow=workflow, logger=logger)

    assert "Trading workflow completed\n" in capsys.readouterr().out
    assert caplog.messages.count("node_completed: order") == 1
    assert made[0].store.durable
    assert list((tmp_path / "data").rglob("*.db"))


async def test_guide_example_2_multiple_concurrent_workflows_before_base_executor(block, workflow):
    """One after another."""
    found = await block.arun(workflows=[workflow] * 3, WorkflowExecutor=WorkflowExecutor)

    assert completed(found["result"])


async def test_guide_example_2_multiple_concurrent_workflows_after_enhanced_executor(
    block, workflow, made
):
    """All at once, in production, each with its own id."""
    found = await block.arun(
        workflows=[workflow] * 5,
        Infrastructure=Infrastructure,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
        asyncio=asyncio,
    )

    assert all(map(completed, found["results"]))
    assert [one["workflow_id"] for one in found["results"]] == [f"wf_{i}" for i in range(5)]
    assert len({one["execution_id"] for one in found["results"]}) == 5


@pytest.mark.parametrize("pnl", [-600, -100])
async def test_guide_example_3_with_risk_limits_before_base_executor(block, workflow, pnl):
    """The check by hand raises; else the workflow is executed."""
    names = {
        "calculate_daily_pnl": lambda: pnl,
        "trading_workflow": workflow,
        "WorkflowExecutor": WorkflowExecutor,
    }
    if pnl < -500:
        with pytest.raises(Exception, match="Daily loss limit exceeded"):
            await block.arun(**names)
    else:
        assert completed((await block.arun(**names))["result"])


@pytest.mark.parametrize("pnl", [-600, -500, -100])
async def test_guide_example_3_with_risk_limits_after_enhanced_executor(
    block, workflow, made, caplog, pnl
):
    """Beyond the limit it is halted, durably; at it or above the executor runs by itself."""
    found = await block.arun(
        calculate_daily_pnl=lambda: pnl,
        trading_workflow=workflow,
        logger=logger,
        Infrastructure=Infrastructure,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
        RiskLimitExceeded=RiskLimitExceeded,
        EmergencyHalted=EmergencyHalted,
    )
    exceeded = pnl < -500

    assert ("Risk limit exceeded: daily_loss" in caplog.messages) == exceeded
    if not exceeded:
        assert completed(found["result"])
        return
    assert made[0].emergency.is_halted
    again = await Infrastructure.create("production")
    with pytest.raises(EmergencyHalted):
        await EnhancedWorkflowExecutor(workflow, again, "later").execute()


async def test_guide_breaking_changes_workflow_definition_unchanged(block, infra):
    """The same definition completes in both, with equal results."""
    workflow = block.run()["workflow"]
    base = await WorkflowExecutor(workflow).execute()
    enhanced = await EnhancedWorkflowExecutor(workflow, infra, "w").execute()

    assert base["status"] == enhanced["status"] == "completed"
    assert base["outputs"] == enhanced["outputs"] == {"node1": {}}
    assert base["results"][0]["nodeName"] == "My Node"


async def test_guide_testing_your_migration_unit_tests(block, workflow, made):
    """The test in the block passes."""
    found = block.run(load_your_workflow=lambda: workflow)

    await found["test_migrated_workflow"]()

    assert len(made) == 1


async def test_guide_testing_your_migration_integration_tests(block, workflow, made):
    """The events are there when it looks."""
    found = block.run(
        pytest=pytest,
        asyncio=asyncio,
        your_workflow=workflow,
        Infrastructure=Infrastructure,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
    )

    await found["test_events_emitted"]()

    assert len(made) == 1


def test_guide_testing_your_migration_manual_testing(
    block, workflow, capsys, monkeypatch, run_closing
):
    """The block runs an event loop of its own, and prints events and the result."""
    monkeypatch.setattr(asyncio, "run", run_closing)
    block.run(
        asyncio=asyncio,
        your_workflow=workflow,
        Infrastructure=Infrastructure,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
    )
    printed = capsys.readouterr().out

    assert printed.count("Event: {'type': ") == 8
    assert "Result: {'status': 'completed'" in printed


@pytest.mark.parametrize("critical", [True, False])
async def test_guide_rollback_plan_option_1_keep_both_executors(block, workflow, infra, critical):
    """Either executor; `...` stands for an id that is left open."""
    found = block.run(is_critical_workflow=critical, workflow=workflow, infra=infra)

    kind = WorkflowExecutor if critical else EnhancedWorkflowExecutor
    assert type(found["executor"]) is kind
    assert completed(await found["executor"].execute())


@pytest.mark.parametrize("flag", ["true", "false"])
async def test_guide_rollback_plan_option_2_feature_flag(block, workflow, infra, monkeypatch, flag):
    """The flag says which; the ids are given by place."""
    monkeypatch.setenv("USE_ENHANCED_EXECUTOR", flag)
    found = block.run(
        os=os,
        workflow=workflow,
        infra=infra,
        workflow_id="trade_001",
        WorkflowExecutor=WorkflowExecutor,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
    )

    assert isinstance(found["executor"], EnhancedWorkflowExecutor) == (flag == "true")
    assert completed(await found["executor"].execute())


async def test_guide_common_migration_patterns_pattern_1_singleton_infrastructure(
    block, workflow, made
):
    """Two workflows through one infrastructure."""
    found = await block.arun(
        workflow1=workflow,
        workflow2=workflow,
        Infrastructure=Infrastructure,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
    )

    assert completed(found["result1"])
    assert completed(found["result2"])
    assert found["result1"]["workflow_id"] == "wf1"
    assert len(made) == 1


async def test_guide_common_migration_patterns_pattern_2_factory_function(block, workflow, made):
    """The block never initializes: `execute` does, and runs all blocks."""
    found = await block.arun(
        workflow=workflow,
        Infrastructure=Infrastructure,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
    )

    assert completed(found["result"])


async def test_guide_common_migration_patterns_pattern_3_context_manager(block, workflow, made):
    """The context gives an executor that is ready."""
    found = await block.arun(
        workflow=workflow,
        Infrastructure=Infrastructure,
        EnhancedWorkflowExecutor=EnhancedWorkflowExecutor,
    )

    assert completed(found["result"])
    assert made[0].store.durable
