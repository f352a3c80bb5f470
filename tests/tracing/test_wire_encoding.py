"""The bytes of our encoders are what the official decoder reads, whatever a span holds."""

from __future__ import annotations

import datetime
import json
import math
import os
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.tracing.wire_kit import all_spans, attributes, decode_json, out_span
from tracing.export import otlp_json, protobuf
from tracing.export.model import CLIENT, ERROR, OK, OutSpan, SpanEvent, SpanLink

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
INT = st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.one_of(TEXT, st.booleans(), INT, FLOAT, st.binary(max_size=60))
VALUE = st.one_of(SCALAR, *(st.lists(kind, max_size=4) for kind in (TEXT, INT, FLOAT)))
ATTRIBUTES = st.dictionaries(TEXT, VALUE, max_size=6)
TIME = st.integers(0, 2**64 - 1)
EVENT = st.builds(SpanEvent, TEXT, TIME, ATTRIBUTES)
TRACE_ID = st.binary(min_size=16, max_size=16)
SPAN_ID = st.binary(min_size=8, max_size=8)
SHARED = st.dictionaries(TEXT.map("shared.".__add__), VALUE, max_size=4)
SPAN = st.builds(
    OutSpan,
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    parent_id=st.none() | SPAN_ID,
    name=TEXT,
    start_ns=TIME,
    end_ns=TIME,
    attributes=ATTRIBUTES,
    shared=SHARED,
    status=st.integers(0, 2),
    message=TEXT,
    kind=st.integers(1, 5),
    events=st.lists(EVENT, max_size=2),
    links=st.lists(st.builds(SpanLink, TRACE_ID, SPAN_ID, ATTRIBUTES), max_size=2),
    scope=st.tuples(TEXT, TEXT),
    state=TEXT,
    is_remote=st.booleans(),
)


def decoded(spans: list[OutSpan], resource: dict[str, Any]) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(protobuf.encode(spans, resource))


def same(found: Any, expected: Any) -> bool:
    """Say whether they are the same with the same types: True is not 1, and -0.0 is not 0.0."""
    return repr(found) == repr(expected)


@given(st.lists(SPAN, max_size=5), ATTRIBUTES)
def test_official_decoder_gives_back_what_went_in(spans, resource):
    """Every field of every span survives, under its scope and resource."""
    (found,) = decoded(spans, resource).resource_spans

    assert same(attributes(found.resource), resource)
    assert len(found.scope_spans) == len({span.scope for span in spans})
    expected = sorted(spans, key=lambda span: span.scope)
    pairs = [(scope.scope, span) for scope in found.scope_spans for span in scope.spans]
    assert len(pairs) == len(expected)
    for (scope, read), span in zip(pairs, expected, strict=True):
        assert (scope.name, scope.version) == span.scope
        assert (read.trace_id, read.span_id) == (span.trace_id, span.span_id)
        assert (read.parent_span_id or None) == span.parent_id
        assert (read.name, read.kind, read.trace_state) == (span.name, span.kind, span.state)
        assert (read.start_time_unix_nano, read.end_time_unix_nano) == (span.start_ns, span.end_ns)
        assert (read.status.code, read.status.message) == (span.status, span.message)
        assert read.flags == (0x301 if span.is_remote else 0x101)
        assert same(attributes(read), {**span.attributes, **span.shared})
        assert [(at.name, at.time_unix_nano) for at in read.events] == [
            (event.name, event.at_ns) for event in span.events
        ]
        for at, event in zip(read.events, span.events, strict=True):
            assert same(attributes(at), event.attributes)
        for to, link in zip(read.links, span.links, strict=True):
            assert (to.trace_id, to.span_id) == (link.trace_id, link.span_id)
            assert same(attributes(to), link.attributes)


@given(st.lists(SPAN, max_size=5), ATTRIBUTES)
def test_json_says_the_same_as_protobuf(spans, resource):
    """The official messages, read from either, are equal."""
    from_json = decode_json(otlp_json.encode(spans, resource))

    assert from_json == decoded(spans, resource)


