"""What the fields of a config do to runs: sampling, tasks, concurrency, errors, lifecycles."""

import asyncio
import pickle
import threading

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode, Flow, Node
from tracing import TracingConfig, current_span, flush, trace_flow
from tracing.ids import new_trace_id
from tracing.sampling import is_kept
from tracing.settings import Settings


class Items(AsyncParallelBatchNode):
    async def prep_async(self, shared):
        return [1, 2]


class Fails(Node):
    def exec(self, given):
        raise ValueError("secret 123")


def is_empty(traces):
    """Nothing was stored: not even the file is there."""
    flush()
    return not traces.path.exists()


def test_a_sample_is_taken_of_whole_traces(traces):
    """Of many runs about that share is there, each with all its spans."""
    flow = trace_flow(TracingConfig(sample_rate=0.5))(Flow(Node() >> Node()))
    for _ in range(200):
        flow.run({})

    found = traces.all(limit=300)
    assert 60 < len(found) < 140
    assert {len(tree.roots[0].children) for tree in found} == {1}


def test_a_rate_of_zero_records_nothing_and_changes_nothing(traces):
    """The run goes its plain way; ids of the trace are there for those who ask."""
    seen = []

    class Sees(Node):
        def exec(self, given):
            seen.append(current_span())
            return "done"

        def post(self, shared, given, result):
            return result

    assert trace_flow(TracingConfig(sample_rate=0.0))(Flow(Sees())).run({}) == "done"
    assert seen[0] is not None
    assert is_empty(traces)
    assert current_span() is None


def test_what_runs_inside_a_trace_that_is_left_out_is_left_out(traces):
    """Children follow their root, whatever their own config says; in a kept trace too."""
    inner = trace_flow(flow_name="inner")(Flow(Node()))
    never = TracingConfig(sample_rate=0.0)
    trace_flow(never)(lambda: inner.run({}))()
    assert is_empty(traces)

    rare = trace_flow(never, flow_name="rare")(Flow(Node()))
    trace_flow(lambda: rare.run({}))()

    assert [child.name for child in traces.one().children] == ["rare"]


def test_failures_of_runs_left_out_are_those_of_the_run():
    """Errors pass, and the context is left as it was."""
    flow = trace_flow(TracingConfig(sample_rate=0.0))(Flow(Fails()))
    with pytest.raises(ValueError, match="secret"):
        flow.run({})

    assert current_span() is None


async def test_a_generator_left_out_can_be_read_from_other_tasks(traces):
    """Each step is entered anew, as in recorded ones."""

    @trace_flow(TracingConfig(sample_rate=0.0))
    async def numbers():
        yield 1
        yield 2

    stream = numbers()
    got = [await asyncio.create_task(anext(stream)) for _ in range(2)]
    await stream.aclose()

    assert got == [1, 2]
    assert is_empty(traces)


def test_the_sample_depends_on_the_trace_id_alone():
    """All of 1.0, none of 0.0, and what a small rate keeps a larger one keeps too."""
    ids = [new_trace_id() for _ in range(2_000)]

    assert all(is_kept(one, 1.0) for one in ids)
    assert not any(is_kept(one, 0.0) for one in ids)
    kept = [one for one in ids if is_kept(one, 0.25)]
    assert 350 < len(kept) < 650
    assert all(is_kept(one, 0.5) for one in kept)


async def test_spans_say_in_which_task_they_ran(traces):
    """The root does, and whatever ran in another task than its parent."""
    flow = trace_flow(TracingConfig(trace_async_context=True))(AsyncFlow(Items()))
    await asyncio.create_task(flow.run_async({}), name="mine")

    root = traces.one()
    (node,) = root.children
    assert root.attributes["flow.task"] == "mine"
    assert "flow.task" not in node.attributes
    ids = {root.attributes["flow.task_id"]} | {
        item.attributes["flow.task_id"] for item in node.children
    }
    assert len(ids) == 3


async def test_tasks_are_not_noted_when_that_is_off(traces):
    """`trace_async_context=False`."""
    await trace_flow(TracingConfig(trace_async_context=False))(AsyncFlow(Items())).run_async({})

    root = traces.one()
    assert "flow.task" not in root.attributes
    assert all("flow.task" not in item.attributes for item in root.children[0].children)


