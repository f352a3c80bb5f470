"""Retry, wait and fallback: how often exec runs, who is told, and what never retries."""

import asyncio
import sys
import traceback

import pytest
from engine_under_test import AsyncFlow, AsyncNode, Flow, Node


class Flaky:
    """An `exec` that fails *failures* times, then gives its argument."""

    def __init__(self, failures, error=ValueError):
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, prep_res):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"try {self.calls}")
        return prep_res

    @property
    def phase(self):
        return lambda node, prep_res: self(prep_res)


@pytest.mark.parametrize(("max_retries", "failures"), [(1, 0), (2, 1), (3, 1), (3, 2), (10, 9)])
def test_exec_is_tried_until_it_works(pure, max_retries, failures):
    """`max_retries` counts all tries; the first success ends them."""
    flaky = Flaky(failures)
    node = pure.node(max_retries, exec=flaky.phase, post=lambda self, s, p, e: e)

    pure.run(node, {})

    assert flaky.calls == failures + 1


@pytest.mark.parametrize("max_retries", [1, 2, 3, 7])
def test_the_last_error_is_raised_after_the_last_try(pure, max_retries):
    """With no fallback the last error leaves the node, after exactly `max_retries` tries."""
    flaky = Flaky(99)

    with pytest.raises(ValueError, match="try") as caught:
        pure.run(pure.node(max_retries, exec=flaky.phase), {})

    assert str(caught.value) == f"try {max_retries}"
    assert flaky.calls == max_retries


def test_the_fallback_gets_prep_res_and_the_last_error(pure):
    """After the last try the fallback is called once; its result is exec's result."""
    seen = []

    def fallback(self, prep_res, exc):
        seen.append((prep_res, str(exc)))
        return "instead"

    node = pure.node(
        3,
        prep=lambda self, s: "prepared",
        exec=Flaky(99).phase,
        exec_fallback=fallback,
        post=lambda self, s, p, e: e,
    )

    assert pure.run(node, {}) == "instead"
    assert seen == [("prepared", "try 3")]


def test_a_fallback_may_give_none(pure):
    """None from the fallback is a result, not a failure."""
    node = pure.node(
        2,
        exec=Flaky(99).phase,
        exec_fallback=lambda self, p, e: None,
        post=lambda self, s, p, e: ("post", e),
    )

    assert pure.run(node, {}) == ("post", None)


def test_no_fallback_when_a_try_works(pure):
    """The fallback is for the last failure only."""
    called = []
    node = pure.node(3, exec=Flaky(2).phase, exec_fallback=lambda self, p, e: called.append(1))

    pure.run(node, {})

    assert called == []


def test_an_error_in_the_fallback_leaves_with_the_first_as_its_context(pure):
    """An error raised by the fallback leaves at once, and Python shows what it was handling."""

    def fallback(self, prep_res, exc):
        raise KeyError("fallback")

    with pytest.raises(KeyError, match="fallback") as caught:
        pure.run(pure.node(2, exec=Flaky(99).phase, exec_fallback=fallback), {})

    assert isinstance(caught.value.__context__, ValueError)
    assert str(caught.value.__context__) == "try 2"


def test_the_fallback_runs_while_the_error_is_being_handled(pure):
    """In a fallback `sys.exc_info()` and `traceback.format_exc()` show the error."""
    seen = []

    def fallback(self, prep_res, exc):
        seen.append(sys.exc_info()[1] is exc)
        seen.append("ValueError: try 1" in traceback.format_exc())

    pure.run(pure.node(1, exec=Flaky(99).phase, exec_fallback=fallback), {})

    assert seen == [True, True]


def test_a_bare_raise_in_the_fallback_raises_the_error_again():
    """`raise` alone works in a sync fallback."""

    class Again(Node):
        def exec(self, prep_res):
            raise ValueError("first")

        def exec_fallback(self, prep_res, exc):
            raise

    with pytest.raises(ValueError, match="first"):
        Again().run({})


async def test_a_bare_raise_in_the_async_fallback_raises_the_error_again():
    """`raise` alone works in an async fallback."""

    class Again(AsyncNode):
        async def exec_async(self, prep_res):
            raise ValueError("first")

        async def exec_fallback_async(self, prep_res, exc):
            raise

    with pytest.raises(ValueError, match="first"):
        await Again().run_async({})


