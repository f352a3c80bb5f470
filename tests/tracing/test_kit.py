"""`tracing.testing`: captures, trees as text, and expectations."""

import asyncio
import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, BatchNode, Flow, FlowError, Node
from tracing import TracingConfig, current_span, flush, trace_flow
from tracing.store import TraceReader
from tracing.testing import capture, expect, run

PLUGIN = "tracing.testing.plugin"


class Fetch(AsyncNode):
    async def exec_async(self, prep_res):
        if self.cur_retry < 2:
            raise ConnectionError(f"no answer from {object()!r}")
        return (1, 2)


class Sort(Node):
    def prep(self, shared):
        return {"api_key": "sk-123", "n": 1}

    def post(self, shared, prep_res, exec_res):
        return "sorted"


class Items(BatchNode):
    def prep(self, shared):
        return [0, 1]

    def exec(self, item):
        if item:
            raise ValueError("an item went wrong")


@trace_flow(flow_name="Orders")
class Orders(AsyncFlow):
    """Decorated when this module was imported, before any capture."""


def orders(last=None):
    fetch = Fetch(3, wait=10)
    after = fetch >> Sort()
    if last is not None:
        after - "sorted" >> last
    return Orders(fetch, ends=["sorted"])


ORDERS = """\
flow Orders: completed
  node Fetch: completed, 3 attempts
  node Sort: completed, -> sorted
"""


def test_a_capture_holds_what_ran_in_it(store_path):
    """A flow decorated earlier is captured, with all its spans; the usual store stays untouched."""
    with capture() as traces:
        run(orders().run_async({}))
        during = os.environ["POCKETFLOW_TRACE_STORE"]

    assert str(traces.one("Orders")) == ORDERS
    assert str(traces) == ORDERS
    assert not store_path.exists()
    assert during.startswith("memory:")
    assert os.environ["POCKETFLOW_TRACE_STORE"] == str(store_path)


def test_after_a_capture_the_usual_store_is_used_again(store_path):
    """The same flow object runs before, in and after a capture; the capture has one of them."""
    flow = trace_flow(Flow(Sort(), name="Again", ends=["sorted"]))
    flow.run({})
    with capture() as traces:
        flow.run({})
    flow.run({})
    flush(30)

    assert len(traces) == 1
    assert len(TraceReader(store_path).traces()) == 2


def test_it_captures_where_the_environment_names_no_store_or_none_at_all(monkeypatch):
    """Neither an unset variable nor `off` keeps a test from seeing its traces."""
    for value in ("", "off", None):
        if value is None:
            monkeypatch.delenv("POCKETFLOW_TRACE_STORE")
        else:
            monkeypatch.setenv("POCKETFLOW_TRACE_STORE", value)
        with capture() as traces:
            run(orders().run_async({}))
        assert len(traces) == 1
        assert os.environ.get("POCKETFLOW_TRACE_STORE") == value


def test_an_explicit_store_is_kept(tmp_path):
    """A config that names its own store writes there; one without goes to the capture."""
    with capture() as traces:
        trace_flow(TracingConfig(store=tmp_path / "own.db"), "Own")(Flow(Node())).run({})
        trace_flow(TracingConfig(session_id="s"), "Default")(Flow(Node())).run({})
        flush(30)

    assert traces.one().name == "Default"
    assert traces.one().summary.session_id == "s"
    assert TraceReader(tmp_path / "own.db").traces()[0].name == "Own"


def test_captures_nest():
    """The inner one takes all while it lasts; the outer one has what came before and after."""
    flow = trace_flow(flow_name="F")(Flow(Node()))
    with capture() as outer:
        flow.run({})
        with capture() as inner:
            flow.run({})
            flow.run({})
        flow.run({})

    assert (len(outer), len(inner)) == (2, 2)


