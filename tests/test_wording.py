"""Words of messages."""

from __future__ import annotations

from typing import Any

import pytest

from pocketflow_async.wording import a
from pocketflow_async.workflow import Edge
from pocketflow_async.workflow.errors import ConnectionError
from pocketflow_async.workflow.ports import take
from pocketflow_async.workflow.validate import check_edge


@pytest.mark.parametrize("word", ["object", "int", "OrderedDict", "Exception", "array"])
def test_vowels_take_an(word):
    """As it is spoken."""
    assert a(word) == f"an {word}"


@pytest.mark.parametrize("word", ["list", "str", "UUID", "dict", "_Private", ""])
def test_all_else_takes_a(word):
    """So do names that begin as "you" does."""
    assert a(word) == f"a {word}"


def test_what_a_node_has_yielded_has_its_article():
    """The error about a missing output says "an object"."""
    with pytest.raises(Exception, match="there is an object, which has no parts"):
        take(object(), "price", wrapped=False, node_id="n")


def test_a_question_ends_its_sentence():
    """No full stop comes after "did you mean …?"; without the question there is one."""
    nodes: dict[str, Any] = {"total": None}
    for end, said in (("totl", "; did you mean 'total'?\n"), ("zzz", "in workflow.\n")):
        with pytest.raises(ConnectionError) as caught:
            check_edge(nodes, [], Edge("total", "result", end, "x"))
        assert said in str(caught.value)
