"""Random programs for the original `pocketflow`: traced they do what they do untraced."""

import sys
from collections import Counter

import pocketflow
import pytest
from hypothesis import HealthCheck, given, settings

from tests.tracing.original_kit import HEAD
from tracing import TracingConfig, trace_flow
from tracing.store import open_store

# The programs are those by which the engine is compared with PocketFlow. That module asks for the
# engine under this name; which one it is does not matter here.
sys.modules.setdefault("engine_under_test", pocketflow)

from tests.compat.test_differential import (  # noqa: E402
    ASYNC_FLOWS,
    SEEN,
    SYNC_FLOWS,
    Program,
    flows,
)

EVERY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_same_traced(package, spec):
    """Run it untraced, traced and untraced again: all that can be seen is the same."""
    before = Program(package, spec).outcome()
    program = Program(package, spec)
    trace_flow(TracingConfig(store="memory"))(program.root)
    traced = program.outcome()
    after = Program(package, spec).outcome()

    for what, first, second, third in zip(SEEN, before, traced, after, strict=True):
        assert first == second == third, what
    return program


def all_spans(span):
    return [span, *(found for child in span.children for found in all_spans(child))]


def last_trace():
    store = open_store("memory")
    store.flush(30)
    reader = store.reader()
    (found,) = reader.traces(1)
    return reader.trace(found.trace_id)


@pytest.mark.parametrize("package", [pocketflow, HEAD], ids=["0.0.3", "head"])
@EVERY
@given(flows(SYNC_FLOWS))
def test_sync_programs(package, spec):
    """Any graph of sync nodes and flows; errors, loops, retries and nesting included."""
    assert_same_traced(package, spec)


@pytest.mark.parametrize("package", [pocketflow, HEAD], ids=["0.0.3", "head"])
@EVERY
@given(flows(ASYNC_FLOWS[2:]))
def test_async_programs(package, spec):
    """Any graph of sync and async nodes and flows, parallel ones too, in the same order."""
    assert_same_traced(package, spec)


@settings(EVERY, max_examples=60)
@given(flows([*SYNC_FLOWS, "AsyncFlow", "AsyncBatchFlow"]))
def test_every_call_is_in_the_trace(spec):
    """There are as many prep, exec, fallback and post phases as there were calls."""
    program = assert_same_traced(pocketflow, spec)
    tree = last_trace()

    assert len(tree.roots) == 1
    noted = Counter(phase.kind for span in all_spans(tree.roots[0]) for phase in span.phases)
    called = Counter(event[1] for event in program.log)
    for kind in ("exec", "fallback"):  # prep and post have a default that is not in the log
        assert noted[kind] == called[kind]
    assert noted["prep"] >= called["prep"]