def test_a_capture_ends_with_an_error_too():
    """The environment is as before, and what ran can still be looked at."""
    before = os.environ["POCKETFLOW_TRACE_STORE"]
    with pytest.raises(ZeroDivisionError), capture() as traces:
        trace_flow(Flow(Node())).run({})
        raise ZeroDivisionError

    assert os.environ["POCKETFLOW_TRACE_STORE"] == before
    assert len(traces) == 1


def test_what_still_runs_is_there():
    """A look from inside a node shows the open spans as running; later they are completed."""

    class Look(Node):
        def exec(self, prep_res):
            return str(traces)

    with capture() as traces:
        shared = {}
        flow = Flow(Look())
        flow.start_node.post = lambda shared, prep_res, seen: shared.update(seen=seen)
        trace_flow(flow_name="F")(flow).run(shared)

    assert shared["seen"] == "flow F: running\n  node Look: running\n"
    expect(traces.one()).outcome("completed")


def test_clear_forgets():
    """After `clear` only what is new is there."""
    flow = trace_flow(flow_name="F")(Flow(Node()))
    with capture() as traces:
        flow.run({})
        traces.clear()
        assert len(traces) == 0
        flow.run({})

    assert len(traces) == 1


def test_one_says_what_is_there():
    """No such trace, and more than one: the message lists the traces."""
    with capture() as traces:
        with pytest.raises(AssertionError, match=r"(?s)one trace, found none.*nothing was"):
            traces.one()
        run(orders().run_async({}))
        with pytest.raises(AssertionError, match="one trace named 'Other', found none") as wrong:
            traces.one("Other")
        assert ORDERS in str(wrong.value)
        run(orders().run_async({}))
        with pytest.raises(AssertionError, match="found 2 of them"):
            traces.one("Orders")


def test_find_says_what_is_there():
    """A span that is missing, or there twice, is named, and the tree is shown."""
    with capture() as traces:
        run(orders(Sort()).run_async({}))
        trace = traces.one()

    assert trace.find("Fetch").attempts == 3
    assert traces.find("Fetch").name == "Fetch"
    assert [span.name for span in trace.find_all("Sort")] == ["Sort", "Sort"]
    with pytest.raises(AssertionError, match="one span named 'Sort', found 2 of them"):
        trace.find("Sort")
    with pytest.raises(AssertionError, match=r"(?s)named .Srot., found none.*node Fetch: comp"):
        trace.find("Srot")


def test_the_same_program_gives_the_same_text():
    """Ids become numbers and addresses vanish, wherever they are: two runs, one text."""

    class Ids(Node):
        def exec(self, prep_res):
            return [*current_span(), object()]

    texts = []
    for _ in range(2):
        with capture() as traces:
            run(orders(Ids()).run_async({"object": object()}))
        texts.append(traces.one().tree(phases=True, contents=True))

    assert texts[0] == texts[1]
    assert '"trace-1","span-4.2"' in texts[0]
    failed = (
        "- exec 1: failed, ConnectionError: no answer from <object object at 0x…>, next in 10 s"
    )
    assert failed in texts[0]
    assert "sk-123" not in texts[0]


def test_times_are_shown_when_asked_for():
    """With `times` each line says when it began and how long it took."""
    with capture() as traces:
        run(orders().run_async({}))

    for line in traces.tree(times=True, phases=True).splitlines():
        assert line.endswith(" ms)")


def test_failures_items_and_fallbacks_are_in_the_text():
    """A failed item shows its place, and an error its class and message."""
    with capture() as traces:
        with pytest.raises(ValueError, match="an item"):
            trace_flow(flow_name="Batch")(Flow(Items(2))).run({})

        class Fallen(Node):
            def exec(self, prep_res):
                raise KeyError("x")

            def exec_fallback(self, prep_res, exc):
                return "instead"

        trace_flow(flow_name="Second")(Flow(Fallen())).run({})

    assert str(traces) == (
        "flow Batch: failed, ValueError: an item went wrong\n"
        "  node Items: failed, ValueError: an item went wrong\n"
        "    item Items[0]: completed\n"
        "    item Items[1]: failed, 2 attempts, ValueError: an item went wrong\n"
        "flow Second: completed\n"
        "  node Fallen: completed, fallback\n"
    )


