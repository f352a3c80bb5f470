"""A trace as flat spans: what is a span of its own, and who is whose parent."""

import asyncio
from itertools import pairwise

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import TracingConfig, current_span, span, trace_flow
from tracing.expansion import expand, expand_tree
from tracing.export.model import Route
from tracing.store.model import Span, TraceSummary, TraceTree


class Flaky(AsyncNode):
    async def exec_async(self, prep_res):
        with span("inside"):
            if self.cur_retry == 0:
                raise ValueError("once")
            return current_span()


@pytest.fixture
def tree(traces):
    asyncio.run(trace_flow(AsyncFlow(Flaky(2, wait=0.001), name="Flow")).run_async({}))
    (tree,) = traces.all()
    return tree


def test_every_phase_and_attempt_is_a_span(tree):
    """Names are low in cardinality; attempts are numbered, the wait is on the failed one."""
    spans = expand(tree, TracingConfig())
    names = [found.name for found in spans]

    assert names == [
        "Flow",
        "Flow.prep",
        "Flow.post",
        "Flaky",
        "Flaky.prep",
        "Flaky.exec",
        "Flaky.exec",
        "Flaky.post",
        "inside",
        "inside",
    ]
    first, second = [found for found in spans if found.name == "Flaky.exec"]
    assert first.attributes["flow.attempt"] == 1
    assert first.attributes["flow.wait_seconds"] == 0.001
    outcomes = [found.attributes["flow.outcome"] for found in (first, second)]
    assert outcomes == ["failed", "completed"]
    inside = [found.parent_id for found in spans if found.name == "inside"]
    assert inside == [first.span_id, second.span_id]


@pytest.mark.parametrize(
    ("config", "gone"),
    [
        (TracingConfig(trace_prep=False), {"Flow.prep", "Flaky.prep"}),
        (TracingConfig(trace_exec=False), {"Flaky.exec"}),
        (TracingConfig(trace_post=False), {"Flow.post", "Flaky.post"}),
        (
            TracingConfig(detail="nodes"),
            {"Flow.prep", "Flaky.prep", "Flaky.exec", "Flow.post", "Flaky.post"},
        ),
    ],
)
def test_phases_can_be_left_out_and_nothing_hangs_in_the_air(tree, config, gone):
    """A phase that is no span hands its children to the node; one root, every parent there."""
    everything = {found.name for found in expand(tree, TracingConfig())}
    spans = expand(tree, config)
    ids = {found.span_id for found in spans}

    assert everything - {found.name for found in spans} == gone
    assert [found.name for found in spans if found.parent_id is None] == ["Flow"]
    assert all(found.parent_id in ids for found in spans if found.parent_id is not None)


def test_a_tree_may_be_deeper_than_the_stack():
    """Ten thousand spans inside each other."""
    below = ()
    for number in range(10_000, 0, -1):
        parent = f"{number - 1:016x}" if number > 1 else None
        own = f"{number:016x}"
        below = (
            Span("ab" * 16, own, parent, "span", "s", None, 1, 2, "completed", children=below),
        )
    spans = expand_tree(
        TraceTree(TraceSummary("ab" * 16, "s", "completed", 1, 1, 1), below), Route()
    )

    assert len(spans) == 10_000
    assert all(one.parent_id == other.span_id for other, one in pairwise(spans))
