"""What users add to the redactor: patterns and functions of their own."""

from __future__ import annotations

import logging
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracing.redact import FAILED, Redactor

IBAN = r"\b[A-Z]{2}\d{2}(?: ?\w{2,4}){3,8}\b"


def applied(redact: Redactor, value: object) -> Any:
    return orjson.loads(redact.apply(orjson.dumps(value)))


def test_patterns_are_looked_for_everywhere():
    """In values, keys, lists and bare texts, whatever else the document is made of."""
    redact = Redactor(patterns=[IBAN, re.compile("case-(?i:file)")], replacement="<gone>")
    iban = "DE89 3704 0044 0532 0130 00"

    assert applied(redact, iban) == "<gone>"
    assert applied(redact, [1, [f"to {iban}!"], None]) == [1, ["to <gone>!"], None]
    assert applied(redact, {iban: {"a": "CASE-FILE case-FILE"}, "b": 1}) == {
        "<gone>": {"a": "CASE-FILE <gone>"},
        "b": 1,
    }
    assert redact.text(f"bad {iban}") == "bad <gone>"


def test_what_no_pattern_matches_is_the_same_object():
    """A document without anything to hide is not replaced by a copy."""
    payload = orjson.dumps({"a": ["b", 1, {"c": "d"}]})

    assert Redactor(patterns=[IBAN]).apply(payload) is payload
    assert Redactor(functions=[lambda document: document]).apply(payload) is payload


def test_a_replacement_is_taken_as_it_is():
    """Backslashes in it mean nothing, and a pattern that matches nothing at all adds nothing."""
    assert Redactor(patterns=["b"], replacement=r"\g<0>\1").text("abc") == r"a\g<0>\1c"
    assert Redactor(patterns=["x*"]).text("abxc") == "ab[redacted]c"


@pytest.mark.parametrize("pattern", ["(", re.compile(b"x"), 5])
def test_what_is_no_pattern_is_refused(pattern):
    """A mistake shows where it is made, in words that say what to do."""
    with pytest.raises(ValueError, match="Give"):
        Redactor(patterns=[pattern])


def test_a_function_decides_what_is_kept():
    """It gets the document with the secrets gone already; what it returns is stored."""
    seen: list[Any] = []

    def keep(document: Any) -> Any:
        seen.append(document)
        return {"rows": len(document["rows"])}

    redact = Redactor(functions=[keep, lambda document: [document]])

    assert applied(redact, {"rows": [1, 2], "password": "x"}) == [{"rows": 2}]
    assert seen == [{"rows": [1, 2], "password": "[redacted]"}]


def test_functions_see_bare_values_and_messages():
    """Every document goes through them, as does the message of an error."""
    redact = Redactor(functions=[lambda value: value.upper() if isinstance(value, str) else value])

    assert applied(redact, "abc") == "ABC"
    assert applied(redact, 5) == 5
    assert redact.text("abc") == "ABC"
    assert Redactor(functions=[lambda value: None]).text("abc") == "null"


@pytest.mark.parametrize("result", [object(), {1: 2}, {"a": {3}}, "\ud800"])
def test_a_function_that_fails_keeps_nothing(result, caplog):
    """Neither what it got nor what it said is stored or logged; one warning names it."""

    def broken(document: Any) -> Any:
        if result == "\ud800":
            raise ValueError("the secret is hunter2")
        return result

    redact = Redactor(functions=[broken])
    with caplog.at_level(logging.WARNING, "tracing.redact"):
        kept = [redact.apply(b'{"a":"hunter2"}'), redact.apply(b"[1]"), redact.text("hunter2")]

    assert kept == [b'"[redaction failed]"', b'"[redaction failed]"', FAILED]
    (line,) = caplog.messages
    assert "broken" in line
    assert "hunter2" not in caplog.text


def test_each_function_that_fails_is_named_once(caplog):
    """A second one is not hidden behind the first."""

    def first(document: Any) -> Any:
        return document if document == 1 else document / 0

    def second(document: Any) -> Any:
        return document / 0

    redact = Redactor(functions=[first, second])
    for document in (b"1", b"2", b"1", b"2"):
        assert redact.apply(document) == b'"[redaction failed]"'

    assert [name for line in caplog.messages for name in ("first", "second") if name in line] == [
        "second",
        "first",
    ]


