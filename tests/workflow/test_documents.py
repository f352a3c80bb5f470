"""Workflows as JSON and YAML: there and back, and what is said of mistakes."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import subprocess
import sys
from types import MappingProxyType, SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pocketflow_async.workflow.documents import from_dict, from_json, from_yaml, pointer
from pocketflow_async.workflow.errors import (
    CyclicDependencyError,
    WorkflowError,
    WorkflowValidationError,
)
from pocketflow_async.workflow.node_specs import make_spec
from pocketflow_async.workflow.policies import ErrorHandler, RetryPolicy
from pocketflow_async.workflow.references import reference, resolve
from pocketflow_async.workflow.spec import Edge, NodeSpec, Workflow
from tests.workflow.documents_kit import Sums, anything, double, is_high, process_item

yaml = pytest.importorskip("yaml")

WAYS = [
    lambda w: Workflow.from_dict(w.to_dict()),
    lambda w: Workflow.from_json(w.to_json()),
    lambda w: Workflow.from_json(w.to_json(indent=None).encode()),
    lambda w: Workflow.from_yaml(w.to_yaml()),
]


def workflow_of(*specs, edges=(), **rest):
    nodes = MappingProxyType({spec.id: spec for spec in specs})
    return Workflow("w1", "totals", nodes, tuple(edges), **rest)


CODE = "import json\n\nrows = [1, 2]  \nresult = {'rows': rows, 'text': \"a: b\"}\n"
INNER = workflow_of(make_spec("Function", "inner", {"function": double}))
EVERY_KIND = workflow_of(
    make_spec("AsyncPythonCodeNode", "fetch", {"code": CODE}, {"timeout": 30}),
    make_spec("PythonCodeNode", "sync", {"code": "result = rows"}, wrapped=True),
    make_spec(
        "Function",
        "double",
        {"function": double},
        {
            "retry_policy": RetryPolicy(
                max_retries=4, retry_on=[ValueError, "aiohttp.ClientError"]
            ),
            "error_handler": ErrorHandler("fallback", {"rows": []}, log_level="warning"),
            "condition": is_high,
            "required_resources": ["db"],
            "description": "twice é",
            "max_concurrent_tasks": 3,
        },
    ),
    make_spec("Workflow", "nested", {"workflow": INNER}),
    make_spec("ParallelMap", "each", {"map_function": process_item, "max_workers": 3}),
    make_spec("ParallelMap", "code", {"map_function": "def process_item(item):\n    return item"}),
    make_spec("Resource", "query", {"resource_name": "db", "operation": "fetch", "params": [1]}),
    make_spec("Function", "static", {"function": Sums.add}),
    edges=[
        Edge("fetch", "rows", "sync", "rows"),
        Edge("fetch", "rows", "each", "items"),
        Edge("sync", None, "double", "value"),
    ],
    metadata={"team": "x", "facts": {"$price": 3, "list": [1, None, True]}},
    aliases={"get": "fetch"},
    description="All kinds.",
)


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_every_kind_of_node_comes_back_the_same(way):
    """Nodes, edges, policies, aliases and metadata survive; so does the work."""
    back = WAYS[way](EVERY_KIND)

    assert back == EVERY_KIND
    assert list(back.nodes) == list(EVERY_KIND.nodes)
    assert all(spec.work is not None for spec in back.nodes.values())
    assert back.nodes["double"].work.run({"value": 4}, SimpleNamespace(node_id="double")) == 8
    assert back.nodes["nested"].config["workflow"] == INNER


TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        *("yes", "null", "1", "1e3", "2020-01-01", "~", "a: b", "- x", "#", "'\"", "\t"),
        "a\n b \n\n",
        "$import",
        "$$",
        "<<",
        "=",
        "0x1f",
        "a\n\t b",
        "\t\n",
        "🚀\nb",
        "\u2028",
        "\x85",
        "\x07",
        "!x",
        "&a",
        "*a",
        "%",
        "|",
        ">",
    ]
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def workflows(draw):
    """Draw a DAG of functions with any ids, facts and policies."""
    ids = draw(st.lists(TEXTS.filter(lambda t: _can_be(t)), max_size=6, unique=True))
    specs = []
    for node_id in ids:
        options = {
            "timeout": draw(st.none() | st.floats(0.001, 1e6) | st.integers(1, 100)),
            "description": draw(st.none() | TEXTS),
            "error_handler": draw(st.none() | PLAIN.map(lambda v: ErrorHandler("fallback", v))),
            "retry_policy": draw(st.none() | st.integers(1, 9).map(RetryPolicy)),
            "condition": draw(st.sampled_from([None, is_high])),
        }
        function = draw(st.sampled_from([dict, anything]))
        wrapped = draw(st.booleans())
        specs.append(
            make_spec("Function", node_id, {"function": function}, options, wrapped=wrapped)
        )
    edges = []
    for target, node_id in enumerate(ids):
        for source in draw(st.sets(st.sampled_from(ids[:target]), max_size=3)) if target else ():
            output = draw(st.sampled_from([None, "result", "result.a.b"]))
            edges.append(Edge(source, output, node_id, f"from {ids.index(source)}"))
    metadata = draw(st.dictionaries(TEXTS.filter(lambda t: t[:1] != "_"), PLAIN, max_size=3))
    return workflow_of(*specs, edges=edges, metadata=metadata, description=draw(TEXTS))


def _can_be(text):
    try:
        make_spec("Function", text, {"function": print})
    except WorkflowValidationError:
        return False
    return True


@given(workflows())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_workflow_comes_back_the_same(workflow):
    """Whatever its texts look like to YAML or JSON."""
    for way in WAYS:
        assert way(workflow) == workflow


def test_code_is_readable_in_yaml():
    """Code stands there line by line, not as one long text with escapes."""
    workflow = workflow_of(make_spec("PythonCodeNode", "n", {"code": "a = '🚀'\nresult = a\n"}))

    assert "    code: |\n      a = '🚀'\n      result = a\n" in workflow.to_yaml()


class Thing:
    """Something that cannot be saved."""

    def method(self):
        return 1


def local():
    def inner():
        return 1

    return inner


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda: 1, "a lambda has no name that leads back to it: make it a function"),
        (local(), "is made inside a function: move it to the top of its module"),
        (Thing(), "an object of type Thing cannot be saved"),
        (Thing().method, "does not lead back to it"),
        (functools.partial(double, 1), "has no name that leads back to it"),
        (b"x", "an object of type bytes cannot be saved"),
        ({1, 2}, "an object of type set cannot be saved"),
        (math.nan, "nan cannot be saved"),
        (math.inf, "inf cannot be saved"),
        ({1: 2}, "key 1 is not a text"),
        (functools.reduce(lambda inner, _: [inner], range(80), 1), "more than 50 containers"),
    ],
)
def test_what_cannot_be_saved_is_named_with_its_node(value, text):
    """All of it at once: the node, the place in its config, and why."""
    spec = NodeSpec("bad", "Function", {"deep": {"value": value}})
    other = NodeSpec("worse", "Function", {"function": lambda: 1})

    with pytest.raises(WorkflowValidationError) as caught:
        workflow_of(spec, other).to_json()

    first, second = caught.value.problems
    assert first.startswith("node 'bad': config/deep/value")
    assert text in first
    assert second.startswith("node 'worse': config/function")


def test_a_circle_of_containers_is_refused():
    """What holds itself cannot be saved; that is said, not overflowed."""
    circle: list = []
    circle.append(circle)

    with pytest.raises(WorkflowValidationError, match="containers inside each other"):
        workflow_of(NodeSpec("n", "Function", {"circle": circle})).to_json()


def test_what_is_private_in_the_metadata_is_left_out():
    """Objects of the builder under names with an underscore are not part of the document."""
    workflow = workflow_of(metadata={"_resource_registry": object(), "team": "x"})

    assert workflow.to_dict()["metadata"] == {"team": "x"}


BAD = """\
nam: totals
version: 2
nodes:
  - id: fetch
    type: AsyncPythonCode
    timeout: -3
  - {id: fetch, type: Function, config: {function: {$import: "builtins:sum"}}}
  - {id: 7, type: Function}
  - id: two
    type: Function
    config: {function: {$import: "tests.workflow.documents_kit:duoble"}}
    retry_policy: {max_retriez: 3}
  - id: three
    type: PythonCodeNode
    config: {code: "x = ("}
    id: four
  - just a text
  - type: Function
    config: {$frob: 1}
