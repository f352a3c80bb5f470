"""A stored record as the spans that go out: its own, and one for each phase that is to be shown.

Records come one by one, children before their parents, so nothing here knows a tree. Where a phase
is no span, its children move to the record, and what happened in it is told there. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from tracing import names
from tracing.export import attributes, langfuse
from tracing.export.ending import end_of, exception, verdict
from tracing.export.foreign import event_of, foreign_span, links_of
from tracing.export.messages import conversation
from tracing.export.model import (
    CLIENT,
    ERROR,
    INTERNAL,
    OK,
    Dialect,
    OutSpan,
    Route,
    SpanEvent,
)
from tracing.export.resource import own_version
from tracing.record import COMPLETED, Failure, host_id
from tracing.store.model import Event, PhaseSpan, Span, TraceFacts

SCOPE: Final = "openinference.instrumentation.pocketflow_async"
"""Begins as Langfuse's own filter wants it, and our spans do keep to OpenInference."""
_REMOTE_ROLES: Final = frozenset({attributes.MODEL, "EMBEDDING"})
_NO_ID: Final = "0" * 16


def expand(
    span: Span,
    facts: TraceFacts,
    within: tuple[int, str] | None,
    route: Route,
    dialect: Dialect,
    shared: Mapping[str, Any],
    *,
    foreign: bool = False,
    state: str = "",
) -> list[OutSpan]:
    """Return the spans that a record goes out as, its own first.

    A score is a span of its own in OTLP, and none for Langfuse, which is asked to keep it
    (`tracing.export.scores`).

    Args:
        span: The record, without its children.
        facts: Its trace.
        within: Number and kind of the phase that it was opened in; None: in no phase.
        route: Says which phases are shown.
        dialect: Whose attributes are added to those that everybody gets.
        shared: `shared_attributes` of the trace for this dialect.
        foreign: Whether its parent is a span of another system.
        state: W3C tracestate that came with the trace.
    """
    parent = parent_of(span, within, route.shown)
    if span.kind == names.SCORE:
        if dialect == "langfuse":
            return []
        from tracing.export.scores import score_span  # noqa: PLC0415 (it needs this module)

        return [score_span(span, facts, route, dialect, shared, within=within, state=state)]
    shared = attributes.narrowed(span.attributes, shared, dialect)
    whence = span.attributes.get(names.PARENT) if span.attributes else None
    outside = foreign or whence in names.PARENTS
    marks: Mapping[str, Any] = {}
    if dialect == "langfuse" and whence != names.FROM_LANGFUSE:  # whose own spans do arrive there
        marks = langfuse.root(parent is None, outside)
    is_remote = outside and whence in (None, names.FROM_ELSEWHERE)
    if names.SCOPE in span.attributes:
        return [foreign_span(span, parent, marks, shared, state, is_remote)]
    host = _own(span, parent, route.shown, dialect, shared)
    if marks:
        host.attributes = {**host.attributes, **marks}
    host.state, host.is_remote = state, is_remote
    shown = [_phase(phase, host, dialect) for phase in span.phases if phase.kind in route.shown]
    return [host, *shown]


def _own(
    span: Span,
    parent: bytes | None,
    shown: frozenset[str],
    dialect: Dialect,
    shared: Mapping[str, Any],
) -> OutSpan:
    """Return the record's own span."""
    folded = [phase for phase in span.phases if phase.kind not in shown]
    own, kind = _attributes(span, dialect)
    if span.phases:
        own.update(_attempts(span, folded))
    status, message = verdict(span.outcome, span.error)
    if status == ERROR and span.attributes and span.attributes.get(names.STATUS):
        message = f"{attributes.text(span.attributes[names.STATUS])}; {message}"
    return OutSpan(
        bytes.fromhex(span.trace_id),
        bytes.fromhex(span.span_id),
        parent,
        attributes.text(span.name or span.kind),
        span.start_ns,
        end_of(span),
        own,
        shared,
        status,
        message,
        kind,
        _events(span, folded) if folded or span.events or span.error else (),
        links_of(span.attributes) if names.LINKS in span.attributes else (),
        scope(),
    )


def parent_of(span: Span, within: tuple[int, str] | None, shown: frozenset[str]) -> bytes | None:
    """Return the id of the span above: a phase that is shown, or else the record around it."""
    said = span.parent_id
    if said is None or said == _NO_ID:
        return None
    if within is not None and within[1] not in shown:
        return host_id(int(said, 16), within[0]).to_bytes(8, "big")
    return bytes.fromhex(said)


