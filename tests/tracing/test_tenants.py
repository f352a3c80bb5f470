"""Tenants with settings of their own in one process share nothing that goes out."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tracing
from pocketflow_async import AsyncFlow, AsyncNode
from tests.tracing.langfuse_kit import TRACES, Langfuse
from tests.tracing.tenants_kit import LANGFUSE, SPANS, TENANTS, Places, check, flow, runs
from tests.tracing.wire_kit import Fault, HttpSink, attributes
from tracing import TracingConfig, trace_flow
from tracing.export.model import Target
from tracing.store import TraceReader, open_store
from tracing.store.outbox import Waiting

RUNS = 6


def waiting(path: Path) -> dict[str, Waiting]:
    """Return what waits in a store, by the address."""
    store = open_store(path)
    assert store is not None
    return {f"{found.key} {found.address}": found for found in store.outbox.waiting()}


@pytest.mark.parametrize("environment", [False, True])
async def test_ten_tenants_at_once_reach_their_own_targets_and_no_other(
    monkeypatch, store_path, environment
):
    """Tasks and threads of ten tenants, one store: all to their own, none to another's.

    Also while the environment names targets, which no tenant has asked for.
    """
    with Places() as places:
        if environment:
            for name, value in places.environment().items():
                monkeypatch.setenv(name, value)
        flows = {number: flow(number, places.config(number)) for number in TENANTS}
        threads = [
            threading.Thread(target=lambda n=n: asyncio.run(runs(n, flows[n], RUNS)))
            for n in TENANTS
        ]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(runs(number, flows[number], RUNS) for number in TENANTS))
        for thread in threads:
            await asyncio.to_thread(thread.join)
        counts = await tracing.aflush(20)

        came = places.came(taken=False)
        expected = places.expected(TENANTS)
        assert came.keys() == expected.keys()
        for place, number in expected.items():
            check(came[place], number, 2 * RUNS)
        assert counts == (3 * 2 * RUNS * 10, 3 * 2 * RUNS * 12, 0, 0)
        assert places.http["nobody's"].requests == []
        for name in ("own 1", "own 2", "langfuse"):
            assert {request.path for request in places.http[name].requests} == {LANGFUSE}
    assert len(TraceReader(store_path).traces(1000)) == 2 * RUNS * 10


async def test_the_environments_runs_and_those_with_a_config_stay_apart(monkeypatch):
    """A flow without a config goes where the environment says, and no tenant's beside it does."""
    with Places() as places:
        for name, value in places.environment().items():
            monkeypatch.setenv(name, value)
        free = trace_flow(flow_name="Free")(AsyncFlow(start=AsyncNode()))
        tenants = {number: flow(number, places.config(number)) for number in (1, 6)}

        async def free_runs() -> None:
            for _ in range(RUNS):
                await free.run_async({})

        await asyncio.gather(free_runs(), *(runs(n, made, RUNS) for n, made in tenants.items()))
        await tracing.aflush(20)

        came = places.came()
        for place, number in places.expected((1, 6)).items():
            check(came.pop(place), number, RUNS)
        assert {place for place, _ in came} == {"nobody's"}
        assert {said.trace for found in came.values() for said in found} == {"Free"}
        assert {said.service for found in came.values() for said in found} == {"env"}


async def test_wrong_keys_of_one_tenant_hurt_no_other():
    """A Langfuse refuses the keys of one tenant; another's at the same address all arrive."""
    with Langfuse(public_key="pk-lf-1", secret_key="sk-lf-1") as server:
        configs = {
            number: TracingConfig(
                langfuse_public_key=f"pk-lf-{number}",
                langfuse_secret_key=f"sk-lf-{number}",
                langfuse_host=server.url,
                session_id=f"s-{number}",
            )
            for number in (1, 2)
        }
        await asyncio.gather(*(runs(n, flow(n, config), RUNS) for n, config in configs.items()))
        counts = await tracing.aflush(10)

        assert {found.session_id for found in server.observations} == {"s-1"}
        assert len(server.observations) == RUNS * SPANS
        assert (counts.sent, counts.failed) == (3 * RUNS, 3 * RUNS)
        assert {(one.path, one.status) for one in server.asked} == {(TRACES, 200), (TRACES, 401)}


