"""Where spans stand outside: phases, children, roots, spans of others, a whole run."""

from __future__ import annotations

import asyncio

import pytest

import tracing
from pocketflow_async import AsyncFlow, AsyncNode, suspended
from tests.tracing.langfuse_kit import observed
from tests.tracing.langfuse_kit_mapping import attributes, tree
from tests.tracing.mapping_kit import (
    BOOM,
    NODES,
    ROUTE,
    START,
    jaeger,
    langfuse,
    out,
    phase,
    phoenix,
    record,
    sent,
)
from tracing import trace_flow
from tracing.expansion import expand_tree
from tracing.export.model import CLIENT, PHASES
from tracing.record import host_id, phase_id
from tracing.store.model import Event

# --- phases ---------------------------------------------------------------------------------------

RETRIED = (
    phase(0, "prep"),
    phase(1, "exec", "failed", error=BOOM, wait=0.25),
    phase(2, "suspended", note="asks a person"),
    phase(3, "exec", "failed", attempt=1, error=BOOM._replace(message="again")),
    phase(4, "fallback"),
    phase(5, "post"),
)


def test_phases_that_are_shown_are_spans_below_their_record():
    """Name, number of the attempt, its error and the wait after it, the reason of a suspension."""
    host, *phases = out(record(phases=RETRIED))

    assert [(found.name, found.parent_id) for found in phases] == [
        (f"Node.{found.kind}", host.span_id) for found in RETRIED
    ]
    first, second = [found for found in phases if found.name == "Node.exec"]
    assert (first.attributes["flow.attempt"], second.attributes["flow.attempt"]) == (1, 2)
    assert first.attributes["flow.wait_seconds"] == 0.25
    assert (first.status, first.message) == (2, "ValueError: boom")
    assert phases[2].attributes["flow.reason"] == "asks a person"
    assert host.attributes["flow.attempts"] == 2
    assert host.attributes["flow.fell_back"] is True
    assert not host.events
    assert not any("value" in name for found in phases for name in found.attributes)


def test_phases_that_are_not_shown_are_told_on_their_record():
    """Failed attempts and suspensions as events, the waits as a sum."""
    (host,) = out(record(phases=RETRIED), route=NODES)

    assert [(event.name, event.attributes["flow.phase"]) for event in host.events] == [
        ("exception", "exec"),
        ("suspended", "suspended"),
        ("exception", "exec"),
    ]
    assert host.events[0].attributes["flow.wait_seconds"] == 0.25
    assert host.events[2].attributes["flow.attempt"] == 2
    assert host.events[1].attributes["flow.reason"] == "asks a person"
    assert host.attributes["flow.wait_seconds"] == 0.25
    assert (host.status, host.attributes["flow.attempts"]) == (1, 2)


def test_attempts_are_numbered_and_counted_where_there_were_several():
    """The one that succeeded too; a node that needed one says nothing of it."""
    phases = (phase(0, "exec", "failed", error=BOOM), phase(1, "exec", attempt=1))
    host, _, second = out(record(phases=phases))
    assert second.attributes["flow.attempt"] == 2
    assert (second.status, host.attributes["flow.attempts"]) == (1, 2)

    host, only = out(record(phases=(phase(0, "exec"),)))
    assert only.attributes["flow.attempt"] == 1
    assert "flow.attempts" not in host.attributes


def test_events_and_folded_phases_stand_in_order_of_time():
    """Whoever told of them."""
    events = (Event("early", START), Event("late", START + 9))
    phases = (phase(3, "exec", "failed", error=BOOM),)
    (host,) = out(record(phases=phases, events=events), route=NODES)

    assert [event.name for event in host.events] == ["early", "exception", "late"]


def test_an_error_that_left_a_folded_attempt_is_told_once():
    """The last attempt's error is the record's own."""
    last = (phase(0, "exec", "failed", error=BOOM),)
    (host,) = out(record(phases=last, outcome="failed", error=BOOM), route=NODES)

    assert [event.name for event in host.events] == ["exception"]


@pytest.mark.parametrize("kind", sorted(PHASES))
def test_children_of_a_phase_that_is_no_span_move_to_its_record(kind):
    """The record's id follows from the phase's."""
    parent = phase_id(0xAA, 3)
    child = record(parent_id=f"{parent:016x}", span_id="00000000000000bb")

    assert host_id(parent, 3) == 0xAA
    (folded,) = out(child, within=(3, kind), route=NODES)
    (shown,) = out(child, within=(3, kind))
    assert folded.parent_id == (0xAA).to_bytes(8, "big")
    assert shown.parent_id == parent.to_bytes(8, "big")


