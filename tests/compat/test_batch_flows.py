"""Batch flows: one orchestration per params dict, merged over the flow's own params."""

import types
from collections import OrderedDict

import pytest


def seeing(batch, seen, **phases):
    """A node that notes the params it sees."""
    return batch.node(prep=lambda self, s: seen.append(dict(self.params)), **phases)


def test_the_flow_runs_once_per_params_dict(batch):
    """Prep gives a list of dicts; each is the params of one run, in order."""
    seen = []
    flow = batch.batch_flow(seeing(batch, seen), prep=lambda self, s: [{"i": i} for i in range(4)])

    batch.run(flow, {})

    assert seen == [{"i": i} for i in range(4)]


def test_each_run_goes_through_the_whole_graph(batch):
    """Every item visits all nodes of its path."""
    seen = []
    a, b = seeing(batch, seen, post=lambda self, s, p, e: "b"), seeing(batch, seen)
    a - "b" >> b

    batch.run(batch.batch_flow(a, prep=lambda self, s: [{"i": 1}, {"i": 2}]), {})

    assert sorted(p["i"] for p in seen) == [1, 1, 2, 2]


def test_items_are_merged_over_the_flows_params(batch):
    """The item's values win over the flow's, and the rest of the flow's stay."""
    seen = []
    flow = batch.batch_flow(
        seeing(batch, seen), prep=lambda self, s: [{"a": 1}, {"top": "item"}, {}]
    )
    flow.set_params({"top": 0})

    batch.run(flow, {})

    assert seen == [{"top": 0, "a": 1}, {"top": "item"}, {"top": 0}]


@pytest.mark.parametrize("own", [{}, {"k": 1}], ids=repr)
def test_an_empty_item_means_the_flows_params(batch, own):
    """`{}` as an item still runs, with the flow's own params as content."""
    seen = []
    flow = batch.batch_flow(seeing(batch, seen), prep=lambda self, s: [{}, {}])
    flow.set_params(own)

    batch.run(flow, {})

    assert seen == [own, own]


def test_nested_batch_flows_merge_downwards(batch):
    """Over two levels a node sees the top's params, the outer item's and the inner item's."""
    seen = []
    inner = batch.batch_flow(seeing(batch, seen), prep=lambda self, s: [{"b": 1}, {"b": 2}])
    outer = batch.batch_flow(inner, prep=lambda self, s: [{"a": 1}, {"a": 2}])
    outer.set_params({"top": 0})

    batch.run(outer, {})

    assert sorted(seen, key=lambda p: (p["a"], p["b"])) == [
        {"top": 0, "a": a, "b": b} for a in (1, 2) for b in (1, 2)
    ]


def test_a_nested_batch_flows_prep_sees_its_parents_params(batch):
    """The inner batch may depend on the outer item."""
    seen = []

    def prep(self, shared):
        return [{"letter": c} for c in self.params["word"]]

    inner = batch.batch_flow(seeing(batch, seen), prep=prep)
    outer = batch.batch_flow(inner, prep=lambda self, s: [{"word": "ab"}, {"word": "c"}])

    batch.run(outer, {})

    assert sorted(p["word"] + p["letter"] for p in seen) == ["aba", "abb", "cc"]


def test_a_nested_batch_flows_own_params_are_overwritten(batch):
    """An inner batch flow's own params give way to its parent's before its items are merged."""
    seen = []
    inner = batch.batch_flow(seeing(batch, seen), prep=lambda self, s: [{"b": 1}])
    inner.set_params({"own": 1})
    outer = batch.flow(inner)
    outer.set_params({"outer": 2})

    batch.run(outer, {})

    assert seen == [{"outer": 2, "b": 1}]


def test_post_gets_the_batch_and_none(batch):
    """Post gets prep's own object and None; the items' actions are dropped."""
    items, seen = ({"i": 1}, {"i": 2}), []
    flow = batch.batch_flow(
        batch.node(post=lambda self, s, p, e: "action"),
        prep=lambda self, s: items,
        post=lambda self, s, p, e: seen.append((p, e)),
    )

    assert batch.run(flow, {}) is None
    assert seen == [(items, None)]
    assert seen[0][0] is items


