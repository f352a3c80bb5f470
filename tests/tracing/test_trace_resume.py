"""One trace over a crash: the process that resumes a run continues the trace of the first one."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.infrastructure.checkpoints import RunSuspended, answer, ask
from pocketflow_async.infrastructure.store import MemoryStore
from tracing import current_span, incoming, trace_flow

SCRIPT = """
import asyncio, os, signal, sys
from pocketflow_async import AsyncFlow, AsyncNode
from tracing import flush, trace_flow

class First(AsyncNode):
    async def exec_async(self, prep_res):
        return 1

class Second(AsyncNode):
    async def exec_async(self, prep_res):
        if sys.argv[1] == "run":
            flush()
            os.kill(os.getpid(), signal.SIGKILL)

first = First()
first >> Second()
flow = trace_flow(AsyncFlow(first, name="Kept"))
if sys.argv[1] == "run":
    asyncio.run(flow.run_async({"n": 1}, run_id="r", store=sys.argv[2]))
else:
    asyncio.run(flow.resume("r", store=sys.argv[2]))
"""


class Asks(AsyncNode):
    async def exec_async(self, prep_res):
        return await ask("go on?")


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_run_and_its_resumption_are_one_trace(traces, find, child_env, tmp_path):
    """The second root lies under the first, which never ended; both have the run's id."""
    store = str(tmp_path / "runs.db")
    for mode in ("run", "resume"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, mode, store],
            env=child_env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == (0 if mode == "resume" else -9), done.stderr

    (tree,) = traces.all()
    first, second = find(tree.roots[0], "Kept")
    assert second.parent_id == first.span_id
    assert second.outcome == "completed"
    assert [span.attributes["flow.run_id"] for span in (first, second)] == ["r", "r"]
    assert second.attributes["flow.resumed"] == 1
    assert [span.name for span in second.children] == ["Second"]
    assert json.loads(second.input) == {"n": 1}


async def test_a_suspended_run_and_its_resumption_are_one_trace(traces, find):
    """Within one process too; the wait for a person is shown as such, and not as a failure."""
    store, flow = MemoryStore(), trace_flow(AsyncFlow(Asks(), name="Kept"))
    with suppress(RunSuspended):
        await flow.run_async({}, run_id="r", store=store)
    await answer("r", True, store=store, by="ann")
    await flow.resume("r", store=store)

    (tree,) = traces.all()
    first, second = find(tree.roots[0], "Kept")
    assert second.parent_id == first.span_id
    assert (first.outcome, second.outcome) == ("halted", "completed")
    asked, answered = find(tree.roots[0], "Asks")
    assert (asked.outcome, answered.outcome) == ("halted", "completed")
    assert [phase.note for phase in asked.phases if phase.kind == "suspended"] == ["go on?"]
    row = await store.run("r")
    assert row.trace == f"00-{first.trace_id}-{first.span_id}-01"


async def test_a_run_that_is_resumed_in_a_trace_is_part_of_that_one(traces, find):
    """As that of the request which resumes it; the run's id leads from one to the other."""
    store, flow = MemoryStore(), trace_flow(AsyncFlow(Asks(), name="Kept"))
    with suppress(RunSuspended):
        await flow.run_async({}, run_id="r", store=store)
    await answer("r", True, store=store, by="ann")

    @trace_flow
    async def request():
        await flow.resume("r", store=store)

    await request()

    first, second = traces.all()
    assert find(second.roots[0], "Kept")[0].attributes["flow.run_id"] == "r"
    assert first.summary.trace_id != second.summary.trace_id


async def test_a_durable_run_in_a_callers_trace_keeps_that(traces):
    """What is stored is our own span in the trace of the caller."""
    store, flow = MemoryStore(), trace_flow(AsyncFlow(AsyncNode(), name="Kept"))
    caller = f"00-{7:032x}-{9:016x}-01"
    with incoming({"traceparent": caller}):
        await flow.run_async({}, run_id="r", store=store)

    root = traces.one()
    assert (await store.run("r")).trace == f"00-{7:032x}-{root.span_id}-01"


async def test_a_run_that_nobody_watches_has_no_trace(store_path):
    """Neither when it begins nor when it goes on."""
    seen = []

    class Looks(Asks):
        async def exec_async(self, prep_res):
            seen.append(current_span())
            return await super().exec_async(prep_res)

    store, flow = MemoryStore(), AsyncFlow(Looks())
    with suppress(RunSuspended):
        await flow.run_async({}, run_id="r", store=store)
    await answer("r", True, store=store, by="ann")
    await flow.resume("r", store=store)

    assert seen == [None, None]
    assert (await store.run("r")).trace is None
    assert not store_path.exists()
