"""Which attributes go out: names that back ends know, and values that OTLP knows. Pure.

A user's own names are put under a prefix of ours: a bare `model`, `prompt`, `input` or `events`
makes Langfuse take the span for something else. What a whole trace has in common is made once
for it (`shared_attributes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, TypeGuard

import orjson

from tracing import names
from tracing.encode import encode
from tracing.export.model import Dialect, Route
from tracing.store.model import Span, TraceFacts

SESSION: Final = "session.id"
USER: Final = "user.id"
TAGS: Final = "tag.tags"
METADATA: Final = "metadata"
TRACE_METADATA: Final = "langfuse.trace.metadata."
OPERATION: Final = "gen_ai.operation.name"
TOOL: Final = "gen_ai.tool.name"
USERS: Final = "flow.attr."
"""Prefix of what a user has noted under a name of their own."""

RESOURCE: Final = "resource"
"""Kind of a record that is one use of a database, an HTTP client, a cache or a queue."""
_CLIENTS: Final = ("db.", "http.", "messaging.", "network.", "server.", "url.")
"""How OpenTelemetry's names begin for what such a record tells."""

CHAIN: Final = "CHAIN"
MODEL: Final = "LLM"
_ROLES: Final = {
    "generation": MODEL,
    "llm": MODEL,
    "embedding": "EMBEDDING",
    "agent": "AGENT",
    "tool": "TOOL",
    "retriever": "RETRIEVER",
    "reranker": "RERANKER",
    "guardrail": "GUARDRAIL",
    "evaluator": "EVALUATOR",
}
_OPERATIONS: Final = {
    MODEL: "chat",
    "EMBEDDING": "embeddings",
    "AGENT": "invoke_agent",
    "TOOL": "execute_tool",
    "RETRIEVER": "retrieval",
}
_MAY_ASK_A_MODEL: Final = frozenset({"node", "item", "function", "span"})
_OWN_NAMES: Final = {
    "action": "flow.action",
    "yielded": "flow.yielded",
    "closed_early": "flow.closed_early",
    names.ABANDONED: "flow.abandoned",
}
"""What the recorder notes under a bare name, and the name that it goes out with."""

_LONGEST: Final = 200
"""Characters of a session, user, tag or trace name that Langfuse takes."""
_ENVIRONMENT: Final = 40  # characters
_WORD: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_SCALARS: Final = frozenset({str, bool, int, float, bytes})


def legal(value: Any) -> Any:
    """Return *value* as one that OTLP knows: a scalar, a list of one kind of scalars, or JSON text.

    Text is never empty of meaning: None becomes `null`, a number out of range its digits. OTLP has
    maps, but Langfuse shows them as raw protocol; so they go as JSON text.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _speakable(value)
    if kind is bool or kind is bytes:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else str(value)
    if kind is float:
        return value if isfinite(value) else str(value)
    if kind is list or kind is tuple:
        kinds = {type(item) for item in value}
        if len(kinds) <= 1 and kinds <= _SCALARS:
            found = [legal(item) for item in value]
            if {type(item) for item in found} == kinds:
                return found
    return text(value)


def text(value: Any) -> str:
    """Return *value* as text: a string as it is, anything else as JSON."""
    if type(value) is str:
        return _speakable(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return encode(value).decode()


def _speakable(value: str) -> str:
    """Return *value* without lone surrogates, which no wire takes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def shared_attributes(facts: TraceFacts, route: Route, dialect: Dialect) -> Mapping[str, Any]:
    """Return what stands on every span of a trace, for nobody takes it from the root alone.

    Args:
        facts: The trace.
        route: Names the environment, version and release of the program.
        dialect: `langfuse` adds what only Langfuse reads.
    """
    limited = dialect == "langfuse"
    found: dict[str, Any] = {"langfuse.trace.name": short(facts.name) if limited else facts.name}
    if facts.session_id:
        found[SESSION] = identifier(facts.session_id) if limited else facts.session_id
    if facts.user_id:
        found[USER] = identifier(facts.user_id) if limited else facts.user_id
    if facts.tags:
        found[TAGS] = [identifier(tag) if limited else tag for tag in facts.tags]
    if facts.metadata:
        found.update(_metadata(facts.metadata, dialect))
    if limited:
        said = {
            "langfuse.environment": environment(route.resource),
            "langfuse.release": short(route.release or ""),
            "langfuse.version": short(text(route.resource.get("service.version") or "")),
        }
        found.update((name, value) for name, value in said.items() if value)
    return {name: legal(value) for name, value in found.items()}