def test_more_can_be_added():
    """`and_also` makes a stricter one; the old one stays as it was."""
    redact = Redactor(keys=["iban"], patterns=["abc"], replacement="-")
    more = redact.and_also(keys=["pin"], patterns=["xyz"], functions=[lambda tree: [tree]])

    assert applied(more, {"iban": 1, "pin": 2, "a": "abc xyz"}) == [
        {"iban": "-", "pin": "-", "a": "- -"}
    ]
    assert applied(redact, {"iban": 1, "pin": 2, "a": "abc xyz"}) == {
        "iban": "-",
        "pin": 2,
        "a": "- xyz",
    }
    assert more.keys == {"iban", "pin"}
    assert [pattern.pattern for pattern in more.patterns] == ["abc", "xyz"]
    assert len(more.functions) == 1


def test_nothing_new_is_the_same_redactor():
    """Asking again for what it does already makes no other, nor does it double anything."""
    redact = Redactor(keys=["iban"], patterns=["abc"], functions=[repr])

    assert redact.and_also() is redact
    assert redact.and_also(["iban"], [re.compile("abc")], [repr]) is redact


@pytest.mark.parametrize("depth", [1, 30, 250, 254, 255, 256, 1000, 1024, 1025, 5000])
def test_deep_documents(depth):
    """Nesting is no trouble; deeper than can be written again, the whole is replaced."""
    deep = b"[" * depth + b'"abc"' + b"]" * depth
    kept = Redactor(patterns=["abc"]).apply(deep)

    assert b"abc" not in kept
    assert kept == (deep.replace(b"abc", b"[redacted]") if depth < 255 else b'"[redacted]"')


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("abc "),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    )
)
def test_the_shape_of_a_document_stays(tree):
    """Patterns change texts and keys, and nothing around them."""
    kept = applied(Redactor(patterns=["a"], replacement="x"), tree)

    assert kept == _renamed(tree)


def _renamed(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree.replace("a", "x")
    if isinstance(tree, dict):
        return {key.replace("a", "x"): _renamed(item) for key, item in tree.items()}
    return [_renamed(item) for item in tree] if isinstance(tree, list) else tree


def test_each_config_redacts_its_own_runs_alone(traces, store_path):
    """Two configs share a store and a process: what one calls secret stays with the other."""
    from pocketflow_async import Flow, Node
    from tracing import TracingConfig, trace_flow

    class Ask(Node):
        def prep(self, shared):
            return shared["question"]

    plain = trace_flow(Flow(Ask()), "plain", config=TracingConfig(store=store_path))
    strict = trace_flow(
        Flow(Ask()),
        "strict",
        config=TracingConfig(
            store=store_path, redact_patterns=("tea",), redact_function=lambda document: document
        ),
    )
    own = trace_flow(
        Flow(Ask()),
        "own",
        config=TracingConfig(store=store_path, redact_function=lambda document: "gone"),
    )
    for flow in (plain, strict, own, plain):
        flow.run({"question": "more tea?"})

    asked = [tree.roots[0].children[0].input for tree in traces.all()]
    assert asked == [b'"more tea?"', b'"more [redacted]?"', b'"gone"', b'"more tea?"']


def test_a_run_inside_another_brings_its_own_rules(traces, store_path):
    """What an inner flow calls secret is taken out of its records, and the outer rules hold too."""
    from pocketflow_async import Flow, Node
    from tracing import TracingConfig, trace_flow

    class Say(Node):
        def prep(self, shared):
            return "tea and milk"

    inner = trace_flow(
        Flow(Say()), "inner", config=TracingConfig(store=store_path, redact_patterns=("tea",))
    )

    class Outer(Node):
        def prep(self, shared):
            inner.run({})
            return "tea and milk"

    trace_flow(
        Flow(Outer()), "outer", config=TracingConfig(store=store_path, redact_patterns=("milk",))
    ).run({})

    root = traces.one()
    (outer,) = root.children
    (inside,) = outer.children
    assert outer.input == b'"tea and [redacted]"'
    assert inside.children[0].input == b'"[redacted] and [redacted]"'