def _attributes(span: Span, dialect: Dialect) -> tuple[dict[str, Any], int]:
    """Return the attributes of the record's own span, and which kind OTLP calls it."""
    role = attributes.role(span)
    if dialect == "langfuse":
        own = attributes.own_attributes(span, role, langfuse.OWN_METADATA)
        own.update(langfuse.observation(span, role))
    else:
        own = attributes.own_attributes(span, role)
        if role is attributes.MODEL:  # Langfuse reads the contents that are there already
            own = {**conversation(span), **own}
        elif role == "TOOL":
            own = {**attributes.tool_call(own), **own}
    remote = role in _REMOTE_ROLES or span.kind == attributes.RESOURCE
    return own, CLIENT if remote else INTERNAL


@cache
def scope() -> tuple[str, str]:
    """Return name and version of what makes our spans."""
    return SCOPE, own_version()


def _attempts(span: Span, folded: list[PhaseSpan]) -> dict[str, Any]:
    """Return what the phases tell about the record as a whole."""
    found: dict[str, Any] = {}
    if (attempts := span.attempts) > 1:
        found["flow.attempts"] = attempts
    if span.fell_back:
        found["flow.fell_back"] = True
    waits = [phase.wait for phase in folded if phase.wait is not None]
    if waits:
        found["flow.wait_seconds"] = float(sum(waits))
    return found


def _events(span: Span, folded: list[PhaseSpan]) -> list[SpanEvent]:
    """Return what happened in a record, in order: the user's events, folded phases, its error."""
    found = [_event(event) for event in span.events]
    last: Failure | None = None
    for phase in folded:
        if phase.error is not None:
            last = phase.error
            found.append(exception(phase.error, end_of(phase), _of_phase(phase)))
        elif phase.kind == "suspended":
            lasted = {"flow.seconds": (end_of(phase) - phase.start_ns) / 1e9}
            found.append(SpanEvent("suspended", phase.start_ns, {**_of_phase(phase), **lasted}))
    # The last attempt's error is mostly the record's own: it is told once.
    if span.error is not None and (last is None or last[:2] != span.error[:2]):
        found.append(exception(span.error, end_of(span)))
    found.sort(key=_moment)
    return found


def _moment(event: SpanEvent) -> int:
    return event.at_ns


def _event(event: Event) -> SpanEvent:
    found = event_of(event)
    if found.name.startswith("gen_ai."):  # Langfuse would take it for the span's input
        found.name = f"flow.event.{found.name}"
    return found


def _of_phase(phase: PhaseSpan) -> dict[str, Any]:
    found: dict[str, Any] = {"flow.phase": phase.kind}
    if phase.kind == "exec":
        found["flow.attempt"] = phase.attempt + 1
    if phase.wait is not None:
        found["flow.wait_seconds"] = float(phase.wait)
    if phase.note is not None:
        found["flow.reason"] = attributes.text(phase.note)
    return found


_EXTRA: Final[dict[str, dict[str, Any]]] = {
    "otlp": {},
    "langfuse": {"langfuse.observation.type": "span"},
}
_PLAIN: Final[dict[tuple[str, str], dict[str, Any]]] = {
    (dialect, kind): {
        "openinference.span.kind": attributes.CHAIN,
        "flow.kind": kind,
        "flow.outcome": COMPLETED,
        **({"flow.attempt": 1} if kind == "exec" else {}),
        **extra,
    }
    for dialect, extra in _EXTRA.items()
    for kind in ("prep", "exec", "fallback", "post")
}
"""Attributes of phases in which nothing went wrong, which are most: made once."""


def _phase(phase: PhaseSpan, host: OutSpan, dialect: Dialect) -> OutSpan:
    plain = _PLAIN.get((dialect, phase.kind))
    events: Sequence[SpanEvent] = ()
    if plain is not None and phase.outcome == COMPLETED and not phase.attempt:
        own, status, message = plain, OK, ""
    else:
        own = {
            **_of_phase(phase),
            "openinference.span.kind": attributes.CHAIN,
            "flow.kind": phase.kind,
            "flow.outcome": phase.outcome,
            **_EXTRA[dialect],
        }
        del own["flow.phase"]
        status, message = verdict(phase.outcome, phase.error)
        if phase.error is not None:
            own["error.type"] = attributes.text(phase.error.type)
            events = (exception(phase.error, end_of(phase)),)
    return OutSpan(
        host.trace_id,
        bytes.fromhex(phase.span_id),
        host.span_id,
        f"{host.name}.{phase.kind}",
        phase.start_ns,
        end_of(phase),
        own,
        host.shared,
        status,
        message,
        INTERNAL,
        events,
        (),
        host.scope,
        host.state,
    )
