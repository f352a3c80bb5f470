"""The end of a process is bounded whatever the back end does, and loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tracing.wire_kit import Fault, HttpSink, free_port

SPANS = 3 + 2 * 4
"""The flow with its prep and post, and two nodes with three phases each."""
PROGRAM = """
import asyncio, json, sys, time
from pocketflow_async import AsyncFlow, AsyncNode
import tracing

class Double(AsyncNode):
    async def prep_async(self, shared):
        return shared["number"]
    async def exec_async(self, number):
        return 2 * number
    async def post_async(self, shared, number, result):
        shared["number"] = result

first, second = Double(), Double()
first >> second
said = json.loads(sys.argv[1])
endpoint = said.pop("endpoint", None)
if endpoint:
    said["otlp_endpoint"] = endpoint
config = tracing.TracingConfig(**said)
flow = tracing.trace_flow(config=config, flow_name="Doubling")(AsyncFlow(start=first))
runs = int(sys.argv[2])
for _ in range(runs):
    asyncio.run(flow.run_async({"number": 1}))
if len(sys.argv) > 3:
    began = time.monotonic()
    counts = tracing.flush(float(sys.argv[3]))
    print(json.dumps([counts._asdict(), time.monotonic() - began]), flush=True)
print("end", time.time(), flush=True)
"""


class Ended:
    """What a process said, and when it had ended."""

    def __init__(self, out: str, err: str, ended: float) -> None:
        *lines, last = out.splitlines()
        self.exit_seconds = ended - float(last.split()[1])
        self.counts: dict[str, int] = {}
        self.flush_seconds = 0.0
        if lines:
            self.counts, self.flush_seconds = json.loads(lines[0])
        self.warnings = [line for line in err.splitlines() if line.strip()]


def faulty(fault: Fault) -> HttpSink:
    sink = HttpSink()
    sink.fault = fault
    return sink


def base(sink: HttpSink) -> str:
    return f"http://127.0.0.1:{sink.port}"


def program(env: dict[str, str], runs: int = 1, flush: float | None = None, **config: Any) -> Ended:
    """Run a traced flow in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(config), str(runs)]
    command += [] if flush is None else [str(flush)]
    child = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = child.communicate(timeout=50)
    ended = time.time()
    assert child.returncode == 0, err
    return Ended(out, err, ended)


FAULTS = {
    "hang": Fault(hang=True),
    "drip": Fault(drip_head=0.3),
    "garbage": Fault(body=b"\x00\xff garbage"),
    "html": Fault(body=b"<html>hello</html>", headers={"content-type": "text/html"}),
    "503": Fault(status=503),
    "429": Fault(status=429, headers={"retry-after": "30"}),
    "401": Fault(status=401),
    "cut": Fault(cut="early"),
    "reset": Fault(cut="reset"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_back_end_delays_the_end_by_two_seconds_at_most(child_env, name):
    """Whatever a server does, the process ends in time, says one line, and the next sends all."""
    with faulty(FAULTS[name]) as sink:
        ended = program(child_env, endpoint=base(sink), runs=3)
        assert ended.exit_seconds < 2.5  # two seconds, and the end of the interpreter
        assert len(ended.warnings) <= 1, ended.warnings
        sink.fault = Fault()
        later = program(child_env, endpoint=base(sink), flush=20)

        assert later.counts["sent"] == 3 + 9
        assert len({span.trace_id for span in sink.spans}) == 4
        assert {span.name for span in sink.spans} >= {"Doubling", "Double", "Double.exec"}


def test_a_dead_back_end_delays_the_end_by_two_seconds_at_most(child_env):
    """Nobody listens: the process ends at once, and the next one sends all."""
    port = free_port()
    ended = program(child_env, endpoint=f"http://127.0.0.1:{port}", runs=3)
    assert ended.exit_seconds < 2.5
    assert len(ended.warnings) <= 1

    with HttpSink(port=port) as sink:
        later = program(child_env, endpoint=f"http://127.0.0.1:{port}", flush=20)
        assert later.counts["sent"] == 12
        assert len({span.trace_id for span in sink.spans}) == 4


def test_a_working_back_end_has_all_at_the_end_without_a_flush(child_env):
    """A short program needs no flush: what it recorded is sent before it ends."""
    with HttpSink() as sink:
        ended = program(child_env, endpoint=base(sink))

        assert len(sink.spans) == SPANS
        assert ended.exit_seconds < 2.5
        assert ended.warnings == []


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(status=503), Fault(drip_head=0.2)])
def test_flush_keeps_to_its_timeout_and_counts_right(child_env, fault):
    """A flush against a faulty server returns in time, and says that nothing was sent."""
    with faulty(fault) as sink:
        ended = program(child_env, endpoint=base(sink), flush=1.0)

    assert ended.flush_seconds < 1.5
    assert ended.counts == {"stored": 3, "sent": 0, "failed": 3, "dropped": 0}


@pytest.mark.parametrize("store", ["memory", "off"])
def test_without_a_file_records_are_sent_just_the_same(child_env, store):
    """The spool may be in memory, or hold only what is still to be sent."""
    with HttpSink() as sink:
        ended = program(child_env, endpoint=base(sink), runs=2, flush=20, store=store)

        assert ended.counts == {"stored": 6, "sent": 6, "failed": 0, "dropped": 0}
        assert len(sink.spans) == 2 * SPANS


def test_one_target_that_hangs_holds_up_no_other(child_env):
    """Two targets: what one keeps waiting for, the other has."""
    with HttpSink() as good, faulty(Fault(hang=True)) as bad:
        env = {**child_env, "LANGFUSE_PUBLIC_KEY": "", "LANGFUSE_SECRET_KEY": ""}
        ended = program(
            env,
            endpoint=base(good),
            langfuse_public_key="pk-lf-1",
            langfuse_secret_key="sk-lf-1",
            langfuse_host=base(bad),
            flush=1.0,
        )

        assert len(good.spans) == SPANS
        assert ended.counts == {"stored": 3, "sent": 3, "failed": 3, "dropped": 0}
        assert ended.exit_seconds < 2.5


def test_nothing_of_the_way_out_is_imported_before_it_is_needed(child_env):
    """Without a target a run loads neither requests nor protobuf nor OpenTelemetry."""
    code = (
        "import asyncio, sys\n"
        "from pocketflow_async import AsyncFlow, AsyncNode\n"
        "from tracing import trace_flow\n"
        "flow = trace_flow(AsyncFlow(start=AsyncNode()))\n"
        "asyncio.run(flow.run_async({}))\n"
        "heavy = {'requests', 'google', 'opentelemetry', 'grpc', 'langfuse'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_env, capture_output=True, text=True, timeout=40
    )

    assert done.stdout.strip() == "[]", done.stderr


def test_exit_stays_in_time_with_the_store_on_a_full_path(child_env, tmp_path: Path):
    """Store and target both in trouble at once take no longer than one of them."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    env = {**child_env, "POCKETFLOW_TRACE_STORE": str(blocked / "traces.db")}
    ended = program(env, endpoint=f"http://127.0.0.1:{free_port()}")

    assert ended.exit_seconds < 2.5
