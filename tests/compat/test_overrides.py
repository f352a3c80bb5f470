"""Private hooks and public phases overridden: in subclasses, mixins, instances, after the fact."""

import asyncio

import engine_under_test as pf
import pytest
from engine_under_test import (
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
)


def run(runnable, shared=None):
    if isinstance(runnable, AsyncNode):
        return asyncio.run(runnable.run_async(shared))
    return runnable.run(shared)


# _exec


def test_an_overridden_exec_hook_replaces_retry_altogether(kind):
    """A subclass's `_exec` gets prep_res and decides exec_res; exec is run only if it says so."""
    made = kind.cls("Node", prep=lambda self, s: 4, post=lambda self, s, p, e: (p, e))
    if issubclass(made, AsyncNode):

        class Own(made):
            async def _exec(self, prep_res):
                return prep_res * 10

    else:

        class Own(made):
            def _exec(self, prep_res):
                return prep_res * 10

    assert kind.run(Own(), {}) == (4, 40)
    assert kind.run(kind.flow(Own()), {}) == (4, 40)


class Timed:
    """A mixin that wraps `_exec` and passes on."""

    def _exec(self, prep_res):
        self.log.append(("before", prep_res))
        result = super()._exec(prep_res)
        self.log.append(("after", result))
        return result


class AsyncTimed:
    """The same for async nodes."""

    async def _exec(self, prep_res):
        self.log.append(("before", prep_res))
        result = await super()._exec(prep_res)
        self.log.append(("after", result))
        return result


class Work(Node):
    def prep(self, shared):
        return 3

    def exec(self, prep_res):
        return prep_res + 1


class Items(BatchNode):
    def prep(self, shared):
        return [3, 4]

    def exec(self, item):
        return item + 1


class AsyncWork(AsyncNode):
    async def prep_async(self, shared):
        return 3

    async def exec_async(self, prep_res):
        return prep_res + 1


class AsyncItems(AsyncBatchNode):
    async def prep_async(self, shared):
        return [3, 4]

    async def exec_async(self, item):
        return item + 1


class ParallelItems(AsyncParallelBatchNode):
    async def prep_async(self, shared):
        return [3, 4]

    async def exec_async(self, item):
        return item + 1


