"""One node run by itself: the three phases, what they are given, what comes back."""

from types import SimpleNamespace

import pytest
from engine_under_test import AsyncNode, BaseNode, BatchNode, Node


def test_the_phases_run_in_order_and_feed_each_other(pure):
    """`prep` runs first, `exec` gets its result, `post` gets shared, prep's and exec's results."""
    seen = []

    def prep(self, shared):
        seen.append(("prep", shared))
        return "prepared"

    def exec_(self, prep_res):
        seen.append(("exec", prep_res))
        return "executed"

    def post(self, shared, prep_res, exec_res):
        seen.append(("post", shared, prep_res, exec_res))
        return "action"

    shared = {"k": "v"}
    result = pure.run(pure.node(prep=prep, exec=exec_, post=post), shared)

    assert seen == [
        ("prep", shared),
        ("exec", "prepared"),
        ("post", shared, "prepared", "executed"),
    ]
    assert result == "action"


@pytest.mark.parametrize(
    "value", [None, "", "default", 0, False, [], {}, ("a", 1), 3.5], ids=lambda v: repr(v)
)
def test_run_returns_what_post_returned(pure, value):
    """`run` returns post's value unchanged; None stays None and never becomes "default"."""
    node = pure.node(post=lambda self, shared, p, e: value)

    assert pure.run(node, {}) is value


@pytest.mark.parametrize(
    "shared",
    [None, {}, [1], "text", 7, SimpleNamespace(a=1), object()],
    ids=["None", "dict", "list", "str", "int", "namespace", "object"],
)
def test_shared_may_be_any_object(pure, shared):
    """Whatever is given as shared reaches prep and post as the very same object."""
    seen = []
    node = pure.node(
        prep=lambda self, s: seen.append(s),
        post=lambda self, s, p, e: seen.append(s),
    )

    pure.run(node, shared)

    assert len(seen) == 2
    assert all(s is shared for s in seen)


def test_phases_that_are_not_overridden_give_none(pure):
    """A bare node runs: every phase does nothing and gives None."""
    node = pure.node()

    assert pure.run(node, {}) is None


def test_missing_phases_pass_none_on(pure):
    """With no `prep`, `exec` gets None; with no `exec`, `post` gets None for both."""
    seen = []
    pure.run(pure.node(exec=lambda self, p: seen.append(p)), {})
    pure.run(pure.node(post=lambda self, s, p, e: seen.append((p, e))), {})

    assert seen == [None, (None, None)]


def test_one_run_shares_one_self(pure):
    """What prep puts on self is there in exec and post."""

    def prep(self, shared):
        self.path = ["prep"]

    def exec_(self, prep_res):
        self.path.append("exec")

    node = pure.node(prep=prep, exec=exec_, post=lambda self, s, p, e: self.path)

    assert pure.run(node, {}) == ["prep", "exec"]


def test_a_node_run_by_itself_is_not_copied(pure):
    """`run` on a node works on the node itself, so what it rebinds stays."""

    def prep(self, shared):
        self.runs += 1

    node = pure.node(prep=prep)
    node.runs = 0
    pure.run(node, {})
    pure.run(node, {})

    assert node.runs == 2


def test_run_takes_shared_as_keyword():
    """`run(shared=…)` is the same as `run(…)`."""

    class Give(Node):
        def post(self, shared, prep_res, exec_res):
            return shared["x"]

    assert Give().run(shared={"x": 4}) == 4


