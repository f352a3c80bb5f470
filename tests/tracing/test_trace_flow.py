"""`trace_flow`: what it may be put on, what it keeps, and that it changes nothing."""

import asyncio
import copy
import inspect
import logging
import pickle
import subprocess
import sys
import textwrap
import uuid

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
from pocketflow_async.hooks import active
from tracing import TracingConfig, counts, current_span, trace_flow
from tracing.store import open_store


class Step(AsyncNode):
    async def post_async(self, shared, prep_res, exec_res):
        shared["seen"] = shared.get("seen", 0) + 1
        return "end"


class Pickled(AsyncFlow):
    def __init__(self):
        super().__init__(start=Step())


@pytest.mark.parametrize("form", ["bare", "called", "named"])
async def test_all_forms_of_the_decorator(traces, form):
    """`@trace_flow`, `@trace_flow()` and `@trace_flow(flow_name=…)` all trace a class."""
    decorate = {"bare": trace_flow, "called": trace_flow(), "named": trace_flow(flow_name="X")}[
        form
    ]

    @decorate
    class Mine(AsyncFlow):
        pass

    await Mine(Step()).run_async({})

    assert traces.one().name == ("X" if form == "named" else "Mine")


async def test_positional_arguments_are_those_of_pocketflow_tracing(traces):
    """config, flow_name, session_id and user_id, in this order."""

    @trace_flow(TracingConfig(), "Name", "session", "user")
    class Mine(AsyncFlow):
        pass

    await Mine(Step()).run_async({})

    (tree,) = traces.all()
    found = tree.summary
    assert (found.name, found.session_id, found.user_id) == ("Name", "session", "user")


def test_a_class_stays_the_same_class():
    """The decorator gives back the class itself, with its names and documentation."""

    class Mine(AsyncFlow):
        """Words."""

        async def run_async(self, shared):
            """Run."""
            return await super().run_async(shared)

    assert trace_flow()(Mine) is Mine
    assert Mine.run_async.__doc__ == "Run."
    assert list(inspect.signature(Mine.run_async).parameters) == ["self", "shared"]
    assert inspect.iscoroutinefunction(Mine.run_async)


async def test_further_arguments_of_run_pass_through(traces):
    """An overridden run may take more than `shared`, by place and by name."""

    @trace_flow()
    class Mine(AsyncFlow):
        async def run_async(self, shared, extra, *, timeout=None):
            return (await super().run_async(shared), extra, timeout)

    assert await Mine(Step()).run_async({}, 1, timeout=2) == ("end", 1, 2)
    assert await Mine(Step()).run_async(shared={}, extra=3) == ("end", 3, None)


async def test_a_subclass_decorated_again_is_one_trace(traces, shape):
    """Both wrappers at work: one trace, both spans closed, the node under the inner one."""

    @trace_flow()
    class Base(AsyncFlow):
        pass

    @trace_flow(flow_name="Derived")
    class Derived(Base):
        pass

    await Derived(Step()).run_async({})

    root = traces.one()
    assert root.name == "Derived"
    assert root.outcome == "completed"


async def test_concurrent_and_later_nodes_are_seen(traces):
    """A node connected after a first run is traced in the second."""
    step = Step()
    flow = trace_flow(AsyncFlow(step, ends=["end"]))
    await flow.run_async({})
    step - "end" >> Step()
    await flow.run_async({})

    assert [len(tree.roots[0].children) for tree in traces.all()] == [1, 2]


async def test_an_object_is_traced_and_its_class_is_not(traces):
    """`trace_flow(flow)` concerns this object only."""
    mine = trace_flow(Pickled())
    await mine.run_async({})
    await Pickled().run_async({})

    assert traces.one().name == "Pickled"


async def test_a_traced_object_pickles_and_copies(traces):
    """It can still be pickled and deep-copied, and the twin runs itself, traced."""
    mine = trace_flow(Pickled())
    for twin in (pickle.loads(pickle.dumps(mine)), copy.deepcopy(mine)):
        assert type(twin).__name__ == "Pickled"
        assert isinstance(twin, Pickled)
        await twin.run_async({})

    assert [tree.summary.name for tree in traces.all()] == ["Pickled", "Pickled"]


async def test_a_copy_runs_itself(traces):
    """A shallow copy of a traced object runs its own nodes, and is traced."""
    mine = trace_flow(AsyncFlow(Step()))
    twin = copy.copy(mine)
    twin.start_node = Step(name="Other")
    await twin.run_async({})

    assert [child.name for child in traces.one().children] == ["Other"]


def test_an_objects_own_run_is_kept(traces):
    """A run assigned to the object itself is what runs, traced."""
    flow = Flow(Node())
    flow.run = lambda shared, extra=1: ("mine", extra)
    trace_flow(flow)

    assert flow.run({}, extra=2) == ("mine", 2)
    assert traces.one().attributes == {"result": "<tuple>"}


