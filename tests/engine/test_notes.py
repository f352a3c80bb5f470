"""Notes on exceptions: which flow, node, phase and attempt an error came from."""

from __future__ import annotations

import asyncio
import pickle
import traceback

import pytest

from pocketflow_async import (
    AsyncBatchFlow,
    AsyncBatchNode,
    AsyncFlow,
    AsyncNode,
    AsyncParallelBatchFlow,
    AsyncParallelBatchNode,
    BaseNode,
    BatchFlow,
    BatchNode,
    Flow,
    Node,
    observing,
    parallel,
)
from tests.engine.engine_kit import FLOWS, NODES, run, subclass

both = pytest.mark.parametrize("colour", ["sync", "async"])


class Boom(Exception):
    pass


class Halt(BaseException):
    pass


def fails(*_):
    raise Boom("boom")


def notes_of(runnable, shared=None) -> list[str]:
    with pytest.raises(Boom) as caught:
        run(runnable, shared)
    return caught.value.__notes__


def failing(colour="sync", phase="exec", *args, base=None, name="N", **options):
    return subclass(base or NODES[colour], "Made", **{phase: fails})(*args, name=name, **options)


@both
@pytest.mark.parametrize(
    ("phase", "where"),
    [("prep", "prep"), ("exec", "exec, attempt 1 of 1"), ("post", "post")],
)
def test_the_note_names_the_node_and_phase(colour, phase, where):
    """Of a node that runs alone."""
    assert notes_of(failing(colour, phase)) == [f"in node N, {where}"]


@both
@pytest.mark.parametrize("phase", ["prep", "post"])
def test_a_flows_own_phases_are_named(colour, phase):
    """A flow's prep and post are phases like a node's."""
    flow = subclass(FLOWS[colour], **{phase: fails})(NODES[colour](), name="F")

    assert notes_of(flow) == [f"in flow F, node F, {phase}"]


@both
def test_the_note_counts_the_attempts(colour):
    """The last one, of how many."""
    assert notes_of(failing(colour, "exec", 3)) == ["in node N, exec, attempt 3 of 3"]


@both
def test_an_error_that_was_not_retried_says_so(colour):
    """It left at its first attempt, though more were allowed."""
    node = failing(colour, "exec", 3, retry_on=KeyError)

    assert notes_of(node) == ["in node N, exec, attempt 1 of 3"]


@both
def test_an_error_of_the_fallback_is_named_so(colour):
    """A new error of exec_fallback is the fallback's; exec's own raised again is exec's."""

    def again(self, prep_res, exc):
        raise exc

    new = subclass(NODES[colour], exec=lambda s, p: 1 / 0, exec_fallback=fails)(2, name="N")
    old = subclass(NODES[colour], exec=fails, exec_fallback=again)(2, name="N")

    assert notes_of(new) == ["in node N, exec_fallback, attempt 2 of 2"]
    assert notes_of(old) == ["in node N, exec, attempt 2 of 2"]


@both
def test_the_note_has_the_path_of_flows(colour):
    """Outermost first."""
    flow = failing(colour)
    for name in ("inner", "middle", "outer"):
        flow = FLOWS[colour](flow, name=name)

    assert notes_of(flow) == ["in flow outer > middle > inner, node N, exec, attempt 1 of 1"]


def test_synchronous_flows_inside_asynchronous_ones():
    """The path crosses from one to the other."""
    flow = AsyncFlow(Flow(failing(), name="sync"), name="async")

    assert notes_of(flow) == ["in flow async > sync, node N, exec, attempt 1 of 1"]


def test_a_threaded_node():
    """What a thread raises has the same note."""
    flow = AsyncFlow(failing("sync", "exec", 2, in_thread=True), name="F")

    assert notes_of(flow) == ["in flow F, node N, exec, attempt 2 of 2"]


@pytest.mark.parametrize("base", [BatchNode, AsyncBatchNode, AsyncParallelBatchNode])
def test_batch_nodes(base):
    """An item's error is that of the node's exec."""
    node = subclass(base, prep=lambda self, shared: [1], exec=fails)(2, name="N")

    assert notes_of(AsyncFlow(node, name="F")) == ["in flow F, node N, exec, attempt 2 of 2"]


