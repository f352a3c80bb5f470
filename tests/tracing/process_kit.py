"""Programs of all kinds that trace, and what of them arrived: whole runs, each span once.

What the programs themselves need is light to import: it is part of what they are measured by.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tracing
from pocketflow_async import AsyncFlow, AsyncNode

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS = 3 + 2 * 4
"""Of one run: the flow with its prep and post, and two nodes with three phases each."""
EXIT = 4.0
"""Seconds that the end of a process may take on a machine that does other things as well."""


# --- in the programs ------------------------------------------------------------------------------


class Step(AsyncNode[Any, Any, Any]):
    async def prep_async(self, shared: Any) -> Any:
        return shared.get("number", 0)

    async def exec_async(self, number: Any) -> Any:
        await asyncio.sleep(0)
        return number


def config(**more: Any) -> tracing.TracingConfig:
    """Return settings that send where the test says."""
    protocol: Any = os.environ.get("PROTOCOL", "http/protobuf")
    said = {"otlp_endpoint": os.environ["SINK"], "otlp_protocol": protocol, **more}
    return tracing.TracingConfig(**said)


def flow(name: str, *steps: Any, **more: Any) -> Any:
    """Return a traced flow of two nodes, or of *steps*."""
    first, *others = steps or (Step(), Step())
    last = first
    for step in others:
        last = last >> step
    return tracing.trace_flow(config=config(**more), flow_name=name)(AsyncFlow(start=first))


def run(name: str, number: int = 0) -> int:
    """Run such a flow in a loop of its own; for pools, which call it by its name."""
    asyncio.run(flow(name).run_async({"number": number}))
    return number


def is_stored(*wanted: str) -> None:
    """Wait until the finished runs of these names are in the store."""
    from tracing.store import TraceReader

    reader = TraceReader(os.environ["POCKETFLOW_TRACE_STORE"])
    until = time.monotonic() + 20
    while True:
        try:
            found = Counter(one.name for one in reader.traces(100) if one.duration_ns is not None)
        except Exception:  # there is no file yet
            found = Counter()
        if found >= Counter(wanted):
            return
        assert time.monotonic() < until, found
        time.sleep(0.02)


async def is_open(name: str) -> None:
    """Wait until the store shows that the run of this name is in a node that has not ended."""
    from tracing.store import TraceReader

    until = time.monotonic() + 20
    while True:
        tracing.flush(5)
        reader = TraceReader(os.environ["POCKETFLOW_TRACE_STORE"])
        traces = [reader.trace(one.trace_id) for one in reader.traces(100) if one.name == name]
        if any(child.outcome == "running" for tree in traces for child in tree.roots[0].children):
            return
        assert time.monotonic() < until, traces
        await asyncio.sleep(0.02)


# --- in the tests ---------------------------------------------------------------------------------


class Program:
    """A process that runs Python code with all of the above at hand; its last words are the time.

    Args:
        code: What it runs.
        env: Its environment.
        sink: Where its runs go to.
        arguments: In its `sys.argv`.
    """

    HEAD = "from tests.tracing.process_kit import *\nimport tracing, signal, threading, json\n"
    TAIL = "\nprint('end', time.time(), flush=True)\n"

    def __init__(
        self, code: str, env: dict[str, str], sink: Any, *arguments: str, protocol: str = ""
    ) -> None:
        env = {**env, "SINK": sink.url, "PROTOCOL": protocol or "http/protobuf"}
        self.child = subprocess.Popen(
            [sys.executable, "-c", self.HEAD + code + self.TAIL, *arguments],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hears(self, word: str) -> str:
        """Wait for a line that begins so; return the rest of it."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError(self.child.stderr and self.child.stderr.read())

    def ends(self, code: int | None = 0, within: float = EXIT) -> str:
        """Wait for the end; return what it has said on stderr.

        Args:
            code: What it is to return; None: anything.
            within: Seconds that it may take after the last line of the program.
        """
        try:
            out, err = self.child.communicate(timeout=50)
        except subprocess.TimeoutExpired:
            self.child.kill()
            out, err = self.child.communicate()
            raise AssertionError(f"it hangs: {out}{err}") from None
        ended = time.time()
        assert code is None or self.child.returncode == code, out + err
        *_, last = out.splitlines() or [""]
        if last.startswith("end"):
            assert ended - float(last.split()[1]) < within
        return err


def whole(spans: Iterable[Span], *, once: bool = True) -> Counter[str]:
    """Return how many runs of each name arrived, all of which are whole and properly nested.

    Args:
        spans: What arrived.
        once: Whether no span may be there twice.
    """
    traces: dict[bytes, dict[bytes, Span]] = {}
    seen: Counter[bytes] = Counter()
    for span in spans:
        traces.setdefault(span.trace_id, {})[span.span_id] = span
        seen[span.span_id] += 1
    if once:
        assert set(seen.values()) <= {1}, seen.most_common(3)
    return Counter(_root(found) for found in traces.values())


def _root(found: dict[bytes, Span]) -> str:
    (root,) = [span for span in found.values() if not span.parent_span_id]
    below = Counter(_name(found, span) for span in found.values() if span is not root)
    head, phases = f"{root.name} >", ("prep", "exec", "post")
    assert below == Counter(
        {
            f"{head} {root.name}.prep": 1,
            f"{head} {root.name}.post": 1,
            f"{head} Step": 2,
            **{f"Step > Step.{phase}": 2 for phase in phases},
        }
    )
    return root.name


def _name(found: dict[bytes, Span], span: Span) -> str:
    return f"{found[span.parent_span_id].name} > {span.name}"