def test_without_a_loop_there_is_no_task(traces):
    """Sync runs say nothing of tasks."""
    trace_flow(Flow(Node())).run({})

    assert "flow.task" not in traces.one().attributes


@pytest.mark.parametrize("on", [True, False])
async def test_a_run_notes_how_many_others_were_under_way(on, traces):
    """Runs of this flow, as it began; the first of them notes nothing."""
    flow = trace_flow(TracingConfig(trace_concurrent_flows=on))(AsyncFlow(Turns()))
    await asyncio.gather(*(flow.run_async({}) for _ in range(3)))
    await flow.run_async({})

    found = [tree.roots[0].attributes.get("flow.concurrent_runs") for tree in traces.all()]
    assert found == ([None, 1, 2, None] if on else [None] * 4)


class Turns(AsyncNode):
    async def exec_async(self, given):
        for _ in range(3):
            await asyncio.sleep(0)


def test_runs_that_are_given_up_are_not_under_way(traces):
    """A coroutine that is thrown away does not count for ever."""
    flow = trace_flow(AsyncFlow(Turns()))
    given_up = flow.run_async({})
    given_up.send(None)
    given_up.close()
    asyncio.run(flow.run_async({}))

    assert "flow.concurrent_runs" not in traces.all()[-1].roots[0].attributes


def test_errors_by_type_only(traces):
    """`trace_errors=False` leaves neither message nor lines, in spans and in phases."""
    with pytest.raises(ValueError, match="secret"):
        trace_flow(TracingConfig(trace_errors=False))(Flow(Fails())).run({})

    root = traces.one()
    (node,) = root.children
    errors = [root.error, node.error, *(phase.error for phase in node.phases if phase.error)]
    assert [(error.type, error.message, list(error.frames)) for error in errors] == [
        ("ValueError", "", [])
    ] * 3


def test_settings_make_their_recorder_once():
    """It is the same for all runs, until the environment names another store."""
    mine = Settings(TracingConfig(store="memory"))

    assert mine.recorder() is mine.recorder()
    assert Settings(TracingConfig(store="off")).recorder() is None
    assert Settings(TracingConfig(store="off")).ring is None


def test_a_new_environment_makes_a_new_recorder(monkeypatch, tmp_path):
    """Without a store of its own the settings follow POCKETFLOW_TRACE_STORE."""
    mine = Settings(None)
    before = mine.recorder()
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", str(tmp_path / "other.db"))

    assert mine.recorder() is not before


def test_the_ring_is_there_when_lifecycles_are_on():
    """`trace_async_lifecycle` puts the ring before the store; off, there is none."""
    on = Settings(TracingConfig(store="memory"))
    off = Settings(TracingConfig(store="memory", trace_async_lifecycle=False))
    for one in (on, off):
        trace_flow(one.config)(Flow(Node())).run({})
        one.start("flow", "F", None, None).finish(None)

    assert on.ring is not None
    assert off.ring is None


def test_slow_nodes_are_marked_when_monitoring_is_on(traces):
    """`performance_monitoring` with `slow_node_seconds`, lifecycles kept or not."""
    for config in (
        TracingConfig(performance_monitoring=True, slow_node_seconds=1e-9),
        TracingConfig(
            performance_monitoring=True, slow_node_seconds=1e-9, trace_async_lifecycle=False
        ),
        TracingConfig(slow_node_seconds=1e-9),
    ):
        trace_flow(config)(Flow(Node())).run({})

    found = [tree.roots[0].children[0].attributes for tree in traces.all()]
    assert ["flow.slow" in attributes for attributes in found] == [True, True, False]


def test_settings_pickle_without_what_was_made():
    """The twin makes its own recorder, tracer and counts."""
    mine = Settings(TracingConfig(store="memory"), "name", tags=("t",))
    mine.recorder()
    twin = pickle.loads(pickle.dumps(mine))

    assert (twin.config, twin.name, twin.tags) == (mine.config, "name", ("t",))
    assert twin.recorder() is not mine.recorder()


def test_one_tracer_for_all_threads():
    """`Settings.tracer` is made once, with the config in force."""
    mine = Settings(TracingConfig(store="memory"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(mine.tracer)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [mine.tracer] * 4
    assert mine.tracer.config is mine.config
