"""Flows of the original `pocketflow` do the same traced as untraced."""

import asyncio
import sys
import threading
import traceback
import warnings
from types import SimpleNamespace

import pytest

from tests.tracing.original_kit import HEAD, ORIGINALS
from tracing import TracingConfig, trace_flow


@pytest.fixture(params=ORIGINALS)
def pf(request):
    return ORIGINALS[request.param]


def both(make):
    """Run what *make* gives untraced, traced and untraced again; return the three results."""
    plain = make()
    traced = trace_flow(TracingConfig(store="memory"))(make)()
    return [plain, traced, make()]


def all_same(results):
    return all(result == results[0] for result in results)


def test_params_are_those_of_the_visit(pf):
    """Batch params reach the nodes, nested ones too (defect 1)."""

    def run():
        seen = []

        class Sees(pf.AsyncNode):
            async def prep_async(self, shared):
                seen.append(dict(self.params))

        class Rounds(pf.AsyncBatchFlow):
            async def prep_async(self, shared):
                return [{**self.params, "i": 1}, {"i": 2}]

        class Outer(pf.AsyncParallelBatchFlow):
            async def prep_async(self, shared):
                return [{"o": 1}, {"o": 2}]

        asyncio.run(Outer(Rounds(Sees())).run_async({}))
        return seen

    results = both(run)
    assert all_same(results)
    assert len(results[0]) == 4


def test_cur_retry_is_as_in_the_original(pf):
    """In exec, in the fallback, in post and afterwards (defect 2)."""

    def run():
        seen = []

        class Sees(pf.Node):
            def prep(self, shared):
                seen.append(hasattr(self, "cur_retry"))

            def exec(self, given):
                seen.append(self.cur_retry)
                raise ValueError

            def exec_fallback(self, given, exc):
                seen.append(("fallback", self.cur_retry))

            def post(self, shared, given, result):
                seen.append(("post", self.cur_retry))

        node = Sees(3)
        pf.Flow(node).run({})
        node.run({})
        return seen, node.cur_retry

    results = both(run)
    assert all_same(results)
    assert results[0][0][:4] == [False, 0, 1, 2]


def test_each_branch_has_its_own_node_state(pf):
    """What prep binds to `self` is this visit's (defect 3)."""

    def run():
        class Keeps(pf.AsyncNode):
            async def prep_async(self, shared):
                self.own = self.params["i"]
                await asyncio.sleep(0)

            async def post_async(self, shared, given, result):
                shared.append(self.own == self.params["i"])

        class Rounds(pf.AsyncParallelBatchFlow):
            async def prep_async(self, shared):
                return [{"i": i} for i in range(3)]

        shared = []
        asyncio.run(Rounds(Keeps()).run_async(shared))
        return shared

    assert both(run) == [[True] * 3] * 3


def test_warnings_are_the_same(pf):
    """Text, category, count, file and line."""

    def run():
        class Ends(pf.Node):
            def post(self, shared, given, result):
                return "end"

        first = Ends()
        first - "other" >> pf.Node()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pf.Flow(first).run({})
            first.run({})
            flow = pf.AsyncFlow(first)
            flow >> pf.AsyncNode()
            asyncio.run(flow.run_async({}))
        return [(str(w.message), w.category, w.filename, w.lineno) for w in caught]

    results = both(run)
    assert all_same(results)
    assert len(results[0]) == 4


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def test_siblings_go_on_when_one_fails(pf):
    """`gather` as in the original: the others finish after the caller has its error."""

    def run():
        log = []

        class Items(pf.AsyncParallelBatchNode):
            async def prep_async(self, shared):
                return [0, 1]

            async def exec_async(self, item):
                if not item:
                    raise KeyError(item)
                await turns(5)
                log.append("sibling")

        async def main():
            with pytest.raises(KeyError):
                await pf.AsyncFlow(Items()).run_async({})
            log.append("caught")
            await turns(9)

        asyncio.run(main())
        return log

    assert both(run) == [["caught", "sibling"]] * 3


def test_nothing_suspends_between_two_nodes(pf):
    """Between a node's post and the next one's prep no other branch runs."""

    def run():
        class Writes(pf.AsyncNode):
            async def exec_async(self, given):
                await asyncio.sleep(0)

            async def post_async(self, shared, given, result):
                shared["now"] = self.params["i"]

        class Reads(pf.AsyncNode):
            async def prep_async(self, shared):
                shared["same"].append(shared["now"] == self.params["i"])

        class Rounds(pf.AsyncParallelBatchFlow):
            async def prep_async(self, shared):
                return [{"i": i} for i in range(4)]

        node = Writes()
        node >> Reads()
        shared = {"same": []}
        asyncio.run(Rounds(node).run_async(shared))
        return shared["same"]

    assert both(run) == [[True] * 4] * 3


@pytest.mark.parametrize("wait", [0, 0.001])
def test_the_race_of_head_is_left_as_it_is(wait, monkeypatch):
    """HEAD's items share one `cur_retry`, and lose attempts by it; the trace changes nothing."""

    async def pause(seconds):  # instead of timers, which would not do the same twice
        await turns(3)

    monkeypatch.setattr(HEAD, "asyncio", SimpleNamespace(gather=asyncio.gather, sleep=pause))

    def run():
        tries = {}

        class Items(HEAD.AsyncParallelBatchNode):
            async def prep_async(self, shared):
                return list(range(5))

            async def exec_async(self, item):
                tries[item] = tries.get(item, 0) + 1
                for _ in range(item):
                    await asyncio.sleep(0)
                raise ValueError(item)

            async def exec_fallback_async(self, item, exc):
                return "fell"

            async def post_async(self, shared, given, result):
                shared["result"] = result

        shared = {}
        asyncio.run(HEAD.AsyncFlow(Items(3, wait)).run_async(shared))
        return tries, shared

    results = both(run)
    assert all_same(results)
    assert sum(results[0][0].values()) < 15


