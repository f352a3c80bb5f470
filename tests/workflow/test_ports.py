"""Ports: what an edge carries of what a node has yielded."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import NamedTuple, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketflow_async.workflow.errors import PortError
from pocketflow_async.workflow.ports import did_you_mean, find_port, listed, take
from pocketflow_async.workflow.spec import NodeSpec, Port, Ports


@dataclasses.dataclass
class Page:
    title: str
    rows: list[int]


class Point(NamedTuple):
    x: int
    y: int


class Totals(TypedDict):
    total: int
    page: Page


NESTED = {"a": {"b": [1, {"c": 2}]}, "dotted.key": 3, "none": None}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, NESTED),
        ("result", NESTED),
        ("a", {"b": [1, {"c": 2}]}),
        ("a.b", [1, {"c": 2}]),
        ("a.b.0", 1),
        ("a.b.-1", {"c": 2}),
        ("a.b.1.c", 2),
        ("result.a", {"b": [1, {"c": 2}]}),
        ("result.a.b", [1, {"c": 2}]),
        ("dotted.key", 3),
        ("result.dotted.key", 3),
        ("none", None),
    ],
)
def test_paths_lead_into_what_was_yielded(path, expected):
    """Both kinds of nodes answer to `result` and to `result.a.b`; unwrapped ones to `a.b` too."""
    assert take(NESTED, path, wrapped=False, node_id="n") == expected
    if path is None:
        assert take({"result": NESTED}, None, wrapped=True, node_id="n") == {"result": NESTED}
    elif path.startswith("result"):
        assert take({"result": NESTED}, path, wrapped=True, node_id="n") == expected


def test_a_key_called_result_is_reached_through_the_whole():
    """`result` is all of it, even where it holds a key of that name."""
    value = {"result": {"x": 1}, "other": 2}

    assert take(value, "result", wrapped=False, node_id="n") == value
    assert take(value, "result.result", wrapped=False, node_id="n") == {"x": 1}
    assert take(value, "result.x", wrapped=False, node_id="n") == 1
    assert take(value, "result.other", wrapped=False, node_id="n") == 2


@pytest.mark.parametrize("value", [5, None, "text", [1], {"a": 1}])
def test_the_result_of_any_type_is_whole(value):
    """A number is yielded as it is; nothing is put around it."""
    assert take(value, "result", wrapped=False, node_id="n") is value
    assert take({"result": value}, "result", wrapped=True, node_id="n") is value


def test_a_fallback_in_place_of_a_wrapped_value_is_the_result():
    """What an error handler yields instead needs no wrapper."""
    assert take({"rows": []}, "result.rows", wrapped=True, node_id="n") == []
    assert take(None, "result", wrapped=True, node_id="n") is None


def test_fields_of_dataclasses_and_named_tuples_are_ports():
    """What has fields is read by their names, and by nothing else."""
    page = Page("t", [1, 2])

    assert take(page, "rows.1", wrapped=False, node_id="n") == 2
    assert take(Point(1, 2), "y", wrapped=False, node_id="n") == 2
    assert take(Point(1, 2), "0", wrapped=False, node_id="n") == 1
    for hostile in ("__class__", "__class__.__init__", "title.upper", "_fields"):
        with pytest.raises(PortError):
            take(page, hostile, wrapped=False, node_id="n")


@pytest.mark.parametrize(
    ("value", "path", "text"),
    [
        ({"users": 1, "total": 2}, "usres", "'users', 'total'; did you mean 'users'?"),
        ({"a": {"bread": 1}}, "a.brad", "a dict with 'bread'; did you mean 'bread'?"),
        ({"a": {"b": 1}}, "a.b.c", "there is an int, which has no parts by name"),
        (5, "x", "there is an int, which has no parts by name"),
        (None, "x", "there is None, which has no parts by name"),
        ([1, 2], "2", "there is a list of 2"),
        ("text", "0", "there is a str"),
        ({}, "x", "there is a dict, which has no parts by name"),
        (dict.fromkeys(range(30), 1), "x", "and 20 more"),
        ([1], "99999999999999999999999", "a list of 1"),
    ],
)
def test_a_missing_port_names_what_is_there(value, path, text):
    """Never the whole value in silence, nor None: an error that helps."""
    with pytest.raises(PortError) as caught:
        take(value, path, wrapped=False, node_id="fetch")

    assert str(caught.value).startswith(f"node 'fetch' has no output {path!r}: ")
    assert text in str(caught.value)
    assert isinstance(caught.value, KeyError)


def test_a_wrapped_node_says_where_the_key_is():
    """Who forgets `result.` is told so."""
    with pytest.raises(PortError, match=r"did you mean 'result.users'"):
        take({"result": {"users": 1}}, "users", wrapped=True, node_id="n")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        ),
        max_leaves=10,
    ),
    st.text(max_size=12) | st.lists(st.sampled_from(["0", "-1", "a", "", "result"])).map(".".join),
    st.booleans(),
)
def test_any_path_into_any_value_gives_a_value_or_a_port_error(value, path, wrapped):
    """No other error, whatever is asked of whatever."""
    with contextlib.suppress(PortError):
        take(value, path, wrapped=wrapped, node_id="n")


def test_long_names_are_cut_and_long_lists_counted():
    """A message stays readable, whatever its parts are called."""
    assert len(listed(["x" * 1000] * 1000)) < 1000
    assert did_you_mean("x" * 1000, ["x" * 999]) == ""
    assert did_you_mean("a", map(str, range(100_000))) == ""


def spec_of(known, *, is_open=False, wrapped=False):
    ports = {name: Port(name, kind) for name, kind in known.items()}
    return NodeSpec("n", "Function", outputs=Ports(ports, is_open), wrapped=wrapped)


@pytest.mark.parametrize(
    ("known", "wrapped", "path", "kind"),
    [
        ({"result": int}, False, "result", int),
        ({"result": int}, False, None, int),
        ({"result": int}, True, None, None),
        ({"result": Totals}, False, "total", int),
        ({"result": Totals}, False, "page.rows", list[int]),
        ({"result": Totals}, True, "result.page.rows.0", int),
        ({"result": dict[str, int]}, False, "anything", int),
        ({"total": int, "result": Totals}, False, "total", int),
        ({"page": Page}, False, "page.title", str),
        ({"page": Page}, False, "result.page.title", str),
    ],
)
def test_types_are_followed_along_a_path(known, wrapped, path, kind):
    """What is known of a part is found through what is known of the whole."""
    port = find_port(spec_of(known, wrapped=wrapped), path)

    assert (port.annotation if port else None) == kind


@pytest.mark.parametrize(
    ("known", "wrapped", "path", "text"),
    [
        (
            {"users": None},
            False,
            "usres",
            "its outputs are 'users', 'result'; did you mean 'users'",
        ),
        ({"result": int}, False, "total", "nothing is called 'total' in int"),
        ({"result": Totals}, True, "result.totl", "nothing is called 'totl' in Totals"),
        ({"result": Totals}, False, "page.titel", "nothing is called 'titel' in Page"),
        ({"result": list[int]}, False, "first", "nothing is called 'first' in list[int]"),
        ({"result": None}, True, "users", "did you mean 'result.users'"),
    ],
)
def test_what_cannot_be_there_is_known_before_the_run(known, wrapped, path, text):
    """Where the outputs are known, a wrong one is found without running anything."""
    with pytest.raises(PortError) as caught:
        find_port(spec_of(known, wrapped=wrapped), path)

    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("known", "wrapped", "path"),
    [
        ({}, False, "anything.at.all"),
        ({"result": None}, False, "x"),
        ({"result": None}, True, "result.x"),
        ({"a": None}, False, "b"),
    ],
)
def test_what_may_be_there_is_not_refused(known, wrapped, path):
    """Where more outputs are possible, only the run can tell."""
    assert find_port(spec_of(known, is_open=True, wrapped=wrapped), path) is None