def test_tries_do_not_chain_their_errors(pure):
    """Each try starts afresh: no error is being handled, and the last one has no context."""
    handled = []

    def exec_(self, prep_res):
        handled.append(sys.exc_info()[1])
        raise ValueError(f"try {len(handled)}")

    with pytest.raises(ValueError, match="try 3") as caught:
        pure.run(pure.node(3, exec=exec_), {})

    assert handled == [None, None, None]
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("phase", ["prep", "post"])
def test_only_exec_is_retried(pure, phase):
    """An error in prep or post leaves at once, whatever `max_retries` says."""
    calls = []

    def fail(self, *args):
        calls.append(phase)
        raise ValueError(phase)

    with pytest.raises(ValueError, match=phase):
        pure.run(pure.node(5, **{phase: fail}), {})

    assert calls == [phase]


class Stop(BaseException):
    """Not an Exception: nobody but the caller may catch it."""


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_sync_node_never_retries_base_exceptions(error):
    """Only Exception is retried: anything else passes through after one try, with no fallback."""
    calls = []

    class Stopped(Node):
        def exec(self, prep_res):
            calls.append(1)
            raise error

        def exec_fallback(self, prep_res, exc):
            calls.append("fallback")

    with pytest.raises(error):
        Stopped(5).run({})

    assert calls == [1]


@pytest.mark.parametrize("error", [Stop, asyncio.CancelledError, GeneratorExit])
async def test_an_async_node_never_retries_base_exceptions(error):
    """CancelledError and its like pass through an async node after one try, with no fallback."""
    calls = []

    class Stopped(AsyncNode):
        async def exec_async(self, prep_res):
            calls.append(1)
            raise error

        async def exec_fallback_async(self, prep_res, exc):
            calls.append("fallback")

    with pytest.raises(error):
        await Stopped(5).run_async({})

    assert calls == [1]


async def test_cancelling_a_run_ends_it_in_the_middle_of_exec():
    """A cancelled run is cancelled: no retry, no fallback, no post."""
    started, seen = asyncio.Event(), []

    class Long(AsyncNode):
        async def exec_async(self, prep_res):
            started.set()
            await asyncio.Event().wait()

        async def exec_fallback_async(self, prep_res, exc):
            seen.append("fallback")

        async def post_async(self, shared, prep_res, exec_res):
            seen.append("post")

    task = asyncio.create_task(AsyncFlow(Long(3)).run_async({}))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert seen == []


@pytest.mark.parametrize(("max_retries", "failures"), [(3, 99), (3, 2), (2, 1), (1, 99)])
def test_a_wait_lies_between_tries_only(pure, naps, max_retries, failures):
    """`wait` seconds pass between two tries and never after the last one."""
    flaky = Flaky(failures)
    node = pure.node(max_retries, 0.25, exec=flaky.phase, exec_fallback=lambda self, p, e: None)

    pure.run(node, {})

    assert naps == [0.25] * (flaky.calls - 1)


@pytest.mark.parametrize("wait", [0, 0.0, -1])
def test_without_a_positive_wait_nothing_sleeps(pure, naps, wait):
    """A wait of 0 or less sleeps not at all."""
    pure.run(pure.node(3, wait, exec=Flaky(2).phase), {})

    assert naps == []


def test_whole_seconds_and_fractions_are_slept_as_given(pure, naps):
    """`wait` is seconds, int or float, handed on unchanged."""
    pure.run(pure.node(2, 3, exec=Flaky(1).phase), {})
    pure.run(pure.node(2, 0.125, exec=Flaky(1).phase), {})

    assert naps == [3, 0.125]


def test_wait_is_read_at_each_failure(pure, naps):
    """A node may grow its own `wait` from try to try."""

    def exec_(self, prep_res):
        self.wait *= 2
        raise ValueError("no")

    pure.run(pure.node(4, 1, exec=exec_, exec_fallback=lambda self, p, e: None), {})

    assert naps == [2, 4, 8]


def test_max_retries_set_in_prep_counts(pure):
    """A node may choose its own number of tries in prep."""
    flaky = Flaky(99)

    def prep(self, shared):
        self.max_retries = shared["tries"]

    node = pure.node(prep=prep, exec=flaky.phase, exec_fallback=lambda self, p, e: None)
    pure.run(node, {"tries": 4})

    assert flaky.calls == 4


@pytest.mark.parametrize("max_retries", [0, -1])
def test_no_tries_at_all_gives_none(pure, max_retries):
    """With `max_retries` 0 or less exec never runs, there is no error and post gets None."""
    called = []
    node = pure.node(
        max_retries,
        prep=lambda self, s: "prepared",
        exec=lambda self, p: called.append("exec"),
        exec_fallback=lambda self, p, e: called.append("fallback"),
        post=lambda self, s, p, e: (p, e),
    )

    assert pure.run(node, {}) == ("prepared", None)
    assert called == []