async def test_run_async_takes_shared_as_keyword():
    """`run_async(shared=…)` is the same as `run_async(…)`."""

    class Give(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            return shared["x"]

    assert await Give().run_async(shared={"x": 4}) == 4


def test_a_base_node_runs_exec_once_without_retry_or_fallback():
    """BaseNode has the three phases and nothing else: an error in exec leaves at once."""
    calls = []

    class Once(BaseNode):
        def exec(self, prep_res):
            calls.append(prep_res)
            raise ValueError("no")

        def exec_fallback(self, prep_res, exc):
            return "never"

    with pytest.raises(ValueError, match="no"):
        Once().run({})

    assert calls == [None]
    assert not hasattr(Once(), "max_retries")


def test_set_params_is_what_phases_see(pure):
    """A node run by itself sees the params set on it."""
    node = pure.node(post=lambda self, s, p, e: self.params)
    params = {"a": 1}
    node.set_params(params)

    assert pure.run(node, {}) is params


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
def test_an_error_leaves_run_as_it_was_raised(pure, phase):
    """The object raised in any phase is the object that the caller catches, arguments and all."""
    error = LookupError("key", 7)

    def fail(self, *args):
        raise error

    with pytest.raises(LookupError) as caught:
        pure.run(pure.node(**{phase: fail}), {})

    assert caught.value is error
    assert caught.value.args == ("key", 7)


@pytest.mark.parametrize(
    ("phase", "ran"), [("prep", []), ("exec", ["prep"]), ("post", ["prep", "exec"])]
)
def test_nothing_runs_after_a_phase_that_failed(pure, phase, ran):
    """An error ends the run: later phases never start."""
    seen = []

    def note(name):
        def run(self, *args):
            if name == phase:
                raise ValueError(name)
            seen.append(name)

        return run

    node = pure.node(**{name: note(name) for name in ("prep", "exec", "post")})
    with pytest.raises(ValueError, match=phase):
        pure.run(node, {})

    assert seen == ran


def test_an_error_that_refuses_notes_still_leaves_as_itself(pure):
    """An exception whose own `add_note` fails is not replaced by that failure."""

    class Prickly(Exception):
        def add_note(self, note):
            raise TypeError("no notes, please")

    def exec_(self, prep_res):
        raise Prickly("mine")

    with pytest.raises(Prickly, match="mine"):
        pure.run(pure.node(exec=exec_), {})


def test_stop_iteration_leaves_a_sync_node_as_it_is():
    """StopIteration is an error like any other: no generator turns it into RuntimeError."""

    class Exhausted(Node):
        def exec(self, prep_res):
            return next(iter(()))

    class ExhaustedItem(BatchNode):
        def prep(self, shared):
            return [1]

        def exec(self, item):
            return next(iter(()))

    with pytest.raises(StopIteration):
        Exhausted().run({})
    with pytest.raises(StopIteration):
        ExhaustedItem().run({})


def test_constructor_arguments_are_positional_or_named():
    """`Node(3, 0.5)` and `Node(max_retries=3, wait=0.5)` are the same."""
    for cls in (Node, AsyncNode, BatchNode):
        by_place, by_name = cls(3, 0.5), cls(max_retries=3, wait=0.5)
        assert (by_place.max_retries, by_place.wait) == (3, 0.5)
        assert (by_name.max_retries, by_name.wait) == (3, 0.5)


def test_a_subclass_may_have_a_constructor_of_its_own(pure):
    """A subclass keeps its own arguments and passes what it likes to `super().__init__`."""
    base = pure.base("Node")

    class Greeter(base):
        def __init__(self, name, *, punctuation="!"):
            super().__init__(max_retries=2)
            self.name, self.punctuation = name, punctuation

    node = Greeter("Ada", punctuation="?")

    assert (node.name, node.punctuation, node.max_retries, node.wait) == ("Ada", "?", 2, 0)


def test_every_phase_can_be_called_by_hand_with_its_documented_names():
    """Users' unit tests call phases directly, by position or by name."""

    class Upper(Node):
        def prep(self, shared):
            return shared["text"]

        def exec(self, prep_res):
            return prep_res.upper()

        def post(self, shared, prep_res, exec_res):
            shared["out"] = (prep_res, exec_res)

        def exec_fallback(self, prep_res, exc):
            return f"{prep_res}:{exc}"

    node, shared = Upper(), {"text": "a"}
    prepared = node.prep(shared=shared)
    node.post(shared=shared, prep_res=prepared, exec_res=node.exec(prep_res=prepared))

    assert shared["out"] == ("a", "A")
    assert node.exec_fallback(prep_res="p", exc="e") == "p:e"


def test_default_fallback_called_by_hand_raises_what_it_is_given():
    """`exec_fallback` as it comes raises its `exc`."""
    error = OSError("disk")

    with pytest.raises(OSError, match="disk") as caught:
        Node().exec_fallback("prep", error)

    assert caught.value is error


async def test_default_async_fallback_called_by_hand_raises_what_it_is_given():
    """`exec_fallback_async` as it comes raises its `exc`."""
    error = OSError("disk")

    with pytest.raises(OSError, match="disk") as caught:
        await AsyncNode().exec_fallback_async("prep", error)

    assert caught.value is error