@pytest.mark.parametrize("base", [BatchFlow, AsyncBatchFlow, AsyncParallelBatchFlow])
def test_batch_flows(base):
    """The batch flow is one name in the path."""
    flow = subclass(base, prep=lambda self, shared: [{}])(failing(), name="rounds")

    assert notes_of(flow) == ["in flow rounds, node N, exec, attempt 1 of 1"]


def test_branches():
    """The fan-out and a chain are names in the path."""
    chain = Node(name="first")
    chain >> failing()
    flow = AsyncFlow(parallel(chain, name="fan"), name="F")

    assert notes_of(flow) == ["in flow F > fan > first, node N, exec, attempt 1 of 1"]


def test_a_plain_base_node():
    """Without attempts there is only the phase."""
    node = subclass(BaseNode, "Bare", exec=fails)()

    assert notes_of(Flow(node, name="F")) == ["in flow F, node Bare, exec"]


@both
def test_a_flow_run_by_hand_has_a_note_of_its_own(colour):
    """Both places are told: where it arose, and the node it then left."""
    inner = FLOWS[colour](failing(colour), name="inner")
    if colour == "sync":
        by_hand = subclass(Node, exec=lambda self, p: inner.run({}))(name="outer")
    else:

        async def exec_(self, prep_res):
            await inner.run_async({})

        by_hand = subclass(AsyncNode, exec=exec_)(name="outer")

    assert notes_of(FLOWS[colour](by_hand, name="F")) == [
        "in flow inner, node N, exec, attempt 1 of 1",
        "in flow F, node outer, exec, attempt 1 of 1",
    ]


@both
def test_an_error_that_was_handled_has_no_further_notes(colour):
    """A fallback that answers keeps the error as it was."""
    kept = []
    node = subclass(NODES[colour], exec=fails, exec_fallback=lambda self, p, exc: kept.append(exc))
    run(FLOWS[colour](node(3)))

    assert not hasattr(kept[0], "__notes__")


@both
@pytest.mark.parametrize("watched", [False, True])
def test_an_error_object_raised_again_and_again_collects_no_notes(colour, watched):
    """A module-level exception keeps one note, however many runs and attempts raise it."""
    one = Boom("reused")

    def exec_(self, prep_res):
        raise one

    flow = FLOWS[colour](subclass(NODES[colour], exec=exec_)(3, name="N"), name="F")
    flow = FLOWS[colour](flow, name="G")
    for _ in range(5):
        with pytest.raises(Boom):
            if watched:
                with observing(lambda step: None):
                    run(flow)
            else:
                run(flow)

    assert one.__notes__ == ["in flow G > F, node N, exec, attempt 3 of 3"]


async def test_an_error_object_shared_by_concurrent_runs_collects_no_notes():
    """Raised in many tasks at once it keeps one note per place."""
    one = Boom("shared")

    async def exec_(self, prep_res):
        await asyncio.sleep(0)
        raise one

    flow = AsyncFlow(subclass(AsyncNode, exec=exec_)(name="N"), name="F")
    await asyncio.gather(*(flow.run_async({}) for _ in range(20)), return_exceptions=True)

    assert one.__notes__ == ["in flow F, node N, exec, attempt 1 of 1"]


def test_users_own_notes_are_kept():
    """They stay, and stay first."""

    def exec_(self, prep_res):
        error = Boom("x")
        error.add_note("mine")
        raise error

    assert notes_of(Flow(subclass(Node, exec=exec_)(name="N"), name="F")) == [
        "mine",
        "in flow F, node N, exec, attempt 1 of 1",
    ]


class NoSet(Boom):
    def __setattr__(self, name, value):
        raise RuntimeError("hands off")


class NoNotes(Boom):
    __notes__ = None


class OddNotes(Boom):
    def __init__(self, *args):
        super().__init__(*args)
        self.__notes__ = ("a tuple",)


class Everything(Boom):
    def __getattr__(self, name):
        return lambda *args, **kwargs: self


class NoAdd(Boom):
    def add_note(self, note):
        raise RuntimeError("hands off")


