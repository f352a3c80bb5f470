"""Defects of pocketflow_tracing 0.1.5 that hurt the process: signals, waits, cost, back ends."""

import asyncio
import gc
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
from tracing import TracingConfig, aflush, flush, trace_flow
from tracing.core import LangfuseTracer
from tracing.store import TraceReader


class Failing(AsyncNode):
    async def exec_async(self, prep_res):
        raise ValueError("on purpose")


@trace_flow()
class Short(AsyncFlow):
    def __init__(self, node=None):
        super().__init__(start=node or AsyncNode())


@pytest.fixture
def locked(store_path):
    """The store's file, held by another writer until `release` is called."""
    flow = Flow(Node())
    trace_flow()(flow).run({})
    assert flush(30).failed == 0
    other = sqlite3.connect(store_path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield lambda: other.execute("ROLLBACK")
    if other.in_transaction:
        other.execute("ROLLBACK")
    other.close()
    flush(30)


def test_defect_11_no_signal_handler_is_installed():
    """After a traced error, and with an error handler made, the handlers are those of before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="on purpose"):
        asyncio.run(Short(Failing()).run_async({}))
    tracer = LangfuseTracer(TracingConfig())
    asyncio.run(tracer.handle_async_error(ValueError("x")))
    assert tracer.get_error_handler() is not None

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_defect_11_signals_work_after_a_traced_error(child_env, name):
    """Ctrl-C in a traced flow raises KeyboardInterrupt; SIGTERM ends the process."""
    script = """
        import asyncio, os, signal
        from pocketflow_async import AsyncFlow, AsyncNode
        from tracing import trace_flow

        class Failing(AsyncNode):
            async def exec_async(self, prep_res):
                raise ValueError

        class Signalled(AsyncNode):
            async def exec_async(self, prep_res):
                os.kill(os.getpid(), signal.SIGNAL)
                await asyncio.sleep(60)

        try:
            asyncio.run(trace_flow(AsyncFlow(Failing())).run_async({}))
        except ValueError:
            pass
        try:
            asyncio.run(trace_flow(AsyncFlow(Signalled())).run_async({}))
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script).replace("SIGNAL", name)],
        env=child_env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    if name == "SIGINT":
        assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
    else:
        assert done.returncode == -signal.SIGTERM


async def test_defect_12_the_end_of_a_run_waits_for_no_back_end(locked):
    """While the store cannot be written, runs end all the same, all at once."""
    async with asyncio.timeout(5):
        await asyncio.gather(*(Short().run_async({}) for _ in range(20)))


async def test_defect_12_flushing_does_not_stop_the_event_loop(locked):
    """During `aflush` and the tracer's `flush_async` others run; one of them ends the trouble."""
    for wait in (aflush, LangfuseTracer(TracingConfig()).flush_async):
        await Short().run_async({})
        ticks = []

        async def tick(ticks=ticks):
            for _ in range(5):
                await asyncio.sleep(0.001)
                ticks.append(True)

        ticking = asyncio.create_task(tick())
        flushing = asyncio.create_task(wait())
        await ticking
        assert not flushing.done()
        flushing.cancel()
        await asyncio.wait([flushing])
    locked()


def cost(flow, rounds=7, runs=200):
    """Return the least CPU seconds of this thread for a run, of several rounds."""

    async def main():
        best = 1.0
        for _ in range(rounds):
            began = time.thread_time()
            for _ in range(runs):
                await flow.run_async({})
            best = min(best, (time.thread_time() - began) / runs)
        return best

    return asyncio.run(main())


def test_defect_13_tracing_is_cheap_and_costs_next_to_nothing_when_off(monkeypatch):
    """A one-node flow: at most 20 µs more when off, 100 µs when on (0.1.5: 223 without keys)."""
    untraced = cost(AsyncFlow(AsyncNode()))
    on = cost(trace_flow()(AsyncFlow(AsyncNode())))
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    off = cost(trace_flow()(AsyncFlow(AsyncNode())))

    assert off - untraced < 20e-6
    assert on - untraced < 100e-6


def test_defect_14_memory_does_not_grow_with_runs():
    """Ten thousand one-node runs after a warm-up keep less than 20 bytes each."""
    flow = Short()

    async def main(runs):
        for _ in range(runs):
            await flow.run_async({})

    def used():
        assert flush(60).failed == 0
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    asyncio.run(main(3_000))
    tracemalloc.start()
    try:
        asyncio.run(main(1_500))  # what is kept is replaced by what was counted
        before = used()
        asyncio.run(main(10_000))
        grown = used() - before
    finally:
        tracemalloc.stop()

    assert grown < 200_000
    lifecycles = flow._tracer.get_lifecycle_manager()
    assert 0 < len(lifecycles.completed_lifecycles) <= 1_000


@pytest.mark.parametrize("found", ["absent", "of another version"])
def test_defect_16_no_langfuse_package_is_needed(child_env, store_path, found, tmp_path):
    """Without the package, or with one that has no `trace()`, runs are recorded."""
    if found == "absent":
        module = "raise ModuleNotFoundError('no langfuse')"
    else:
        module = "class Langfuse:\n    def __init__(self, **_): pass\n"
    (tmp_path / "langfuse.py").write_text(module)
    script = """
        from pocketflow_async import Flow, Node
        from tracing import trace_flow
        from tracing.core import LangfuseTracer
        from tracing.config import TracingConfig

        trace_flow(flow_name="F")(Flow(Node())).run({})
        tracer = LangfuseTracer(TracingConfig.from_env())
        assert tracer.start_trace("by hand", {})
        tracer.end_trace({})
    """
    env = {
        **child_env,
        "PYTHONPATH": f"{tmp_path}:{child_env['PYTHONPATH']}",
        "LANGFUSE_SECRET_KEY": "sk",
        "LANGFUSE_PUBLIC_KEY": "pk",
        "LANGFUSE_HOST": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.splitlines()) <= 1  # nobody listens there, which is said once
    assert {trace.name for trace in TraceReader(store_path).traces()} == {"F", "by hand"}


class Refusing(BaseHTTPRequestHandler):
    """A Langfuse server without the legacy interface."""

    def do_POST(self):
        self.server.asked.append(self.path)
        self.send_response(400)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_defect_17_nothing_is_sent_to_the_legacy_interface(monkeypatch, store_path, capfd):
    """A server that refuses all is asked by OTLP only; the trace is kept, nothing is printed."""
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk")
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk")
        monkeypatch.setenv("LANGFUSE_HOST", f"http://127.0.0.1:{server.server_port}")
        asyncio.run(Short().run_async({}))
        assert flush(30).stored > 0
        server.shutdown()
        thread.join()

    assert [trace.outcome for trace in TraceReader(store_path).traces()] == ["completed"]
    assert set(server.asked) == {"/api/public/otel/v1/traces"}
    assert capfd.readouterr() == ("", "")


def test_defect_28_the_env_file_of_the_working_directory_is_found(monkeypatch, tmp_path):
    """`from_env()` reads `.env` where the program was started; what is set already wins."""
    (tmp_path / ".env").write_text("POCKETFLOW_SESSION_ID=from-file\nPOCKETFLOW_USER_ID=file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETFLOW_SESSION_ID", "")  # so that it is restored afterwards
    monkeypatch.delenv("POCKETFLOW_SESSION_ID")
    monkeypatch.setenv("POCKETFLOW_USER_ID", "set")

    config = TracingConfig.from_env()

    assert (config.session_id, config.user_id) == ("from-file", "set")