def test_without_a_post_a_batch_flow_gives_none(batch):
    """Whatever its nodes return, a batch flow returns None by default."""
    flow = batch.batch_flow(
        batch.node(post=lambda self, s, p, e: "action"), prep=lambda self, s: [{}]
    )

    assert batch.run(flow, {}) is None


def test_a_nested_batch_flow_routes_default(batch):
    """In a flow a batch flow goes on to its "default" successor."""
    seen = []
    inner = batch.batch_flow(
        batch.node(post=lambda self, s, p, e: "action"), prep=lambda self, s: [{}]
    )
    inner >> batch.node(post=lambda self, s, p, e: seen.append("after"))

    batch.run(batch.flow(inner), {})

    assert seen == ["after"]


def test_a_batch_flows_post_may_choose_the_action(batch):
    """A nested batch flow routes by what its post gives."""
    seen = []
    inner = batch.batch_flow(
        batch.node(), prep=lambda self, s: [{}, {}], post=lambda self, s, p, e: f"{len(p)} done"
    )
    inner - "2 done" >> batch.node(post=lambda self, s, p, e: seen.append("after"))

    batch.run(batch.flow(inner), {})

    assert seen == ["after"]


@pytest.mark.parametrize("nothing", [None, [], (), {}, 0, ""], ids=repr)
def test_a_falsy_prep_is_an_empty_batch(batch, nothing):
    """None and every falsy prep_res run nothing, and post gets []."""
    seen = []
    flow = batch.batch_flow(
        seeing(batch, seen),
        prep=lambda self, s: nothing,
        post=lambda self, s, p, e: ("post", p, e),
    )

    assert batch.run(flow, {}) == ("post", [], None)
    assert seen == []


def test_without_a_prep_a_batch_flow_runs_nothing(batch):
    """The inherited prep gives None: an empty batch."""
    seen = []

    assert batch.run(batch.batch_flow(seeing(batch, seen)), {}) is None
    assert seen == []


def test_a_batch_flow_without_start_runs_only_its_phases(batch):
    """With no start node the items do nothing, and post still runs."""
    flow = batch.batch_flow(prep=lambda self, s: [{}, {}], post=lambda self, s, p, e: len(p))

    assert batch.run(flow, {}) == 2


def test_a_generator_is_a_batch_and_reaches_post_exhausted(batch):
    """Prep may give a generator; post gets the same one, used up."""
    seen, posts = [], []
    items = ({"i": i} for i in range(3))
    flow = batch.batch_flow(
        seeing(batch, seen),
        prep=lambda self, s: items,
        post=lambda self, s, p, e: posts.append((p is items, list(p))),
    )

    batch.run(flow, {})

    assert seen == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert posts == [(True, [])]


class Keyed:
    """The least that `**` takes: keys() and item access."""

    def keys(self):
        return ["x"]

    def __getitem__(self, key):
        return 5


@pytest.mark.parametrize(
    ("item", "merged"),
    [
        (types.MappingProxyType({"x": 1}), {"x": 1}),
        (OrderedDict(x=2), {"x": 2}),
        (Keyed(), {"x": 5}),
        ({1: "int key", None: "none"}, {1: "int key", None: "none"}),
    ],
    ids=["proxy", "ordered", "keyed", "odd keys"],
)
def test_an_item_is_any_mapping(batch, item, merged):
    """Items are merged the way `{**params, **item}` merges."""
    seen = []

    batch.run(batch.batch_flow(seeing(batch, seen), prep=lambda self, s: [item]), {})

    assert seen == [merged]


@pytest.mark.parametrize(
    ("item", "name"), [(5, "int"), ([("a", 1)], "list"), ("ab", "str"), (None, "NoneType")]
)
def test_an_item_that_is_no_mapping_is_a_type_error(batch, item, name):
    """A wrong item fails in Python's own words."""
    with pytest.raises(TypeError, match=f"'{name}' object is not a mapping"):
        batch.run(batch.batch_flow(batch.node(), prep=lambda self, s: [item]), {})


def test_a_prep_res_that_cannot_be_iterated_is_a_type_error(batch):
    """A truthy number as prep_res fails in Python's own words."""
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        batch.run(batch.batch_flow(batch.node(), prep=lambda self, s: 5), {})