def test_errors_are_the_same_objects_with_the_same_context(pf):
    """The error, its context and its notes, of exec, fallback, prep, post and routing."""

    def run():
        found = []

        class Fails(pf.Node):
            def exec(self, given):
                raise ValueError("exec")

            def exec_fallback(self, given, exc):
                raise KeyError("fallback")

        class Routes(pf.Node):
            def post(self, shared, given, result):
                return {}.keys() or [1]

        class Plain(pf.Node):
            def exec(self, given):
                raise error

        error = OSError("one object")
        for node in (Fails(2), Routes(), Plain(2), pf.AsyncNode()):
            try:
                pf.Flow(node).run({})
            except Exception as caught:
                found.append(
                    (
                        type(caught),
                        str(caught),
                        caught is error,
                        type(caught.__context__),
                        type(caught.__cause__),
                        getattr(caught, "__notes__", None),
                    )
                )
        return found

    results = both(run)
    assert all_same(results)
    assert [kind for kind, *_ in results[0]] == [KeyError, TypeError, OSError, RuntimeError]


def test_what_classes_and_objects_override_is_called(pf):
    """Private methods of classes, and methods of single objects."""

    def run():
        log = []

        class Own(pf.Node):
            def _exec(self, given):
                log.append("_exec")
                return super()._exec(given)

            def _run(self, shared):
                log.append("_run")
                return super()._run(shared)

        class Mine(pf.AsyncFlow):
            async def _orch_async(self, shared, params=None):
                log.append("_orch_async")
                return await super()._orch_async(shared, params)

            def get_next_node(self, curr, action):
                log.append("next")
                return super().get_next_node(curr, action)

        node = Own()
        node.post = lambda *args: log.append("post")
        node.set_params = lambda params: log.append(params)
        flow = Mine(node)
        flow.post_async = flow.prep_async  # one argument more than it takes
        flow.set_params({"k": 1})
        try:
            asyncio.run(flow.run_async({}))
        except TypeError as error:
            log.append(str(error))
        return log

    results = both(run)
    assert all_same(results)
    assert len(results[0]) == 7


def nested(pf, depth):
    flow = pf.Flow(pf.Node())
    for _ in range(depth):
        flow = pf.Flow(flow)
    return flow


def test_flows_nest_as_deep(pf):
    """300 levels, traced and, with the gates in place, untraced."""
    assert both(lambda: nested(pf, 300).run({})) == [None] * 3


def test_a_level_costs_two_frames(pf):
    """As in the original, and as many in both."""

    def run():
        depths = []

        class Leaf(pf.Node):
            def prep(self, shared):
                depths.append(len(traceback.extract_stack()))

        pf.Flow(Leaf()).run({})
        pf.Flow(pf.Flow(pf.Flow(Leaf()))).run({})
        return depths[1] - depths[0]

    assert both(run) == [4, 4, 4]


def test_long_loops(pf):
    """20,000 visits in one run."""

    def run():
        class Loops(pf.Node):
            def post(self, shared, given, result):
                shared["n"] += 1
                return "again" if shared["n"] < 20_000 else None

        node = Loops()
        node - "again" >> node
        shared = {"n": 0}
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            pf.Flow(node).run(shared)
        return shared["n"]

    assert both(run) == [20_000] * 3


async def test_untraced_runs_beside_a_traced_one_use_the_original(pf, traces):
    """At the same time, in other tasks and threads: the original functions themselves."""
    used = {}
    at_work, gone_on = asyncio.Event(), asyncio.Event()

    class Looks(pf.AsyncNode):
        async def exec_async(self, given):
            used[self.params["who"]] = sys._getframe(1).f_code.co_filename
            if self.params["who"] == "traced":
                at_work.set()
                await gone_on.wait()

    def flow(who):
        made = pf.AsyncFlow(Looks())
        made.set_params({"who": who})
        return made

    running = asyncio.create_task(trace_flow(flow("traced")).run_async({}))
    await at_work.wait()
    await flow("task").run_async({})
    thread = threading.Thread(target=asyncio.run, args=(flow("thread").run_async({}),))
    thread.start()
    await asyncio.to_thread(thread.join)
    gone_on.set()
    await running

    assert used["task"] == used["thread"] == pf.__file__
    assert used["traced"].endswith("original_async.py")
    assert len(traces.all()) == 1


def test_coroutines_that_never_ran_are_warned_of_alike(pf):
    """An iterable that breaks in the middle leaves the same warning behind."""

    def run():
        class Items(pf.AsyncParallelBatchNode):
            async def prep_async(self, shared):
                def items():
                    yield 1
                    raise KeyError("middle")

                return items()

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(KeyError):
                asyncio.run(pf.AsyncFlow(Items()).run_async({}))
        return [str(warning.message) for warning in caught]

    results = both(run)
    assert all_same(results)
    assert results[0] == ["coroutine 'AsyncNode._exec' was never awaited"]


def test_methods_look_as_they_did(pf):
    """Outside of traced runs the classes give the original functions, of the original kind."""
    trace_flow(TracingConfig(store="memory"))(pf.Flow(pf.Node())).run({})

    assert pf.Node._exec.__code__.co_filename == pf.__file__
    assert asyncio.iscoroutinefunction(pf.AsyncNode()._run_async)
    assert pf.Flow._orch.__qualname__ == "Flow._orch"
    assert "_run" in dir(pf.Node)
