"""Spans by hand: where they hang, what they note, and that they change nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
from tracing import TracingConfig, carry, current_span, trace_flow
from tracing import spans as tracing
from tracing.recorder import Recorder, watching
from tracing.store import Span, TraceReader, open_store


def _flow(exec_async, **options):
    class Ask(AsyncNode):
        async def exec_async(self, prep_res):
            return await exec_async(self)

    @trace_flow
    class Chat(AsyncFlow):
        pass

    return Chat(start=Ask(**options))


async def test_a_span_hangs_under_the_attempt_it_was_opened_in(traces, find):
    """Each try of exec has its own span below it; the second one's parent is the second attempt."""
    tries = []

    async def work(node):
        with tracing.span("retrieve", input={"q": 1}, k=3) as s:
            tries.append(s.span_id)
            if len(tries) == 1:
                raise ValueError("once")

    await _flow(work, max_retries=2).run_async({})

    root = traces.one()
    (ask,) = find(root, "Ask")
    first, second = ask.children
    attempts = [phase for phase in ask.phases if phase.kind == "exec"]
    assert [first.parent_id, second.parent_id] == [phase.span_id for phase in attempts]
    assert [first.span_id, second.span_id] == tries
    assert (first.outcome, second.outcome) == ("failed", "completed")
    assert (first.kind, first.input, first.attributes) == ("span", b'{"q":1}', {"k": 3})
    assert first.error is not None
    assert first.error.message == "once"


async def test_spans_nest_and_the_parent_comes_back(traces, shape):
    """`with` and `async with` make the span current for their block only."""
    with tracing.span("a") as a:
        async with tracing.span("b") as b:
            assert current_span() == (b.trace_id, b.span_id)
        assert current_span() == (a.trace_id, a.span_id)
        async with tracing.span("c"):
            pass
    assert current_span() is None

    below = [("span", "b", "completed"), ("span", "c", "completed")]
    assert shape(traces.one()) == ("span", "a", "completed", below)


async def test_siblings_in_tasks_keep_apart(traces, find):
    """Under gather and TaskGroup each span has its own children, and their common parent."""

    async def work(name):
        with tracing.span(name):
            await asyncio.sleep(0)
            with tracing.span(f"{name} below"):
                await asyncio.sleep(0)

    with tracing.span("top") as top:
        await asyncio.gather(*(work(f"g{n}") for n in range(5)))
        async with asyncio.TaskGroup() as group:
            for n in range(5):
                group.create_task(work(f"t{n}"))

    root = traces.one()
    assert sorted(child.name for child in root.children) == sorted(
        f"{kind}{n}" for kind in "gt" for n in range(5)
    )
    for child in root.children:
        assert child.parent_id == top.span_id
        assert [below.name for below in child.children] == [f"{child.name} below"]


async def test_threads_have_their_parent_with_to_thread_and_carry(traces):
    """A span in `asyncio.to_thread`, or in an executor with `carry`, hangs where it was sent."""

    def work(name):
        with tracing.span(name):
            pass

    with tracing.span("top"):
        await asyncio.to_thread(work, "to_thread")
        with ThreadPoolExecutor(2) as pool:
            for n in range(3):
                pool.submit(carry(work), f"carried {n}").result()

    names = {child.name for child in traces.one().children}
    assert names == {"to_thread", "carried 0", "carried 1", "carried 2"}


def test_a_thread_without_context_starts_a_trace_of_its_own(traces):
    """Without `carry` nothing is lost: the span is the root of another trace."""
    with tracing.span("here"):
        thread = threading.Thread(target=lambda: tracing.span("there").end())
        thread.start()
        thread.join()

    assert {tree.summary.name for tree in traces.all()} == {"here", "there"}


def test_a_span_goes_where_the_run_around_it_goes(tmp_path, traces):
    """Inside a flow with a store of its own, a span is in that store and not in the default one."""
    path = tmp_path / "own.db"

    class Ask(Node):
        def exec(self, prep_res):
            with tracing.span("inner"):
                traced_call()

    @tracing.traced
    def traced_call():
        pass

    flow = trace_flow(TracingConfig(store=path))(Flow(start=Ask()))
    flow.run({})

    store = open_store(path)
    assert store is not None
    store.flush(30)
    reader = TraceReader(path)
    (summary,) = reader.traces()
    assert summary.spans == 4  # the flow, Ask, inner and the call
    assert not traces.path.exists()


