"""`traced`: functions of all four kinds, and generators in whatever way they come to an end."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import subprocess
import sys
import textwrap

import pytest

from pocketflow_async import AsyncFlow, AsyncNode
from tracing import current_span, trace_flow
from tracing import spans as tracing


def test_bare_and_with_arguments(traces, shape):
    """Both forms give the function a span; name and kind can be said."""

    @tracing.traced
    def plain(a):
        """Add one."""
        return a + 1

    @tracing.traced(name="look up", kind="tool")
    def other():
        return plain(1)

    assert other() == 2
    assert (plain.__name__, plain.__doc__) == ("plain", "Add one.")
    root = traces.one()
    assert shape(root) == (
        "tool",
        "look up",
        "completed",
        [("function", "plain", "completed")],
    )
    assert (root.children[0].input, root.children[0].output) == (b"1", b"2")


def test_arguments_and_results_can_be_left_out(traces):
    """What is not to be captured is not noted, in any kind of function."""
    quiet = tracing.traced(capture_input=False, capture_output=False)

    @quiet
    def plain(secret):
        return secret

    @quiet
    async def coroutine(secret):
        return secret

    @quiet
    def generator(secret):
        yield secret
        return secret

    assert plain(1) == 1
    assert asyncio.run(coroutine(1)) == 1
    assert list(generator(1)) == [1]
    for tree in traces.all():
        assert (tree.roots[0].input, tree.roots[0].output) == (None, None)


def test_kinds_of_functions_stay_what_they_are():
    """`inspect` sees the same kind of function as before."""

    async def coroutine():
        pass

    def generator():
        yield

    async def agen():
        yield

    assert inspect.iscoroutinefunction(tracing.traced(coroutine))
    assert inspect.isgeneratorfunction(tracing.traced(generator))
    assert inspect.isasyncgenfunction(tracing.traced(agen))


class Asked:
    async def __call__(self, question):
        with tracing.span("below"):
            await asyncio.sleep(0)
        return question


@pytest.mark.parametrize("make", [Asked, lambda: functools.partial(Asked().__call__, "q")])
async def test_callable_objects_and_partials(traces, make):
    """What is awaited is traced until it is done, not until it has made its coroutine."""
    call = tracing.traced(make())

    assert await (call("q") if make is Asked else call()) == "q"

    (below,) = traces.one().children
    assert below.name == "below"


def test_methods_of_all_kinds(traces):
    """It goes on methods, and below classmethod and staticmethod."""

    class Tool:
        @tracing.traced
        def own(self, a):
            return a

        @classmethod
        @tracing.traced
        def of_class(cls, a):
            return a

        @staticmethod
        @tracing.traced
        def static(a):
            return a

    assert (Tool().own(1), Tool.of_class(2), Tool.static(3)) == (1, 2, 3)
    assert [tree.summary.name for tree in traces.all()] == ["own", "of_class", "static"]


@pytest.mark.parametrize("target", [int, 3, classmethod(len)])
def test_what_is_no_function_is_refused(target):
    """The error says where the decorator goes."""
    with pytest.raises(TypeError, match="below @classmethod"):
        tracing.traced(target)


def test_kinds_of_the_engine_are_refused():
    """A hand-made span cannot pass for a node."""
    with pytest.raises(ValueError, match="kind cannot be 'node'"):
        tracing.traced(kind="node")
    with pytest.raises(TypeError, match="kind must be a string"):
        tracing.traced(kind=3)


def test_a_function_inside_a_traced_function(traces, shape):
    """It hangs below the caller, also where the caller is a `trace_flow` function."""

    @tracing.traced
    def inner():
        raise KeyError("k")

    @trace_flow
    def outer():
        with pytest.raises(KeyError):
            inner()

    outer()

    below = [("function", "inner", "failed")]
    assert shape(traces.one()) == ("function", "outer", "completed", below)


async def test_a_cancelled_function(traces):
    """Cancellation comes out as it is, and the span says so."""

    @tracing.traced
    async def wait():
        await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert traces.one().outcome == "cancelled"


def test_what_update_says_of_the_result_stays(traces):
    """`update(output=…)` in a traced function is not replaced by what it returns."""

    @tracing.traced
    def big():
        tracing.update(output="short")
        return "x" * 1000

    big()

    assert traces.one().output == b'"short"'


class Log(list):
    """What was said, and a way to wait for it."""

    def __init__(self):
        self.said = asyncio.Event()

    def append(self, entry):
        super().append(entry)
        self.said.set()


@pytest.fixture
def agen():
    """Return a traced async generator that waits as it closes, and the log of its closing."""
    log = Log()

    @tracing.traced
    async def numbers():
        try:
            for n in range(3):
                yield n
        finally:
            await asyncio.sleep(0)
            log.append(current_span())

    return numbers, log


async def test_an_async_generator_closed_in_another_task(traces, agen):
    """The span ends where it is closed, marked; its body is inside the span to its end."""
    numbers, log = agen
    running = numbers()
    assert await anext(running) == 0
    assert current_span() is None
    await asyncio.create_task(running.aclose())

    root = traces.one()
    assert (root.outcome, root.attributes) == ("completed", {"yielded": 1, "closed_early": True})
    assert log[0].span_id == root.span_id


async def test_an_async_generator_abandoned_in_a_running_loop(traces, agen):
    """The loop closes it soon after it is gone."""
    numbers, log = agen
    async for _ in numbers():
        break
    gc.collect()
    await log.said.wait()
    await asyncio.sleep(0)

    assert traces.one().attributes == {"yielded": 1, "closed_early": True}


def test_an_async_generator_open_at_the_end_of_its_loop(traces, agen, caplog):
    """The loop closes it in good order: its `finally` may await, and nobody complains."""
    numbers, log = agen
    held = []

    async def main():
        held.append(numbers())
        await anext(held[0])

    asyncio.run(main())

    assert len(log) == 1
    assert traces.one().attributes == {"yielded": 1, "closed_early": True}
    assert not caplog.records


def test_an_async_generator_that_outlives_its_loop(traces, agen):
    """Nobody can close it any more; its span ends when it is gone, cancelled and marked."""
    numbers, log = agen
    loop = asyncio.new_event_loop()
    running = numbers()

    async def step(numbers):
        await anext(numbers)

    loop.run_until_complete(step(running))
    loop.close()
    del running
    gc.collect()

    root = traces.one()
    assert (root.outcome, root.attributes) == ("cancelled", {"abandoned": True})
    assert not log


async def test_an_async_generator_answers_as_untraced(agen):
    """`asend`, `athrow` and `aclose` reach the body."""

    @tracing.traced
    async def echo():
        said = "start"
        while True:
            try:
                said = yield said
            except KeyError as error:
                said = repr(error)

    running = echo()
    assert await anext(running) == "start"
    assert await running.asend("a") == "a"
    assert await running.athrow(KeyError("k")) == "KeyError('k')"
    await running.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(running)


def test_a_generator_abandoned(traces):
    """One that nobody exhausts is closed as it goes, and its span with it."""

    @tracing.traced
    def numbers():
        yield 1
        yield 2

    running = numbers()
    next(running)
    del running
    gc.collect()

    assert traces.one().attributes == {"yielded": 1, "closed_early": True}


def test_a_generator_closed_late_in_another_context(traces):
    """Begun inside a span and closed after it, by another thread: it hangs where it began."""

    @tracing.traced
    def numbers():
        yield 1
        with tracing.span("never"):
            yield 2

    with tracing.span("top"):
        running = numbers()
        next(running)

    async def close():
        await asyncio.to_thread(running.close)

    asyncio.run(close())

    (child,) = traces.one().children
    assert (child.name, child.attributes["closed_early"]) == ("numbers", True)


def test_a_span_inside_a_generator_does_not_leak_between_steps(traces, find):
    """What the consumer does between two values is not under the generator's span."""

    @tracing.traced
    def numbers():
        yield 1
        yield 2

    with tracing.span("top"):
        for n in numbers():
            tracing.span(f"used {n}").end()

    assert {child.name for child in traces.one().children} == {"numbers", "used 1", "used 2"}


