"""`push` sends what earlier processes left, and says of the rest why it still waits."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.tracing.spool_kit import route, run
from tests.tracing.wire_kit import Fault, HttpSink, free_port
from tracing import TracingConfig
from tracing.errors import StoreMissing, StoreUnreadable
from tracing.export.pushing import push, unconfigured
from tracing.store import TraceStore

CHILD = """
import asyncio, os, signal, sys
from tests.tracing.process_kit import is_open
from pocketflow_async import AsyncFlow, AsyncNode
import tracing
flow = tracing.trace_flow(config=tracing.TracingConfig(otlp_endpoint=sys.argv[1]))(
    AsyncFlow(start=AsyncNode())
)
for _ in range(5):
    asyncio.run(flow.run_async({}))
tracing.flush(3)
async def hang():
    class Stuck(AsyncNode):
        async def exec_async(self, prep):
            await is_open("AsyncFlow")
            os.kill(os.getpid(), signal.SIGKILL)
    await tracing.trace_flow(config=tracing.TracingConfig(otlp_endpoint=sys.argv[1]))(
        AsyncFlow(start=Stuck())
    ).run_async({})
asyncio.run(hang())
"""


def leave_behind(env: dict[str, str], endpoint: str) -> None:
    """Let a process record five runs and die in a sixth, with nobody at *endpoint*."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, endpoint], env=env, capture_output=True, timeout=50
    )
    assert child.returncode == -9, child.stderr


def test_what_a_killed_process_left_is_sent(child_env, store_path):
    """Finished runs and the one it died in, marked as interrupted, reach the target."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    leave_behind(child_env, endpoint)
    told: list[tuple[str, int, int]] = []

    with HttpSink(port=port) as sink:
        (line,) = push(
            store_path,
            TracingConfig(otlp_endpoint=endpoint),
            20,
            lambda name, sent, waiting: told.append((name, sent, waiting)),
        )

        assert (line.name, line.sent, line.waiting, line.aside, line.said) == ("otlp", 12, 0, 0, "")
        assert len({span.trace_id for span in sink.spans}) == 6
        dead = [span for span in sink.spans if "interrupted" in span.status.message]
        assert {span.name for span in dead} >= {"AsyncFlow", "Stuck"}
    assert told[0] == ("otlp", 0, 12)


def test_nothing_is_left_to_push_twice(child_env, store_path):
    """What has arrived is not sent again."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    leave_behind(child_env, endpoint)
    with HttpSink(port=port) as sink:
        push(store_path, TracingConfig(otlp_endpoint=endpoint), 20)
        taken = len(sink.spans)

        assert push(store_path, TracingConfig(otlp_endpoint=endpoint), 20) == []
        assert len(sink.spans) == taken


