"""What a span of another instrumentation says, as our record says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, StatusCode

from tracing import names
from tracing import record as r
from tracing.encode import encode
from tracing.fields import plain
from tracing.ids import new_span_id
from tracing.otel.current import LANGFUSE_SCOPE
from tracing.otel.entered import Entered
from tracing.record import Failure, Record, Trace
from tracing.recorder import Recorder, add

_OPENINFERENCE: Final = {
    "LLM": names.GENERATION,
    "EMBEDDING": "embedding",
    "CHAIN": "chain",
    "RETRIEVER": "retriever",
    "RERANKER": "reranker",
    "TOOL": "tool",
    "AGENT": "agent",
    "GUARDRAIL": "guardrail",
    "EVALUATOR": "evaluator",
}
_OPERATIONS: Final = {
    "chat": names.GENERATION,
    "text_completion": names.GENERATION,
    "generate_content": names.GENERATION,
    "embeddings": "embedding",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "retrieval": "retriever",
}
_LANGFUSE: Final = frozenset(
    {"generation", "embedding", "agent", "tool", "chain", "retriever", "evaluator", "guardrail"}
)

# Which attributes are contents, those that go in and those that come out. The first that is there
# becomes the record's own content.
_IN: Final = ("input.value", "langfuse.observation.input", "gen_ai.input.messages")
_OUT: Final = ("output.value", "langfuse.observation.output", "gen_ai.output.messages")
_TOOL_IN, _TOOL_OUT = "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"
_SHOWS_IN: Final = (
    *_IN,
    _TOOL_IN,
    "input.mime_type",
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "llm.input_messages",
    "llm.prompts",
    "traceloop.entity.input",
    "gen_ai.user.message",
    "gen_ai.system.message",
    "gen_ai.tool.message",
    "embedding.embeddings",
    "tool.parameters",
)
_SHOWS_OUT: Final = (
    *_OUT,
    _TOOL_OUT,
    "output.mime_type",
    "gen_ai.completion",
    "llm.output_messages",
    "traceloop.entity.output",
    "gen_ai.choice",
    "gen_ai.assistant.message",
    "retrieval.documents",
)
_ALSO: Final = {
    "llm.model_name": names.MODEL,
    "llm.token_count.prompt": f"{names.USAGE}input_tokens",
    "llm.token_count.completion": f"{names.USAGE}output_tokens",
    "llm.token_count.total": f"{names.USAGE}total_tokens",
}
"""Other names for what our readers look for under these."""
_LINE: Final = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)
_FRAMES: Final = 30


def kind_of(attributes: Mapping[str, Any], scope: str) -> str:
    """Return the kind of record for a span with these attributes, made by *scope*."""
    said = attributes.get("openinference.span.kind")
    if said is not None:
        return _OPENINFERENCE.get(str(said).upper(), names.SPAN)
    said = attributes.get("gen_ai.operation.name")
    if said is not None:
        return _OPERATIONS.get(str(said), names.SPAN)
    said = attributes.get("langfuse.observation.type")
    return str(said) if scope == LANGFUSE_SCOPE and said in _LANGFUSE else names.SPAN


def fill(known: Entered, span: ReadableSpan) -> None:
    """End the record of *span* with all that the span says, and hand it and its events over."""
    record, recorder = known
    trace = record.trace
    attributes = _seen(span.attributes or {}, recorder)
    _lift(record, recorder, attributes)
    scope = span.instrumentation_scope
    if scope is not None:
        attributes[names.SCOPE] = scope.name
        if scope.version:
            attributes[names.SCOPE_VERSION] = scope.version
    attributes[names.SPAN_KIND] = span.kind.name.lower()
    if span.links:
        attributes[names.LINKS] = [_link(link, recorder.limit) for link in span.links]
    for name, ours in _ALSO.items():
        if name in attributes and ours not in attributes:
            attributes[ours] = attributes[name]
    record.name = span.name
    record.kind = kind_of(attributes, scope.name if scope is not None else "")
    add(record, attributes)
    ended = _clock(trace, span.end_time, record.start)
    told = _outcome(record, span)
    for event in span.events:
        if event is not told:
            _event(record, recorder, event)
    record.end = max(ended, record.start)
    record.size = len(record.input or b"") + len(record.output or b"") + _weight(attributes)
    recorder.sink.closed(record)


def _clock(trace: Trace, wall_ns: int | None, otherwise: int) -> int:
    """Return the moment of the monotonic clock at which the trace puts *wall_ns*."""
    return otherwise if wall_ns is None else trace.clock_ns + wall_ns - trace.wall_ns


def _seen(attributes: Mapping[str, Any], recorder: Recorder) -> dict[str, Any]:
    """Return *attributes* as plain data, without the contents that are not to be noted."""
    hidden = _hidden(recorder)
    return {
        name: _value(value, recorder.limit)
        for name, value in attributes.items()
        if not (hidden and name.startswith(hidden))
    }


def _value(value: Any, limit: int) -> Any:
    """Return *value* as plain data; JSON inside a text as what it means, to be redacted alike."""
    if type(value) is str and value[:1] in ("{", "[") and value[:2] != "[]":
        try:
            found = orjson.loads(value)
        except ValueError:
            return plain(value, limit)
        if type(found) is dict or (type(found) is list and type(found[0]) in (dict, list)):
            return plain(found, limit)
    return plain(list(value) if type(value) is tuple else value, limit)


def _lift(record: Record, recorder: Recorder, attributes: dict[str, Any]) -> None:
    """Make contents of *attributes* the record's own, where that has none yet."""
    for name in (*_IN, _TOOL_IN):
        if name in attributes:
            recorder.take_in(record, _content(attributes[name]))
            break
    for name in (*_OUT, _TOOL_OUT):
        if name in attributes:
            recorder.put_out(record, _content(attributes[name]))
            break
    # These go out again under the same names, as the contents of every record do.
    if record.input is not None:
        attributes.pop("input.value", None)
        attributes.pop("input.mime_type", None)
    if record.output is not None:
        attributes.pop("output.value", None)
        attributes.pop("output.mime_type", None)


