"""Pickle, deepcopy and copy, and classes that say themselves how they are copied."""

import abc
import asyncio
import copy
import copyreg
import dataclasses
import gc
import itertools
import pickle
import threading
import typing
import weakref

import engine_under_test as pf
import pytest
from engine_under_test import AsyncFlow, AsyncNode, AsyncParallelBatchNode, BatchNode, Flow, Node

CLASSES = [
    "BaseNode",
    "Node",
    "BatchNode",
    "Flow",
    "BatchFlow",
    "AsyncNode",
    "AsyncBatchNode",
    "AsyncParallelBatchNode",
    "AsyncFlow",
    "AsyncBatchFlow",
    "AsyncParallelBatchFlow",
]


class Count(Node):
    """Counts its visits in shared and loops until there are three."""

    def __init__(self, step):
        super().__init__(max_retries=2)
        self.step = step

    def post(self, shared, prep_res, exec_res):
        shared["n"] = shared.get("n", 0) + self.step
        return "again" if shared["n"] < 3 * self.step else "done"


class Say(AsyncNode):
    """Gives its word."""

    def __init__(self, word):
        super().__init__()
        self.word = word

    async def post_async(self, shared, prep_res, exec_res):
        return self.word


def counting_flow(step=2):
    """A loop, a branch and a nested async flow."""
    node = Count(step)
    node - "again" >> node
    node - "done" >> AsyncFlow(Say("said"))
    return AsyncFlow(node)


