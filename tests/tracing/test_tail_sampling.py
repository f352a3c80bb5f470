"""Which traces are sent: those of the sample, and those that turned out to matter; all are kept."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import tracing
from pocketflow_async import AsyncFlow, AsyncNode
from tests.tracing.process_kit import Program
from tests.tracing.wire_kit import HttpSink
from tracing import TracingConfig, trace_flow
from tracing.sampling import is_kept
from tracing.store import TraceReader

SLOW = 0.2
"""Seconds from which a trace counts as slow here."""


class Do(AsyncNode[Any, Any, Any]):
    """Does what `shared` says in its exec."""

    async def prep_async(self, shared: Any) -> Any:
        return shared["what"]

    async def exec_async(self, what: Any) -> Any:
        if what == "failed" or (what == "retried" and self.cur_retry == 0):
            raise ValueError(what)
        if what == "slow":
            await asyncio.sleep(SLOW + 0.05)


class Before(AsyncNode[Any, Any, Any]):
    """Is finished, and perhaps stored, before it is known whether the trace matters."""

    async def exec_async(self, prep: Any) -> Any:
        await tracing.aflush(10)


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


def traced(sink: HttpSink, name: str, **config: Any) -> Any:
    """Return a flow of a nested flow and a node that may matter, with settings for sampling."""
    do = Do(max_retries=2) if name == "retried" else Do()
    first = AsyncFlow(start=Before())
    first >> do
    settings = TracingConfig(
        otlp_endpoint=sink.url, slow_trace_seconds=SLOW, **{"sample_rate": 0.0, **config}
    )
    return trace_flow(config=settings, flow_name=name)(AsyncFlow(start=first))


async def run_all(sink: HttpSink, **config: Any) -> None:
    """Run a flow of each kind once."""
    for name in ("fine", "failed", "slow", "retried"):
        with suppress(ValueError):
            await traced(sink, name, **config).run_async({"what": name})
    await tracing.aflush(20)


def sent(sink: HttpSink) -> dict[str, int]:
    """Return how many spans arrived of each trace, by the name of its root."""
    roots = {span.trace_id: span.name for span in sink.spans if not span.parent_span_id}
    assert len({span.span_id for span in sink.spans}) == len(sink.spans)
    ids = {span.span_id for span in sink.spans} | {b""}
    assert {span.parent_span_id for span in sink.spans} <= ids
    return dict(Counter(roots[span.trace_id] for span in sink.spans))


WHOLE = {"failed": 2 + 3 + 4 + 3, "slow": 3 + 3 + 4 + 4, "retried": 3 + 3 + 4 + 5}
"""Spans of each: the flow (without a post where it failed), the nested one, Before, and Do."""


@pytest.mark.parametrize(
    "keep", [("failed", "slow", "retried"), ("failed",), ("slow",), ("retried",)]
)
async def test_only_what_matters_is_sent_and_it_is_whole(sink, store_path, keep):
    """Outside the sample those that failed, took long or tried again go out; the store has all.

    Also what was finished and stored long before, in a flow nested inside.
    """
    await run_all(sink, keep=keep)

    assert sent(sink) == {name: WHOLE[name] for name in keep}
    stored = {one.name: one.spans for one in TraceReader(store_path).traces()}
    assert stored == {"fine": 4, "failed": 4, "slow": 4, "retried": 4}


@pytest.mark.parametrize("store", ["memory", "off"])
async def test_without_a_file_the_choice_is_the_same(sink, store):
    """In memory, and where only what is to be sent is held."""
    await run_all(sink, keep=("failed", "retried"), store=store)

    assert sent(sink) == {name: WHOLE[name] for name in ("failed", "retried")}


async def test_nothing_is_sent_before_it_is_known_to_matter(sink):
    """While it runs, nothing of it is out there; when it fails, all of it is at once."""
    seen: list[int] = []

    class Look(AsyncNode[Any, Any, Any]):
        async def exec_async(self, prep: Any) -> Any:
            await tracing.aflush(10)
            seen.append(len(sink.spans))

    first = Before()
    first >> Look() >> Do()
    config = TracingConfig(otlp_endpoint=sink.url, sample_rate=0.0, keep=("failed",))
    flow = trace_flow(config=config, flow_name="late")(AsyncFlow(start=first))
    with suppress(ValueError):
        await flow.run_async({"what": "failed"})
    await tracing.aflush(20)

    assert seen == [0]
    assert sent(sink) == {"late": 2 + 4 + 4 + 3}


async def test_what_goes_on_after_it_mattered_is_sent_too(sink):
    """An attempt that failed decides at once; what runs after it belongs to the trace as ever."""
    first, last = Do(max_retries=2), Before()
    first >> Before() >> last
    config = TracingConfig(otlp_endpoint=sink.url, sample_rate=0.0, keep=("retried",))
    flow = trace_flow(config=config, flow_name="early")(AsyncFlow(start=first))
    await flow.run_async({"what": "retried"})
    await tracing.aflush(20)

    assert sent(sink) == {"early": 3 + 5 + 4 + 4}


async def test_many_at_once_do_not_take_each_other_along(sink, store_path):
    """Of runs of one flow at the same time, those that fail are sent and the others are not."""
    config = TracingConfig(otlp_endpoint=sink.url, sample_rate=0.0, keep=("failed",))
    flow = trace_flow(config=config, flow_name="many")(AsyncFlow(start=Do()))
    said = ["failed" if number % 3 == 0 else "fine" for number in range(60)]
    await asyncio.gather(*(flow.run_async({"what": what}) for what in said), return_exceptions=True)
    await tracing.aflush(20)

    assert sent(sink) == {"many": 20 * (2 + 3)}
    reader = TraceReader(store_path)
    failed = {one.trace_id for one in reader.traces(100) if one.failures}
    assert {span.trace_id.hex() for span in sink.spans} == failed
    assert len(reader.traces(100)) == 60


@pytest.mark.parametrize("keep", [(), ("failed",)])
async def test_the_ratio_is_that_of_the_trace_ids(sink, store_path, keep):
    """With `keep` the ratio chooses what is sent, without it what is recorded at all."""
    config = TracingConfig(otlp_endpoint=sink.url, sample_rate=0.3, keep=keep)
    flow = trace_flow(config=config)(AsyncFlow(start=AsyncNode()))
    for _ in range(400):
        await flow.run_async({})
    await tracing.aflush(20)

    arrived = {span.trace_id.hex() for span in sink.spans}
    stored = {one.trace_id for one in TraceReader(store_path).traces(1000)}
    assert 75 < len(arrived) < 170  # 120, and five times its deviation
    assert all(is_kept(int(trace_id, 16), 0.3) for trace_id in arrived)
    if keep:
        assert len(stored) == 400
        assert arrived == {found for found in stored if is_kept(int(found, 16), 0.3)}
    else:
        assert stored == arrived


CALLER = {"trace": "ab" * 16, "span": "cd" * 8}


@pytest.mark.parametrize(
    ("flags", "config", "what", "is_sent", "is_stored"),
    [
        ("01", {"sample_rate": 0.0}, "fine", True, True),
        ("00", {"sample_rate": 1.0}, "fine", False, False),
        ("00", {"sample_rate": 1.0, "keep": ("failed",)}, "fine", False, True),
        ("00", {"sample_rate": 1.0, "keep": ("failed",)}, "failed", True, True),
        ("01", {"sample_rate": 0.0, "sample_by_parent": False}, "fine", False, False),
        ("00", {"sample_rate": 1.0, "sample_by_parent": False}, "fine", True, True),
    ],
)
async def test_the_callers_decision_is_followed(
    sink, store_path, flags, config, what, is_sent, is_stored
):
    """Sampled there, sampled here, whatever the ratio; unless the settings say otherwise."""
    settings = TracingConfig(otlp_endpoint=sink.url, **config)
    flow = trace_flow(config=settings)(AsyncFlow(start=Do()))
    headers = {"traceparent": f"00-{CALLER['trace']}-{CALLER['span']}-{flags}"}
    with tracing.incoming(headers), suppress(ValueError):
        await flow.run_async({"what": what})
    await tracing.aflush(20)

    assert {span.trace_id.hex() for span in sink.spans} == ({CALLER["trace"]} if is_sent else set())
    roots = [span for span in sink.spans if span.parent_span_id.hex() == CALLER["span"]]
    assert len(roots) == is_sent
    is_there = await asyncio.to_thread(store_path.exists)
    stored = TraceReader(store_path).traces() if is_there else []
    assert [one.trace_id for one in stored] == [CALLER["trace"]] * is_stored


@pytest.mark.parametrize(
    ("sampler", "argument", "flags", "is_sent"),
    [
        ("always_on", "", "", True),
        ("always_off", "", "", False),
        ("always_off", "", "01", False),
        ("traceidratio", "0", "01", False),
        ("traceidratio", "1.0", "00", True),
        ("parentbased_always_on", "", "", True),
        ("parentbased_always_on", "", "00", False),
        ("parentbased_always_off", "", "", False),
        ("parentbased_always_off", "", "01", True),
        ("parentbased_traceidratio", "0.0", "", False),
        ("parentbased_traceidratio", "0.0", "01", True),
        ("nonsense", "x", "", True),
    ],
)
def test_opentelemetrys_variables_in_a_process(child_env, sink, sampler, argument, flags, is_sent):
    """OTEL_TRACES_SAMPLER and its argument decide, together with the TRACEPARENT of a caller."""
    env = {**child_env, "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = sink.url
    if flags:
        env["TRACEPARENT"] = f"00-{CALLER['trace']}-{CALLER['span']}-{flags}"
    code = """