def test_a_traced_object_keeps_its_signature():
    """What looks at run_async still sees the coroutine function that it was."""
    plain, flow = AsyncFlow(Step()), trace_flow(AsyncFlow(Step()))

    assert inspect.iscoroutinefunction(flow.run_async)
    assert inspect.signature(flow.run_async) == inspect.signature(plain.run_async)


async def test_a_flows_own_name_is_the_traces(traces):
    """Without flow_name a flow's name= counts, and a subclass has its own."""

    @trace_flow()
    class Base(AsyncFlow):
        pass

    class Sub(Base):
        pass

    await Base(Step(), name="Given").run_async({})
    await Sub(Step()).run_async({})

    assert [tree.summary.name for tree in traces.all()] == ["Given", "Sub"]


def test_ids_may_be_numbers_and_uuids(traces):
    """They are recorded as text; anything else is refused where it is given."""
    user = uuid.uuid4()
    trace_flow(session_id=7, user_id=user)(Flow(Node())).run({})

    (tree,) = traces.all()
    assert (tree.summary.session_id, tree.summary.user_id) == ("7", str(user))
    with pytest.raises(TypeError, match="session_id must be a string"):
        trace_flow(session_id=object())


def test_static_and_class_methods(traces):
    """The decorator may stand above @staticmethod and @classmethod."""

    class Tools:
        @trace_flow
        @staticmethod
        def double(x):
            return 2 * x

        @trace_flow
        @classmethod
        def name(cls):
            return cls.__name__

    assert (Tools().double(4), Tools.double(4), Tools.name()) == (8, 8, "Tools")


async def test_a_node_shared_with_an_untraced_flow_stays_untraced(traces):
    """Nothing is patched: outside the traced flow its nodes leave no span."""
    step = Step()
    await trace_flow(AsyncFlow(step)).run_async({})
    await AsyncFlow(step).run_async({})
    assert set(vars(step)) == {"params", "successors", "max_retries", "wait"}
    await step.run_async({})

    assert len(traces.all()) == 1


async def test_a_config_is_neither_changed_nor_shared(traces):
    """Two flows with one config keep their own sessions; the config stays as it was."""
    config = TracingConfig(session_id="S0")

    @trace_flow(config, session_id="S1")
    class A(AsyncFlow):
        pass

    @trace_flow(config, session_id="S2")
    class B(AsyncFlow):
        pass

    await A(Step()).run_async({})
    await B(Step()).run_async({})
    config.session_id = "later"
    await A(Step()).run_async({})

    assert [tree.summary.session_id for tree in traces.all()] == ["S1", "S2", "S1"]


async def test_stores_of_two_configs_keep_apart(traces, tmp_path):
    """Each flow writes where its own config says."""
    config = TracingConfig(store=tmp_path / "other.db")
    await asyncio.gather(
        trace_flow(config)(Pickled()).run_async({}), trace_flow(Pickled()).run_async({})
    )

    assert len(traces.all()) == 1
    traces.path = tmp_path / "other.db"
    assert len(traces.all()) == 1


async def test_off_means_the_plain_path(monkeypatch, store_path):
    """With the store off nothing observes the run, and no file is made."""
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    seen = []

    class Look(AsyncNode):
        async def exec_async(self, prep_res):
            seen.append((active(), current_span()))

    await trace_flow(AsyncFlow(Look())).run_async({})

    assert seen == [(None, None)]
    assert not store_path.exists()


async def test_a_store_that_cannot_be_written_does_not_hurt_the_run(tmp_path, caplog):
    """A path below a regular file: one warning, and results as ever."""
    (tmp_path / "file").write_text("in the way")
    flow = trace_flow(TracingConfig(store=tmp_path / "file" / "traces.db"))(Pickled())
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            assert await flow.run_async({}) == "end"
        store = open_store(tmp_path / "file" / "traces.db")
        assert (await store.aflush(10)).failed == 40
        assert len(caplog.records) == 1
        assert store.close(0.5).dropped == 40

    assert "cannot be opened or created" in caplog.records[0].getMessage()
    assert "40 spans were lost" in caplog.records[1].getMessage()


@pytest.mark.parametrize("wrong", [3, "text", object()])
def test_it_refuses_what_cannot_be_run(wrong):
    """A clear error for anything that is no flow and no function."""
    with pytest.raises(TypeError, match="trace_flow goes on a flow class"):
        trace_flow()(wrong)
    with pytest.raises(TypeError, match="neither run nor run_async"):
        trace_flow()(int)


