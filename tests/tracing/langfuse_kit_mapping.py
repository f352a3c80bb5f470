"""What the Langfuse server would show of a span: its rules of mapping, pure.

They are those of contracts/observability.md (server 4.16.0), as far as they matter for spans that
are not made by a framework of its own kind.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

_TYPES = frozenset(
    (
        "generation",
        "embedding",
        "span",
        "agent",
        "tool",
        "chain",
        "retriever",
        "evaluator",
        "guardrail",
        "event",
    )
)
_OPENINFERENCE = {
    **{
        kind: kind
        for kind in ("CHAIN", "RETRIEVER", "EMBEDDING", "AGENT", "TOOL", "GUARDRAIL", "EVALUATOR")
    },
    "LLM": "GENERATION",
}
_OPERATIONS = {
    **dict.fromkeys(("chat", "text_completion", "generate_content"), "GENERATION"),
    "embeddings": "EMBEDDING",
    **dict.fromkeys(("invoke_agent", "create_agent"), "AGENT"),
    "execute_tool": "TOOL",
}
_LEVELS = {
    **{level: level for level in ("DEBUG", "DEFAULT", "WARNING", "ERROR")},
    **{
        "INFO": "DEFAULT",
        "OK": "DEFAULT",
        "WARN": "WARNING",
        "FATAL": "ERROR",
        "CRITICAL": "ERROR",
    },
}
_MODELS = (
    "langfuse.observation.model.name",
    "gen_ai.response.model",
    "ai.model.id",
    "gen_ai.request.model",
    "llm.model_name",
    "model",
)
_MESSAGE = re.compile(r"gen_ai\.client\.inference\.operation\.details|gen_ai\..*(message|choice)")


@dataclass
class Observation:
    """What Langfuse keeps of a span."""

    trace_id: str
    id: str
    parent_id: str | None
    name: str
    type: str
    start_ns: int
    end_ns: int
    level: str
    status_message: str | None
    input: Any
    output: Any
    model: str | None
    model_parameters: dict[str, Any]
    usage: dict[str, int]
    cost: dict[str, float]
    completion_start_time: str | None
    trace_name: str | None
    session_id: str | None
    user_id: str | None
    tags: list[str]
    environment: str
    release: str | None
    version: str | None
    metadata: dict[str, Any]
    trace_metadata: dict[str, Any]
    is_root: bool
    scope: str
    is_delayed: bool = False
    """Whether it would show only after minutes, for want of the ingestion version."""


def observe(span: Any, resource: dict[str, Any], scope: str) -> Observation:
    """Return what the server makes of an official protobuf *span*."""
    said = attributes(span.attributes)
    into, out = _contents(said, [event.name for event in span.events])
    operation = said.get("gen_ai.operation.name")
    hollow = operation == "invoke_agent"  # thought to repeat what its children say
    return Observation(
        trace_id=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=str(said.get("gen_ai.tool.name") or span.name),
        type=_type(said),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        level=_LEVELS.get(str(said.get("langfuse.observation.level", "")).upper())
        or ("ERROR" if span.status.code == 2 else "DEFAULT"),
        status_message=said.get("langfuse.observation.status_message")
        or span.status.message
        or None,
        input=into,
        output=out,
        model=None if hollow else next((said[name] for name in _MODELS if name in said), None),
        model_parameters=_object(said.get("langfuse.observation.model.parameters")),
        usage={} if hollow else _usage(said),
        cost={} if hollow else _cost(said),
        completion_start_time=said.get("langfuse.observation.completion_start_time"),
        trace_name=said.get("langfuse.trace.name"),
        session_id=_first(said, "langfuse.session.id", "session.id", "gen_ai.conversation.id"),
        user_id=_first(said, "langfuse.user.id", "user.id"),
        tags=_tags(_first(said, "langfuse.trace.tags", "langfuse.tags", "tag.tags")),
        environment=_environment(said, resource),
        release=said.get("langfuse.release"),
        version=said.get("langfuse.version") or resource.get("service.version"),
        metadata=_metadata(said, resource, scope),
        trace_metadata=_under(said, "langfuse.trace.metadata"),
        is_root=not span.parent_span_id
        or said.get("langfuse.internal.is_app_root") is True
        or said.get("langfuse.internal.as_root") == "true",
        scope=scope,
    )


def attributes(pairs: Any) -> dict[str, Any]:
    """Return protobuf attributes as plain data; a map becomes the raw protocol as JSON text."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return json.dumps(MessageToDict(value.kvlist_value))
    return None if kind is None else getattr(value, kind)


def _first(said: dict[str, Any], *wanted: str) -> Any:
    return next((said[name] for name in wanted if said.get(name)), None)


def _type(said: dict[str, Any]) -> str:
    if (own := said.get("langfuse.observation.type")) in _TYPES:
        return str(own).upper()
    if (kind := said.get("openinference.span.kind")) in _OPENINFERENCE:
        return _OPENINFERENCE[kind]
    if (operation := said.get("gen_ai.operation.name")) in _OPERATIONS:
        return _OPERATIONS[operation]
    if "gen_ai.tool.name" in said or "gen_ai.tool.call.id" in said:
        return "TOOL"
    return "GENERATION" if any(name in said for name in _MODELS) else "SPAN"


