"""Any flow: traced it does what it does untraced, and its trace is a well-formed tree."""

import asyncio
import itertools
import warnings

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BatchNode,
    Flow,
    Node,
    parallel,
)
from tracing import TracingConfig, trace_flow
from tracing.store import TraceReader, open_store

RUNS = itertools.count()


class Trouble(Exception):
    pass


def work(node, log, name, fails, value):
    log.append((name, "exec", node.cur_retry, dict(node.params)))
    if node.cur_retry < fails:
        raise Trouble(name)
    return value


def plain(log, name, fails, tries, fallback, turns):
    class Plain(Node):
        def prep(self, shared):
            self.mark = name
            return shared["n"]

        def exec(self, n):
            return work(self, log, self.mark, fails, n + 1)

        def exec_fallback(self, n, exc):
            log.append((name, "fallback"))
            if not fallback:
                raise exc
            return -1

        def post(self, shared, n, result):
            shared["n"] = result
            log.append((name, "post", self.cur_retry))
            return "default"

    return Plain(tries)


def awaiting(log, name, fails, tries, fallback, turns):
    class Awaiting(AsyncNode):
        async def prep_async(self, shared):
            return shared["n"]

        async def exec_async(self, n):
            for _ in range(turns):
                await asyncio.sleep(0)
            return work(self, log, name, fails, n + 1)

        async def exec_fallback_async(self, n, exc):
            log.append((name, "fallback"))
            if not fallback:
                raise exc
            return -1

        async def post_async(self, shared, n, result):
            shared["n"] = result
            return "default"

    return Awaiting(tries)


def batch(kind):  # noqa: C901 (the eight methods of one class)
    def make(  # noqa: C901
        log, name, fails, tries, fallback, turns
    ):
        class Batch(kind):
            def prep(self, shared):
                return range(3)

            async def prep_async(self, shared):
                return range(3)

            def exec(self, item):
                return work(self, log, f"{name}.{item}", fails if item == 1 else 0, item)

            async def exec_async(self, item):
                for _ in range(turns):
                    await asyncio.sleep(0)
                return self.exec(item)

            def exec_fallback(self, item, exc):
                if not fallback:
                    raise exc
                return "fell"

            async def exec_fallback_async(self, item, exc):
                return self.exec_fallback(item, exc)

            def post(self, shared, items, results):
                shared["n"] = len(results)
                log.append((name, "post", results))

            async def post_async(self, shared, items, results):
                self.post(shared, items, results)

        return Batch(tries)

    return make


LEAVES = {
    "plain": plain,
    "awaiting": awaiting,
    "batch": batch(BatchNode),
    "parallel batch": batch(AsyncParallelBatchNode),
}
leaves = st.tuples(
    st.sampled_from(sorted(LEAVES)),
    st.integers(0, 2),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2),
)
HOLDERS = ["sequence", "side by side", "rounds", "parallel rounds", "loop", "timed"]
programs = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from(HOLDERS), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=7,
)


def chain(nodes):
    for one, other in itertools.pairwise(nodes):
        one >> other
    return nodes[0]


def build(spec, log, path="r"):
    kind, *rest = spec
    if kind in LEAVES:
        return LEAVES[kind](log, path, *rest)
    children = [build(child, log, f"{path}{n}") for n, child in enumerate(rest[0])]
    if kind == "side by side":
        return parallel(*children, concurrency=1)  # one at a time: else the log has no order
    if kind == "loop":

        class Again(Node):
            def post(self, shared, prep_res, exec_res):
                shared["loops"] = shared.get("loops", 0) + 1
                return "again" if shared["loops"] < 3 else "out"

        last = Again()
        first = chain([*children, last])
        last - "again" >> first
        return AsyncFlow(first, ends=["out"])
    if kind in ("rounds", "parallel rounds"):
        base = AsyncBatchFlow if kind == "rounds" else AsyncParallelBatchFlow

        class Rounds(base):
            async def prep_async(self, shared):
                return [{"round": 0}, {"round": 1}]

        options = {} if kind == "rounds" else {"concurrency": 1}
        return Rounds(chain(children), **options)
    return AsyncFlow(chain(children), **({"timeout": 60} if kind == "timed" else {}))


def outcome(run):
    """Return everything that a caller can see of a run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = run()
        except Trouble as error:
            result = (type(error), error.args, error.__notes__)
    return result, [str(warning.message) for warning in caught]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=programs)
def test_a_traced_flow_does_the_same_and_leaves_a_well_formed_tree(spec, tmp_path):
    """Same result, error, notes, warnings, calls and shared; one root, all ended, times nested."""
    seen = []
    path = tmp_path / f"{next(RUNS)}.db"
    for traced in (False, True):
        log, shared = [], {"n": 0}
        flow = AsyncFlow(build(spec, log), name="Root")
        if traced:
            trace_flow(TracingConfig(store=path), flow_name="Root")(flow)
        seen.append((outcome(lambda: asyncio.run(flow.run_async(shared))), log, shared))  # noqa: B023

    assert seen[0] == seen[1]
    store = open_store(path)
    store.close(30)
    reader = TraceReader(path)
    (summary,) = reader.traces()
    (root,) = reader.trace(summary.trace_id).roots
    failed = isinstance(seen[0][0][0], tuple)
    assert root.outcome == ("failed" if failed else "completed")
    check(root)


def check(span):
    assert span.outcome in ("completed", "failed", "cancelled")
    attempts = [phase for phase in span.phases if phase.kind == "exec"]
    assert [phase.attempt for phase in attempts] == list(range(len(attempts)))
    assert all(phase.outcome != "completed" for phase in attempts[:-1])
    for inner in (*span.children, *span.phases):
        assert span.start_ns <= inner.start_ns <= inner.end_ns <= span.end_ns
    for child in span.children:
        assert child.trace_id == span.trace_id
        check(child)


def test_sync_flows_too(tmp_path):
    """A plain Flow of plain nodes, traced and untraced."""
    for traced in (False, True):
        log, shared = [], {"n": 0}
        flow = Flow(chain([plain(log, name, 1, 2, False, 0) for name in "abc"]))
        if traced:
            trace_flow(TracingConfig(store=tmp_path / "x.db"))(flow)
        assert flow.run(shared) == "default"
        assert shared == {"n": 3}
        assert [entry[0] for entry in log] == [n for n in "abc" for _ in range(3)]