async def test_without_with_the_parent_is_that_of_the_start(traces, find):
    """A span that is ended by `end`, even in another task, keeps the parent it began in."""
    with tracing.span("top"):
        with tracing.span("first"):
            loose = tracing.span("loose", input=1)
        assert current_span() is not None

        async def later():
            loose.update(output=2)
            loose.end()
            loose.end(ValueError("too late"))

        await asyncio.create_task(later())

    first = traces.one().children[0]
    (below,) = first.children
    assert (below.name, below.outcome, below.input, below.output) == (
        "loose",
        "completed",
        b"1",
        b"2",
    )


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_errors_go_through_unchanged(traces, error):
    """What is raised in the block is recorded, and is the very object that comes out."""
    with pytest.raises(type(error)) as caught, tracing.span("s"):
        raise error

    assert caught.value is error
    root = traces.one()
    assert root.outcome == ("cancelled" if isinstance(error, KeyboardInterrupt) else "failed")
    assert root.error is not None
    assert root.error.type == type(error).__name__


async def test_cancellation_goes_through_and_is_told_apart(traces):
    """A cancelled block is cancelled, not failed; a timeout is a timeout around it."""
    with pytest.raises(TimeoutError), tracing.span("outer"):
        async with asyncio.timeout(0.001), tracing.span("inner"):
            await asyncio.Event().wait()

    root = traces.one()
    assert (root.outcome, root.children[0].outcome) == ("timed_out", "cancelled")


def test_update_says_more_and_replaces(traces):
    """Input, output, name, level and attributes can be said later; the last word counts."""
    with tracing.span("s", input="early", a=1) as s:
        s.update(
            input="late", output={"n": 1}, name="better", level="warning", a=2, b=[1, {"c": 2}]
        )
        s.update(output={"n": 2}, status_message="slow")

    tree = traces.all()[0]
    (root,) = tree.roots
    assert (root.name, tree.summary.name) == ("better", "s")
    assert (root.input, root.output) == (b'"late"', b'{"n":2}')
    assert root.attributes == {
        "a": 2,
        "b": [1, {"c": 2}],
        "flow.level": "WARNING",
        "flow.status_message": "slow",
    }


def test_attributes_are_snapshots(traces):
    """What the program does to a value after it was noted does not show."""
    held = {"list": [1]}
    with tracing.span("s", input=held, held=held) as s:
        s.event("e", held=held)
        held["list"].append(2)

    root = traces.one()
    assert (root.input, root.attributes) == (b'{"list":[1]}', {"held": {"list": [1]}})
    assert root.events[0].attributes == {"held": {"list": [1]}}


class Hostile:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __str__(self):
        raise RuntimeError("no str")

    def __len__(self):
        raise RuntimeError("no len")


def test_nothing_is_raised_because_of_tracing(traces):
    """Whatever is given as a value or a name, the block runs; the rest is recorded."""
    bad = Hostile()
    cycle: list = []
    cycle.append(cycle)
    with tracing.span(bad, input=bad, a=bad, b=cycle, c=2**80, d="\ud800", e=object()) as s:
        s.update(output=bad, name=bad, level=bad, status_message=bad, usage=bad, cost=bad)
        s.update(parameters=bad, model=bad, self=1, limit=2, others=3)
        s.event(bad, x=bad)
    with tracing.generation(bad, model=bad, cost={bad: bad}, usage={bad: float("nan")}) as g:
        g.update(good=1)

    first, second = (tree.roots[0] for tree in traces.all())
    assert (first.outcome, first.attributes["others"], len(first.events)) == ("completed", 3, 1)
    assert second.attributes["good"] == 1


def test_a_value_that_says_its_repr(traces):
    """An object that JSON does not know is noted as its repr."""

    class Point:
        def __repr__(self):
            return "Point(1, 2)"

    with tracing.span("s", at=Point()):
        pass

    assert traces.one().attributes == {"at": "Point(1, 2)"}


def test_secrets_in_attributes_and_events_are_taken_out(traces):
    """What lies under a secret's name is not written, wherever it was noted."""
    with tracing.span("s", api_key="sk-1", deep={"password": "p"}) as s:
        s.event("login", token="t")

    root = traces.one()
    assert root.attributes == {"api_key": "[redacted]", "deep": {"password": "[redacted]"}}
    assert root.events[0].attributes == {"token": "[redacted]"}


