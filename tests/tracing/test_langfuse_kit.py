"""The Langfuse-shaped receiver itself: the traps it must fall into, so that tests can trust it."""

import gzip
import importlib.util
import json
import uuid
import zlib

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider

from tests.tracing.langfuse_kit import (
    PUBLIC,
    SCORES,
    SECRET,
    TRACES,
    Langfuse,
    answers,
    cut,
    drip,
    garbage,
    hang,
    webpage,
)
from tests.tracing.langfuse_kit_mapping import observe, tree

HEADERS = {"content-type": "application/x-protobuf", "x-langfuse-ingestion-version": "4"}


def value(item):
    if isinstance(item, list):
        made = AnyValue()
        made.array_value.values.extend(value(one) for one in item)
        return made
    if isinstance(item, dict):
        made = AnyValue()
        made.kvlist_value.values.extend(KeyValue(key=k, value=value(v)) for k, v in item.items())
        return made
    names = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}
    return AnyValue(**{names[type(item)]: item})


def made(name="span", /, *, trace=b"t" * 16, own=b"s" * 8, parent=b"", events=(), error="", **said):
    span = Span(trace_id=trace, span_id=own, parent_span_id=parent, name=name)
    pairs = {key.replace("__", "."): item for key, item in said.items()}
    span.attributes.extend(KeyValue(key=key, value=value(item)) for key, item in pairs.items())
    for event in events:
        span.events.add(name=event)
    if error:
        span.status.code, span.status.message = 2, error
    return span


def shown(attributes=None, resource=None, **fields):
    span = made(**fields)
    pairs = (attributes or {}).items()
    span.attributes.extend(KeyValue(key=key, value=value(item)) for key, item in pairs)
    return observe(span, resource or {}, "scope")


def request(*spans):
    batch = ExportTraceServiceRequest()
    batch.resource_spans.add().scope_spans.add().spans.extend(spans)
    return batch.SerializeToString()


@pytest.fixture
def server():
    with Langfuse() as server:
        yield server


def post(server, body, headers=HEADERS, path=TRACES, auth=(PUBLIC, SECRET), timeout=5):
    return requests.post(server.url + path, body, headers=headers, auth=auth, timeout=timeout)


# --- what it shows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, "SPAN"),
        ({"langfuse.observation.type": "agent", "openinference.span.kind": "TOOL"}, "AGENT"),
        ({"langfuse.observation.type": "AGENT", "openinference.span.kind": "TOOL"}, "TOOL"),
        ({"openinference.span.kind": "LLM"}, "GENERATION"),
        ({"openinference.span.kind": "RERANKER"}, "SPAN"),
        ({"openinference.span.kind": "RERANKER", "gen_ai.operation.name": "chat"}, "GENERATION"),
        ({"openinference.span.kind": "CHAIN", "gen_ai.operation.name": "chat"}, "CHAIN"),
        ({"gen_ai.operation.name": "invoke_agent"}, "AGENT"),
        ({"gen_ai.operation.name": "invoke_workflow"}, "SPAN"),
        ({"gen_ai.tool.call.id": "1"}, "TOOL"),
        ({"model": "ours"}, "GENERATION"),
    ],
)
def test_the_first_name_that_tells_a_type_wins(said, kind):
    """Explicit type in small letters, OpenInference, operation, tool, any model, else a span."""
    assert shown(said).type == kind