def test_a_deep_trace_has_a_text():
    """Two hundred flows inside each other are shown, and found, without recursion."""
    flow = AsyncFlow(Sort(), name="Inner", ends=["sorted"])
    for _ in range(200):
        flow = AsyncFlow(flow, ends=["sorted"])
    with capture() as traces:
        asyncio.run(trace_flow(flow).run_async({}))

    assert len(str(traces).splitlines()) == 202
    assert traces.one().find("Sort").parent.name == "Inner"


def test_expectations_that_hold():
    """Every kind of expectation, in one chain each."""
    with capture() as traces:
        run(orders().run_async({"q": 1}))
        with pytest.raises(ValueError, match="an item"):
            trace_flow(flow_name="Batch")(Flow(Items())).run({})

    trace = traces.one("Orders")
    expect(trace).outcome("completed").kind("flow").parent(None).children(["Fetch", "Sort"])
    expect(trace).input({"q": 1}).output(lambda shared: shared["q"] == 1)
    expect(trace.find("Fetch")).attempts(3).output((1, 2)).fell_back(False).parent("Orders")
    expect(trace.find("Fetch")).retried_after(ConnectionError, OSError).waited(10, 10)
    expect(trace.find("Fetch")).phases(["prep", "exec", "exec", "exec", "post"])
    expect(trace.find("Sort")).action("sorted").attribute("action", "sorted")
    batch = traces.one("Batch")
    expect(batch).outcome("failed").raised(ValueError).raised(Exception, match="went wr?ong")
    expect(batch.root.children[0].children[1]).raised((KeyError, ValueError)).kind("item")


WRONG = {
    "outcome 'failed', found 'completed'": lambda e: e.outcome("failed"),
    "kind 'node', found 'flow'": lambda e: e.kind("node"),
    "attempts 1, found 0": lambda e: e.attempts(1),
    "phases \\['exec'\\], found \\['prep', 'post'\\]": lambda e: e.phases(["exec"]),
    "fell_back True, found False": lambda e: e.fell_back(),
    "parent 'X', found None": lambda e: e.parent("X"),
    "children \\[\\], found \\['Fetch', 'Sort'\\]": lambda e: e.children([]),
    "action 'x', found None": lambda e: e.action("x"),
    "input {'q': 2}, found {'q': 1}": lambda e: e.input({"q": 2}),
    "output a value that callable accepts, found {'q': 1}": lambda e: e.output(callable),
    "error ValueError, found none": lambda e: e.raised(ValueError),
    "retries 1, found 0": lambda e: e.retried_after(ValueError),
    "waits \\[1\\], found \\[\\]": lambda e: e.waited(1),
}


@pytest.mark.parametrize("message", WRONG)
def test_expectations_that_fail_say_what_was_there(message):
    """The message has the span, what was expected, what was found, and the tree."""
    with capture() as traces:
        run(orders().run_async({"q": 1}))

    with pytest.raises(AssertionError, match=f"flow 'Orders': expected {message}") as wrong:
        WRONG[message](expect(traces.one()))
    assert "node Fetch: completed, 3 attempts\n    - prep" in str(wrong.value)


def test_an_error_of_another_class_or_text_is_shown():
    """`raised` shows the error that was there; bases of a class will do, others will not."""
    with capture() as traces, pytest.raises(ValueError, match="an item"):
        trace_flow(Flow(Items())).run({})

    for wrong, match in ((FlowError, None), (ValueError, "other")):
        with pytest.raises(AssertionError, match="found ValueError: an item went wrong"):
            expect(traces.one()).raised(wrong, match)


