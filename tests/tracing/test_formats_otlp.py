"""OTLP JSON lines: what is written is what would be sent, and anybody's lines can be read."""

from __future__ import annotations

import asyncio
import itertools
import json
import warnings
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

import tracing
from tests.tracing.test_formats_jsonl import NOW, TRACE, arrived, imported, simple
from tests.tracing.test_random_flows import Trouble, build, programs
from tests.tracing.wire_kit import attributes, decode_json
from tracing import TracingConfig, trace_flow
from tracing.export.model import Route
from tracing.formats import otlp_lines
from tracing.formats.importing import Importer
from tracing.formats.reading import BadFile, read
from tracing.store import TraceReader, open_store

NUMBERS = itertools.count()


def value(found):
    kinds = {str: "stringValue", bool: "boolValue", float: "doubleValue"}
    if isinstance(found, int) and not isinstance(found, bool):
        return {"intValue": str(found)}
    if isinstance(found, list):
        return {"arrayValue": {"values": [value(one) for one in found]}}
    return {kinds[type(found)]: found}


def pairs(**found):
    return [{"key": name.replace("__", "."), "value": value(one)} for name, one in found.items()]


def foreign(number, parent=None, **fields):
    """A span as SDKs write it."""
    return {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        **({"parentSpanId": f"{parent:016x}"} if parent else {}),
        "name": f"s{number}",
        "kind": 1,
        "startTimeUnixNano": str(NOW + number),
        "endTimeUnixNano": str(NOW + 100 - number),
        "status": {},
        **fields,
    }


def line(*spans, scope=None, resource=None):
    said = {"scope": scope or {"name": "my.lib", "version": "1.2"}, "spans": list(spans)}
    about = {"attributes": pairs(**(resource or {"service__name": "shop"}))}
    return (
        json.dumps({"resourceSpans": [{"resource": about, "scopeSpans": [said]}]}).encode() + b"\n"
    )


def tree_of(lines, tmp_path):
    """Read *lines* into a new store, and return the only trace in it."""
    path = tmp_path / f"{next(NUMBERS)}.db"
    with Importer(str(path), NOW) as importer:
        for trace in read("some.jsonl", lines):
            importer.add(trace)
    reader = TraceReader(path)
    (summary,) = reader.traces()
    return reader.trace(summary.trace_id)


# -- of others ---------------------------------------------------------------------------------


def test_spans_of_others_become_records(tmp_path):
    """Attributes keep their names, and what made the span stands beside them."""
    call = pairs(gen_ai__operation__name="chat", gen_ai__request__model="m", n=3, b=True, f=0.5)
    lines = [
        line(foreign(2, 1, kind=3, attributes=call, events=[
            {"timeUnixNano": str(NOW + 5), "name": "hello", "attributes": pairs(x=1)}])),
        line(foreign(1, kind="SPAN_KIND_SERVER", attributes=pairs(
            input__value='{"q":1}', input__mime_type="application/json", output__value="plain",
            session__id="s", user__id="u", many=["a", "b"]))),
    ]  # fmt: skip

    tree = tree_of(lines, tmp_path)

    summary, (root,) = tree.summary, tree.roots
    assert (summary.name, summary.outcome, summary.spans) == ("s1", "completed", 2)
    assert (summary.session_id, summary.user_id) == ("s", "u")
    assert summary.metadata == {"resource": {"service.name": "shop"}}
    assert (summary.started_ns, summary.duration_ns) == (NOW + 1, 98)
    assert (root.kind, root.input, root.output) == ("span", b'{"q":1}', b'"plain"')
    assert root.attributes["many"] == ["a", "b"]
    assert root.attributes["otel.kind"] == "server"
    (child,) = root.children
    assert (child.kind, child.model) == ("generation", "m")
    assert child.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "n": 3,
        "b": True,
        "f": 0.5,
        "otel.scope.name": "my.lib",
        "otel.scope.version": "1.2",
        "otel.kind": "client",
    }
    assert [(event.name, event.attributes) for event in child.events] == [("hello", {"x": 1})]


def test_an_exception_becomes_the_error_of_its_span(tmp_path):
    """Type, message and the frames of the last traceback; without one, what the status says."""
    stack = 'Traceback (most recent call last):\n  File "a.py", line 7, in f\n    x()\nE: boom\n'
    raised = {
        "timeUnixNano": str(NOW + 3),
        "name": "exception",
        "attributes": pairs(
            exception__type="E", exception__message="boom", exception__stacktrace=stack
        ),
    }
    bad = {"code": 2, "message": "it broke"}

    root = tree_of(
        [line(foreign(1, status=bad, events=[raised]), foreign(2, 1, status=bad))], tmp_path
    )
    root = root.roots[0]

    assert (root.outcome, root.error) == ("failed", ("E", "boom", (("a.py", 7, "f"),)))
    assert root.events == ()
    assert root.children[0].error == ("Error", "it broke", ())