def test_a_plain_function(traces, value):
    """Arguments in, result out, under the function's name; an error is recorded and raised."""

    @trace_flow
    def divide(a, b=2):
        """Divide."""
        return a / b

    assert divide(6) == 3
    assert divide(a=1, b=4) == 0.25
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)

    first, second, third = [tree.roots[0] for tree in traces.all()]
    assert (first.kind, first.name, value(first.input), value(first.output)) == (
        "function",
        "divide",
        6,
        3,
    )
    assert value(second.input) == {"a": 1, "b": 4}
    assert (third.outcome, third.error.type) == ("failed", "ZeroDivisionError")
    assert divide.__doc__ == "Divide."
    assert list(inspect.signature(divide).parameters) == ["a", "b"]


async def test_an_async_function_holds_the_flows_it_runs(traces, shape):
    """The span of an async function lasts as long as its body, with flows run in it inside."""

    @trace_flow()
    async def handle(request):
        await AsyncFlow(Step(), name="Inner").run_async({})
        return "answer"

    assert inspect.iscoroutinefunction(handle)
    assert await handle("question") == "answer"
    assert shape(traces.one()) == (
        "function",
        "handle",
        "completed",
        [("flow", "Inner", "completed", [("node", "Step", "completed")])],
    )


def test_a_generator_function(traces, value):
    """Values, sends, throws and the return value pass; the span is current inside only."""
    inside = []

    @trace_flow
    def numbers(count):
        for number in range(count):
            inside.append(current_span())
            try:
                sent = yield number
            except KeyError:
                sent = "caught"
            if sent:
                yield sent
        return "done"

    def outer():
        result = yield from numbers(3)
        yield result

    assert inspect.isgeneratorfunction(numbers)
    run = outer()
    assert next(run) == 0
    assert current_span() is None
    assert run.send("hello") == "hello"
    assert next(run) == 1
    assert run.throw(KeyError("x")) == "caught"
    assert [next(run), next(run)] == [2, "done"]
    run.close()
    root = traces.one()
    assert {span.trace_id for span in inside} == {root.trace_id}
    assert (root.outcome, value(root.output), root.attributes) == (
        "completed",
        "done",
        {"yielded": 5},
    )


def test_a_generator_closed_early_or_failing(traces):
    """Closing it early runs its `finally` and ends the span; an error is its outcome."""
    closed = []

    @trace_flow
    def forever():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    @trace_flow
    def broken():
        yield 1
        raise ValueError("broken")

    run = forever()
    next(run)
    run.close()
    with pytest.raises(ValueError, match="broken"):
        list(broken())

    first, second = [tree.roots[0] for tree in traces.all()]
    assert closed == [True]
    assert (first.outcome, first.attributes["closed_early"]) == ("completed", True)
    assert (second.outcome, second.attributes["yielded"]) == ("failed", 1)


async def test_an_async_generator(traces, shape):
    """Consumed from different tasks, with asend and athrow; flows inside are its children."""

    @trace_flow
    async def pages(count):
        for page in range(count):
            await AsyncFlow(Step(), name=f"Page{page}").run_async({})
            try:
                got = yield page
            except KeyError:
                got = "caught"
            if got:
                yield got

    assert inspect.isasyncgenfunction(pages)
    stream = pages(3)
    assert await asyncio.create_task(anext(stream)) == 0
    assert current_span() is None
    assert await asyncio.create_task(stream.asend("hello")) == "hello"
    assert await anext(stream) == 1
    assert await stream.athrow(KeyError("x")) == "caught"
    assert [item async for item in stream] == [2]

    root = traces.one()
    assert [child.name for child in root.children] == ["Page0", "Page1", "Page2"]
    assert (root.outcome, root.attributes) == ("completed", {"yielded": 5})


async def test_an_async_generator_closed_early(traces):
    """Aclose runs its `finally`, awaits included, and ends the span."""
    closed = []

    @trace_flow
    async def forever():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(current_span() is not None)

    stream = forever()
    await anext(stream)
    await stream.aclose()

    assert closed == [True]
    assert traces.one().attributes == {"yielded": 1, "closed_early": True}


def test_tags_and_metadata_are_on_the_trace(traces):
    """They come back with the summary."""
    trace_flow(tags=["a", "b"], metadata={"version": 3})(Flow(Node())).run({})

    (tree,) = traces.all()
    assert tree.summary.tags == ("a", "b")
    assert tree.summary.metadata == {"version": 3}


def test_settings_come_from_the_environment(monkeypatch, traces):
    """With no config the environment counts, as it is at the first run."""

    @trace_flow()
    def work(text):
        return text

    monkeypatch.setenv("POCKETFLOW_SESSION_ID", "from-env")
    monkeypatch.setenv("POCKETFLOW_TRACE_INPUTS", "false")
    work("x")

    (tree,) = traces.all()
    assert tree.summary.session_id == "from-env"
    assert tree.roots[0].input is None