@pytest.mark.parametrize(
    ("said", "contents"),
    [
        ({"input.value": '{"a":1}', "output.value": "text"}, ({"a": 1}, "text")),
        ({"input.value": "", "output.value": "0"}, (None, 0)),
        ({"output.value": "false"}, (None, False)),
        ({"prompt": "p", "input.value": "1", "output.value": "2"}, ("p", None)),
        ({"input.value": "1", "gen_ai.output.messages": "[2]"}, (1, None)),
        ({"gen_ai.input.messages": "[1]", "gen_ai.output.messages": "[2]"}, ([1], [2])),
        ({"events": "e", "input.value": "1"}, ("e", "e")),
        ({"input": "i", "gen_ai.output.messages": "[2]"}, ("i", None)),
        ({"tool_arguments": "t"}, ("t", None)),
        ({"langfuse.observation.input": "1", "output.value": "2"}, (1, None)),
        ({"gen_ai.tool.call.arguments": "{}", "gen_ai.tool.call.result": "1"}, ({}, 1)),
    ],
)
def test_one_family_of_names_gives_both_input_and_output(said, contents):
    """The first with either side wins, and nobody looks for the other side elsewhere."""
    found = shown(said)

    assert (found.input, found.output) == contents


def test_a_span_event_called_like_a_message_takes_the_contents_over():
    """Events of GenAI come before `input.value`; other events are not looked at."""
    said = {"input.value": "1", "output.value": "2"}

    assert shown(said, events=["gen_ai.user.message"]).input == "(from span events)"
    assert shown(said, events=["exception", "mine"]).input == 1


def test_the_name_of_a_tool_replaces_the_name():
    """On any span that has it."""
    assert shown({"gen_ai.tool.name": "search"}).name == "search"


def test_only_the_status_message_tells_of_an_error():
    """An exception event is not shown; the level follows the status unless it is said."""
    failed = shown(error="boom", events=["exception"])

    assert (failed.level, failed.status_message) == ("ERROR", "boom")
    assert shown({"langfuse.observation.level": "warn"}, error="boom").level == "WARNING"
    assert shown({"langfuse.observation.level": "odd"}).level == "DEFAULT"


def test_usage_is_of_whole_numbers_and_an_agent_has_none():
    """A float spoils the details; `invoke_agent` loses model, usage and cost."""
    used = {
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cost": 0.5,
    }
    found, agent = shown(used), shown({**used, "gen_ai.operation.name": "invoke_agent"})

    assert (found.model, found.usage["input"], found.cost) == ("m", 6, {"total": 0.5})
    assert (agent.model, agent.usage, agent.cost) == (None, {}, {})
    assert shown({"langfuse.observation.usage_details": '{"input":1.5}'}).usage == {}


@pytest.mark.parametrize(
    ("said", "resource", "environment"),
    [
        ({}, {}, "default"),
        ({}, {"deployment.environment.name": "Prod"}, "prod"),
        ({"langfuse.environment": "stage"}, {"deployment.environment.name": "prod"}, "stage"),
        ({"langfuse.environment": "a b"}, {}, "default"),
        ({"langfuse.environment": "x" * 41}, {}, "default"),
        ({"langfuse.environment": "langfuse-x"}, {}, "-x"),
    ],
)
def test_an_environment_that_breaks_the_rules_is_the_default_one(said, resource, environment):
    """Small letters, at most 40 of a few signs, and not `langfuse` at the start."""
    assert shown(said, resource).environment == environment


def test_session_user_tags_and_metadata_are_found_under_their_names():
    """Tags in three spellings; OpenInference's `metadata` is not lifted."""
    found = shown(
        {
            "session.id": "s",
            "user.id": "u",
            "tag.tags": ["a", "b"],
            "metadata": '{"x":1}',
            "langfuse.trace.metadata.k": "v",
            "langfuse.observation.metadata.own": "1",
        }
    )

    assert (found.session_id, found.user_id, found.tags) == ("s", "u", ["a", "b"])
    assert found.trace_metadata == {"k": "v"}
    assert found.metadata["own"] == "1"
    assert found.metadata["attributes"] == {"metadata": '{"x":1}'}
    assert shown({"tag.tags": "a, b"}).tags == ["a", "b"]
    assert shown({"tag.tags": '["c"]'}).tags == ["c"]


def test_a_root_is_who_has_no_parent_or_says_so():
    """The mark of an application's root counts below a foreign span too."""
    assert shown().is_root
    assert not shown(parent=b"p" * 8).is_root
    assert shown({"langfuse.internal.is_app_root": True}, parent=b"p" * 8).is_root
    assert shown({"langfuse.internal.as_root": "true"}, parent=b"p" * 8).is_root