COPIES = {
    **{f"pickle {n}": lambda x, n=n: pickle.loads(pickle.dumps(x, n)) for n in range(6)},
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
def test_a_flow_comes_back_whole(duplicate):
    """A graph with a loop and a nested flow survives and runs as before."""
    flow = counting_flow()
    twin = duplicate(flow)
    shared = {}

    assert asyncio.run(twin.run_async(shared)) == "said"
    assert shared == {"n": 6}
    assert twin.start_node is not flow.start_node
    assert twin.start_node.successors["again"] is twin.start_node


@pytest.mark.parametrize("duplicate", [*COPIES.values(), copy.copy], ids=[*COPIES.keys(), "copy"])
@pytest.mark.parametrize("name", CLASSES)
def test_every_class_comes_back_with_the_same_attributes(name, duplicate):
    """Each class, as it comes, survives every way of copying with its `vars()`."""
    thing = getattr(pf, name)()
    twin = duplicate(thing)

    assert type(twin) is type(thing)
    assert twin is not thing
    assert vars(twin) == vars(thing)


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
def test_a_flow_that_has_run_comes_back_too(duplicate):
    """Running leaves nothing behind that cannot be copied."""
    flow, node = counting_flow(), Count(1)
    asyncio.run(flow.run_async({}))
    node.run({})

    assert asyncio.run(duplicate(flow).run_async({})) == "said"
    assert vars(duplicate(node)) == vars(node)


def test_a_shallow_copy_shares_the_graph():
    """`copy.copy(flow)` is another flow over the same nodes and dicts."""
    flow = counting_flow()
    twin = copy.copy(flow)

    assert twin.start_node is flow.start_node
    assert twin.params is flow.params
    assert twin.successors is flow.successors


def test_deepcopies_do_not_share_state():
    """A deep copy has lists, params and successors of its own."""
    node = Count(1)
    node.items = [1]
    node.set_params({"a": [1]})
    twin = copy.deepcopy(node)
    twin.items.append(2)
    twin.params["a"].append(2)

    assert (node.items, node.params) == ([1], {"a": [1]})


def twins(node):
    """The attributes of *node* after each way of copying."""
    copies = [pickle.loads(pickle.dumps(node)), copy.deepcopy(node), copy.copy(node)]
    return [set(vars(twin)) - {"cur_retry"} for twin in copies]


class Itself(AsyncParallelBatchNode):
    """Copies itself every possible way while its items are under way."""

    async def prep_async(self, shared):
        return range(3)

    async def exec_async(self, item):
        await asyncio.sleep(0)
        return twins(self)

    async def post_async(self, shared, prep_res, exec_res):
        shared.extend([*itertools.chain.from_iterable(exec_res), *twins(self)])


class ItselfSync(BatchNode):
    """The same for a sync node."""

    def prep(self, shared):
        return range(3)

    def exec(self, item):
        return twins(self)

    def post(self, shared, prep_res, exec_res):
        shared.extend([*itertools.chain.from_iterable(exec_res), *twins(self)])


@pytest.mark.parametrize("in_flow", [False, True], ids=["alone", "in a flow"])
@pytest.mark.parametrize("cls", [Itself, ItselfSync])
def test_a_node_can_be_copied_while_it_runs(cls, in_flow):
    """In the middle of exec a node holds nothing but plain attributes."""
    runnable, seen = AsyncFlow(cls(2)) if in_flow else cls(2), []
    if isinstance(runnable, AsyncNode):
        asyncio.run(runnable.run_async(seen))
    else:
        runnable.run(seen)

    assert seen == [{"params", "successors", "max_retries", "wait"}] * 12


def test_a_node_with_something_uncopyable_still_runs(kind):
    """A visit's copy is shallow: locks and files on a node are shared, never copied."""
    lock, seen = threading.Lock(), []
    node = kind.node(prep=lambda self, s: seen.append(self.lock))
    node.lock = lock

    kind.run(kind.flow(node), {})

    assert seen == [lock]


# Classes that say how they are copied. Each visit does exactly what copy.copy does.


@pytest.fixture(params=[Flow, AsyncFlow], ids=["Flow", "AsyncFlow"])
def visit(request):
    """Run a sync node in a flow of either kind."""

    def run(node, shared=None):
        flow = request.param(node)
        if isinstance(flow, AsyncNode):
            return asyncio.run(flow.run_async(shared))
        return flow.run(shared)

    return run


class Visited(Node):
    """Appends itself to the shared list; visits itself three times."""

    def post(self, shared, prep_res, exec_res):
        shared.append(self)
        return "again" if len(shared) < 3 else "end"


def thrice(node):
    node - "again" >> node
    node - "end" >> Node()
    return node


def test_a_users_copy_method_makes_each_visits_copy(visit):
    """`__copy__` is called once for every visit, on the original."""
    calls = []

    class Own(Visited):
        def __copy__(self):
            calls.append(self)
            twin = type(self)()
            twin.__dict__.update(self.__dict__, tag=len(calls))
            return twin

    node, shared = thrice(Own()), []
    visit(node, shared)

    assert calls == [node, node, node]
    assert [copied.tag for copied in shared] == [1, 2, 3]


def test_a_copy_method_may_give_the_node_itself(visit):
    """`__copy__` returning self makes a node that keeps what it rebinds."""

    class Keeps(Visited):
        n = 0

        def __copy__(self):
            return self

        def prep(self, shared):
            self.n += 1

    node = thrice(Keeps())
    visit(node, [])

    assert node.n == 3


def test_a_copy_method_on_an_instance_does_not_count(visit):
    """As for copy.copy, only the class's `__copy__` is asked."""
    node, shared = thrice(Visited()), []
    node.__copy__ = lambda: pytest.fail("never called")
    visit(node, shared)

    assert len(shared) == 3


def test_slots_are_copied(visit):
    """Attributes in `__slots__` are there on every visit, and rebinding them is lost."""
    seen = []

    class Slotted(Visited):
        __slots__ = ("token",)

        def prep(self, shared):
            seen.append(self.token)
            self.token = "changed"

    node = Slotted()
    node.token = "original"
    visit(thrice(node), [])

    assert seen == ["original"] * 3
    assert node.token == "original"


def test_slots_without_a_value_stay_without(visit):
    """An empty slot is empty on the copy too."""
    seen = []

    class Slotted(Visited):
        __slots__ = ("token",)

        def prep(self, shared):
            seen.append(hasattr(self, "token"))
            self.token = 1

    visit(thrice(Slotted()), [])

    assert seen == [False] * 3


def test_getstate_chooses_what_a_visit_has(visit):
    """What `__getstate__` leaves out is missing on the copy."""
    seen = []

    class Picky(Visited):
        def __getstate__(self):
            state = self.__dict__.copy()
            state.pop("client")
            return state

        def prep(self, shared):
            seen.append(hasattr(self, "client"))

    node = Picky()
    node.client = object()
    visit(thrice(node), [])

    assert seen == [False] * 3
    assert hasattr(node, "client")


def test_setstate_rebuilds_on_each_visit(visit):
    """`__setstate__` gets the state of the original, once a visit."""
    states = []

    class Rebuilt(Visited):
        def __setstate__(self, state):
            states.append(set(state))
            self.__dict__.update(state)
            self.client = f"client {len(states)}"

    shared = []
    visit(thrice(Rebuilt()), shared)

    assert states == [{"params", "successors", "max_retries", "wait"}] * 3
    assert [copied.client for copied in shared] == ["client 1", "client 2", "client 3"]


def test_getstate_and_setstate_may_use_a_state_of_their_own(visit):
    """The state may be anything; here a tuple."""

    class Tupled(Visited):
        def __getstate__(self):
            return (self.params, self.successors, self.max_retries, self.wait, self.word)

        def __setstate__(self, state):
            self.params, self.successors, self.max_retries, self.wait, word = state
            self.word = word + "!"

    node, shared = Tupled(), []
    node.word = "hi"
    visit(thrice(node), shared)

    assert [copied.word for copied in shared] == ["hi!"] * 3


def test_reduce_builds_each_visits_copy(visit):
    """`__reduce__` names the function and arguments that make the copy."""
    made = []

    class Reduced(Visited):
        def __reduce__(self):
            return (_build, (made, type(self), self.__dict__))

    node, shared = Reduced(), []
    visit(thrice(node), shared)

    assert made == shared
    assert len(made) == 3


def _build(made, cls, state):
    node = cls.__new__(cls)
    node.__dict__.update(state)
    made.append(node)
    return node


def test_reduce_ex_is_asked_with_protocol_four(visit):
    """`__reduce_ex__` wins over `__reduce__`, with copy.copy's own protocol."""
    asked = []

    class Reduced(Visited):
        def __reduce_ex__(self, protocol):
            asked.append(protocol)
            return copyreg.__newobj__, (type(self),), self.__dict__

        def __reduce__(self):
            pytest.fail("never called")

    visit(thrice(Reduced()), [])

    assert asked == [4, 4, 4]


def test_a_reduction_registered_for_the_class_is_used(visit, monkeypatch):
    """`copyreg.pickle(cls, …)` counts as it does for copy.copy."""
    made = []

    class Registered(Visited):
        pass

    def reduce(node):
        return (_build, (made, Registered, node.__dict__))

    monkeypatch.setitem(copyreg.dispatch_table, Registered, reduce)
    shared = []
    visit(thrice(Registered()), shared)

    assert made == shared
    assert len(made) == 3


def test_deepcopy_methods_play_no_part_in_a_visit(visit):
    """Visits copy shallowly: `__deepcopy__` is never called."""

    class Deep(Visited):
        def __deepcopy__(self, memo):
            pytest.fail("never called")

    shared = []
    visit(thrice(Deep()), shared)

    assert len(shared) == 3


def test_a_deepcopy_method_is_used_by_deepcopy():
    """`copy.deepcopy(flow)` asks the nodes' own `__deepcopy__`."""

    class Shared(Node):
        def __deepcopy__(self, memo):
            return self

    node = Shared()

    assert copy.deepcopy(Flow(node)).start_node is node


def test_constructors_do_not_run_on_a_visit(visit):
    """A copy is made without `__init__`; `__new__` runs with what `__getnewargs__` gives."""
    inits, news = [], []

    class Made(Visited):
        def __new__(cls, *args):
            news.append(args)
            return super().__new__(cls)

        def __init__(self, word):
            super().__init__()
            inits.append(word)

        def __getnewargs__(self):
            return ("new",)

    node = Made("hi")
    visit(thrice(node), [])

    assert inits == ["hi"]
    assert news == [("hi",), ("new",), ("new",), ("new",)]


def test_new_without_newargs_runs_bare(visit):
    """Without `__getnewargs__` the copy's `__new__` gets the class alone."""
    news = []

    class Made(Visited):
        def __new__(cls, *args):
            news.append(args)
            return super().__new__(cls)

        def __init__(self, word):
            super().__init__()

    visit(thrice(Made("hi")), [])

    assert news == [("hi",), (), (), ()]


def test_copying_sets_no_attribute_one_by_one(visit):
    """A user's `__setattr__` hears of `params` and `cur_retry`, not of the copied attributes."""
    heard = []

    class Hears(Visited):
        def __setattr__(self, name, value):
            heard.append(name)
            super().__setattr__(name, value)

    node = thrice(Hears())
    node.extra = 1
    heard.clear()
    visit(node, [])

    assert set(heard) <= {"params", "cur_retry"}
    assert heard.count("params") == 3


def test_a_dict_that_is_a_node_is_copied_with_its_items(visit):
    """A node class may also be a dict; copies carry the items."""
    seen = []

    class Table(Node, dict):
        def prep(self, shared):
            seen.append(dict(self))
            self["mine"] = True

        def post(self, shared, prep_res, exec_res):
            return "again" if len(seen) < 3 else "end"

    node = Table()
    node["k"] = 1
    visit(thrice(node))

    assert seen == [{"k": 1}] * 3
    assert dict(node) == {"k": 1}


# Classes of other odd shapes


def test_a_dataclass_can_be_a_node(visit):
    """Dataclasses are compared by value and have no hash: a flow needs neither."""

    @dataclasses.dataclass
    class Data(Node):
        word: str
        seen: list = dataclasses.field(default_factory=list)

        def __post_init__(self):
            super().__init__()

        def post(self, shared, prep_res, exec_res):
            self.seen.append(self.word)
            return "again" if len(self.seen) < 3 else "end"

    node = Data("w")
    node.next(node, "again")
    node.next(Data("other"), "end")
    visit(node)

    assert node.seen == ["w"] * 3


class Unhashable(Node):
    """Cannot be hashed."""

    __hash__ = None

    def post(self, shared, prep_res, exec_res):
        shared.append(1)


class EqualToAll(Node):
    """Says that it equals everything."""

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1

    def post(self, shared, prep_res, exec_res):
        shared.append(1)


class Incomparable(Node):
    """Refuses to be compared."""

    def __eq__(self, other):
        raise TypeError("do not compare me")

    __hash__ = Node.__hash__

    def post(self, shared, prep_res, exec_res):
        shared.append(1)


@pytest.mark.parametrize("cls", [Unhashable, EqualToAll, Incomparable])
def test_nodes_are_neither_hashed_nor_compared(visit, cls):
    """A flow works on whatever `__eq__` and `__hash__` say."""
    a, b, c = cls(), cls(), cls()
    a >> b >> c
    shared = []
    visit(Flow(a), shared)

    assert shared == [1, 1, 1]


@pytest.mark.parametrize("cls", [Unhashable, EqualToAll, Incomparable])
async def test_async_nodes_are_neither_hashed_nor_compared(cls):
    """The same in async and parallel batch flows."""
    items = [{"i": 1}, {"i": 2}]

    async def prep_async(shared):
        return items

    for flow_class in (pf.AsyncBatchFlow, pf.AsyncParallelBatchFlow):
        flow, shared = flow_class(cls()), []
        flow.prep_async = prep_async
        await flow.run_async(shared)
        assert shared == [1, 1]


def test_a_node_may_answer_to_any_attribute(visit):
    """A node with `__getattr__` is not asked for anything that changes its run."""

    class Answers(Visited):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return f"lazy {name}"

        def exec(self, prep_res):
            return self.anything

    shared = []
    visit(thrice(Answers(2)), shared)

    assert len(shared) == 3


async def test_an_async_node_may_answer_to_any_attribute():
    """The same for async nodes, batches and flows."""

    def answer(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"lazy {name}"

    class Items(AsyncParallelBatchNode):
        __getattr__ = answer

        async def prep_async(self, shared):
            return [1, 2]

        async def exec_async(self, item):
            return item

        async def post_async(self, shared, prep_res, exec_res):
            return tuple(exec_res)

    class Lazy(AsyncFlow):
        __getattr__ = answer

    assert await Lazy(Items(2)).run_async({}) == (1, 2)


def test_abstract_node_classes_work():
    """`abc.ABC` goes with any node class, on either side."""

    class Left(abc.ABC, Node):
        @abc.abstractmethod
        def exec(self, prep_res): ...

    class Right(Node, abc.ABC):
        @abc.abstractmethod
        def exec(self, prep_res): ...

    for base in (Left, Right):
        with pytest.raises(TypeError, match="abstract"):
            base()
        done = type("Done", (base,), {"exec": lambda self, p: 1, "post": lambda self, s, p, e: e})
        assert Flow(done()).run({}) == 1


T = typing.TypeVar("T")


@pytest.mark.parametrize("name", CLASSES)
def test_users_generic_classes_work_on_both_sides(name):
    """`class X(Generic[T], Node)` and `class X(Node, Generic[T])` can both be made."""
    base = getattr(pf, name)

    class Left(typing.Generic[T], base):
        pass

    class Right(base, typing.Generic[T]):
        pass

    assert isinstance(Left[int](), base)
    assert isinstance(Right[int](), base)


@pytest.mark.parametrize("name", CLASSES)
def test_a_users_metaclass_works(name):
    """A class may have a metaclass of its own."""

    class Registry(type):
        pass

    cls = Registry("Registered", (getattr(pf, name),), {})

    assert isinstance(cls(), getattr(pf, name))


def test_subclass_hooks_get_their_arguments():
    """`__init_subclass__` of a user's base class works with keyword arguments."""
    registered = {}

    class Tool(Node):
        def __init_subclass__(cls, *, tool=None, **kwargs):
            super().__init_subclass__(**kwargs)
            registered[tool] = cls

    class Search(Tool, tool="search"):
        pass

    assert registered == {"search": Search}


def test_no_copy_outlives_its_run(kind):
    """When a run is over nothing holds on to the visits' copies."""
    alive = weakref.WeakSet()
    shared = {"n": 0}

    def prep(self, shared):
        alive.add(self)

    def post(self, shared, p, e):
        shared["n"] += 1
        return "again" if shared["n"] < 50 else "end"

    node = kind.node(prep=prep, post=post)
    node - "again" >> node
    node - "end" >> kind.node()
    kind.run(kind.flow(node), shared)
    gc.collect()

    assert len(alive) == 0