def _contents(said: dict[str, Any], events: list[str]) -> tuple[Any, Any]:
    """Return input and output from the first family of names that has either."""
    if "langfuse.observation.input" in said or "langfuse.observation.output" in said:
        return _pair(said, "langfuse.observation.input", "langfuse.observation.output")
    if any(_MESSAGE.fullmatch(name) for name in events):
        return "(from span events)", "(from span events)"
    pairs = (
        ("prompt", "all_messages_events"),
        ("events", "events"),
        ("mlflow.spanInputs", "mlflow.spanOutputs"),
        ("traceloop.entity.input", "traceloop.entity.output"),
        ("input.value", "output.value"),
        ("input", "output"),
        ("tool_arguments", "tool_response"),
        ("gen_ai.prompt.", "gen_ai.completion."),
        ("llm.input_messages.", "llm.output_messages."),
        ("gen_ai.input.messages", "gen_ai.output.messages"),
        ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result"),
    )
    for one, other in pairs:
        if any(_has(said, name) for name in (one, other)):
            return _pair(said, one, other)
    return None, None


def _has(said: dict[str, Any], name: str) -> bool:
    return bool(_below(said, name)) if name.endswith(".") else name in said


def _below(said: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name.startswith(prefix)}


def _pair(said: dict[str, Any], one: str, other: str) -> tuple[Any, Any]:
    def side(name: str) -> Any:
        return (_below(said, name) or None) if name.endswith(".") else _read(said.get(name))

    return side(one), side(other)


def _read(value: Any) -> Any:
    """Return a value as it is shown: JSON where it is some, and nothing for an empty text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else None
    except ValueError:
        return value


def _object(value: Any) -> dict[str, Any]:
    found = _read(value)
    return found if isinstance(found, dict) else {}


def _usage(said: dict[str, Any]) -> dict[str, int]:
    if "langfuse.observation.usage_details" in said:
        found = _object(said["langfuse.observation.usage_details"])
        return found if all(type(count) is int for count in found.values()) else {}
    counts = {
        name.removeprefix("gen_ai.usage."): value
        for name, value in said.items()
        if name.startswith("gen_ai.usage.") and name != "gen_ai.usage.cost" and type(value) is int
    }
    short = {"input_tokens": "input", "output_tokens": "output", "total_tokens": "total"}
    found = {short.get(name, name): count for name, count in counts.items()}
    for part, whole in (("cache_", "input"), ("reasoning", "output")):
        inside = sum(count for name, count in counts.items() if name.startswith(part))
        if inside and whole in found:
            found[whole] = max(0, found[whole] - inside)
    return found


def _cost(said: dict[str, Any]) -> dict[str, float]:
    if "langfuse.observation.cost_details" in said:
        return _object(said["langfuse.observation.cost_details"])
    total = _first(said, "gen_ai.usage.cost", "llm.cost.total")
    return {} if total is None else {"total": float(total)}


def _tags(value: Any) -> list[str]:
    if isinstance(value, str):
        found = _read(value)
        return found if isinstance(found, list) else [tag.strip() for tag in value.split(",")]
    return list(value or [])


def _environment(said: dict[str, Any], resource: dict[str, Any]) -> str:
    wanted = ("deployment.environment.name", "deployment.environment")
    found = _first(said, "langfuse.environment", *wanted) or _first(resource, *wanted) or ""
    word = re.sub(r"^langfuse", "", str(found).lower())
    return word if re.fullmatch(r"[a-z0-9_-]{1,40}", word) else "default"


def _under(said: dict[str, Any], name: str) -> dict[str, Any]:
    parts = {key.removeprefix(name + "."): item for key, item in _below(said, name + ".").items()}
    return {**_object(said.get(name)), **parts}


def _metadata(said: dict[str, Any], resource: dict[str, Any], scope: str) -> dict[str, Any]:
    ours = ("langfuse.", "input.", "output.", "session.id", "user.id", "tag.tags")
    rest = {name: value for name, value in said.items() if not name.startswith(ours)}
    return {
        "attributes": {name: _shown(value) for name, value in rest.items()},
        "resourceAttributes": resource,
        "scope": scope,
        **_under(said, "langfuse.observation.metadata"),
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def tree(observations: list[Observation]) -> list[Any]:
    """Return observations as nested (name, children), in order of start; roots hang on nothing."""
    known = {found.id for found in observations}
    below: dict[str | None, list[Observation]] = {}
    for found in sorted(observations, key=lambda found: (found.start_ns, found.id)):
        parent = found.parent_id if found.parent_id in known else None
        below.setdefault(parent, []).append(found)

    def built(parent: str | None) -> list[Any]:
        return [(found.name, built(found.id)) for found in below.get(parent, [])]

    return built(None)