def test_retry_works_the_same_inside_a_flow(kind):
    """A node in a flow retries on its copy and hands its action on."""
    flaky, seen = Flaky(2), []
    first = kind.node(3, exec=flaky.phase, post=lambda self, s, p, e: "go")
    first - "go" >> kind.node(post=lambda self, s, p, e: seen.append("second"))

    kind.run(kind.flow(first), {})

    assert (flaky.calls, seen) == (3, ["second"])


def test_a_flow_never_retries():
    """`max_retries` on an AsyncFlow is there and unused: its nodes fail at once."""
    calls = []

    class Failing(AsyncNode):
        async def exec_async(self, prep_res):
            calls.append(1)
            raise ValueError("once")

    flow = AsyncFlow(Failing())
    flow.max_retries = 5
    with pytest.raises(ValueError, match="once"):
        asyncio.run(flow.run_async({}))

    assert calls == [1]


class Counting(Node):
    """Notes `cur_retry` in every phase."""

    def exec(self, prep_res):
        self.seen.append(("exec", self.cur_retry))
        raise ValueError("no")

    def exec_fallback(self, prep_res, exc):
        self.seen.append(("fallback", self.cur_retry))

    def post(self, shared, prep_res, exec_res):
        self.seen.append(("post", self.cur_retry))


class AsyncCounting(AsyncNode):
    """Notes `cur_retry` in every phase, with a turn of the loop before."""

    async def exec_async(self, prep_res):
        await asyncio.sleep(0)
        self.seen.append(("exec", self.cur_retry))
        raise ValueError("no")

    async def exec_fallback_async(self, prep_res, exc):
        await asyncio.sleep(0)
        self.seen.append(("fallback", self.cur_retry))

    async def post_async(self, shared, prep_res, exec_res):
        await asyncio.sleep(0)
        self.seen.append(("post", self.cur_retry))


_NO_ASYNC_COUNT = "PyPI 0.0.3 has no cur_retry on async nodes (git HEAD has)"
both = pytest.mark.parametrize(
    ("node_class", "flow_class"),
    [
        pytest.param(Counting, Flow, id="sync"),
        pytest.param(Counting, AsyncFlow, id="mixed"),
        pytest.param(
            AsyncCounting, AsyncFlow, id="async", marks=pytest.mark.fixed(_NO_ASYNC_COUNT)
        ),
    ],
)


def run(runnable, shared):
    if isinstance(runnable, AsyncNode):
        return asyncio.run(runnable.run_async(shared))
    return runnable.run(shared)


@both
@pytest.mark.parametrize("in_flow", [False, True], ids=["alone", "in a flow"])
def test_cur_retry_counts_from_zero_and_stays_for_fallback_and_post(
    node_class, flow_class, in_flow
):
    """`cur_retry` is 0, 1, 2 … in exec, and the last of them in the fallback and in post."""
    node = node_class(3)
    node.seen = []

    run(flow_class(node) if in_flow else node, {})

    assert node.seen == [("exec", 0), ("exec", 1), ("exec", 2), ("fallback", 2), ("post", 2)]


@both
def test_cur_retry_is_readable_after_the_run(node_class, flow_class):
    """From outside `node.cur_retry` tells which try was the last."""
    node = node_class(2)
    node.seen = []

    run(node, {})

    assert node.cur_retry == 1


@both
def test_cur_retry_of_a_success_is_the_try_that_worked(node_class, flow_class):
    """In post `cur_retry` is the number of the try that worked."""
    flaky, seen = Flaky(1), []
    name = "_async" if issubclass(node_class, AsyncNode) else ""

    def exec_(self, prep_res):
        return flaky(prep_res)

    async def exec_async(self, prep_res):
        return flaky(prep_res)

    phases = {"exec": exec_, "exec_async": exec_async}
    node = type("Works", (node_class,), {f"exec{name}": phases[f"exec{name}"]})(5)
    node.seen = seen
    run(flow_class(node), {})

    assert seen == [("post", 1)]


def test_cur_retry_does_not_exist_before_the_first_exec(kind):
    """In prep there is no `cur_retry` yet, on any visit, nor on a node that never ran."""
    seen = []

    def prep(self, shared):
        seen.append(hasattr(self, "cur_retry"))

    def post(self, shared, prep_res, exec_res):
        return "again" if len(seen) < 3 else "end"

    node = kind.node(prep=prep, post=post)
    node - "again" >> node
    node - "end" >> kind.node()
    kind.run(kind.flow(node), {})

    assert seen == [False, False, False]
    assert not hasattr(node, "cur_retry")


def test_a_run_in_a_flow_leaves_no_cur_retry_on_the_original(kind):
    """The count belongs to the visit's copy."""
    node = kind.node(2, exec=Flaky(1).phase)

    kind.run(kind.flow(node), {})

    assert "cur_retry" not in vars(node)