@both
@pytest.mark.parametrize("kind", [NoSet, NoNotes, OddNotes, Everything, NoAdd])
def test_an_exotic_exception_still_arrives(colour, kind):
    """A class that takes no notes costs the note, never the error."""
    error = kind("boom")

    def exec_(self, prep_res):
        raise error

    flow = FLOWS[colour](FLOWS[colour](subclass(NODES[colour], exec=exec_)(2)))

    async def main():
        return await flow.run_async({})

    with pytest.raises(Boom) as caught:
        asyncio.run(main()) if colour == "async" else flow.run({})
    assert caught.value is error


@both
def test_an_exception_with_notes_can_be_pickled(colour):
    """The notes cross to another process with it."""
    with pytest.raises(Boom) as caught:
        run(FLOWS[colour](failing(colour), name="F"))
    twin = pickle.loads(pickle.dumps(caught.value))

    assert type(twin) is Boom
    assert twin.args == ("boom",)
    assert twin.__notes__ == ["in flow F, node N, exec, attempt 1 of 1"]


def test_an_error_with_others_can_be_pickled():
    """Pickled it has no others, since any of them might not be; its note still tells of them."""

    async def exec_(self, item):
        await asyncio.sleep(0)
        raise Boom(item)

    node = subclass(AsyncParallelBatchNode, prep=lambda s, x: [1, 2, 3], exec=exec_)()
    with pytest.raises(Boom) as caught:
        run(node)
    twin = pickle.loads(pickle.dumps(caught.value))

    assert [other.args for other in caught.value.others] == [(2,), (3,)]
    assert twin.others == ()
    assert twin.__notes__ == caught.value.__notes__


@both
def test_the_note_shows_in_the_traceback(colour):
    """It is a plain PEP 678 note, and the error's own text is unchanged."""
    with pytest.raises(Boom) as caught:
        run(FLOWS[colour](failing(colour), name="F"))

    assert str(caught.value) == "boom"
    lines = "".join(traceback.format_exception(caught.value)).splitlines()
    assert lines[-1] == "in flow F, node N, exec, attempt 1 of 1"


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_base_exceptions_have_notes_too(colour, error):
    """Where the program was when it was interrupted."""

    def exec_(self, prep_res):
        raise error

    flow = FLOWS[colour](subclass(NODES[colour], exec=exec_)(2, name="N"), name="F")

    async def main():
        try:
            await flow.run_async({})
        except error as caught:
            return caught

    if colour == "async":
        caught = asyncio.run(main())
    else:
        with pytest.raises(error) as info:
            flow.run({})
        caught = info.value
    assert caught.__notes__ == ["in flow F, node N, exec, attempt 1 of 2"]


async def test_cancellation_tells_where_it_struck():
    """CancelledError has the note as well, so a log shows what was cut off."""
    started = asyncio.Event()

    async def exec_(self, prep_res):
        started.set()
        await asyncio.Event().wait()

    flow = AsyncFlow(subclass(AsyncNode, exec=exec_)(name="N"), name="F")

    async def main():
        try:
            await flow.run_async({})
        except asyncio.CancelledError as error:
            return error.__notes__

    task = asyncio.create_task(main())
    await started.wait()
    task.cancel()

    assert await task == ["in flow F, node N, exec, attempt 1 of 1"]


@both
@pytest.mark.parametrize("retries", [1, 3])
def test_the_note_of_an_interruption_does_not_depend_on_being_watched(colour, retries):
    """`exec, attempt 1 of 3` on the plain path too."""

    def exec_(self, prep_res):
        raise Halt

    flow = FLOWS[colour](subclass(NODES[colour], "N", exec=exec_)(retries), name="F")

    def notes():
        with pytest.raises(Halt) as caught:
            run(flow)
        return caught.value.__notes__

    with observing(lambda step: None):
        watched = notes()
    assert watched == [f"in flow F, node N, exec, attempt 1 of {retries}"]
    assert notes() == watched


@both
def test_a_node_that_catches_and_raises_anew_notes_the_new_error(colour):
    """The error that leaves is the one with the note; its cause keeps its own."""

    def exec_(self, prep_res):
        try:
            fails()
        except Boom as error:
            raise Boom("new") from error

    with pytest.raises(Boom, match="new") as caught:
        run(FLOWS[colour](subclass(NODES[colour], exec=exec_)(name="N"), name="F"))

    assert caught.value.__notes__ == ["in flow F, node N, exec, attempt 1 of 1"]
    assert not hasattr(caught.value.__cause__, "__notes__")
