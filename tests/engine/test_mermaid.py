"""`flow.to_mermaid()`: the graph as text that Mermaid can read, whatever the names."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async import AsyncFlow, AsyncNode, BatchNode, Flow, Node, parallel

NODE = re.compile(r'^ +(n\d+)(\["[^"\n]*"\]|\[\["[^"\n]*"\]\]|\(\["[^"\n]*"\]\))$')
EDGE = re.compile(r'^ +(n\d+) -->(\|"[^"\n]+"\|)? (n\d+)$')
GROUP = re.compile(r'^ +subgraph (n\d+)\["[^"\n]*"\]$')


def read(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Check that *text* is well formed; return the ids it defines and its edges."""
    head, *lines, last = text.split("\n")
    assert (head, last) == ("flowchart TD", "")
    depth, ids, edges = 1, [], []
    for line in lines:
        if line.strip() == "end":
            depth -= 1
        indent = len(line) - len(line.lstrip(" "))
        assert indent == 4 * depth, line
        if match := GROUP.match(line):
            ids.append(match[1])
            depth += 1
        elif match := NODE.match(line):
            ids.append(match[1])
        elif match := EDGE.match(line):
            edges.append((match[1], match[3]))
            assert indent == 4
        else:
            assert line.strip() == "end", line
        assert not edges or EDGE.match(line), "a node after an edge"
        assert depth >= 1
    assert depth == 1
    assert len(ids) == len(set(ids)), "an id is defined twice"
    assert {end for edge in edges for end in edge} <= set(ids), "an edge leads nowhere"
    return ids, edges


def shown(label: str) -> str:
    """Return what Mermaid shows for a label of ours."""
    return html.unescape(re.sub(r"#(\w+);", lambda m: entity(m[1]), label))


def entity(name: str) -> str:
    return f"&#{name};" if name.isdigit() else f"&{name};"


def test_a_small_flow():
    """Nodes with their names, edges with their actions, "default" unnamed."""
    fetch, think, done = Node(name="fetch"), Node(name="think"), BatchNode(name="done")
    fetch >> think
    think - "again" >> fetch
    think - "ok" >> done

    assert Flow(fetch).to_mermaid() == (
        "flowchart TD\n"
        '    n1(["fetch"])\n'
        '    n2["think"]\n'
        '    n3[["done"]]\n'
        "    n1 --> n2\n"
        '    n2 -->|"again"| n1\n'
        '    n2 -->|"ok"| n3\n'
    )


def test_nested_flows_are_subgraphs():
    """With their own nodes inside; the edges come last, so that no node moves by them."""
    a, b, c = Node(name="a"), Node(name="b"), Node(name="c")
    a >> b
    inner = Flow(a, name="inner")
    inner >> c

    assert Flow(inner).to_mermaid() == (
        "flowchart TD\n"
        '    subgraph n1["inner"]\n'
        '        n2["a"]\n'
        '        n3["b"]\n'
        "    end\n"
        '    n4["c"]\n'
        "    n1 --> n4\n"
        "    n2 --> n3\n"
    )


def test_an_empty_flow():
    """Only the head; an empty flow inside is a node."""
    assert Flow().to_mermaid() == "flowchart TD\n"
    assert Flow(Flow(name="empty")).to_mermaid() == 'flowchart TD\n    n1(["empty"])\n'


def test_the_text_is_stable():
    """The same graph gives the same text, built anew or drawn again."""

    def build():
        a, b, c = Node(name="a"), AsyncNode(name="b"), Node(name="c")
        a >> [b, Flow(Node())] >> c
        c - "again" >> a
        return AsyncFlow(a)

    flow = build()
    assert flow.to_mermaid() == flow.to_mermaid() == build().to_mermaid()
    read(flow.to_mermaid())


@pytest.mark.parametrize("loop", ["self", "two", "flow", "mutual"])
def test_loops_end(loop):
    """Self loops, loops, a flow inside itself, two flows inside each other."""
    a, b = Node(name="a"), Node(name="b")
    flow = Flow(a)
    if loop == "self":
        a >> a
    elif loop == "two":
        a >> b >> a
    elif loop == "flow":
        a >> flow
    else:
        other = Flow(b)
        a >> other
        b >> flow

    ids, edges = read(flow.to_mermaid())
    assert edges
    assert len(ids) == {"self": 1, "two": 2, "flow": 2, "mutual": 4}[loop]