PROGRAM = """
import asyncio, json, sys
import tracing
from tests.tracing.tenants_kit import flow, runs
async def all_runs(flows):
    await asyncio.gather(*(runs(int(number), made, 3) for number, made in flows.items()))
tenants = json.loads(sys.argv[1])
flows = {n: flow(int(n), tracing.TracingConfig(**said)) for n, said in tenants.items()}
asyncio.run(all_runs(flows))
print(json.dumps(tracing.flush(20)))
"""


def process(env: dict[str, str], places: Places, numbers: range) -> list[int]:
    """Have a process of its own run the flows of tenants; return its counts."""
    tenants = {number: places.settings(number) for number in numbers}
    command = [sys.executable, "-c", PROGRAM, json.dumps(tenants)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_after_a_restart_only_those_that_are_configured_are_sent(child_env, store_path):
    """What waits for tenants that the next process does not know goes on waiting.

    The store knows addresses and no credentials, so nobody else could send it.
    """
    with Places() as places:
        for sink in places.sinks:
            sink.fault = Fault(status=503, code="UNAVAILABLE")
        first = process(child_env, places, range(1, 9))
        assert first == [8 * 9, 0, 9 * 9, 0]
        assert places.came() == {}
        for sink in places.sinks:
            sink.fault = Fault()
        second = process({**child_env, **places.environment()}, places, range(1, 6))

        assert second == [5 * 9, 2 * 5 * 9, 0, 0]
        came = places.came()
        expected = places.expected(range(1, 6))
        assert came.keys() == expected.keys()
        for place, number in expected.items():
            check(came[place], number, 6)
        left = sorted((one.waiting, one.address) for one in waiting(store_path).values())
        late = [found for found in left if found[0]]
        assert [count for count, _ in late] == [9, 9, 9, 9]  # 6, 7 and twice 8
        third = process(child_env, places, range(6, 9))

        assert third == [3 * 9, 2 * 4 * 9, 0, 0]
        for place, number in places.expected(range(1, 9)).items():
            check(places.came()[place], number, 6)
        assert {one.waiting for one in waiting(store_path).values()} == {0}


def test_the_store_holds_no_credentials_of_a_tenant(child_env, store_path):
    """Keys, headers and what they are encoded as are in no byte of the spool's file."""
    with Places() as places:
        places.http["langfuse"].fault = places.http["otlp"].fault = Fault(status=503)
        process(child_env, places, range(8, 9))

        written = b"".join(
            file.read_bytes() for file in store_path.parent.glob(f"{store_path.name}*")
        )
        assert b"tenant-8" in written
        for secret in (b"sk-lf-8", b"pk-lf-8", b"Bearer", b"Basic"):
            assert secret not in written


def test_one_address_with_certificates_of_ones_own_is_a_target_for_each():
    """Where only the client's certificate says who is sending, it tells two targets apart."""

    def target(number: int) -> Target:
        files = {"client_certificate": f"/t{number}.pem", "client_key": f"/t{number}.key"}
        return Target("otlp", "https://collector:4318/v1/traces", **files)

    assert target(1).key != target(2).key
    assert target(1).key == target(1).key


class Inner(AsyncNode[Any, Any, Any]):
    async def prep_async(self, shared: Any) -> Any:
        return shared["secret"]

    async def exec_async(self, said: Any) -> Any:
        if said == "fail":
            raise ValueError("the secret of B")
        return said


class Outer(AsyncNode[Any, Any, Any]):
    """Runs a flow of another tenant in its exec."""

    def __init__(self, inner: Any, said: str) -> None:
        super().__init__()
        self.inner, self.said = inner, said

    async def prep_async(self, shared: Any) -> Any:
        return "of A"

    async def exec_async(self, said: Any) -> Any:
        try:
            await self.inner.run_async({"secret": self.said})
        except ValueError:
            return "failed"
        return said


async def one_inside_another(
    mine: HttpSink, other: HttpSink, said: str = "secret of B", **settings: Any
) -> None:
    """Run a flow of tenant A, which runs one of tenant B with *settings*."""

    def config(sink: HttpSink, **more: Any) -> TracingConfig:
        return TracingConfig(otlp_endpoint=f"http://127.0.0.1:{sink.port}", **more)

    b = trace_flow(config=config(other, session_id="s-B", **settings), flow_name="B")(
        AsyncFlow(start=Inner())
    )
    a = trace_flow(config=config(mine, session_id="s-A"), flow_name="A")(
        AsyncFlow(start=Outer(b, said))
    )
    await a.run_async({})
    await b.run_async({"secret": "alone"})
    await tracing.aflush(20)


def texts(sink: HttpSink) -> str:
    """Return all that a receiver was told, as one text."""
    return "\n".join(str(request.request) for request in sink.requests)


async def test_a_run_inside_anothers_goes_with_the_outer_trace_and_nowhere_else():
    """B inside A is part of A's trace, at A's target, as a session of A; B's own gets B alone."""
    with HttpSink() as mine, HttpSink() as other:
        await one_inside_another(mine, other)

        assert {span.trace_id for span in mine.spans}.isdisjoint(s.trace_id for s in other.spans)
        assert {attributes(span)["session.id"] for span in mine.spans} == {"s-A"}
        assert {attributes(span)["session.id"] for span in other.spans} == {"s-B"}
        assert "secret of B" in texts(mine)
        assert "secret of B" not in texts(other)
        by_id = {span.span_id: span for span in mine.spans}
        (inner,) = [span for span in mine.spans if span.name == "B"]
        assert by_id[inner.parent_span_id].name == "Outer.exec"


async def test_contents_that_b_keeps_out_do_not_reach_as_target():
    """B notes no contents; inside A it does not either, and A's own are there."""
    with HttpSink() as mine, HttpSink() as other:
        await one_inside_another(mine, other, trace_inputs=False, trace_outputs=False)

        assert "secret of B" not in texts(mine)
        assert "of A" in texts(mine)
        assert {span.name for span in mine.spans} >= {"A", "B", "Inner"}
        assert "alone" not in texts(other)


async def test_words_of_errors_that_b_keeps_out_do_not_reach_as_target():
    """B notes errors by their type alone; inside A they are no more than that either."""
    with HttpSink() as mine, HttpSink() as other:
        await one_inside_another(mine, other, "fail", trace_errors=False)

        assert "ValueError" in texts(mine)
        assert "the secret of B" not in texts(mine)


async def test_secrets_that_b_takes_out_do_not_reach_as_target(tmp_path):
    """What B's own redaction takes out, in a store of its own, is out inside A too."""
    with HttpSink() as mine, HttpSink() as other:
        await one_inside_another(
            mine, other, store=tmp_path / "b.db", redact_patterns=("secret of B",)
        )

        assert {span.name for span in mine.spans} >= {"A", "B", "Inner"}
        assert "secret of B" not in texts(mine)


async def test_a_flow_that_keeps_nothing_here_leaves_nothing_in_anothers_trace(store_path):
    """B has no store, but a target: inside A nothing of it is noted, outside it goes to its own."""
    with HttpSink() as mine, HttpSink() as other:
        await one_inside_another(mine, other, store="off")

        assert {span.name for span in mine.spans}.isdisjoint({"B", "Inner"})
        assert "secret of B" not in texts(mine) + texts(other)
        assert {span.name for span in other.spans} >= {"B", "Inner"}
    with closing(open(store_path, "rb")) as file:
        assert b"secret of B" not in file.read()