ANYTHING = st.recursive(
    st.one_of(
        st.text(max_size=30),
        st.integers(),
        st.floats(),
        st.none(),
        st.binary(max_size=9),
        st.dates(),
        st.builds(object),
        st.complex_numbers(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.sets(st.integers(), max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=9), ANYTHING, max_size=4), st.text(max_size=9))
@example({"": [10**5000, "\ud800"], "\udfff": {"a": 10**30}}, "\ud800")
def test_nothing_is_too_odd_to_encode(odd, text):
    """What OTLP has no type for becomes text, the same in both encodings; nothing raises."""
    span = out_span(text, attributes=odd, message=text, state=text, scope=(text, text))
    span.events = [SpanEvent(text, -5, odd)]

    request = decoded([span], odd)

    assert len(all_spans(request)) == 1
    assert decode_json(otlp_json.encode([span], odd)) == request


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Kind(str):
    pass


ROUND: list[Any] = []
ROUND.append(ROUND)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\ud800b", "a\\ud800b"),
        (2**63, "9223372036854775808"),
        (-(2**63) - 1, "-9223372036854775809"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (None, "null"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([1, [2, 3], {"b": None}], [1, "[2,3]", '{"b":null}']),
        ((1, 2), [1, 2]),
        (True, True),
        (bytearray(b"\x00"), b"\x00"),
        (Kind("x"), "x"),
        (datetime.date(2026, 11, 20), "2026-11-20"),
        (Broken(), "<Broken>"),
    ],
)
def test_best_text(value, expected):
    """What OTLP has no type for is shown as a person would like to read it."""
    (span,) = all_spans(decoded([out_span(attributes={"odd": value})], {}))

    assert same(attributes(span)["odd"], expected)


def test_integers_too_long_for_python_to_write():
    """What Python refuses to write in tens is written in hex."""
    (span,) = all_spans(decoded([out_span(attributes={"odd": 2**100_000})], {}))

    assert attributes(span)["odd"] == hex(2**100_000)


def test_lists_in_circles_are_text():
    """A list that holds itself is shown, not followed for ever."""
    (span,) = all_spans(decoded([out_span(attributes={"odd": [ROUND], "deep": ROUND})], {}))

    assert "..." in attributes(span)["odd"][0]


def test_times_out_of_range_are_moved_into_it():
    """A clock before 1970 costs the time of a span, not its batch."""
    (span,) = all_spans(decoded([out_span(start_ns=-5, end_ns=2**64 + 5)], {}))

    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (0, 2**64 - 1)


def test_equal_values_of_different_types_keep_their_types():
    """True, 1, 1.0 and "1" are not taken for one another by what the encoder remembers."""
    spans = [out_span(attributes={"v": value}) for value in (1, True, 1.0, "1", 0, False, 0.0, "")]

    found = [attributes(span)["v"] for span in all_spans(decoded(spans, {}))]

    assert [repr(value) for value in found] == [
        "1",
        "True",
        "1.0",
        "'1'",
        "0",
        "False",
        "0.0",
        "''",
    ]


def test_shared_attributes_of_two_traces_stay_apart():
    """What is remembered of `shared` is remembered for one object, not for all that are equal."""
    ours, theirs = {"session.id": "ours"}, {"session.id": "theirs"}
    spans = [out_span(shared=shared) for shared in (ours, theirs, ours)]

    found = [attributes(span)["session.id"] for span in all_spans(decoded(spans, {}))]

    assert found == ["ours", "theirs", "ours"]


def test_large_texts_and_many_spans():
    """Lengths of more than two bytes are right: a megabyte of text, four thousand spans."""
    text = "é" * 500_000
    spans = [out_span(f"n{n}", attributes={"text": text} if n == 7 else {}) for n in range(4000)]

    found = all_spans(decoded(spans, {}))

    assert [span.name for span in found] == [f"n{n}" for n in range(4000)]
    assert attributes(found[7])["text"] == text


def test_json_is_otlp_json():
    """Ids are hex, 64-bit integers text, enumerations numbers, bytes base64."""
    span = out_span(
        "call",
        trace_id=bytes(range(16)),
        span_id=b"\xab" * 8,
        parent_id=b"\xcd" * 8,
        start_ns=5,
        end_ns=6,
        attributes={"i": 2**53 + 1, "b": b"\xff", "l": ["x"], "t": True, "f": 0.5},
        kind=CLIENT,
        status=ERROR,
        message="no",
    )

    (resource,) = json.loads(otlp_json.encode([span], {"service.name": "s"}))["resourceSpans"]

    assert resource["scopeSpans"][0]["spans"] == [
        {
            "traceId": "000102030405060708090a0b0c0d0e0f",
            "spanId": "abababababababab",
            "parentSpanId": "cdcdcdcdcdcdcdcd",
            "name": "call",
            "kind": 3,
            "startTimeUnixNano": "5",
            "endTimeUnixNano": "6",
            "flags": 257,
            "status": {"code": 2, "message": "no"},
            "attributes": [
                {"key": "i", "value": {"intValue": "9007199254740993"}},
                {"key": "b", "value": {"bytesValue": "/w=="}},
                {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}},
                {"key": "t", "value": {"boolValue": True}},
                {"key": "f", "value": {"doubleValue": 0.5}},
            ],
        }
    ]


def test_same_bytes_as_the_official_encoder():
    """But for the sampled flag, a span is what the official encoder makes of it, byte for byte."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    values = {"text": "a", "number": -7, "half": 0.5, "yes": True, "list": ["x", "y"]}
    own, shared = dict(list(values.items())[:3]), dict(list(values.items())[3:])
    trace, one, two = os.urandom(16), os.urandom(8), os.urandom(8)

    def context(span: bytes) -> SpanContext:
        return SpanContext(int.from_bytes(trace), int.from_bytes(span), False, TraceFlags(1))

    theirs = ReadableSpan(
        "work",
        context(one),
        context(two),
        Resource({"service.name": "s"}),
        values,
        (),
        (),
        SpanKind.INTERNAL,
        status=Status(StatusCode.OK),
        start_time=5,
        end_time=9,
        instrumentation_scope=InstrumentationScope("ours", "1"),
    )
    ours = OutSpan(trace, one, two, "work", 5, 9, own, shared, OK, scope=("ours", "1"))
    expected = encode_spans([theirs])
    expected.resource_spans[0].scope_spans[0].spans[0].flags |= 1

    assert protobuf.encode([ours], {"service.name": "s"}) == expected.SerializeToString()


@given(st.binary(max_size=40))
def test_reader_of_answers_never_fails_otherwise_than_by_value_error(data):
    """Whatever a server sends is read, or is no protobuf."""
    try:
        for number, value in protobuf.fields(data):
            assert number > 0
            assert isinstance(value, int | bytes)
    except ValueError:
        pass
