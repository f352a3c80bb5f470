"""Policies and uses of resources in traces."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from pocketflow_async.resilience import Policy
from pocketflow_async.resources.outgoing import with_trace
from pocketflow_async.resources.uses import name_here, naming, using
from tracing import trace_flow


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


async def test_a_policy_is_a_span_inside_the_attempt(traces, find):
    """In the trace the policy lies under the node, with its facts, and changes no result."""

    class Told(Policy):
        kind = "told"

        async def _acall(self, call, facts):
            result = await call()
            if facts is not None:
                facts["flow.told.calls"] = 1
            return result

        def _call(self, call, facts):
            return call()

    shared = {"n": 4}

    await trace_flow(AsyncFlow(Doubled(policies=[Told("polite")]))).run_async(shared)

    (node,) = find(traces.one(), "Doubled")
    (span,) = node.children
    assert (span.kind, span.name, span.outcome) == ("policy", "polite", "completed")
    assert span.attributes == {"flow.policy": "told", "flow.told.calls": 1}
    assert shared["result"] == 8


async def test_a_policy_that_refuses_is_a_failed_span(traces, find):
    """The trace shows which policy let nothing through."""
    with pytest.raises(PermissionError):
        await trace_flow(AsyncFlow(Doubled(policies=[Refuses("gate")]))).run_async({"n": 1})

    (span,) = find(traces.one(), "gate")
    assert (span.outcome, span.error.type) == ("failed", "PermissionError")


class Reads(AsyncNode):
    async def exec_async(self, prep_res):
        with using("db", "fetch", {"statement": "SELECT 1"}, **{"db.system.name": "x"}) as facts:
            facts["db.response.returned_rows"] = 1
        return "read"


async def test_a_use_of_a_resource_is_a_span_of_its_own(traces, find):
    """It tells which resource, what was done, with what statement, and what came of it."""
    await trace_flow(AsyncFlow(Reads())).run_async({})

    (node,) = find(traces.one(), "Reads")
    (span,) = node.children
    assert (span.kind, span.name, span.outcome) == ("resource", "db.fetch", "completed")
    assert json.loads(span.input) == {"statement": "SELECT 1"}
    assert span.attributes == {
        "flow.resource": "db",
        "db.system.name": "x",
        "db.response.returned_rows": 1,
    }


class Calls(AsyncNode):
    async def exec_async(self, prep_res):
        with using("api", "get"):
            return dict(with_trace({"X-Own": "1"}))

    async def post_async(self, shared, prep_res, exec_res):
        shared["headers"] = exec_res


async def test_a_request_takes_the_trace_along(traces, find):
    """Without OpenTelemetry too: whoever is called learns the trace and the span of the request."""
    shared = {}

    await trace_flow(AsyncFlow(Calls())).run_async(shared)

    (span,) = find(traces.one(), "api.get")
    assert shared["headers"] == {
        "X-Own": "1",
        "traceparent": f"00-{span.trace_id}-{span.span_id}-01",
    }


def test_nobody_watching_there_are_no_facts():
    """Without a trace the block runs, and nothing is made for it."""
    with using("db", "fetch", {"statement": "SELECT 1"}) as facts:
        assert facts is None


def test_the_name_of_what_is_being_made():
    """A pool learns what it is called from the registry that makes it."""
    with naming("main_db"):
        assert name_here("postgresql") == "main_db"
    assert name_here("postgresql") == "postgresql"


async def test_what_differs_stands_first(traces, child_env, store_path):
    """On a narrow terminal the figures of a use are seen, and not the name of the server."""
    await trace_flow(AsyncFlow(Reads())).run_async({})
    traces.all()
    command = [sys.executable, "-m", "tracing", "show"]

    env = {**child_env, "COLUMNS": "80"}
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=30
    )

    (line,) = [line for line in done.stdout.splitlines() if "returned_rows" in line]
    assert line.index("returned_rows") < line.index("db.system.name") < line.index("flow.resource")