connections:
  - {from: three, output: rows, to: totl, input: data}
  - {from: fetch, to: two}
  - {from: four, to: two, input: b}
  - {from: two, to: four, input: b}
aliases: {a: 1, b: nobody}
"""

BAD_LINES = {
    "line 1 (/nam)": "'nam' means nothing here; did you mean 'name'?",
    "line 2 (/version)": "1 is needed, not 2",
    "line 6 (/nodes/0/timeout)": "a number of seconds above 0 is needed, not -3",
    "line 4 (/nodes/0)": "there is no type 'AsyncPythonCode'; did you mean 'AsyncPythonCodeNode'?",
    "line 7 (/nodes/1/id)": "node 'fetch' is there already, at line 4 (/nodes/0)",
    "line 8 (/nodes/2/id)": "a text that is not empty is needed, not 7",
    "line 11 (/nodes/3/config/function/$import)": "there is no 'duoble' in tests.workflow",
    "line 12 (/nodes/3/retry_policy)": "max_retriez",
    "line 16 (/nodes/4/id)": "key 'id' is there twice",
    "line 13 (/nodes/4)": "'(' was never closed",
    "line 17 (/nodes/5)": "an object with id, type",
    "line 18 (/nodes/6)": "'id' is missing",
    "line 21 (/connections/0)": "there is no node 'totl'",
    "line 22 (/connections/1)": "'input' is missing",
    "line 25 (/aliases/a)": "an alias and the id of its node are texts",
    "line 25 (/aliases)": "alias 'b' stands for node 'nobody', which is not there",
}


def test_all_mistakes_of_a_document_are_reported_at_once_with_lines():
    """A document written by hand is mended in one go."""
    with pytest.raises(WorkflowValidationError) as caught:
        from_yaml(BAD)

    for place, text in BAD_LINES.items():
        found = [line for line in caught.value.problems if line.startswith(place + ": ")]
        assert any(text in line for line in found), (place, text, caught.value.problems)
    assert any("in a circle: four -> two -> four" in line for line in caught.value.problems)


def test_the_same_mistakes_in_json_have_pointers():
    """JSON has no lines that a parser tells; pointers lead there too."""
    with pytest.raises(WorkflowValidationError) as caught:
        from_json(json.dumps(yaml.safe_load(BAD)))

    for place, text in BAD_LINES.items():
        if "twice" not in text:
            wanted = place.split("(")[1][:-1] + ": "
            text = text.replace("line 4 (/nodes/0)", "/nodes/0")
            assert any(
                line.startswith(wanted) and text in line for line in caught.value.problems
            ), (wanted, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1, column 1: this is no JSON"),
        ('{\n "nodes": [,]}', "line 2, column 12: this is no JSON"),
        ("[]", "document: an object with version, name"),
        ("null", "not nothing"),
        ('{"nodes": [], "nodes": []}', "key 'nodes' is there twice"),
        ('{"nodes": [], "metadata": {"x": NaN}}', "NaN is no number in JSON"),
        ("[" * 100_000, "this is no JSON that we can read"),
        (b"\xff\xfe\x00", "this is no JSON that we can read"),
        ('{"nodes": 5}', "/nodes: a list is needed, not 5"),
        ("{}", "'nodes' is missing"),
        ('{"nodes": [], "version": true}', "/version: 1 is needed, not True"),
        ('{"nodes": [], "metadata": {"$x": 1}}', "for a plain key: '$$x'"),
        ('{"nodes": [], "metadata": {"a": {"$import": 5}}}', "'module:name' is needed, not 5"),
        ('{"nodes": [], "metadata": {"a": {"$import": "x:y", "b": 1}}}', "stands alone"),
        ('{"nodes": [], "metadata": {"a": {"$import": "no_such_module:y"}}}', "cannot be imported"),
        ('{"nodes": [], "metadata": {"a": {"$import": "os.system"}}}', "not written like"),
        ('{"nodes": [], "metadata": {"a/b": {"$import": "x"}}}', "/metadata/a~1b/$import"),
    ],
)
def test_what_is_no_document_is_said(text, words):
    """Every kind of nonsense gets a clear error, and always the same class."""
    with pytest.raises(WorkflowValidationError) as caught:
        from_json(text)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "document: an object with version, name"),
        ("nodes: [\n", "line 2, column 1: this is no YAML"),
        ("nodes: []\n\tx: 1", "line 2, column 1: this is no YAML"),
        ("nodes: []\nnodes: []", "line 2 (/nodes): key 'nodes' is there twice"),
        ("nodes: []\nyes: 1", "a key is a text, not True: put it in quotes"),
        ("nodes: []\nmetadata: {a: !!python/object/apply:os.system [x]}", "this is no YAML"),
        ("nodes: &a [*a]", "its anchors stand for too much"),
        ("[" * 100_000, "this is no YAML that we can read"),
        ("nodes: []\nmetadata: {d: 2020-01-01, 1: 2}", "a key is a text, not 1"),
        ("nodes: []\n---\nnodes: []", "this is no YAML"),
        ("nodes: \x00", "this is no YAML"),
        (b"\xff\xff", "this is no YAML"),
    ],
)
def test_what_is_no_yaml_is_said(text, words):
    """Tags that make objects are refused, and so is a text that grows when it is read."""
    with pytest.raises(WorkflowValidationError) as caught:
        from_yaml(text)

    assert words in str(caught.value)


def test_anchors_do_not_grow_without_end():
    """The "billion laughs" are refused in no time; an anchor used twice is fine."""
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    with pytest.raises(WorkflowValidationError, match="stand for too much"):
        from_yaml(f"nodes: []\nmetadata:\n  {laughs.replace(chr(10), chr(10) + '  ')}")

    found = from_yaml("nodes: []\nmetadata: {a: &x {b: 1}, c: *x}")
    assert found.metadata == {"a": {"b": 1}, "c": {"b": 1}}


def test_merge_keys_are_not_keys_that_are_there_twice():
    """What a node has itself goes before what is merged into it."""
    found = from_yaml(
        "nodes:\n"
        "  - &one {id: a, type: PythonCodeNode, timeout: 5, config: {code: 'result = 1'}}\n"
        "  - {<<: *one, id: b}\n"
    )

    assert [spec.timeout for spec in found.nodes.values()] == [5, 5]
    with pytest.raises(WorkflowValidationError, match=r"line 3 \(/nodes/1/timeout\)"):
        from_yaml("nodes:\n  - &one {id: a, type: Gather}\n  - {<<: *one, id: b, timeout: -1}\n")


def test_a_circle_alone_has_its_own_error():
    """The same class as from a builder."""
    circle = EVERY_KIND.to_dict()
    circle["connections"].append({"from": "sync", "to": "fetch", "input": "x"})

    with pytest.raises(CyclicDependencyError) as caught:
        from_dict(circle)

    assert caught.value.path == ("fetch", "sync", "fetch")


def test_a_module_that_fails_when_imported_is_one_mistake(tmp_path, monkeypatch):
    """Whatever the module of a function raises, it is reported with its place."""
    (tmp_path / "broken_module_of_w2.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    node = {"id": "n", "type": "Function"}
    node["config"] = {"function": {"$import": "broken_module_of_w2:f"}}

    with pytest.raises(WorkflowValidationError, match="ZeroDivisionError") as caught:
        from_dict({"nodes": [node]})

    assert caught.value.problems[0].startswith("/nodes/0/config/function/$import: ")


def test_mistakes_of_a_workflow_inside_have_their_place():
    """A nested workflow is read like the one around it."""
    document = EVERY_KIND.to_dict()
    inner = document["nodes"][3]["config"]["workflow"]["$workflow"]
    inner["nodes"][0]["tpye"] = inner["nodes"][0].pop("type")

    with pytest.raises(WorkflowValidationError) as caught:
        from_dict(document)

    place = "/nodes/3/config/workflow/$workflow/nodes/0"
    assert f"{place}: 'type' is missing" in caught.value.problems
    assert f"{place}/tpye: 'tpye' means nothing here; did you mean 'type'?" in caught.value.problems


@given(PLAIN)
@settings(deadline=None)
def test_any_data_gives_a_workflow_or_a_list_of_mistakes(data):
    """Nothing but a WorkflowValidationError, whatever is read."""
    for document in (data, {"nodes": data}, {"nodes": [data]}, {"nodes": [], "metadata": data}):
        with contextlib.suppress(WorkflowValidationError):
            assert isinstance(from_dict(document), Workflow)


def test_an_id_is_made_if_there_is_none():
    """Ids come from where the caller says."""
    assert from_dict({"nodes": []}, new_id=lambda: "id-1").workflow_id == "id-1"
    assert from_dict({"nodes": []}).workflow_id != from_dict({"nodes": []}).workflow_id


def test_references_lead_there_and_back():
    """Functions, classes and static methods have names; builtins too."""
    for value in (double, Sums, Sums.add, len, ValueError, json.dumps, Sums.made):
        assert resolve(reference(value)) == value


def test_pointers_are_those_of_the_standard():
    """RFC 6901: tilde and slash are escaped; the whole is named in words."""
    assert pointer(("a/b", 0, "~")) == "/a~1b/0/~0"
    assert pointer(()) == "document"


def test_without_pyyaml_the_extra_is_named(monkeypatch):
    """JSON works without it."""
    monkeypatch.setitem(sys.modules, "yaml", None)

    for call in (INNER.to_yaml, lambda: from_yaml("nodes: []")):
        with pytest.raises(WorkflowError, match=r"pip install 'pocketflow-async\[workflow\]'"):
            call()
    assert Workflow.from_json(INNER.to_json()) == INNER


def test_yaml_is_imported_only_when_it_is_used(child_env):
    """Reading and writing JSON costs no import of PyYAML."""
    code = (
        "import sys; from pocketflow_async.workflow.documents import from_json; "
        "from_json('{\"nodes\": []}').to_json(); assert 'yaml' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], env=child_env, check=True)