def pytest_run(tmp_path, source, env, *args):
    file = tmp_path / "test_users.py"
    file.write_text(textwrap.dedent(source))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    installed = any(one.value == PLUGIN for one in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", PLUGIN]  # a tree that is only on the path
    options = ["-W", "error", *plugin, "--rootdir", tmp_path, *args, file]
    if "no:asyncio" not in args:
        options += ["-o", "asyncio_default_fixture_loop_scope=function"]
    return subprocess.run(
        [*command, *options], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100
    )


def test_the_fixtures_in_a_project_of_users(tmp_path, child_env):
    """`traces` and `fake_clock` work in sync tests and, by the documented hook, in async ones."""
    (tmp_path / "conftest.py").write_text(
        textwrap.dedent(
            """
            import asyncio
            from tracing.testing import FakeLoop

            def pytest_asyncio_loop_factories(config, item):
                fake = "fake_clock" in item.fixturenames
                return {"fake": FakeLoop} if fake else {"real": asyncio.new_event_loop}
            """
        )
    )
    done = pytest_run(
        tmp_path,
        """
        import asyncio
        import pytest
        from pocketflow_async import AsyncFlow, AsyncNode, Flow, Node
        from tracing import trace_flow
        from tracing.testing import FakeLoop, expect

        class Flaky(AsyncNode):
            async def exec_async(self, prep_res):
                await asyncio.sleep(3600)
                if self.cur_retry < 2:
                    raise ValueError("not yet")

        @trace_flow
        class Orders(AsyncFlow):
            pass

        def test_sync(traces, fake_clock):
            fake_clock.run(Orders(Flaky(3, wait=60)).run_async({}))
            expect(traces.one("Orders").find("Flaky")).attempts(3)
            assert fake_clock.waits == [60, 60]

        def test_sync_flow(traces, fake_clock):
            class Late(Node):
                def exec(self, prep_res):
                    raise ValueError
                def exec_fallback(self, prep_res, exc):
                    return 1
            trace_flow(Flow(Late(4, wait=1000))).run({})
            assert fake_clock.monotonic() == 3000

        @pytest.mark.asyncio
        async def test_async(traces, fake_clock):
            loop = asyncio.get_running_loop()
            assert isinstance(loop, FakeLoop)
            await Orders(Flaky(3, wait=60)).run_async({})
            assert loop.time() == fake_clock.monotonic() == 3 * 3600 + 2 * 60
            assert len(traces) == 1

        def test_none_of_it_is_left(traces):
            assert len(traces) == 0
        """,
        child_env,
        "-p",
        "no:randomly",
    )

    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_loads_nothing_for_those_who_do_not_use_it(tmp_path, child_env):
    """With the plugin there, a test that uses no fixture has neither store nor engine loaded."""
    done = pytest_run(
        tmp_path,
        """
        import sys

        def test_nothing():
            ours = {name for name in sys.modules if name.startswith(("tracing", "pocketflow"))}
            assert ours == {"tracing", "tracing.testing", "tracing.testing.plugin"}
            assert "sqlite3" not in sys.modules
            assert "orjson" not in sys.modules
        """,
        child_env,
        *("-p", "no:hypothesispytest", "-p", "no:randomly", "-p", "no:asyncio"),
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_spans_by_hand_and_scores_are_seen():
    """What is traced by hand is captured, with its scores and those of the whole trace."""
    from tracing.scores import score
    from tracing.spans import span

    with capture() as traces:
        with span("Outer"), span("Inner", input={"q": 1}):
            score("correct", True)
        score("helpful", 0.5, trace_id=traces.one().id)

    expect(traces.find("Inner")).parent("Outer").input({"q": 1}).score("correct", True)
    assert traces.one("Outer").scores == {"helpful": 0.5}
    with pytest.raises(AssertionError, match="expected score 'wrong' 1, found None"):
        expect(traces.find("Inner")).score("wrong", 1)


def test_flows_of_the_original_package_are_seen():
    """A flow of PocketFlow's own classes has the same text."""
    import pocketflow

    class First(pocketflow.Node):
        pass

    first = First()
    first >> First()
    with capture() as traces:
        trace_flow(flow_name="Original")(pocketflow.Flow(start=first)).run({})

    assert str(traces) == "flow Original: completed\n" + "  node First: completed\n" * 2
