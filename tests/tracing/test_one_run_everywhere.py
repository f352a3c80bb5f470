"""One real run in every back end, from the bytes that were received: the same tree, as stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

import tracing
from pocketflow_async import AsyncFlow, AsyncNode, AsyncParallelBatchNode
from tests.tracing.everywhere_kit import (
    Views,
    as_jaeger_has_them,
    in_jaeger,
    in_langfuse,
    in_phoenix,
    stored,
)
from tests.tracing.langfuse_kit import PUBLIC, SECRET, Langfuse
from tests.tracing.wire_kit import GrpcSink, HttpSink, Sink, attributes
from tracing import TracingConfig, trace_flow
from tracing.export.model import Target
from tracing.store import Span, TraceReader, TraceTree

BARE = {"prompt": "bare", "events": "bare", "tool_arguments": "bare", "all_messages_events": "bare"}
"""Names of a user's own that would make Langfuse take a span for something else."""
WORDS = {"model": "bare", "input": "bare", "output": "bare", "prompt": "bare"}


class Fetch(AsyncNode[Any, Any, Any]):
    """Fails once, and says things under names that others have for something else."""

    async def prep_async(self, shared: Any) -> Any:
        return shared["question"]

    async def exec_async(self, question: Any) -> Any:
        tracing.update(**BARE)
        if self.cur_retry == 0:
            raise ConnectionError("not yet")
        return [1, 2, 3]

    async def post_async(self, shared: Any, question: Any, pages: Any) -> Any:
        shared["pages"] = pages


class Read(AsyncParallelBatchNode[Any, Any, Any]):
    async def prep_async(self, shared: Any) -> Any:
        return shared["pages"]

    async def exec_async(self, page: Any) -> Any:
        with tracing.span("parse", input={"page": page}, size=page) as span:
            span.update(output=page * 10)
        return page * 10

    async def post_async(self, shared: Any, pages: Any, read: Any) -> Any:
        shared["read"] = read


class Answer(AsyncNode[Any, Any, Any]):
    async def prep_async(self, shared: Any) -> Any:
        return {"sum": sum(shared["read"])}

    async def exec_async(self, facts: Any) -> Any:
        messages = [{"role": "user", "content": "why?"}]
        with tracing.generation("ask", model="small", input=messages) as call:
            call.first_token()
            call.event("cache missed", **WORDS)
            call.update(output="because", usage={"input": 3, "output": 1}, cost=0.25, prompt="bare")
            call.score("helpful", 0.5, "fairly")
        return "because"

    async def post_async(self, shared: Any, facts: Any, answer: Any) -> Any:
        shared["answer"] = answer


class Check(AsyncNode[Any, Any, Any]):
    """Falls back in the end."""

    async def exec_async(self, prep: Any) -> Any:
        raise ValueError("no check")

    async def exec_fallback_async(self, prep: Any, error: Exception) -> Any:
        return "unchecked"


@dataclass
class Everywhere:
    """The run, as the store has it and as it came to each back end."""

    tree: TraceTree
    langfuse: Langfuse
    sinks: dict[str, Sink]

    @property
    def views(self) -> dict[str, Views]:
        found = {"langfuse": in_langfuse(self.langfuse.observations)}
        for name, sink in self.sinks.items():
            found[f"jaeger by {name}"] = in_jaeger(as_jaeger_has_them(sink.requests))
            found[f"phoenix by {name}"] = in_phoenix(sink.requests)
        return found


@pytest.fixture
async def everywhere(store_path: Any) -> AsyncIterator[Everywhere]:
    with Langfuse() as langfuse, HttpSink() as protobuf, HttpSink() as as_json, GrpcSink() as grpc:
        config = TracingConfig(
            langfuse_public_key=PUBLIC,
            langfuse_secret_key=SECRET,
            langfuse_host=langfuse.url,
            session_id="s-1",
            service_name="shop",
            version="2.0",
            environment="staging",
            exporters=(
                "langfuse",
                Target("protobuf", protobuf.url),
                Target("json", as_json.url, "http/json", compression="none"),
                Target("grpc", grpc.url, "grpc"),
            ),
        )
        fetch, read = Fetch(max_retries=2), Read()
        fetch >> read
        inner = AsyncFlow(start=fetch)
        answer, check = Answer(), Check()
        inner >> answer >> check
        flow = trace_flow(config=config, flow_name="Question", tags=["one"])(AsyncFlow(start=inner))
        with tracing.propagate(user_id="u-1", tags=["two"], metadata={"plan": "pro", **WORDS}):
            await flow.run_async({"question": "why?"})
        assert (await tracing.aflush(20)).failed == 0
        reader = TraceReader(store_path)
        (found,) = reader.traces()
        yield Everywhere(
            reader.trace(found.trace_id),
            langfuse,
            {"protobuf": protobuf, "json": as_json, "grpc": grpc},
        )


def without_scores(views: Views) -> Views:
    """Leave out the short spans that scores are where nobody has a place of their own for them."""
    return {span_id: view for span_id, view in views.items() if "helpful" not in view.name}


async def test_every_back_end_has_the_tree_of_the_store(everywhere):
    """The same spans with the same ids, names and parents; each of them once."""
    tree = {span_id: view.place for span_id, view in stored(everywhere.tree.roots).items()}
    names = {name for name, _ in tree.values()}

    assert {"Question", "AsyncFlow", "Fetch.exec", "parse", "ask", "Check.fallback"} <= names
    for name, views in everywhere.views.items():
        found = {span_id: view.place for span_id, view in without_scores(views).items()}
        assert found == tree, name
    for sink in everywhere.sinks.values():
        assert len({span.span_id for span in sink.spans}) == len(sink.spans) == len(tree) + 1
        assert len({span.trace_id for span in sink.spans}) == 1