def narrowed(said: Mapping[str, Any], shared: Mapping[str, Any], dialect: Dialect) -> Any:
    """Return *shared* with what `propagate` has said about this span alone; mostly *shared* itself.

    The span's session and user win, tags are united, metadata merged, as between two blocks of
    `propagate`.
    """
    if not _SAID.isdisjoint(said):
        limited = dialect == "langfuse"
        found = dict(shared)
        for name, to in ((names.SESSION, SESSION), (names.USER, USER)):
            if is_fact(name, said.get(name)):
                found[to] = legal(identifier(said[name]) if limited else said[name])
        if is_fact(names.TAGS, tags := said.get(names.TAGS)):
            more = [legal(identifier(tag) if limited else tag) for tag in tags]  # type: ignore[union-attr]
            found[TAGS] = list(dict.fromkeys([*shared.get(TAGS, ()), *more]))
        if is_fact(names.METADATA, metadata := said.get(names.METADATA)):
            _merge(found, metadata, dialect)
        return found
    return shared


_SAID: Final = frozenset({names.SESSION, names.USER, names.TAGS, names.METADATA})


def is_fact(name: str, value: object) -> bool:
    """Tell whether an attribute is what `propagate` notes under *name*, and not a user's own."""
    if name in (names.SESSION, names.USER):
        return isinstance(value, str) and bool(value)
    if name == names.TAGS:
        return isinstance(value, list) and all(isinstance(tag, str) for tag in value)
    return name == names.METADATA and isinstance(value, dict)