# --- roots and spans of others --------------------------------------------------------------------


def test_only_a_root_is_marked_as_one():
    """With no parent; or with a foreign one, which may never arrive: then for both versions."""
    marks = ("langfuse.internal.is_app_root", "langfuse.internal.as_root")

    def marked(span, **more):
        own = out(span, "langfuse", **more)[0]
        return own.is_remote, *(own.attributes.get(mark) for mark in marks)

    assert marked(record("flow", parent_id=None)) == (False, True, None)
    assert marked(record("flow"), foreign=True) == (True, True, "true")
    assert marked(record("flow")) == (False, None, None)
    assert langfuse(record("flow"), foreign=True).is_root
    assert not langfuse(record("flow")).is_root


def test_a_span_of_another_instrumentation_goes_out_as_it_came():
    """Its names, scope and kind are its own; the trace's facts are added where it has none."""
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt",
        "gen_ai.input.messages": "[1]",
        "session.id": "theirs",
        "metadata": '{"a":1}',
        "otel.scope.name": "opentelemetry.instrumentation.openai_v2",
        "otel.scope.version": "2.4",
        "otel.kind": "client",
    }
    span = record("span", "chat gpt", input=None, output=None, attributes=said)
    (found,) = out(span)

    assert found.scope == ("opentelemetry.instrumentation.openai_v2", "2.4")
    assert found.kind == CLIENT
    assert found.status == 0
    own = {name: value for name, value in said.items() if not name.startswith("otel.")}
    assert found.attributes == own
    assert not set(found.attributes) & set(found.shared)
    shown = langfuse(span)
    assert (shown.type, shown.model, shown.input) == ("GENERATION", "gpt", [1])
    assert (shown.session_id, shown.user_id, shown.trace_name) == ("theirs", "u-1", "Flow")


@pytest.mark.parametrize(
    ("said", "sent_on"),
    [
        ({}, {"input.value": '{"a":1}', "output.value": "plain", "output.mime_type": "text/plain"}),
        ({"gen_ai.input.messages": [{"a": 1}], "gen_ai.output.messages": ["plain"]}, {}),
        (
            {"gen_ai.input.messages": [{"a": 1}]},
            {"input.value": '{"a":1}', "output.value": "plain"},
        ),
    ],
)
def test_contents_taken_from_a_foreign_span_go_back_under_their_names(said, sent_on):
    """Unless they are there still under another name; then Langfuse finds them by that."""
    scope = {"otel.scope.name": "x"}
    span = record("tool", input=b'{"a":1}', output=b'"plain"', attributes={**said, **scope})
    tags = jaeger(span)

    assert {name: tags[name] for name in sent_on} == sent_on
    assert bool(sent_on) == ("input.value" in tags)
    assert langfuse(span).input in ({"a": 1}, [{"a": 1}])
    assert langfuse(span).output in ("plain", ["plain"])


def test_a_foreign_mapping_goes_out_as_json():
    """The store has JSON texts as what they mean, so that secrets in them are found."""
    said = {"otel.scope.name": "x", "tool.parameters": {"q": 1}, "metadata": {"a": 1}}
    span = record("tool", attributes=said)

    assert jaeger(span)["tool.parameters"] == '{"q":1}'
    assert phoenix(span)["metadata"]["a"] == 1


@pytest.mark.parametrize(
    ("whence", "marked", "remote"),
    [("remote", True, True), ("opentelemetry", True, False), ("langfuse", False, False)],
)
def test_who_has_the_parent_decides_whether_a_span_is_a_root(whence, marked, remote):
    """Spans of Langfuse's own SDK do arrive in Langfuse; others may not."""
    span = record("flow", attributes={"flow.parent": whence})

    assert langfuse(span, foreign=True).is_root is marked
    assert out(span, foreign=True)[0].is_remote is remote