def test_a_tree_is_built_from_parents_that_arrived():
    """A span whose parent never came is a root."""
    spans = [made("a", own=b"a" * 8), made("b", own=b"b" * 8, parent=b"a" * 8)]
    lost = made("c", own=b"c" * 8, parent=b"x" * 8)

    found = tree([observe(span, {}, "") for span in (*spans, lost)])
    assert found == [("a", [("b", [])]), ("c", [])]


# --- the server ----------------------------------------------------------------------------------


def test_both_encodings_come_in_plain_and_packed(server):
    """Protobuf and OTLP/JSON; 200 with an empty object; the last of an id counts."""
    body = request(made("one"))
    said = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "ab" * 16,
                                "spanId": "cd" * 8,
                                "name": "two",
                                "startTimeUnixNano": "5",
                            }
                        ]
                    }
                ]
            }
        ]
    }
    packed = {**HEADERS, "content-encoding": "gzip"}
    json_headers = {**HEADERS, "content-type": "application/json"}
    got = [
        post(server, body),
        post(server, gzip.compress(body), packed),
        post(server, json.dumps(said), json_headers),
    ]

    assert [(answer.status_code, answer.json()) for answer in got] == [(200, {})] * 3
    assert [found.name for found in server.observations] == ["one", "two"]
    assert server.one("two").trace_id == "ab" * 16
    assert server.one("two").start_ns == 5


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"auth": (PUBLIC, "sk-lf-other")}, 401),
        ({"path": "/v1/traces"}, 404),
        ({"headers": {**HEADERS, "x-langfuse-ingestion-version": "5"}}, 400),
        ({"headers": {**HEADERS, "content-type": "text/plain"}}, 400),
        ({"headers": {**HEADERS, "content-encoding": "deflate"}}, 400),
        ({"headers": {**HEADERS, "content-encoding": "gzip"}}, 400),
    ],
)
def test_a_wrong_request_is_refused(server, change, status):
    """Credentials, path, version, type and compression are looked at."""
    body = zlib.compress(request(made()))

    assert post(server, body, **change).status_code == status
    assert server.observations == []


@pytest.mark.parametrize(
    "bad",
    [made(trace=b"short"), made(own=b"\0" * 8), made(parent=b"p"), made(box={"a": 1})],
    ids=["trace", "span", "parent", "map"],
)
def test_one_bad_span_spoils_its_batch(server, bad):
    """400, and nothing of the batch is kept; the next one is."""
    assert post(server, request(made("good"), bad)).status_code == 400
    assert server.observations == []
    assert post(server, request(made("good"))).status_code == 200


def test_maps_are_shown_as_raw_protocol_by_a_server_that_is_not_strict():
    """That is what the real one does."""
    with Langfuse(strict=False) as server:
        post(server, request(made(box={"a": 1})))

        assert "intValue" in server.observations[0].metadata["attributes"]["box"]


def test_without_a_version_a_trace_shows_late(server):
    """The server takes it all the same."""
    post(server, request(made()), {"content-type": "application/x-protobuf"})

    assert server.observations[0].is_delayed


def test_faults_come_in_order_and_then_it_works_again(server):
    """Any status with its headers; what meets a fault is not kept."""
    server.faults.extend([answers(429, retry_after="2"), answers(503), answers(413)])
    got = [post(server, request(made())) for _ in range(4)]

    assert [answer.status_code for answer in got] == [429, 503, 413, 200]
    assert got[0].headers["retry-after"] == "2"
    assert [asked.status for asked in server.asked] == [429, 503, 413, 200]
    assert len(server.batches) == 1


@pytest.mark.parametrize("fault", [hang, cut, garbage])
def test_it_can_give_no_answer_at_all(server, fault):
    """Hanging, cutting the line and garbage end in an error of the client."""
    server.fault = fault

    with pytest.raises(requests.RequestException):
        post(server, request(made()), timeout=(5, 0.5))
    assert server.asked[0].status is None