def test_a_node_of_two_flows_is_drawn_once():
    """Ids stay unique when flows share nodes."""
    shared = Node(name="shared")
    one, two = Flow(shared, name="one"), Flow(shared, name="two")
    one >> two

    ids, _ = read(Flow(one).to_mermaid())
    assert len(ids) == 3


def test_a_successor_that_is_no_node_is_left_out():
    """validate() speaks of it; the picture stays readable."""
    node = Node(name="a")
    node >> None

    assert Flow(node).to_mermaid() == 'flowchart TD\n    n1(["a"])\n'


def test_long_chains_and_deep_nests():
    """A thousand nodes in a row, a hundred flows in each other."""
    first = last = Node()
    for _ in range(2000):
        last = last >> Node()
    ids, edges = read(Flow(first).to_mermaid())
    assert (len(ids), len(edges)) == (2001, 2000)

    flow = Flow(Node())
    for _ in range(100):
        flow = Flow(flow)
    ids, _ = read(flow.to_mermaid())
    assert len(ids) == 101


HOSTILE = [
    '"',
    'a"]; click n1 "javascript:alert(1)',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a & b &lt; c",
    "two\nlines",
    "end",
    "subgraph",
    "a --> b",
    "|pipe|",
    "]",
    "`code`",
    "\u202e\u00e4\u4e2d\U0001f600",
]


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_names_stay_inside_their_label(label):
    """What would end or change a label is written as an entity; the text shown is the name."""
    node = Node(name=label)
    node - label >> Flow(Node(name=label), name=label)
    text = Flow(node).to_mermaid()

    ids, edges = read(text)
    assert (len(ids), len(edges)) == (3, 1)
    assert "<" not in text
    assert ">" not in text.replace("-->", "")
    (first, *_) = re.findall(r'\["([^"]*)"\]', text)
    assert shown(first) == label.replace("\n", " ")


@pytest.mark.parametrize(
    "label",
    [
        "a#quot;b",
        "#35;",
        pytest.param(
            '%%{init: {"theme": "dark"}}%%',
        ),
        pytest.param(
            "a\r%% b",
        ),
    ],
)
def test_no_name_speaks_to_mermaid(label):
    """Entities, directives and comments in a name are text."""
    text = Flow(Node(name=label)).to_mermaid()

    (inside,) = re.findall(r'\["([^"]*)"\]', text)
    assert "%%{" not in text
    assert "\r" not in text
    assert shown(inside).split() == label.split()


def test_an_empty_action_is_a_readable_edge():
    """The action "" is never taken, but the picture must be readable."""
    node = Node()
    node - "" >> Node()
    text = Flow(node).to_mermaid()

    read(text)
    assert '|" "|' in text


@st.composite
def graphs(draw, depth=2):
    """Any graph: loops, dead ends, flows in flows, fan-outs, and nodes used twice."""
    text = st.text(min_size=1, max_size=8)
    count = draw(st.integers(1, 5))
    nodes = []
    for _ in range(count):
        kind = draw(st.sampled_from(["node", "batch", "flow", "parallel"]))
        name = draw(text)
        if kind == "flow" and depth:
            nodes.append(Flow(draw(graphs(depth - 1)), name=name))
        elif kind == "parallel" and depth:
            inner = draw(st.lists(graphs(depth - 1), min_size=1, max_size=2))
            nodes.append(parallel(*inner, name=name))
        else:
            nodes.append((BatchNode if kind == "batch" else Node)(name=name))
    for node in nodes:
        targets = draw(st.dictionaries(text, st.sampled_from(nodes), max_size=3))
        node.successors.update(targets)
    return nodes[0]


@given(graphs())
def test_any_graph_is_well_formed(start):
    """Whatever the graph and its names: balanced, unique ids, no edge into nothing."""
    flow = AsyncFlow(start)
    text = flow.to_mermaid()

    read(text)
    assert flow.to_mermaid() == text
    flow.validate()
