"""`propagate`: session, user, tags and metadata for all that starts inside."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode, Flow, Node
from tracing import TracingConfig, carry, trace_flow
from tracing.propagation import propagate, propagated
from tracing.spans import span


class Step(Node):
    pass


def _own(found):
    """Return the attributes of a span but for what it says of its task."""
    return {name: said for name, said in found.attributes.items() if "task" not in name}


def test_a_trace_that_begins_inside_has_them(traces):
    """Session, user, tags and metadata are the trace's own, and its spans do not repeat them."""
    with propagate(session_id="s", user_id="u", tags=["a", "b"], metadata={"k": 1}):
        trace_flow(Flow(start=Step())).run({})
    assert propagated.get() is None

    (tree,) = traces.all()
    summary = tree.summary
    assert (summary.session_id, summary.user_id) == ("s", "u")
    assert (summary.tags, summary.metadata) == (("a", "b"), {"k": 1})
    assert tree.roots[0].children[0].attributes == {}


def test_they_come_before_what_was_set_for_all_runs(traces, monkeypatch):
    """Ids win over those of `trace_flow`, config and environment; tags and metadata are joined."""
    monkeypatch.setenv("POCKETFLOW_USER_ID", "everybody")
    flow = trace_flow(
        session_id="of all",
        tags=("nightly",),
        metadata={"k": "of all", "kept": 1},
    )(Flow(start=Step()))
    with propagate(session_id="s", user_id="u", tags=["x"], metadata={"k": "own"}):
        flow.run({})
    with propagate(tags=["x"]):
        flow.run({})

    first, second = (tree.summary for tree in traces.all())
    assert (first.session_id, first.user_id) == ("s", "u")
    assert (first.tags, first.metadata) == (("nightly", "x"), {"k": "own", "kept": 1})
    assert (second.session_id, second.user_id) == ("of all", "everybody")


async def test_spans_in_a_trace_from_outside_carry_them(traces, find):
    """Each node, item and span that starts inside the block has them, and no other has."""

    class Each(AsyncParallelBatchNode):
        async def prep_async(self, shared):
            return [0, 1]

        async def exec_async(self, item):
            with span("work"):
                await asyncio.sleep(0)

    with span("top"):
        async with propagate(session_id="s", tags=["t"], metadata={"k": [1]}):
            await AsyncFlow(start=Each()).run_async({})
        with span("after"):
            pass

    root = traces.one()
    said = {"session_id": "s", "tags": ["t"], "metadata": {"k": [1]}}
    assert root.attributes == {}
    assert find(root, "after")[0].attributes == {}
    (flow,) = find(root, "AsyncFlow")
    inside = [flow, *find(root, "Each"), *find(root, "work")]
    assert [found.kind for found in inside] == ["flow", "node", "item", "item", "span", "span"]
    assert [_own(found) for found in inside] == [said] * 6