def test_what_still_waits_is_told_with_the_reason(child_env, store_path):
    """A target that is down, and one that is not configured here, each say so."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    leave_behind(child_env, endpoint)

    (down,) = push(store_path, TracingConfig(otlp_endpoint=endpoint), 5)
    (unknown,) = push(store_path, TracingConfig(), 5)

    assert (down.sent, down.waiting) == (0, 12)
    assert "refused" in down.said
    assert (unknown.sent, unknown.waiting) == (0, 12)
    assert "not configured" in unknown.said


def test_what_a_running_process_has_is_left_to_it(store_path):
    """Records of a living process are not sent from elsewhere."""
    with HttpSink() as sink:
        from tracing.export.configured import route as configured

        config = TracingConfig(otlp_endpoint=f"http://127.0.0.1:{sink.port}")
        way = configured(config)
        store = TraceStore(store_path)
        for record in run(way):
            store.opened(record)
            store.closed(record)
        store.flush(10)

        (line,) = push(store_path, config, 2)

        assert (line.sent, line.waiting, line.held) == (0, 4, 4)
        assert line.said == "a process that still runs sends them"
        for way_out in ({"to": "otlp"}, {"forget": True}):  # nor is it given to others, or lost
            other = TracingConfig(otlp_endpoint="http://127.0.0.1:9")
            (line,) = push(store_path, other, 2, **way_out)
            assert (line.waiting, line.held, line.said) == (
                4,
                4,
                "a process that still runs sends them",
            )
        assert sink.spans == []
        store.close()


def test_a_target_that_hangs_ends_with_the_time(child_env, store_path):
    """The time that was given is kept to."""
    with HttpSink() as sink:
        endpoint = f"http://127.0.0.1:{sink.port}"
        sink.fault = Fault(status=503)
        leave_behind(child_env, endpoint)
        sink.fault = Fault(hang=True)

        (line,) = push(store_path, TracingConfig(otlp_endpoint=endpoint), 1.5)

    assert (line.waiting, line.held) == (12, 0)
    assert "still runs" not in line.said


def test_what_waits_for_a_target_of_old_goes_to_a_new_one(child_env, store_path):
    """It is counted, it arrives once, and what had been sent before is not sent again."""
    leave_behind(child_env, f"http://127.0.0.1:{free_port()}")
    with HttpSink() as sink:
        config = TracingConfig(otlp_endpoint=f"http://127.0.0.1:{sink.port}")

        old, new = push(store_path, config, 20, to="otlp")

        assert (old.waiting, old.said) == (0, f"12 re-addressed to otlp at {sink.url}")
        assert (new.sent, new.waiting, new.said) == (12, 0, "")
        assert len({span.trace_id for span in sink.spans}) == 6
        assert push(store_path, config, 20, to="otlp") == []


def test_a_part_of_it_can_be_a_living_process_s(child_env, store_path):
    """Only what dead processes left is re-addressed; the rest is told apart."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    leave_behind(child_env, endpoint)
    from tracing.export.configured import route as configured

    store = TraceStore(store_path)
    for record in run(configured(TracingConfig(otlp_endpoint=endpoint))):
        store.opened(record)
        store.closed(record)
    store.flush(10)
    with HttpSink() as sink:
        config = TracingConfig(otlp_endpoint=f"http://127.0.0.1:{sink.port}")

        (before,) = push(store_path, config, 5)
        old, new = push(store_path, config, 20, to="otlp")

    assert (before.waiting, before.held) == (16, 4)
    assert "sends 4 of them" in before.said
    assert (old.waiting, old.held, new.sent) == (4, 4, 12)
    assert old.said == (
        f"12 re-addressed to otlp at {sink.url}; a process that still runs sends them"
    )
    store.close()


def test_what_was_for_a_processor_object_is_told_as_such():
    """Nobody but its process could have handed it over, so no program is promised to."""
    assert "sets it in its code" in unconfigured("http://a/v1/traces", [])
    assert "--to NAME`" in unconfigured("http://a/v1/traces", [])
    assert "process that has ended" in unconfigured("my.app.Processor#1", ["otlp", "langfuse"])
    assert "--to otlp or langfuse`" in unconfigured("my.app.Processor#1", ["otlp", "langfuse"])


def test_a_store_that_is_not_there_or_is_none_is_an_error(tmp_path):
    """The path is named in the error."""
    with pytest.raises(StoreMissing, match=r"no\.db"):
        push(tmp_path / "no.db", TracingConfig(), 1)
    (tmp_path / "text.db").write_text("not a database, for sure " * 100)
    with pytest.raises(StoreUnreadable, match=r"text\.db"):
        push(tmp_path / "text.db", TracingConfig(), 1)


def test_a_route_of_another_process_is_sent_as_it_was_recorded(tmp_path):
    """Resource and phases are those of the program that recorded, not of the one that pushes."""
    path = tmp_path / "s.db"
    assert route("one", shown=frozenset()).shape != route("one").shape
    with HttpSink() as sink:
        from dataclasses import replace

        from tracing.export.configured import route as configured

        config = TracingConfig(otlp_endpoint=f"http://127.0.0.1:{sink.port}", service_name="pusher")
        way = configured(config)
        assert way is not None
        recorded = replace(way, resource={"service.name": "recorder"}, shown=frozenset())
        code = f"""
import sys
from tests.tracing.spool_kit import run
from tracing.export.model import Route, Target
from tracing.store import TraceStore
store = TraceStore({str(path)!r})
way = Route((Target("otlp", {recorded.targets[0].endpoint!r}),), {dict(recorded.resource)!r}, set())
for record in run(way, 1):
    store.opened(record)
    store.closed(record)
store.close()
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=40)
        (line,) = push(path, config, 20)

        assert line.sent == 2
        (request,) = sink.requests
        (resource,) = request.request.resource_spans
        assert resource.resource.attributes[0].value.string_value == "recorder"
        assert len(request.spans) == 2