def test_a_wrong_environment_is_said_and_the_run_goes_on(monkeypatch, caplog):
    """A variable that makes no sense is named in the log; the function still runs."""
    monkeypatch.setenv("POCKETFLOW_TRACE_VALUE_LIMIT", "much")

    assert trace_flow(lambda: "ran")() == "ran"
    assert "POCKETFLOW_TRACE_VALUE_LIMIT must be a whole number, not 'much'" in caplog.text


def test_nothing_is_lost_at_the_end_of_a_process(child_env, traces, tmp_path):
    """A script that ends right after its run, without flush, leaves the whole trace."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from pocketflow_async import Flow, Node
            from tracing import trace_flow

            trace_flow(Flow(Node(), name="Short")).run({})
            """
        )
    )
    subprocess.run([sys.executable, script], env=child_env, check=True, timeout=60)

    root = traces.one()
    assert (root.outcome, [child.outcome for child in root.children]) == (
        "completed",
        ["completed"],
    )


def test_a_killed_process_leaves_what_was_done_and_what_was_open(child_env, traces, tmp_path):
    """After kill -9 in mid-run: finished spans are whole, open ones are marked interrupted."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, sys
            from pocketflow_async import AsyncFlow, AsyncNode
            from tracing import trace_flow
            from tracing.store import TraceReader

            class Quick(AsyncNode):
                async def exec_async(self, prep_res):
                    return "done"

            class Stuck(AsyncNode):
                async def exec_async(self, prep_res):
                    while True:
                        await asyncio.sleep(0.05)
                        try:
                            tree = TraceReader(sys.argv[1]).trace("")
                        except Exception:
                            continue
                        if len(tree.roots[0].children) == 2:
                            print("visible", flush=True)

            quick = Quick()
            quick >> Stuck()
            asyncio.run(trace_flow(flow_name="Killed")(AsyncFlow(quick)).run_async({}))
            """
        ).replace('.trace("")', ".trace(TraceReader(sys.argv[1]).traces()[0].trace_id)")
    )
    with subprocess.Popen(
        [sys.executable, script, traces.path], env=child_env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "visible\n"
        process.kill()

    root = traces.one()
    quick, stuck = root.children
    assert (root.outcome, quick.outcome, stuck.outcome) == (
        "interrupted",
        "completed",
        "interrupted",
    )
    assert quick.output == b'"done"'
    assert [(phase.kind, phase.outcome) for phase in stuck.phases] == [
        ("prep", "completed"),
        ("exec", "interrupted"),
    ]


def test_counts_say_what_became_of_the_records(traces):
    """`counts` and `flush` add up over the stores of the process."""
    before = counts()
    trace_flow(Flow(Node())).run({})
    traces.all()
    after = counts()

    assert after.stored - before.stored == 2
    assert after.dropped == before.dropped


class Secretive(AsyncNode):
    async def prep_async(self, shared):
        return "secret"


async def test_an_inner_flow_keeps_to_itself_what_its_own_config_says(traces, find, tmp_path):
    """Inside a traced run: off hides the inner run, contents off its contents, nodes included."""
    hidden = trace_flow(TracingConfig(store="off"))(AsyncFlow(Secretive(name="Hidden")))
    silent = trace_flow(TracingConfig(trace_inputs=False))(AsyncFlow(Secretive(name="Silent")))

    class Outer(AsyncNode):
        async def exec_async(self, prep_res):
            await hidden.run_async({})
            await silent.run_async({"key": "secret"})
            await AsyncFlow(Secretive(name="Open")).run_async({})

    await trace_flow(AsyncFlow(Outer())).run_async({})

    root = traces.one()
    assert find(root, "Hidden") == []
    assert [span.input for span in find(root, "Silent")] == [None]
    assert [span.input for span in find(root, "Open")] == [b'"secret"']


async def test_an_inner_flow_with_another_store_is_part_of_the_outer_trace(traces, find, tmp_path):
    """One run, one tree: all of it is where the outermost flow writes."""
    inner = trace_flow(TracingConfig(store=tmp_path / "b.db"))(AsyncFlow(Step(name="Inner")))

    class Outer(AsyncNode):
        async def exec_async(self, prep_res):
            await inner.run_async({})

    await trace_flow(AsyncFlow(Outer())).run_async({})

    assert len(find(traces.one(), "Inner")) == 1
    assert not (tmp_path / "b.db").exists()


async def test_a_class_and_its_subclass_both_decorated_have_one_span(traces, shape):
    """The run of one object is one span, however many decorators it passes."""

    @trace_flow()
    class Base(AsyncFlow):
        pass

    @trace_flow()
    class Derived(Base):
        pass

    await Derived(Step()).run_async({})

    assert shape(traces.one()) == ("flow", "Derived", "completed", [("node", "Step", "completed")])