@pytest.mark.parametrize("scope", [{}, {"otel.scope.name": "x"}], ids=["ours", "foreign"])
def test_links_go_out_as_links(scope):
    """And what only looks like one is left out."""
    link = {"trace_id": "cd" * 16, "span_id": "ef" * 8, "attributes": {"why": "asked", "n": {}}}
    said = {"otel.links": [link, {"trace_id": "x"}, 3, {**link, "span_id": "ef"}], **scope}
    (found, *_) = sent(out(record("span", attributes=said)))[1]

    (only,) = found.links
    assert (only.trace_id.hex(), only.span_id.hex()) == ("cd" * 16, "ef" * 8)
    assert attributes(only.attributes) == {"why": "asked", "n": "{}"}
    assert not [name for name in attributes(found.attributes) if "links" in name]


@pytest.mark.parametrize("kind", ["internal", "server", "client", "producer", "consumer"])
def test_a_foreign_span_keeps_its_kind(kind):
    """All five of OpenTelemetry, and its errors with one exception event."""
    said = {"otel.scope.name": "x", "otel.kind": kind}
    events = (Event("exception", START, {"exception.type": "E"}),)
    span = record("span", attributes=said, outcome="failed", error=BOOM, events=events)
    (found,) = out(span)

    assert found.kind == ["internal", "server", "client", "producer", "consumer"].index(kind) + 1
    assert (found.status, len(found.events)) == (2, 1)


# --- a whole run ----------------------------------------------------------------------------------


class Ask(AsyncNode):
    async def prep_async(self, shared):
        return shared["question"]

    async def exec_async(self, question):
        with suspended("asks a model"):
            await asyncio.sleep(0)
        with tracing.generation("call", model="small", input=question) as call:
            call.event("sent")
            if self.cur_retry == 0:
                raise ValueError("busy")
            call.update(output="because", usage={"input": 3, "output": 1})
        return "because"


@pytest.fixture
def ran(traces):
    ask = Ask(2)
    ask >> AsyncFlow(start=AsyncNode(), name="Inner")
    flow = trace_flow()(AsyncFlow(start=ask, name="Outer"))
    with tracing.propagate(session_id="s-9"):
        asyncio.run(flow.run_async({"question": "why"}))
    (found,) = traces.all()
    return found


ALL_SHOWN = [
    ("Outer", [
        ("Outer.prep", []),
        ("Ask", [
            ("Ask.prep", []),
            ("Ask.exec", [("Ask.suspended", []), ("call", [])]),
            ("Ask.exec", [("Ask.suspended", []), ("call", [])]),
            ("Ask.post", []),
        ]),
        ("Inner", [
            ("Inner.prep", []),
            ("AsyncNode", [("AsyncNode.prep", []), ("AsyncNode.exec", []), ("AsyncNode.post", [])]),
            ("Inner.post", []),
        ]),
        ("Outer.post", []),
    ]),
]  # fmt: skip
NODES_SHOWN = [("Outer", [("Ask", [("call", []), ("call", [])]), ("Inner", [("AsyncNode", [])])])]


def test_the_tree_of_a_run_is_the_same_for_everybody(ran):
    """Langfuse, Phoenix and Jaeger get spans of the same ids, names and parents."""
    trees = []
    for dialect in ("langfuse", "otlp"):
        batch, spans = sent(expand_tree(ran, ROUTE, dialect))
        trees.append(tree(list(observed(batch))))
        trees.append([(span.span_id, span.parent_span_id, span.name) for span in spans])
        assert all(attributes(span.attributes)["session.id"] == "s-9" for span in spans)

    assert trees[0] == trees[2]
    assert trees[1] == trees[3]


@pytest.mark.parametrize(("route", "names"), [(ROUTE, ALL_SHOWN), (NODES, NODES_SHOWN)])
def test_a_run_is_one_tree_with_phases_and_without(ran, route, names):
    """One root, every parent there; without phases what was inside moves to the node."""
    found = list(observed(sent(expand_tree(ran, route, "langfuse"))[0]))

    assert [one.name for one in found if one.is_root] == ["Outer"]
    assert _without_suspensions(tree(found)) == _without_suspensions(names)
    calls = [one for one in found if one.name == "call"]
    assert [(one.type, one.level, one.output) for one in calls] == [
        ("GENERATION", "ERROR", None),
        ("GENERATION", "DEFAULT", "because"),
    ]


def _without_suspensions(found):
    """A suspension's place among the phases is the recorder's affair, and tested there."""
    return [
        (name, _without_suspensions(below))
        for name, below in found
        if not name.endswith(".suspended")
    ]