made = tracing.trace_flow(flow_name="by the environment")(AsyncFlow(start=Step()))
with tracing.incoming():
    asyncio.run(made.run_async({}))
"""
    Program(code, env, sink).ends()

    assert [span.name for span in sink.spans].count("by the environment") == is_sent


@pytest.mark.parametrize("flush", ["tracing.flush(20)", ""])
def test_a_trace_that_its_process_died_in_is_sent_by_the_next(child_env, sink, store_path, flush):
    """Undecided at `kill -9`, it mattered; the next process sends it whole, as interrupted.

    Also one that has nothing of its own to send, and is over in no time. A trace that was finished
    before and did not matter stays unsent.
    """
    settings = "sample_rate=0.0, keep=('failed',)"
    code = f"""
class Stuck(AsyncNode):
    async def exec_async(self, prep):
        await is_open("dying")
        print("stuck", flush=True)
        await asyncio.sleep(60)
asyncio.run(flow("fine", {settings}).run_async({{}}))
asyncio.run(flow("dying", Step(), Stuck(), {settings}).run_async({{}}))
"""
    program = Program(code, child_env, sink)
    program.hears("stuck")
    assert sink.spans == []
    program.child.send_signal(signal.SIGKILL)
    program.ends(-signal.SIGKILL)
    code = f"asyncio.run(flow('next', {settings}).run_async({{}})); {flush}"
    Program(code, child_env, sink).ends()

    names = Counter(span.name for span in sink.spans)
    assert names == {
        **dict.fromkeys(("dying", "dying.prep", "Step", "Step.prep", "Step.exec"), 1),
        **dict.fromkeys(("Step.post", "Stuck", "Stuck.prep", "Stuck.exec"), 1),
    }
    by_name = {span.name: span for span in sink.spans}
    assert by_name["dying"].status.message.startswith("interrupted")
    assert by_name["Stuck"].status.message.startswith("interrupted")
    assert by_name["Step"].status.code == 1
    found = {one.name: one.outcome for one in TraceReader(store_path).traces()}
    assert found == {"fine": "completed", "dying": "interrupted", "next": "completed"}
