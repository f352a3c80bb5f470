"""Whatever a record holds, what goes out is legal, told once, and in its place."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.tracing.langfuse_kit import observed
from tests.tracing.langfuse_kit_mapping import attributes
from tracing.export.attributes import environment, legal, shared_attributes
from tracing.export.expand import expand
from tracing.export.model import ERROR, OK, PHASES, UNSET, Route
from tracing.export.protobuf import encode
from tracing.record import INTERRUPTED, OUTCOMES, Failure, phase_id
from tracing.store.model import Event, PhaseSpan, Span, TraceFacts

HIJACKED = frozenset(
    {"model", "prompt", "input", "output", "events", "tool_arguments", "tool_response", "metadata"}
    | {"all_messages_events", "genkit:name", "logfire.msg"}
)
NAMES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            *HIJACKED,
            *("session_id", "user_id", "tags", "session.id", "tag.tags", "langfuse.trace.name"),
            *("gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.x.y"),
            *("gen_ai.request.top_k", "gen_ai.output.messages", "gen_ai.operation.name"),
            *("gen_ai.tool.name", "gen_ai.response.model", "flow.cost", "flow.cost.input"),
            *("flow.level", "flow.status_message", "flow.completion_start_ns", "action"),
            *("flow.parent", "otel.links", "otel.trace_id", "input.value"),
            *("flow.kind", "flow.attr.x", "otel.kind", "langfuse.observation.type"),
        ]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(), max_size=12),
    st.sampled_from(["\ud800", "invoke_agent", "", "x" * 300]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
FAILURES = st.builds(
    Failure,
    st.text(max_size=9),
    st.text(max_size=9),
    st.lists(
        st.tuples(st.text(max_size=5), st.integers(0, 99), st.text(max_size=5)), max_size=2
    ).map(tuple),
)
KINDS = st.sampled_from(
    [
        *("flow", "workflow", "node", "item", "function", "span", "event", "other", "generation"),
        *("embedding", "agent", "tool", "retriever", "reranker", "guardrail", "evaluator"),
        "score",
    ]
)
TIMES = st.integers(0, 4 * 10**18)
SPAN_IDS = st.integers(1, 2**64 - 1)


@st.composite
def phases(draw, host):
    kinds = draw(st.lists(st.sampled_from(sorted(PHASES)), max_size=5))
    return tuple(
        PhaseSpan(
            f"{phase_id(host, ordinal):016x}",
            kind,
            draw(st.integers(0, 3)),
            draw(TIMES),
            draw(st.none() | TIMES),
            draw(st.sampled_from([*OUTCOMES, INTERRUPTED])),
            draw(st.none() | FAILURES),
            draw(st.none() | st.floats(0, 1e6)),
            draw(st.none() | st.text(max_size=5)),
        )
        for ordinal, kind in enumerate(kinds)
    )


@st.composite
def records(draw):
    own = draw(SPAN_IDS)
    foreign = {"otel.scope.name": "theirs"} if draw(st.integers(0, 9)) == 0 else {}
    return Span(
        "ab" * 16,
        f"{own:016x}",
        draw(st.none() | SPAN_IDS.map("{:016x}".format)),
        draw(KINDS),
        draw(st.text(max_size=9)),
        draw(st.none() | st.integers(0, 2**64 - 1)),
        draw(TIMES),
        draw(st.none() | TIMES),
        draw(st.sampled_from([*OUTCOMES, INTERRUPTED, "running"])),
        draw(st.none() | FAILURES),
        draw(st.none() | st.sampled_from([b"1", b'"\xc3\xa9"', b"\xff", b""])),
        draw(st.none() | st.just(b'{"a":1}')),
        {**draw(st.dictionaries(NAMES, VALUES, max_size=5)), **foreign},
        draw(phases(own)),
        (),
        tuple(
            Event(name, at, said)
            for name, at, said in draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(["e", "gen_ai.user.message", ""]),
                        TIMES,
                        st.dictionaries(st.text(max_size=4), VALUES, max_size=2),
                    ),
                    max_size=2,
                )
            )
        ),
    )


FACTS = st.builds(
    TraceFacts,
    st.just("ab" * 16),
    st.text(max_size=9),
    st.none() | st.text(max_size=9) | st.just("é" * 300),
    st.none() | st.text(max_size=9),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
    st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
)
ROUTES = st.builds(
    Route,
    st.just(()),
    st.dictionaries(
        st.sampled_from(["service.version", "deployment.environment.name"]),
        st.text(max_size=50) | st.just("langfuse-Prod EU"),
    ),
    st.sets(st.sampled_from(sorted(PHASES))).map(frozenset),
    st.none() | st.text(max_size=9),
)
WITHIN = st.none() | st.tuples(st.integers(0, 9), st.sampled_from(sorted(PHASES)))
DIALECTS = st.sampled_from(["otlp", "langfuse"])


def is_legal(value):
    if type(value) is list:
        return len({type(item) for item in value}) <= 1 and all(map(is_scalar, value))
    return is_scalar(value)


def is_scalar(value):
    if type(value) is str:
        return not any("\ud800" <= sign <= "\udfff" for sign in value)
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return type(value) in (bool, bytes) or (type(value) is float and math.isfinite(value))


@given(VALUES)
@example(math.nan)
@example([1.0, math.inf])
@example([2**63, 1])
@example("\ud800")
@example([["a"]])
@example({"k": 2**64})
def test_every_value_becomes_one_that_otlp_knows(value):
    """Nothing is refused, and what is legal stays what it is."""
    found = legal(value)

    assert is_legal(found)
    assert legal(found) == found
    assert not is_legal(value) or found == value


@settings(deadline=None)
@given(records(), FACTS, ROUTES, WITHIN, DIALECTS, st.booleans())
def test_every_span_that_goes_out_is_legal(record, facts, route, within, dialect, foreign):
    """Ids, times, status, names and values, of the span and of its events."""
    shared = shared_attributes(facts, route, dialect)
    for out in expand(record, facts, within, route, dialect, shared, foreign=foreign):
        assert (len(out.trace_id), len(out.span_id)) == (16, 8)
        assert out.parent_id is None or len(out.parent_id) == 8
        assert out.start_ns <= out.end_ns
        assert out.status in (UNSET, OK, ERROR)
        assert (out.status == ERROR) >= bool(out.message)
        events = [event.attributes for event in out.events]
        for said in (out.attributes, out.shared, *events):
            assert all(type(name) is str and is_legal(said[name]) for name in said)
        assert not set(out.attributes) & set(out.shared)


@settings(deadline=None)
@given(records(), FACTS, ROUTES, WITHIN, DIALECTS)
def test_no_name_of_a_user_is_bare(record, facts, route, within, dialect):
    """Names that a back end would read are ours; a foreign span keeps its own."""
    shared = shared_attributes(facts, route, dialect)
    for out in expand(record, facts, within, route, dialect, shared):
        if out.scope[0] == "theirs":
            continue
        names = set(out.attributes) | set(out.shared)
        assert not names & (HIJACKED - {"metadata"})
        assert all(
            name.startswith(("flow.", "gen_ai.", "langfuse.", "input.", "output.", "llm.cost."))
            or name
            in {"openinference.span.kind", "error.type", "session.id", "user.id"}
            | {"tag.tags", "metadata"}
            for name in names
        )
        if out.attributes["openinference.span.kind"] == "CHAIN":
            assert not any(name.startswith("gen_ai.") for name in names)


@settings(deadline=None)
@given(records(), FACTS, ROUTES, WITHIN, DIALECTS)
def test_parents_are_consistent(record, facts, route, within, dialect):
    """Each phase that is shown is below its record, and the record below what is shown of its."""
    shared = shared_attributes(facts, route, dialect)
    found = expand(record, facts, within, route, dialect, shared)
    if not found:
        assert (record.kind, dialect) == ("score", "langfuse")
        return
    host, *below = found

    assert host.span_id.hex() == record.span_id
    assert all(out.parent_id == host.span_id for out in below)
    if record.kind != "score" and host.scope[0] != "theirs":
        shown = [phase.span_id for phase in record.phases if phase.kind in route.shown]
        assert [out.span_id.hex() for out in below] == shown
    if record.parent_id is None:
        assert host.parent_id is None
    elif within is None or within[1] in route.shown:
        assert host.parent_id == bytes.fromhex(record.parent_id)
    elif host.parent_id is not None:
        parent = int.from_bytes(host.parent_id, "big")
        assert f"{phase_id(parent, within[0]):016x}" in (record.parent_id, f"{1:016x}")


@settings(deadline=None)
@given(records(), FACTS, ROUTES)
def test_what_is_recorded_shows_in_langfuse(record, facts, route):
    """Contents, level and the trace's facts come through the wire and the server's mapping."""
    shared = shared_attributes(facts, route, "langfuse")
    spans = expand(record, facts, None, route, "langfuse", shared)
    batch = ExportTraceServiceRequest.FromString(encode(spans, route.resource))
    for found in observed(batch):
        word = environment(route.resource)
        assert not word or found.environment == word
    if spans and spans[0].scope[0] != "theirs":
        found = next(observed(batch))
        assert found.trace_name == (facts.name or "")
        assert (record.output is not None) <= (found.output == {"a": 1})
        assert found.usage == {} or all(type(count) is int for count in found.usage.values())
        said = attributes(batch.resource_spans[0].scope_spans[0].spans[0].attributes)
        assert said["flow.kind"] == record.kind
        if "flow.level" not in record.attributes:
            failed = record.outcome not in ("completed", "running", "skipped")
            assert found.level == ("ERROR" if failed else "DEFAULT")