def test_a_collectors_file(tmp_path):
    """Metrics and logs are passed over, a trace may be many lines apart, a span come twice."""
    lines = [
        b'{"resourceMetrics":[{"scopeMetrics":[]}]}\n',
        line(foreign(2, 1)),
        b'{"resourceLogs":[]}\n',
        line(foreign(2, 1, name="again")),
        line(foreign(1)),
    ]

    tree = tree_of(lines, tmp_path)

    assert tree.summary.spans == 2
    assert tree.roots[0].children[0].name == "again"


def test_links_and_a_span_without_an_end(tmp_path):
    """Links are kept as the rest of the package has them; what never ended is interrupted."""
    link = {"traceId": "f" * 32, "spanId": "e" * 16, "attributes": pairs(why="retry")}

    (root,) = tree_of([line(foreign(1, endTimeUnixNano="0", links=[link]))], tmp_path).roots

    assert root.outcome == "interrupted"
    assert root.attributes["otel.links"] == [
        {"trace_id": "f" * 32, "span_id": "e" * 16, "attributes": {"why": "retry"}}
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"traceId": "zz"}, "traceId must be 32 hex digits"),
        ({"spanId": "0" * 16}, "spanId must be 16 hex digits and not zero"),
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano must be a whole number"),
        ({"attributes": [{"key": 1}]}, "key must be a text, not 1"),
        ({"events": {}}, "events must be a list of objects"),
    ],
)
def test_a_bad_span_is_named_by_its_line(change, said):
    """The line's number and what is wrong."""
    with pytest.raises(BadFile) as caught:
        next(read("x.jsonl", [line(foreign(1)), line(foreign(2, 1, **change))]))

    assert f"x.jsonl:2: {said}" in str(caught.value)


# -- ours --------------------------------------------------------------------------------------


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=programs)
def test_our_own_spans_come_back_with_their_phases(spec, tmp_path):
    """The official decoder reads the lines, and the tree that is read from them is the same."""
    from pocketflow_async import AsyncFlow

    path = tmp_path / f"{next(NUMBERS)}.db"
    flow = trace_flow(TracingConfig(store=path, session_id="s", user_id="u"), tags=["t"])(
        AsyncFlow(build(spec, []))
    )
    with warnings.catch_warnings(), suppress(Trouble):
        warnings.simplefilter("ignore")  # such as those of unknown actions
        asyncio.run(flow.run_async({"n": 0}))
    open_store(path).close(30)
    reader = TraceReader(path)
    tree = reader.trace(reader.traces()[0].trace_id)
    lines = [*otlp_lines.lines(tree, Route(resource={"service.name": "x"}))]

    for one in lines:
        decode_json(one)
    again = tree_of(lines, tmp_path)
    assert again.roots == tree.roots
    assert again.summary == replace(tree.summary, metadata={"resource": {"service.name": "x"}})


def test_hidden_phases_move_their_children_to_the_record(store_path, tmp_path):
    """With no phase shown, a span that was opened in one hangs under the node."""
    from pocketflow_async import AsyncFlow, AsyncNode

    class Ask(AsyncNode):
        async def exec_async(self, prepared):
            with tracing.span("inner"):
                tracing.score("good", 1)

    asyncio.run(trace_flow(AsyncFlow(Ask())).run_async({}))
    open_store().flush(10)
    reader = TraceReader(store_path)
    tree = reader.trace(reader.traces()[0].trace_id)

    for shown in (frozenset({"exec"}), frozenset()):
        (request,) = [decode_json(one) for one in otlp_lines.lines(tree, Route(shown=shown))]
        spans = {
            span.name: span
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
        above = spans["Ask.exec" if shown else "Ask"]
        assert spans["inner"].parent_span_id == above.span_id
        assert attributes(spans["Ask"])["flow.kind"] == "node"
        assert len(spans) == 5 if shown else 4


def test_lines_hold_about_five_hundred_spans(tmp_path):
    """A long trace is several lines, each of which is whole."""
    spans = [
        simple(),
        *(simple(span_id=f"{n:016x}", parent_id=f"{0xAA:016x}") for n in range(1000, 2200)),
    ]
    imported(tmp_path / "a.db", arrived(*spans))

    lines = [*otlp_lines.lines(TraceReader(tmp_path / "a.db").trace(TRACE), Route())]

    counts = [
        sum(
            len(scope.spans)
            for one in decode_json(text).resource_spans
            for scope in one.scope_spans
        )
        for text in lines
    ]
    assert counts == [500, 500, 201]