@pytest.mark.parametrize("in_flow", [False, True], ids=["alone", "in a flow"])
@pytest.mark.parametrize(
    ("mixin", "base", "given", "result"),
    [
        (Timed, Work, 3, 4),
        (Timed, Items, [3, 4], [4, 5]),
        (AsyncTimed, AsyncWork, 3, 4),
        (AsyncTimed, AsyncItems, [3, 4], [4, 5]),
        (AsyncTimed, ParallelItems, [3, 4], [4, 5]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_mixin_before_the_base_wraps_the_whole_exec(mixin, base, given, result, in_flow):
    """`class X(Mixin, Base)`: the mixin's `_exec` is called once, with all of prep_res."""
    node = type("Mixed", (mixin, base), {})()
    node.log = []

    run(AsyncFlow(node) if in_flow else node)

    assert node.log == [("before", given), ("after", result)]


class PerItem(Node):
    """Comes after a batch base in the MRO, so it wraps each item."""

    def _exec(self, item):
        self.log.append(item)
        return super()._exec(item) * 100


class AsyncPerItem(AsyncNode):
    """The same for the async batches."""

    async def _exec(self, item):
        self.log.append(item)
        return (await super()._exec(item)) * 100


@pytest.mark.parametrize(
    ("base", "mixin"),
    [(Items, PerItem), (AsyncItems, AsyncPerItem), (ParallelItems, AsyncPerItem)],
    ids=lambda c: c.__name__,
)
def test_a_mixin_after_a_batch_base_wraps_each_item(base, mixin):
    """`class X(BatchBase, Mixin)`: an item is executed by `super()._exec`, the mixin's."""
    node = type("Mixed", (base, mixin), {})()
    node.log, seen = [], []
    node.post = lambda shared, p, e: seen.append(e)

    async def post_async(shared, p, e):
        seen.append(e)

    node.post_async = post_async
    run(node)

    assert node.log == [3, 4]
    assert seen == [[400, 500]]


def test_the_mixin_after_a_batch_base_keeps_the_retries_of_each_item():
    """The chain goes on to Node's own retry, item by item."""

    class Shaky(Items, PerItem):
        def exec(self, item):
            if self.cur_retry < 2:
                raise ValueError(item)
            return item

        def post(self, shared, prep_res, exec_res):
            return exec_res

    node = Shaky(3)
    node.log = []

    assert node.run({}) == [300, 400]
    assert node.log == [3, 4]


def test_two_mixins_nest_in_the_order_of_the_mro():
    """Cooperative mixins wrap each other, the first outermost."""
    log = []

    def mixin(name):
        def _exec(self, prep_res):
            log.append(f"{name} in")
            result = super(made, self)._exec(prep_res)
            log.append(f"{name} out")
            return result

        made = type(name, (), {"_exec": _exec})
        return made

    type("Both", (mixin("a"), mixin("b"), Work), {})().run({})

    assert log == ["a in", "b in", "b out", "a out"]


def test_a_batch_nodes_exec_hook_may_change_the_items():
    """A subclass may hand other items to `super()._exec`."""

    class Reversed(Items):
        def _exec(self, items):
            return super()._exec(items[::-1])

        def post(self, shared, prep_res, exec_res):
            return (prep_res, exec_res)

    assert Reversed().run({}) == ([3, 4], [5, 4])


@pytest.mark.parametrize("base", [AsyncItems, ParallelItems])
async def test_an_async_batch_nodes_exec_hook_may_change_the_items(base):
    """The same for the async batches."""

    class Reversed(base):
        async def _exec(self, items):
            return await super()._exec(items[::-1])

        async def post_async(self, shared, prep_res, exec_res):
            return (prep_res, exec_res)

    assert await Reversed().run_async({}) == ([3, 4], [5, 4])


def test_node_exec_can_be_called_as_a_function():
    """`Node._exec(self, x)` by class name runs one try loop, also on a batch node."""

    class Whole(Items):
        def _exec(self, items):
            return Node._exec(self, tuple(items))

        def exec(self, items):
            return ("all", items)

        def post(self, shared, prep_res, exec_res):
            return exec_res

    assert Whole().run({}) == ("all", (3, 4))


async def test_async_node_exec_can_be_called_as_a_function():
    """`AsyncNode._exec(self, x)` runs one try loop, also on an async batch node."""

    class Whole(AsyncItems):
        async def _exec(self, items):
            return await AsyncNode._exec(self, tuple(items))

        async def exec_async(self, items):
            return ("all", items)

        async def post_async(self, shared, prep_res, exec_res):
            return exec_res

    assert await Whole().run_async({}) == ("all", (3, 4))


# _run and _run_async


class Wrapped(Work):
    def _run(self, shared):
        shared.append("in")
        result = super()._run(shared)
        shared.append("out")
        return result or "wrapped"


class AsyncWrapped(AsyncWork):
    async def _run_async(self, shared):
        shared.append("in")
        result = await super()._run_async(shared)
        shared.append("out")
        return result or "wrapped"


@pytest.mark.parametrize("node", [Wrapped, AsyncWrapped])
@pytest.mark.parametrize("in_flow", [False, True], ids=["alone", "in a flow"])
def test_run_hooks_are_called_alone_and_in_flows(node, in_flow):
    """`_run` and `_run_async` of a subclass surround each visit and decide the action."""
    shared = []
    runnable = AsyncFlow(node()) if in_flow else node()

    assert run(runnable, shared) == "wrapped"
    assert shared == ["in", "out"]


def test_a_sync_flow_calls_run_hooks_too():
    """The same for a sync node in a Flow, whose action routes."""
    shared = []
    start = Wrapped()
    start - "wrapped" >> Wrapped()

    assert Flow(start).run(shared) == "wrapped"
    assert shared == ["in", "out"] * 2


@pytest.mark.parametrize(
    "cls", [Flow, BatchFlow, AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow]
)
def test_the_run_hook_of_a_nested_flow_is_called(cls):
    """A nested flow is run by `_run` or `_run_async`, never by its public `run`."""
    log = []

    class Own(cls):
        def run(self, shared):
            log.append("run")

        async def run_async(self, shared):
            log.append("run_async")

        def _run(self, shared):
            log.append("_run")

        async def _run_async(self, shared):
            log.append("_run_async")

    outer = AsyncFlow if issubclass(cls, AsyncNode) else Flow
    run(outer(Own()))

    assert log == ["_run_async" if issubclass(cls, AsyncNode) else "_run"]


# _orch, _orch_async, get_next_node


def test_orch_can_be_overridden_and_called():
    """`Flow._orch(shared, params=None)` runs the graph; what it gives is post's exec_res."""
    log = []

    class Twice(Flow):
        def _orch(self, shared, params=None):
            log.append(params)
            return [super()._orch(shared, params), super()._orch(shared, params)]

    assert Twice(Wrapped()).run([]) == ["wrapped", "wrapped"]
    assert log == [None]


async def test_orch_async_can_be_overridden_and_called():
    """`AsyncFlow._orch_async(shared, params=None)` is the async twin."""
    log = []

    class Twice(AsyncFlow):
        async def _orch_async(self, shared, params=None):
            log.append(params)
            return [
                await super()._orch_async(shared, params),
                await super()._orch_async(shared, params),
            ]

    assert await Twice(AsyncWrapped()).run_async([]) == ["wrapped", "wrapped"]
    assert log == [None]


def test_batch_flows_call_orch_once_per_item_with_the_merged_params():
    """Each item of a BatchFlow goes through `_orch`, with its params."""
    log = []

    class Own(BatchFlow):
        def prep(self, shared):
            return [{"i": 1}, {"i": 2}]

        def _orch(self, shared, params=None):
            log.append((shared, params))
            return super()._orch(shared, params)

    flow = Own(Work())
    flow.set_params({"k": 0})
    flow.run("shared")

    assert log == [("shared", {"k": 0, "i": 1}), ("shared", {"k": 0, "i": 2})]


@pytest.mark.parametrize("base", [AsyncBatchFlow, AsyncParallelBatchFlow])
async def test_async_batch_flows_call_orch_async_once_per_item(base):
    """Each item of an async batch flow goes through `_orch_async`, with its params."""
    log = []

    class Own(base):
        async def prep_async(self, shared):
            return [{"i": 1}, {"i": 2}]

        async def _orch_async(self, shared, params=None):
            log.append((shared, params))
            return await super()._orch_async(shared, params)

    flow = Own(AsyncWork())
    flow.set_params({"k": 0})
    await flow.run_async("shared")

    assert log == [("shared", {"k": 0, "i": 1}), ("shared", {"k": 0, "i": 2})]


def test_orch_called_by_hand_gives_the_last_action():
    """`flow._orch(shared, params)` runs the graph without the flow's phases."""
    seen = []

    class See(Node):
        def post(self, shared, prep_res, exec_res):
            seen.append(self.params)
            return "last"

    flow = Flow(See())
    flow.prep = flow.post = lambda *args: seen.append("phase")
    flow.set_params({"own": 1})
    params = {"given": 2}

    assert flow._orch({}) == "last"
    assert flow._orch({}, params) == "last"
    assert flow._orch({}, {}) == "last"
    assert flow._orch({}, params={"named": 3}) == "last"
    assert seen == [{"own": 1}, {"given": 2}, {"own": 1}, {"named": 3}]
    assert seen[1] is params


async def test_orch_async_called_by_hand_gives_the_last_action():
    """`flow._orch_async(shared, params)` is the same, awaited."""
    seen = []

    class See(AsyncNode):
        async def post_async(self, shared, prep_res, exec_res):
            seen.append(self.params)
            return "last"

    flow = AsyncFlow(See())
    params = {"given": 2}

    assert await flow._orch_async({}) == "last"
    assert await flow._orch_async({}, params) == "last"
    assert await flow._orch_async({}, params=params) == "last"
    assert seen == [{}, params, params]
    assert seen[1] is params


@pytest.mark.parametrize(
    "cls", [Flow, BatchFlow, AsyncFlow, AsyncBatchFlow, AsyncParallelBatchFlow]
)
def test_get_next_node_decides_the_way(cls):
    """An overridden `get_next_node` is asked with the visited copy and the raw action."""
    asked, ran = [], []

    class Step(Node):
        def __init__(self, name):
            super().__init__()
            self.label = name

        def post(self, shared, prep_res, exec_res):
            ran.append(self.label)

    a, b = Step("a"), Step("b")

    class Own(cls):
        def prep(self, shared):
            return [{}]

        async def prep_async(self, shared):
            return [{}]

        def get_next_node(self, curr, action):
            asked.append((curr.label, curr is a or curr is b, action))
            return b if curr.label == "a" else None

    run(Own(a))

    assert ran == ["a", "b"]
    assert asked == [("a", False, None), ("b", False, None)]


def test_what_get_next_node_gives_is_copied_too():
    """A node returned by an overridden `get_next_node` runs on a copy like any other."""

    class Mark(Node):
        def prep(self, shared):
            self.marked = True

    extra = Mark()

    class Own(Flow):
        def get_next_node(self, curr, action):
            return None if hasattr(curr, "marked") else extra

    Own(Node()).run({})

    assert not hasattr(extra, "marked")


@pytest.mark.parametrize("end", [None, False, 0, "", []], ids=repr)
@pytest.mark.parametrize("flow_class", [Flow, AsyncFlow])
def test_anything_falsy_from_get_next_node_ends_the_flow(flow_class, end):
    """`return action == "go" and other` is a way to write it: False ends the flow like None."""
    ran = []

    class Own(flow_class):
        def get_next_node(self, curr, action):
            return end

    start = Node()
    start.post = lambda *args: ran.append("start") or "last"
    start - "last" >> Node()

    assert run(Own(start), {}) == "last"
    assert run(flow_class(end), {}) is None
    assert ran == ["start"]


def test_get_next_node_may_fall_back_to_super(said):
    """An override that handles one action and passes the rest on keeps the warning."""
    ran = []
    help_node = Node()
    help_node.post = lambda *args: ran.append("help")

    class Own(Flow):
        def get_next_node(self, curr, action):
            return help_node if action == "help" else super().get_next_node(curr, action)

    for action in ("help", "other"):
        start = Node()
        start.post = lambda *args, action=action: action
        start >> Node()
        Own(start).run({})

    assert ran == ["help"]
    assert said() == ["Flow ends: 'other' not found in ['default']"]


# Hooks are called by position


class OddNames(BatchNode):
    """Every phase and hook, with parameter names of its own."""

    def set_params(self, x):
        super().set_params(x)

    def prep(self, store):
        store.append("prep")
        return [store]

    def exec(self, thing):
        thing.append("exec")
        raise ValueError("no")

    def exec_fallback(self, thing, why):
        thing.append("fallback")

    def post(self, store, first, second):
        store.append("post")

    def _exec(self, things):
        things[0].append("_exec")
        return super()._exec(things)

    def _run(self, store):
        store.append("_run")
        return super()._run(store)


class OddNamesAsync(AsyncBatchNode):
    """The same for an async node."""

    async def prep_async(self, store):
        store.append("prep")
        return [store]

    async def exec_async(self, thing):
        thing.append("exec")
        raise ValueError("no")

    async def exec_fallback_async(self, thing, why):
        thing.append("fallback")

    async def post_async(self, store, first, second):
        store.append("post")

    async def _exec(self, things):
        things[0].append("_exec")
        return await super()._exec(things)

    async def _run_async(self, store):
        store.append("_run")
        return await super()._run_async(store)


@pytest.mark.parametrize("node", [OddNames, OddNamesAsync])
def test_overridden_phases_and_hooks_may_name_their_parameters_as_they_like(node):
    """Everything is called by position: no parameter name is the engine's business."""
    shared = []
    run(AsyncFlow(node()), shared)

    assert shared == ["_run", "prep", "_exec", "exec", "fallback", "post"]


@pytest.mark.parametrize("flow_class", [Flow, AsyncFlow])
def test_a_flows_hooks_may_name_their_parameters_as_they_like(flow_class):
    """The same for the hooks of a flow."""

    class OddFlow(flow_class):
        def get_next_node(self, here, word):
            shared.append("get_next_node")
            return super().get_next_node(here, word)

        def post(self, store, first, second):
            store.append("post")

        async def post_async(self, store, first, second):
            store.append("post")

        async def _orch_async(self, store, ps=None):
            store.append("_orch")
            return await super()._orch_async(store, ps)

    if flow_class is Flow:

        def orch(self, store, ps=None):
            store.append("_orch")
            return Flow._orch(self, store, ps)

        OddFlow._orch = orch
    shared = []
    run(OddFlow(Node()), shared)

    assert shared == ["_orch", "get_next_node", "post"]


def test_a_batch_flows_orch_may_name_its_parameters_as_it_likes():
    """`_orch(self, s, p=None)` is called by position too."""
    log = []

    class Own(BatchFlow):
        def prep(self, store):
            return [{"i": 1}]

        def _orch(self, s, p=None):
            log.append(p)

    Own(Node()).run({})

    assert log == [{"i": 1}]


def test_set_params_is_called_on_each_visit():
    """An overridden `set_params` hears of the params of every visit, the flow's one dict."""
    heard = []

    class Own(Node):
        def set_params(self, params):
            heard.append(params)
            super().set_params({**params, "extra": True})

        def post(self, shared, prep_res, exec_res):
            return "again" if len(heard) < 2 else dict(self.params)["extra"]

    node = Own()
    node - "again" >> node
    node.next(Node(), True)
    flow = Flow(node)
    flow.set_params({"k": 1})
    flow.run({})

    assert heard == [{"k": 1}, {"k": 1}]
    assert heard[0] is heard[1]


def test_a_flows_own_phases_call_super():
    """`super().prep`, `super().post` and their async twins exist and give what they should."""

    class Own(Flow):
        def prep(self, shared):
            return super().prep(shared)

        def post(self, shared, prep_res, exec_res):
            return (prep_res, super().post(shared, prep_res, exec_res))

    class AsyncOwn(AsyncFlow):
        async def prep_async(self, shared):
            return await super().prep_async(shared)

        async def post_async(self, shared, prep_res, exec_res):
            return (prep_res, await super().post_async(shared, prep_res, exec_res))

    assert Own(Wrapped()).run([]) == (None, "wrapped")
    assert asyncio.run(AsyncOwn(Wrapped()).run_async([])) == (None, "wrapped")


# Assigned on instances


@pytest.mark.parametrize("flow_class", [None, Flow, AsyncFlow])
@pytest.mark.parametrize("phase", ["prep", "exec", "post", "_exec", "_run"])
def test_a_function_assigned_on_an_instance_replaces_the_method(flow_class, phase):
    """`node.post = lambda *a: …` counts, alone and on every copy in a flow."""
    node = Work()
    called = []
    setattr(node, phase, lambda *args: called.append(len(args)) or 3)

    run(flow_class(node) if flow_class else node)

    assert called == [{"prep": 1, "exec": 1, "post": 3, "_exec": 1, "_run": 1}[phase]]


@pytest.mark.parametrize("in_flow", [False, True], ids=["alone", "in a flow"])
@pytest.mark.parametrize("phase", ["prep_async", "exec_async", "post_async", "_exec", "_run_async"])
def test_a_coroutine_function_assigned_on_an_instance_replaces_the_method(in_flow, phase):
    """The same for async nodes."""
    node = AsyncWork()
    called = []

    async def replaced(*args):
        called.append(phase)
        return 3

    setattr(node, phase, replaced)
    run(AsyncFlow(node) if in_flow else node)

    assert called == [phase]


def test_a_fallback_assigned_on_an_instance_counts(pure):
    """`node.exec_fallback = …` replaces the fallback."""

    def fail(self, prep_res):
        raise ValueError("no")

    node = pure.node(2, exec=fail, post=lambda self, s, p, e: e)

    async def fallback_async(prep_res, exc):
        return f"fell: {exc}"

    node.exec_fallback = lambda prep_res, exc: f"fell: {exc}"
    node.exec_fallback_async = fallback_async

    assert pure.run(node, {}) == "fell: no"


@pytest.mark.parametrize("name", ["_orch", "prep", "post", "get_next_node"])
def test_flow_hooks_assigned_on_an_instance_count(name):
    """A flow's own hooks may be replaced on the instance, also when it is nested."""
    called = []
    flow = Flow(Work())
    setattr(flow, name, lambda *args: called.append(name))

    flow.run({})
    Flow(flow).run({})

    assert called == [name, name]


@pytest.mark.parametrize("name", ["_orch_async", "prep_async", "post_async"])
async def test_async_flow_hooks_assigned_on_an_instance_count(name):
    """The same for an AsyncFlow."""
    called = []

    async def replaced(*args):
        called.append(name)

    flow = AsyncFlow(AsyncWork())
    setattr(flow, name, replaced)
    await flow.run_async({})
    await AsyncFlow(flow).run_async({})

    assert called == [name, name]


def test_a_wrapper_around_the_original_method_counts_in_batches():
    """Tracers wrap bound methods: `original = node.exec; node.exec = wrapper`."""
    node, log = Items(), []
    original = node.exec

    def wrapper(item):
        log.append(item)
        return original(item)

    node.exec = wrapper
    node.post = lambda shared, p, e: log.append(e)
    Flow(node).run({})

    assert log == [3, 4, [4, 5]]


# Replaced on classes after the fact


SYNC_BASES = [(BaseNode, "_run"), (Node, "_exec"), (Node, "exec_fallback"), (BaseNode, "exec")]


@pytest.mark.parametrize("flow_class", [Flow, AsyncFlow])
@pytest.mark.parametrize(("owner", "name"), SYNC_BASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_method_replaced_on_an_engine_class_counts_for_existing_nodes(
    monkeypatch, flow_class, owner, name
):
    """Instrumentation patches `Node._exec` and its like after classes and nodes were made."""

    class Mine(Node):
        def post(self, shared, prep_res, exec_res):
            return "post"

    if name == "exec_fallback":
        Mine.exec = lambda self, prep_res: 1 / 0
    flow = flow_class(Mine())
    called = []
    monkeypatch.setattr(owner, name, lambda self, *args: called.append(type(self).__name__))

    run(flow)

    assert called == ["Mine"]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (AsyncNode, "_run_async"),
        (AsyncNode, "_exec"),
        (AsyncNode, "exec_async"),
        (AsyncNode, "prep_async"),
        (AsyncNode, "post_async"),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_an_async_method_replaced_on_an_engine_class_counts(monkeypatch, owner, name):
    """The same for the async classes."""

    class Mine(AsyncNode):
        pass

    flow, called = AsyncFlow(Mine()), []

    async def replaced(self, *args):
        called.append(type(self).__name__)

    monkeypatch.setattr(owner, name, replaced)
    run(flow)

    assert "Mine" in called


@pytest.mark.parametrize(
    ("owner", "name", "kind_of_flow"),
    [
        (Flow, "_orch", Flow),
        (Flow, "get_next_node", Flow),
        (Flow, "get_next_node", AsyncFlow),
        (Flow, "post", Flow),
        (Flow, "_run", Flow),
        (AsyncFlow, "_orch_async", AsyncFlow),
        (AsyncFlow, "_run_async", AsyncFlow),
        (AsyncFlow, "post_async", AsyncFlow),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_flow_method_replaced_on_an_engine_class_counts(monkeypatch, owner, name, kind_of_flow):
    """The same for the flows."""
    called = []

    async def replaced_async(self, *args):
        called.append(name)

    flow = kind_of_flow(Work())
    replacement = lambda self, *args: called.append(name)  # noqa: E731
    monkeypatch.setattr(owner, name, replaced_async if name.endswith("_async") else replacement)
    run(flow)

    assert called == [name]


def test_a_users_class_may_be_changed_after_its_nodes_were_made(monkeypatch, pure):
    """Assigning a method on a user's class works for its existing nodes."""
    cls = pure.cls("Node")
    node = cls()

    async def post_async(self, shared, prep_res, exec_res):
        return "new"

    monkeypatch.setattr(cls, "post", lambda self, s, p, e: "new", raising=False)
    monkeypatch.setattr(cls, "post_async", post_async, raising=False)

    assert pure.run(node, {}) == "new"
    assert pure.run(pure.flow(node), {}) == "new"


def test_the_engines_time_and_asyncio_are_the_modules_themselves():
    """Tests that patch `pocketflow.time.sleep` patch what the engine calls."""
    import time

    assert pf.time is time
    assert pf.asyncio is asyncio
