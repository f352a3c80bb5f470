"""Scores on their way out: what Langfuse keeps of them, and the spans that others get."""

import json
from dataclasses import dataclass, replace

import pytest
import requests

from tests.tracing.langfuse_kit import PUBLIC, SECRET, Langfuse, answers
from tracing.export.attributes import shared_attributes
from tracing.export.expand import expand
from tracing.export.langfuse import target
from tracing.export.model import PHASES, Route
from tracing.export.scores import requests_for, score_span
from tracing.record import phase_id
from tracing.store.model import Span, TraceFacts

TRACE = "ab" * 16
AT = 1_750_000_000_123_456_789
FACTS = TraceFacts(TRACE, "Flow", "s-1")
ROUTE = Route((), {"deployment.environment.name": "Prod"}, PHASES)


@dataclass
class Item:
    span: Span
    within: tuple[int, str] | None = None
    shape: str = ROUTE.shape
    facts: TraceFacts = FACTS


def judged(value, comment=None, parent="00000000000000ff", own=0xAA, name="helpful"):
    said = {"value": value} if comment is None else {"value": value, "comment": comment}
    return Span(
        TRACE, f"{own:016x}", parent, "score", name, None, AT, AT, "completed", attributes=said
    )


@pytest.fixture
def server():
    with Langfuse() as server:
        yield server


def send(server, items, **more):
    made = requests_for(target(server.url, PUBLIC, SECRET), items, **more)
    return [
        requests.post(one.url, one.body, headers=one.headers, timeout=5).status_code for one in made
    ]


@pytest.mark.parametrize(
    ("value", "kind", "kept"),
    [
        (0.9, "NUMERIC", 0.9),
        (3, "NUMERIC", 3),
        (True, "BOOLEAN", 1),
        (False, "BOOLEAN", 0),
        ("good", "CATEGORICAL", "good"),
    ],
)
def test_a_score_arrives_with_all_it_says(server, value, kind, kept):
    """Type and value, what it is about, when, why and in which environment."""
    assert send(server, [Item(judged(value, "because"))]) == [202]

    assert server.scores["00000000000000aa"] == {
        "id": "00000000000000aa",
        "traceId": TRACE,
        "observationId": "00000000000000ff",
        "name": "helpful",
        "value": kept,
        "dataType": kind,
        "comment": "because",
        "environment": "prod",
        "timestamp": "2025-06-15T15:06:40.123456Z",
    }


def test_a_score_of_a_whole_trace_is_about_no_observation(server):
    """The store has it under the parent 0."""
    send(server, [Item(judged(1, parent="0" * 16))])

    assert "observationId" not in server.scores["00000000000000aa"]


def test_a_score_of_a_phase_that_is_no_span_is_about_its_record(server):
    """As the children of the phase are."""
    inside = judged(1, parent=f"{phase_id(0xFF, 2):016x}")
    folded = replace(ROUTE, shown=frozenset()).shape
    send(server, [Item(inside, (2, "exec"), folded)])
    assert server.scores["00000000000000aa"]["observationId"] == "00000000000000ff"

    send(server, [Item(inside, (2, "exec"))])
    assert server.scores["00000000000000aa"]["observationId"] == f"{phase_id(0xFF, 2):016x}"


def test_many_go_in_a_few_requests_in_order_and_a_repeat_overwrites(server):
    """No more in one than the SDK sends, and none over the server's limit."""
    items = [Item(judged(number, own=number + 1)) for number in range(40)]
    made = requests_for(target(server.url, PUBLIC, SECRET), items)

    assert [len(one.items) for one in made] == [15, 15, 10]
    assert [item for one in made for item in one.items] == items
    assert send(server, items) == send(server, items) == [202, 202, 202]
    assert len(server.scores) == 40
    large = [Item(judged(1, "x" * 400_000, own=number + 1)) for number in range(4)]
    assert [len(one.items) for one in requests_for(target("host", PUBLIC, SECRET), large)] == [2, 2]


def test_an_older_server_gets_them_one_by_one(server):
    """The score itself in each request."""
    items = [Item(judged(number, own=number + 1)) for number in range(2)]

    assert send(server, items, singly=True) == [200, 200]
    assert len(server.scores) == 2


def test_nothing_to_send_is_no_request():
    """And headers are only those that this address needs; none is shown."""
    where = target("https://host/base", PUBLIC, SECRET)
    assert requests_for(where, []) == []

    (one,) = requests_for(where, [Item(judged(1))])
    assert one.url == "https://host/base/api/public/scores"
    assert set(one.headers) == {"authorization", "x-langfuse-public-key", "content-type"}
    assert "Basic" not in repr(one)


def test_a_target_given_as_an_otlp_endpoint_gets_its_scores_too():
    """With a slash or query at its end, and with what a proxy in between asks for."""
    where = target("https://host/base", PUBLIC, SECRET)
    headers = {**where.headers, "x-proxy": "token", "Content-Type": "x"}
    given = replace(where, endpoint=where.endpoint + "/?a=b", headers=headers)

    (one,) = requests_for(given, [Item(judged(1))])
    assert one.url == "https://host/base/api/public/scores"
    assert one.headers["x-proxy"] == "token"
    assert "Content-Type" not in one.headers


def test_a_refusal_is_the_servers_to_tell(server):
    """Wrong credentials and a server that is down come back as what they are."""
    server.faults.append(answers(503))
    items = [Item(judged(1))]
    assert send(server, items) == [503]

    (one,) = requests_for(target(server.url, PUBLIC, "sk-lf-other"), items)
    assert requests.post(one.url, one.body, headers=one.headers, timeout=5).status_code == 401
    assert json.loads(one.body)[0]["name"] == "helpful"


@pytest.mark.parametrize(
    ("value", "number", "label"),
    [(0.9, 0.9, None), (3, 3.0, None), (True, 1.0, "true"), ("good", None, "good")],
)
def test_elsewhere_a_score_is_a_span_of_no_length(value, number, label):
    """Below what it is about, with the names of OpenTelemetry's evaluations."""
    span = judged(value, "because")
    shared = shared_attributes(FACTS, ROUTE, "otlp")
    found = score_span(span, FACTS, ROUTE, "otlp", shared)

    assert (found.name, found.start_ns, found.end_ns) == ("helpful", AT, AT)
    assert found.parent_id == (0xFF).to_bytes(8, "big")
    assert found.attributes["gen_ai.evaluation.name"] == "helpful"
    assert found.attributes.get("gen_ai.evaluation.score.value") == number
    assert found.attributes.get("gen_ai.evaluation.score.label") == label
    assert found.attributes["gen_ai.evaluation.explanation"] == "because"
    assert expand(span, FACTS, None, ROUTE, "otlp", shared) == [found]
    assert expand(span, FACTS, None, ROUTE, "langfuse", shared) == []