def _content(value: Any) -> Any:
    """Return *value*, or what it means where it is the JSON of a list."""
    if type(value) is str and value.startswith("["):
        with suppress(ValueError):
            return orjson.loads(value)
    return value


def _link(link: Link, limit: int) -> dict[str, Any]:
    return {
        "trace_id": f"{link.context.trace_id:032x}",
        "span_id": f"{link.context.span_id:016x}",
        "attributes": {
            name: _value(value, limit) for name, value in (link.attributes or {}).items()
        },
    }


def _outcome(record: Record, span: ReadableSpan) -> Event | None:
    """Note how the span ended; return the event that the error was taken from."""
    record.outcome = r.COMPLETED
    if span.status.status_code is not StatusCode.ERROR:
        return None
    last = _exception(span.events)
    said: Mapping[str, Any] = (last.attributes if last is not None else None) or {}
    kind = str(said.get("exception.type") or (span.attributes or {}).get("error.type") or "Error")
    message = said.get("exception.message") or span.status.description or ""
    lines = _LINE.findall(str(said.get("exception.stacktrace", "")))
    frames = tuple((file, int(line), where) for file, line, where in lines[-_FRAMES:])
    record.error = Failure(kind, str(message)[:2_000], frames)
    record.outcome = _how(kind.rpartition(".")[2])
    return last


def _exception(events: Sequence[Event]) -> Event | None:
    return next((event for event in reversed(events) if event.name == "exception"), None)


def _how(error: str) -> str:
    if error in ("CancelledError", "GeneratorExit", "KeyboardInterrupt"):
        return r.CANCELLED
    return r.TIMED_OUT if error == "TimeoutError" else r.FAILED


def _event(record: Record, recorder: Recorder, event: Event) -> None:
    """Hand an event of the span over, as a record of its own."""
    at = _clock(record.trace, event.timestamp, record.start)
    moment = Record(record.trace, new_span_id(), record.span_id, names.EVENT, event.name, at)
    if event.name not in _hidden(recorder):
        moment.attributes = _seen(event.attributes or {}, recorder)
        moment.size = _weight(moment.attributes)
    moment.end = at
    moment.outcome = r.COMPLETED
    recorder.sink.closed(moment)


def _hidden(recorder: Recorder) -> tuple[str, ...]:
    """Return what the names of contents begin with that are not to be noted."""
    incoming: tuple[str, ...] = () if recorder.inputs else _SHOWS_IN
    return incoming if recorder.outputs else (*incoming, *_SHOWS_OUT)


def _weight(attributes: dict[str, Any]) -> int:
    """Return how many bytes *attributes* take, about; the buffer bounds the sum."""
    return sum(
        len(value) if type(value) is str else len(encode(value)) for value in attributes.values()
    )