def test_it_can_answer_so_slowly_that_no_single_read_times_out(server):
    """Bytes keep coming, and never the last one."""
    server.fault = drip

    answer = requests.post(server.url + TRACES, request(made()), stream=True, timeout=5)
    with answer:
        assert answer.raw.read(3) == b"   "
    assert answer.headers["content-length"] == "100000"


def test_it_can_answer_with_a_page(server):
    """200 and HTML."""
    server.fault = webpage

    assert "doctype" in post(server, request(made())).text


def test_scores_are_taken_one_by_one_or_in_a_list(server):
    """200 for one, 202 for a list, 207 where some are wrong; the same id overwrites."""
    score = {
        "id": "1",
        "traceId": "ab" * 16,
        "name": "good",
        "value": 1,
        "dataType": "BOOLEAN",
        "timestamp": "2026-01-01T00:00:00.5Z",
    }
    headers = {"content-type": "application/json"}

    def send(said):
        return post(server, json.dumps(said), headers, SCORES)

    assert send(score).status_code == 200
    assert send([score, {**score, "id": "2"}]).status_code == 202
    partly = send([{**score, "value": 0}, {**score, "id": "3", "value": "yes"}])
    assert (partly.status_code, partly.json()["rejected"]) == (207, 1)
    assert {key: found["value"] for key, found in server.scores.items()} == {"1": 0, "2": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"value": True},
        {"value": 0.5},
        {"dataType": "NUMERIC", "value": "high"},
        {"dataType": "CATEGORICAL", "value": 1},
        {"timestamp": "2026-01-01T00:00:00"},
        {"environment": "Prod"},
        {"environment": "langfuse"},
        {"traceId": None},
        {"name": ""},
    ],
)
def test_a_wrong_score_is_refused(server, change):
    """Type and value agree, the time has an offset, the environment keeps to the rules."""
    score = {
        "id": "1",
        "traceId": "ab" * 16,
        "name": "good",
        "value": 1,
        "dataType": "BOOLEAN",
        "timestamp": "2026-01-01T00:00:00Z",
        **change,
    }

    answer = post(server, json.dumps(score), {"content-type": "application/json"}, SCORES)
    assert answer.status_code == 400
    assert server.scores == {}


def test_langfuses_own_sdk_is_understood(require):
    """Its spans and scores show as its documentation says: the receiver knows the real client."""
    require(importlib.util.find_spec("langfuse"), "langfuse is not installed")
    from langfuse import Langfuse as Client
    from langfuse import propagate_attributes

    key = f"pk-lf-{uuid.uuid4()}"  # the SDK keeps one client for each key
    with Langfuse(public_key=key) as server:
        client = Client(
            public_key=key,
            secret_key=SECRET,
            base_url=server.url,
            tracer_provider=TracerProvider(shutdown_on_exit=False),
            environment="test",
        )
        with (
            propagate_attributes(session_id="s", user_id="u", tags=["a"], trace_name="T"),
            client.start_as_current_observation(
                name="root", as_type="span", input={"a": 1}
            ) as root,
            client.start_as_current_observation(
                name="call", as_type="generation", model="m", usage_details={"input": 3}, output="x"
            ),
        ):
            root.score(name="good", value=0.5)
        client.flush()
        client.shutdown()

        call = server.one("call")
        assert (call.type, call.model, call.usage, call.output) == (
            "GENERATION",
            "m",
            {"input": 3},
            "x",
        )
        assert (call.session_id, call.user_id, call.tags, call.trace_name) == ("s", "u", ["a"], "T")
        assert tree(server.observations) == [("root", [("call", [])])]
        assert [(score["name"], score["value"]) for score in server.scores.values()] == [
            ("good", 0.5)
        ]
        assert {asked.status for asked in server.asked} == {200, 202}