def test_events_have_their_time_and_are_no_spans(traces):
    """Events are told in order inside their span, and are no children of it."""
    with tracing.span("s") as s:
        s.event("one", n=1)
        with tracing.span("below"):
            s.event("two")
    s.event("too late")

    (tree,) = traces.all()
    (root,) = tree.roots
    assert [(event.name, event.attributes) for event in root.events] == [
        ("one", {"n": 1}),
        ("two", {}),
    ]
    assert root.end_ns is not None
    assert root.start_ns <= root.events[0].at_ns <= root.events[1].at_ns <= root.end_ns
    assert [child.name for child in root.children] == ["below"]


def test_after_its_end_a_span_changes_no_more(traces):
    """Updates after the end are lost, without an error."""
    with tracing.span("s", a=1) as s:
        pass
    s.update(a=2, output=3, name="t")

    root = traces.one()
    assert (root.name, root.attributes, root.output) == ("s", {"a": 1}, None)


def test_a_span_that_nobody_ended_is_ended_when_it_goes(traces):
    """A forgotten span is not lost: it is there, cancelled, and marked as abandoned."""
    tracing.span("forgotten", input=1)
    gc.collect()

    root = traces.one()
    assert (root.outcome, root.attributes) == ("cancelled", {"abandoned": True})


def test_spans_left_in_the_wrong_order_leave_no_trace_of_it(traces, shape):
    """Entered a, b and left a, b: both end, and what comes after the node is not under them."""

    class Two(Node):
        def prep(self, shared):
            self.span = tracing.span("from prep to post")
            self.span.__enter__()

        def exec(self, prep_res):
            tracing.span("in exec").end()

        def post(self, shared, prep_res, exec_res):
            self.span.__exit__(None, None, None)
            tracing.span("in post").end()

    flow = trace_flow(Flow(start=Two()))
    flow.run({})

    two = traces.one().children[0]
    phases = {phase.span_id: phase.kind for phase in two.phases}
    assert {span.name: phases[span.parent_id] for span in two.children} == {
        "from prep to post": "prep",
        "in exec": "exec",
        "in post": "post",
    }


async def test_a_span_may_be_entered_in_one_task_and_left_in_another(traces):
    """As async fixtures do: no error, and the span is ended."""
    s = tracing.span("s")
    await asyncio.create_task(s.__aenter__())
    await asyncio.create_task(s.__aexit__(None, None, None))

    assert traces.one().outcome == "completed"
    assert current_span() is None


async def test_a_span_entered_twice_leaves_nothing_behind(traces):
    """Within itself, or by two tasks at once: no error, and it is current nowhere afterwards."""
    with tracing.span("top"):
        here = current_span()
        with tracing.span("twice") as s, s:
            pass
        assert current_span() == here
        shared = tracing.span("shared")
        both = asyncio.Barrier(2)

        async def work():
            before = current_span()
            async with shared:
                await both.wait()
            assert current_span() == before

        await asyncio.gather(work(), work())

    assert [child.name for child in traces.one().children] == ["twice", "shared"]


class Kept:
    """A sink that keeps what it is given."""

    is_closed = False

    def __init__(self):
        self.records = []

    def opened(self, record):
        pass

    def closed(self, record):
        self.records.append(record)


