"""Spans that we sent out ourselves, and got back: records with their phases again.

Not all comes back: what a span does not tell (lines of errors, scores) is lost on this way, and
only `tracing.formats.jsonl` keeps all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from tracing import names
from tracing.export.model import PHASES
from tracing.formats import fields, foreign
from tracing.formats.otlp_values import attributes
from tracing.record import phase_id
from tracing.store.model import PhaseSpan, Span

_KIND: Final = "flow.kind"
_OUTCOME: Final = "flow.outcome"
_INDEX: Final = "flow.index"
_USERS: Final = "flow.attr."
_RENAMED: Final = {
    "flow.action": "action",
    "flow.yielded": "yielded",
    "flow.closed_early": "closed_early",
    "flow.abandoned": "abandoned",
}
"""What goes out under a name of ours, and what the store calls it."""
_FIRST: Final = "gen_ai.response.time_to_first_chunk"
_DERIVED: Final = frozenset(
    {_KIND, _OUTCOME, _INDEX, "openinference.span.kind", "error.type", "llm.cost.total", _FIRST}
)
_TOLD_BY_PHASES: Final = frozenset({"flow.attempts", "flow.fell_back"})
_TRIED: Final = frozenset({"exec", "fallback"})
_ORIGIN: Final = frozenset(
    {names.SCOPE, names.SCOPE_VERSION, names.SPAN_KIND, names.LINKS, "otel.status_code"}
)

_NAME: Final = ("langfuse.trace.name",)
_SESSION: Final = ("langfuse.session.id", "session.id", "gen_ai.conversation.id")
_USER: Final = ("langfuse.user.id", "user.id")
_TAGS: Final = ("langfuse.trace.tags", "tag.tags")
_METADATA: Final = "metadata"
_TRACE_METADATA: Final = "langfuse.trace.metadata."
_SHARED: Final = frozenset({*_NAME, *_SESSION, *_USER, *_TAGS, _METADATA})


@dataclass(frozen=True, slots=True)
class Facts:
    """What the spans say about their trace."""

    name: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


def facts(items: Iterable[Mapping[str, Any]]) -> Facts:
    """Return what the spans of one trace, as `otlp_spans.split` yields them, say about it."""
    known: dict[str, Any] = {}
    resource: dict[str, Any] = {}
    for item in items:
        for name, value in attributes(fields.mapping(item, "span")).items():
            known.setdefault(name, value)
        resource = resource or attributes(fields.mapping(item, "resource"))
    metadata = _metadata(known)
    if resource:
        metadata.setdefault("resource", resource)
    return Facts(
        name=_text(known, _NAME),
        session_id=_text(known, _SESSION),
        user_id=_text(known, _USER),
        tags=_tags(known),
        metadata=metadata,
    )


def _text(known: Mapping[str, Any], among: Iterable[str]) -> str | None:
    return next((str(known[name]) for name in among if known.get(name)), None)


def _tags(known: Mapping[str, Any]) -> tuple[str, ...]:
    for name in _TAGS:
        if isinstance(found := known.get(name), list):
            return tuple(str(tag) for tag in found)
    return ()


def _metadata(known: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        said = orjson.loads(known.get(_METADATA, "{}"))
        found.update(said if isinstance(said, dict) else {})
    except orjson.JSONDecodeError:
        pass
    for name, value in known.items():
        if name.startswith(_TRACE_METADATA):
            found[name.removeprefix(_TRACE_METADATA)] = value
    return found


def spans(items: Iterable[Mapping[str, Any]]) -> tuple[Span, ...]:
    """Return the records of one trace; phases that we sent as spans are in their records again."""
    found = {span.span_id: _ours(span) for span in map(foreign.span, items)}
    phases: dict[str, list[Span]] = {}
    for span in found.values():
        if _is_phase(span, found):
            phases.setdefault(span.parent_id or "", []).append(span)
    homes = {
        phase.span_id: f"{phase_id(int(host, 16), place):016x}"
        for host, inside in phases.items()
        for place, phase in enumerate(sorted(inside, key=_order))
    }
    return tuple(
        _with_phases(span, [*phases.get(span.span_id, ())], homes)
        for span in found.values()
        if span.span_id not in homes
    )


def _with_phases(span: Span, inside: list[Span], homes: Mapping[str, str]) -> Span:
    said = span.attributes
    if inside:  # what goes out beside them is told by them
        said = {name: value for name, value in said.items() if name not in _TOLD_BY_PHASES}
    return replace(
        span,
        parent_id=homes.get(span.parent_id or "", span.parent_id),
        attributes=said,
        phases=tuple(_phases(sorted(inside, key=_order), homes)),
    )


def _phases(spans: Iterable[Span], homes: Mapping[str, str]) -> Iterator[PhaseSpan]:
    attempt = 0
    for span in spans:
        said = span.attributes.get("flow.attempt")
        if isinstance(said, int):  # a fallback has that of the attempt which failed before it
            attempt = said - 1
        yield _phase(span, homes[span.span_id], attempt if span.kind in _TRIED else 0)


def _order(span: Span) -> tuple[int, int, str]:
    return span.start_ns, -(span.end_ns or 0), span.span_id


def _is_phase(span: Span, found: Mapping[str, Span]) -> bool:
    """Tell whether *span* is a phase of the record above it, which then is no phase itself."""
    above = found.get(span.parent_id or "")
    return span.kind in PHASES and above is not None and above.kind not in PHASES


def _phase(span: Span, span_id: str, attempt: int) -> PhaseSpan:
    said = span.attributes
    wait, note = said.get("flow.wait_seconds"), said.get("flow.reason")
    return PhaseSpan(
        span_id=span_id,
        kind=span.kind,
        attempt=attempt,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        outcome=span.outcome,
        error=span.error,
        wait=wait if isinstance(wait, (int, float)) else None,
        note=note if isinstance(note, str) else None,
    )


def _ours(span: Span) -> Span:
    """Return *span* as the store had it, if it is one of ours; else as it is."""
    said = span.attributes
    if not isinstance(said.get(_KIND), str):
        return span
    outcome, index = said.get(_OUTCOME), said.get(_INDEX)
    return replace(
        span,
        kind=said[_KIND],
        outcome=outcome if isinstance(outcome, str) and span.end_ns is not None else span.outcome,
        index=index if isinstance(index, int) else None,
        attributes={
            _RENAMED.get(name, name.removeprefix(_USERS)): value
            for name, value in said.items()
            if _is_own(name)
        },
    )


def _is_own(name: str) -> bool:
    return not (
        name in _DERIVED or name in _SHARED or name in _ORIGIN or name.startswith("langfuse.")
    )