async def test_every_back_end_has_inputs_and_outputs_as_stored(everywhere):
    """What a span took and gave is the same JSON everywhere; a node that gave null shows null."""
    tree = stored(everywhere.tree.roots)
    by_name = {view.name: view for view in tree.values()}

    assert by_name["ask"].input == [{"role": "user", "content": "why?"}]
    assert by_name["Check"].output == "unchecked"
    assert by_name["Question"].output["answer"] == "because"
    for name, views in everywhere.views.items():
        for span_id, view in tree.items():
            found = views[span_id]
            assert (found.input, found.output) == (view.input, view.output), (name, view.name)


async def test_session_user_and_tags_are_on_every_span(everywhere):
    """Also on phases, on what was opened by hand, and on what a score is; with the service."""
    for name, views in everywhere.views.items():
        for view in views.values():
            said = (view.session, view.user, view.tags, view.service)
            assert said == ("s-1", "u-1", ("one", "two"), "shop"), (name, view.name)


async def test_what_failed_is_an_error_with_words_and_nothing_else_is(everywhere):
    """A failed attempt is one, the node that succeeded in the end is not."""
    tree = stored(everywhere.tree.roots)
    failed = {span_id for span_id, view in tree.items() if view.error}

    assert sorted(tree[span_id].name for span_id in failed) == ["Check.exec", "Fetch.exec"]
    for name, views in everywhere.views.items():
        assert {span_id for span_id, view in views.items() if view.error} == failed, name
        words = sorted(views[span_id].message for span_id in failed)
        assert words == ["ConnectionError: not yet", "ValueError: no check"], name


async def test_no_name_of_the_users_stands_bare(everywhere):
    """Every attribute is under a prefix that no back end takes for its own; the values are there.

    The one exception is OpenInference's `metadata`.
    """
    for sink in everywhere.sinks.values():
        for span in sink.spans:
            assert {name for name in attributes(span) if "." not in name} <= {"metadata"}
        (fetch,) = [span for span in sink.spans if span.name == "Fetch"]
        said = attributes(fetch)
        assert {f"flow.attr.{name}": "bare" for name in BARE}.items() <= said.items()
        assert json.loads(said["metadata"]) == {"plan": "pro", **WORDS}


async def test_langfuse_shows_each_span_for_what_it_is(everywhere):
    """Types, model, usage, cost, first token, metadata and the score; all at once, not delayed."""
    found = everywhere.langfuse.observations
    call = everywhere.langfuse.one("ask")

    assert {one.name for one in found if one.type == "GENERATION"} == {"ask"}
    assert call.usage == {"input": 3, "output": 1, "total": 4}
    assert (call.model, call.cost["total"]) == ("small", 0.25)
    assert call.completion_start_time is not None
    assert {one.trace_name for one in found} == {"Question"}
    assert {(one.environment, one.version) for one in found} == {("staging", "2.0")}
    assert [one.name for one in found if one.is_root] == ["Question"]
    assert not any(one.is_delayed for one in found)
    for one in found:
        assert one.trace_metadata == {"plan": "pro", **WORDS}
    (score,) = everywhere.langfuse.scores.values()
    said = (score["name"], score["value"], score["comment"], score["traceId"])
    assert said == ("helpful", 0.5, "fairly", call.trace_id)
    assert score["observationId"] == call.id


async def test_jaeger_shows_events_as_logs_under_their_span(everywhere):
    """An event by hand with the user's words, and the error of an attempt with its lines."""
    spans = as_jaeger_has_them(everywhere.sinks["grpc"].requests)
    (call,) = [span for span in spans if span["operationName"] == "ask"]
    attempts = [span for span in spans if span["operationName"] == "Fetch.exec"]

    (log,) = [log for log in call["logs"] if log["event"] == "cache missed"]
    assert set(WORDS) & {name.rpartition(".")[2] for name in log}
    (error,) = [log for span in attempts for log in span["logs"]]
    assert (error["event"], error["exception.message"]) == ("exception", "not yet")
    assert "exec_async" in error["exception.stacktrace"]
    assert call["tags"]["gen_ai.request.model"] == "small"


async def test_times_are_those_of_the_store_to_the_nanosecond(everywhere):
    """Start and end of every record are what the store has, and phases lie inside their node."""
    known = {span.span_id: (span.start_ns, span.end_ns) for span in spans_of(everywhere.tree)}
    for sink in everywhere.sinks.values():
        times = {
            span.span_id.hex(): (span.start_time_unix_nano, span.end_time_unix_nano)
            for span in sink.spans
        }
        assert known.items() <= times.items()
        for span in sink.spans:
            start, end = times[span.span_id.hex()]
            assert start <= end
            if span.name.endswith((".prep", ".exec", ".post")):
                outer = times[span.parent_span_id.hex()]
                assert outer[0] <= start <= end <= outer[1]


def spans_of(tree: TraceTree) -> list[Span]:
    """Return all records of a tree."""
    waiting, found = list(tree.roots), []
    while waiting:
        found.append(waiting.pop())
        waiting.extend(found[-1].children)
    return found