def test_attributes_count_as_content():
    """The buffer's bound on bytes holds for long attributes and events as well."""
    kept = Kept()
    with watching(Recorder(kept)), tracing.span("s", input="i" * 98, a="x" * 1000) as s:
        s.event("e", text=["x" * 998])

    assert [record.size // 100 for record in kept.records] == [10, 11]


def test_a_flow_inside_a_span_is_part_of_its_trace(traces, shape):
    """A plain flow and a traced one inside a span of its own trace hang below it."""

    class Step(Node):
        pass

    with tracing.span("request"):
        Flow(start=Step(), name="Plain").run({})
        trace_flow(Flow(start=Step(), name="Traced")).run({})

    root = traces.one()
    assert [(child.kind, len(child.children)) for child in root.children] == [("flow", 1)] * 2


def test_update_reaches_the_node_of_the_phase(traces, find, value):
    """`update` in exec notes on the node; what it says of input and output stays."""

    class Ask(Node):
        def prep(self, shared):
            return "long prompt"

        def exec(self, prep_res):
            tracing.update(input="short", model="m", usage={"input": 1}, tried=True)
            tracing.update(output="said")
            return "returned"

        def post(self, shared, prep_res, exec_res):
            assert (prep_res, exec_res) == ("long prompt", "returned")
            return "done"

    trace_flow(Flow(start=Ask())).run({})

    (ask,) = find(traces.one(), "Ask")
    assert (value(ask.input), value(ask.output)) == ("short", "said")
    assert ask.attributes == {
        "tried": True,
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 1,
        "action": "done",
    }


def test_update_in_a_span_reaches_that_span(traces):
    """Inside a span by hand it is that one which is updated, not the one around it."""
    with tracing.span("outer"):
        with tracing.span("inner"):
            tracing.update(a=1)
        tracing.update(a=2)

    root = traces.one()
    assert (root.attributes, root.children[0].attributes) == ({"a": 2}, {"a": 1})


def test_update_outside_every_span_hints_once(traces, caplog, monkeypatch):
    """It is no error; the log says once what to do."""
    monkeypatch.setattr(tracing, "_hinted", False)
    with caplog.at_level(logging.WARNING):
        tracing.update(a=1)
        tracing.update(a=1)

    (said,) = caplog.records
    assert "outside every traced run" in said.message


def test_when_tracing_is_off_all_of_it_does_nothing(monkeypatch, caplog):
    """The same calls work, have no ids, and leave results and errors alone."""
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    with tracing.span("s", input=1, a=1) as s, tracing.generation(model="m") as g:
        s.update(output=1, b=2)
        s.event("e", x=1)
        s.score("q", 1)
        g.first_token()
        tracing.update(a=1)
        assert (s.trace_id, s.span_id, current_span()) == (None, None, None)
    s.end()
    with pytest.raises(ValueError, match="mine"), tracing.span("s"):
        raise ValueError("mine")

    assert tracing.traced(lambda: 7)() == 7
    assert not caplog.records


def test_a_trace_that_is_left_out_has_no_spans(traces, monkeypatch):
    """Under a sample rate of 0 nothing inside begins a trace of its own."""
    monkeypatch.setenv("POCKETFLOW_TRACE_SAMPLE_RATE", "0")
    monkeypatch.setattr(tracing, "_SETTINGS", tracing._ByHand(None))
    with tracing.span("s"), tracing.span("below") as below:
        tracing.update(a=1)
        assert below.span_id is None

    assert not traces.path.exists()


def test_contents_that_are_not_wanted_are_not_noted(traces, monkeypatch):
    """`trace_inputs` and `trace_outputs` hold for spans by hand too."""
    monkeypatch.setenv("POCKETFLOW_TRACE_INPUTS", "false")
    monkeypatch.setenv("POCKETFLOW_TRACE_OUTPUTS", "false")
    monkeypatch.setattr(tracing, "_SETTINGS", tracing._ByHand(None))
    with tracing.span("s", input=1) as s:
        s.update(output=2)

    root = traces.one()
    assert (root.input, root.output) == (None, None)


async def test_an_update_from_many_threads_is_not_lost(traces):
    """Each of a hundred attributes noted at once is there."""
    with tracing.span("s") as s:
        await asyncio.gather(*(asyncio.to_thread(s.update, **{f"a{n}": n}) for n in range(100)))

    assert traces.one().attributes == {f"a{n}": n for n in range(100)}


def test_spans_still_open_are_shown_as_they_are(traces):
    """A reader sees a span that runs, with what was noted so far."""
    s = tracing.span("s", a=1)
    store = open_store(traces.path)
    assert store is not None
    reader = TraceReader(traces.path)
    found: list[Span] = []
    with tracing.span("other"):
        pass
    store.flush(30)
    for summary in reader.traces():
        found += [root for root in reader.trace(summary.trace_id).roots if root.name == "s"]
    s.end()

    assert [span.outcome for span in found] in ([], ["running"])


async def test_a_span_that_is_left_out_may_be_left_in_another_task(traces, monkeypatch):
    """The same calls as on a recorded span, with as little effect on the program."""
    monkeypatch.setenv("POCKETFLOW_TRACE_SAMPLE_RATE", "0")
    monkeypatch.setattr(tracing, "_SETTINGS", tracing._ByHand(None))
    s = tracing.span("s")
    await asyncio.create_task(s.__aenter__())
    await asyncio.create_task(s.__aexit__(None, None, None))
    with s, s:
        pass

    assert current_span() is None