async def test_what_a_node_adds_stays_beside_them(traces, find):
    """The action of a node, and its own attributes, do not displace what is propagated."""

    class Act(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            return "done"

    with span("top"), propagate(user_id="u"):
        await AsyncFlow(start=Act()).run_async({})
        with span("own", user_id="another"):
            pass

    root = traces.one()
    assert find(root, "Act")[0].attributes == {"user_id": "u", "action": "done"}
    assert find(root, "own")[0].attributes == {"user_id": "another"}


async def test_siblings_in_tasks_have_their_own(traces):
    """Under gather and TaskGroup no request sees another's session."""

    async def request(n):
        async with propagate(session_id=f"s{n}"):
            await asyncio.sleep(0)
            with span(f"r{n}"):
                await asyncio.sleep(0)
                await asyncio.gather(below(), asyncio.create_task(below()))

    async def below():
        with span("below"):
            await asyncio.sleep(0)

    with span("top"):
        await asyncio.gather(*(request(n) for n in range(4)))
        async with asyncio.TaskGroup() as group:
            for n in range(4, 8):
                group.create_task(request(n))

    children = traces.one().children
    assert len(children) == 8
    for child in children:
        mine = {"session_id": child.name.replace("r", "s")}
        assert [_own(found) for found in (child, *child.children)] == [mine] * 3


async def test_threads_have_them_with_their_context(traces):
    """`to_thread` and `carry` take them along; a bare thread does not."""

    def work(name):
        with span(name):
            pass

    with span("top"), propagate(user_id="u"):
        await asyncio.to_thread(work, "a")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(carry(work), "b").result()
            bare = threading.Thread(target=work, args=("bare",))
            bare.start()
            bare.join()

    trees = {tree.summary.name: tree for tree in traces.all()}
    assert [found.attributes for found in trees["top"].roots[0].children] == [{"user_id": "u"}] * 2
    assert trees["bare"].summary.user_id is None


def test_blocks_nest(traces):
    """Inner ids win, tags are united in order, metadata is merged; then the outer ones are back."""
    with span("top"):
        outer = propagate(session_id="s", user_id="u", tags=["a", "b"], metadata={"k": 1, "l": 1})
        with outer:
            with propagate(user_id="v", tags={"b", "c"}, metadata={"k": 2}), span("inner"):
                pass
            with span("outer"):
                pass

    inner, after = traces.one().children
    assert inner.attributes.pop("tags")[:2] == ["a", "b"]
    assert inner.attributes == {"session_id": "s", "user_id": "v", "metadata": {"k": 2, "l": 1}}
    assert after.attributes == {
        "session_id": "s",
        "user_id": "u",
        "tags": ["a", "b"],
        "metadata": {"k": 1, "l": 1},
    }


def test_one_block_may_be_entered_again(traces):
    """An object of it can be kept and used for several requests, and within itself."""
    block = propagate(user_id="u")
    for _ in range(2):
        with block, block, span("s"):
            pass

    assert [tree.summary.user_id for tree in traces.all()] == ["u", "u"]
    assert propagated.get() is None


def test_an_error_goes_through_and_ends_it():
    """The block hides nothing and leaves nothing behind."""
    with pytest.raises(KeyError), propagate(user_id="u"):
        raise KeyError

    assert propagated.get() is None


async def test_it_may_be_left_in_another_task():
    """As async fixtures do: no error."""
    block = propagate(user_id="u")
    await asyncio.create_task(block.__aenter__())
    await asyncio.create_task(block.__aexit__(None, None, None))

    assert propagated.get() is None


def test_metadata_is_noted_as_it_is_now(traces):
    """A later change of it does not show, and what JSON does not know is said in words."""
    held = {"list": [1], "o": TracingConfig}
    with propagate(metadata=held):
        held["list"].append(2)
        with span("s"):
            pass

    metadata = traces.all()[0].summary.metadata
    assert metadata["list"] == [1]
    assert isinstance(metadata["o"], str)


def test_secrets_in_metadata_are_taken_out(traces):
    """On spans as in traces."""
    with span("top"), propagate(metadata={"api_key": "sk"}), span("s"):
        pass

    assert traces.one().children[0].attributes == {"metadata": {"api_key": "[redacted]"}}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"session_id": 3}, TypeError, "session_id must be a string, not int"),
        ({"user_id": b"u"}, TypeError, "user_id must be a string, not bytes"),
        ({"session_id": ""}, ValueError, "session_id is empty"),
        ({"user_id": " "}, ValueError, "user_id is empty"),
        ({"tags": "beta"}, TypeError, "tags must be several strings, not 'beta'"),
        ({"tags": 3}, TypeError, "tags must be several strings"),
        ({"tags": ["a", 3]}, TypeError, "each of tags must be a string"),
        ({"tags": [""]}, ValueError, "each of tags is empty"),
        ({"metadata": ["a"]}, TypeError, "metadata must be a mapping, not list"),
        ({"metadata": {1: 2}}, TypeError, "each name in metadata must be a string, not 1"),
    ],
)
def test_what_cannot_be_is_refused_at_the_call(given, error, words):
    """The error comes where the block is made, and names the argument."""
    with pytest.raises(error, match=words):
        propagate(**given)


def test_with_tracing_off_it_does_nothing(monkeypatch):
    """The block runs all the same."""
    monkeypatch.setenv("POCKETFLOW_TRACE_STORE", "off")
    with propagate(user_id="u"), span("s"):
        Flow(start=Step()).run({})