def test_params_are_a_fresh_dict_per_item(batch):
    """A change of `self.params` stays in its item: not in the next, the source or the flow."""
    seen = []

    def prep(self, shared):
        seen.append(dict(self.params))
        self.params["dirty"] = True

    items = [{"i": 1}, {"i": 2}]
    flow = batch.batch_flow(batch.node(prep=prep), prep=lambda self, s: items)
    flow.set_params({"k": 0})
    batch.run(flow, {})

    assert seen == [{"k": 0, "i": 1}, {"k": 0, "i": 2}]
    assert items == [{"i": 1}, {"i": 2}]
    assert flow.params == {"k": 0}


def test_every_item_has_node_copies_of_its_own(batch):
    """A node's rebound attributes do not leak from item to item."""
    seen = []

    def prep(self, shared):
        self.n += 1
        seen.append(self.n)

    node = batch.node(prep=prep)
    node.n = 0
    batch.run(batch.batch_flow(node, prep=lambda self, s: [{}] * 3), {})

    assert seen == [1, 1, 1]
    assert node.n == 0


def test_all_items_share_one_shared(batch):
    """Items write into the same shared object."""
    shared = {"total": 0}

    def post(self, s, p, e):
        s["total"] += self.params["i"]

    flow = batch.batch_flow(
        batch.node(post=post), prep=lambda self, s: [{"i": i} for i in range(1, 5)]
    )
    batch.run(flow, shared)

    assert shared["total"] == 10


def test_the_first_error_leaves_the_batch_flow(batch):
    """An error in one item leaves as the object it is, and the flow's post never runs."""
    error, posts = ValueError("item 2"), []

    def prep(self, shared):
        if self.params["i"] == 2:
            raise error

    flow = batch.batch_flow(
        batch.node(prep=prep),
        prep=lambda self, s: [{"i": i} for i in (1, 2, 3)],
        post=lambda self, s, p, e: posts.append(1),
    )
    with pytest.raises(ValueError, match="item 2") as caught:
        batch.run(flow, {})

    assert caught.value is error
    assert posts == []


def test_a_sequential_batch_flow_stops_at_the_first_error(pure):
    """Items after the failing one never start; what the earlier ones did stays."""
    done = []

    def post(self, shared, p, e):
        if self.params["i"] == 2:
            raise ValueError("item 2")
        done.append(self.params["i"])

    flow = pure.batch_flow(pure.node(post=post), prep=lambda self, s: [{"i": i} for i in (1, 2, 3)])
    with pytest.raises(ValueError, match="item 2"):
        pure.run(flow, {})

    assert done == [1]


def test_a_sequential_batch_flow_draws_items_one_by_one(pure):
    """With a generator from prep, an item is drawn only after the run before is over."""
    events = []

    def prep(self, shared):
        for i in range(2):
            events.append(f"draw {i}")
            yield {"i": i}

    flow = pure.batch_flow(pure.node(prep=lambda self, s: events.append(f"run {self.params['i']}")))
    source = prep(None, None)
    setattr(flow, "prep" if pure.name == "sync" else "prep_async", _giving(pure, source))
    pure.run(flow, {})

    assert events == ["draw 0", "run 0", "draw 1", "run 1"]


def _giving(pure, value):
    async def prep_async(shared):
        return value

    return (lambda shared: value) if pure.name == "sync" else prep_async


def test_the_start_of_a_batch_flow_may_be_a_flow(batch):
    """A whole flow can be batched."""
    seen = []
    inner = batch.flow(seeing(batch, seen))
    flow = batch.batch_flow(inner, prep=lambda self, s: [{"i": 1}, {"i": 2}])

    batch.run(flow, {})

    assert seen == [{"i": 1}, {"i": 2}]


def test_a_batch_node_inside_a_batch_flow_sees_the_items_params(batch):
    """Batch nodes in batch flows: the params choose the items."""
    shared = {"out": {}}

    def post(self, shared, prep_res, exec_res):
        shared["out"][self.params["word"]] = exec_res

    node = batch.batch_node(
        prep=lambda self, s: self.params["word"], exec=lambda self, c: c.upper(), post=post
    )
    flow = batch.batch_flow(node, prep=lambda self, s: [{"word": "ab"}, {"word": "c"}])
    batch.run(flow, shared)

    assert shared["out"] == {"ab": ["A", "B"], "c": ["C"]}
