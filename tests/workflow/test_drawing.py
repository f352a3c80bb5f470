"""Workflows as Mermaid flowcharts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow


def test_nodes_and_what_flows_between_them_are_drawn():
    """Shapes say what a node is; edges say what they carry, several between two nodes as one."""
    nodes = {
        "fetch": NodeSpec("fetch", "AsyncPythonCodeNode"),
        "sync": NodeSpec("sync", "PythonCodeNode"),
        "each": NodeSpec("each", "ParallelMap"),
        "db": NodeSpec("db", "Resource"),
        "maybe": NodeSpec("maybe", "Function", condition=bool),
    }
    edges = (
        Edge("get", "rows", "each", "items"),
        Edge("fetch", "total", "each", "total"),
        Edge("fetch", None, "maybe", "value"),
    )

    drawing = Workflow("w", "w", nodes, edges, aliases={"get": "fetch"}).to_mermaid()

    assert drawing == (
        "flowchart TD\n"
        '    n1("fetch")\n'
        '    n2["sync"]\n'
        '    n3[["each"]]\n'
        '    n4[("db")]\n'
        '    n5{"maybe"}\n'
        '    n1 -->|"rows → items, total"| n3\n'
        '    n1 -->|"→ value"| n5\n'
    )


class Inner:
    """Work that is a workflow."""

    is_async = True

    def __init__(self, workflow):
        self.workflow = workflow


def test_a_workflow_inside_is_a_subgraph():
    """Nodes of the same id in both are two nodes."""
    nodes = {"a": NodeSpec("a", "Function"), "b": NodeSpec("b", "Function")}
    inner = Workflow("i", "i", nodes, (Edge("a", "x", "b", "x"),))
    outer = {"a": NodeSpec("a", "Function"), "w": NodeSpec("w", "Workflow", work=Inner(inner))}

    drawing = Workflow("o", "o", outer, (Edge("a", None, "w", "in"),)).to_mermaid()

    assert drawing.splitlines() == [
        "flowchart TD",
        '    n1("a")',
        '    subgraph n2["w"]',
        '        n3("a")',
        '        n4("b")',
        "    end",
        '    n1 -->|"→ in"| n2',
        '    n3 -->|"x"| n4',
    ]


@given(st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True), st.text())
def test_no_name_changes_the_drawing(ids, name):
    """Whatever nodes and ports are called, every line is a node or an edge with one label."""
    nodes = {node_id: NodeSpec(node_id, "Function") for node_id in ids}
    edges = tuple(Edge(ids[0], name, other, name) for other in ids[1:])

    lines = Workflow("w", "w", nodes, edges).to_mermaid().split("\n")

    assert len(lines) == 1 + len(ids) + len(edges) + 1
    assert all(line.count('"') == 2 for line in lines[1:-1])
    assert not any(mark in line for line in lines[1:-1] for mark in "<`\r")


def test_an_empty_workflow_is_an_empty_drawing():
    """Nothing to draw is no error."""
    assert Workflow("w", "w").to_mermaid() == "flowchart TD\n"