def test_nothing_is_said_at_the_end_of_the_process(child_env, traces):
    """Everything left open at exit: no warning, no error, and all of it is in the store."""
    program = """
        import asyncio
        from tracing import spans as tracing

        @tracing.traced
        def numbers():
            yield 1

        @tracing.traced
        async def anumbers():
            try:
                yield 1
            finally:
                await asyncio.sleep(0)

        async def main():
            global kept
            kept = anumbers()
            await anext(kept)

        asyncio.run(main())
        async def step():
            global outlived
            outlived = anumbers()
            await anext(outlived)

        loop = asyncio.new_event_loop()
        loop.run_until_complete(step())
        loop.close()
        open_generator = numbers()
        next(open_generator)
        loose = tracing.span("loose")
        entered = tracing.span("entered").__enter__()
    """
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        env=child_env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    # On a busy machine asyncio's debug mode says of any step that it was slow.
    said = [line for line in ran.stderr.splitlines() if not line.startswith("Executing <")]
    assert (ran.returncode, ran.stdout, said) == (0, "", [])
    outcomes = {(tree.summary.name, tree.roots[0].outcome) for tree in traces.all()}
    assert {name for name, _ in outcomes} == {"numbers", "anumbers", "loose", "entered"}
    assert not {outcome for _, outcome in outcomes} & {"running"}


def _streams():
    @tracing.traced
    def plain():
        with tracing.span("around"):
            yield current_span()
            with tracing.span("deeper"):
                yield current_span()

    @tracing.traced
    async def awaiting():
        with tracing.span("around"):
            yield current_span()
            with tracing.span("deeper"):
                yield current_span()

    return plain, awaiting


@pytest.mark.parametrize("left", ["exhausted", "closed"])
async def test_a_span_around_a_yield_is_not_the_callers(traces, find, left):
    """What a generator's body makes current stays inside it, however the generator is left."""
    plain, awaiting = _streams()

    class Reads(AsyncNode):
        async def exec_async(self, prep_res):
            before = current_span()
            seen, stream = [], plain()
            for here in stream:
                seen.append(here)
                assert current_span() == before
                if left == "closed":
                    break
            stream.close()
            assert current_span() == before
            stream = awaiting()
            async for here in stream:
                seen.append(here)
                assert current_span() == before
                if left == "closed":
                    break
            await stream.aclose()
            assert current_span() == before
            assert before not in seen
            return len(set(seen))

    await trace_flow(AsyncFlow(Reads(), name="Flow")).run_async({})
    await trace_flow(AsyncFlow(AsyncNode(), name="Later")).run_async({})

    first, later = [tree.roots[0] for tree in traces.all()]
    (node,) = first.children
    assert [child.name for child in node.children] == ["plain", "awaiting"]
    for stream in node.children:
        (around,) = stream.children
        assert around.name == "around"
        assert [child.name for child in around.children] == ([] if left == "closed" else ["deeper"])
    assert [child.name for child in later.children] == ["AsyncNode"]


def test_a_stream_outside_every_trace_leaves_nothing_current(traces):
    """The ordinary streaming pattern, again and again: each is a trace of its own."""
    plain, _ = _streams()
    for _ in range(3):
        for _ in plain():
            assert current_span() is None
        next(plain())
        assert current_span() is None

    assert len(traces.all()) == 6