def _metadata(metadata: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    if dialect == "langfuse":  # strings as they are: with quotes, the server would show the quotes
        return {TRACE_METADATA + name: text(value) for name, value in metadata.items()}
    return {METADATA: text(dict(metadata))}


def _merge(found: dict[str, Any], metadata: Any, dialect: Dialect) -> None:
    if dialect != "langfuse" and METADATA in found:
        before = orjson.loads(found[METADATA])
        metadata = {**before, **metadata} if isinstance(before, dict) else metadata
    found.update((name, legal(value)) for name, value in _metadata(metadata, dialect).items())


def identifier(value: str) -> str:
    """Return *value* within the length that Langfuse takes, still different from any other.

    It drops a longer one, and two sessions that begin alike must not become one.
    """
    if len(value) <= _LONGEST:
        return value
    mark = hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{value[: _LONGEST - 17]}~{mark}"


def short(value: str) -> str:
    """Return *value* cut to the length that Langfuse takes."""
    return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"


def environment(resource: Mapping[str, Any]) -> str:
    """Return the environment as Langfuse spells it; empty where *resource* names none.

    Its server makes `default` of what breaks its rules; a spelling that keeps to them says more.
    """
    said = resource.get("deployment.environment.name") or resource.get("deployment.environment")
    word = "".join(sign if sign in _WORD else "-" for sign in text(said or "").strip().lower())
    while word.startswith("langfuse"):
        word = word.removeprefix("langfuse").lstrip("-_")
    return word[:_ENVIRONMENT]


def role(span: Span) -> str:
    """Return what OpenInference calls such a span; what has asked a model is a model's span."""
    found = _ROLES.get(span.kind, CHAIN)
    if found is CHAIN and span.attributes and span.kind in _MAY_ASK_A_MODEL:
        said = span.attributes
        if names.MODEL in said or names.ANSWERED in said:
            return MODEL
    return found


def own_attributes(span: Span, part: str, prefix: str = USERS) -> dict[str, Any]:
    """Return what goes out with *span* alone.

    Args:
        span: The record.
        part: Its `role`.
        prefix: Of the user's own names.
    """
    found = _noted(span, part, prefix) if span.attributes else {}
    found["openinference.span.kind"] = part
    found["flow.kind"] = span.kind
    found["flow.outcome"] = span.outcome
    if span.index is not None:
        found["flow.index"] = legal(span.index)
    if span.input is not None:
        found["input.value"] = span.input.decode("utf-8", "replace")
        found["input.mime_type"] = "application/json"
    if span.output is not None:
        found["output.value"] = span.output.decode("utf-8", "replace")
        found["output.mime_type"] = "application/json"
    if span.error is not None:
        found["error.type"] = legal(span.error.type)
    elif span.outcome not in ("completed", "running", "skipped"):
        found["error.type"] = span.outcome
    if part is not CHAIN:
        _of_model(span, part, found)
    elif span.kind == RESOURCE and "db.system.name" in span.attributes:
        _of_database(span, found)
    return found


def _of_database(span: Span, found: dict[str, Any]) -> None:
    """Add the statement under the name that the conventions for databases have for it."""
    try:
        given = orjson.loads(span.input or b"null")
    except orjson.JSONDecodeError:  # cut to its longest size
        return
    if isinstance(given, dict) and isinstance(statement := given.get("statement"), str):
        found.setdefault("db.query.text", legal(statement))


def _noted(span: Span, part: str, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in span.attributes.items():
        if name == names.LINKS or (name in _SAID and is_fact(name, value)):
            continue
        if name in _OWN_NAMES:
            to = _OWN_NAMES[name]
        elif (
            name.startswith("flow.")
            or (name.startswith("gen_ai.") and _allowed(name, part))
            or (span.kind == RESOURCE and name.startswith(_CLIENTS))
        ):
            to = name
        else:
            found.update(users(prefix, name, value))
            continue
        found[to] = legal(value)
    return found


def users(prefix: str, name: str, value: Any) -> dict[str, Any]:
    """Return an attribute of the user's under *prefix*."""
    if prefix is USERS or name in _SERVERS:
        return {USERS + legal(name): legal(value)}
    return {prefix + legal(name): text(value)}


_SERVERS: Final = frozenset({"", "attributes", "resourceAttributes", "scope"})
"""Names under which Langfuse's server itself puts metadata."""


def _allowed(name: str, part: str) -> bool:
    """Tell whether a name of OpenTelemetry's may stand on such a span.

    On others it would make a model's span of a flow; and the name of a tool becomes the span's.
    """
    return part is not CHAIN and (name != TOOL or part == "TOOL")


def _of_model(span: Span, part: str, found: dict[str, Any]) -> None:
    """Add what the conventions for models, tools and agents ask for."""
    if part in _OPERATIONS:
        found.setdefault(OPERATION, _OPERATIONS[part])
    if part == "TOOL":
        found.setdefault(TOOL, legal(span.name))
    elif part == "AGENT":
        found.setdefault("gen_ai.agent.name", legal(span.name))
    cost, first = span.attributes.get(names.COST), span.attributes.get(names.FIRST_TOKEN)
    if is_number(cost):
        found["llm.cost.total"] = legal(cost)
    if is_number(first):
        found["gen_ai.response.time_to_first_chunk"] = first / 1e9
    # Langfuse takes usage and cost off an agent that says so: it thinks them its children's.
    if found.get(OPERATION) == "invoke_agent" and _counts(span.attributes):
        del found[OPERATION]
    _both_sides(found)


def tool_call(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a tool's span under the names that Jaeger looks for."""
    sides = (
        ("input.value", "gen_ai.tool.call.arguments"),
        ("output.value", "gen_ai.tool.call.result"),
    )
    return {to: own[name] for name, to in sides if name in own}


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether *value* is a finite number, and no bool."""
    return type(value) is int or (type(value) is float and isfinite(value))


def _counts(said: Mapping[str, Any]) -> bool:
    return any(
        name in (names.MODEL, names.ANSWERED, names.COST) or name.startswith(names.USAGE)
        for name in said
    )


def _both_sides(found: dict[str, Any]) -> None:
    """Fill the side that was noted only under a name of gen_ai.

    The first family of names with either side is the only one that Langfuse looks at.
    """
    for side, others in _SIDES.items():
        if f"{side}.value" not in found and ("input.value" in found or "output.value" in found):
            for other in others:
                if other in found:
                    found[f"{side}.value"] = text(found[other])
                    found[f"{side}.mime_type"] = "application/json"
                    break


_SIDES: Final = {
    "input": ("gen_ai.input.messages", "gen_ai.tool.call.arguments"),
    "output": ("gen_ai.output.messages", "gen_ai.tool.call.result"),
}
